"""The same training step on one process and on two, one thread each: DDP and DeepSpeed ZeRO-2, through the launcher.

Run: python benchmarks/run.py scaling [--quick]
Runs training/launch.sh on HH-like rankings in a temporary STUDY_ROOT and reads the seconds of each step from the run's
metrics. Two processes share the same global batch: efficiency = seconds of one / (2 x seconds of two). The losses of
all runs must agree.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.side_by_side import Row, Settings, same, sized
from data_preprocess.command import REPOSITORY
from data_preprocess.files import read_jsonl, write_jsonl
from eval_hh.run_paths import Names

DATA = "hh_train_len4"
WAYS = {"DDP": 0, "ZeRO-2": 2}
WARM_UP = 1  # first steps, not counted
PORT = 29570


@dataclass(frozen=True)
class Sizes(Settings):
    steps: int = sized("steps per run, at least 2", 6, 3)
    rankings: int = sized("rankings per step, an even number", 8)
    layers: int = sized("layers of the model", 6)
    width: int = sized("hidden size of the model, a multiple of 12", 384)


def make_study(root: Path, sizes: Sizes) -> None:
    """Writes a model and rankings under a study root."""
    from benchmarks.hh_like import rankings
    from benchmarks.stand_in_models import opt_125m, tokenizer

    opt_125m(sizes.layers, sizes.width).save_pretrained(root / "model")
    tokenizer().save_pretrained(root / "model")
    rows = [asdict(record) for record in rankings(2 * sizes.rankings, 4)]
    for row in rows:
        row["prefix"] = [row["prefix"]] * len(row["suffix"])
    write_jsonl(root / "data" / DATA / "train.json", rows)


def metrics(root: Path, processes: int, zero_stage: int, sizes: Sizes) -> list[dict]:
    """Runs one training run and returns the metrics of every step."""
    exp = f"zero{zero_stage}_{processes}"
    environment = os.environ | {
        "STUDY_ROOT": str(root), "NUM_PROCESSES": str(processes), "ZERO_STAGE": str(zero_stage),
        "BATCH_SIZE": str(sizes.rankings // 2),  # two processes take one pass each
        "MIXED_PRECISION": "no", "OMP_NUM_THREADS": "1", "PYTHON": sys.executable, "PORT": str(PORT + processes),
    }  # fmt: skip
    command = ["sh", str(REPOSITORY / "training" / "launch.sh"), str(root / "model"), exp, DATA, "4", "42"]
    flags = ["--no_do_validation", "--max_train_steps", str(sizes.steps)]
    flags += ["--global_batch_size", str(sizes.rankings)]
    done = subprocess.run([*command, *flags], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {exp}: the run failed:\n{done.stderr[-2000:]}")
    return [row for _, row in read_jsonl(Names(exp, 4, root=root).metrics_file)]


def measure(sizes: Sizes) -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_study(root, sizes)
        for name, zero_stage in WAYS.items():
            one, two = (metrics(root, processes, zero_stage, sizes) for processes in (1, 2))
            same(f"losses under {name}", [row["loss"] for row in one], [row["loss"] for row in two], 1e-3)
            seconds = [statistics.median(row["seconds"] for row in run[WARM_UP:]) for run in (one, two)]
            note = f"{seconds[0]:.2f} s a step on one process, {seconds[1]:.2f} s on two, one thread each"
            efficiency = seconds[0] / (2 * seconds[1])
            rows.append(Row(f"scaling efficiency of two processes, {name}", None, efficiency, note=note))
    return rows
