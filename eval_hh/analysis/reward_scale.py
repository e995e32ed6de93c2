"""How far a study's reward puts the test data's best responses above others: what a difference can be read on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eval_hh.analysis.rules import MARGIN, SHARE_OF_LEAD
from eval_hh.cells import BASE, BEST_RESPONSES, CEILING, FLOOR, WORST_RESPONSES, pooled
from eval_hh.estimates import Contrast, over_replicates, paired_differences
from eval_hh.markup import contrast_text, points_text

OTHERS = {FLOOR: "its worst ones", BASE: "the base model's"}


@dataclass(frozen=True)
class ModelRow:
    """The evaluation of a model of no run, scored as the cells are."""

    name: str
    own: str | None  # BEST_RESPONSES or WORST_RESPONSES where the texts are the test data's own
    files: dict[str, dict[str, Any]]

    def values(self, pool: str) -> np.ndarray:
        """Returns the rewards [test prompts] of a pool."""
        return pooled(self.files, pool)


@dataclass(frozen=True)
class RewardScale:
    """The scale of the rewards in one pool of test prompts.

    `spans` has the reward of the test data's best responses, the ceiling, minus that of its worst ones, the floor, and
    minus that of the base model's responses, by what is below it. Intervals are Student's over test prompts. A row that
    was not made is left out; if none was, nothing is known. Of a single prompt there are rows, but no interval.
    """

    spans: dict[str, Contrast] = field(default_factory=dict)
    one_prompt: bool = False

    @property
    def below(self) -> str | None:
        """What the ceiling is held against: the floor; without one the base model, whose style may be another."""
        return next((name for name in (FLOOR, BASE) if name in self.spans), None)

    @property
    def lead(self) -> Contrast | None:
        """The ceiling minus what it is held against."""
        return self.spans[self.below] if self.below else None

    @property
    def can_judge(self) -> bool:
        """False if the ceiling is not shown to lead; a reward that scores both alike passes in 2.5% of studies."""
        return not self.one_prompt and (self.lead is None or self.lead.low > 0)

    @property
    def margin(self) -> float:
        """The difference, 0 to 1, that is too small to matter: 2 points, or less where the lead is small."""
        return MARGIN if self.lead is None else max(0.0, min(MARGIN, SHARE_OF_LEAD * self.lead.low))

    @property
    def note(self) -> str:
        """What limits the verdicts: a reward that cannot judge, or a smaller margin than usual; empty if nothing."""
        if self.one_prompt:
            what = "The reward is not shown to tell good responses from bad on a single test prompt."
            return f"{what} No verdict rests on it: more are needed."
        if self.margin == MARGIN:
            return ""
        lead = f"{CEILING} minus {self.below} is {contrast_text(self.lead, 'test prompts')}"
        if self.can_judge:
            return (
                f"A difference within {points_text(self.margin)} points is too small to matter here: "
                f"{SHARE_OF_LEAD:.0%} of the lower end of the ceiling's lead ({lead})."
            )
        return (
            f"The reward is not shown to score the test data's best responses above {OTHERS[self.below]}: {lead}. No "
            "verdict rests on it: more test prompts, or a reward model that tells these apart, are needed."
        )


def reward_scale(models: Sequence[ModelRow], pool: str) -> RewardScale:
    """Returns the scale of a pool from a study's rows of models of no run.

    The base model's row has the name `base`; a floor that equals the ceiling, of rows with one response, is none.
    """
    ceiling = next((row for row in models if row.own == BEST_RESPONSES), None)
    base = next((row for row in models if row.name == BASE and row.own is None), None)
    floor = next((row for row in models if row.own == WORST_RESPONSES), None)
    if ceiling is None or (base is None and floor is None):
        return RewardScale()
    if len(ceiling.values(pool)) < 2:
        return RewardScale(one_prompt=True)
    differences = {
        name: paired_differences(ceiling.values(pool), below.values(pool))
        for name, below in ((BASE, base), (FLOOR, floor))
        if below is not None
    }
    spans = {name: over_replicates(one) for name, one in differences.items() if name == BASE or one.any()}
    return RewardScale(spans)
