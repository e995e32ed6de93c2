"""The two steps of a plan with a pilot (plan.py): what to label first, and what its cells say of the rest."""

import math
import shlex
from pathlib import Path

import numpy as np
import yaml

from data_preprocess.command import InputError, study_root
from data_preprocess.files import atomic_write
from data_preprocess.hub import from_here
from data_preprocess.ngrams.token_ids import TokenIds
from data_preprocess.preparing.candidates import Candidates, prompt_id
from data_preprocess.preparing.export import write_prompts
from data_preprocess.preparing.prompt_pool import load_pool
from eval_hh.analysis.comparable import fact_that_differs
from eval_hh.analysis.results import Results, load_results
from labelling.planning.budget import choose_prompts
from labelling.planning.pilot import (
    LEAST_PROMPTS,
    Decision,
    Parts,
    Stage,
    cells_of,
    decide,
    default_prior,
    pilot_cells,
    pilot_size,
)
from labelling.planning.pilot_model import PilotCells, fit
from labelling.planning.plan_config import STUDY_OPENING, PlanConfig
from labelling.planning.plan_warnings import budget_warnings, edge_warning

LABELS = "labels.csv"
ALGORITHM = "PRO"


def plan_pilot(config: PlanConfig, pool: list[Candidates], token_ids: TokenIds) -> None:
    """Prints which pilot to label, and writes its prompts and the study of its cells."""
    money, largest = config.spending, max(config.ranking_lens)
    size = pilot_size(money.budget, money.prices, largest, config.pilot)
    parts, price = Parts.of(size), money.prices.of_prompt(largest)
    where = f"--pilot {config.pilot:g}"
    if size > len(pool):
        raise InputError(f"{where}: {size:,} prompts, but the pool has {len(pool):,} (expected a smaller share)")
    if parts.train < LEAST_PROMPTS:
        found = f"buys {size:,} prompts with {largest} responses"
        raise InputError(f"{where}: {found} (expected {LEAST_PROMPTS} or more besides dev, test and spare)")
    cells = sorted({(k, m) for k, m, _ in pilot_cells(config.ranking_lens, parts.train)})
    print(
        f"pilot:  {size:,} prompts with {largest} responses each, {size * price:,} of {money.budget:,} {money.unit}; "
        f"{parts.train:,} to train on, {parts.dev:,} dev, {parts.test:,} test, {parts.spare:,} spare\n"
        f"cells:  {', '.join(f'K = {k} M = {m:,}' for k, m in cells)}, each on two draws (rankings of fewer responses "
        f"and smaller subsets are cut from the pilot's for free)"
    )
    if config.output:
        chosen = choose_prompts(token_ids, [size], config.select, config.match_length)[size]
        write_prompts(config.output, [pool[index] for index in chosen.indices])
        print(f"{config.output}: the pilot's prompts, to be given {largest} responses each")
    if config.study:
        write_study(config, config.output, size)


def write_study(config: PlanConfig, prompts: Path, size: int) -> None:
    """Writes the study of a pilot's cells, for reproduce.py --study, and prints what comes next.

    Args:
        config: names the study's file, model, reward model and algorithm.
        prompts: the file of all prompts that are or will be labelled.
        size: their number.
    """
    parts, study = Parts.of(size), config.study.resolve()
    cells = pilot_cells(config.ranking_lens, parts.train)
    lens, sizes, draws = (sorted(set(values), reverse=True) for values in zip(*cells, strict=True))
    scorer = from_here(config.reward_model)
    rewards = {"rewards": {"dev": scorer, "test": scorer}} if scorer else {}
    described = {
        "name": study.stem,
        "model": from_here(config.model),
        **rewards,
        "prepare": {
            "source": str(prompts.resolve()), "join": str(study.parent / LABELS),
            "ranking_len": max(config.ranking_lens), "dev_rows": parts.dev, "test_rows": parts.test,
        },
        "grid": {
            "sizes": sizes, "ranking_lens": lens, "algorithms": [config.algorithm or ALGORITHM],
            "replicates": len(draws),
        },
    }  # fmt: skip
    with atomic_write(config.study) as file:
        file.write(f"{STUDY_OPENING} Add training:, generation: and machine: as your model\n")
        file.write(
            f"# needs (study/README.md). {LABELS} beside this file holds all labels (data_preprocess/README.md).\n"
        )
        yaml.safe_dump(described, file, sort_keys=False, default_flow_style=None, width=120)
    print("\n".join(next_steps(config)))


def next_steps(config: PlanConfig) -> list[str]:
    """Returns the commands that lead from the prompts of a stage to the next plan."""
    study, results = config.study.resolve(), study_root() / "runs" / config.study.stem / "eval_hh" / "results"
    again = ["python", "plan.py", config.source, *config.words_again]
    again += ["--pilot_results", *(config.pilot_results or ()), str(results)]
    again += ["--labelled", *config.labelled, str(config.output)]
    return [
        f"{config.study}: the study of its cells",
        "next:",
        f"  1. put the answers and judgements of all stages into {study.parent / LABELS}",
        f"  2. in the repository: python reproduce.py --study {shlex.quote(str(study))}",
        f"  3. here: {shlex.join(again)}",
    ]


def plan_rest(config: PlanConfig, pool: list[Candidates], token_ids: TokenIds) -> None:
    """Prints what a pilot's results say of the rest of the budget, and writes the prompts to label next."""
    money, labelled = config.spending, find_labelled(config, pool)
    stages = load_stages(config)
    cells, source = join_cells(config, stages)
    prior = default_prior()
    posterior = fit(cells, prior)
    stage = Stage(len(labelled), Parts.of(2 * len(labelled)).train)
    decision = decide(posterior, money.budget, money.prices, config.ranking_lens, len(pool), len(labelled), stage)
    spreads = posterior.weights @ posterior.spreads
    print(
        f"pilot:  {len(labelled):,} prompts labelled at K = {max(config.ranking_lens)}; {len(cells.rewards)} {source}\n"
        f"fit:    reward on log M, log K and both, weak prior from {prior.source}; standard deviation {spreads[0]:.1f} "
        f"points between draws, {spreads[1]:.1f} between cells of a draw\n"
    )
    print("\n".join([*format_decision(decision, all(one.scale().can_judge for one in stages)), ""]))
    said = missing_cells(config, stages) + warnings(config, decision, cells, len(pool))
    print("\n".join(f"warning: {line}." for line in said))
    write_next(config, decision, pool, token_ids, labelled)


def find_labelled(config: PlanConfig, pool: list[Candidates]) -> set[int]:
    """Returns the indices of the labelled prompts in the pool. InputError names how many it does not have."""
    place = {prompt_id(one.turns): index for index, one in enumerate(pool)}
    found: set[int] = set()
    for source in config.labelled:
        ids = [prompt_id(one.turns) for one in load_pool(source)[0]]
        unknown = sum(one not in place for one in ids)
        if unknown:
            problem = f"{unknown} of {len(ids)} prompts are not in the pool {config.source}"
            raise InputError(f"--labelled {source}: {problem} (expected prompts that --pilot chose from it)")
        found |= {place[one] for one in ids}
    return found


def load_stages(config: PlanConfig) -> list[Results]:
    """Returns the results of the pilot's stages, and prints their warnings.

    InputError where a reward is not shown to tell good responses from bad: it recommends nothing, and --ranking_len
    must say which K to take.
    """
    stages = []
    for folder in config.pilot_results:
        results = load_results(folder)
        scale = results.scale()
        if not scale.can_judge and config.ranking_len is None:
            expected = "expected rewards that judge, or --ranking_len with a K of your own choice"
            raise InputError(f"--pilot_results {folder}: {scale.note} ({expected})")
        for line in results.warnings:
            print(f"warning: {line}")
        stages.append(results)
    check_same_study({folder: one for folder, one in zip(config.pilot_results, stages, strict=True) if one.cells})
    return stages


def check_same_study(stages: dict[str, Results]) -> None:
    """Raises InputError where stages differ in model, reward, world or evaluation, or have a cell in common."""
    seen: dict[tuple, str] = {}
    for folder, results in stages.items():
        first = next(iter(stages))
        ours, its = stages[first].first.shared_facts, results.first.shared_facts
        name = fact_that_differs(ours, its)
        if name:
            found = f"{name}: {its[name]}, but {ours[name]} in {first}"
            raise InputError(f"--pilot_results {folder}: {found} (expected stages made alike)")
        for cell in results.cells:
            values = cell.setting, cell.replicate, tuple(cell.values("Global"))
            if seen.setdefault(values, folder) != folder:
                found = f"{cell}: the rewards of {seen[values]}'s"
                raise InputError(f"--pilot_results {folder}: {found} (expected each stage once)")


def missing_cells(config: PlanConfig, stages: list[Results]) -> list[str]:
    """Returns a warning for each stage that lacks cells of its K x M x draws, as where a run failed."""
    found = []
    for folder, results in zip(config.pilot_results, stages, strict=True):
        cells = {(one.setting, one.replicate.draw) for one in results.cells if one.setting in results.random}
        for algorithm in {setting.algorithm for setting, _ in cells}:
            own = [(one.ranking_len, one.num_prompts, draw) for one, draw in cells if one.algorithm == algorithm]
            expected = math.prod(len(set(values)) for values in zip(*own, strict=True))
            if len(own) < expected:
                found.append(f"{folder}: {len(own)} of the {expected} {algorithm} cells that its K, M and draws make")
    return found


def join_cells(config: PlanConfig, stages: list[Results]) -> tuple[PilotCells, str]:
    """Returns the cells of all stages and what they are, in words. InputError where they cannot tell K from M."""
    algorithms = {name for results in stages for name in results.values_of("algorithm")}
    wanted = config.algorithm or (algorithms.pop() if len(algorithms) == 1 else None)
    if not wanted:
        found = " and ".join(sorted(algorithms)) or "no result files of random subsets"
        raise InputError(f"--pilot_results: {found} (expected one algorithm, or --algorithm to name it)")
    folders = ", ".join(config.pilot_results)
    cells = [cells_of(results, wanted) for results in stages]
    # Two stages draw from different prompts, so that their draws are not the same.
    draws = np.concatenate([1000 * stage + one.draws for stage, one in enumerate(cells)])
    lens, sizes, rewards = (
        np.concatenate([getattr(one, name) for one in cells]) for name in ("ranking_lens", "sizes", "rewards")
    )
    if len(set(lens)) < 2 or len(set(sizes)) < 2:
        found = f"{len(lens)} {wanted} cells of K = {sorted(set(lens.tolist()))}, M = {sorted(set(sizes.tolist()))}"
        raise InputError(f"--pilot_results {folders}: {found} (expected two or more K and two or more M)")
    if max(lens) != max(config.ranking_lens):
        words = f"{' '.join(map(str, config.ranking_lens))}: the largest K of the pilot's cells is {max(lens)}"
        expected = "expected the --ranking_lens of --pilot, whose labels were paid at the largest"
        raise InputError(f"--ranking_lens {words} ({expected})")
    return PilotCells(lens, sizes, draws, rewards), f"{wanted} cells of {folders}"


def format_decision(decision: Decision, can_judge: bool = True) -> list[str]:
    """Returns the table of the splits and the recommendation, if the reward can judge."""
    lines = [f"K       M {'cost':>10}   {'expected reward x 100 (95%)':<30} P(best)   expected regret"]
    for split, one in zip(decision.splits, decision.outlooks, strict=True):
        reward = f"{one.reward:.1f} ({one.low:.1f} to {one.high:.1f})"
        head = f"{split.ranking_len} {split.size:>7,} {split.cost:>10,}"
        lines.append(f"{head}   {reward:<30} {one.p_best:>7.2f}   {one.regret:>15.2f}")
    best = decision.splits[decision.best]
    now = f"label the rest with K = {best.ranking_len}, M = {best.size:,} in all"
    of = "the expected reward over new draws and seeds, on these test prompts"
    lines += ["", f"Intervals: 95% credible intervals of {of}."]
    if not can_judge:
        return [*lines, "recommended: none, the reward is not shown to tell good responses from bad"]
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
    """Writes the prompts to label next, if --output is given: those of the next stage, or of the rest.

    With --study, a next stage has a study too, whose cells have the prompts of all stages.
    """
    splits = {one.ranking_len: one for one in decision.splits}
    if config.ranking_len is not None and config.ranking_len not in splits:
        raise InputError(f"--ranking_len: {config.ranking_len} (expected one of {', '.join(map(str, splits))})")
    if not config.output:
        return
    is_stage = decision.goes_on and config.ranking_len is None
    if is_stage:
        ranking_len, n_more = max(config.ranking_lens), decision.stage
    else:
        split = splits[config.ranking_len] if config.ranking_len else decision.splits[decision.best]
        ranking_len, n_more = split.ranking_len, split.size - len(labelled)
    rest = [index for index in range(len(pool)) if index not in labelled]
    if not n_more:
        found = f"no prompt is left to label with K = {ranking_len}"
        raise InputError(f"--output: {found} (expected a larger budget or pool)")
    chosen = choose_prompts(token_ids.take(rest), [n_more], config.select, config.match_length)[n_more]
    more = [pool[rest[place]] for place in chosen.indices]
    write_prompts(config.output, more)
    print(f"{config.output}: {n_more:,} prompts, to be given {ranking_len} responses each")
    if config.study and is_stage:
        together = config.prompts_of_stages
        write_prompts(together, [*(pool[index] for index in sorted(labelled)), *more])
        write_study(config, together, len(labelled) + n_more)
    elif config.study:
        print(f"{config.study}: not written, since no further stage is labelled")
