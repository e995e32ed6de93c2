"""Plans what to label next within a budget: which prompts of a pool, and how many responses to each.

Run: cd labelling
     python plan.py SOURCE --responses N --pilot --output FILE --study FILE --model MODEL    first a pilot
     python plan.py SOURCE --responses N --pilot_results DIR --labelled FILE --output FILE    then the rest
     python plan.py SOURCE --responses N --law paper-pro [--output FILE]                      or without a pilot
     python plan.py SOURCE --budget X --response_cost X ... --results DIR --algorithm PRO

A pilot measures on your own model, prompts and annotators how reward rises with K and M (labelling/README.md). Without
one, lines of reward on the diversity D, one per K, predict the reward of each split: for each K it prints the number of
prompts M that the budget covers, D, the predicted reward and what speaks against believing it. --output writes the
prompts to label as JSONL with ids, ready to be answered and ranked (prepare.py --join).
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.command import InputError, parse_settings, run, study_root
from data_preprocess.dialogue import render_prompt
from data_preprocess.diversity import default_tokenizer, under_root
from data_preprocess.ngrams.token_ids import TokenIds, encode_prompts
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.preparing.export import write_prompts
from data_preprocess.preparing.prompt_pool import load_pool
from data_preprocess.selection import Selection
from data_preprocess.subsets import RANDOM
from eval_hh.analysis.results import load_results
from eval_hh.analysis.reward_lines import LLAMA_PROBE, Law, Outlook, is_llama, paper_law, recommend, results_law
from labelling.planning import plan_warnings
from labelling.planning.budget import (
    STRATIFIED,
    ChosenPrompts,
    Prices,
    Split,
    choose_prompts,
    random_diversity,
    split_budget,
)
from labelling.planning.pilot_plan import plan_pilot, plan_rest
from labelling.planning.plan_config import PAPER_LAWS, PlanConfig, Spending

CHART_STEPS = 60  # budgets in the chart, up to twice the plan's


@dataclass(frozen=True)
class PlannedShare:
    """The plan for one K."""

    split: Split
    choice: ChosenPrompts
    random: Outlook  # of equally many random prompts
    chosen: Outlook


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(PlanConfig, argv, __doc__)
    money = config.spending
    law = load_law(config) if config.law or config.results else None
    pool, dropped, left_out = load_pool(config.source, config.column, config.split, config.drop_duplicates)
    duplicates = f" ({dropped} duplicates dropped)" if dropped else ""
    told = [f"pool:   {len(pool):,} prompts of {config.source}{duplicates}", *(f"        {line}" for line in left_out)]
    if law:
        plan_by_lines(config, money, law, pool, told)
        return
    print("\n".join([*told, f"budget: {money.budget:,} {money.unit}"]))
    (plan_pilot if config.pilot else plan_rest)(config, pool, load_token_ids(config.tokenizer, pool)[1])


def plan_by_lines(config: PlanConfig, money: Spending, law: Law, pool: list[Candidates], told: list[str]) -> None:
    """Prints the plan that lines on D give, and writes its prompts and chart."""
    splits = split_budget(money.budget, money.prices, sorted(law.points), len(pool))
    tokenizer, token_ids, warnings = count_tokens(config, law, pool)
    rows = make_rows(config, law, splits, token_ids)
    print("\n".join([f"lines:  {law.name}, fitted on random prompts", *told, f"D:      counted with {tokenizer}"]))
    print(f"budget: {money.budget:,} {money.unit}\n")
    warnings += plan_warnings.length_warning(law, float(token_ids.lengths.mean()))
    warnings += plan_warnings.budget_warnings(splits, money.budget, money.prices, len(pool))
    print("\n".join([*format_table(config, money.prices, splits, rows), "", *notes(config, rows)]))
    recommended = [] if config.ranking_len else best_lens(rows)
    warnings += [line for k in recommended for line in plan_warnings.edge_warning(k, list(rows))]
    warnings += [*plan_warnings.selection_warning(config.select, config.match_length), plan_warnings.TRANSFER]
    print("\n".join(f"warning: {line}." for line in warnings))
    taken = row_to_take(config, rows)
    if config.chart:
        draw_chart(config, money, law, rows, token_ids)
        print(f"{config.chart}: the chart")
    if config.output:
        write_prompts(config.output, [pool[index] for index in taken.choice.indices])
        print(f"{config.output}: {taken.split.size} prompts, to be given {taken.split.ranking_len} responses each")


def load_law(config: PlanConfig) -> Law:
    """Loads the lines selected by the flags; prints warnings about left-out results to stderr."""
    if config.law:
        law = paper_law(PAPER_LAWS[config.law])
    else:
        results = load_results(config.results, config.profile)
        if not results.cells:
            raise InputError("; ".join([f"{config.results}: no result file to fit lines on", *results.warnings]))
        law, warnings = results_law(results, config.algorithm, config.results)
        for warning in results.warnings + warnings:
            print(f"warning: {warning}", file=sys.stderr)
    if config.ranking_len is not None and config.ranking_len not in law.points:
        lens = ", ".join(map(str, sorted(law.points)))
        raise InputError(f"--ranking_len: {config.ranking_len} (expected one that has a line: {lens})")
    return law


def load_token_ids(name: str | None, pool: list[Candidates]):
    """Returns (the tokenizer, the token ids of the prompts); the tokenizer by default is that of D."""
    from data_preprocess.hub import load_tokenizer

    tokenizer = load_tokenizer(name or default_tokenizer())
    return tokenizer, encode_prompts(tokenizer, [render_prompt(candidates.prefix) for candidates in pool])


def count_tokens(config: PlanConfig, law: Law, pool: list[Candidates]) -> tuple[str, TokenIds, list[str]]:
    """Returns (tokenizer name, token ids of the prompts, warnings), by the tokenizer that counted the D of the lines.

    InputError for another tokenizer, since D is not comparable between tokenizers.
    """
    name = config.tokenizer
    if name is None and law.tokenizer:
        # A record stores a folder under STUDY_ROOT as its relative path.
        inside = study_root() / law.tokenizer
        name = str(inside) if inside.is_dir() else law.tokenizer
    name = name or default_tokenizer()
    tokenizer, token_ids = load_token_ids(name, pool)
    if law.tokenizer is None:
        same = is_llama(tokenizer.encode(LLAMA_PROBE, add_special_tokens=False))
    else:
        same = law.tokenizer in (name, under_root(name))
    if not (same or config.trust_tokenizer):
        wanted = law.tokenizer or "LLaMA's"
        raise InputError(
            f"--tokenizer: {name}, but the lines' D was counted with {wanted} (expected the same tokenizer; "
            "pass --trust_tokenizer if only the name differs)"
        )
    return name, token_ids, plan_warnings.tokenizer_warning(law, name, same)


def make_rows(config: PlanConfig, law: Law, splits: list[Split], token_ids: TokenIds) -> dict[int, PlannedShare]:
    """Returns a PlannedShare for each K that the budget covers."""
    paid = [split for split in splits if split.size]
    sizes = [split.size for split in paid]
    choices = choose_prompts(token_ids, sizes, config.select, config.match_length)
    at_random = random_diversity(token_ids, sizes)
    return {
        split.ranking_len: PlannedShare(
            split,
            choices[split.size],
            law.outlook(split.ranking_len, at_random[split.size], config.extrapolate),
            law.outlook(split.ranking_len, choices[split.size].diversity, config.extrapolate),
        )
        for split in paid
    }


def selects_at_random(config: PlanConfig) -> bool:
    """Whether the prompts are random ones, as those of the lines are."""
    return config.select in (RANDOM, STRATIFIED) and not config.match_length


def format_table(config: PlanConfig, prices: Prices, splits: list[Split], rows: dict[int, PlannedShare]) -> list[str]:
    """Formats a line per K: what is bought, D and predicted reward, for selected prompts beside as many random ones."""
    selection = Selection(config.select, config.match_length).name
    both = [] if selects_at_random(config) else [f"{'random: D, reward x 100':<31}"]
    titles = "   ".join([*both, f"{f'{selection}: D, reward x 100':<31}"])
    lines = [f"K       M {'cost':>10}   {titles} tokens"]
    for split in splits:
        head = f"{split.ranking_len} {split.size:>7,} {split.cost:>10,}"
        if split.size:
            row = rows[split.ranking_len]
            shown = [row.random] * len(both) + [row.chosen]
            lines.append("   ".join([head, *(f"{one!s:<31}" for one in shown)]) + f" {row.choice.tokens:>6.0f}")
        else:
            lines.append(f"{head}   unaffordable: one prompt costs {prices.of_prompt(split.ranking_len):,}")
    return lines


def notes(config: PlanConfig, rows: dict[int, PlannedShare]) -> list[str]:
    """Explains the table and names the recommended split."""
    lines = ["Intervals: 95% prediction intervals for a new subset of K responses."]
    if config.extrapolate and any(one.outside for row in rows.values() for one in (row.random, row.chosen)):
        lines.append("* extrapolated: D is outside the fitted range.")
    if not selects_at_random(config):
        lines.append(f"for random prompts: {advice(rows, {k: row.random for k, row in rows.items()})}")
    return [*lines, f"recommended: {advice(rows, {k: row.chosen for k, row in rows.items()})}"]


def advice(rows: dict[int, PlannedShare], outlooks: dict[int, Outlook]) -> str:
    """Names the split with the highest predicted reward, the K that do not differ from it, and those not compared."""
    predictions = {k: outlook.prediction for k, outlook in outlooks.items() if outlook.prediction}
    if not predictions:
        return "none, D is outside the fitted range"
    left_out = [f"K = {k} not compared (D {one.outside})" for k, one in outlooks.items() if k not in predictions]
    best = recommend(predictions)
    text = f"K = {best.ranking_len}, M = {rows[best.ranking_len].split.size:,}"
    rivals = [
        f"K = {k} (difference {100 * one.value:.1f}, {100 * one.low:.1f} to {100 * one.high:.1f})"
        for k, one in best.rivals.items()
    ]
    others = sorted(set(predictions) - set(best.rivals) - {best.ranking_len})
    parts = [f"undecided against {' and '.join(rivals)}"] if rivals else []
    parts += [f"higher than K = {', '.join(map(str, others))}"] if others else []
    return "; ".join([text, *parts, *left_out])


def best_lens(rows: dict[int, PlannedShare]) -> list[int]:
    """Returns the K with the highest prediction, in a list; empty without a prediction."""
    predictions = {k: row.chosen.prediction for k, row in rows.items() if row.chosen.prediction}
    return [recommend(predictions).ranking_len] if predictions else []


def row_to_take(config: PlanConfig, rows: dict[int, PlannedShare]) -> PlannedShare:
    """Returns the split of --ranking_len, else the recommended one; InputError without a prediction or any prompt."""
    if config.ranking_len is not None:
        if config.ranking_len not in rows:
            found = f"the budget does not cover a single prompt with {config.ranking_len} responses"
            raise InputError(f"--ranking_len: {found}")
        return rows[config.ranking_len]
    for best in best_lens(rows):
        return rows[best]
    reasons = ", ".join(f"K = {k}: {row.chosen.diversity:.2f} is {row.chosen.outside}" for k, row in rows.items())
    found = "no prediction, D is outside the fitted range"
    raise InputError(f"{found} ({reasons}; --extrapolate predicts all the same)")


def draw_chart(
    config: PlanConfig, money: Spending, law: Law, rows: dict[int, PlannedShare], token_ids: TokenIds
) -> None:
    """Draws the predicted reward of random prompts at increasing budgets, and the plan's own splits."""
    from labelling.planning.plan_chart import Curve, Mark, draw_plan

    budgets = [2 * money.budget * step / CHART_STEPS for step in range(1, CHART_STEPS + 1)]
    curves = []
    for ranking_len in sorted(law.points):
        bought = {budget: int(budget // money.prices.of_prompt(ranking_len)) for budget in budgets}
        sizes = {budget: size for budget, size in bought.items() if 1 <= size <= len(token_ids)}
        at_random = random_diversity(token_ids, sorted(set(sizes.values()))) if sizes else {}
        outlooks = [law.outlook(ranking_len, at_random[size], config.extrapolate) for size in sizes.values()]
        rewards = [one.prediction.value if one.prediction else float("nan") for one in outlooks]
        curves.append(Curve(ranking_len, list(map(float, sizes)), rewards, [not one.outside for one in outlooks]))
    marks = [
        Mark(k, float(row.split.cost), expected.value, expected.low, expected.high)
        for k, row in rows.items()
        if (expected := row.chosen.prediction)
    ]
    selection = Selection(config.select, config.match_length).name
    note = f"Lines: random prompts of this pool. Marks: this plan ({selection}), with 95% intervals.\nFrom {law.name}"
    draw_plan(curves, marks, money.unit, note, config.chart)


if __name__ == "__main__":
    run(main)
