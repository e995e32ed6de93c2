"""The benchmarks by name, one of them run in a process of its own, and its rows as a table."""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.side_by_side import Row
from data_preprocess.command import signal_name
from data_preprocess.files import read_json
from data_preprocess.provenance import git_hash

RUN = Path(__file__).with_name("run.py")
BENCHMARKS = {
    "pro_step": "PRO step",
    "preference_trainer": "PRO against TRL's DPOTrainer",
    "diversity_counts": "Diversity",
    "selection_speed": "Selection",
    "embedding_selection": "Selection by embeddings",
    "generation_speed": "Generation",
    "reward_scoring": "Reward scoring",
    "cpu_bf16": "bfloat16 on the CPU",
    "subset_files": "split.py and sample.py",
    "scaling": "Two processes",
    "checkpoint_stall": "Checkpoints",
    "study_cost": "Cost of the paper's grids",
}
GPU_BENCHMARKS = {  # run by gpu.sh
    "gpu_passes": "A training pass",
    "gpu_step": "PRO step",
    "gpu_inference": "Generation and reward scoring",
}
SERVER_BENCHMARKS = {"served_generation": "Generation here and by a server"}  # they need a server that is running
TITLES = BENCHMARKS | GPU_BENCHMARKS | SERVER_BENCHMARKS


@dataclass(frozen=True)
class Result:
    """What one benchmark measured, how long it took, at which commit and where."""

    rows: list[dict]  # each a side_by_side.Row
    seconds: float
    commit: str
    failure: str = ""  # why there are no rows
    where: str = ""  # machine and versions, in words


def run_one(name: str, quick: bool, threads: int) -> Result:
    """Runs one benchmark in a separate process and shows its output as it comes."""
    began, commit = time.perf_counter(), git_hash() or "no commit"
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        flags = ["--threads", str(threads), "--json", str(rows), *(["--quick"] if quick else [])]
        done = subprocess.run([sys.executable, RUN, name, *flags], stderr=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - began
        if not done.returncode:
            return Result(read_json(rows), seconds, commit)
        return Result([], seconds, commit, why_failed(done.returncode, done.stderr))


def why_failed(status: int, stderr: str) -> str:
    """Returns the last line of a failed process, or the signal that killed it."""
    if status < 0:
        return f"killed by {signal_name(-status)}"
    lines = [line for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit status {status}"


def table(results: dict[str, Result]) -> list[str]:
    """Returns the lines of the Markdown results, one section per benchmark."""
    lines = []
    for name, result in results.items():
        made = f"`python benchmarks/run.py {name}`: {result.seconds:.0f} s, at commit {result.commit[:9]}"
        made += f", on {result.where}" if result.where else ""
        lines += ["", f"## {TITLES[name]}", "", made, ""]
        if result.failure:
            lines.append(f"Did not run: {result.failure}")
            continue
        lines += ["| what | naive | ours | ratio | target | note |", "|---|---|---|---|---|---|"]
        lines += [cells(Row(**row)) for row in result.rows]
    return lines


def cells(row: Row) -> str:
    """Returns one row of the table."""
    naive, ratio = ("", "") if row.naive is None else (f"{number(row.naive)} {row.unit}", f"**{row.ratio:.2f}x**")
    values = [row.what, naive, f"{number(row.ours)} {row.unit}", ratio, row.target, row.note]
    return f"| {' | '.join(values)} |"


def number(value: float) -> str:
    """Formats with three significant digits, from 1000 as a whole number."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
