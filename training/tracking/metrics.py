"""The metrics file of a run: one JSON line per step, truncated to the resumed step on resuming."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_preprocess.command import InputError
from data_preprocess.files import disk_full_as_oserror, write_jsonl

SFT_LOSS = "sft_loss"  # unweighted, nats per response
RANKING_ACCURACY = "ranking_accuracy"


def read_metrics(path: Path, *names: str) -> list[dict[str, float]]:
    """Returns the rows of a metrics file, without a last line that a kill cut short.

    Raises:
        InputError: "path:line: ..." for any other line that is not an object of numbers with step and `names`, or whose
            step is not larger than the one before.
    """
    if not path.exists():
        return []
    if not path.is_file():
        raise InputError(f"{path}: is a folder (expected a file of metrics)")
    lines = path.read_bytes().split(b"\n")
    rows: list[dict[str, float]] = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # not JSON or not UTF-8
            if number == len(lines):
                break
            row = None
        if not _is_row(row, names, rows[-1]["step"] if rows else 0):
            raise InputError(f"{path}:{number}: expected the numbers of a step, the steps in order, as a run logs them")
        rows.append(row)
    return rows


def is_number(value: Any) -> bool:
    """Returns whether a value of a JSON file is a finite number that fits a float."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _is_row(row: Any, names: tuple[str, ...], step_before: int) -> bool:
    numbers = isinstance(row, dict) and all(map(is_number, row.values()))
    has_all = numbers and all(name in row for name in ("step", *names))
    return has_all and type(row["step"]) is int and row["step"] > step_before


def append_metrics(path: Path, row: dict[str, float]) -> None:
    """Appends a step's row; an OSError names the file."""
    with disk_full_as_oserror(path), open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def keep_metrics(path: Path, last_step: int, tell: Callable[[str], None]) -> None:
    """Drops the rows after `last_step`: a resumed run computes and logs those steps again.

    `tell` reports steps before that have no row. The run goes on: its log may begin elsewhere.
    """
    rows = [row for row in read_metrics(path) if row["step"] <= last_step]
    if len(rows) < last_step:
        tell(f"{path}: {last_step - len(rows)} of the {last_step} steps before are not in it, and will be missing")
    write_jsonl(path, rows)


def mean_of_ends(values: list[float], most: int = 5) -> tuple[float, float, int]:
    """Returns the means over the first and the last n values, at least one, and n, which is up to `most`."""
    n = min(most, max(1, len(values) // 2))
    return sum(values[:n]) / n, sum(values[-n:]) / n, n


def sft_summary(losses: list[float], most: int = 5) -> str:
    """Describes the change in SFT loss in one line; both ends are means over up to `most` steps, as prompts differ."""
    if not losses:
        return "no step is logged"
    first, last, n = mean_of_ends(losses, most)
    return f"{len(losses)} steps: SFT loss {first:.4f} -> {last:.4f} (mean of the first and last {n})"
