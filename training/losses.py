"""The PRO and SFT losses, and the shared-prompt forward pass that feeds them.

`pro_loss` is a pure function of tensors. `response_logps` turns a batch of `training.collator.RankingCollator`, in
which a prompt is computed once and its K responses attend to it and to themselves, into one log-probability each.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class ProLoss:
    """What `pro_loss` returns; every value is a mean over the batch."""

    total: torch.Tensor  # scalar: what is minimised
    ranking: torch.Tensor  # [K-1]: L_k of each position of the ranking but the last
    sft: torch.Tensor  # scalar: minus the summed log-probability of the best response, not yet weighted


def pro_loss(
    sum_logps: torch.Tensor,
    n_tokens: torch.Tensor,
    rewards: torch.Tensor,
    sft_weight: float = 0.05,
    sft_index: torch.Tensor | None = None,
) -> ProLoss:
    """Preference ranking optimization (Song et al., AAAI 2024, arXiv 2306.17492), with rewards as temperatures.

    Args:
        sum_logps: [B, K] summed log-probability of each response's tokens, the best response first.
        n_tokens: [B, K] number of tokens in each sum.
        rewards: [B, K] raw reward logits, never increasing along K.
        sft_weight: weight of the SFT term, multiplied by (K-1)^2.
        sft_index: [B] which response the SFT term imitates; the first where it is None.

    With K = 1 the loss is the SFT term alone.
    """
    sum_logps = sum_logps.float()
    batch, ranking_len = sum_logps.shape
    if sft_index is None:
        sft_index = torch.zeros(batch, dtype=torch.long, device=sum_logps.device)
    sft = -sum_logps.gather(1, sft_index.unsqueeze(1)).mean()
    if ranking_len == 1:
        return ProLoss(total=sft, ranking=sum_logps.new_zeros(0), sft=sft)

    scores = sum_logps / n_tokens
    ranking = torch.stack([_ranking_loss(scores[:, k:], rewards[:, k:].float()) for k in range(ranking_len - 1)])
    total = ranking.sum() + sft_weight * (ranking_len - 1) ** 2 * sft
    return ProLoss(total=total, ranking=ranking, sft=sft)


def _ranking_loss(scores: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
    """L_k: the first of the responses [B, n] against the rest, scaled by t_i = r_k - r_i and t_k = max t_i."""
    gaps = rewards[:, :1] - rewards[:, 1:]
    temperatures = torch.cat([gaps.max(dim=1, keepdim=True).values, gaps], dim=1)
    scaled = scores * temperatures
    return (torch.logsumexp(scaled, dim=1) - scaled[:, 0]).mean()


def shared_prompt_mask(segment_ids: torch.Tensor) -> torch.Tensor:
    """Boolean attention mask [B, 1, L, L] from segment ids [B, L]: 0 prompt, k response k, -1 padding.

    A position sees the past of its own segment and the whole prompt. Padding sees padding, so that no row of the
    mask is empty (a softmax over nothing is NaN).
    """
    length = segment_ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segment_ids.device).tril()
    same_segment = segment_ids.unsqueeze(2) == segment_ids.unsqueeze(1)
    is_prompt = (segment_ids == 0).unsqueeze(1)
    return ((same_segment | is_prompt) & causal).unsqueeze(1)


def response_logps(
    model: torch.nn.Module, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of every response of a shared-prompt batch, in one forward pass.

    Args:
        model: a causal language model of transformers, loaded with sdpa attention.
        batch: what RankingCollator returns.

    Returns:
        sum_logps [B, K] in float32 and n_tokens [B, K].

    Raises:
        ValueError: for an attention implementation other than sdpa. Eager attention adds the mask to its scores, so
            a boolean one would be silently wrong.
    """
    if model.config._attn_implementation != "sdpa":
        raise ValueError(
            f"shared prompts need attn_implementation='sdpa', this model has {model.config._attn_implementation!r}"
        )
    hidden = model.base_model(
        input_ids=batch["input_ids"],
        position_ids=batch["position_ids"],
        attention_mask=shared_prompt_mask(batch["segment_ids"]),
        use_cache=False,
    )[0]
    # Only the positions that predict a response token meet the vocabulary: that is where memory goes.
    logits = model.get_output_embeddings()(hidden.flatten(0, 1)[batch["source_index"]])
    logps = -F.cross_entropy(logits.float(), batch["target_ids"], reduction="none")

    shape = batch["rewards"].shape
    flat = logps.new_zeros(shape.numel())
    sum_logps = flat.index_add(0, batch["response_index"], logps)
    n_tokens = flat.index_add(0, batch["response_index"], torch.ones_like(logps))
    return sum_logps.view(shape), n_tokens.view(shape)


class ResponseLogps(torch.nn.Module):
    """The module that accelerate prepares: its forward is `response_logps`.

    DDP and DeepSpeed synchronise gradients in the forward of the module that they wrap; calling a model inside of it
    would by-pass them.
    """

    def __init__(self, lm: torch.nn.Module):
        super().__init__()
        self.lm = lm

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return response_logps(self.lm, batch)
