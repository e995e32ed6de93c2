"""Copies a finished study's results, report, figures and first losses to their committed places."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from data_preprocess.command import REPOSITORY
from data_preprocess.files import atomic_write
from data_preprocess.outputs import check_only_ours, clear_leftovers, replace_folder, temporary_folder
from study.grid import Cell

RESULTS = REPOSITORY / "eval_hh" / "results"
REFERENCE_LOGS = REPOSITORY / "training" / "reference_logs"  # losses of one run per algorithm, for comparison


def is_published(name: str) -> bool:
    """Returns whether a file in a folder of results is one that `publish` copies."""
    return bool(re.fullmatch(r"report\.md|table1\.tex|[\w.-]+_\d+\.json|\.[\w.]+\.\d+\.tmp", name))


def publish(name: str, root: Path, cells: Sequence[Cell], command: str, took: str) -> None:
    """Copies the results of these cells from `root`.

    Args:
        name: of the profile and of its results folder.
        root: the study's root, with report.md, pics/, eval_hh/results/ and logs/.
        cells: all have a result file.
        command: the command that made them.
        took: how long that took, in words.
    """
    target = RESULTS / name
    clear_leftovers(target, is_published)
    check_only_ours(str(target), target, is_published)
    fresh = temporary_folder(target)
    fresh.mkdir(parents=True)
    for cell in cells:
        shutil.copy(root / "eval_hh" / "results" / cell.result, fresh)
    text = (root / "report.md").read_text(encoding="utf-8")
    made = f"Made by `{command}`, whose tasks took {took}."
    with atomic_write(fresh / "report.md") as file:
        file.write(f"{text.rstrip()}\n\n## How it was made\n\n{made}\n")
    shutil.copy(root / "table1.tex", fresh)
    replace_folder(fresh, target)
    for picture in (root / "pics").glob("*.png"):
        shutil.copy(picture, REPOSITORY / "pics")
    REFERENCE_LOGS.mkdir(exist_ok=True)
    for algorithm in sorted({cell.algorithm for cell in cells}):
        cell = next(cell for cell in cells if cell.algorithm == algorithm)
        log = root / "logs" / cell.exp / str(cell.stage) / "metrics.jsonl"
        shutil.copy(log, REFERENCE_LOGS / f"{algorithm.lower()}.jsonl")
    print(f"published: {target}, {REPOSITORY / 'pics'}, {REFERENCE_LOGS}")
