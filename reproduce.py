"""The study as a grid of cells (algorithm x K responses x M prompts x seed), from data to table and figure.

    python reproduce.py --profile toy                     the small study on the embedded world, one seed
    python reproduce.py --profile toy --seeds 42 43 44    the same with error bars
    python reproduce.py --profile toy --check             the world on its own terms, before any study

Every cell is the user's own path: split.py, sample.py, training/main.py, generation.py, rewarding.py, scoring.py,
called in this process's workers, one torch thread each. What is finished is not done again; a killed run goes on
where it was. Everything lies under runs/<profile>-<hash>/, a name that changes with the world and the settings.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from data_preprocess.files import (
    REPOSITORY,
    InputError,
    atomic_write,
    hold_lock,
    machine,
    read_json,
    run,
    study_root,
    write_json,
)
from data_preprocess.toy import WorldConfig, config_hash, write_world
from workers import Workers

PUBLISHED_RESULTS = REPOSITORY / "eval_hh" / "results"
REFERENCE_LOGS = REPOSITORY / "training" / "reference_logs"  # one run's losses per algorithm, to compare yours with


@dataclass(frozen=True)
class Profile:
    """The declared grid and the settings of its models and cells."""

    sizes: tuple[int, ...]  # M; 2N/2, 2N/3 and N of one budget, and one more
    ranking_lens: tuple[int, ...]  # K
    algorithms: tuple[str, ...]
    pretrain: tuple[str, ...]  # flags of pretrain.py
    train_reward: tuple[str, ...]  # flags of train_reward.py
    train: tuple[str, ...]  # flags of main.py, the same for every cell
    max_new_tokens: int
    eval_batch_size: int
    world: WorldConfig = WorldConfig()  # noqa: RUF009 (frozen)


# Chosen by `--check` and by what fits eight minutes on two cores, and frozen before K was compared with K.
TOY = Profile(
    sizes=(48, 120, 160, 240),
    ranking_lens=(2, 3, 4),
    algorithms=("PRO", "SFT"),
    pretrain=(),  # the defaults of pretrain.py and train_reward.py are this world's, but for the reward model's help
    train_reward=("--lm_weight", "2"),
    train=(
        "--global_batch_size", "16", "--per_device_train_batch_size", "16", "--learning_rate", "5e-4",
        "--max_train_steps", "150", "--checkpointing_step", "50", "--block_size", "160", "--max_prompt", "96",
    ),
    max_new_tokens=48,
    eval_batch_size=100,
)  # fmt: skip
PROFILES = {"toy": TOY}


@dataclass(frozen=True, order=True)
class Cell:
    """One point of the grid."""

    algorithm: str
    ranking_len: int
    num_prompts: int
    seed: int

    @property
    def stage(self) -> int:
        return self.ranking_len if self.algorithm == "PRO" else 1

    @property
    def data(self) -> str:
        return f"hh_train_len{self.ranking_len}_{self.num_prompts}"

    @property
    def exp(self) -> str:
        return f"{self.algorithm.lower()}_len{self.ranking_len}_{self.num_prompts}_seed{self.seed}"


def grid(profile: Profile, seeds: Sequence[int]) -> list[Cell]:
    """All cells, seed by seed, the dearest first, so that no worker ends the run alone with a long one."""
    return [
        Cell(algorithm, ranking_len, size, seed)
        for seed in seeds
        for algorithm in profile.algorithms
        for ranking_len in sorted(profile.ranking_lens, reverse=True)
        for size in sorted(profile.sizes, reverse=True)
    ]


class ToyStudy:
    """The embedded world's study under one root folder."""

    def __init__(self, root: Path, profile: Profile):
        self.root = root
        self.profile = profile
        self.world = root / "data" / "toy"
        self.base = root / "checkpoints" / "base"
        self.reward_model = root / "checkpoints" / "reward_model"

    def make_data(self) -> None:
        """The world, its rankings of 2 and 3, and all subsets. Written anew where a kill left it unfinished."""
        from data_preprocess import sample, split

        done = self.root / "data" / "done.json"
        if done.exists():
            return
        write_world(self.root, self.profile.world)
        split.main([])
        sizes = [str(size) for size in sorted(self.profile.sizes, reverse=True)]
        for ranking_len in self.profile.ranking_lens:
            sample.main([str(ranking_len), "--sizes", *sizes, "--tokenizer", str(self.world / "tokenizer")])
        write_json(done, {"sizes": sizes})

    def train_base(self) -> None:
        from training import pretrain

        pretrain.main([
            "--corpus", str(self.world / "pretrain.jsonl"), "--tokenizer", str(self.world / "tokenizer"),
            "--output_dir", str(self.base), *self.profile.pretrain,
        ])  # fmt: skip

    def train_reward_model(self) -> None:
        from training import train_reward

        train_reward.main([
            "--train_file", str(self.world / "reward_train.json"),
            "--heldout_file", str(self.world / "reward_heldout.json"),
            "--tokenizer", str(self.world / "tokenizer"),
            "--output_dir", str(self.reward_model), *self.profile.train_reward,
        ])  # fmt: skip

    def result(self, cell: Cell) -> Path:
        return self.root / "eval_hh" / "results" / f"{cell.exp}_{cell.stage}.json"

    def fine_tune_flags(self, exp: str, stage: int, data: Path, seed: int) -> list[str]:
        """What training/main.py is called with for one cell."""
        return [
            "--do_train", "--do_validation", "--index", exp, "--training_stage_num", str(stage),
            "--seed", str(seed), "--model_name_or_path", str(self.base), "--train_file_path", str(data),
            "--dev_reward_model", str(self.reward_model), "--max_new_tokens", str(self.profile.max_new_tokens),
            "--per_device_eval_batch_size", str(self.profile.eval_batch_size), *self.profile.train,
        ]  # fmt: skip

    def fine_tune(self, exp: str, stage: int, data: Path, seed: int) -> None:
        from training.main import main

        main(self.fine_tune_flags(exp, stage, data, seed))

    def metrics(self, cell: Cell) -> Path:
        return self.root / "logs" / cell.exp / str(cell.stage) / "metrics.jsonl"

    def run_cell(self, cell: Cell) -> None:
        """Trains, generates, scores; each step skips what it finds done."""
        from eval_hh import generation, rewarding, scoring

        self.fine_tune(cell.exp, cell.stage, self.root / "data" / cell.data, cell.seed)
        names = ["--index", cell.exp, "--stage", str(cell.stage)]
        batch = ["--batch_size", str(self.profile.eval_batch_size)]
        generation.main([*names, *batch, "--max_new_tokens", str(self.profile.max_new_tokens)])
        rewarding.main([*names, *batch, "--reward_model", str(self.reward_model)])
        scoring.main([*names, "--profile", "toy"])

    def check(self) -> None:
        """Writes check.md: base, ceiling, SFT on plenty of best responses, D by size, the reward model's accuracy."""
        from eval_hh.world_check import best_responses, check_lines, model_responses

        self.fine_tune("check_sft_plenty", 1, self.world / "plenty.json", seed=42)
        tuned = self.root / "checkpoints" / "index_check_sft_plenty" / "stage_1" / "best_checkpoint"
        how = (self.profile.max_new_tokens, self.profile.eval_batch_size)
        lines = check_lines(
            self.root,
            {
                "base model": model_responses(self.base, *how),
                "SFT on the best of 4, plenty of prompts": model_responses(tuned, *how),
                "ceiling: the world's best responses": best_responses,
            },
            read_json(self.reward_model / "metrics.json"),
        )
        with atomic_write(self.root / "check.md") as file:
            file.write("\n".join(lines) + "\n")


def prepare(study: ToyStudy, workers: Workers) -> None:
    """World, subsets, base model and reward model, each only where it is missing."""
    workers.run("world and subsets", {"data": (study.make_data,)})
    workers.run("base and reward model", {"base": (study.train_base,), "reward_model": (study.train_reward_model,)})


def run_grid(study: ToyStudy, workers: Workers, cells: list[Cell]) -> None:
    """All cells that have no result file yet."""
    missing = [cell for cell in cells if not study.result(cell).exists()]
    waiting = {f"{cell.exp}_{cell.stage}": (study.run_cell, cell) for cell in missing}
    print(f"{len(cells) - len(waiting)} of {len(cells)} cells are done already", file=sys.stderr)
    if waiting:
        workers.run("cells", waiting)


def write_report(study: ToyStudy, cells: list[Cell]) -> str:
    """Report and pictures of these cells under the study's root; returns the report's text."""
    from eval_hh.cells import load_cells
    from eval_hh.report import make_report
    from pics.drawing import draw_budgets, draw_intro, draw_panels
    from pics.figures import cell_facets, cell_points, error_note

    results, warnings = load_cells([study.result(cell) for cell in cells])
    text = make_report(results, warnings)
    with atomic_write(study.root / "report.md") as file:
        file.write(text)
    pictures = study.root / "pics"
    draw_panels(cell_points(results)[0], pictures / "diversity.png", error_note(results))
    draw_budgets(cell_facets(results), pictures / "quantitative.png", error_note(results))
    draw_intro(pictures / "intro.png")
    return text


def publish(study: ToyStudy, cells: list[Cell], text: str, seconds: dict) -> None:
    """Copies results, report, pictures and one log per algorithm to the places that are committed."""
    target = PUBLISHED_RESULTS / "toy"
    fresh = target.with_name("toy.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for cell in cells:
        shutil.copy(study.result(cell), fresh)
    seeds = " ".join(map(str, sorted({cell.seed for cell in cells})))
    made = f"Made by `python reproduce.py --profile toy --seeds {seeds} --publish`, whose tasks took "
    made += f"{seconds['wall'] / 60:.0f} minutes with {seconds['workers']} workers on {machine()}."
    with atomic_write(fresh / "report.md") as file:
        file.write(f"{text.rstrip()}\n\n## How it was made\n\n{made}\n")
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    for picture in (study.root / "pics").glob("*.png"):
        shutil.copy(picture, REPOSITORY / "pics")
    REFERENCE_LOGS.mkdir(exist_ok=True)
    for algorithm in study.profile.algorithms:
        cell = next(cell for cell in cells if cell.algorithm == algorithm)
        shutil.copy(study.metrics(cell), REFERENCE_LOGS / f"{algorithm.lower()}.jsonl")
    print(f"published: {target}, {REPOSITORY / 'pics'}, {REFERENCE_LOGS}")


def root_of(name: str, profile: Profile) -> Path:
    """runs/<profile>-<hash>: a folder of its own for each world and each set of settings."""
    settings = json.dumps([config_hash(profile.world), asdict(profile)], sort_keys=True)
    return study_root() / "runs" / f"{name}-{hashlib.sha256(settings.encode()).hexdigest()[:10]}"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", choices=sorted(PROFILES), required=True, help="which study")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42], help="seeds of fine-tuning")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="cells at a time (default: one a core)")
    parser.add_argument("--check", action="store_true", help="check the world on its own terms instead")
    parser.add_argument("--publish", action="store_true", help="copy results and pictures to their committed places")
    args = parser.parse_args(argv)
    if args.workers < 1:
        raise InputError(f"--workers {args.workers}: expected at least 1")
    if len(set(args.seeds)) < len(args.seeds):
        raise InputError(f"--seeds {' '.join(map(str, args.seeds))}: expected each seed once")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    profile = PROFILES[args.profile]
    study = ToyStudy(root_of(args.profile, profile), profile)
    cells, workers = grid(profile, args.seeds), Workers(study.root, args.workers)
    with hold_lock(study.root):
        prepare(study, workers)
        if args.check:
            workers.run("check", {"check": (study.check,)})
            print((study.root / "check.md").read_text(encoding="utf-8"))
            return
        run_grid(study, workers, cells)
        text = write_report(study, cells)
        print(text)
        print(f"report: {study.root / 'report.md'}, pictures: {study.root / 'pics'}")
        if args.publish:
            publish(study, cells, text, workers.seconds())


if __name__ == "__main__":
    run(main)
