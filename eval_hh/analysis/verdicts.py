"""The verdict of a study on each of the paper's claims, and on one that the paper leaves open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval_hh.analysis.chosen_prompts import guides
from eval_hh.analysis.contrasts import Contrast
from eval_hh.analysis.d_at_fixed_size import FixedSizeTest
from eval_hh.analysis.equal_budget import PAIRS, Comparison
from eval_hh.analysis.lines_on_d import LineTest
from eval_hh.analysis.rules import MIN_SEEDS, NO_VERDICT, UNDECIDED, combine
from eval_hh.estimates import Estimate
from eval_hh.markup import DIFFERENCE, difference_texts

NOT_TESTED = "not tested in this run"
WHY_3 = "by design: each addition was drawn once, and fresh draws differ by as much as these differences"
WHY_4 = (
    "by design: the subsets with low and high D were drawn once and are matched in length, not in kind of prompt "
    "(harmful or helpful), so that a difference may have other causes than D"
)


@dataclass(frozen=True)
class Verdict:
    """A claim and what this run says about it."""

    claim: str
    verdict: str
    details: tuple[str, ...]


def verdicts(
    compared: Sequence[Comparison],
    tested: Sequence[LineTest],
    varied: Sequence[FixedSizeTest] = (),
    augmented: Sequence[Contrast] = (),
) -> list[Verdict]:
    """Returns the verdicts on the paper's three claims, then on ours, for the Global pool."""
    guided = [one for one in augmented if guides(one)]
    main = [one for one in compared if one.pool == "Global" and _ranking_lens(one) == PAIRS[0]]
    return [
        Verdict(
            "More responses and fewer prompts win at equal budget (K=4 against K=2, Global)",
            combine([one.verdict for one in main]),
            tuple(map(_budget_line, main)) or ("no equal-budget pair is complete",),
        ),
        Verdict(
            "Reward after fine-tuning is linear in prompt diversity D, one line per K (Global)",
            combine([one.verdict for one in tested]),
            tuple(f"{one.algorithm}, K={one.ranking_len}: {one.verdict} ({one.reason})" for one in tested)
            or ("no cell has D",),
        ),
        Verdict(
            "D can guide data augmentation",
            _open(guided),
            (WHY_3, *map(_augmentation_line, guided))
            if guided
            else ("it needs enlarged subsets (reproduce.py --augment)",),
        ),
        Verdict(
            "Not in the paper: D predicts reward beyond the number of prompts (Global)",
            _open(varied),
            (WHY_4, *map(_fixed_size_line, varied))
            if varied
            else ("it needs subsets selected for low and high D (reproduce.py --fixed_size)",),
        ),
    ]


def _open(cases: Sequence[Contrast] | Sequence[FixedSizeTest]) -> str:
    """Returns the verdict on a claim that the present design cannot decide, since its subsets are drawn once."""
    if not cases:
        return NOT_TESTED
    return UNDECIDED if min(one.n_seeds for one in cases) >= MIN_SEEDS else NO_VERDICT


def _ranking_lens(one: Comparison) -> tuple[int, int]:
    return one.more_responses.ranking_len, one.more_prompts.ranking_len


def _budget_line(one: Comparison) -> str:
    cells = " against ".join(f"K={of.ranking_len} M={of.num_prompts}" for of in (one.more_responses, one.more_prompts))
    return f"{one.algorithm}, {cells}: {one.verdict} (difference {_points(one.difference)}, Holm p {one.holm_p:.2g})"


def _fixed_size_line(one: FixedSizeTest) -> str:
    low, _, high = one.choices
    where = f"{one.algorithm}, K={one.ranking_len} M={one.num_prompts}, D {low.diversity:.2f} to {high.diversity:.2f}"
    found = f"difference {_points(one.difference)}, predicted by the line on D {100 * one.expected:{DIFFERENCE}}"
    found += " (extrapolated)" * one.extrapolated
    return f"{where}: {found}, Holm p {one.holm_p:.2g}"


def _augmentation_line(one: Contrast) -> str:
    raised = f"D {one.second.diversity:.2f} to {one.first.diversity:.2f}"
    where = f"{one.algorithm}, K={one.ranking_len} M={one.first.num_prompts} ({one.first.selection}), {raised}"
    return f"{where}: difference {_points(one.difference)}, Holm p {one.holm_p:.2g}"


def _points(difference: Estimate) -> str:
    """Formats a difference of rewards x 100 with its interval."""
    value, interval = difference_texts(difference)
    return f"{value}, 95% interval {interval}"
