"""The report's sections that compare pairs of settings, one table each."""

from __future__ import annotations

from collections.abc import Sequence

from data_preprocess.subsets import RANDOM
from eval_hh.analysis.contrasts import Comparison, Side
from eval_hh.markup import DIFFERENCE, REWARD, interval_text, markdown_text, p_text
from eval_hh.reporting.markdown_table import markdown

HEADER = [
    "first is better",
    "",
    "first",
    "second",
    "reward",
    "D",
    "bigrams",
    "difference",
    "95% interval",
    "p",
    "Holm p",
]
EQUAL_BUDGET = (
    "Equal budget: more responses or more prompts",
    "More responses (first) against more prompts (second) for the same number of labelled responses.",
)
FIXED_SIZE = (
    "D varied at one number of prompts",
    "High D (first) against low D (second): as many prompts each time, selected for D, matched in length and, where "
    "the selection's name has `_kind`, in kind of prompt.",
)
STRATEGIES = (
    "Prompts chosen by a strategy, at equal budget",
    "Prompts selected by the strategies of data_preprocess/sample.py against as many random ones, at the same K and "
    "therefore the same number of labelled responses. Strategies may select longer or shorter prompts, which alone "
    "changes D, and other kinds of prompt.",
)
AUGMENTATION = (
    "Subsets enlarged by models",
    "Our readings of the paper's augmentation, whose generator and thresholds are not published "
    "(labelling/augment.py): prompts of a pool are added to a random subset, answered by a model and ranked by a "
    "reward model, without human labels. The evidence on D is additions chosen for it against random additions; an "
    "enlarged subset against its base is more data, of another kind.",
)


def population(found: Sequence[Comparison]) -> str:
    """Returns what the intervals of a table speak about, in words."""
    if any(one.one_draw for one in found):
        return "Population: new training seeds, these test prompts. About this draw of the subsets only."
    return "Population: new draws of the subsets and new training seeds, these test prompts."


def contrast_section(title_and_intro: tuple[str, str], found: Sequence[Comparison]) -> list[str]:
    """Returns a section with a row for each comparison; empty if there is none."""
    if not found:
        return []
    title, intro = title_and_intro
    most = max(one.difference.n_replicates for one in found)
    note = (
        "Rewards are 100 x mean ± the standard deviation over replicates; rewards, D and bigrams per prompt are given "
        "for first / second. The difference is first minus second, paired by replicate, with Student's 95% interval; "
        f"Holm p corrects for the rows of this table, and the first column rests on it. {most} replicates, unless a "
        f"row says otherwise. {population(found)}"
    )
    note += cannot_judge(found)
    return [f"## {title}", "", f"{intro} {note}", "", *markdown(HEADER, [_row(one, most) for one in found])]


def cannot_judge(found: Sequence[Comparison]) -> str:
    """Returns a sentence on the pools of a table in which the reward cannot judge; empty if there is none."""
    pools = list(dict.fromkeys(one.pool for one in found if not one.can_judge))
    if not pools:
        return ""
    why = "the reward is not shown to tell good responses from bad there (Table 1)"
    return f" No verdict on {', '.join(pools)}: {why}."


def _row(one: Comparison, most: int) -> list[str]:
    sides, count = (one.first, one.second), one.difference.n_replicates
    rewards = [
        f"{100 * side.reward:{REWARD}}" + (f" ± {100 * side.spread:{REWARD}}" if count > 1 else "") for side in sides
    ]
    return [
        one.verdict,  # first, so that a phone shows it
        f"{one.algorithm} {one.pool}" + (f" ({count} replicates)" if count < most else ""),
        *map(_name, sides),
        " / ".join(rewards),
        " / ".join(_number(side.diversity, ".2f") for side in sides),
        " / ".join(_number(side.length, ".1f") for side in sides),
        f"{100 * one.difference.difference:{DIFFERENCE}}",
        interval_text(one.difference),
        p_text(one.difference.p),
        p_text(one.holm_p),
    ]


def _number(value: float, digits: str) -> str:
    return "-" if value != value else f"{value:{digits}}"


def _name(side: Side) -> str:
    setting = side.setting
    chosen = "" if setting.selection == RANDOM else f"{markdown_text(setting.selection)} "
    return f"{chosen}K={setting.ranking_len} M={setting.num_prompts}"
