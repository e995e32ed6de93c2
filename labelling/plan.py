"""What to label next: which prompts of a pool, and how many responses each, for a budget.

Run: cd labelling; python plan.py SOURCE --responses N --law paper-pro [--select STRATEGY] [--output FILE]
     python plan.py SOURCE --budget X --response_cost X ... --results DIR --algorithm PRO

Prints for each number of responses K: how many prompts M the budget pays for, the diversity D of M prompts of SOURCE
taken at random and as selected, the reward that a line on D, one per K, predicts for them, and the split to take.
--output writes its prompts as JSONL with ids, ready to be answered and ranked (prepare.py --join).
"""

import sys
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.command import (
    MAX_SHOWN,
    InputError,
    check_one_given,
    check_settings,
    check_text,
    count,
    parse_settings,
    run,
    setting,
    study_root,
)
from data_preprocess.dialogue import render_prompt
from data_preprocess.diversity import TOKENIZER_HELP, default_tokenizer, under_root
from data_preprocess.ngrams.token_ids import TokenIds, encode_prompts
from data_preprocess.outputs import check_output_file
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.preparing.export import write_prompts
from data_preprocess.preparing.prompt_pool import load_pool
from data_preprocess.selection import STRATEGIES, selection_name
from eval_hh.analysis.results import load_results
from eval_hh.analysis.reward_lines import LLAMA_PROBE, Law, Outlook, is_llama, paper_law, recommend, results_law
from labelling.budget import ChosenPrompts, Prices, Split, choose_prompts, random_diversity, split_budget

PAPER_LAWS = {"paper-pro": "PRO", "paper-sft": "SFT"}
COSTS = ("prompt_cost", "response_cost", "comparison_cost")
# Of a budget and of a cost: a quotient of two has fewer digits than Decimal keeps.
LEAST, MOST = Decimal("1e-9"), Decimal("1e15")
CHART_STEPS = 60  # budgets of the chart, up to twice the plan's
RANDOM_ONLY = (
    "These lines were fitted on random prompts, where D and M rise together. Whether selected prompts earn what random",
    "ones of the same D do is not in that data; the experiment that tests it is reproduce.py --fixed_size.",
)


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """One plan: a pool, a budget, the lines that predict, and which prompts are selected."""

    source: str = setting(
        "the pool: JSONL, Parquet, a folder, or a data set on the hub, a prompt per row", check_text, positional=True
    )
    column: str | None = setting("the prompts' field, where it is not one of the usual", check_text, default=None)
    split: str = setting("split of a data set", check_text, default="train")
    drop_duplicates: bool = setting("go on without prompts that repeat another", default=False)
    responses: int | None = setting("the budget, in labelled responses", metavar="N", default=None)
    budget: str | None = setting("or in money, with at least one of the costs", metavar="X", default=None)
    prompt_cost: str | None = setting("per prompt written", metavar="X", default=None)
    response_cost: str | None = setting("per response written", metavar="X", default=None)
    comparison_cost: str | None = setting("per two responses compared", metavar="X", default=None)
    comparisons: int | None = setting(
        "comparisons per prompt (default: every pair, K (K - 1) / 2)", count(at_most=10**6), metavar="N", default=None
    )
    law: str | None = setting("the paper's lines", choices=tuple(PAPER_LAWS), default=None)
    results: str | None = setting(
        "or the lines through our result files in DIR", check_text, metavar="DIR", default=None
    )
    algorithm: str | None = setting("of --results, where they hold both", choices=("PRO", "SFT"), default=None)
    profile: str | None = setting("of --results (default: the most frequent)", check_text, default=None)
    select: str = setting("which prompts", choices=STRATEGIES, default="max_d")
    match_length: bool = setting("mean length in tokens within 5%% of the pool's", default=False)
    extrapolate: bool = setting("predict outside the fitted range of D as well, marked", default=False)
    tokenizer: str | None = setting(
        f"{TOKENIZER_HELP}; with --results the one that their D was counted with", check_text, default=None
    )
    trust_tokenizer: bool = setting("--tokenizer is the lines' own, under another name", default=False)
    ranking_len: int | None = setting(
        "take this K's split, not the recommended one", count(at_most=1000), metavar="K", default=None
    )
    output: Path | None = setting("write its prompts here", metavar="FILE", default=None)
    chart: Path | None = setting("draw predicted reward against budget, a PNG", metavar="FILE", default=None)

    def __post_init__(self) -> None:
        check_settings(self)
        check_one_given(self, "law", "results", "the paper's lines, or those of result files")
        for flag in ("algorithm", "profile"):
            if self.law and getattr(self, flag):
                raise InputError(f"--{flag} applies to --results, and --law is given")
        if (self.responses is None) == (self.budget is None):
            raise InputError("--responses or --budget: give one of them (labelled responses, or money)")
        inputs = {"source": [self.source], "results": [self.results], "tokenizer": [self.tokenizer]}
        for flag in ("output", "chart"):
            if getattr(self, flag):
                check_output_file(flag, getattr(self, flag), inputs)
        if self.output and self.output == self.chart:
            raise InputError(f"--chart {self.chart}: is --output's file too (expected another)")


@dataclass(frozen=True)
class Spending:
    """What may be spent, and on what."""

    budget: Decimal
    prices: Prices
    unit: str  # of both


@dataclass(frozen=True)
class Share:
    """One K's share of the plan."""

    split: Split
    choice: ChosenPrompts  # the prompts
    random: Outlook  # of as many random ones
    chosen: Outlook


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(PlanConfig, argv, __doc__)
    money = spending(config)
    law = load_law(config)
    pool, dropped, left_out = load_pool(config.source, config.column, config.split, config.drop_duplicates)
    splits = split_budget(money.budget, money.prices, sorted(law.points), len(pool))
    tokenizer, token_ids = count_tokens(config, law, pool)
    rows = make_rows(config, law, splits, token_ids)
    duplicates = f" ({dropped} duplicates dropped)" if dropped else ""
    print(f"lines:  {law.name}, fitted on random prompts")
    print(f"pool:   {len(pool):,} prompts of {config.source}{duplicates}, D counted with {tokenizer}")
    print("".join(f"        {line}\n" for line in left_out), end="")
    print(f"budget: {money.budget:,} {money.unit}\n")
    print("\n".join([*format_table(config, money.prices, splits, rows), "", *notes(config, rows)]))
    taken = row_to_take(config, rows)
    if config.chart:
        draw_chart(config, money, law, rows, token_ids)
        print(f"{config.chart}: the chart")
    if config.output:
        write_prompts(config.output, [pool[index] for index in taken.choice.indices])
        print(f"{config.output}: {taken.split.size} prompts, to be given {taken.split.ranking_len} responses each")


def spending(config: PlanConfig) -> Spending:
    """The budget that the flags tell of; InputError for what makes none."""
    costs = {flag: getattr(config, flag) for flag in COSTS if getattr(config, flag) is not None}
    if config.responses is not None:
        if costs or config.comparisons is not None:
            flag = next(iter(costs), "comparisons")
            raise InputError(f"--{flag} applies to --budget, and --responses is given")
        return Spending(amount("responses", config.responses), Prices(), "labelled responses")
    if not costs:
        raise InputError(f"--budget: needs a cost (expected one or more of --{', --'.join(COSTS)})")
    if config.comparisons is not None and config.comparison_cost is None:
        raise InputError(f"--comparisons: {config.comparisons} (expected --comparison_cost with it)")
    values = [amount(flag, costs[flag]) if flag in costs else Decimal(0) for flag in COSTS]
    return Spending(amount("budget", config.budget), Prices(*values, config.comparisons), "units of money")


def amount(flag: str, text: str | int) -> Decimal:
    """A positive number as it is written, so that ten of 0.1 are 1."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite() or not LEAST <= value <= MOST:
        expected = f"a number above zero, from {LEAST:f} to {MOST:g}; leave out a cost that you do not have"
        raise InputError(f"--{flag} {str(text)[:MAX_SHOWN]}: expected {expected}")
    return value


def load_law(config: PlanConfig) -> Law:
    """The lines that the flags ask for; what their results leave out is told on stderr."""
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


def count_tokens(config: PlanConfig, law: Law, pool: list[Candidates]) -> tuple[str, TokenIds]:
    """(the tokenizer's name, the prompts' ids), by the tokenizer that counted the D of the lines.

    InputError for another one: D of two tokenizers do not compare.
    """
    from data_preprocess.hub import load_tokenizer

    name = config.tokenizer
    if name is None and law.tokenizer:
        # A record names a folder under STUDY_ROOT by its path there.
        inside = study_root() / law.tokenizer
        name = str(inside) if inside.is_dir() else law.tokenizer
    name = name or default_tokenizer()
    tokenizer = load_tokenizer(name)
    if law.tokenizer is None:
        same = is_llama(tokenizer.encode(LLAMA_PROBE, add_special_tokens=False))
    else:
        same = law.tokenizer in (name, under_root(name))
    if not (same or config.trust_tokenizer):
        wanted = law.tokenizer or "LLaMA's"
        raise InputError(
            f"--tokenizer: {name}, but the lines' D was counted with {wanted} (expected the same; --trust_tokenizer "
            "says that it is, under another name)"
        )
    return name, encode_prompts(tokenizer, [render_prompt(candidates.prefix) for candidates in pool])


def make_rows(config: PlanConfig, law: Law, splits: list[Split], token_ids: TokenIds) -> dict[int, Share]:
    """By K, for those that the budget pays for."""
    paid = [split for split in splits if split.size]
    sizes = [split.size for split in paid]
    choices = choose_prompts(token_ids, sizes, config.select, config.match_length)
    at_random = random_diversity(token_ids, sizes)
    return {
        split.ranking_len: Share(
            split,
            choices[split.size],
            law.outlook(split.ranking_len, at_random[split.size], config.extrapolate),
            law.outlook(split.ranking_len, choices[split.size].diversity, config.extrapolate),
        )
        for split in paid
    }


def format_table(config: PlanConfig, prices: Prices, splits: list[Split], rows: dict[int, Share]) -> list[str]:
    """A line per K: what is bought, D and the predicted reward at random and as selected."""
    selection = selection_name(config.select, config.match_length)
    lines = [f"K       M {'cost':>10}   {'random: D, reward x 100':<31}   {f'{selection}: D, reward x 100':<31} tokens"]
    for split in splits:
        head = f"{split.ranking_len} {split.size:>7,} {split.cost:>10,}"
        if split.size:
            row = rows[split.ranking_len]
            lines.append(f"{head}   {row.random!s:<31}   {row.chosen!s:<31} {row.choice.tokens:>6.0f}")
        else:
            lines.append(f"{head}   unaffordable: one prompt costs {prices.of_prompt(split.ranking_len):,}")
    return lines


def notes(config: PlanConfig, rows: dict[int, Share]) -> list[str]:
    """What the table means, and which split to take."""
    lines = ["Intervals: 95% prediction intervals for a new subset of K responses."]
    if config.extrapolate and any(one.outside for row in rows.values() for one in (row.random, row.chosen)):
        lines.append("* extrapolated: D is outside the fitted range.")
    if (config.select, config.match_length) != ("random", False):
        lines += [*RANDOM_ONLY, f"for random prompts: {advice(rows, {k: row.random for k, row in rows.items()})}"]
    return [*lines, f"recommended: {advice(rows, {k: row.chosen for k, row in rows.items()})}"]


def advice(rows: dict[int, Share], outlooks: dict[int, Outlook]) -> str:
    """The split with the highest predicted reward, the K that do not differ from it, and those not compared."""
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


def row_to_take(config: PlanConfig, rows: dict[int, Share]) -> Share:
    """The recommended split, or --ranking_len's; InputError where none has a prediction, or it buys nothing."""
    predictions = {k: row.chosen.prediction for k, row in rows.items() if row.chosen.prediction}
    if config.ranking_len is not None:
        if config.ranking_len not in rows:
            raise InputError(f"--ranking_len: the budget pays for no prompt with {config.ranking_len} responses")
        return rows[config.ranking_len]
    if not predictions:
        reasons = ", ".join(f"K = {k}: {row.chosen.diversity:.2f} is {row.chosen.outside}" for k, row in rows.items())
        found = "no prediction, D is outside the fitted range"
        raise InputError(f"{found} ({reasons}; --extrapolate predicts all the same)")
    return rows[recommend(predictions).ranking_len]


def draw_chart(config: PlanConfig, money: Spending, law: Law, rows: dict[int, Share], token_ids: TokenIds) -> None:
    """Predicted reward of random prompts at rising budgets, and the plan's own splits."""
    from labelling.plan_chart import Curve, Mark, draw_plan

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
    selection = selection_name(config.select, config.match_length)
    note = f"Lines: random prompts of this pool. Marks: this plan ({selection}), with 95% intervals.\nFrom {law.name}"
    draw_plan(curves, marks, money.unit, note, config.chart)


if __name__ == "__main__":
    run(main)
