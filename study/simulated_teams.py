"""Is staged planning worth it? Simulated teams on the embedded world, every one of their cells trained.

Run: cd study; python simulated_teams.py [--teams 20] [--workers N] [--dry_run] [--publish]

Each team has 800 prompts that no other team has, prices, a budget and annotators. It labels a pilot, trains the pilot's
cells, and decides as `labelling/plan.py --pilot_results` does: one more stage, or the split of the rest. What it
decides, and what others would have done with its budget (K = 2, 3 or 4 at once, the plan without a pilot, and the plan
of before with lines on D and max_d), is then trained on its own prompts with its own seed, and scored by the world's
gold reward. Everything is under runs/; started again, the command does what is missing. The prior comes from the
paper's points only, since our small study is of the same world.
"""

import hashlib
import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

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
    study_root,
    within,
)
from data_preprocess.files import hold_lock
from data_preprocess.ranking import SEED, rankings_file
from data_preprocess.subsets import RANDOM
from data_preprocess.toy_world.world import WorldConfig, world_hash, write_world
from labelling.planning.budget import Prices, split_budget
from study.grid import Cell, Grid
from study.running.workers import Workers, duration
from study.toy.toy_profile import ToyProfile
from study.toy.toy_study import StudyOnRankings, ToyStudy

if TYPE_CHECKING:
    from eval_hh.analysis.reward_lines import Law
    from labelling.planning.pilot import Decision
    from labelling.planning.pilot_model import Posterior

LENS = (2, 3, 4)
MOST_TEAMS = 24
N_TEAMS = 20
SECONDS = 8.0  # of a cell, for the progress bar
OLD_PLAN = "max_d"
NOISY = 4.0  # the embedded world's noisiest annotators among its sensitivity worlds
POOL = 800  # prompts of a team
PROFILE = ToyProfile(
    name="simulated_teams",
    title="Simulated teams",
    grid=Grid((), LENS),
    replicates=(),
    train_reward=("--lm_weight", "4", "--num_layers", "3", "--max_steps", "1000"),
    # The small study's settings, with two thirds of its steps.
    train=(
        "--global_batch_size", "16", "--per_device_train_batch_size", "16", "--learning_rate", "5e-4",
        "--max_train_steps", "100", "--checkpointing_step", "50", "--block_size", "160", "--max_prompt", "96",
    ),
    max_new_tokens=48,
    eval_batch_size=90,
    world=WorldConfig(train_rows=POOL * MOST_TEAMS, test_rows=90),
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of team. K = 2 affords 640 prompts in each."""

    name: str
    noise: float  # of its annotators
    prices: Prices
    budget: Decimal


COMPARED = Prices(comparison=Decimal(2))  # a comparison costs twice a response: 4, 9 and 16 a prompt
KINDS = (
    Kind("careful annotators, responses cost", WorldConfig().annotator_noise, Prices(), Decimal(1280)),
    Kind("careful annotators, comparisons cost", WorldConfig().annotator_noise, COMPARED, Decimal(2560)),
    Kind("noisy annotators, responses cost", NOISY, Prices(), Decimal(1280)),
    Kind("noisy annotators, comparisons cost", NOISY, COMPARED, Decimal(2560)),
)


@dataclass(frozen=True)
class Design:
    """What is simulated."""

    profile: ToyProfile = PROFILE
    kinds: tuple[Kind, ...] = KINDS
    pool: int = POOL
    pilot_share: float = 0.2  # of the budget, in the first stage
    max_stages: int = 2

    @property
    def noises(self) -> list[float]:
        return sorted({kind.noise for kind in self.kinds})

    def root(self) -> Path:
        """Returns runs/simulated_teams-<hash>, one folder per code of the world and design."""
        made_of = json.dumps([world_hash(replace(self.profile.world, train_rows=self.pool)), repr(asdict(self))])
        return study_root() / "runs" / f"{self.profile.name}-{hashlib.sha256(made_of.encode()).hexdigest()[:10]}"


@dataclass(frozen=True, kw_only=True)
class TeamsConfig:
    """How many teams to simulate, and how."""

    teams: int = setting(
        "number of teams, of four kinds in turn", within(at_least=8, at_most=MOST_TEAMS), default=N_TEAMS
    )
    workers: int = setting("cells run at a time", count(at_most=1024), default_factory=available_cores)
    dry_run: bool = setting("print what each team pays and trains at least, and run nothing", default=False)
    publish: bool = setting("copy table, chart and the teams' rewards to their committed places", default=False)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Team:
    """One team: its place among the teams decides its kind, its prompts and its seeds."""

    number: int
    design: Design
    root: Path
    shared: ToyStudy  # which has the base model and the reward model

    def task(self, what: str) -> str:
        return f"team_{self.number:02d}_{what}"

    @property
    def kind(self) -> Kind:
        return self.design.kinds[self.number % len(self.design.kinds)]

    @property
    def source(self) -> Path:
        """The data of the world with this team's annotators."""
        return self.root / f"noise_{self.kind.noise:g}" / "data"

    @cached_property
    def study(self) -> StudyOnRankings:
        """The cells on the whole pool: what a budget buys."""
        return StudyOnRankings(self.root / self.task("pool"), self.design.profile, self.shared)

    def pilot_size(self, stage: int) -> int:
        """Returns the prompts labelled when a stage, from 1 on, is over."""
        from labelling.planning.pilot import pilot_size

        return stage * pilot_size(self.kind.budget, self.kind.prices, max(LENS), self.design.pilot_share)

    def pilot(self, stage: int) -> StudyOnRankings:
        return StudyOnRankings(self.root / self.task(f"pilot_{stage}"), self.design.profile, self.shared)

    def cell(self, ranking_len: int, size: int, draw: int = SEED, selection: str = RANDOM) -> Cell:
        """Returns the cell of a setting; a seed is used by one team and draw only."""
        return Cell("SFT", ranking_len, size, selection, seed=10 * self.number + draw, draw=draw)

    def pilot_cells(self, stage: int) -> list[Cell]:
        from labelling.planning.pilot import DRAWS, pilot_cells

        later = DRAWS * (stage - 1)  # each stage has draws of its own
        return [self.cell(k, size, draw + later) for k, size, draw in pilot_cells(LENS, self.pilot_size(stage))]

    def split_cell(self, ranking_len: int, stages: int = 0) -> Cell:
        """Returns the cell of the split at K that is affordable after some stages of the pilot."""
        labelled = self.pilot_size(stages)
        splits = split_budget(self.kind.budget, self.kind.prices, LENS, self.design.pool, labelled)
        return self.cell(ranking_len, next(one.size for one in splits if one.ranking_len == ranking_len))

    # Tasks

    def make_data(self) -> None:
        """Writes the pool and the pilots, whose prompts are the first of the pool, which is in random order."""
        first = self.design.pool * self.number
        rankings = rankings_file(self.source, max(LENS)).read_text(encoding="utf-8").splitlines(keepends=True)
        own = rankings[first : first + self.design.pool]
        self.study.write_rankings(self.source, own, max(LENS))
        for stage in range(1, self.design.max_stages + 1):
            self.pilot(stage).write_rankings(self.source, own[: self.pilot_size(stage)], max(LENS))

    # Decisions

    def posterior(self, stages: int) -> "Posterior":
        """Returns the fit to the cells of some stages."""
        import numpy as np

        from labelling.planning.pilot import paper_studies
        from labelling.planning.pilot_model import PilotCells, fit, weak_prior

        rows = [
            (cell.ranking_len, cell.num_prompts, cell.draw, self.pilot(stage).reward(cell))
            for stage in range(1, stages + 1)
            for cell in self.pilot_cells(stage)
        ]
        return fit(PilotCells(*map(np.array, zip(*rows, strict=True))), weak_prior(paper_studies()))

    def decide(self, stages: int) -> "Decision":
        """Returns the decision after some stages."""
        from labelling.planning.pilot import Stage, decide

        more = Stage(self.pilot_size(1) if stages < self.design.max_stages else 0, self.pilot_size(stages + 1))
        spent = self.kind.budget, self.kind.prices, LENS, self.design.pool, self.pilot_size(stages)
        return decide(self.posterior(stages), *spent, more)

    def without_pilot(self) -> int:
        """Returns the K that the prior alone expects most of."""
        import numpy as np

        from labelling.planning.pilot import paper_studies
        from labelling.planning.pilot_model import design, weak_prior

        cells = [self.split_cell(k) for k in LENS]
        lens, sizes = [one.ranking_len for one in cells], [one.num_prompts for one in cells]
        rows = design(lens, sizes, float(np.mean(np.log2(sizes))))
        return LENS[int(np.argmax(rows[:, 1:] @ weak_prior(paper_studies()).mean))]

    def old_plan_cell(self) -> Cell:
        """Returns the cell of the earlier planner: our small study's lines on D, extrapolated, and max_d."""
        from data_preprocess.dialogue import render_prompt
        from data_preprocess.hub import load_tokenizer
        from data_preprocess.ngrams.token_ids import encode_prompts
        from data_preprocess.records import load_records
        from eval_hh.analysis.reward_lines import recommend
        from labelling.planning.budget import choose_prompts

        law = our_law()
        texts = [render_prompt(one.prefix) for one in load_records(rankings_file(self.study.root / "data", max(LENS)))]
        token_ids = encode_prompts(load_tokenizer(str(self.shared.world / "tokenizer")), texts)
        sizes = {k: self.split_cell(k).num_prompts for k in LENS}
        chosen = choose_prompts(token_ids, list(sizes.values()), OLD_PLAN)
        outlooks = {k: law.outlook(k, chosen[size].diversity, extrapolate=True).prediction for k, size in sizes.items()}
        k = recommend(outlooks).ranking_len
        return self.cell(k, sizes[k], selection=OLD_PLAN)


@cache
def our_law() -> "Law":
    """Returns our small study's lines of SFT on D."""
    from eval_hh.analysis.results import load_results
    from eval_hh.analysis.reward_lines import results_law
    from labelling.planning.pilot import OUR_STUDY

    return results_law(load_results(OUR_STUDY), "SFT", str(OUR_STUDY))[0]


def make_world(root: Path, world: WorldConfig) -> None:
    """Writes the world's data; its texts are the same for annotators of any noise."""
    if not (root / "data" / "toy" / "world.json").exists():
        write_world(root, world)


def cell_tasks(rounds: Iterable[tuple[str, StudyOnRankings, Iterable[Cell]]]) -> dict[str, tuple]:
    """Returns {task: ...} of the cells without a result, one task per study, so that its record of D has one writer."""
    tasks = {}
    for name, study, cells in rounds:
        missing = [cell for cell in dict.fromkeys(cells) if not study.result(cell).exists()]
        if missing:
            tasks[name] = (study.run_cells, missing)
    return tasks


def run_teams(root: Path, teams: Sequence[Team], workers: Workers) -> list[dict]:
    """Runs what is missing of all teams and returns a row of rewards and decisions for each."""
    design, shared = teams[0].design, teams[0].shared
    worlds = {f"noise_{one:g}": replace(design.profile.world, annotator_noise=one) for one in design.noises}
    workers.run("worlds", {name: (make_world, root / name, world) for name, world in worlds.items()})
    workers.run("models", {"base": (shared.train_base,), "reward_model": (shared.train_reward_model,)}, by_steps=True)
    workers.run("pools", {one.task("pool"): (one.make_data,) for one in teams})
    stages = dict.fromkeys(teams, 0)
    for stage in range(1, design.max_stages + 1):
        going_on = [one for one in teams if stage == 1 or stages[one] == stage - 1 and one.decide(stage - 1).goes_on]
        pilots = [(one.task(f"pilot_{stage}"), one.pilot(stage), one.pilot_cells(stage)) for one in going_on]
        workers.run(f"stage {stage} of the pilots", cell_tasks(pilots))
        stages |= dict.fromkeys(going_on, stage)
    finals = {one: final_cells(one, stages[one]) for one in teams}
    workers.run("splits", cell_tasks([(one.task("splits"), one.study, finals[one].values()) for one in teams]))
    return [team_row(one, stages[one], finals[one]) for one in teams]


def final_cells(team: Team, stages: int) -> dict[str, Cell]:
    """Returns the cell that each policy ends with, by the policy's name."""
    from study.toy.teams_report import FIXED, NO_PILOT, OLD, STAGED

    decision = team.decide(stages)
    return {
        **{FIXED.format(k): team.split_cell(k) for k in LENS},
        NO_PILOT: team.split_cell(team.without_pilot()),
        OLD: team.old_plan_cell(),
        STAGED: team.split_cell(decision.splits[decision.best].ranking_len, stages),
    }


def team_row(team: Team, stages: int, cells: dict[str, Cell]) -> dict:
    """Returns what the report needs of a team, as JSON."""
    from labelling.planning.pilot_model import outlooks

    fixed = [(cell.ranking_len, cell.num_prompts) for cell in map(team.split_cell, LENS)]
    foreseen = outlooks(team.posterior(stages), fixed)
    return {
        "team": team.number,
        "kind": team.kind.name,
        "stages": stages,
        "pilot": team.pilot_size(stages),
        "foreseen": {str(k): [one.low, one.high] for (k, _), one in zip(fixed, foreseen, strict=True)},
        "choices": {
            name: {"K": cell.ranking_len, "M": cell.num_prompts, "reward": team.study.reward(cell)}
            for name, cell in cells.items()
        },
    }


def plan_lines(teams: Sequence[Team], workers: int) -> list[str]:
    """Returns what the teams pay and train at least."""
    lines = []
    for one in teams[: len(teams[0].design.kinds)]:
        sizes = ", ".join(f"K={k} M={one.split_cell(k).num_prompts}" for k in LENS)
        pilot = ", ".join(f"K={cell.ranking_len} M={cell.num_prompts}" for cell in one.pilot_cells(1))
        lines.append(f"{one.kind.name}: {sizes}; pilot {one.pilot_size(1)} prompts: {pilot}")
    n_cells = sum(len(one.pilot_cells(1)) + len(LENS) + 1 for one in teams)
    return [*lines, f"plan: {n_cells} cells or more, about {duration(n_cells * SECONDS / workers)}"]


def make_teams(design: Design, count: int) -> tuple[Path, list[Team]]:
    """Returns (the folder of everything, the teams)."""
    root = design.root()
    shared = ToyStudy(root / f"noise_{design.noises[0]:g}", design.profile)
    return root, [Team(number, design, root, shared) for number in range(count)]


def main(argv: list[str] | None = None) -> None:
    from study.toy.teams_report import publish_teams, write_teams_report

    config = parse_settings(TeamsConfig, argv, __doc__)
    command = shlex.join(["python", "simulated_teams.py", *(sys.argv[1:] if argv is None else argv)])
    root, teams = make_teams(Design(), config.teams)
    if config.dry_run:
        print("\n".join(plan_lines(teams, config.workers)))
        return
    with stop_requests() as request:
        rows, took = simulate(root, teams, config.workers, request)
    report = write_teams_report(root, rows, f"Made by `{command}`, whose tasks took {took}.")
    print(report)
    if config.publish:
        publish_teams(root)


def simulate(root: Path, teams: Sequence[Team], workers: int, request: StopRequest) -> tuple[list[dict], str]:
    """Returns (a row per team, how long it took)."""
    cells = {one.task("pilot_1"): SECONDS * len(one.pilot_cells(1)) for one in teams}
    cells |= {one.task("splits"): SECONDS * (len(LENS) + 2) for one in teams}
    root.mkdir(parents=True, exist_ok=True)
    with hold_lock(root), Workers(root, workers, request, {"base": 80.0, "reward_model": 60.0, **cells}) as pool:
        return run_teams(root, teams, pool), pool.took()


if __name__ == "__main__":
    run(main)
