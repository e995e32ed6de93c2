"""Reward scoring: RewardModel.score against dialogues in file order, in batches of 12 padded to the longest.

    python benchmarks/run.py reward_scoring [--quick] [--dialogues N] [--layers N] [--width N] [--rounds N]

Both ways score the same dialogues, HH-RLHF prompts with a reply, with the same GPT-NeoX (pythia-160m's shape, random
weights, OpenAssistant's head). Scores must agree to 1e-5, also ours for batches of 1, 12 and 64.
"""

import sys
from dataclasses import dataclass
from functools import partial

from benchmarks import hh_like
from benchmarks.side_by_side import Row, Settings, in_turns, sized

NAIVE_BATCH = 12
BATCH_SIZES = (1, 12, 64)  # must give the same scores
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Sizes(Settings):
    dialogues: int = sized("dialogues", 240, 96)
    layers: int = sized("layers of the model", 12, 3)
    width: int = sized("hidden size of the model, a multiple of 12", 768)
    rounds: int = sized("timed rounds", 1)


def score_naively(model, prompts: list[list[str]], replies: list[str]) -> list[float]:
    """Scores in file order, twelve at a time, right-padded with an attention mask."""
    encoded = [model.encode(turns, reply) for turns, reply in zip(prompts, replies, strict=True)]
    batches = [encoded[start : start + NAIVE_BATCH] for start in range(0, len(encoded), NAIVE_BATCH)]
    return [score for batch in batches for score in score_padded(model, batch)]


def score_padded(model, encoded: list[list[int]]) -> list[float]:
    """Returns the raw logits of one batch, for a model with OpenAssistant's head that pools the last token."""
    import torch

    from eval_hh.inference.models import padded

    ids, mask = padded(encoded, 0, model.model.device)
    with torch.inference_mode():
        hidden = model.model.gpt_neox(ids, attention_mask=mask, use_cache=False).last_hidden_state
        last = hidden[torch.arange(len(encoded)), mask.sum(dim=1) - 1]
        return model.model.out_proj(last).squeeze(1).tolist()


def agree(what: str, naive: list[float], ours: list[float]) -> float:
    """Returns the largest difference of scores; exits if it is too large. It is absolute, since a score may be 0."""
    worst = max(abs(a - b) for a, b in zip(naive, ours, strict=True))
    if not worst <= TOLERANCE:
        sys.exit(f"error: {what}: scores differ by {worst:.2g} (expected at most {TOLERANCE:g})")
    return worst


def measure(sizes: Sizes) -> list[Row]:
    from benchmarks.stand_in_models import reward_model

    model, count = reward_model(sizes.layers, sizes.width), sizes.dialogues
    dialogues = hh_like.prompts(count), hh_like.replies(count)
    ways = partial(score_naively, model), model.score
    for way in ways:  # warm up
        way(*(texts[:2] for texts in dialogues))
    (naive, ours), (scores, _) = in_turns(*(partial(way, *dialogues) for way in ways), sizes.rounds)
    worst = max(agree(f"batches of {size}", scores, model.score(*dialogues, size)) for size in BATCH_SIZES)
    what = f"scoring of {count} dialogues, GPT-NeoX of {sizes.layers} layers of {sizes.width}"
    note = f"{count / naive:.3g} and {count / ours:.3g} dialogues per second; {hh_like.source()}"
    each, batches = 1000 / count, ", ".join(map(str, BATCH_SIZES))
    return [
        Row(what, naive * each, ours * each, "s per 1000", "2x", note),
        Row(f"largest difference of scores, batches of {batches}", None, worst, "", f"at most {TOLERANCE:g}"),
    ]
