"""A run's folder: its settings, the newest full state, a weights folder per checkpoint, and which one is best.

    checkpoints/index_EXP/stage_K/
        run.json           resolved settings, versions, git hash, sha256 of the data: written before the first step
        state_S/           everything that is needed to go on after step S; only the newest is kept
        step_S/            weights and tokenizer after step S, a folder that plain transformers reads
        dev_rewards.json   {step: mean dev reward}
        best_checkpoint    symbolic link to the step_S with the best dev reward

Every folder is written under a temporary name and renamed, so a name that exists is complete.
"""

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_preprocess.command import InputError
from data_preprocess.files import fingerprint, git_hash, read_json, versions, write_json
from data_preprocess.records import data_file
from training.config import TrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

# Settings that leave the trained weights alone, and so may change when a run is resumed.
FREE_TO_CHANGE = {"do_train", "per_device_eval_batch_size", "output_dir", "log_path"}
TEMPORARY = ".tmp"


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

    def __init__(self, path: Path):
        self.path = path

    def check_same_run(self, description: dict[str, Any]) -> None:
        """InputError naming the settings that differ, if this folder belongs to another run."""
        record = self.path / "run.json"
        if not record.exists():
            return
        saved = read_json(record)
        changes = []
        for part in ("config", "launch", "data_sha256"):
            ours, theirs = description[part], saved[part]
            for name, value in ours.items():
                if name not in FREE_TO_CHANGE and theirs.get(name) != value:
                    changes.append(f"{name} was {theirs.get(name)!r}, is {value!r}")
        if changes:
            raise InputError(
                f"{record}: this experiment was run with other settings: {'; '.join(changes)} "
                "(expected the same, or another --index)"
            )

    def open(self, description: dict[str, Any]) -> None:
        """Writes run.json where there is none, and removes what a killed process left half-written."""
        self.path.mkdir(parents=True, exist_ok=True)
        for leftover in self.path.glob(f"*{TEMPORARY}"):
            shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()
        if not (self.path / "run.json").exists():
            write_json(self.path / "run.json", description, indent=1)

    def step_folder(self, step: int) -> Path:
        return self.path / f"step_{step}"

    def latest_state(self) -> int:
        """The step of the newest full state, 0 where there is none."""
        return max((int(p.name.removeprefix("state_")) for p in self._states()), default=0)

    def state_folder(self, step: int) -> Path:
        return self.path / f"state_{step}"

    def drop_older_states(self, step: int) -> None:
        for folder in self._states():
            if folder != self.state_folder(step):
                shutil.rmtree(folder)

    def drop_what_is_not_tested(self) -> None:
        """Leaves a finished run the weights of its best and of its last step, by which it is known to be finished."""
        steps = {int(path.name.removeprefix("step_")) for path in self.path.glob("step_*") if path.suffix != TEMPORARY}
        for step in steps - {self.best_step(), max(steps)}:
            shutil.rmtree(self.step_folder(step))
        for folder in self._states():
            shutil.rmtree(folder)

    def _states(self) -> list[Path]:
        return [p for p in self.path.glob("state_*") if not p.name.endswith(TEMPORARY)]

    def dev_rewards(self) -> dict[int, float]:
        path = self.path / "dev_rewards.json"
        return {int(step): value for step, value in read_json(path).items()} if path.exists() else {}

    def record_dev_reward(self, step: int, reward: float) -> None:
        rewards = self.dev_rewards() | {step: reward}
        write_json(self.path / "dev_rewards.json", {str(s): rewards[s] for s in sorted(rewards)}, indent=1)

    def point_best(self, step: int) -> None:
        """Makes best_checkpoint name step_S; the link is replaced in one move, so it never is absent."""
        temporary = self.path / f"best_checkpoint{TEMPORARY}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(self.step_folder(step).name)
        os.replace(temporary, self.path / "best_checkpoint")

    def is_finished(self, last_step: int, validated: bool) -> bool:
        """Whether the last checkpoint is complete: weights, dev reward where there is one, and the best named."""
        scored = not validated or last_step in self.dev_rewards()
        return self.step_folder(last_step).exists() and scored and self.best_step() is not None

    def best_step(self) -> int | None:
        link = self.path / "best_checkpoint"
        return int(os.readlink(link).removeprefix("step_")) if link.is_symlink() else None


def write_folder(target: Path, write: Callable[[Path], None], accelerator: "Accelerator") -> None:
    """Lets every process `write` into a temporary folder, which then takes the name `target`.

    Args:
        target: the final name; a complete folder of that name is kept, not written again.
        write: called in every process with the temporary folder.
        accelerator: its first process makes and renames the folder, and says whether there is one already: on a
            network's file system another may not see it yet.
    """
    from accelerate.utils import broadcast_object_list

    if broadcast_object_list([target.exists()])[0]:
        return
    temporary = target.with_name(target.name + TEMPORARY)
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    accelerator.wait_for_everyone()
    write(temporary)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        os.replace(temporary, target)
    accelerator.wait_for_everyone()
