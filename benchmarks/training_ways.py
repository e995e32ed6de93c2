"""A PRO step in two ways, on the same encoded rankings: the published one and ours.

Each way runs forward, loss and backward over all rankings and returns the step's loss; gradients accumulate in the
model. The optimiser's update is the same for all and left out.
"""

from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedTokenizerBase

from benchmarks import hh_like
from benchmarks.stand_in_models import tokenizer
from training.batches import balanced
from training.collator import EncodedRanking, RankingCollator, collate
from training.losses import pro_loss, response_logps

PAD = 1  # OPT's padding id


def encoded_rankings(
    count: int, ranking_len: int, encoder: PreTrainedTokenizerBase | None = None
) -> list[EncodedRanking]:
    """Returns HH-like rankings as token ids, by default of the stand-in for OPT's tokenizer."""
    collator = RankingCollator(encoder or tokenizer(), ranking_len)
    return [collator.encode(record) for record in hh_like.rankings(count, ranking_len)]


def separate_passes(model: torch.nn.Module, rankings: Sequence[EncodedRanking], batch_size: int) -> float:
    """The published way: K passes that each repeat the prompt, padded to the batch's longest text, with all logits."""
    total = 0.0
    for start in range(0, len(rankings), batch_size):
        batch = rankings[start : start + batch_size]
        ids, mask, labels = (tensor.to(model.device) for tensor in _padded_texts(batch))
        sums, counts = [], []
        for k in range(ids.shape[1]):
            output = model(input_ids=ids[:, k], attention_mask=mask[:, k], output_hidden_states=True, use_cache=False)
            logps = output.logits[:, :-1].float().log_softmax(dim=-1)
            targets = labels[:, k, 1:]
            chosen = logps.gather(2, targets.clamp(min=0).unsqueeze(2)).squeeze(2)
            sums.append((chosen * (targets >= 0)).sum(dim=1))
            counts.append((targets >= 0).sum(dim=1))
        rewards = torch.tensor([ranking.rewards for ranking in batch], device=model.device)
        loss = pro_loss(torch.stack(sums, 1), torch.stack(counts, 1), rewards).total * (len(batch) / len(rankings))
        loss.backward()
        total += loss.item()
    return total


def _padded_texts(rankings: Sequence[EncodedRanking]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns (ids, mask, labels), each [B, K, L], with one text per response; labels are -1 without a target."""
    ranking_len = len(rankings[0].segments)
    length = max(len(ranking.prompt) + len(segment) for ranking in rankings for segment in ranking.segments)
    ids = torch.full((len(rankings), ranking_len, length), PAD)
    labels = torch.full_like(ids, -1)
    mask = torch.zeros_like(ids)
    for b, ranking in enumerate(rankings):
        for k, (segment, n_targets) in enumerate(zip(ranking.segments, ranking.n_targets, strict=True)):
            text = torch.tensor(ranking.prompt + segment)
            ids[b, k, : len(text)] = text
            mask[b, k, : len(text)] = 1
            labels[b, k, len(text) - n_targets : len(text)] = text[-n_targets:]
    return ids, mask, labels


def packed(
    model: torch.nn.Module,
    rankings: Sequence[EncodedRanking],
    batch_size: int,
    logps: Callable = response_logps,
) -> float:
    """Our way, as in training/trainer.py; `batch_size` must divide the number of rankings."""
    parts = balanced(range(len(rankings)), [len(ranking) for ranking in rankings], len(rankings) // batch_size)
    total = 0.0
    for part in parts:
        batch = {name: tensor.to(model.device) for name, tensor in collate([rankings[row] for row in part]).items()}
        sums, counts = logps(model, batch)
        loss = pro_loss(sums, counts, batch["rewards"]).total * (len(part) / len(rankings))
        loss.backward()
        total += loss.item()
    return total
