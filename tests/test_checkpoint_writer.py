"""Checkpoints are written while training goes on: with the files, and the errors, of a run that waits for them."""

import math
import os
import signal
import time

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from eval_hh.inference import memory
from eval_hh.inference.models import load_causal_lm
from tests.test_going_on import names, train  # noqa: F401
from tests.test_trainer import assert_same_run, metrics, run_folder, study, weights  # noqa: F401
from training.lora import trainable
from training.losses import ResponseLogps
from training.saving import checkpoint_writer, states
from training.saving.checkpoint_writer import Background, CheckpointWriter, copied, tensors_in
from training.saving.checkpoints import RunFolder
from training.saving.manifest import damage


def before(monkeypatch, owner, name, act):
    """Calls `act` before each call of a function."""
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args: (act(), original(*args))[1])


def wait_for_step(root, exp, step):
    """Returns when a run has logged a step; AssertionError if it does not come to that."""
    path = root / "logs" / exp / "4" / "metrics.jsonl"
    end = time.monotonic() + 60
    while f'{{"step": {step},' not in path.read_text():
        assert time.monotonic() < end, "training waits"
        time.sleep(0.005)


def test_training_goes_on_while_a_state_is_written(train, monkeypatch):  # noqa: F811
    train("whole")
    seen = []

    def wait():
        if not seen:
            wait_for_step(train.root, "beside", 3)
            seen.append(names(run_folder(train.root, "beside")))

    with monkeypatch.context() as patch:
        before(patch, checkpoint_writer, "save_plain_state", wait)
        assert train("beside")[0] == 0
    assert seen == [["lock", "run.json", "state_2.tmp"]]  # step 3 was done with nothing of step 2 in place
    assert_same_run(train.root, "beside", "whole")


def test_a_state_in_the_background_is_that_of_its_step(train, monkeypatch):  # noqa: F811
    """Its files, of step 2, are those of a run that ends there, though steps 3 and 4 are done meanwhile."""
    train("short", "--max_train_steps", "2")
    with monkeypatch.context() as patch:
        before(patch, checkpoint_writer, "save_plain_state", lambda: time.sleep(0.5))
        train("long", "--keep_states", "3")
    short, long = (run_folder(train.root, exp) / "state_2" for exp in ("short", "long"))
    assert names(short) == names(long) == ["manifest.json", "model.safetensors", "optimizer.bin"]
    assert (short / "model.safetensors").read_bytes() == (long / "model.safetensors").read_bytes()
    for ours, theirs in zip(*(tensors_in(torch.load(one / "optimizer.bin")) for one in (short, long)), strict=True):
        assert torch.equal(ours, theirs)


def test_a_signal_waits_for_what_is_being_written(train, monkeypatch):  # noqa: F811
    train("whole")

    def stop():
        wait_for_step(train.root, "stopped", 3)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)

    with monkeypatch.context() as patch:
        before(patch, checkpoint_writer, "save_plain_state", lambda: None if stopped else stopped.append(stop()))
        stopped = []
        status, line = train("stopped")
    run = RunFolder(run_folder(train.root, "stopped"))
    step = run.latest_state()
    assert status == 128 + signal.SIGTERM and step >= 3
    assert line == f"stopped: after step {step} of 5, whose state is saved; run the same command to resume"
    assert run.states()[-1] == 2 and damage(run.step_folder(2)) is None and run.best_step() == 2
    assert train("stopped")[0] == 0
    assert_same_run(train.root, "stopped", "whole")


FAULTS = {
    "a full disk": (OSError(28, "No space left on device"), "error: {run}/state_4: No space left on device"),
    "no right to write": (PermissionError(13, "Permission denied", "there"), "error: there: Permission denied"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_in_the_background_ends_the_run_by_one_line(fault, train, monkeypatch):  # noqa: F811
    error, line = FAULTS[fault]
    calls = []

    def fail():
        calls.append(1)
        if len(calls) == 2:
            raise error

    train("whole")
    with monkeypatch.context() as patch:
        before(patch, checkpoint_writer, "save_plain_state", fail)
        assert train("failed") == (1, line.format(run=run_folder(train.root, "failed")))
    run = run_folder(train.root, "failed")
    assert names(run) == ["best_checkpoint", "dev_rewards.json", "lock", "run.json", "state_2", "step_2"]
    assert metrics(train.root, "failed")[-1]["step"] <= 5
    assert train("failed")[0] == 0
    assert_same_run(train.root, "failed", "whole")


def test_a_folder_that_cannot_be_written_ends_the_run(train, monkeypatch):  # noqa: F811
    """A file stands where the state's temporary folder is to be made."""
    (path := run_folder(train.root, "barred") / "state_4.tmp").parent.mkdir(parents=True)
    original = states._make

    def make(target):
        if target.name == "state_4":
            path.write_text("x")
        original(target)

    monkeypatch.setattr(states, "_make", make)
    status, line = train("barred")
    assert status == 1 and line == f"error: {path}: File exists"


def test_after_a_task_that_fails_none_is_begun():
    tasks, done = Background(), []
    tasks.add(done.append, 1)
    tasks.add(math.sqrt, -1)
    tasks.add(done.append, 2)
    with pytest.raises(ValueError, match="math domain|nonnegative"):
        tasks.finish()
    with pytest.raises(ValueError, match="math domain|nonnegative"):
        tasks.check()
    tasks.close()
    assert done == [1]


def test_without_memory_for_a_copy_training_waits_and_writes_the_same(train, monkeypatch):  # noqa: F811
    train("whole")
    log = train.root / "logs" / "tight" / "4" / "train.log"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_writer, "free_memory", lambda alone: 1000.0)
        patch.setattr(checkpoint_writer, "copied", None)
        before(patch, checkpoint_writer, "save_plain_state", lambda: time.sleep(0.2))
        assert train("tight")[0] == 0
    said = [line for line in log.read_text().splitlines() if "training waits" in line]
    assert len(said) == 1 and said[0].endswith("GB is over 50% of the 0.0 GB of free memory")
    assert_same_run(train.root, "tight", "whole")
    whole = (train.root / "logs" / "whole" / "4" / "train.log").read_text()
    assert "training waits" not in whole and "% of it outside of steps (start " in whole


def test_a_weight_that_is_never_trained_is_saved_for_use(tmp_path, tiny_causal_lm_dir, byte_tokenizer):
    """Some models have such ones; a state leaves them out, as a resumed run has them from its base model."""
    lm = load_causal_lm(tiny_causal_lm_dir("opt"))
    name = "model.decoder.final_layer_norm.weight"
    lm.get_parameter(name).requires_grad_(False).fill_(0.5)
    model = ResponseLogps(lm)
    run, optimizer = RunFolder(tmp_path), torch.optim.AdamW(trainable(model))
    writer = CheckpointWriter(
        Accelerator(cpu=True), model, optimizer, byte_tokenizer, run, keep_states=1, is_lora=False
    )
    with writer.at_work():
        writer.save_weights(1, writer.save_state(1))
        writer.finish()
    saved = load_causal_lm(run.step_folder(1)).state_dict()
    assert saved.keys() == lm.state_dict().keys()
    assert all(torch.equal(value, saved[key]) for key, value in lm.state_dict().items())
    assert f"lm.{name}" not in load_file(run.state_folder(1) / "model.safetensors")


def test_copies_are_apart_from_the_tensors_and_share_what_these_share():
    tied = torch.arange(6.0).view(2, 3)
    tree = {"a": tied, "b": tied.detach(), "state": {0: {"step": torch.tensor(1.0), "m": [tied[0]]}}, "lr": 0.1}
    made = copied(tree)
    tied.fill_(-1)
    assert made["a"] is made["b"] and made["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert made["state"][0]["m"][0].tolist() == [0, 1, 2] and made["lr"] == 0.1
    assert sum(tensor.nbytes for tensor in tensors_in(tree)) == 6 * 4 + 4 + 3 * 4


def test_free_memory_is_the_least_of_machine_and_groups(monkeypatch, tmp_path):
    (tmp_path / "jobs" / "one").mkdir(parents=True)
    for folder, most, current, cache in (("jobs", "9000", "5000", 3000), ("jobs/one", "max", "1", 0)):
        (tmp_path / folder / "memory.max").write_text(f"{most}\n")
        (tmp_path / folder / "memory.current").write_text(f"{current}\n")
        (tmp_path / folder / "memory.stat").write_text(f"anon 5\ninactive_file {cache}\nactive_file 7\n")
    own = tmp_path / "cgroup"
    own.write_text("1:name=systemd:/x\n0::/jobs/one\n")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "OWN_GROUP", own)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert memory.free_memory() == 9000 - (5000 - 3000) and memory.whole_memory() == 9000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # processes that share it
    assert memory.free_memory() == 3500 and memory.free_memory(alone=True) == 7000 and memory.whole_memory() == 4500
    own.write_text("0::/\n")
    assert memory.free_memory() > 1e6
