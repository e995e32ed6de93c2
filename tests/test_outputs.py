"""Folders that pretrain.py and train_reward.py replace: only their own, one of the two whole at any time, and nothing
beside them touched but what a dead process of theirs left."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from reward_rankings import arguments as reward_arguments
from reward_rankings import write_rankings

from data_preprocess.command import InputError, RunError
from data_preprocess.files import hold_lock, write_jsonl
from data_preprocess.outputs import check_opening, check_output_file, other_file, replace_folder
from study import publish
from training import pretrain, train_reward
from training.reward.trainer import RewardTrainer

REPOSITORY = Path(__file__).resolve().parents[1]
SMALL = ["--hidden_size", "16", "--num_layers", "1", "--num_heads", "2", "--max_steps", "2", "--batch_size", "2"]


@pytest.fixture
def argv(tmp_path, tiny_causal_lm_dir) -> list[str]:
    """Flags of pretrain.py, its output in a folder that holds much else of somebody's."""
    write_jsonl(tmp_path / "corpus.jsonl", [{"text": f"{word} is a thing."} for word in ("amber", "rust", "felt")])
    for name in ("base.bak/model.safetensors", ".base.notes/tmp", ".base.tmp/a", ".base.x12.tmp/a", "bas/a", "c.txt",
                 ".based.7.tmp/config.json"):  # fmt: skip
        (tmp_path / "models" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "models" / name).write_text("precious")
    return ["--corpus", str(tmp_path / "corpus.jsonl"), "--tokenizer", str(tiny_causal_lm_dir("opt")),
            "--output_dir", str(tmp_path / "models" / "base"), *SMALL]  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    return write_rankings(tmp_path_factory.mktemp("files"))


def content(root: Path, without: Path) -> dict[str, bytes | None]:
    """Every path below `root` but the output's, with its bytes."""
    found = [path for path in root.rglob("*") if path != without and without not in path.parents]
    return {str(path): path.read_bytes() if path.is_file() else None for path in found}


def settings(folder: Path) -> dict:
    return json.loads((folder / "training_settings.json").read_text())


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_an_output_of_other_settings_is_replaced_and_nothing_beside_it_changes(argv, tmp_path):
    output = tmp_path / "models" / "base"
    output.mkdir()  # an empty folder is as good as none
    before = content(tmp_path, output)
    pretrain.main(argv)
    first = settings(output)
    assert first["made_by"] == "pretrain.py" and first["settings"]["seed"] == 42
    assert sorted([*first["files"], "training_settings.json"]) == sorted(path.name for path in output.iterdir())
    pretrain.main([*argv, "--seed", "7"])
    assert settings(output)["settings"]["seed"] == 7
    assert content(tmp_path, output) == before


def test_a_finished_output_whose_weights_are_cut_is_made_again(argv, tmp_path):
    output = tmp_path / "models" / "base"
    pretrain.main(argv)
    whole = (output / "model.safetensors").read_bytes()
    (output / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    pretrain.main(argv)
    assert (output / "model.safetensors").read_bytes() == whole
    (output / "tokenizer.json").unlink()
    pretrain.main(argv)
    assert (output / "tokenizer.json").is_file()


def test_a_finished_output_may_hold_notes_and_is_kept(argv, tmp_path, capsys):
    output = tmp_path / "models" / "base"
    pretrain.main(argv)
    (output / "notes.md").write_text("precious")
    pretrain.main(argv)
    assert "already trained" in capsys.readouterr().out
    before = content(tmp_path, tmp_path / "none")
    with pytest.raises(
        InputError, match=r"contains files not written by this command \(first: notes.md\); nothing was deleted"
    ):
        pretrain.main([*argv, "--seed", "7"])
    assert content(tmp_path, tmp_path / "none") == before


def test_what_dead_processes_left_goes_and_what_is_alive_or_somebody_s_stays(argv, tmp_path):
    models, dead = tmp_path / "models", dead_pid()
    kept = {f".base.{os.getppid()}.tmp": "config.json", f".base.{dead}.old": "thesis.txt"}
    for name, file in {**kept, f".base.{dead}.tmp": "model.safetensors"}.items():
        (models / name).mkdir()
        (models / name / file).write_text("half")
    before = content(tmp_path, models / f".base.{dead}.tmp")
    pretrain.main(argv)
    left = content(tmp_path, models / "base")
    assert left == before and not (models / f".base.{dead}.tmp").exists()


def test_a_kill_between_the_renames_loses_neither(argv, tmp_path, capsys):
    """The older model is beside its place; the next run puts it back before it does anything else."""
    output = tmp_path / "models" / "base"
    pretrain.main(argv)
    older = {path.name: path.read_bytes() for path in output.iterdir()}
    killer = REPOSITORY / "tests" / "kill_at.py"
    at = ["training.pretrain", "pathlib.Path.replace", "1", "after", "--"]
    killed = subprocess.run([sys.executable, killer, *at, *argv, "--seed", "7"], capture_output=True)
    assert killed.returncode == -9
    (old,), (new,) = (list(output.parent.glob(f".base.[0-9]*.{kind}")) for kind in ("old", "tmp"))
    assert not output.exists() and {path.name: path.read_bytes() for path in old.iterdir()} == older
    assert settings(new)["settings"]["seed"] == 7 and (new / "model.safetensors").is_file()
    pretrain.main(argv)
    assert "already trained" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in output.iterdir()} == older
    assert not old.exists() and not new.exists()
    pretrain.main([*argv, "--seed", "7"])
    assert settings(output)["settings"]["seed"] == 7


def test_a_rename_that_fails_puts_the_older_one_back(tmp_path, monkeypatch):
    for name in ("new", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)
    replace = Path.replace

    def fail(path, target):
        if path.name == "new":
            raise OSError("no")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no"):
        replace_folder(tmp_path / "new", tmp_path / "target")
    assert {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("a")} == {
        "new/a": "new", "target/a": "target",
    }  # fmt: skip


def test_a_file_that_came_while_it_trained_is_kept_and_so_is_the_new_model(argv, tmp_path, monkeypatch):
    output = tmp_path / "models" / "base"
    pretrain.main(argv)
    train = pretrain.train

    def meanwhile(*given):
        (output / "notes.md").write_text("precious")
        return train(*given)

    monkeypatch.setattr(pretrain, "train", meanwhile)
    with pytest.raises(InputError, match=r"\(first: notes.md\); nothing was deleted; the new model is in ") as error:
        pretrain.main([*argv, "--seed", "7"])
    assert (output / "notes.md").read_text() == "precious" and settings(output)["settings"]["seed"] == 42
    assert settings(Path(str(error.value).rpartition(" ")[2]))["settings"]["seed"] == 7


def test_a_reward_model_replaces_its_own_and_leaves_its_neighbours(files, tiny_reward_dir, tmp_path):
    output, run = tmp_path / "rm", tmp_path / ".rm.run"
    argv = reward_arguments(files, tiny_reward_dir, output, "--max_steps", "1")
    (tmp_path / ".rm.running").mkdir()
    (tmp_path / ".rm.running" / "a").write_text("precious")
    shutil.copytree(tiny_reward_dir, run / "state_7.tmp")  # of a run that was killed before its first state
    (run / "losses.jsonl").write_text("")
    before = content(tmp_path / ".rm.running", output)
    train_reward.main(argv)
    train_reward.main([*argv, "--seed", "7"])
    assert settings(output)["settings"]["seed"] == 7 and settings(output)["made_by"] == "train_reward.py"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".rm.running", "rm"]
    assert content(tmp_path / ".rm.running", output) == before


def test_two_reward_runs_on_one_output_are_refused(files, tiny_reward_dir, tmp_path):
    argv = reward_arguments(files, tiny_reward_dir, tmp_path / "rm", "--max_steps", "1")
    with hold_lock(tmp_path / ".rm.run"), pytest.raises(InputError, match=r"\.rm\.run: locked by another run"):
        train_reward.main(argv)
    train_reward.main(argv)
    with hold_lock(tmp_path / ".rm.run"):  # of another process that has just ended: it is not ours to clear
        train_reward.main(argv)
        assert (tmp_path / ".rm.run" / "lock").is_file()
    train_reward.main(argv)
    assert not (tmp_path / ".rm.run").exists()


def test_a_score_that_is_not_finite_ends_the_run_before_the_older_state_goes(
    files, tiny_reward_dir, tmp_path, monkeypatch
):
    argv = reward_arguments(files, tiny_reward_dir, tmp_path / "rm", "--eval_steps", "2")
    measure, steps = RewardTrainer.measure, []

    def later_nan(self):
        steps.append(self.state.global_step)
        if self.state.global_step == 4:
            monkeypatch.setattr(self.scorer, "score_batch", lambda batch, prompts: [float("nan")] * len(batch))
        return measure(self)

    monkeypatch.setattr(RewardTrainer, "measure", later_nan)
    with pytest.raises(RunError, match=r"step 4: the model scores one.json:1 with nan; no model is saved"):
        train_reward.main(argv)
    assert steps == [2, 4] and (tmp_path / ".rm.run" / "state_2").is_dir()
    assert not (tmp_path / ".rm.run" / "state_4").exists() and not (tmp_path / "rm").exists()


def test_other_files_are_found_by_the_rule(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c").write_text("")
    assert other_file(tmp_path, lambda name: name == "c") == "a/b/"
    assert other_file(tmp_path, lambda name: name in ("a/b/", "c")) is None
    (tmp_path / "a" / "b" / "d").symlink_to("nowhere")
    assert other_file(tmp_path, lambda name: name in ("a/b/", "c")) == "a/b/d"


def test_a_file_that_is_named_may_be_written_over(tmp_path):
    (tmp_path / "in.jsonl").write_text("in")
    (tmp_path / "out.jsonl").write_text("earlier")
    check_output_file("output", tmp_path / "out.jsonl", {"source": [tmp_path / "in.jsonl", None]})
    check_output_file("output", tmp_path / "new" / "out.jsonl", {"source": [tmp_path]})
    check_opening(tmp_path / "out.jsonl", "ear")
    check_opening(tmp_path / "absent.md", "# Title")


def test_publishing_keeps_what_it_did_not_publish(tmp_path, monkeypatch):
    """A study of no cells: its report takes the place of the older one, or of nothing where somebody's notes are."""
    root, results, repository = tmp_path / "root", tmp_path / "results", tmp_path / "repository"
    monkeypatch.setattr(publish, "RESULTS", results)
    monkeypatch.setattr(publish, "REFERENCE_LOGS", tmp_path / "logs")
    monkeypatch.setattr(publish, "REPOSITORY", repository)
    for file in (root / "report.md", root / "table1.tex", results / "toy" / "cells.jsonl.xz"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("text")
    (results / "toy" / "notes.txt").write_text("precious")
    before = content(results, tmp_path / "none")
    with pytest.raises(
        InputError,
        match=r"results/toy: contains files not written by this command \(first: notes.txt\); nothing was deleted",
    ):
        publish.publish("toy", root, [], [], "python reproduce.py", "2 minutes")
    assert content(results, tmp_path / "none") == before
    (results / "toy" / "notes.txt").unlink()
    publish.publish("toy", root, [], [], "python reproduce.py", "2 minutes")
    assert sorted(path.name for path in (results / "toy").iterdir()) == ["cells.jsonl.xz", "report.md", "table1.tex"]
    assert [path.name for path in results.iterdir()] == ["toy"]


def test_a_report_with_its_rows_is_published_beside_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "RESULTS", tmp_path / "results")
    folder, target = tmp_path / "run", tmp_path / "results" / "mine"
    target.mkdir(parents=True)
    folder.mkdir()
    assert publish.write_rows_report(folder, ["# Mine", ""], "rows.jsonl", [{"a": 1}, {"a": 2}]) == "# Mine\n"
    (target / "notes.txt").write_text("precious")
    with pytest.raises(InputError, match="contains files not written by this command"):
        publish.publish_rows_report("mine", folder, "rows.jsonl")
    assert [path.name for path in target.iterdir()] == ["notes.txt"]
    (target / "notes.txt").unlink()
    publish.publish_rows_report("mine", folder, "rows.jsonl")
    assert (target / "report.md").read_text() == "# Mine\n"
    assert (target / "rows.jsonl").read_text().splitlines() == ['{"a": 1}', '{"a": 2}']


@pytest.mark.parametrize("name", ["x" * 201, "é" * 101, f"{'y' * 256}/x.json"])
def test_a_name_that_cannot_be_written_is_refused_before_any_work(tmp_path, name):
    """A file's name gets suffixes while it is written; a folder's does not."""
    with pytest.raises(InputError, match=r"^--json .* is too long \(expected a name of at most 2.. bytes\)$"):
        check_output_file("json", tmp_path / name, {})
    check_output_file("json", tmp_path / ("y" * 255) / ("x" * 200), {})
