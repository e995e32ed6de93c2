"""What a reward model is trained on and measured by: pure functions of its scores and the annotators' rewards.

Library. The losses divide by a total that the caller gives, the whole step's: so the passes and processes that
share a step add up to the step's mean, however unequal their numbers of pairs and tokens are.
"""

import torch
import torch.nn.functional as F


def bradley_terry_loss(
    scores: torch.Tensor, rewards: torch.Tensor, total: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Minus the log-probability of the human order, P(i over j) = sigmoid(s_i - s_j), over all pairs.

    Args:
        scores: [B, K] the model's logits.
        rewards: [B, K] the annotator's, in any order; only which of two is larger counts, equal ones are no pair.
        total: what the sum over the pairs is divided by; None for their number.

    Returns:
        A scalar in float32, 0 where there is no pair.
    """
    gaps = scores.float().unsqueeze(2) - scores.float().unsqueeze(1)
    preferred = rewards.unsqueeze(2) > rewards.unsqueeze(1)
    if total is None:
        total = preferred.sum().clamp(min=1)
    return (F.softplus(-gaps) * preferred).sum() / total


def next_token_loss(
    hidden: torch.Tensor,
    embeddings: torch.Tensor,
    input_ids: torch.Tensor,
    mask: torch.Tensor,
    total: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Cross-entropy of every real token given those before it, with the embeddings as the output layer.

    Args:
        hidden: [B, L, H] the last layer's states.
        embeddings: [V, H].
        input_ids, mask: [B, L], padded on the right.
        total: what the sum over the tokens is divided by; None for their number.
    """
    real = mask[:, 1:].bool()
    logits = (hidden[:, :-1][real] @ embeddings.T).float()
    loss = F.cross_entropy(logits, input_ids[:, 1:][real], reduction="sum")
    return loss / (real.sum() if total is None else total)


def count_pairs(rewards: list[float]) -> int:
    """Pairs of a ranking's responses that differ in reward."""
    return sum(better > worse for better in rewards for worse in rewards)


def pair_accuracy(scores: list[list[float]], rewards: list[list[float]]) -> dict:
    """What metrics.json says of rankings: of the pairs with different rewards, the share that the scores order alike.

    A tie of scores is wrong.
    """
    right = total = 0
    for row_scores, row_rewards in zip(scores, rewards, strict=True):
        for i, better in enumerate(row_rewards):
            for j, worse in enumerate(row_rewards):
                total += better > worse
                right += better > worse and row_scores[i] > row_scores[j]
    return {"pair_accuracy": right / total, "pairs": total, "rankings": len(scores)}


def first_rows(ranking_lens: list[int]) -> list[int]:
    """Where each ranking's best response is among the texts of a batch."""
    return [sum(ranking_lens[:i]) for i in range(len(ranking_lens))]


def as_rows(logits: torch.Tensor, rewards: list[list[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    """(scores, rewards), both [B, K] with K the longest ranking's; a shorter one is filled with copies of its last.

    A copy ties with the response that it copies, but would count twice against the others: it gets the reward NaN,
    which is neither more nor less than any.
    """
    ranking_len = max(map(len, rewards))
    index, values, start = [], [], 0
    for row in rewards:
        extra = ranking_len - len(row)
        index += [*range(start, start + len(row)), *[start + len(row) - 1] * extra]
        values.append(row + [float("nan")] * extra)
        start += len(row)
    scores = logits[torch.tensor(index, device=logits.device)].view(len(rewards), ranking_len)
    # In float64, as JSON's numbers are: in float32 two that differ by little would be a tie.
    return scores, torch.tensor(values, device=logits.device, dtype=torch.float64)
