"""Reward models: RewardModel.score, and the loss of their training, against one padded row per response.

    python benchmarks/run.py reward_scoring [--quick] [--dialogues N] [--rankings N] [--layers N] [--width N]

All with the same GPT-NeoX (pythia-160m's shape, random weights, OpenAssistant's head). One reply to each HH-RLHF
prompt: against file order, in batches of 12 padded to the longest. Four replies: against batches of 16 sorted by
length, for scoring, and in passes of four rankings for a step's forward and backward pass. Scores must
agree to 1e-5, also ours for batches of 1, 12 and 64; losses to 1e-5, gradients to a thousandth of the largest.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks import hh_like
from benchmarks.side_by_side import Row, Settings, in_turns, sized

NAIVE_BATCH = 12
BATCH_SIZES = (1, 12, 64)  # must give the same scores
TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-3
RANKING_LEN = 4
BATCH, PASS = 16, 4  # dialogues of a batch, rankings of a training pass


@dataclass(frozen=True)
class Sizes(Settings):
    dialogues: int = sized("dialogues", 160, 96)
    rankings: int = sized("rankings of four replies", 24, 16)
    layers: int = sized("layers of the model", 12, 3)
    width: int = sized("hidden size of the model, a multiple of 12", 768)
    rounds: int = sized("timed rounds", 2, 1)


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


def score_by_length(model, turns_list: list[list[str]], replies: list[str]) -> list[float]:
    """Scores in batches of dialogues of similar length, right-padded."""
    from eval_hh.inference.decoding import plan_batches

    encoded = [model.encode(turns, reply) for turns, reply in zip(turns_list, replies, strict=True)]
    scores: dict[int, float] = {}
    for batch in plan_batches([len(ids) for ids in encoded], BATCH):
        scores |= zip(batch, score_padded(model, [encoded[i] for i in batch]), strict=True)
    return [scores[i] for i in range(len(encoded))]


def train(model, packs: bool, records: list) -> tuple[float, Any]:
    """Computes loss and gradient of a step, in passes of rankings of similar length; returns them, the latter flat."""
    import torch

    from training.reward.losses import count_pairs
    from training.reward.trainer import RankingLoss

    model.packs = packs
    model.model.zero_grad()
    loss_of, loss = RankingLoss(model, 0.0), 0.0
    texts = [[model.encode(record.turns, text) for text in record.suffix] for record in records]
    order = sorted(range(len(records)), key=lambda row: max(map(len, texts[row])))
    n_pairs = sum(count_pairs(record.reward) for record in records)
    for start in range(0, len(order), PASS):
        rows = order[start : start + PASS]
        part = loss_of([ids for row in rows for ids in texts[row]], [records[row].reward for row in rows], n_pairs, 1)
        part.backward()
        loss += part.item()
    return loss, torch.cat([weight.grad.flatten() for weight in model.model.parameters()])


def several_replies(model, sizes: Sizes) -> Iterator[Row]:
    """Scoring and training of rankings, each prompt in one row with its replies, against one row per reply."""
    records = hh_like.rankings(sizes.rankings, RANKING_LEN)
    flat = [(record.turns, text) for record in records for text in record.suffix]
    dialogues = [turns for turns, _ in flat], [text for _, text in flat]
    what = f"{sizes.rankings} prompts with {RANKING_LEN} replies, GPT-NeoX of {sizes.layers} layers of {sizes.width}"
    ways = partial(score_by_length, model), partial(model.score, batch_size=BATCH)
    (naive, ours), found = in_turns(*(partial(way, *dialogues) for way in ways), sizes.rounds)
    note = f"scores at most {agree('shared prompts', *found):.0e} apart"
    yield Row(f"scoring of {what}", naive, ours, "s", "3x", note)
    ways = [partial(train, model, packs, records) for packs in (False, True)]
    (naive, ours), ((loss, gradient), (our_loss, our_gradient)) = in_turns(*ways, sizes.rounds)
    apart = ((our_gradient - gradient).abs().max() / gradient.abs().max()).item()
    if not (abs(loss - our_loss) <= TOLERANCE * abs(loss) and apart <= GRADIENT_TOLERANCE):
        sys.exit(f"error: training: losses {loss} and {our_loss}, gradients {apart:.2g} of the largest apart")
    note = f"losses {abs(loss - our_loss):.0e} apart, gradients {apart:.0e} of the largest"
    yield Row(f"training: forward and backward pass of {what}", naive, ours, "s", "3x", note)


def measure(sizes: Sizes) -> Iterator[Row]:
    from benchmarks.stand_in_models import reward_model

    model, count = reward_model(sizes.layers, sizes.width), sizes.dialogues
    model.try_packing()
    model.fix_weights()
    dialogues = hh_like.prompts(count), hh_like.replies(count)
    ways = partial(score_naively, model), model.score
    for way in ways:  # warm up
        way(*(texts[:2] for texts in dialogues))
    (naive, ours), (scores, _) = in_turns(*(partial(way, *dialogues) for way in ways), sizes.rounds)
    worst = max(agree(f"batches of {size}", scores, model.score(*dialogues, size)) for size in BATCH_SIZES)
    what = f"scoring of {count} dialogues, GPT-NeoX of {sizes.layers} layers of {sizes.width}"
    note = f"{count / naive:.3g} and {count / ours:.3g} dialogues per second; {hh_like.source()}"
    each, batches = 1000 / count, ", ".join(map(str, BATCH_SIZES))
    yield Row(what, naive * each, ours * each, "s per 1000", "2x", note)
    yield Row(f"largest difference of scores, batches of {batches}", None, worst, "", f"at most {TOLERANCE:g}")
    yield from several_replies(model, sizes)
