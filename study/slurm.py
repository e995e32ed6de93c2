"""A study's jobs under Slurm: their limits, `cluster:` of a study file, and the script that submits them.

The script sets what study/slurm_jobs.sh, which it sources, submits and runs.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_preprocess.command import REPOSITORY, InputError, count, setting, study_root, within
from data_preprocess.files import atomic_write

OPENING = "#!/bin/bash\n# usage: bash "  # of a script, which tells it from other files


def lines(help: str, default: str) -> Any:
    """Declares a text of several lines."""
    return field(metadata={**setting(help).metadata, "lines": True}, default=default)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What a cell may use of a cluster; the jobs for data and report get one node and the same limits."""

    hours: float = setting("time limit of a job", within(above=0.01, at_most=10_000), default=24.0)
    nodes: int = setting("nodes of a cell; machine.num_processes counts the processes on all", count(), default=1)
    gpus: int | None = setting("GPUs per node (default: one per process)", count(at_least=0), default=None)
    cpus: int | None = setting("cores per node (default: the cluster's)", default=None)
    memory: str | None = setting("memory per node, like 64G (default: the cluster's)", default=None)
    at_once: int | None = setting("cells that run at a time (default: as many as the cluster lets)", default=None)
    save_seconds: int = setting("a job is asked to save so long before its limit", count(at_most=65535), default=600)
    partition: str | None = setting("partition of all jobs", default=None)
    account: str | None = setting("account that is billed for all jobs", default=None)
    options: tuple[str, ...] = setting("further flags of sbatch, like --constraint=a100", default=())
    setup: str = lines("shell lines that each job begins with: modules, an environment, variables", default=":")
    scratch: str = setting("folder on each node for temporary files, like $SLURM_TMPDIR or /scratch", default="")

    def __post_init__(self) -> None:
        if any(char in self.scratch for char in "\"'`\\\n"):
            raise InputError(f"--scratch {self.scratch!r}: expected a folder, without quotes, backslashes or line ends")
        for option in self.options:
            if not option.startswith("-"):
                raise InputError(f"--options {option}: expected a flag of sbatch, like --constraint=a100")

    def limits(self, nodes: int, gpus: int) -> list[str]:
        """Returns sbatch's flags of a job on so many nodes with so many GPUs each."""
        given = {"--cpus-per-task": self.cpus, "--mem": self.memory, "--gpus-per-node": gpus or None}
        return [f"--nodes={nodes}", *(f"{flag}={value}" for flag, value in given.items() if value is not None)]

    def gpus_per_node(self, num_processes: int) -> int:
        """Returns a cell's GPUs on each of its nodes. Raises InputError if the nodes cannot share the processes."""
        if num_processes % self.nodes:
            raise InputError(f"cluster.nodes {self.nodes}: expected to divide the {num_processes} processes of a cell")
        return num_processes // self.nodes if self.gpus is None else self.gpus

    def of_each_kind(self, num_processes: int, data_on_gpu: bool) -> dict[str, list[str]]:
        """Returns sbatch's flags of every job, and more of the data's, a cell's and the report's."""
        gpus = self.gpus_per_node(num_processes)
        return {
            "every": self.of_every_job(),
            "data": self.limits(1, gpus if data_on_gpu else 0),
            "cell": self.limits(self.nodes, gpus),
            "report": self.limits(1, 0),
        }

    def of_every_job(self) -> list[str]:
        """Returns sbatch's flags that all jobs have."""
        placed = {"--partition": self.partition, "--account": self.account}
        return [
            "--requeue", f"--signal=B:USR1@{self.save_seconds}", "--open-mode=append",
            f"--time={max(1, round(self.hours * 60))}",
            *(f"{flag}={value}" for flag, value in placed.items() if value), *self.options,
        ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """The jobs of a study."""

    name: str  # of the study and its jobs
    cluster: Cluster  # the jobs' limits
    logs: Path  # folder of their output
    command: Sequence[str]  # the call of reproduce.py for the whole study, without what selects a part of it
    train_flags: Sequence[str] = ()  # for every training run
    cells: Sequence[str] = ()  # their names, a task each; none: the study is one job
    num_processes: int = 0  # of a cell, on all its nodes, a GPU each
    data_on_gpu: bool = False  # whether models make the data
    has_rows: bool = False  # whether another task evaluates the base model, the floor and the ceiling
    # Variables of the jobs that differ from those where the script is submitted.
    environment: Mapping[str, str] = field(default_factory=dict)


def write_jobs(path: Path, jobs: Jobs) -> None:
    """Writes the script that submits the jobs, and that they run. InputError: the nodes cannot share the processes."""
    cluster, train_flags = jobs.cluster, jobs.train_flags
    lines = [
        f"{OPENING}{path.name}   submits the jobs of the study {jobs.name}; study/slurm_jobs.sh says how they run",
        f"name={shlex.quote(jobs.name)}",
        f"logs={shlex.quote(str(jobs.logs))}",
        "# Flags of sbatch, from `cluster:` of the study file: of every job, of the data, of a cell and of the report.",
        *(_array(kind, flags) for kind, flags in cluster.of_each_kind(jobs.num_processes, jobs.data_on_gpu).items()),
        f"at_once={'' if cluster.at_once is None else f'%{cluster.at_once}'}",
        f"scratch='{cluster.scratch.rstrip('/')}'",
        "setup() {",
        ":",  # a function of comments alone is no shell
        cluster.setup.rstrip("\n"),
        "}",
        _array("study", jobs.command),
        _array("flags", ["--", *train_flags] if train_flags else []),
        "cells=(",
        *(f"    {cell}" for cell in jobs.cells),
        ")",
        f"last={len(jobs.cells) - 1 + jobs.has_rows}  # task",
        *(f"export {key}={shlex.quote(value)}" for key, value in jobs.environment.items()),
        f"export STUDY_ROOT={shlex.quote(str(study_root()))}",
        f"repository={shlex.quote(str(REPOSITORY))}",
        '. "$repository/study/slurm_jobs.sh"',
    ]
    with atomic_write(path) as file:
        file.write("\n".join(lines) + "\n")


def _array(name: str, words: Sequence[str]) -> str:
    return f"{name}=({shlex.join(words)})"
