"""Reward scoring: RewardModel.score against dialogues in file order, in batches of 12 padded to each one's longest.

    python reward_scoring.py [--quick] [--dialogues N] [--layers N] [--width N] [--rounds N]

Both ways read the same dialogues, HH-RLHF's prompts with a reply, with the same GPT-NeoX of pythia-160m's shape with
random weights under OpenAssistant's head. Scores must agree to 1e-5, and so must ours for batches of 1, 12 and 64.
"""

import argparse
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.side_by_side import Comparison, Measure, add_sizes, chosen_sizes, in_turns, parser, report

if TYPE_CHECKING:
    from eval_hh.reward_model import RewardModel

NAIVE_BATCH = 12
BATCH_SIZES = (1, 12, 64)  # whose scores must be the same
TOLERANCE = 1e-5
TARGET = 2.0


@dataclass(frozen=True)
class Sizes:
    """How much is scored. The defaults are the full benchmark's."""

    dialogues: int = 240
    layers: int = 12
    width: int = 768
    rounds: int = 1


QUICK = Sizes(dialogues=96, layers=3)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    flags = parser(__doc__)
    add_sizes(flags, Sizes(), QUICK)
    return flags.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    import torch

    from benchmarks import hh_like

    torch.set_num_threads(args.threads)
    sizes = chosen_sizes(args, Sizes(), QUICK)
    trial = Trial(sizes)
    trial.warm_up()
    naive, ours = in_turns(trial.naive, trial.ours, sizes.rounds, warm_up=False)
    worst = max(agree(f"batches of {size}", trial.naive_scores, trial.score(size)) for size in BATCH_SIZES)
    count, each = sizes.dialogues, 1000 / sizes.dialogues
    what = f"scoring of {count} dialogues, GPT-NeoX of {sizes.layers} layers of {sizes.width}"
    note = f"{count / naive:.3g} and {count / ours:.3g} dialogues per second; {hh_like.source()}"
    batches = ", ".join(map(str, BATCH_SIZES))
    report(
        [
            Comparison(what, naive * each, ours * each, "s per 1000", TARGET, note),
            Measure(f"largest difference of scores, batches of {batches}", worst, "", f"at most {TOLERANCE:g}"),
        ],
        args.json,
    )


@dataclass
class Trial:
    """One set of dialogues and a model, and the ways to score them."""

    sizes: Sizes

    @cached_property
    def model(self) -> "RewardModel":
        from benchmarks.stand_in_models import reward_model

        return reward_model(self.sizes.layers, self.sizes.width)

    @cached_property
    def dialogues(self) -> tuple[list[list[str]], list[str]]:
        from benchmarks import hh_like

        return hh_like.prompts(self.sizes.dialogues), hh_like.replies(self.sizes.dialogues)

    def warm_up(self) -> None:
        """Both ways on the first dialogues, so that neither pays for what a process does once."""
        prompts, replies = (texts[:2] for texts in self.dialogues)
        self.model.score(prompts, replies)
        score_padded(self.model, [self.model.encode(*pair) for pair in zip(prompts, replies, strict=True)])

    def naive(self) -> None:
        """File order, twelve at a time, right-padded under an attention mask."""
        encoded = [self.model.encode(turns, reply) for turns, reply in zip(*self.dialogues, strict=True)]
        self.naive_scores = [
            score
            for start in range(0, len(encoded), NAIVE_BATCH)
            for score in score_padded(self.model, encoded[start : start + NAIVE_BATCH])
        ]

    def ours(self) -> None:
        self.score()

    def score(self, *batch_size: int) -> list[float]:
        """Our scores, in batches of the default size or of another."""
        return self.model.score(*self.dialogues, *batch_size)


def score_padded(model: "RewardModel", encoded: list[list[int]]) -> list[float]:
    """Raw logits of one batch, written out for a model with OpenAssistant's head that pools the last token."""
    import torch

    longest = max(map(len, encoded))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in encoded])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in encoded])
    with torch.inference_mode():
        hidden = model.model.gpt_neox(ids, attention_mask=mask, use_cache=False).last_hidden_state
        last = hidden[torch.arange(len(encoded)), mask.sum(dim=1) - 1]
        return model.model.out_proj(last).squeeze(1).tolist()


def agree(what: str, naive: list[float], ours: list[float]) -> float:
    """The largest difference of scores; ends the benchmark where it is too large. Not relative: a score may be 0."""
    worst = max(abs(a - b) for a, b in zip(naive, ours, strict=True))
    if not worst <= TOLERANCE:
        sys.exit(f"error: {what}: scores differ by {worst:.2g} (expected at most {TOLERANCE:g})")
    return worst


if __name__ == "__main__":
    main()
