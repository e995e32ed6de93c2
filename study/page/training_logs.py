"""Reads the training logs of a study's cells for the curves on its page; logs may be missing."""

import re
from pathlib import Path

import numpy as np

from data_preprocess.command import InputError
from data_preprocess.files import read_json, read_jsonl
from eval_hh.analysis.results import CellResult, Results
from eval_hh.run_paths import Names
from pics.draw_training_curves import TrainingCurve

Pairs = list[tuple[int, float]]


def load_curves(root: Path, results: Results) -> tuple[list[TrainingCurve], list[str]]:
    """Reads the training curves of cells.

    Args:
        root: the study's root, with logs/ and checkpoints/.
        results: the cells.

    Returns:
        (a curve for each cell with any data, in the cells' order; a warning for each kind of missing file and for each
        broken file).
    """
    curves, warnings = [], []
    missing: dict[str, list[str]] = {}
    for cell in results.cells:
        losses, rewards = [], []
        log = root / "logs" / cell.exp / str(cell.stage) / "metrics.jsonl"
        scores = Names(cell.exp, cell.stage, root=root).run_folder / "dev_rewards.json"
        files = {"training log": (log, read_losses, losses), "dev rewards": (scores, read_rewards, rewards)}
        for what, (path, read, found) in files.items():
            if not path.is_file():
                missing.setdefault(what, []).append(f"{cell} ({path})")
                continue
            try:
                read(path, found)
            except (InputError, OSError) as error:
                warnings.append(f"{what} of {cell}: {error}")
        if losses or rewards:
            curves.append(_curve(cell, losses, rewards))
    for what, lacking in missing.items():
        warnings.append(f"no {what} of {len(lacking)} of {len(results.cells)} cells, the first being {lacking[0]}")
    return curves, warnings


def _curve(cell: CellResult, losses: Pairs, rewards: Pairs) -> TrainingCurve:
    steps, values = np.array(losses, dtype=float).reshape(-1, 2).T
    dev_steps, dev_values = np.array(sorted(rewards), dtype=float).reshape(-1, 2).T
    return TrainingCurve(
        algorithm=cell.setting.algorithm,
        ranking_len=cell.setting.ranking_len,
        num_prompts=cell.setting.num_prompts,
        seed=cell.replicate.seed,
        selection=cell.setting.selection,
        steps=steps.astype(int),
        sft_loss=values,
        dev_steps=dev_steps.astype(int),
        dev_reward=dev_values,
    )


def read_losses(path: Path, found: Pairs) -> None:
    """Appends (step, SFT loss) of a metrics file to `found`, up to the first broken line.

    Raises InputError that names this line.
    """
    for number, row in read_jsonl(path):
        step, loss = row.get("step"), row.get("sft_loss")
        if type(step) is not int or type(loss) not in (int, float):
            raise InputError(f"{path}:{number}: expected a step and its sft_loss, as the trainer logs them")
        found.append((step, loss))


def read_rewards(path: Path, found: Pairs) -> None:
    """Appends (step, mean dev reward) to `found`. Raises InputError if the file is not {step: reward}."""
    rewards = read_json(path)
    entries = rewards.items() if isinstance(rewards, dict) else [("", None)]
    for step, reward in entries:
        if not re.fullmatch("[0-9]+", step) or type(reward) not in (int, float):
            raise InputError(f"{path}: expected {{step: mean dev reward}}, found {step!r:.20}: {reward!r:.40}")
        found.append((int(step), reward))
