"""The folder of one run: settings, newest full states, weights per checkpoint, and the best checkpoint.

    checkpoints/index_EXP/stage_K/
        run.json           resolved settings, versions, git hash, sha256 of the data; written before the first step.
                           "history" keeps earlier settings if they were changed on resuming
        state_S/           everything needed to resume after step S; the newest --keep_states are kept
        step_S/            weights and tokenizer after step S, in plain transformers format
        dev_rewards.json   {step: mean dev reward}
        best_checkpoint    symbolic link to the step_S with the best dev reward

Each folder is written under a temporary name and then renamed, so a folder with its final name was complete. Its
manifest.json shows whether it still is (training/saving/manifest.py).
"""

import dataclasses
import os
import re
import shutil
from pathlib import Path
from typing import Any

from data_preprocess.command import InputError
from data_preprocess.files import read_json, write_json
from data_preprocess.provenance import fingerprint, git_hash, versions
from data_preprocess.records import data_file
from training.config import TrainConfig
from training.saving.manifest import damage, folder_checksum
from training.schedule import depends_on_length

# Settings that do not affect the trained weights and may change on resuming. Other micro-batches change the sums of a
# step only by float error and, in a model with dropout, the random draws.
FREE_TO_CHANGE = {
    "do_train", "preflight", "per_device_eval_batch_size", "output_dir", "log_path", "keep_states", "state_minutes",
    "per_device_train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "report_to", "push_to_hub",
}  # fmt: skip
# Unless the learning rate depends on them, the first steps of a longer run are those of the shorter run.
MAY_GROW = {"max_train_steps", "num_train_epochs"}
# The number of processes may change too, except under ZeRO, whose states are sharded by process.
FREE_WITHOUT_ZERO = {"num_processes", "distributed_type"}
ZERO = "DEEPSPEED"
PARTS = {"config": dict, "launch": dict, "data_sha256": dict, "git": str | None, "versions": dict}  # fields of run.json
TEMPORARY = ".tmp"
NUMBER = "(0|[1-9][0-9]{0,8})"  # a step
# Leftovers of a killed process; nothing else is removed.
LEFTOVER = re.compile(
    rf"((state|step)_{NUMBER}|best_checkpoint){re.escape(TEMPORARY)}|\.(run|dev_rewards)\.json\.[0-9]+\.tmp"
)


def describe(config: TrainConfig, launch: dict[str, Any]) -> dict[str, Any]:
    """Returns the content of a fine-tuning run's run.json.

    Args:
        config: the run's settings.
        launch: what the launcher decided (processes, precision, distributed type).
    """
    files = {"train": data_file(config.train_file_path)}
    if config.do_validation:
        files["dev"] = config.dev_file
    hashes = {name: fingerprint({}, path) for name, path in files.items()}
    if config.lora_r:  # the run's own files hold the adapter only; a sha256 of 7B would take a minute
        hashes["base_model"] = folder_checksum(config.model_name_or_path)
    return run_record(dataclasses.asdict(config), launch, hashes)


def run_record(config: dict[str, Any], launch: dict[str, Any], data_sha256: dict[str, str]) -> dict[str, Any]:
    """Returns the content of any run's run.json: what the run is made of, and the code and packages at work."""
    return {
        "config": config, "launch": launch, "data_sha256": data_sha256, "git": git_hash(), "versions": versions()
    }  # fmt: skip


class RunFolder:
    """The folder of one run, and the names of the files that training keeps in it."""

    def __init__(self, path: Path, hint: str = "another --index", kind: type = TrainConfig):
        """hint: what else the error suggests if the folder belongs to another run; kind: the class of its settings."""
        self.path, self.hint, self.kind = path, hint, kind
        self.record = path / "run.json"

    def check(self, description: dict[str, Any]) -> None:
        """Raises InputError if this folder belongs to another run (naming the differences) or a file is damaged."""
        self._check_rewards()
        self.best_step()
        if self.record.exists():
            if changes := changed_settings(description, self.read_record()):
                raise InputError(
                    f"{self.record}: this experiment was run with other settings: {'; '.join(changes)} "
                    f"(expected the same, or {self.hint})"
                )
        elif self.states():
            newest = self.state_folder(self.latest_state())
            raise InputError(f"{self.record}: is missing, but {newest.name} exists (expected the run's settings)")

    def read_record(self) -> dict[str, Any]:
        """Returns the content of run.json, with the defaults of settings that it lacks; InputError if it is damaged."""
        record = read_json(self.record)
        for part, kind in PARTS.items():
            if not isinstance(record, dict) or not isinstance(record.get(part), kind):
                expected = "expected the settings written at the start of the run"
                raise InputError(f"{self.record}: {part} is missing or damaged ({expected})")
        if not isinstance(record.get("history", []), list):
            raise InputError(f"{self.record}: history is not a list")
        return {**record, "config": {**default_settings(self.kind), **record["config"]}}

    def open(self, description: dict[str, Any]) -> None:
        """Writes run.json if it is missing, and removes half-written leftovers of a killed process."""
        self.path.mkdir(parents=True, exist_ok=True)
        for path in self._leftovers():
            remove(path)
        if not self.record.exists():
            write_json(self.record, description, indent=1)

    def _leftovers(self) -> list[Path]:
        return [path for path in self.path.iterdir() if LEFTOVER.fullmatch(path.name)]

    def go_on(self, description: dict[str, Any], step: int) -> None:
        """Updates run.json with the settings that apply after `step`; changed ones are kept in its history."""
        before = self.read_record()
        was = {part: _differing(before[part], description[part]) for part in PARTS if before[part] != description[part]}
        if was:
            history = [*before.get("history", []), {"until_step": step, **was}]
            write_json(self.record, {**description, "history": history}, indent=1)

    def step_folder(self, step: int) -> Path:
        return self.path / f"step_{step}"

    def state_folder(self, step: int) -> Path:
        return self.path / f"state_{step}"

    def states(self) -> list[int]:
        """Returns the steps that have a full state, newest first."""
        return sorted(_steps(self.path, "state"), reverse=True)

    def latest_state(self) -> int:
        """Returns the step of the newest full state, or 0 if there is none."""
        return max(self.states(), default=0)

    def drop_older_states(self, step: int, keep: int = 1) -> None:
        """Keeps the newest `keep` states up to `step`; removes older ones, and later ones, which are damaged."""
        kept = [found for found in self.states() if found <= step][:keep]
        for found in self.states():
            if found not in kept:
                remove(self.state_folder(found))

    def drop_what_is_not_tested(self) -> None:
        """Removes all states, and all weights but those of the best and the last step, which marks the run finished."""
        steps = _steps(self.path, "step")
        for step in steps - {self.best_step(), max(steps)}:
            remove(self.step_folder(step))
        for step in self.states():
            remove(self.state_folder(step))

    def dev_rewards(self) -> dict[int, float]:
        """Returns the mean dev reward by step. Raises InputError if the file holds anything else."""
        path = self.path / "dev_rewards.json"
        rewards = read_json(path) if path.exists() else {}
        for step, reward in rewards.items() if isinstance(rewards, dict) else [("", None)]:
            number = type(reward) in (int, float) and 0 <= reward <= 1  # false for NaN
            if not number or not re.fullmatch(NUMBER, step):
                found = f"found {step!r:.20}: {reward!r:.40} (rewards are from 0 to 1)"
                raise InputError(f"{path}: expected {{step: mean dev reward}}, {found}")
        return {int(step): reward for step, reward in rewards.items()}

    def _check_rewards(self) -> None:
        """Raises InputError for a dev reward of weights that are not there and do not follow from a state.

        Only the best step needs its weights, as --prune and users remove others; but a step after the newest state
        would not be validated again once it is reached.
        """
        rewards, newest = self.dev_rewards(), self.latest_state()
        needed = {self.chosen_step(0)} if rewards else set()
        needed |= {step for step in rewards if newest and step > newest}
        for step in sorted(needed - {self.best_step()}):  # training restores best_checkpoint, or says why it cannot
            folder = self.step_folder(step)
            if not folder.is_dir() and not self.state_folder(step).is_dir():
                where = self.path / "dev_rewards.json"
                raise InputError(f"{where}: has a reward of step {step}, but {folder.name} is missing")

    def record_dev_reward(self, step: int, reward: float) -> None:
        rewards = self.dev_rewards() | {step: reward}
        write_json(self.path / "dev_rewards.json", {str(s): rewards[s] for s in sorted(rewards)}, indent=1)

    def point_best(self, step: int) -> None:
        """Points best_checkpoint to step_S. The link is replaced atomically, so it is never missing."""
        temporary = self.path / f"best_checkpoint{TEMPORARY}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(self.step_folder(step).name)
        os.replace(temporary, self.path / "best_checkpoint")

    def chosen_step(self, step: int) -> int:
        """Returns the step with the best dev reward, the first in a tie; without validation `step`, the last one."""
        rewards = self.dev_rewards()
        return max(rewards, key=lambda scored: (rewards[scored], -scored)) if rewards else step

    def best_step(self) -> int | None:
        """Returns the step of best_checkpoint, if it exists. Raises InputError if it is not a link to a step_S."""
        link = self.path / "best_checkpoint"
        if not link.is_symlink():
            if link.exists():
                hint = "training creates it as a link to a step_S; move the existing file away"
                raise InputError(f"{link}: is not a link ({hint})")
            return None
        target = os.readlink(link)
        if not re.fullmatch(f"step_{NUMBER}", target):
            raise InputError(f"{link}: is a link to {target} (expected one to a step_S beside it)")
        return int(target.removeprefix("step_"))

    def is_finished(self, last_step: int, validated: bool) -> bool:
        """Returns whether the last checkpoint is complete: intact weights, dev reward (if validated) and best link.

        A run killed just before the end is not finished: its leftovers still have to be removed.
        """
        scored = not validated or last_step in self.dev_rewards()
        best = self.best_step()
        if not scored or best != self.chosen_step(last_step) or self._leftovers():
            return False
        return all(damage(self.step_folder(step)) is None for step in {last_step, best})


def _steps(folder: Path, kind: str) -> set[int]:
    """Returns the S of every folder kind_S; other names are ignored."""
    found = {path: re.fullmatch(f"{kind}_{NUMBER}", path.name) for path in folder.glob(f"{kind}_*")}
    return {int(match.group(1)) for path, match in found.items() if match and path.is_dir()}


def remove(path: Path) -> None:
    """Removes a file, link or folder. A folder is renamed first, so one with its final name is never half-removed."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    if path.suffix != TEMPORARY:
        temporary = path.with_name(path.name + TEMPORARY)
        shutil.rmtree(temporary, ignore_errors=True)
        path = path.rename(temporary)
    shutil.rmtree(path)


def default_settings(kind: type) -> dict[str, Any]:
    """Returns the default settings, which a run had that was started before there were flags for them."""
    made = {field.name: field.default_factory for field in dataclasses.fields(kind)}
    defaults = {name: make() for name, make in made.items() if make is not dataclasses.MISSING}
    given = {field.name: field.default for field in dataclasses.fields(kind)}
    return defaults | {name: value for name, value in given.items() if value is not dataclasses.MISSING}


def _differing(old: Any, new: Any) -> Any:
    """Returns the old values that have changed; for a dictionary, only its changed items."""
    if not isinstance(old, dict):
        return old
    return {name: value for name, value in old.items() if new.get(name, value) != value}


def changed_settings(ours: dict[str, Any], theirs: dict[str, Any], is_finished: bool = False) -> list[str]:
    """Describes the settings that changed but must not.

    Args:
        ours: what a run is made of now, like the content of run.json; only what it holds is compared.
        theirs: what the run was made of.
        is_finished: the run is not resumed but used as it is: it must be as long, too.
    """
    zero = ZERO in (ours["launch"].get("distributed_type"), theirs["launch"].get("distributed_type"))
    free = FREE_TO_CHANGE if zero else FREE_TO_CHANGE | FREE_WITHOUT_ZERO
    fixed = ""
    if depends_on_length(ours["config"]):
        fixed = f", and the learning rates of --lr_scheduler_type {ours['config']['lr_scheduler_type']} depend on it"
    changes = []
    for part in ("config", "launch", "data_sha256"):
        for name, value in ours[part].items():
            old = theirs[part].get(name)
            grows = name in MAY_GROW and not is_finished
            grown = grows and type(old) is int and value > old and not fixed
            if old != value and name not in free and not grown:
                hint = fixed or ", and may only grow" if grows else ""
                changes.append(f"{name} was {old!r}, is {value!r}{hint}")
    return changes
