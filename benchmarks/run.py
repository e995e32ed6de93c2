"""All benchmarks, one after another, each in a process of its own.

    python benchmarks/run.py --quick    reduced sizes, under 10 minutes on two cores
    python benchmarks/run.py --full     the claimed sizes; writes benchmarks/RESULTS.md

`--only NAME ...` runs some of them. What cannot run here (TRL is not installed, say) is named with its reason, and the
others go on; the exit status is 1 if any failed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.side_by_side import Comparison, Measure, Row
from data_preprocess.files import atomic_write, git_hash, machine, read_json, run, versions

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
BENCHMARKS = {
    "pro_step": "PRO step",
    "pro_choices": "What the PRO step was weighed against",
    "preference_trainer": "PRO against TRL's DPOTrainer",
    "diversity_counts": "Diversity",
    "generation_speed": "Generation",
    "reward_scoring": "Reward scoring",
    "start_up": "Start-up",
    "subset_files": "split.py and sample.py",
    "scaling": "Two processes",
    "study_cost": "Cost of the paper's grids",
}


def run_one(name: str, quick: bool, threads: int) -> list[Row] | str:
    """The rows of one benchmark, or why there are none."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        flags = ["--threads", str(threads), "--json", str(rows), *(["--quick"] if quick else [])]
        done = subprocess.run([sys.executable, HERE / f"{name}.py", *flags], stderr=subprocess.PIPE, text=True)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            return lines[-1] if lines else f"exit status {done.returncode}"
        kinds = {kind.__name__: kind for kind in (Comparison, Measure)}
        return [kinds[row.pop("kind")](**row) for row in read_json(rows)]


def table(results: dict[str, list[Row] | str]) -> list[str]:
    """Markdown: a section per benchmark."""
    lines = []
    for name, rows in results.items():
        lines += ["", f"## {BENCHMARKS[name]}", "", f"`python benchmarks/{name}.py`", ""]
        if isinstance(rows, str):
            lines.append(f"Did not run: {rows}")
            continue
        lines += ["| what | naive | ours | ratio | target | note |", "|---|---|---|---|---|---|"]
        lines += [cells(row) for row in rows]
    return lines


def cells(row: Row) -> str:
    """One row of the table."""
    if isinstance(row, Measure):
        return f"| {row.what} | | {row.value:.3g} {row.unit} | | {row.target} | {row.note} |"
    target = f"{row.target:g}x" if row.target else ""
    both = f"{row.naive:.3g} {row.unit} | {row.ours:.3g} {row.unit}"
    return f"| {row.what} | {both} | **{row.ratio:.2f}x** | {target} | {row.note} |"


def heading(threads: int, seconds: float) -> list[str]:
    """What was run where."""
    from benchmarks.hh_like import source

    names = ", ".join(f"{name} {version}" for name, version in versions().items())
    return [
        "# Benchmarks",
        "",
        f"Made by `python benchmarks/run.py --full` in {seconds / 60:.0f} minutes on {machine()}, {threads} threads, "
        f"at {git_hash() or 'no git commit'}. {names}. Rows: {source()}.",
        "",
        "Both ways run in one process in turns, medians are given; a ratio is naive / ours. Seconds are this "
        "machine's, and it is shared, so only ratios mean anything elsewhere.",
    ]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--quick", action="store_true", help="reduced sizes")
    size.add_argument("--full", action="store_true", help="the claimed sizes; writes benchmarks/RESULTS.md")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), help="some of them")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each way (default: one a core)")
    args = parser.parse_args(argv)
    began, results = time.perf_counter(), {}
    for name in args.only:
        print(f"\n{BENCHMARKS[name]} ({name}.py)", flush=True)
        start = time.perf_counter()
        results[name] = run_one(name, args.quick, args.threads)
        failed = f"did not run: {results[name]}\n" if isinstance(results[name], str) else ""
        print(f"{failed}[{time.perf_counter() - start:.0f} s]", flush=True)
    seconds = time.perf_counter() - began
    if args.full and list(args.only) == list(BENCHMARKS):
        with atomic_write(RESULTS) as file:
            file.write("\n".join(heading(args.threads, seconds) + table(results)) + "\n")
        print(f"\nwritten: {RESULTS}")
    print(f"\n{seconds / 60:.1f} minutes")
    if any(isinstance(rows, str) for rows in results.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    run(main)
