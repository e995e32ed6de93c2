"""The paper's grids as calls of the launchers and of eval.sh: printed, written as a cluster array job, or run."""

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from data_preprocess.command import REPOSITORY, InputError, Stopped, StopRequest, study_root
from data_preprocess.files import atomic_write, hold_lock
from data_preprocess.ranking import SEED
from data_preprocess.subsets import RANDOM, rankings_file
from eval_hh.run_paths import Names
from study.commands import Call
from study.grid import Cell, Grid, sample_flags
from training.checkpoints import RunFolder

USAGE = 2  # exit status of a usage error, which every cell would repeat


@dataclass(frozen=True)
class PaperProfile:
    """One model of the paper."""

    name: str
    model: str  # folder or hub name of the pre-trained model
    launcher: str  # suffix of the launchers' names
    grid: Grid
    train_flags: tuple[str, ...] = ()  # for main.py, after the launcher's own flags

    def training(self, cell: Cell) -> Call:
        """Returns the launcher's call for one cell."""
        ranking_len = (str(cell.ranking_len),) if cell.algorithm == "PRO" else ()
        script = f"train_hh_{cell.algorithm.lower()}_{self.launcher}.sh"
        words = ("sh", script, self.model, cell.exp, cell.data, *ranking_len, str(cell.seed), *self.train_flags)
        return Call("training", words)

    def calls(self, cell: Cell) -> list[Call]:
        """Returns the training and test of one cell; both resume, and the test writes the cell's result file."""
        test = Call("eval_hh", ("sh", "eval.sh", cell.exp, str(cell.stage)), (("PROFILE", self.name),))
        return [self.training(cell), test]


def _grid(name: str, *sizes: int) -> Grid:
    # HH-RLHF's rankings name their source but not the kind of each prompt: low and high D are matched by length only.
    return Grid(sizes, ranking_lens=(2, 3, 4), fixed_size=3000, match_kind=False, model=name)


PROFILES = {
    name: PaperProfile(name, model, launcher, _grid(name, *sizes))
    for name, model, launcher, sizes in (
        ("opt-1.3b", "facebook/opt-1.3b", "1b3", (36000, 24000, 16000, 12000, 6000, 3000, 2000, 1500)),
        ("llama-7b", "huggyllama/llama-7b", "7b", (24000, 16000, 12000, 3000, 2000, 1500)),
    )
}
SEEDS = (42, 43, 44)


def data_calls(cells: Sequence[Cell], tokenizer: str | None) -> list[Call]:
    """Returns the commands that make all subsets of these cells from data/original/hh_train_len4/train.json."""
    counted = ["--tokenizer", tokenizer] if tokenizer else []
    scripts = [["split.py"], *(["sample.py", *flags, *counted] for flags in sample_flags(cells))]
    return [Call("data_preprocess", ("python", *words)) for words in scripts]


def result_file(cell: Cell) -> Path:
    return Names(cell.exp, cell.stage).cell()


def run_folder(cell: Cell) -> RunFolder:
    return RunFolder(Names(cell.exp, cell.stage).run_folder)


def lacking_data(cells: Sequence[Cell]) -> bool:
    """Returns whether a subset of these cells is missing."""
    return not all((study_root() / "data" / cell.data / "train.json").is_file() for cell in cells)


def shell_script(profile: PaperProfile, cells: Sequence[Cell], tokenizer: str | None) -> list[str]:
    """Returns all commands of these cells, one per line, those for the data first."""
    lines = [call.shell() for call in data_calls(cells, tokenizer)]
    return lines + [call.shell() for cell in cells for call in profile.calls(cell)]


def write_array_job(
    path: Path, profile: PaperProfile, cells: Sequence[Cell], tokenizer: str | None, prune: bool = False
) -> None:
    """Writes an sbatch script with one task per cell. If it is submitted again, its tasks run what is missing."""
    logs = study_root() / "logs" / "slurm"
    seeds, draws = (sorted({getattr(cell, name) for cell in cells}) for name in ("seed", "draw"))
    replicates = ["--seeds", *map(str, seeds)] if draws == [SEED] else ["--replicates", str(draws[-1] - SEED + 1)]
    selected = {cell.selection for cell in cells} != {RANDOM}
    # A task runs one cell by its name, so that a flag for more experiments than this one's is no harm.
    varied = ["--fixed_size", str(profile.grid.fixed_size), "--strategies"] if selected else []
    command = shlex.join([
        "python", "reproduce.py", "--profile", profile.name, *replicates, "--sizes", *map(str, profile.grid.sizes),
        *varied, "--model", profile.model, *(["--tokenizer", tokenizer] if tokenizer else []),
        *(["--prune"] if prune else []),
    ])  # fmt: skip
    lines = [
        "#!/bin/bash",
        f"# {len(cells)} cells, a task each. Limits, partition and account are your cluster's: edit them here.",
        f"#SBATCH --array=0-{len(cells) - 1}",
        "#SBATCH --nodes=1",
        "#SBATCH --gres=gpu:8",
        "#SBATCH --time=24:00:00",
        f"#SBATCH --output={logs}/%A_%a.log",
        "set -eu",
        f"cd {shlex.quote(str(REPOSITORY))}",
        f"export STUDY_ROOT={shlex.quote(str(study_root()))}",
        "PATH=$PWD/.venv/bin:$PATH",
        "cells=(",
        *(f"    {cell.name}" for cell in cells),
        ")",
        "# Two tasks on one node must not share the launcher's port.",
        "export PORT=$((20000 + SLURM_ARRAY_TASK_ID))",
        f'exec {command} --only "${{cells[$SLURM_ARRAY_TASK_ID]}}" {shlex.join(["--", *profile.train_flags])}',
    ]
    logs.mkdir(parents=True, exist_ok=True)  # sbatch writes no log into a missing folder
    with atomic_write(path) as file:
        file.write("\n".join(lines) + "\n")


def make_data(cells: Sequence[Cell], tokenizer: str | None, request: StopRequest) -> None:
    """Makes the subsets of these cells if one is missing. Raises InputError without the rankings to sample from."""
    if not lacking_data(cells):
        return
    source = rankings_file(study_root() / "data", 4)
    if not source.is_file():
        raise InputError(f"{source}: no such file (expected rankings of four responses: data_preprocess/README.md)")
    log = study_root() / "logs" / "cells" / "data.log"
    with hold_lock(log.with_suffix("")):
        for call in data_calls(cells, tokenizer):
            call = replace(call, words=(sys.executable, *call.words[1:]))
            _run(call, log, request)


def run_cells(profile: PaperProfile, cells: Sequence[Cell], request: StopRequest, prune: bool = False) -> list[str]:
    """Runs the cells without a result file, one after another; returns one line per failure.

    After a failed cell the others still run, unless it was a usage error (InputError).

    Args:
        profile: how a cell is run.
        cells: the cells.
        request: checked between two calls and forwarded to the running one; then Stopped is raised.
        prune: delete each tested run's full state and all weights but those of its best and last step.
    """
    waiting = [cell for cell in cells if not result_file(cell).is_file()]
    print(f"{len(cells) - len(waiting)} of {len(cells)} cells are done already", file=sys.stderr)
    failures = []
    for cell in tqdm(waiting, "cells", unit="cell"):
        log = study_root() / "logs" / "cells" / f"{cell.exp}.log"
        tqdm.write(f"{cell.exp}: output in {log}", file=sys.stderr)
        try:
            with hold_lock(log.with_suffix("")):
                for call in profile.calls(cell):
                    _run(call, log, request)
            if prune:
                run_folder(cell).drop_what_is_not_tested()
        except OSError as error:
            tqdm.write(f"failed: {error}", file=sys.stderr)
            failures.append(str(error))
    return failures


def _run(call: Call, log: Path, request: StopRequest) -> None:
    """Runs a call. Raises InputError for a usage error, Stopped after a stop request, else OSError if it fails."""
    status = call.run(log, request)
    if request.number is not None and (status == 0 or status > 128):
        raise Stopped(request.number, f"run the same command to resume (output in {log})")
    if status:
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        message = f"{call.shell()}: exit status {status}: {lines[-1]} (output in {log})"
        raise InputError(message) if status == USAGE else OSError(message)


def default_model(profile: PaperProfile) -> str:
    """Returns the profile's model; for LLaMA, $LLaMA_path takes precedence, as for the subsets' diversity."""
    return (os.environ.get("LLaMA_path") if profile.launcher == "7b" else None) or profile.model
