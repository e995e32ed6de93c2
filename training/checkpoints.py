"""A run's folder: its settings, the newest full states, a weights folder per checkpoint, and which one is best.

    checkpoints/index_EXP/stage_K/
        run.json           resolved settings, versions, git hash, sha256 of the data: written before the first step;
                           "history" says what they were before, where a run went on with others
        state_S/           everything that is needed to go on after step S; the newest --keep_states are kept
        step_S/            weights and tokenizer after step S, a folder that plain transformers reads
        dev_rewards.json   {step: mean dev reward}
        best_checkpoint    symbolic link to the step_S with the best dev reward

Every folder is written under a temporary name and renamed, so a name that exists was complete; its manifest.json tells
whether it still is (training/manifest.py).
"""

import dataclasses
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from data_preprocess.command import InputError
from data_preprocess.files import read_json, write_json
from data_preprocess.provenance import fingerprint, git_hash, versions
from data_preprocess.records import data_file
from training.config import TrainConfig
from training.manifest import damage

# Settings that leave the trained weights alone, and so may change when a run goes on. How a step's prompts are cut into
# micro-batches changes its sums by float error alone, and where the model has dropout its draws.
FREE_TO_CHANGE = {
    "do_train", "preflight", "per_device_eval_batch_size", "output_dir", "log_path", "keep_states", "state_minutes",
    "per_device_train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing",
}  # fmt: skip
# As the learning rate is constant, the longer run's first steps are the shorter run's.
MAY_GROW = {"max_train_steps", "num_train_epochs"}
# The same holds for the number of processes, but a state of ZeRO is cut into as many pieces.
FREE_WITHOUT_ZERO = {"num_processes", "distributed_type"}
ZERO = "DEEPSPEED"
PARTS = {"config": dict, "launch": dict, "data_sha256": dict, "git": str | None, "versions": dict}  # of run.json
TEMPORARY = ".tmp"
NUMBER = "(0|[1-9][0-9]*)"
# What a killed process can have left: nothing else is removed.
LEFTOVER = re.compile(
    rf"((state|step)_{NUMBER}|best_checkpoint){re.escape(TEMPORARY)}|\.(run|dev_rewards)\.json\.[0-9]+\.tmp"
)


def describe(config: TrainConfig, launch: dict[str, Any]) -> dict[str, Any]:
    """What run.json holds; `launch` is what the launcher decided (processes, precision, kind of distribution)."""
    files = {"train": data_file(config.train_file_path)}
    if config.do_validation:
        files["dev"] = config.dev_file
    return {
        "config": dataclasses.asdict(config),
        "launch": launch,
        "data_sha256": {name: fingerprint({}, path) for name, path in files.items()},
        "git": git_hash(),
        "versions": versions(),
    }


class RunFolder:
    """The folder of one run, and the only code that knows the names in it."""

    def __init__(self, path: Path, hint: str = "another --index"):
        """hint: what else to do where the folder is another run's."""
        self.path, self.hint = path, hint
        self.record = path / "run.json"

    def check(self, description: dict[str, Any]) -> None:
        """InputError if this folder belongs to another run, naming what differs, or one of its files is damaged."""
        self.dev_rewards()
        self.best_step()
        if self.record.exists():
            if changes := _changes(description, self._read_record()):
                raise InputError(
                    f"{self.record}: this experiment was run with other settings: {'; '.join(changes)} "
                    f"(expected the same, or {self.hint})"
                )
        elif self.states():
            newest = self.state_folder(self.latest_state())
            raise InputError(f"{self.record}: no such file, beside {newest.name} (expected the record of its run)")

    def _read_record(self) -> dict[str, Any]:
        record = read_json(self.record)
        for part, kind in PARTS.items():
            if not isinstance(record, dict) or not isinstance(record.get(part), kind):
                raise InputError(f"{self.record}: {part} is missing or damaged (expected what a run's start writes)")
        if not isinstance(record.get("history", []), list):
            raise InputError(f"{self.record}: history is no list")
        return record

    def open(self, description: dict[str, Any]) -> None:
        """Writes run.json where there is none, and removes what a killed process left half-written."""
        self.path.mkdir(parents=True, exist_ok=True)
        for path in self._leftovers():
            remove(path)
        if not self.record.exists():
            write_json(self.record, description, indent=1)

    def _leftovers(self) -> list[Path]:
        return [path for path in self.path.iterdir() if LEFTOVER.fullmatch(path.name)]

    def go_on(self, description: dict[str, Any], step: int) -> None:
        """Lets run.json say what holds after `step`; what changed is kept in its history."""
        before = self._read_record()
        was = {part: _differing(before[part], description[part]) for part in PARTS if before[part] != description[part]}
        if was:
            history = [*before.get("history", []), {"until_step": step, **was}]
            write_json(self.record, {**description, "history": history}, indent=1)

    def step_folder(self, step: int) -> Path:
        return self.path / f"step_{step}"

    def state_folder(self, step: int) -> Path:
        return self.path / f"state_{step}"

    def states(self) -> list[int]:
        """The steps of which there is a full state, the newest first."""
        return sorted(_steps(self.path, "state"), reverse=True)

    def latest_state(self) -> int:
        """The step of the newest full state, 0 where there is none."""
        return max(self.states(), default=0)

    def drop_older_states(self, step: int, keep: int = 1) -> None:
        """Keeps the state of `step` and those before it, `keep` in all; those behind it were damaged."""
        kept = [found for found in self.states() if found <= step][:keep]
        for found in self.states():
            if found not in kept:
                remove(self.state_folder(found))

    def drop_what_is_not_tested(self) -> None:
        """Leaves a finished run the weights of its best and of its last step, by which it is known to be finished."""
        steps = _steps(self.path, "step")
        for step in steps - {self.best_step(), max(steps)}:
            remove(self.step_folder(step))
        for step in self.states():
            remove(self.state_folder(step))

    def dev_rewards(self) -> dict[int, float]:
        """Mean dev reward by step. Raises InputError where the file is something else."""
        path = self.path / "dev_rewards.json"
        rewards = read_json(path) if path.exists() else {}
        for step, reward in rewards.items() if isinstance(rewards, dict) else [("", None)]:
            number = type(reward) in (int, float) and abs(reward) <= sys.float_info.max
            if not number or not re.fullmatch(NUMBER, step):
                raise InputError(f"{path}: expected {{step: mean dev reward}}, found {step!r:.20}: {reward!r:.40}")
        return {int(step): reward for step, reward in rewards.items()}

    def record_dev_reward(self, step: int, reward: float) -> None:
        rewards = self.dev_rewards() | {step: reward}
        write_json(self.path / "dev_rewards.json", {str(s): rewards[s] for s in sorted(rewards)}, indent=1)

    def point_best(self, step: int) -> None:
        """Makes best_checkpoint name step_S; the link is replaced in one move, so it never is absent."""
        temporary = self.path / f"best_checkpoint{TEMPORARY}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(self.step_folder(step).name)
        os.replace(temporary, self.path / "best_checkpoint")

    def chosen_step(self, step: int) -> int:
        """The best of the steps by dev reward, the first among equals; without validation `step`, the last one."""
        rewards = self.dev_rewards()
        return max(rewards, key=lambda scored: (rewards[scored], -scored)) if rewards else step

    def best_step(self) -> int | None:
        """Which step best_checkpoint names. Raises InputError where it is no link to a step_S."""
        link = self.path / "best_checkpoint"
        if not link.is_symlink():
            if link.exists():
                raise InputError(f"{link}: is no link (training makes one, to a step_S: move yours away)")
            return None
        target = os.readlink(link)
        if not re.fullmatch(f"step_{NUMBER}", target):
            raise InputError(f"{link}: is a link to {target} (expected one to a step_S beside it)")
        return int(target.removeprefix("step_"))

    def is_finished(self, last_step: int, validated: bool) -> bool:
        """Whether the last checkpoint is complete: whole weights, dev reward where there is one, and the best named.

        A run that was killed on its last way there is not: what it left is still to be removed.
        """
        scored = not validated or last_step in self.dev_rewards()
        best = self.best_step()
        if not scored or best != self.chosen_step(last_step) or self._leftovers():
            return False
        return all(damage(self.step_folder(step)) is None for step in {last_step, best})


def _steps(folder: Path, kind: str) -> set[int]:
    """The S of every folder kind_S; other names are not ours."""
    found = {path: re.fullmatch(f"{kind}_{NUMBER}", path.name) for path in folder.glob(f"{kind}_*")}
    return {int(match.group(1)) for path, match in found.items() if match and path.is_dir()}


def remove(path: Path) -> None:
    """Removes a file, a link, or a folder, which loses its name first: what has a name is never half-removed."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    if path.suffix != TEMPORARY:
        temporary = path.with_name(path.name + TEMPORARY)
        shutil.rmtree(temporary, ignore_errors=True)
        path = path.rename(temporary)
    shutil.rmtree(path)


def _differing(old: Any, new: Any) -> Any:
    """The old values that are others now; of a dictionary only those."""
    if not isinstance(old, dict):
        return old
    return {name: value for name, value in old.items() if new.get(name, value) != value}


def _changes(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """The settings of a run that may not change but have, in words."""
    zero = ZERO in (ours["launch"].get("distributed_type"), theirs["launch"].get("distributed_type"))
    free = FREE_TO_CHANGE if zero else FREE_TO_CHANGE | FREE_WITHOUT_ZERO
    changes = []
    for part in ("config", "launch", "data_sha256"):
        for name, value in ours[part].items():
            old = theirs[part].get(name)
            grown = name in MAY_GROW and type(old) is int and value > old
            if old != value and name not in free and not grown:
                hint = ", and may only grow" if name in MAY_GROW else ""
                changes.append(f"{name} was {old!r}, is {value!r}{hint}")
    return changes
