"""Runs a study, a grid of cells (algorithm x K responses x M prompts x seed), from data to table and figures.

    python reproduce.py --profile toy                     the small study on the embedded world, one seed
    python reproduce.py --profile toy --seeds 42 43 44    the same with error bars
    python reproduce.py --profile toy --check             check the world itself, before any study
    python reproduce.py --profile opt-1.3b --dry_run      the commands of the paper's grid (also llama-7b)
    python reproduce.py --profile opt-1.3b --slurm FILE   the same as an array job, one task per cell
    python reproduce.py --profile opt-1.3b --only 'pro_len4_3000_*' -- --max_train_steps 20

Every cell runs the public commands: split.py, sample.py, training, generation, rewarding, scoring. The small study
calls them in its worker processes, one torch thread each, under runs/toy-<hash>/; the hash depends on the world and the
settings. A paper's grid calls the launchers and eval.sh, one cell after another, under STUDY_ROOT. Finished work is not
repeated. A killed run resumes when started again, and so does one that was asked to stop (SIGTERM, SIGUSR1, Ctrl-C),
which ends at the next step or batch. Flags after `--` are passed to every training run.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from data_preprocess.command import (
    InputError,
    StopRequest,
    check_flags,
    check_seed,
    check_text,
    count,
    run,
    stop_requests,
    study_root,
    within,
)
from data_preprocess.files import hold_lock
from data_preprocess.outputs import check_output_file
from data_preprocess.provenance import machine
from study import paper_profiles
from study.finish import show_outcome
from study.grid import Cell, cells_of, chosen
from study.publish import publish
from study.toy_profile import TOY, ToyProfile
from study.toy_study import ToyStudy
from study.workers import Workers, duration

PROFILES = {"toy": TOY, **paper_profiles.PROFILES}
TOY_SEEDS = (42,)
CHECKS = {
    "seeds": check_seed, "sizes": count(), "fixed_size": count(at_least=0), "workers": count(at_most=1024),
    "only": check_text, "model": check_text, "tokenizer": check_text,
}  # fmt: skip


def run_toy(args: argparse.Namespace, cells: list[Cell], every_cell: list[Cell], request: StopRequest) -> None:
    """Runs the cells of the small study and makes its report, figures and page."""
    study = ToyStudy(args.study.root(), args.study)
    if args.dry_run:
        print("\n".join(call.shell() for call in study.script(cells)))
        return
    expected = study.expected_work(cells, check=args.check)
    with hold_lock(study.root), Workers(study.root, args.workers, request, expected) as workers:
        if args.check:
            study.prepare(workers, cells)
            workers.run("check", {"check": (study.check,)})
            print((study.root / "check.md").read_text(encoding="utf-8"))
            return
        study.run_grid(workers, cells)
        done = [path for path in map(study.result, every_cell) if path.exists()]
        workers.run("samples of the base model", {"samples": (study.sample_base, done)})
        made = (args.command, workers.took())
        show_outcome(study.root, study.root, "The small study on the embedded world", done, *made)
        if args.publish:
            publish(args.profile, study.root, cells, *made)


def run_paper(args: argparse.Namespace, cells: list[Cell], every_cell: list[Cell], request: StopRequest) -> None:
    """Runs the cells of one of the paper's grids, or prints or writes their commands."""
    profile = args.study
    tokenizer = args.tokenizer
    if args.dry_run:
        print("\n".join(paper_profiles.shell_script(profile, cells, tokenizer)))
        return
    if args.slurm:
        paper_profiles.write_array_job(args.slurm, profile, cells, tokenizer, args.prune)
        print(f"written: {args.slurm} ({len(cells)} tasks); make the subsets before you submit it:")
        print("\n".join(call.shell() for call in paper_profiles.data_calls(cells, tokenizer)))
        return
    began = time.monotonic()
    paper_profiles.make_data(cells, tokenizer, request)
    failures = paper_profiles.run_cells(profile, cells, request, args.prune)
    done = [path for path in map(paper_profiles.result_file, every_cell) if path.is_file()]
    title = f"The paper's grid of {args.profile}"
    made = (args.command, f"{duration(time.monotonic() - began)} this time on {machine()}")
    show_outcome(study_root() / "runs" / args.profile, study_root(), title, done, *made, compare_paper=True)
    if failures:
        raise OSError("; ".join([f"{len(failures)} of {len(cells)} cells failed", *failures]))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    argv = list(sys.argv[1:] if argv is None else argv)
    own, train_flags = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=sorted(PROFILES), required=True, help="study to run")
    parser.add_argument("--seeds", type=int, nargs="+", help="fine-tuning seeds (default: 42 for toy, else 42 43 44)")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of prompts M (default: the profile's)")
    parser.add_argument(
        "--fixed_size", type=int, nargs="?", const=0, metavar="M",
        help="also run equal-size subsets selected for low, random and high D (default M: the profile's)",
    )  # fmt: skip
    parser.add_argument(
        "--strategies", action="store_true", help="also run subsets of the --fixed_size M selected by strategies"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="run only these cells: 'pro_len4_*'")
    parser.add_argument("--dry_run", action="store_true", help="print the commands and run nothing")
    toy = parser.add_argument_group("toy")
    toy.add_argument("--workers", type=int, default=os.cpu_count(), help="cells run at a time (default: one per core)")
    toy.add_argument("--check", action="store_true", help="check the world itself, without a study")
    toy.add_argument("--augment", action="store_true", help="also enlarge a subset by models, for high D and at random")
    toy.add_argument("--publish", action="store_true", help="copy results and figures to their committed places")
    paper = parser.add_argument_group("opt-1.3b, llama-7b")
    paper.add_argument("--model", help="folder or hub name of the pre-trained model (default: the paper's)")
    paper.add_argument("--tokenizer", help="tokenizer of the diversity D (default: $LLaMA_path, else LLaMA's)")
    paper.add_argument("--slurm", type=Path, metavar="FILE", help="write an array job for a cluster and run nothing")
    paper.add_argument(
        "--prune", action="store_true", help="keep only the weights of the best and last step of each tested run"
    )
    args = parser.parse_args(own)
    check_flags(vars(args), CHECKS)
    args.seeds = args.seeds or list(TOY_SEEDS if args.profile == "toy" else paper_profiles.SEEDS)
    args.command = shlex.join(["python", "reproduce.py", *argv])
    args.study = chosen_study(args, train_flags)
    check_args(args)
    return args


def chosen_study(args: argparse.Namespace, train_flags: list[str]) -> ToyProfile | paper_profiles.PaperProfile:
    """Returns the profile as modified by the flags."""
    profile = PROFILES[args.profile]
    sizes, fixed_size = args.sizes or profile.grid.sizes, args.fixed_size or profile.grid.fixed_size
    profile = replace(profile, grid=replace(profile.grid, sizes=tuple(sizes), fixed_size=fixed_size))
    if isinstance(profile, ToyProfile):
        return replace(profile, train=(*profile.train, *train_flags))
    return replace(profile, model=args.model or paper_profiles.default_model(profile), train_flags=tuple(train_flags))


def check_args(args: argparse.Namespace) -> None:
    """Raises InputError for invalid values and for flags that do not apply to the profile."""
    if args.slurm:
        check_output_file("slurm", args.slurm, {})
    if isinstance(args.study, ToyProfile):  # the size of a paper's data is not known here
        check_flags(vars(args), dict.fromkeys(("sizes", "fixed_size"), within(at_most=args.study.world.train_rows)))
    for flag, values in (("--seeds", args.seeds), ("--sizes", args.sizes or [])):
        if len(set(values)) < len(values):
            raise InputError(f"{flag} {' '.join(map(str, values))}: expected each once")
    foreign = ("model", "tokenizer", "slurm", "prune") if args.profile == "toy" else ("check", "publish", "augment")
    for name in foreign:
        if getattr(args, name):
            raise InputError(f"--{name}: not a flag of --profile {args.profile}")
    if args.publish and (args.only or args.sizes):
        raise InputError("--publish: expected the whole grid (without --only and --sizes)")


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    every_cell = cells_of(args.study.grid, args.seeds, args.fixed_size is not None, args.strategies, args.augment)
    go = run_toy if args.profile == "toy" else run_paper
    with stop_requests() as request:
        go(args, chosen(every_cell, args.only), every_cell, request)


if __name__ == "__main__":
    run(main)
