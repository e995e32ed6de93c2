"""Start-up: seconds of every entry's --help, and the share of a toy training cell that is spent outside its steps.

Run: python benchmarks/start_up.py [--quick]
The cell is one of the small study's, with its data, model sizes and settings, and with validation at each checkpoint.
It runs as in a worker of reproduce.py after another cell, and in a separate process from the first import to the end.
The base and the reward model are barely trained, which does not change the cost (except that validation decodes to the
last token).
"""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.side_by_side import Measure, Row, Settings, benchmark, timed
from data_preprocess.command import REPOSITORY, run
from data_preprocess.files import read_jsonl

FOLDERS = (".", "data_preprocess", "eval_hh", "training", "pics", "benchmarks")


def entries() -> list[Path]:
    """Returns every script that a user runs, i.e. that has a main."""
    paths = [path for folder in FOLDERS for path in sorted((REPOSITORY / folder).glob("*.py"))]
    return [path for path in paths if "\ndef main(argv" in path.read_text(encoding="utf-8")]


def help_seconds(path: Path, rounds: int) -> float:
    """Returns the seconds of `python FILE --help`, the best of `rounds`."""
    return min(
        timed(lambda: subprocess.run([sys.executable, path, "--help"], check=True, stdout=subprocess.DEVNULL))
        for _ in range(rounds)
    )


def toy_study(root: Path):
    """Returns the small study under `root`, with its data made and its models barely trained."""
    from study.grid import Cell
    from study.toy_profile import TOY
    from study.toy_study import ToyStudy

    os.environ |= {"STUDY_ROOT": str(root), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    one_step = ("--max_steps", "1")
    untrained = ToyStudy(root, replace(TOY, pretrain=one_step, train_reward=one_step))
    with contextlib.redirect_stdout(io.StringIO()):
        untrained.make_data()
        untrained.sample([Cell("PRO", 4, max(TOY.grid.sizes), seed=42)])
        untrained.train_base()
        untrained.train_reward_model()
    return untrained


def outside_steps(way: Callable[[str], None], name: str, metrics: Path) -> Measure:
    """Measures the share of a cell's time that its metrics do not count as steps; `way` runs the cell `name`."""
    whole = timed(lambda: way(name))
    in_steps = sum(row["seconds"] for _, row in read_jsonl(metrics / name / "4" / "metrics.jsonl"))
    what = f"toy training cell, {name.replace('_', ' ')}: share of its time outside steps"
    return Measure(what, 1 - in_steps / whole, "", note=f"{in_steps:.1f} s of {whole:.1f} s are steps")


def measure(settings: Settings) -> list[Row]:
    seconds = {path: help_seconds(path, 1 if settings.quick else 3) for path in entries()}
    slowest = max(seconds, key=seconds.__getitem__)
    note = f"{slowest.relative_to(REPOSITORY)}, of {len(seconds)} entries"
    rows: list[Row] = [Measure("--help of the slowest entry", seconds[slowest], "s", "under 2", note)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        study = toy_study(root)
        data = root / "data" / f"hh_train_len4_{max(study.profile.grid.sizes)}"

        def in_a_worker(exp: str) -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                study.run_here(study.training(exp, 4, data, 42))

        def in_a_process_of_its_own(exp: str) -> None:
            command = [sys.executable, *study.training(exp, 4, data, 42).words[1:]]
            subprocess.run(command, cwd=REPOSITORY / "training", check=True, capture_output=True)

        import training.trainer  # noqa: F401  (a worker of reproduce.py has imported it for an earlier cell)

        worker = outside_steps(in_a_worker, "in_a_worker", root / "logs")
        rows.append(replace(worker, target="under 0.2"))
        rows.append(outside_steps(in_a_process_of_its_own, "in_a_process_of_its_own", root / "logs"))
    return rows


def main(argv: list[str] | None = None) -> None:
    benchmark(measure, argv, __doc__)


if __name__ == "__main__":
    run(main)
