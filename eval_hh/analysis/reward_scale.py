"""What a study's reward can tell: where it puts people's preferred responses, seen from others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eval_hh.analysis.rules import MARGIN, SHARE_OF_SPAN
from eval_hh.cells import BASE, BEST_RESPONSES, CEILING, FLOOR, WORST_RESPONSES
from eval_hh.estimates import Contrast, over_replicates, paired_differences
from eval_hh.markup import contrast_text

if TYPE_CHECKING:
    from eval_hh.analysis.results import ModelRow

BELOW = {BASE: f"the responses of the {BASE} model", FLOOR: f"those that they like least (the {FLOOR})"}


@dataclass(frozen=True)
class RewardScale:
    """The scale of the rewards in one pool of test prompts.

    `spans` has the reward of the test data's best responses, the ceiling, minus that of the base model's responses and
    minus that of the test data's worst ones, the floor, by what is below it. Intervals are Student's over test prompts.
    A row that was not made is left out; if none was, nothing is known.
    """

    spans: dict[str, Contrast] = field(default_factory=dict)

    @property
    def least(self) -> float:
        """The largest lower end of the spans' intervals."""
        return max(span.low for span in self.spans.values())

    @property
    def can_judge(self) -> bool:
        """False if no interval lies above zero; a reward without signal passes in at most 5% of studies."""
        return not self.spans or self.least > 0

    @property
    def margin(self) -> float:
        """The difference, 0 to 1, that is too small to matter: 2 points, or less where the spans are small."""
        return max(0.0, min(MARGIN, SHARE_OF_SPAN * self.least)) if self.spans else MARGIN

    @property
    def note(self) -> str:
        """What limits the verdicts: no ability to judge, or a smaller margin than usual; empty if nothing does."""
        if self.margin == MARGIN:
            return ""
        if self.can_judge:
            return (
                f"A difference within {100 * self.margin:.2f} points is too small to matter here: {SHARE_OF_SPAN:.0%} "
                f"of the {CEILING}'s lead over {BASE} or {FLOOR}, at the lower end of its interval (Table 1)."
            )
        others = ", or ".join(
            f"above {BELOW[name]}: {contrast_text(span, 'test prompts')}" for name, span in self.spans.items()
        )
        return (
            f"The test reward model is not shown to score people's preferred responses (the {CEILING}) {others}. It "
            "cannot judge the cells; one that tells these apart is needed."
        )


def reward_scale(models: Sequence[ModelRow], pool: str) -> RewardScale:
    """Returns the scale of a pool from a study's rows of models of no run."""
    ceiling = next((row for row in models if row.own == BEST_RESPONSES), None)
    base = next((row for row in models if row.name == BASE and row.own is None), None)
    floor = next((row for row in models if row.own == WORST_RESPONSES), None)
    if ceiling is None or len(ceiling.values(pool)) < 2:
        return RewardScale()
    return RewardScale(
        {
            name: over_replicates(paired_differences(ceiling.values(pool), below.values(pool)))
            for name, below in ((BASE, base), (FLOOR, floor))
            if below is not None
        }
    )
