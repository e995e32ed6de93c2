"""The report's section of pairwise judgements."""

from __future__ import annotations

from collections.abc import Sequence

from eval_hh.analysis.judgements import Judged
from eval_hh.estimates import Contrast
from eval_hh.markup import markdown_text, p_text
from eval_hh.reporting.markdown_table import markdown

HEADER = [
    "judge", "first", "second", "win rate", "95% interval", "at equal length", "95% interval", "p", "Holm p", "ties",
    "agrees with the reward", "agrees in both orders", "prompts", "population",
]  # fmt: skip
INTRO = (
    "Win rates of the first over the second on the same test prompts (eval_hh/judge.py), 50% where they are equal; a "
    "tie is half a win. At equal length: a logistic regression on the difference in length, as in AlpacaEval 2, "
    "without its term for the difficulty of a prompt; p tests it against 50%, and Holm p corrects for the rows of this "
    "table. Intervals are Student's 95%. A judge agrees with the reward where both name the same winner, and in both "
    "orders where it names a winner in one order of the responses and the same in the other. The paper's judge, its "
    "prompt and its rubric are not known: ours are in eval_hh/judging/rubric.yaml."
)


def judged_section(found: Sequence[Judged]) -> list[str]:
    """Returns the section with a row for each comparison; empty if there is none."""
    if not found:
        return []
    lines = ["## Judged comparisons", "", INTRO, "", *markdown(HEADER, [_row(one) for one in found])]
    remarks = [line for one in found for line in remarks_on(one)]
    return [*lines, *(f"- {line}" for line in remarks), *([""] if remarks else [])]


def remarks_on(one: Judged) -> list[str]:
    """Returns a line on what speaks against an LLM's verdicts: no verdicts, or a preference for a position."""
    who, lines = markdown_text(one.judge), []
    if one.unread > 0:
        lines.append(f"{who}: {one.unread:.1%} of its answers hold no verdict and count as ties.")
    if one.named_first == one.named_first and abs(one.named_first - 0.5) > 0.25:
        place = "first" if one.named_first > 0.5 else "second"
        share = max(one.named_first, 1 - one.named_first)
        lines.append(f"{who}: {share:.1%} of its verdicts name the response shown {place}, so its rates lie near 50%.")
    return lines


def _row(one: Judged) -> list[str]:
    judge = markdown_text(one.judge) + (f" ({markdown_text(one.rubric)})" if one.rubric else "")
    return [
        judge, markdown_text(one.a), markdown_text(one.b),
        rate_text(one.win_rate), rate_interval(one.win_rate), rate_text(one.controlled), rate_interval(one.controlled),
        p_text(one.controlled.p), p_text(one.holm_p), f"{one.ties:.1%}",
        _share(one.with_reward), _share(one.between_orders), str(one.n_prompts), population(one),
    ]  # fmt: skip


def population(one: Judged) -> str:
    """Returns what the intervals of a row speak about, in words."""
    if one.n_pairs == 1:
        return "new prompts, these two models"
    if one.one_draw:
        return f"{one.n_pairs} training seeds, this draw of the subsets, these prompts"
    return f"{one.n_pairs} replicates: new draws and seeds, these prompts"


def rate_text(one: Contrast) -> str:
    """Formats a win rate, given minus one half."""
    return f"{0.5 + one.difference:.1%}"


def rate_interval(one: Contrast) -> str:
    """Formats the interval of a win rate, given minus one half; a rate is from 0 to 100%."""
    return f"{max(0.0, 0.5 + one.low):.1%} to {min(1.0, 0.5 + one.high):.1%}"


def _share(value: float) -> str:
    return "-" if value != value else f"{value:.1%}"
