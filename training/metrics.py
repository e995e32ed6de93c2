"""A run's metrics file: one JSON line a step, written as the run goes and cut back to where a run is resumed."""

import json
from pathlib import Path

from data_preprocess.files import write_jsonl


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics file, without the line that a kill cut short."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def keep_metrics(path: Path, last_step: int) -> None:
    """Drops from a metrics file what comes after `last_step`: a resumed run computes and logs those steps again."""
    write_jsonl(path, [row for row in read_metrics(path) if row["step"] <= last_step])


def sft_summary(losses: list[float], most: int = 5) -> str:
    """One line on how the SFT loss moved; at each end the mean of up to `most` steps, which differ in their prompts."""
    n = min(most, max(1, len(losses) // 2))
    first, last = sum(losses[:n]) / n, sum(losses[-n:]) / n
    return f"{len(losses)} steps: SFT loss {first:.4f} -> {last:.4f} (mean of the first and last {n})"
