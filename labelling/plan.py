"""Plans what to label next within a budget: which prompts of a pool, and how many responses to each.

Run: cd labelling; python plan.py SOURCE --responses N --law paper-pro [--select STRATEGY] [--output FILE]
     python plan.py SOURCE --budget X --response_cost X ... --results DIR --algorithm PRO

Prints for each number of responses K: the number of prompts M that the budget covers, the diversity D of M random and
of M selected prompts of SOURCE, the reward that a line in D, one per K, predicts for each, and the recommended split.
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
    count,
    parse_settings,
    run,
    setting,
    study_root,
    within,
)
from data_preprocess.dialogue import render_prompt
from data_preprocess.diversity import TOKENIZER_HELP, default_tokenizer, under_root
from data_preprocess.ngrams.token_ids import TokenIds, encode_prompts
from data_preprocess.outputs import check_output_file
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.preparing.export import write_prompts
from data_preprocess.preparing.prompt_pool import load_pool
from data_preprocess.selection import STRATEGIES, Selection
from eval_hh.analysis.results import load_results
from eval_hh.analysis.reward_lines import LLAMA_PROBE, Law, Outlook, is_llama, paper_law, recommend, results_law
from labelling.budget import ChosenPrompts, Prices, Split, choose_prompts, random_diversity, split_budget

PAPER_LAWS = {"paper-pro": "PRO", "paper-sft": "SFT"}
COSTS = ("prompt_cost", "response_cost", "comparison_cost")
# Limits of budgets and costs: a quotient of two has fewer digits than Decimal's precision.
LEAST, MOST = Decimal("1e-9"), Decimal("1e15")
CHART_STEPS = 60  # budgets in the chart, up to twice the plan's
RANDOM_ONLY = (
    "These lines were fitted on random prompts, where D and M rise together. Whether selected prompts earn what random",
    "ones of the same D do is not in that data; the experiment that tests it is reproduce.py --fixed_size.",
)


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """One plan: a pool, a budget, the fitted lines for prediction, and the selection of prompts."""

    source: str = setting(
        "the pool: JSONL, Parquet, a folder, or a data set on the hub; one prompt per row", positional=True
    )
    column: str | None = setting("field of the prompt, if it has none of the usual names", default=None)
    split: str = setting("split of a data set", default="train")
    drop_duplicates: bool = setting("drop prompts that repeat another one", default=False)
    responses: int | None = setting("budget in labelled responses", within(), metavar="N", default=None)
    budget: str | None = setting("budget in money; needs at least one of the costs", metavar="X", default=None)
    prompt_cost: str | None = setting("cost per prompt written", metavar="X", default=None)
    response_cost: str | None = setting("cost per response written", metavar="X", default=None)
    comparison_cost: str | None = setting("cost per pair of responses compared", metavar="X", default=None)
    comparisons: int | None = setting(
        "comparisons per prompt (default: every pair, K (K - 1) / 2)", count(at_most=10**6), metavar="N", default=None
    )
    law: str | None = setting("use the lines fitted on the paper's results", choices=tuple(PAPER_LAWS), default=None)
    results: str | None = setting("use lines fitted on the result files in DIR", metavar="DIR", default=None)
    algorithm: str | None = setting("algorithm of --results, if it has both", choices=("PRO", "SFT"), default=None)
    profile: str | None = setting("profile of --results (default: the most frequent)", default=None)
    select: str = setting("how prompts are selected", choices=STRATEGIES, default="max_d")
    match_length: bool = setting("keep the mean length in tokens within 5% of the pool's", default=False)
    extrapolate: bool = setting("predict outside the fitted range of D too, marked by *", default=False)
    tokenizer: str | None = setting(f"{TOKENIZER_HELP}; with --results: the tokenizer used for their D", default=None)
    trust_tokenizer: bool = setting("assert that --tokenizer is the lines' tokenizer under another name", default=False)
    ranking_len: int | None = setting(
        "use the split of this K instead of the recommended one", count(at_most=1000), metavar="K", default=None
    )
    output: Path | None = setting("write the split's prompts to FILE", metavar="FILE", default=None)
    chart: Path | None = setting("plot predicted reward against budget as a PNG", metavar="FILE", default=None)

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
    """The budget and its prices."""

    budget: Decimal
    prices: Prices
    unit: str  # of both


@dataclass(frozen=True)
class Share:
    """The plan for one K."""

    split: Split
    choice: ChosenPrompts
    random: Outlook  # of equally many random prompts
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
    """Returns the budget given by the flags; InputError for inconsistent flags."""
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
    """Parses a positive number exactly as written, so that ten times 0.1 is 1."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite() or not LEAST <= value <= MOST:
        expected = f"a number above zero, from {LEAST:f} to {MOST:g}; leave out a cost that you do not have"
        raise InputError(f"--{flag} {str(text)[:MAX_SHOWN]}: expected {expected}")
    return value


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


def count_tokens(config: PlanConfig, law: Law, pool: list[Candidates]) -> tuple[str, TokenIds]:
    """Returns (tokenizer name, token ids of the prompts), using the tokenizer that counted the D of the lines.

    InputError for another tokenizer, since D is not comparable between tokenizers.
    """
    from data_preprocess.hub import load_tokenizer

    name = config.tokenizer
    if name is None and law.tokenizer:
        # A record stores a folder under STUDY_ROOT as its relative path.
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
            f"--tokenizer: {name}, but the lines' D was counted with {wanted} (expected the same tokenizer; "
            "pass --trust_tokenizer if only the name differs)"
        )
    return name, encode_prompts(tokenizer, [render_prompt(candidates.prefix) for candidates in pool])


def make_rows(config: PlanConfig, law: Law, splits: list[Split], token_ids: TokenIds) -> dict[int, Share]:
    """Returns a Share for each K that the budget covers."""
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
    """Formats a line per K: what is bought, D and predicted reward for random and for selected prompts."""
    selection = Selection(config.select, config.match_length).name
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
    """Explains the table and names the recommended split."""
    lines = ["Intervals: 95% prediction intervals for a new subset of K responses."]
    if config.extrapolate and any(one.outside for row in rows.values() for one in (row.random, row.chosen)):
        lines.append("* extrapolated: D is outside the fitted range.")
    if (config.select, config.match_length) != ("random", False):
        lines += [*RANDOM_ONLY, f"for random prompts: {advice(rows, {k: row.random for k, row in rows.items()})}"]
    return [*lines, f"recommended: {advice(rows, {k: row.chosen for k, row in rows.items()})}"]


def advice(rows: dict[int, Share], outlooks: dict[int, Outlook]) -> str:
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


def row_to_take(config: PlanConfig, rows: dict[int, Share]) -> Share:
    """Returns the split of --ranking_len, else the recommended one; InputError without a prediction or any prompt."""
    predictions = {k: row.chosen.prediction for k, row in rows.items() if row.chosen.prediction}
    if config.ranking_len is not None:
        if config.ranking_len not in rows:
            found = f"the budget does not cover a single prompt with {config.ranking_len} responses"
            raise InputError(f"--ranking_len: {found}")
        return rows[config.ranking_len]
    if not predictions:
        reasons = ", ".join(f"K = {k}: {row.chosen.diversity:.2f} is {row.chosen.outside}" for k, row in rows.items())
        found = "no prediction, D is outside the fitted range"
        raise InputError(f"{found} ({reasons}; --extrapolate predicts all the same)")
    return rows[recommend(predictions).ranking_len]


def draw_chart(config: PlanConfig, money: Spending, law: Law, rows: dict[int, Share], token_ids: TokenIds) -> None:
    """Draws the predicted reward of random prompts at increasing budgets, and the plan's own splits."""
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
    selection = Selection(config.select, config.match_length).name
    note = f"Lines: random prompts of this pool. Marks: this plan ({selection}), with 95% intervals.\nFrom {law.name}"
    draw_plan(curves, marks, money.unit, note, config.chart)


if __name__ == "__main__":
    run(main)
