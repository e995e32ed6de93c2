"""The report's sections on prompt selection: D varied at one size, strategies, and enlarged subsets."""

from __future__ import annotations

from collections.abc import Sequence

from eval_hh.analysis.contrasts import Choice, Contrast
from eval_hh.analysis.d_at_fixed_size import FixedSizeTest
from eval_hh.estimates import Estimate
from eval_hh.markup import DIFFERENCE, REWARD, difference_texts, markdown_text
from eval_hh.reporting.markdown_table import markdown


def with_interval(one: Estimate, digits: str) -> str:
    return f"{one.value:{digits}} ({one.low:{digits}} to {one.high:{digits}})"


def fixed_size_lines(varied: Sequence[FixedSizeTest]) -> list[str]:
    """Returns the section on low, random and high D at one M; empty if it was not run."""
    if not varied:
        return []
    rows = []
    for one in varied:
        beyond = with_interval(one.beyond_size, ".3g") if one.beyond_size else "-"
        rows.append(
            [one.algorithm, str(one.ranking_len), str(one.num_prompts), *_side_by_side(one.choices, one.n_seeds)]
            + [*difference_texts(one.difference), f"{one.holm_p:.4f}"]
            + [f"{100 * one.expected:{DIFFERENCE}}" + " (extrapolated)" * one.extrapolated, beyond]
        )
    lines = [
        "## D varied at one number of prompts",
        "",
        "As many prompts each time, of about the same length, selected for low D, at random, and for high D. Rewards "
        "are 100 x Global mean ± the standard deviation over seeds; rewards, D and bigrams per prompt are given for "
        "low / random / high. The difference is high minus low, paired over test prompts and seeds; Holm p corrects "
        "for the rows of this table. `by the line` is the difference that the line on D through random subsets "
        "predicts, extrapolated where low or high D is outside the fitted range. The last column is D's coefficient in "
        "the fit of reward (0 to 1) on log M and D over random and selected subsets. Each subset was drawn once, and "
        "low and high D are matched in length but not in kind of prompt (harmful or helpful): the intervals do not "
        "cover other draws, and a difference may have other causes than D.",
        "",
    ]
    header = ["", "K", "M", "reward", "D", "bigrams", "difference", "95% interval", "Holm p", "by the line"]
    return [*lines, *markdown([*header, "D beside log M"], rows)]


def _chosen(choice: Choice) -> str:
    return f"{markdown_text(choice.selection)} M={choice.num_prompts}"


def _side_by_side(choices: Sequence[Choice], n_seeds: int) -> list[str]:
    """Returns rewards, D and lengths of several choices, one text each."""
    spreads = [f" ± {100 * choice.spread:{REWARD}}" if n_seeds > 1 else "" for choice in choices]
    rewards = [f"{100 * choice.reward:{REWARD}}{spread}" for choice, spread in zip(choices, spreads, strict=True)]
    scores = [f"{choice.diversity:.2f}" for choice in choices]
    return [" / ".join(texts) for texts in (rewards, scores, [f"{choice.length:.1f}" for choice in choices])]


def strategy_lines(found: Sequence[Contrast]) -> list[str]:
    """Returns the section on strategies against random prompts; empty if none was run."""
    intro = (
        "Prompts selected by the strategies of data_preprocess/sample.py against as many random ones, at the same K "
        "and therefore the same number of labelled responses. Strategies may select longer or shorter prompts, which "
        "alone changes D, so lengths are given; they also differ in the kinds of prompt that they select."
    )
    return _contrast_lines("Prompts chosen by a strategy, at equal budget", intro, found)


def augmentation_lines(found: Sequence[Contrast]) -> list[str]:
    """Returns the section on enlarged subsets; empty if none was run."""
    intro = (
        "Our reading of the paper's augmentation, whose generator and thresholds are not published "
        "(labelling/augment.py): prompts of a pool are added to a random subset, either those that raise D most or "
        "random ones, answered by a model and ranked by a reward model, without human labels. An enlarged subset costs "
        "no further labels but is more data, of another kind; the evidence on D is diverse minus random additions."
    )
    return _contrast_lines("Subsets enlarged by models", intro, found)


def _contrast_lines(title: str, intro: str, found: Sequence[Contrast]) -> list[str]:
    if not found:
        return []
    rows = []
    for one in found:
        pair = (one.first, one.second)
        rows.append(
            [one.algorithm, str(one.ranking_len), *map(_chosen, pair)]
            + [*_side_by_side(pair, one.n_seeds), *difference_texts(one.difference), f"{one.difference.p:.4f}"]
            + [f"{one.holm_p:.4f}", str(one.n_seeds)]
        )
    note = (
        "Rewards are 100 x Global mean ± the standard deviation over seeds; rewards, D and bigrams per prompt are "
        "given for first / second. The difference is first minus second, paired over test prompts and seeds; Holm p "
        "corrects for the rows of this table. Each subset was drawn once: the intervals do not cover other draws."
    )
    header = ["", "K", "first", "second", "reward", "D", "bigrams", "difference", "95% interval", "p", "Holm p"]
    return [f"## {title}", "", f"{intro} {note}", "", *markdown([*header, "seeds"], rows)]
