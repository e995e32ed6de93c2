"""Losses and metrics of reward models: pure functions of scores and annotated rewards.

The losses divide by a total that the caller gives, that of the whole step: so the passes and processes that share a
step add up to the step's mean, even if their numbers of pairs and tokens differ.
"""

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence


def bradley_terry_loss(
    scores: torch.Tensor, rewards: torch.Tensor, total: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Negative log-probability of the human order, P(i over j) = sigmoid(s_i - s_j), over all pairs.

    Args:
        scores: [B, K] the model's logits.
        rewards: [B, K] the annotator's rewards, in any order; only their order counts, and ties are not pairs.
        total: divisor of the sum over pairs; None means their number.

    Returns:
        A scalar in float32, 0 without pairs.
    """
    gaps = scores.float().unsqueeze(2) - scores.float().unsqueeze(1)
    preferred = rewards.unsqueeze(2) > rewards.unsqueeze(1)
    if total is None:
        total = preferred.sum().clamp(min=1)
    return (F.softplus(-gaps) * preferred).sum() / total


def next_token_loss(
    states: torch.Tensor, embeddings: torch.Tensor, targets: torch.Tensor, total: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Cross-entropy of tokens given those before them, with the embeddings as output layer.

    Args:
        states: [N, H] hidden states of the last layer at the tokens before the targets.
        embeddings: [V, H].
        targets: [N] token ids.
        total: divisor of the sum over tokens; None means their number.
    """
    loss = F.cross_entropy((states @ embeddings.T).float(), targets, reduction="sum")
    return loss / (len(targets) if total is None else total)


def count_pairs(rewards: list[float]) -> int:
    """Returns the number of pairs of a ranking's responses that differ in reward."""
    return sum(better > worse for better in rewards for worse in rewards)


def pair_accuracy(scores: list[list[float]], rewards: list[list[float]]) -> dict:
    """Returns metrics.json's entries: the share of pairs of unequal reward that the scores order right; ties do not."""
    right = sum(
        better > worse and row_scores[i] > row_scores[j]
        for row_scores, row_rewards in zip(scores, rewards, strict=True)
        for i, better in enumerate(row_rewards)
        for j, worse in enumerate(row_rewards)
    )
    total = sum(map(count_pairs, rewards))
    return {"pair_accuracy": right / total, "pairs": total, "rankings": len(scores)}


def first_rows(ranking_lens: list[int]) -> list[int]:
    """Returns the index of each ranking's best response among the texts of a batch."""
    return [sum(ranking_lens[:i]) for i in range(len(ranking_lens))]


def as_rows(logits: torch.Tensor, rewards: list[list[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (scores, rewards), both [B, K] for the longest ranking.

    The responses that a shorter one lacks have the reward NaN, which is neither more nor less than any reward.
    """
    scores = pad_sequence(logits.split(list(map(len, rewards))), batch_first=True)
    # float64, as in JSON: in float32, nearly equal rewards would become ties.
    rows = [torch.tensor(row, device=logits.device, dtype=torch.float64) for row in rewards]
    return scores, pad_sequence(rows, batch_first=True, padding_value=float("nan"))
