"""Start-up: seconds of every entry's --help, and the share of a toy training cell that is not spent in its steps.

Run: python benchmarks/start_up.py [--quick]
The cell is one of the small study's: its data, its models' sizes and its settings, with validation at each checkpoint,
in a process of its own, from the first import to the end. The base and the reward model are hardly trained, which
changes what the cell learns and not what it costs (but that its validation decodes to the last token).
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.side_by_side import Measure, Row, parser, report, timed
from data_preprocess.files import REPOSITORY, read_jsonl, run

FOLDERS = (".", "data_preprocess", "eval_hh", "training", "pics", "benchmarks")


def entries() -> list[Path]:
    """Every script that a user runs: it has a main."""
    paths = [path for folder in FOLDERS for path in sorted((REPOSITORY / folder).glob("*.py"))]
    return [path for path in paths if "\ndef main(argv" in path.read_text(encoding="utf-8")]


def help_seconds(path: Path, rounds: int) -> float:
    """Of `python FILE --help`, the best of some rounds."""
    return min(
        timed(lambda: subprocess.run([sys.executable, path, "--help"], check=True, stdout=subprocess.DEVNULL))
        for _ in range(rounds)
    )


def toy_cell(root: Path, steps: int | None) -> tuple[float, float]:
    """(seconds of the whole cell, seconds in its steps)."""
    from dataclasses import replace

    import reproduce

    os.environ |= {"STUDY_ROOT": str(root), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    study = reproduce.ToyStudy(root, reproduce.TOY)
    study.make_data()
    short = replace(reproduce.TOY, pretrain=("--max_steps", "1"), train_reward=("--max_steps", "1"))
    untrained = reproduce.ToyStudy(root, short)
    untrained.train_base()
    untrained.train_reward_model()
    cell = reproduce.Cell("PRO", 4, max(reproduce.TOY.sizes), 42)
    flags = study.fine_tune_flags(cell.exp, cell.stage, root / "data" / cell.data, cell.seed)
    flags += ["--max_train_steps", str(steps)] if steps else []
    command = [sys.executable, REPOSITORY / "training" / "main.py", *flags]
    whole = timed(lambda: subprocess.run(command, check=True, capture_output=True))
    return whole, sum(row["seconds"] for _, row in read_jsonl(study.metrics(cell)))


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("--steps", type=int, help="steps of the toy cell (default: the small study's)")
    args = made.parse_args(argv)
    seconds = {path: help_seconds(path, 1 if args.quick else 3) for path in entries()}
    slowest = max(seconds, key=seconds.__getitem__)
    note = f"{slowest.relative_to(REPOSITORY)}, of {len(seconds)} entries"
    rows: list[Row] = [Measure("--help of the slowest entry", seconds[slowest], "s", "under 2", note)]
    with tempfile.TemporaryDirectory() as folder:
        whole, in_steps = toy_cell(Path(folder), args.steps)
    note = f"{in_steps:.1f} s of {whole:.1f} s are steps"
    outside = 1 - in_steps / whole
    rows.append(Measure("toy training cell: share of its time outside steps", outside, "", "under 0.2", note))
    report(rows, args.json)


if __name__ == "__main__":
    run(main)
