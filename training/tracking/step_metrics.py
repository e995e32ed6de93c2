"""What a step logs about its responses: sums that passes and processes add up, and the metrics made of them.

Every metric is a ratio of sums over the global batch, so it does not depend on how the batch was divided, and a step
needs one reduction for all of them.
"""

import torch

from training.losses import ProLoss
from training.tracking.metrics import RANKING_ACCURACY, SFT_LOSS


def ranking_agreement(scores: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
    """Compares the order of a model's scores with a ranking.

    Args:
        scores: [B, K] mean log-probability of each response, as in PRO.
        rewards: [B, K] non-increasing along K.

    Returns:
        [4], sums over the rankings that have two different rewards, for only these have an order: their number; the
        score of the best response minus that of the worst; 1 if the largest score is that of a best response, and not
        also that of another; Kendall's tau-b, 0 if all scores are equal.
    """
    best = rewards == rewards[:, :1]
    ordered = ~best.all(dim=1)
    margin = scores[:, 0] - scores[:, -1]
    highest = [scores.masked_fill(~which, -torch.inf).amax(dim=1) for which in (best, ~best)]
    first, second = torch.triu_indices(*[scores.shape[1]] * 2, offset=1, device=scores.device)
    orders = [(values[:, first] - values[:, second]).sign() for values in (scores, rewards.to(scores))]
    pairs = (orders[0] ** 2).sum(dim=1) * (orders[1] ** 2).sum(dim=1)  # not tied in the scores, nor in the rewards
    tau = (orders[0] * orders[1]).sum(dim=1) / pairs.clamp(min=1).sqrt()
    parts = torch.stack([torch.ones_like(margin), margin, (highest[0] > highest[1]).to(margin), tau])
    return torch.where(ordered, parts, 0).sum(dim=1)


def step_sums(
    loss: ProLoss, sum_logps: torch.Tensor, n_tokens: torch.Tensor, batch: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Returns the sums of one micro-batch, for `step_metrics`, detached and in float32.

    Args:
        loss: made from the other three.
        sum_logps, n_tokens: [B, K], see `training.losses.response_logps`.
        batch: output of `training.collator.collate`.

    Returns:
        [K + 7], the total loss first.
    """
    sum_logps = sum_logps.detach().float()
    imitated = batch["sft_index"].unsqueeze(1)
    own = [
        -sum_logps.gather(1, imitated).sum(), n_tokens.gather(1, imitated).sum(),
        sum_logps.new_tensor(batch["input_ids"].numel()),
    ]  # fmt: skip
    losses = [loss.total, loss.sft, *loss.ranking, *own]
    agreement = ranking_agreement(sum_logps / n_tokens, batch["rewards"])
    return torch.cat([torch.stack([value.detach().float() for value in losses]), agreement])


def step_metrics(sums: list[float], n_micro_batches: int) -> tuple[dict[str, float], float]:
    """Returns (metrics by name, tokens computed) of a step.

    Args:
        sums: of `step_sums`, over all micro-batches of all processes.
        n_micro_batches: their number.

    Returns:
        loss, sft_loss and ranking_loss_k are means over the micro-batches, which are of equal size;
        sft_loss_per_token is in nats; score_margin, ranking_accuracy and kendall_tau are means over the rankings of
        `ranking_agreement`, left out if there are none.
    """
    *losses, nats, n_targets, tokens, n_ordered, margin, right, tau = sums
    names = ["loss", SFT_LOSS, *(f"ranking_loss_{k}" for k in range(1, len(losses) - 1))]
    metrics = {name: value / n_micro_batches for name, value in zip(names, losses, strict=True)}
    metrics["sft_loss_per_token"] = nats / n_targets
    if n_ordered:
        agreement = {"score_margin": margin, RANKING_ACCURACY: right, "kendall_tau": tau}
        metrics |= {name: value / n_ordered for name, value in agreement.items()}
    return metrics, tokens
