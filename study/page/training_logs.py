"""Reads the training logs of a study's cells for the curves on its page; logs may be missing."""

from pathlib import Path

import numpy as np

from data_preprocess.command import MAX_COUNT, InputError
from data_preprocess.files import read_jsonl
from eval_hh.analysis.results import CellResult, Results
from eval_hh.run_paths import Names
from pics.draw_training_curves import TrainingCurve
from training.saving.checkpoints import RunFolder
from training.tracking.metrics import is_number

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
        losses, rewards, orders = [], [], []
        names = Names(cell.exp, cell.stage, root=root)
        log, scores = names.metrics_file, names.run_folder / "dev_rewards.json"
        files = {"training log": (log, read_log, losses, orders), "dev rewards": (scores, read_rewards, rewards)}
        for what, (path, read, *found) in files.items():
            if not path.is_file():
                missing.setdefault(what, []).append(f"{cell} ({path})")
                continue
            try:
                read(path, *found)
            except (InputError, OSError) as error:
                warnings.append(f"{what} of {cell}: {error}")
        if losses or rewards:
            curves.append(_curve(cell, losses, sorted(rewards), orders))
    for what, lacking in missing.items():
        warnings.append(f"no {what} of {len(lacking)} of {len(results.cells)} cells, the first being {lacking[0]}")
    return curves, warnings


def _curve(cell: CellResult, *logged: Pairs) -> TrainingCurve:
    """Returns a cell's curve, from its losses, dev rewards and ranking accuracies by step."""
    arrays = [np.array(pairs, dtype=float).reshape(-1, 2).T for pairs in logged]
    (steps, values), (dev_steps, dev_values), (order_steps, accuracies) = arrays
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
        order_steps=order_steps.astype(int),
        ranking_accuracy=accuracies,
    )


def read_log(path: Path, losses: Pairs, orders: Pairs) -> None:
    """Appends (step, SFT loss) and, where it was logged, (step, ranking accuracy) of a metrics file.

    Raises InputError that names the first broken line, after all lines before it.
    """
    for number, row in read_jsonl(path):
        step, loss, accuracy = row.get("step"), row.get("sft_loss"), row.get("ranking_accuracy")
        if type(step) is not int or not 0 <= step <= MAX_COUNT or not is_number(loss):
            raise InputError(f"{path}:{number}: expected a step and its sft_loss, as the trainer logs them")
        if accuracy is not None and not is_number(accuracy):
            raise InputError(f"{path}:{number}: ranking_accuracy is {accuracy!r:.40} (expected a number)")
        losses.append((step, loss))
        if accuracy is not None:
            orders.append((step, accuracy))


def read_rewards(path: Path, found: Pairs) -> None:
    """Appends (step, mean dev reward) to `found`. Raises InputError if the file is not {step: reward}."""
    found += RunFolder(path.parent).dev_rewards().items()
