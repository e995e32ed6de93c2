"""A run that is stopped, damaged or goes on to more steps: the weights of a run that never was, bit for bit."""

import json
import os
import resource
import shutil
import signal

import pytest

from data_preprocess import command
from data_preprocess.command import InputError
from data_preprocess.files import hold_lock
from tests.test_trainer import arguments, assert_same_run, metrics, run_folder, study, weights  # noqa: F401
from training import main, trainer, validation
from training.saving import checkpoint_writer, checkpoints
from training.saving.checkpoints import RunFolder
from training.saving.manifest import damage


@pytest.fixture
def train(study, capsys):  # noqa: F811
    """train(exp, *flags) -> (exit status, the last line of stderr), in this process; `train.root` is the study's."""

    def run(exp, *more):
        capsys.readouterr()
        try:
            command.run(lambda: main.main(arguments(study, exp, "--do_validation", *more)))
            status = 0
        except SystemExit as ended:
            status = ended.code
        printed = capsys.readouterr()
        run.printed, run.error = printed.out, printed.err.replace("\r", "\n")
        assert "Traceback" not in run.error, run.error
        return status, run.error.rstrip("\n").rpartition("\n")[2]

    run.root = study
    return run


def at_call(monkeypatch, owner, name, number, act):
    """Calls `act` before the n-th call of a function, with its arguments."""
    original, calls = getattr(owner, name), []

    def counting(*args, **kwargs):
        calls.append(args)
        if len(calls) == number:
            act(*args)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, counting)


def send(number):
    return lambda *_: os.kill(os.getpid(), number)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


STOPS = {
    "in a step": (signal.SIGTERM, trainer.Trainer, "_step", 3, "after step 3 of 5, whose state is saved"),
    "while a state is looked for": (signal.SIGINT, trainer.Trainer, "_resume", 1, "before the first step"),
    "while a state is copied": (
        signal.SIGUSR1,
        checkpoint_writer,
        "copied",
        1,
        "after step 2 of 5, whose state is saved",
    ),
    "in validation": (signal.SIGTERM, validation, "most_likely", 2, "after step 2 of 5, whose state is saved"),
    "in the last step": (signal.SIGINT, trainer.Trainer, "_step", 5, "after step 5 of 5, whose state is saved"),
}


def test_a_stopped_run_says_how_to_go_on_and_does(train, monkeypatch):
    train("whole")
    for number, (moment, (sent, owner, name, call, kept)) in enumerate(STOPS.items()):
        exp = f"stopped{number}"
        with monkeypatch.context() as patch:
            at_call(patch, owner, name, call, send(sent))
            status, line = train(exp)
        assert (status, line) == (128 + sent, f"stopped: {kept}; run the same command to resume"), moment
        if moment == "in validation":
            assert not (run_folder(train.root, exp) / "dev_rewards.json").exists()
        if moment == "in a step":
            assert names(run_folder(train.root, exp))[-2:] == ["state_3", "step_2"]  # no checkpoint of step 3
        assert train(exp)[0] == 0
        assert_same_run(train.root, exp, "whole")


def test_states_between_checkpoints_come_with_time_and_the_newest_are_kept(train, monkeypatch):
    def fail(*_):
        raise command.RunError("the power is out")

    train("whole", "--keep_states", "3")
    flags = ["--state_minutes", "1e-9", "--keep_states", "3"]
    with monkeypatch.context() as patch:
        at_call(patch, trainer.Trainer, "_step", 2, fail)
        assert train("timed", *flags) == (1, "error: the power is out")
    run = run_folder(train.root, "timed")
    assert names(run) == ["lock", "run.json", "state_1"]  # before the first checkpoint, and without validation
    with monkeypatch.context() as patch:
        at_call(patch, trainer.Trainer, "_step", 4, fail)  # step 5
        train("timed", *flags)
    assert RunFolder(run).states() == [4, 3, 2] and not (run / "step_3").exists()
    assert train("timed", *flags)[0] == 0
    assert weights(train.root, "timed") == weights(train.root, "whole")
    assert metrics(train.root, "timed") == metrics(train.root, "whole")
    assert RunFolder(run).states() == [5, 4, 3] and RunFolder(run_folder(train.root, "whole")).states() == [5, 4, 2]


def cut(path):
    path.write_bytes(path.read_bytes()[:1000])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "cut": lambda state: cut(state / "optimizer.bin"),
    "one bit": lambda state: flip(state / "model.safetensors"),
    "a file missing": lambda state: (state / "optimizer.bin").unlink(),
    "manifest empty": lambda state: (state / "manifest.json").write_text(""),
    "manifest of another kind": lambda state: (state / "manifest.json").write_text('{"files": [1]}'),
}


def test_a_damaged_state_is_passed_over_and_the_one_before_is_used(train):
    train("whole")
    finished = run_folder(train.root, "whole")
    for number, (name, spoil) in enumerate(DAMAGES.items()):
        run = run_folder(train.root, f"damaged{number}")
        shutil.copytree(finished, run, symlinks=True)
        shutil.copytree(train.root / "logs" / "whole", train.root / "logs" / f"damaged{number}")
        settings = json.loads((run / "run.json").read_text())
        settings["config"]["index"] = f"damaged{number}"
        (run / "run.json").write_text(json.dumps(settings))
        shutil.rmtree(run / "step_5")
        spoil(run / "state_5")
        assert train(f"damaged{number}")[0] == 0, name
        assert f"skipped damaged state: {run / 'state_5'}/" in train.error
        assert weights(train.root, f"damaged{number}") == weights(train.root, "whole"), name
        assert damage(run / "state_5") is None
        spoil(run / "state_5")
        spoil(run / "state_4")
        shutil.rmtree(run / "step_5")
        status, line = train(f"damaged{number}")
        assert status == 2 and line.startswith(f"error: {run / 'state_5'}/") and "no intact state" in line, name


def test_states_of_earlier_versions_have_no_manifest_and_are_used(train):
    train("old", "--max_train_steps", "4")
    for manifest in run_folder(train.root, "old").glob("*/manifest.json"):
        manifest.unlink()
    assert train("old", "--max_train_steps", "4")[0] == 0 and "skipped damaged" not in train.error
    train("old")
    train("whole")
    assert weights(train.root, "old") == weights(train.root, "whole")


def test_a_finished_run_with_damaged_weights_is_mended_or_refused(train):
    train("run")
    folder, before = run_folder(train.root, "run"), weights(train.root, "run")
    cut(folder / "step_5" / "model.safetensors")
    assert train("run")[0] == 0 and weights(train.root, "run") == before
    RunFolder(folder).point_best(4)  # the best need not be the last
    (folder / "dev_rewards.json").write_text('{"2": 0.1, "4": 0.9, "5": 0.2}')
    before = weights(train.root, "run", 4)
    cut(folder / "step_4" / "model.safetensors")
    assert (
        train("run")[0] == 0
        and f"rewritten from its state: {folder}/step_4/model.safetensors: 1000 bytes" in train.error
    )
    assert weights(train.root, "run", 4) == before and damage(folder / "step_5") is None
    RunFolder(folder).point_best(2)  # of which there is no state any more
    (folder / "step_2" / "model.safetensors").unlink()
    status, line = train("run")
    assert status == 2
    assert line.startswith(f"error: {folder}/step_2/model.safetensors: is missing; it cannot be restored")


def test_a_run_goes_on_to_more_steps_and_says_so(train):
    train("whole", "--max_train_steps", "6")
    train("grown", "--max_train_steps", "3")
    run = run_folder(train.root, "grown")
    assert train("grown", "--max_train_steps", "6", "--per_device_train_batch_size", "16")[0] == 0
    assert weights(train.root, "grown", 6) == weights(train.root, "whole", 6)
    assert metrics(train.root, "grown") == metrics(train.root, "whole")
    assert (run / "step_3").is_dir()  # once the last step, it stays
    record = json.loads((run / "run.json").read_text())
    assert record["config"]["max_train_steps"] == 6
    was = {"max_train_steps": 3, "per_device_train_batch_size": 8}
    assert record["history"] == [{"until_step": 3, "config": was}]
    status, line = train("grown", "--max_train_steps", "5")
    assert status == 2 and "max_train_steps was 6, is 5, and may only grow" in line
    RunFolder(run).drop_what_is_not_tested()
    assert train("grown", "--max_train_steps", "6", "--per_device_train_batch_size", "16")[0] == 0  # finished
    status, line = train("grown", "--max_train_steps", "7")
    assert status == 2 and line.startswith(f"error: {run}: its full states were removed (as --prune does)")


def test_only_a_killed_process_s_leftovers_are_removed(train):
    run = run_folder(train.root, "left")
    leftovers = ["state_2.tmp/optimizer.bin", "step_12.tmp/x", ".run.json.77.tmp", ".dev_rewards.json.1.tmp"]
    kept = ["notes.tmp", "state_abc/x", "state_2.tmp.tar", "mine.tmp/x", ".run.json.x.tmp", "state_07.tmp/x"]
    for name in leftovers + kept:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("x")
    (run / "best_checkpoint.tmp").symlink_to("step_3")
    assert train("left")[0] == 0
    found = {str(path.relative_to(run)) for path in run.rglob("*")}
    assert set(kept) <= found
    assert not {name.partition("/")[0] for name in [*leftovers, "best_checkpoint.tmp"]} & found


def test_two_runs_on_one_folder_are_one_line_and_the_first_is_left_alone(train):
    train("run", "--max_train_steps", "3")
    before = {path: path.read_bytes() for path in train.root.rglob("*") if path.is_file()}
    for folder in (run_folder(train.root, "run"), train.root / "logs" / "run" / "4"):
        with hold_lock(folder):
            status, line = train("run")
        assert (status, line) == (
            2, f"error: {folder}: locked by another run (wait for it or stop it)"
        )  # fmt: skip
        assert {path: path.read_bytes() for path in train.root.rglob("*") if path.is_file()} == before


def test_a_run_that_ended_while_another_loaded_its_model_is_left_alone(train, monkeypatch):
    def first(*_):
        assert train("run", "--max_train_steps", "2")[0] == 0

    at_call(monkeypatch, trainer, "hold_lock", 1, first)
    status, line = train("run", "--max_train_steps", "3", "--seed", "7")
    assert status == 2 and "run.json: this experiment was run with other settings: seed was 42, is 7" in line


LIMITS = [0, 100, 1000, 3000, 10_000, 60_000, 100_000, 150_000]


def test_a_full_disk_is_one_line_and_the_run_goes_on_where_there_is_room(train):
    """A limit on the size of a file stands for a full disk, which fails in the same calls."""
    train("whole")
    train("room", "--max_train_steps", "2")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    said = []
    for limit in LIMITS:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            status, line = train("room")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        said.append(line)
        assert status == 1 and line.startswith(f"error: {train.root}/") and line.endswith(": File too large"), limit
        run = run_folder(train.root, "room")
        assert damage(run / "state_2") is None and damage(run / "step_2") is None
        assert not list(run.glob("*.tmp"))
    assert len(set(said)) > 2, said  # of several files
    assert train("room")[0] == 0
    assert weights(train.root, "room") == weights(train.root, "whole")
    assert metrics(train.root, "room") == metrics(train.root, "whole")


def test_what_best_checkpoint_may_be(tmp_path):
    run = RunFolder(tmp_path)
    assert run.best_step() is None
    link = tmp_path / "best_checkpoint"
    for target in ("elsewhere", "step_x", "../step_3", "step_03"):
        link.symlink_to(target)
        with pytest.raises(InputError, match=f"{link}: is a link to"):
            run.best_step()
        link.unlink()
    link.mkdir()
    with pytest.raises(InputError, match=f"{link}: is not a link"):
        run.best_step()
    link.rmdir()
    run.point_best(12)
    assert run.best_step() == 12


def test_a_folder_is_dropped_by_its_name_first(tmp_path, monkeypatch):
    """A kill inside the removal of a state must not leave one that looks whole."""
    run = RunFolder(tmp_path)
    for step in (2, 4, 6):
        run.state_folder(step).mkdir()
    seen = []
    monkeypatch.setattr(checkpoints.shutil, "rmtree", lambda path, **_: seen.append(path.name))
    run.drop_older_states(6, keep=2)
    assert set(seen) == {"state_2.tmp"} and run.states() == [6, 4]
    run.drop_older_states(4, keep=2)  # what lies behind the step that is written was damaged
    assert run.states() == [4]
