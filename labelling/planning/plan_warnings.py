"""What a plan from lines on D must be read with: a line of text for each way in which the case is not the lines'."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from data_preprocess.subsets import RANDOM
from eval_hh.analysis.chosen_prompts import strategy_pairs
from eval_hh.analysis.contrasts import comparisons
from eval_hh.analysis.results import load_results
from eval_hh.analysis.reward_lines import Law
from eval_hh.estimates import LEVEL
from eval_hh.markup import DIFFERENCE, interval_text
from labelling.planning.budget import STRATIFIED, Prices, Split
from labelling.planning.pilot import OUR_STUDY

LENGTH_TOLERANCE = 0.2  # relative difference of mean lengths; D falls with length, since U grows more slowly than T
TRANSFER = (
    "these lines come from another model, pool and annotators, or from other subsets than yours; how far they carry "
    "over is not in the intervals. `--pilot` measures it on yours"
)


def length_warning(law: Law, tokens: float) -> list[str]:
    """Warns where the pool's mean prompt length [tokens] is far from that of the lines' prompts."""
    if law.tokens is None or abs(tokens / law.tokens - 1) <= LENGTH_TOLERANCE:
        return []
    side = "higher" if tokens < law.tokens else "lower"
    return [
        f"the pool's prompts have {tokens:.0f} tokens in the mean, those of the lines {law.tokens:.0f}: D, and with it "
        f"every prediction, is {side} for that reason alone (cutting prompts shorter raises it)"
    ]


def tokenizer_warning(law: Law, tokenizer: str, is_same: bool) -> list[str]:
    """Warns of a tokenizer that --trust_tokenizer vouches for."""
    if is_same:
        return []
    wanted = law.tokenizer or "LLaMA's"
    return [f"D is counted with {tokenizer}, that of the lines with {wanted}: D of two tokenizers cannot be compared"]


def budget_warnings(splits: Sequence[Split], budget: Decimal, prices: Prices, pool_size: int) -> list[str]:
    """Warns of each K that uses up the pool and leaves money for another prompt: it is compared at less money."""
    found = []
    for split in splits:
        left = budget - split.cost
        if split.size == pool_size and left >= prices.of_prompt(split.ranking_len):
            found.append(
                f"K = {split.ranking_len}: the pool's {pool_size:,} prompts cost {split.cost:,}, and {left:,} of the "
                "budget is left: it is not compared at equal money (a larger pool, or a smaller budget, would be)"
            )
    return found


def edge_warning(ranking_len: int, ranking_lens: Sequence[int]) -> list[str]:
    """Warns where the recommended K is the smallest or the largest that was compared."""
    if min(ranking_lens) < ranking_len < max(ranking_lens):
        return []
    if ranking_len == 2:
        return []  # no ranking has fewer
    end, beyond = ("largest", "more") if ranking_len == max(ranking_lens) else ("smallest", "fewer")
    return [f"K = {ranking_len} is the {end} K compared: whether {beyond} responses would be better still is not known"]


def selection_warning(strategy: str, match_length: bool) -> list[str]:
    """Quotes what our small study found on a strategy; nothing for random prompts, whose lines these are."""
    if strategy in (RANDOM, STRATIFIED):
        return ["the pool's lengths are matched; the lines' prompts were not"] if match_length else []
    results = load_results(OUR_STUDY)
    rows = comparisons(results, strategy_pairs(results))
    own = [one for one in rows if one.first.setting.selection.split("_half")[0] == strategy]
    if not own:
        return [f"{strategy}: our small study has not compared it with random prompts"]
    found = "; ".join(
        f"{one.first.setting.algorithm} K={one.first.setting.ranking_len} "
        f"{100 * one.difference.difference:{DIFFERENCE}} ({interval_text(one.difference)})"
        for one in own
    )
    least = min(one.holm_p for one in own)
    said = (
        "no difference from random is beyond chance" if least >= LEVEL else "a difference from random is beyond chance"
    )
    return [
        f"{strategy} against as many random prompts in our small study, in points: {found}; {said} (smallest Holm p "
        f"{least:.4f}). The lines are of random prompts, where D and M rise together, and say nothing of selected ones"
    ]
