"""What to label next: which prompts of a pool, and how many responses each, for a budget.

Run: cd labelling; python plan.py SOURCE --responses N --law paper-pro [--select STRATEGY] [--output FILE]
     python plan.py SOURCE --budget X --response_cost X ... --results DIR --algorithm PRO

Prints for each number of responses K: how many prompts M the budget pays for, the diversity D of M prompts of SOURCE
taken at random and as selected, the reward that a law (a line on D per K) expects of them, and the split to take.
--output writes its prompts as JSONL with ids, ready to be answered and ranked (prepare.py --join).
"""

import argparse
import sys
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.command import MAX_SHOWN, InputError, check_flags, check_text, count, run, study_root
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
CHECKS = {
    "comparisons": count(at_most=10**6), "ranking_len": count(at_most=1000),
    **dict.fromkeys(("source", "column", "split", "results", "profile", "tokenizer"), check_text),
}  # fmt: skip
CHART_STEPS = 60  # budgets of the chart, up to twice the plan's
RANDOM_ONLY = (
    "The law has seen random prompts only, in which D and M rise together. That chosen prompts earn what random",
    "ones of the same D do is not in its data; the experiment that tests it is reproduce.py --fixed_size.",
)


@dataclass(frozen=True)
class Share:
    """One K's share of the plan."""

    split: Split
    choice: ChosenPrompts  # the prompts
    random: Outlook  # of as many random ones
    chosen: Outlook


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    law = load_law(args)
    pool, dropped, left_out = load_pool(args.source, args.column, args.split, args.drop_duplicates)
    splits = split_budget(args.budget, args.prices, sorted(law.points), len(pool))
    tokenizer, token_ids = count_tokens(args, law, pool)
    rows = make_rows(args, law, splits, token_ids)
    duplicates = f" ({dropped} duplicates dropped)" if dropped else ""
    print(f"law:    {law.name}, fitted on random prompts")
    print(f"pool:   {len(pool):,} prompts of {args.source}{duplicates}, D counted with {tokenizer}")
    print("".join(f"        {line}\n" for line in left_out), end="")
    print(f"budget: {args.budget:,} {args.unit}\n")
    print("\n".join([*format_table(args, splits, rows), "", *notes(args, rows)]))
    taken = row_to_take(args, rows)
    if args.chart:
        draw_chart(args, law, rows, token_ids)
        print(f"{args.chart}: the chart")
    if args.output:
        write_prompts(args.output, [pool[index] for index in taken.choice.indices])
        print(f"{args.output}: {taken.split.size} prompts, to be given {taken.split.ranking_len} responses each")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("source", help="the pool: JSONL, Parquet, a folder, or a data set on the hub, a prompt per row")
    add("--column", help="the prompts' field, where it is not one of the usual")
    add("--split", default="train", help="split of a data set (default: train)")
    add("--drop_duplicates", action="store_true", help="go on without prompts that repeat another")
    add("--responses", type=int, metavar="N", help="the budget, in labelled responses")
    add("--budget", metavar="X", help="or in money, with at least one of the costs")
    add("--prompt_cost", metavar="X", help="per prompt written")
    add("--response_cost", metavar="X", help="per response written")
    add("--comparison_cost", metavar="X", help="per two responses compared")
    add("--comparisons", type=int, metavar="N", help="comparisons per prompt (default: every pair, K (K - 1) / 2)")
    add("--law", choices=PAPER_LAWS, help="the paper's lines")
    add("--results", metavar="DIR", help="or the lines through our result files in DIR")
    add("--algorithm", choices=("PRO", "SFT"), help="of --results, where they hold both")
    add("--profile", help="of --results (default: the commonest)")
    add("--select", choices=STRATEGIES, default="max_d", help="which prompts (default: max_d)")
    add("--match_length", action="store_true", help="mean length in tokens within 5%% of the pool's")
    add("--extrapolate", action="store_true", help="predict beyond the law's range of D as well, marked")
    add("--tokenizer", help=f"{TOKENIZER_HELP}; with --results the one that their D was counted with")
    add("--trust_tokenizer", action="store_true", help="--tokenizer is the law's, under another name")
    add("--ranking_len", type=int, metavar="K", help="take this K's split, not the recommended one")
    add("--output", type=Path, metavar="FILE", help="write its prompts here")
    add("--chart", type=Path, metavar="FILE", help="draw predicted reward against budget, a PNG")
    args = parser.parse_args(argv)
    check_flags(vars(args), CHECKS)
    if bool(args.law) == bool(args.results):
        raise InputError("--law or --results: give one of them (the paper's lines, or those of result files)")
    for flag in ("algorithm", "profile"):
        if args.law and getattr(args, flag):
            raise InputError(f"--{flag} is about --results, and --law is given")
    set_budget(args)
    inputs = {"source": [args.source], "results": [args.results], "tokenizer": [args.tokenizer]}
    for flag in ("output", "chart"):
        if getattr(args, flag):
            check_output_file(flag, getattr(args, flag), inputs)
    if args.output and args.output == args.chart:
        raise InputError(f"--chart {args.chart}: is --output's file too (expected another)")
    return args


def set_budget(args: argparse.Namespace) -> None:
    """args.budget, args.prices and args.unit from the flags; InputError for what makes no budget."""
    costs = {flag: getattr(args, flag) for flag in COSTS if getattr(args, flag) is not None}
    if (args.responses is None) == (args.budget is None):
        raise InputError("--responses or --budget: give one of them (labelled responses, or money)")
    if args.responses is not None:
        if costs or args.comparisons is not None:
            flag = next(iter(costs), "comparisons")
            raise InputError(f"--{flag} is about --budget, and --responses is given")
        args.budget, args.prices, args.unit = amount("responses", args.responses), Prices(), "labelled responses"
        return
    if not costs:
        raise InputError(f"--budget: needs a cost (expected one or more of --{', --'.join(COSTS)})")
    if args.comparisons is not None and args.comparison_cost is None:
        raise InputError(f"--comparisons: {args.comparisons} (expected --comparison_cost with it)")
    args.budget = amount("budget", args.budget)
    values = [amount(flag, costs[flag]) if flag in costs else Decimal(0) for flag in COSTS]
    args.prices = Prices(*values, args.comparisons)
    args.unit = "units of money"


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


def load_law(args: argparse.Namespace) -> Law:
    """The law that the flags ask for; what its results leave out is told on stderr."""
    if args.law:
        law = paper_law(PAPER_LAWS[args.law])
    else:
        results = load_results(args.results, args.profile)
        if not results.cells:
            raise InputError("; ".join([f"{args.results}: no result file to fit lines on", *results.warnings]))
        law, warnings = results_law(results, args.algorithm, args.results)
        for warning in results.warnings + warnings:
            print(f"warning: {warning}", file=sys.stderr)
    if args.ranking_len is not None and args.ranking_len not in law.points:
        lens = ", ".join(map(str, sorted(law.points)))
        raise InputError(f"--ranking_len: {args.ranking_len} (expected one of the law's: {lens})")
    return law


def count_tokens(args: argparse.Namespace, law: Law, pool: list[Candidates]) -> tuple[str, TokenIds]:
    """(the tokenizer's name, the prompts' ids), by the tokenizer that the law's D was counted with.

    InputError for another one: D of two tokenizers do not compare.
    """
    from data_preprocess.hub import load_tokenizer

    name = args.tokenizer
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
    if not (same or args.trust_tokenizer):
        wanted = law.tokenizer or "LLaMA's"
        raise InputError(
            f"--tokenizer: {name}, but the law's D was counted with {wanted} (expected the same; --trust_tokenizer "
            "says that it is, under another name)"
        )
    return name, encode_prompts(tokenizer, [render_prompt(candidates.prefix) for candidates in pool])


def make_rows(args: argparse.Namespace, law: Law, splits: list[Split], token_ids: TokenIds) -> dict[int, Share]:
    """By K, for those that the budget pays for."""
    paid = [split for split in splits if split.size]
    sizes = [split.size for split in paid]
    choices = choose_prompts(token_ids, sizes, args.select, args.match_length)
    at_random = random_diversity(token_ids, sizes)
    return {
        split.ranking_len: Share(
            split,
            choices[split.size],
            law.outlook(split.ranking_len, at_random[split.size], args.extrapolate),
            law.outlook(split.ranking_len, choices[split.size].diversity, args.extrapolate),
        )
        for split in paid
    }


def format_table(args: argparse.Namespace, splits: list[Split], rows: dict[int, Share]) -> list[str]:
    """A line per K: what is bought, D and the predicted reward at random and as selected."""
    selection = selection_name(args.select, args.match_length)
    lines = [f"K       M {'cost':>10}   {'random: D, reward x 100':<31}   {f'{selection}: D, reward x 100':<31} tokens"]
    for split in splits:
        head = f"{split.ranking_len} {split.size:>7,} {split.cost:>10,}"
        if split.size:
            row = rows[split.ranking_len]
            lines.append(f"{head}   {row.random!s:<31}   {row.chosen!s:<31} {row.choice.tokens:>6.0f}")
        else:
            lines.append(f"{head}   unaffordable: one prompt costs {args.prices.of_prompt(split.ranking_len):,}")
    return lines


def notes(args: argparse.Namespace, rows: dict[int, Share]) -> list[str]:
    """What the table means, and which split to take."""
    lines = ["Intervals: 95%, of one more point of K's line, from the residuals of the points it was fitted on."]
    if args.extrapolate and any(one.outside for row in rows.values() for one in (row.random, row.chosen)):
        lines.append("* extrapolated: no point of the law has such a D.")
    if (args.select, args.match_length) != ("random", False):
        lines += [*RANDOM_ONLY, f"for random prompts: {advice(rows, {k: row.random for k, row in rows.items()})}"]
    return [*lines, f"recommended: {advice(rows, {k: row.chosen for k, row in rows.items()})}"]


def advice(rows: dict[int, Share], outlooks: dict[int, Outlook]) -> str:
    """The split with the highest predicted reward, the K that it is not told from, and those not compared."""
    predictions = {k: outlook.prediction for k, outlook in outlooks.items() if outlook.prediction}
    if not predictions:
        return "none, the law knows no such D"
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


def row_to_take(args: argparse.Namespace, rows: dict[int, Share]) -> Share:
    """The recommended split, or --ranking_len's; InputError where the law speaks of none, or it buys nothing."""
    predictions = {k: row.chosen.prediction for k, row in rows.items() if row.chosen.prediction}
    if args.ranking_len is not None:
        if args.ranking_len not in rows:
            raise InputError(f"--ranking_len: the budget pays for no prompt with {args.ranking_len} responses")
        return rows[args.ranking_len]
    if not predictions:
        reasons = ", ".join(f"K = {k}: {row.chosen.diversity:.2f} is {row.chosen.outside}" for k, row in rows.items())
        raise InputError(f"no prediction, the law knows no such D ({reasons}; --extrapolate predicts all the same)")
    return rows[recommend(predictions).ranking_len]


def draw_chart(args: argparse.Namespace, law: Law, rows: dict[int, Share], token_ids: TokenIds) -> None:
    """Predicted reward of random prompts at rising budgets, and the plan's own splits."""
    from labelling.plan_chart import Curve, Mark, draw_plan

    budgets = [2 * args.budget * step / CHART_STEPS for step in range(1, CHART_STEPS + 1)]
    curves = []
    for ranking_len in sorted(law.points):
        bought = {budget: int(budget // args.prices.of_prompt(ranking_len)) for budget in budgets}
        sizes = {budget: size for budget, size in bought.items() if 1 <= size <= len(token_ids)}
        at_random = random_diversity(token_ids, sorted(set(sizes.values()))) if sizes else {}
        outlooks = [law.outlook(ranking_len, at_random[size], args.extrapolate) for size in sizes.values()]
        rewards = [one.prediction.value if one.prediction else float("nan") for one in outlooks]
        curves.append(Curve(ranking_len, list(map(float, sizes)), rewards, [not one.outside for one in outlooks]))
    marks = [
        Mark(k, float(row.split.cost), expected.value, expected.low, expected.high)
        for k, row in rows.items()
        if (expected := row.chosen.prediction)
    ]
    selection = selection_name(args.select, args.match_length)
    note = f"Lines: random prompts of this pool. Marks: this plan ({selection}), with 95% intervals.\nLaw: {law.name}"
    draw_plan(curves, marks, args.unit, note, args.chart)


if __name__ == "__main__":
    run(main)
