"""Runs a study, a grid of cells (algorithm x K responses x M prompts x replicate), from data to table and figures.

    python reproduce.py --profile toy                     the small study on the embedded world, one replicate
    python reproduce.py --profile toy --replicates 8      the same with intervals and verdicts
    python reproduce.py --profile toy --worlds            claim 1 on several worlds
    python reproduce.py --profile toy --check             check the world itself, before any study
    python reproduce.py --profile opt-1.3b --dry_run      the commands of the paper's grid (also llama-7b)
    python reproduce.py --profile opt-1.3b --slurm FILE   the same as jobs for a cluster, one task per cell
    python reproduce.py --profile opt-1.3b --only 'pro_len4_3000_*' -- --max_train_steps 20
    python reproduce.py --profile smollm2                 a small real study; study/smollm2.sh makes its models first
    python reproduce.py --study my_study.yaml             a study on your own model and data

Every cell runs the public commands: split.py, sample.py, training, generation, rewarding, scoring. A replicate is a
fresh draw of the subsets (sample.py --draw) and a fresh training seed; the published design is several seeds of one
draw. The small study calls the commands in its worker processes, one torch thread each, under runs/toy-<hash>/; the
hash depends on the world and the settings. Any other study calls the launchers and eval.sh, one cell after another: a
paper's grid under STUDY_ROOT, your own under runs/NAME. Finished work is not repeated, and is refused if it
was made with other settings. A killed run resumes when started again, and so does one that was asked to stop (SIGTERM,
SIGUSR1, Ctrl-C), which ends at the next step or batch.
Flags after `--` are passed to every training run.
"""

import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from data_preprocess.command import (
    InputError,
    StopRequest,
    available_cores,
    check_flags,
    check_one_given,
    check_seed,
    check_settings,
    count,
    parse_settings,
    run,
    setting,
    stop_requests,
    study_root,
    within,
    words_of,
)
from data_preprocess.files import LOCKS, hold_lock
from data_preprocess.hub import from_here
from data_preprocess.outputs import check_opening, check_output_file
from data_preprocess.provenance import machine_with_gpus
from study.cost import cost_lines
from study.finish import check_outputs, show_outcome
from study.grid import Cell, Study, cells_of, chosen, fresh_replicates, largest_budget, seeds_of_one_draw
from study.publish import publish, publish_results
from study.running.launched_study import REWARD_MODELS, LaunchedStudy
from study.running.workers import Workers, duration
from study.slurm import OPENING, Jobs, write_jobs
from study.study_file import EXPERIMENTS, built_in, check_train_flags, other_answers, profile_names, read_study
from study.toy import worlds
from study.toy.toy_profile import ToyProfile
from study.toy.toy_study import ToyStudy

# Flags that go with some studies, or with some runs, only.
OF_TOY = ("check", "worlds", "augment")
OF_LAUNCHED = ("model", "tokenizer", "part", "prune", "peak")
PARTS = ("data", "rows", "cells", "report")
NOT_WITH_WORLDS = ("seeds", "sizes", "fixed_size", "strategies", "augment", "only", "check")


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Which study to run, which of its cells, and how."""

    profile: str | None = setting("a study that is built in", choices=profile_names(), default=None)
    study: Path | None = setting("a study of your own, in YAML (study/README.md)", metavar="FILE", default=None)
    replicates: int | None = setting(
        "replicates, each with a draw of the subsets and a training seed of its own: both 42, both 43 and so on "
        f"(default: the study's; {worlds.REPLICATES} with --worlds)",
        count(at_most=1000),
        metavar="R",
        default=None,
    )
    seeds: tuple[int, ...] | None = setting(
        "instead of --replicates: training seeds, all of draw 42 (default for opt-1.3b and llama-7b: 42 43 44)",
        check_seed,
        metavar="SEED",
        default=None,
    )
    sizes: tuple[int, ...] | None = setting("numbers of prompts M (default: the study's)", metavar="M", default=None)
    fixed_size: int | None = setting(
        "also run equal-size subsets selected for low, random and high D (default M: the study's)",
        count(at_least=0),
        metavar="M",
        bare=0,
        default=None,
    )
    strategies: bool = setting("also run subsets of the --fixed_size M selected by strategies", default=False)
    only: tuple[str, ...] = setting("run only the cells of these names: 'pro_len4_*'", metavar="NAME", default=())
    dry_run: bool = setting("print the commands, and on stderr the cost, and run nothing", default=False)
    peak: float | None = setting(
        "other studies, --dry_run: TFLOP/s of a device, to estimate hours where no cell has run yet",
        within(above=0, at_most=1e9),
        metavar="TFLOPS",
        default=None,
    )
    workers: int | None = setting(
        "cells run at a time, each with a share of the GPUs or cores (default: 1; on the embedded world one per core)",
        count(at_most=1024),
        default=None,
    )
    check: bool = setting("embedded world: check the world itself, without a study", default=False)
    augment: bool = setting(
        "embedded world: also enlarge a subset by models, for high D, little overlap and at random", default=False
    )
    worlds: bool = setting("embedded world: instead run the equal-budget cells on several worlds", default=False)
    publish: bool = setting(
        "built-in studies: copy results and report (toy: and figures) to their committed places", default=False
    )
    model: str | None = setting("other studies: folder or hub name of the pre-trained model", default=None)
    tokenizer: str | None = setting(
        "other studies: tokenizer of the diversity D (default for opt-1.3b and llama-7b: $LLaMA_path, else LLaMA's)",
        default=None,
    )
    slurm: Path | None = setting(
        "write a script that submits the study's jobs to a cluster, and run nothing", metavar="FILE", default=None
    )
    part: str | None = setting(
        "other studies: make only the data, evaluate only the base model, floor and ceiling (rows), run only the "
        "cells, or only report",
        choices=PARTS,
        default=None,
    )
    no_locks: bool = setting(
        "take no locks, where a file system refuses them: then never start the same work twice at a time", default=False
    )
    prune: bool = setting(
        "other studies: keep only the weights of the best and last step of each tested run", default=False
    )

    def __post_init__(self) -> None:
        check_settings(self)
        check_one_given(self, "profile", "study", "a study that is built in, or a file of your own")
        if self.slurm:
            check_output_file("slurm", self.slurm, {"study": [self.study]})
            check_opening(self.slurm, OPENING)
        for flag in ("seeds", "sizes"):
            values = getattr(self, flag) or ()
            if len(set(values)) < len(values):
                raise InputError(f"--{flag} {' '.join(map(str, values))}: expected each once")
        if self.replicates and self.seeds:
            raise InputError("--replicates and --seeds: give one of them (fresh draws and seeds, or seeds of draw 42)")
        given = {each.name for each in fields(self) if getattr(self, each.name) != each.default}
        for flag in OF_LAUNCHED if isinstance(self.described, ToyProfile) else OF_TOY:
            if flag in given:
                raise InputError(f"--{flag}: not a flag of {shlex.join(self.described.source)}")
        for flag in ("dry_run", "publish", "check") if self.slurm else ():
            if flag in given:
                raise InputError(f"--slurm and --{flag}: give one of them (--slurm runs nothing but writes jobs)")
        if self.publish and self.study:
            raise InputError("--publish: expected a study that is built in (without --study)")
        if self.publish and (self.only or self.sizes):
            raise InputError("--publish: expected the whole grid (without --only and --sizes)")
        if self.publish and self.part not in (None, "report"):
            raise InputError(f"--publish and --part {self.part}: expected all parts or the report")
        for flag in NOT_WITH_WORLDS if self.worlds else ():
            if flag in given:
                raise InputError(f"--worlds and --{flag}: give one of them (--worlds runs the equal-budget cells only)")

    @cached_property
    def described(self) -> Study:
        """The study of the profile or file, before these flags."""
        if self.profile:
            return built_in(self.profile)
        return read_study(self.study, ("--study", str(self.study.resolve())))

    @property
    def toy_workers(self) -> int:
        """Number of cells of the embedded world that run at a time."""
        return self.workers or available_cores()

    @property
    def draws_and_seeds(self) -> Sequence[tuple[int, int]]:
        """(draw, seed) of each replicate."""
        if self.seeds:
            return seeds_of_one_draw(self.seeds)
        if self.replicates or self.worlds:
            return fresh_replicates(self.replicates or worlds.REPLICATES)
        return self.described.replicates

    def changed(self, train_flags: Sequence[str]) -> Study:
        """Returns the study as changed by these flags; InputError for a size that its data does not have."""
        study = self.described
        if train_flags:
            check_train_flags(study.train if isinstance(study, ToyProfile) else study.train_flags, train_flags)
        if self.sizes and study.grid.equal_budget:
            largest_budget(f"--sizes {' '.join(map(str, self.sizes))}", self.sizes, study.grid.ranking_lens)
        sizes, fixed_size = self.sizes or study.grid.sizes, self.fixed_size or study.grid.fixed_size
        study = replace(study, grid=replace(study.grid, sizes=sizes, fixed_size=fixed_size))
        if isinstance(study, ToyProfile):  # the size of other data is not known here
            limit = within(at_most=study.world.train_rows)
            check_flags(vars(self), dict.fromkeys(("sizes", "fixed_size"), limit))
            return replace(study, train=(*study.train, *train_flags))
        model, tokenizer = from_here(self.model) or study.model, from_here(self.tokenizer) or study.tokenizer
        return replace(study, model=model, tokenizer=tokenizer, train_flags=(*study.train_flags, *train_flags))

    def every_cell(self, study: Study) -> list[Cell]:
        """Returns the cells of the study, whatever --only says."""
        if self.worlds:
            return cells_of(replace(study.grid, equal_budget=True), self.draws_and_seeds)
        wanted = {"fixed_size": self.fixed_size is not None, "strategies": self.strategies, "augment": self.augment}
        return cells_of(
            study.grid, self.draws_and_seeds, *(name in study.experiments or wanted[name] for name in EXPERIMENTS)
        )


def run_toy(config: StudyConfig, profile: ToyProfile, command: str, request: StopRequest) -> None:
    """Runs the cells of the small study and makes its report, figures and page."""
    study, every_cell = ToyStudy(profile.root(), profile), config.every_cell(profile)
    cells = chosen(every_cell, config.only)
    if config.dry_run:
        calls = [*study.script(cells), *chain(*study.rows().values())]
        print("\n".join(call.shell() for call in calls), flush=True)
        number = config.toy_workers
        hours = duration(sum(study.expected_work(cells).values()) / number)
        print(f"plan: {len(cells)} cells, about {hours} of missing work with {number} workers", file=sys.stderr)
        return
    check_outputs(study.root)
    expected = study.expected_work(cells, config.check)
    with hold_lock(study.root), Workers(study.root, config.toy_workers, request, expected) as workers:
        if config.check:
            study.prepare(workers, cells)
            workers.run("check", {"check": (study.check,)})
            print((study.root / "check.md").read_text(encoding="utf-8"))
            return
        study.run_grid(workers, cells)
        done = [path for path in map(study.result, every_cell) if path.exists()]
        workers.run("the base model", {"rows": (study.make_rows,), "samples": (study.sample_base, done)})
        workers.run("judged comparisons", {"judged": (study.judge, every_cell)})
        made = (command, workers.took())
        show_outcome(study.root, study.root, profile.title, [*done, *study.rows()], *made)
        if config.publish:
            publish(profile.name, study.root, cells, list(study.rows()), *made)


def run_worlds(config: StudyConfig, profile: ToyProfile, command: str, request: StopRequest) -> None:
    """Runs the equal-budget cells of the small study on several worlds and compares them."""
    cells = config.every_cell(profile)
    if config.dry_run:
        for _, study in worlds.studies(profile):
            print("\n".join(call.shell() for call in study.script(cells)))
        return
    folder = study_root() / "runs" / "worlds"
    took = worlds.run_worlds(profile, cells, config.toy_workers, request, folder)
    if config.publish:
        worlds.publish_worlds(profile, cells, folder, command, took)


def run_launched(config: StudyConfig, study: LaunchedStudy, command: str, request: StopRequest) -> None:
    """Runs the cells of a study on a model and data, or prints or writes their commands."""
    every_cell = config.every_cell(study)
    cells = chosen(every_cell, config.only)
    if config.dry_run:
        print("\n".join(study.script(cells)), flush=True)
        print("\n".join(cost_lines(study, cells, config.peak)), file=sys.stderr)
        return
    parts, failures = (config.part,) if config.part else PARTS, []
    began = time.monotonic()
    folder = study_root() / "runs" / study.name
    if "report" in parts:
        check_outputs(folder)
    if parts != ("report",):
        check_before(study, parts, cells)
    if "data" in parts:
        study.make_data(cells, request)
    if "rows" in parts:  # before the cells: what cannot be tested, or cannot judge, is told before days of training
        study.make_rows(request)
    if "cells" in parts:
        failures = study.run_cells(cells, request, config.prune, config.workers or 1)
    if "report" in parts:
        warn_of_changed(study, every_cell)
        done = [path for path in [*map(study.result, every_cell), *study.rows()] if path.is_file()]
        made = (command, f"{duration(time.monotonic() - began)} this time on {machine_with_gpus()}")
        notes = study.reward_notes()
        show_outcome(folder, study.root, study.title, done, *made, notes, compare_paper=study.compare_paper)
    if failures:
        raise OSError("; ".join([f"{len(failures)} of {len(cells)} cells failed", *failures]))
    if config.part == "report":
        study.check_done(cells)
    if config.publish:
        how = " ".join([f"Made by `{made[0]}`, which took {made[1]}.", *notes])
        publish_results(study.name, folder, [*map(study.result, cells), *study.rows()], how, with_page=True)


def check_before(study: LaunchedStudy, parts: Sequence[str], cells: Sequence[Cell]) -> None:
    """Raises InputError if something that the study names is missing, or what is reused was made in another way."""
    from study.running.made_before import changed_cells, changed_rows, check_data

    study.check_made()
    check_data(study)
    rows = changed_rows(study) if "rows" in parts else ()
    for line in chain(rows, changed_cells(study, cells) if "cells" in parts else ()):
        raise InputError(line)


def warn_of_changed(study: LaunchedStudy, cells: Sequence[Cell]) -> None:
    """Warns of results that the report is made of, and that were made with other settings than the study has now."""
    from study.running.made_before import changed_cells, changed_rows

    for line in chain(changed_rows(study), changed_cells(study, cells)):
        print(f"warning: {line}", file=sys.stderr)


def write_slurm(config: StudyConfig, study: Study, train_flags: Sequence[str]) -> None:
    """Writes the script of the study's jobs. The study on the embedded world is one job, another a task per cell."""
    cells, launched = chosen(config.every_cell(study), config.only), isinstance(study, LaunchedStudy)
    same = {"slurm": None, "study": config.study and config.study.resolve()}
    if launched:  # what the environment says now
        same |= {"model": study.model, "tokenizer": study.tokenizer}
    jobs = Jobs(
        name=study.name,
        cluster=study.cluster,
        logs=(study.root if launched else study.root()) / "logs" / "slurm",
        command=["python", "reproduce.py", *words_of(replace(config, **same))],
        train_flags=train_flags,
        cells=[cell.name for cell in cells] if launched else [],
        num_processes=study.num_processes if launched else 0,
        data_on_gpu=launched and study.data_by_models,
        has_rows=launched and bool(study.rows()),
        environment={name: os.environ[name] for name in REWARD_MODELS if os.environ.get(name)},
    )
    write_jobs(config.slurm, jobs)
    print(f"written: {config.slurm} ({len(cells)} cells); submit it: bash {shlex.quote(str(config.slurm))}")


def parse_args(argv: Sequence[str]) -> tuple[StudyConfig, Study]:
    """Returns the flags, and the study as changed by them and by the training flags after `--`."""
    end = argv.index("--") if "--" in argv else len(argv)
    config = parse_settings(StudyConfig, list(argv[:end]), __doc__)
    return config, config.changed(argv[end + 1 :])


def main(argv: Sequence[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    config, study = parse_args(argv)
    train_flags = argv[argv.index("--") + 1 :] if "--" in argv else ()
    every_run = study.train_flags if isinstance(study, LaunchedStudy) else study.train
    if warning := other_answers(study.max_new_tokens, every_run):
        print(f"warning: {warning}", file=sys.stderr)
    for name in REWARD_MODELS:  # of the environment, for commands that run in other folders
        if os.environ.get(name):
            os.environ[name] = from_here(os.environ[name])
    if config.slurm:
        write_slurm(config, study, train_flags)
        return
    if config.no_locks:
        os.environ[LOCKS] = "no"  # of what this starts, too
    command = shlex.join(["python", "reproduce.py", *argv])
    go = run_launched if isinstance(study, LaunchedStudy) else run_worlds if config.worlds else run_toy
    with stop_requests() as request:
        go(config, study, command, request)


if __name__ == "__main__":
    run(main)
