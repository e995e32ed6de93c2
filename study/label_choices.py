"""Does it pay to choose what people label? Choices and random controls on the embedded world.

Run: cd study; python label_choices.py [--replicates 8] [--workers N] [--dry_run] [--publish]

Of each prompt two of four responses are labelled: any two, those that the reward model scores highest and lowest, those
with the closest scores or, without a reward model, diverse ones by their words. Or all four responses of some prompts
of a pool are labelled: of any, or of those with the highest or the lowest preference variance under the reward model.
The labels are the world's annotators'; a choice and its control label equally many. PRO and SFT are trained on each and
scored by the world's gold reward. Everything is under runs/toy-<hash>/label_choices, beside the small study, whose
world, base model and reward model it uses; started again, the command does what is missing.
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.command import (
    StopRequest,
    available_cores,
    check_settings,
    count,
    parse_settings,
    run,
    setting,
    stop_requests,
    within,
)
from data_preprocess.files import hold_lock, json_lines, read_jsonl
from data_preprocess.ranking import cut_to, nested_subsets, rankings_file
from data_preprocess.records import read_rows
from eval_hh.analysis.rules import MIN_REPLICATES
from labelling.selecting.diverse_responses import DIVERSE, choose_diverse
from labelling.selecting.score_choices import by_preference_variance, choose_pair
from study.grid import Cell, fresh_replicates
from study.running.workers import Workers, duration
from study.study_file import built_in
from study.toy.choices_report import ALGORITHMS, CHOICES, Choice, publish_choices, row_of, write_choices_report
from study.toy.toy_profile import ToyProfile
from study.toy.toy_study import SECONDS, StudyOnRankings, ToyStudy

MOST_REPLICATES = 50
PROFILE = "toy"


@dataclass(frozen=True, kw_only=True)
class ChoicesConfig:
    """How many replicates to run, and how."""

    replicates: int = setting(
        "number of replicates, each with a draw of prompts and a training seed",
        within(at_least=MIN_REPLICATES, at_most=MOST_REPLICATES),
        default=8,
    )
    workers: int = setting("cells run at a time", count(at_most=1024), default_factory=available_cores)
    dry_run: bool = setting("print what is run, and run nothing", default=False)
    publish: bool = setting("copy report and rows to eval_hh/results/label_choices", default=False)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class ChoiceStudy:
    """All choices on one world.

    Args:
        profile: the small study, with the settings of models, cells and world.
        choices: what is compared.
        replicates: (draw, seed) of each.
    """

    profile: ToyProfile
    choices: Sequence[Choice]
    replicates: Sequence[tuple[int, int]]

    @cached_property
    def shared(self) -> ToyStudy:
        return ToyStudy(self.profile.root(), self.profile)

    @cached_property
    def root(self) -> Path:
        return self.shared.root / "label_choices"

    @property
    def rankings(self) -> Path:
        return rankings_file(self.shared.root / "data", self.profile.world.ranking_len)

    def study(self, choice: Choice, draw: int) -> StudyOnRankings:
        """Returns the cells on what a choice labels in a draw."""
        return StudyOnRankings(self.root / f"{choice.name}_{choice.size}_draw{draw}", self.profile, self.shared)

    def cells(self, choice: Choice, draw: int, seed: int) -> list[Cell]:
        return [Cell(one, choice.ranking_len, choice.size, seed=seed, draw=draw) for one in ALGORITHMS]

    # Tasks

    def scores(self) -> list[list[float]]:
        """Returns the reward model's score of each response in the world's rankings, computed once."""
        from labelling.model_labels import score_rankings

        rows, output = read_rows(self.rankings), self.root / "scores.jsonl"
        prompts, responses = [row["prefix"][0] for row in rows], [row["suffix"] for row in rows]
        return score_rankings(prompts, responses, str(self.shared.reward_model), output, self.profile.eval_batch_size)

    def label(self, draw: int) -> None:
        """Writes what each choice labels in a draw, and its subset."""
        rows = read_rows(self.rankings)
        scores = [row["rewards"] for _, row in read_jsonl(self.root / "scores.jsonl")]
        source = self.shared.root / "data"
        for choice in self.choices:
            study, cells = self.study(choice, draw), self.cells(choice, draw, seed=draw)
            study.write_rankings(source, json_lines(labelled(rows, scores, choice, draw)), choice.ranking_len)
            study.sample(cells)

    def run(self, workers: Workers) -> list[dict]:
        """Runs what is missing and returns a row for each cell."""
        self.shared.prepare(workers, [])
        workers.run("the reward model's scores", {"scores": (self.scores,)})
        workers.run("labels", {f"labels_draw{draw}": (self.label, draw) for draw, _ in self.replicates})
        workers.run("cells", self.cell_tasks())
        return [
            row_of(choice, cell, self.study(choice, cell.draw))
            for (draw, seed), choice in product(self.replicates, self.choices)
            for cell in self.cells(choice, draw, seed)
        ]

    def cell_tasks(self) -> dict[str, tuple]:
        """Returns the tasks of the cells without a result, replicate by replicate."""
        tasks = {}
        for (draw, seed), choice in product(self.replicates, self.choices):
            study = self.study(choice, draw)
            for cell in self.cells(choice, draw, seed):
                if not study.result(cell).exists():
                    tasks[f"{choice.name}_{cell.exp}"] = (study.run_cell, cell)
        return tasks

    def expected_work(self) -> dict[str, float]:
        """Returns {task: approximate seconds}, the weights of the progress bar."""
        cells = {
            name: SECONDS["cell"] + SECONDS["response"] * cell.stage for name, (_, cell) in self.cell_tasks().items()
        }
        labels = {f"labels_draw{draw}": SECONDS["subsets"] * len(self.choices) for draw, _ in self.replicates}
        return {**self.shared.expected_work([]), "scores": SECONDS["rows"], **labels, **cells}


def labelled(rows: Sequence[dict], scores: Sequence[Sequence[float]], choice: Choice, draw: int) -> list[dict]:
    """Returns the rankings that a choice labels in a draw.

    Two of a prompt's responses are chosen for the first prompts of the draw's shuffle, the same ones by each choice.
    Prompts are chosen from the first half of the shuffle, so that they differ between draws; random ones are its first.

    Args:
        rows: rankings of the pool, with the annotators' rewards of all responses, which choose nothing.
        scores: the reward model's, of each row's responses.
        choice: what is labelled.
        draw: seed of the shuffle and of what the choice leaves open.
    """
    rng = Random(f"{choice.name} {draw}")
    half = nested_subsets(list(range(len(rows))), [len(rows) // 2], draw)[len(rows) // 2]
    if choice.of_responses:
        return [cut_to(rows[index], pair_of(rows[index], scores[index], choice, rng)) for index in half[: choice.size]]
    if not choice.is_control:
        ordered = [half[place] for place in by_preference_variance([scores[index] for index in half], rng)]
        half = ordered if choice.how == "highest" else ordered[::-1]
    return [rows[index] for index in half[: choice.size]]


def pair_of(row: dict, scores: Sequence[float], choice: Choice, rng: Random) -> Sequence[int]:
    """Returns the indices of the two responses of a prompt that a choice labels."""
    if choice.how == DIVERSE:
        return choose_diverse(row["suffix"], choice.ranking_len, rng)
    return choose_pair(scores, choice.how, rng)


def plan_lines(found: ChoiceStudy, workers: int) -> list[str]:
    """Returns what is run."""
    lines = [f"{one.words}: {one.size} prompts, K={one.ranking_len}" for one in found.choices]
    seconds = sum(found.expected_work().values())
    return [*lines, f"plan: {len(found.cell_tasks())} cells, about {duration(seconds / workers)}"]


def simulate(found: ChoiceStudy, workers: int, request: StopRequest) -> tuple[list[dict], str]:
    """Returns (a row per cell, how long it took)."""
    found.root.mkdir(parents=True, exist_ok=True)
    with hold_lock(found.shared.root), Workers(found.root, workers, request, found.expected_work()) as pool:
        return found.run(pool), pool.took()


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(ChoicesConfig, argv, __doc__)
    command = shlex.join(["python", "label_choices.py", *(sys.argv[1:] if argv is None else argv)])
    found = ChoiceStudy(built_in(PROFILE), CHOICES, fresh_replicates(config.replicates))
    if config.dry_run:
        print("\n".join(plan_lines(found, config.workers)))
        return
    with stop_requests() as request:
        rows, took = simulate(found, config.workers, request)
    print(write_choices_report(found.root, rows, f"Made by `{command}`, whose tasks took {took}."))
    if config.publish:
        publish_choices(found.root)


if __name__ == "__main__":
    run(main)
