"""Report and figures: end-to-end seconds for the result files of both of the paper's grids in one folder.

Run: python benchmarks/report_speed.py [--quick]
The files are synthetic, with the paper's shape: 144 cells of OPT-1.3B and 108 of LLaMA-7B, 8,550 test rows each. The
user's commands `eval_hh/report.py` and `pics/figures.py` are timed once per profile.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.side_by_side import Measure, Row, Settings, benchmark, timed
from data_preprocess.command import REPOSITORY, run

ROWS = {"harmless_base": 2312, "helpful_base": 2354, "helpful_online": 1135, "helpful_rejection": 2749}
PROFILES = ("opt-1.3b", "llama-7b")
QUICK_PART = 10  # --quick uses a tenth of the rows


def write_cells(folder: Path, profile: str, rows: dict[str, int]) -> int:
    """Writes the result files of one of the paper's grids; returns their number."""
    import numpy as np

    from eval_hh.cells import SCHEMA, file_scores, write_cell
    from study import paper_profiles
    from study.grid import cells_of

    cells = cells_of(paper_profiles.PROFILES[profile].grid, paper_profiles.SEEDS)
    for number, cell in enumerate(cells):
        rng = np.random.default_rng(number)
        score = 2.0 * np.log(cell.num_prompts)
        files = {
            name: file_scores(
                [f"{row:05d}-0123abcd" for row in range(count)],
                np.clip(rng.normal(0.5, 0.2, count), 0, 1).tolist(),
                rng.uniform(0, 30, count).tolist(),
            )
            for name, count in rows.items()
        }
        diversity = {"score": score, "unique": 1, "total": 2, "samples": cell.num_prompts, "tokenizer": "t"}
        made = {
            "generation": {"model": "m", "max_new_tokens": 128, "mixed_precision": "bf16"},
            "rewarding": {"reward_model": "rm", "mixed_precision": "no"},
        }
        write_cell(
            folder / cell.result,
            {
                "schema": SCHEMA, "profile": profile, "algorithm": cell.algorithm, "ranking_len": cell.ranking_len,
                "stage": cell.stage, "num_prompts": cell.num_prompts, "seed": cell.seed, "exp": cell.exp,
                "data": cell.data, "diversity": diversity, "selection": cell.selection, "reward_source": "rm",
                "world": None, "config": {"seed": cell.seed}, "git": None, "versions": {}, "launch": None,
                "data_sha256": None, "evaluation": {"checkpoint": "best_checkpoint", **made}, "files": files,
            },
        )  # fmt: skip
    return len(cells)


def make_all(results: Path, profile: str, output: Path) -> None:
    """Runs the user's commands for the report and both figures of a profile."""
    report = ["eval_hh/report.py", "--results", str(results), "--output", str(output / profile), "--compare_paper"]
    figures = [
        ["pics/figures.py", f"--{what}", str(results), "--output", str(output / f"{profile}_{what}.png")]
        for what in ("results", "budgets")
    ]
    for command in (report, *figures):
        call = [sys.executable, *command, "--profile", profile]
        subprocess.run(call, cwd=REPOSITORY, check=True, capture_output=True)


def measure(settings: Settings) -> list[Row]:
    rows = {name: count // (QUICK_PART if settings.quick else 1) for name, count in ROWS.items()}
    with tempfile.TemporaryDirectory() as folder:
        results, output = Path(folder) / "results", Path(folder) / "output"
        count = sum(write_cells(results, profile, rows) for profile in PROFILES)
        seconds = {profile: timed(lambda name=profile: make_all(results, name, output)) for profile in PROFILES}
    what = f"report and figures from {count} result files of {sum(rows.values()):,} rows"
    return [Measure(f"{what}, {name}", value, "s", "under 10") for name, value in seconds.items()]


def main(argv: list[str] | None = None) -> None:
    benchmark(measure, argv, __doc__)


if __name__ == "__main__":
    run(main)
