"""Copies a finished study's results, report, figures and first losses to their committed places."""

import json
import lzma
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_preprocess.command import REPOSITORY
from data_preprocess.files import atomic_write
from data_preprocess.outputs import check_only_ours, clear_leftovers, replace_folder, temporary_folder
from eval_hh.cells import STUDY_FILE, is_row, load_cell, validate_cell
from eval_hh.run_paths import Names
from study.grid import Cell

RESULTS = REPOSITORY / "eval_hh" / "results"
REPORT = "report.md"
REFERENCE_LOGS = REPOSITORY / "training" / "reference_logs"  # losses of one run per algorithm, for comparison
# Decimals that are kept of a response's scores, so that a study is a small file; the reward is kept as it is.
BLEU_DECIMALS, EXTRA_DECIMALS = 2, 4


def is_published(name: str) -> bool:
    """Returns whether a file in a folder of results is one that `publish_results` writes."""
    return bool(re.fullmatch(r"report\.(md|html)|table1\.tex|cells\.jsonl\.xz|\.[\w.]+\.\d+\.tmp", name))


def publish(name: str, root: Path, cells: Sequence[Cell], rows: Sequence[Path], command: str, took: str) -> None:
    """Copies the results of these cells from `root`, with the pictures and the first losses of each algorithm.

    Args:
        name: of the results folder.
        root: the study's root, with report.md, pics/, eval_hh/results/ and logs/.
        cells: all have a result file.
        rows: result files of models of no run.
        command: the command that made them.
        took: how long that took, in words.
    """
    results = [root / "eval_hh" / "results" / cell.result for cell in cells]
    publish_results(name, root, [*results, *rows], f"Made by `{command}`, whose tasks took {took}.")
    for picture in (root / "pics").glob("*.png"):
        shutil.copy(picture, REPOSITORY / "pics")
    REFERENCE_LOGS.mkdir(exist_ok=True)
    for algorithm in sorted({cell.algorithm for cell in cells}):
        cell = next(cell for cell in cells if cell.algorithm == algorithm)
        log = Names(cell.exp, cell.stage, root=root).metrics_file
        shutil.copy(log, REFERENCE_LOGS / f"{algorithm.lower()}.jsonl")
    print(f"published: {RESULTS / name}, {REPOSITORY / 'pics'}, {REFERENCE_LOGS}")


def publish_results(name: str, folder: Path, results: Sequence[Path], made: str, with_page: bool = False) -> None:
    """Writes a folder of published results: one file of all cells, the report and the LaTeX table.

    Args:
        name: of the results folder.
        folder: with report.md, table1.tex and the page.
        results: the result files.
        made: how they were made, in a sentence or more.
        with_page: copy the page as well.
    """
    target = RESULTS / name
    clear_leftovers(target, is_published)
    check_only_ours(str(target), target, is_published)
    fresh = temporary_folder(target)
    fresh.mkdir(parents=True)
    (fresh / STUDY_FILE).write_bytes(packed(results))
    text = (folder / REPORT).read_text(encoding="utf-8")
    with atomic_write(fresh / REPORT) as file:
        file.write(f"{text.rstrip()}\n\n## How it was made\n\n{made}\n")
    for file in ("table1.tex", *(["report.html"] if with_page else [])):
        shutil.copy(folder / file, fresh)
    replace_folder(fresh, target)


def write_rows_report(folder: Path, lines: Sequence[str], rows_file: str, rows: Sequence[dict]) -> str:
    """Writes report.md, and the rows that it was made from as JSONL, into `folder`; returns the report."""
    text = "\n".join(lines)
    with atomic_write(folder / REPORT) as file:
        file.write(text)
    with atomic_write(folder / rows_file) as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return text


def publish_rows_report(name: str, folder: Path, rows_file: str) -> None:
    """Copies what `write_rows_report` wrote to the results folder of this name."""
    target = RESULTS / name
    check_only_ours(str(target), target, lambda file: file in (REPORT, rows_file))
    target.mkdir(exist_ok=True)
    for file in (REPORT, rows_file):
        shutil.copy(folder / file, target)
    print(f"published: {target}")


def packed(results: Sequence[Path]) -> bytes:
    """Returns the cells of result files as an .xz file of one line each, rounded; the same bytes for the same cells."""
    lines = [json.dumps(rounded(load_cell(path)), sort_keys=True, separators=(",", ":")) + "\n" for path in results]
    return lzma.compress("".join(lines).encode(), preset=6 | lzma.PRESET_EXTREME)


def rounded(cell: dict) -> dict:
    """Returns a valid cell with all scores but the reward rounded, and their means taken of the rounded ones."""
    files = {}
    for file, entry in cell["files"].items():
        bleu = [round(score, BLEU_DECIMALS) for score in entry["bleu"]]
        extra = {name: [round(score, EXTRA_DECIMALS) for score in row] for name, row in entry.get("extra", {}).items()}
        means = {name: float(np.mean(scores)) for name, scores in {"bleu": bleu, **extra}.items()}
        others = {"extra": extra} if extra else {}
        files[file] = {**entry, "bleu": bleu, **others, "mean": entry["mean"] | means}
    cell = {**cell, "files": files}
    validate_cell(cell, cell["name" if is_row(cell) else "exp"])
    return cell
