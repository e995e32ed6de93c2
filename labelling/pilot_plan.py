"""The two steps of a plan with a pilot (plan.py): what to label first, and what its cells say of the rest."""

import shlex
from pathlib import Path

import numpy as np
import yaml

from data_preprocess.command import InputError, study_root
from data_preprocess.dialogue import render_prompt
from data_preprocess.files import atomic_write
from data_preprocess.hub import looks_like_path
from data_preprocess.ngrams.token_ids import TokenIds
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.preparing.export import write_prompts
from data_preprocess.preparing.prompt_pool import load_pool
from eval_hh.analysis.results import load_results
from labelling.budget import choose_prompts
from labelling.pilot import LEAST_PROMPTS, Decision, cells_of, decide, default_prior, pilot_cells, pilot_size
from labelling.pilot_model import PilotCells, fit
from labelling.plan_config import PlanConfig
from labelling.plan_warnings import budget_warnings, edge_warning

# Of the pilot's prompts: those that select the checkpoints of its cells and those that test them.
DEV_SHARE, TEST_SHARE = 0.1, 0.2
LABELS = "labels.csv"
ALGORITHM = "PRO"


def plan_pilot(config: PlanConfig, pool: list[Candidates], token_ids: TokenIds) -> None:
    """Prints which pilot to label, and writes its prompts and the study of its cells."""
    money, largest = config.spending, max(config.ranking_lens)
    size = pilot_size(money.budget, money.prices, largest, config.pilot)
    if size > len(pool):
        raise InputError(
            f"--pilot {config.pilot:g}: {size:,} prompts, but the pool has {len(pool):,} (expected a smaller share)"
        )
    n_dev, n_test = max(1, round(DEV_SHARE * size)), max(1, round(TEST_SHARE * size))
    n_train = size - n_dev - n_test
    if n_train < LEAST_PROMPTS:
        cost = f"{size:,} prompts with {largest} responses"
        raise InputError(
            f"--pilot {config.pilot:g}: buys {cost} (expected {LEAST_PROMPTS} or more besides dev and test)"
        )
    price = money.prices.of_prompt(largest)
    cells = sorted({(k, m) for k, m, _ in pilot_cells(config.ranking_lens, n_train)})
    print(
        f"pilot:  {size:,} prompts with {largest} responses each, {size * price:,} of {money.budget:,} {money.unit}; "
        f"{n_train:,} to train on, {n_dev:,} dev, {n_test:,} test\n"
        f"cells:  {', '.join(f'K = {k} M = {m:,}' for k, m in cells)}, each on two draws (rankings of fewer responses "
        f"and smaller subsets are cut from the pilot's for free)"
    )
    if config.output:
        chosen = choose_prompts(token_ids, [size], config.select, config.match_length)[size]
        write_prompts(config.output, [pool[index] for index in chosen.indices])
        print(f"{config.output}: the pilot's prompts, to be given {largest} responses each")
    if config.study:
        write_study(config, n_train, n_dev, n_test)
        print("\n".join(next_steps(config)))


def write_study(config: PlanConfig, n_train: int, n_dev: int, n_test: int) -> None:
    """Writes the study file of the pilot's cells, for reproduce.py --study."""
    cells = pilot_cells(config.ranking_lens, n_train)
    lens, sizes, draws = (sorted(set(values), reverse=True) for values in zip(*cells, strict=True))
    scorer = from_here(config.reward_model)
    rewards = {"rewards": {"dev": scorer, "test": scorer}} if scorer else {}
    study = {
        "name": config.study.stem,
        "model": from_here(config.model),
        **rewards,
        "prepare": {
            "source": str(config.output.resolve()), "join": str(config.study.resolve().parent / LABELS),
            "ranking_len": max(config.ranking_lens), "dev_rows": n_dev, "test_rows": n_test,
        },
        "grid": {
            "sizes": sizes, "ranking_lens": lens, "algorithms": [config.algorithm or ALGORITHM],
            "replicates": len(draws),
        },
    }  # fmt: skip
    with atomic_write(config.study) as file:
        file.write(
            "# A pilot, written by labelling/plan.py. Add training:, generation: and machine: as your model needs\n"
        )
        file.write(f"# (study/README.md); {LABELS} beside this file holds the labels (data_preprocess/README.md).\n")
        yaml.safe_dump(study, file, sort_keys=False, default_flow_style=None, width=120)


def from_here(name: str | None) -> str | None:
    """Returns a path as an absolute one, and a hub name unchanged: the study file lies elsewhere."""
    return str(Path(name).expanduser().resolve()) if name and (looks_like_path(name) or Path(name).exists()) else name


def next_steps(config: PlanConfig) -> list[str]:
    """Returns the commands that lead from the pilot's prompts to the plan of the rest."""
    study, results = config.study.resolve(), study_root() / "runs" / config.study.stem / "eval_hh" / "results"
    again = shlex.join(["python", "plan.py", config.source, *config.words_again])
    then = shlex.join(["--pilot_results", str(results), "--labelled", str(config.output)])
    return [
        f"{config.study}: the study of its cells",
        "next:",
        f"  1. put answers and judgements into {study.parent / LABELS}",
        f"  2. in the repository: python reproduce.py --study {shlex.quote(str(study))}",
        f"  3. here: {again} {then}",
    ]


def plan_rest(config: PlanConfig, pool: list[Candidates], token_ids: TokenIds) -> None:
    """Prints what a pilot's results say of the rest of the budget, and writes the prompts to label next."""
    money, labelled = config.spending, find_labelled(config, pool)
    cells, source = load_cells(config)
    prior = default_prior()
    posterior = fit(cells, prior)
    decision = decide(
        posterior, money.budget, money.prices, config.ranking_lens, len(pool), len(labelled), len(labelled)
    )
    spreads = posterior.weights @ posterior.spreads
    print(
        f"pilot:  {len(labelled):,} prompts labelled at K = {max(config.ranking_lens)}; {len(cells.rewards)} {source}\n"
        f"fit:    reward on log M, log K and both, weak prior from {prior.source}; standard deviation {spreads[0]:.1f} "
        f"points between draws, {spreads[1]:.1f} between cells of a draw\n"
    )
    print("\n".join([*format_decision(decision), ""]))
    print("\n".join(f"warning: {line}." for line in warnings(config, decision, cells, len(pool))))
    write_next(config, decision, pool, token_ids, labelled)


def find_labelled(config: PlanConfig, pool: list[Candidates]) -> set[int]:
    """Returns the indices of the labelled prompts in the pool. InputError names how many it does not have."""
    place = {render_prompt(one.prefix): index for index, one in enumerate(pool)}
    found: set[int] = set()
    for source in config.labelled:
        texts = [render_prompt(one.prefix) for one in load_pool(source)[0]]
        unknown = sum(text not in place for text in texts)
        if unknown:
            raise InputError(
                f"--labelled {source}: {unknown} of {len(texts)} prompts are not in the pool {config.source}"
            )
        found |= {place[text] for text in texts}
    return found


def load_cells(config: PlanConfig) -> tuple[PilotCells, str]:
    """Returns the pilot's cells and what they are, in words. InputError where they cannot tell K from M."""
    parts, algorithms = [], set()
    for folder in config.pilot_results:
        results = load_results(folder)
        for line in results.warnings:
            print(f"warning: {line}")
        algorithms |= set(results.values_of("algorithm"))
        parts.append(results)
    wanted = config.algorithm or (algorithms.pop() if len(algorithms) == 1 else None)
    if not wanted:
        found = " and ".join(sorted(algorithms)) or "no result files of random subsets"
        raise InputError(f"--pilot_results: {found} (expected one algorithm, or --algorithm to name it)")
    folders = ", ".join(config.pilot_results)
    cells = [cells_of(results, wanted) for results in parts]
    # Two stages draw from different prompts, so that their draws are not the same.
    draws = np.concatenate([1000 * stage + one.draws for stage, one in enumerate(cells)])
    lens, sizes, rewards = (
        np.concatenate([getattr(one, name) for one in cells]) for name in ("ranking_lens", "sizes", "rewards")
    )
    if len(set(lens)) < 2 or len(set(sizes)) < 2:
        found = f"{len(lens)} {wanted} cells of K = {sorted(set(lens.tolist()))}, M = {sorted(set(sizes.tolist()))}"
        raise InputError(f"--pilot_results {folders}: {found} (expected two or more K and two or more M)")
    return PilotCells(lens, sizes, draws, rewards), f"{wanted} cells of {folders}"


def format_decision(decision: Decision) -> list[str]:
    """Returns the table of the splits and the recommendation."""
    lines = [f"K       M {'cost':>10}   {'expected reward x 100 (95%)':<30} P(best)   expected regret"]
    for split, one in zip(decision.splits, decision.outlooks, strict=True):
        reward = f"{one.reward:.1f} ({one.low:.1f} to {one.high:.1f})"
        head = f"{split.ranking_len} {split.size:>7,} {split.cost:>10,}"
        lines.append(f"{head}   {reward:<30} {one.p_best:>7.2f}   {one.regret:>15.2f}")
    best = decision.splits[decision.best]
    now = f"label the rest with K = {best.ranking_len}, M = {best.size:,} in all"
    lines += ["", "Intervals: 95% credible intervals of the expected reward over new draws and seeds."]
    if decision.gain == float("-inf"):
        return [*lines, f"recommended: {now} (the budget or the pool has no room for another stage)"]
    more = f"one more stage of {decision.stage:,} prompts: expected gain {decision.gain:+.2f} points over deciding now"
    return [*lines, f"recommended: {f'{more}; label them first' if decision.goes_on else f'{now} ({more})'}"]


def warnings(config: PlanConfig, decision: Decision, cells: PilotCells, pool_size: int) -> list[str]:
    """Returns what the plan must be read with."""
    money, best = config.spending, decision.splits[decision.best]
    found = budget_warnings(decision.splits, money.budget, money.prices, pool_size)
    found += edge_warning(best.ranking_len, config.ranking_lens)
    reach = best.size / cells.sizes.max()
    if reach > 2:
        found.append(
            f"M = {best.size:,} is {reach:.1f} times the largest M of the pilot: that reward is a line in log M that "
            "far, with a slope that depends on log K, is assumed and not measured"
        )
    if decision.outlooks[decision.best].p_best < 0.8:
        found.append("the splits are undecided: no K is the best with a probability of 0.8")
    return found


def write_next(
    config: PlanConfig, decision: Decision, pool: list[Candidates], token_ids: TokenIds, labelled: set[int]
) -> None:
    """Writes the prompts to label next, if --output is given: those of the next stage, or of the rest."""
    splits = {one.ranking_len: one for one in decision.splits}
    if config.ranking_len is not None and config.ranking_len not in splits:
        raise InputError(f"--ranking_len: {config.ranking_len} (expected one of {', '.join(map(str, splits))})")
    if not config.output:
        return
    if decision.goes_on and config.ranking_len is None:
        ranking_len, n_more = max(config.ranking_lens), decision.stage
    else:
        split = splits[config.ranking_len] if config.ranking_len else decision.splits[decision.best]
        ranking_len, n_more = split.ranking_len, split.size - len(labelled)
    rest = [index for index in range(len(pool)) if index not in labelled]
    if not n_more:
        raise InputError(
            f"--output: no prompt is left to label with K = {ranking_len} (expected a larger budget or pool)"
        )
    chosen = choose_prompts(token_ids.take(rest), [n_more], config.select, config.match_length)[n_more]
    write_prompts(config.output, [pool[rest[place]] for place in chosen.indices])
    print(f"{config.output}: {n_more:,} prompts, to be given {ranking_len} responses each")
