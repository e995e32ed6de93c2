"""What a study's reward can tell: where it puts people's preferred responses, seen from the base model's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eval_hh.analysis.rules import MARGIN, SHARE_OF_SPAN
from eval_hh.cells import BASE
from eval_hh.estimates import Contrast, over_replicates, paired_differences
from eval_hh.markup import contrast_text

if TYPE_CHECKING:
    from eval_hh.analysis.results import ModelRow


@dataclass(frozen=True)
class RewardScale:
    """The scale of the rewards in one pool of test prompts.

    `span` is the reward of the test data's best responses (the ceiling) minus the base model's, with Student's interval
    over test prompts; None if one of the two rows is missing, and then nothing is known.
    """

    span: Contrast | None

    @property
    def can_judge(self) -> bool:
        """False if the ceiling is not shown to lie above the base model; a reward without signal passes in 2.5%."""
        return self.span is None or self.span.low > 0

    @property
    def margin(self) -> float:
        """The difference, 0 to 1, that is too small to matter: 2 points, or less where the span is small."""
        return MARGIN if self.span is None else max(0.0, min(MARGIN, SHARE_OF_SPAN * self.span.low))

    @property
    def note(self) -> str:
        """What limits the verdicts: no ability to judge, or a smaller margin than usual; empty if nothing does."""
        if self.span is None or self.margin == MARGIN:
            return ""
        over_base = contrast_text(self.span, "test prompts")
        if not self.can_judge:
            return (
                "The test reward model is not shown to score people's preferred responses (the ceiling) above the base "
                f"model's: {over_base}. It cannot judge the cells; one that tells the two apart is needed."
            )
        return (
            f"Too small to matter is here a difference within {100 * self.margin:.2f} points, {SHARE_OF_SPAN:.0%} of the "
            f"least that the ceiling may lie above the base model: {over_base}."
        )


def reward_scale(models: Sequence[ModelRow], pool: str) -> RewardScale:
    """Returns the scale of a pool from a study's rows of models of no run."""
    ceilings = [row for row in models if row.is_ceiling]
    bases = [row for row in models if row.name == BASE and not row.is_ceiling]
    if not ceilings or not bases:
        return RewardScale(None)
    differences = paired_differences(ceilings[0].values(pool), bases[0].values(pool))
    return RewardScale(over_replicates(differences)) if len(differences) > 1 else RewardScale(None)
