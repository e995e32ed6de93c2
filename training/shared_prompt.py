"""The shared-prompt attention: rankings packed end to end in one row, each prompt computed once for its K responses.

Library. A row holds no padding: ranking after ranking, each its prompt and then its responses one after another. Every
layer but attention treats a token by itself, so packing changes nothing there; attention works ranking by ranking, so
that nothing is computed between rankings and no [T, T] mask is ever made.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "shared_prompt"  # the attention implementation, among those of transformers


@dataclass(frozen=True)
class Ranking:
    """Where one ranking lies in its row, and what its responses see."""

    start: int
    prompt_end: int  # the responses begin here
    end: int
    responses_mask: torch.Tensor  # see `responses_mask`


def responses_mask(n_prompt: int, lengths: list[int], device: torch.device | None = None) -> torch.Tensor:
    """What R tokens of responses of `lengths` see, boolean [R, n_prompt + R]: the prompt and their own past."""
    which = torch.repeat_interleave(torch.tensor(lengths, device=device))
    own_past = (which.unsqueeze(1) == which).tril()
    return F.pad(own_past, (n_prompt, 0), value=True)


def rankings_of(lengths: torch.Tensor) -> list[Ranking]:
    """The rankings of a row from `lengths` [B, 1 + K]: tokens of each prompt and of each of its responses."""
    rankings, start = [], 0
    for n_prompt, *responses in lengths.tolist():
        prompt_end = start + n_prompt
        end = prompt_end + sum(responses)
        rankings.append(Ranking(start, prompt_end, end, responses_mask(n_prompt, responses, lengths.device)))
        start = end
    return rankings


def use_shared_prompts(model: PreTrainedModel) -> None:
    """Lets a model attend as `attention` does wherever its forward is given rankings; else it stays under sdpa.

    Raises:
        ValueError: the model was loaded with an attention of another kind, eager for one, whose results may differ.
    """
    implementation = model.config._attn_implementation
    if implementation == NAME:
        return
    if implementation != "sdpa":
        raise ValueError(f"shared prompts need attn_implementation='sdpa', this model has {implementation!r}")
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    rankings: list[Ranking] | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Attention of a packed row, in the form that transformers calls.

    Args:
        module: the attention layer.
        query: [1, heads, T, width].
        key, value: [1, key-value heads, T, width].
        attention_mask: not used where there are rankings.
        scaling, dropout: of the scores.
        rankings: how the row is cut; None for any other forward of the same model.

    Returns:
        ([1, T, heads, width], None).
    """
    if rankings is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    parts = []
    for ranking in rankings:
        prompt, responses = slice(ranking.start, ranking.prompt_end), slice(ranking.prompt_end, ranking.end)
        seen = slice(ranking.start, ranking.end)
        for rows, columns, how in (
            (prompt, prompt, {"is_causal": True}),
            (responses, seen, {"attn_mask": ranking.responses_mask}),
        ):
            parts.append(
                F.scaled_dot_product_attention(
                    query[:, :, rows], key[:, :, columns], value[:, :, columns],
                    scale=scaling, dropout_p=dropout, **how,
                )
            )  # fmt: skip
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None
