"""Attention over a packed row in one call: torch's flash attention for sequences of unequal lengths, on a GPU.

Each prompt, and each response behind its prompt, is one sequence: its queries are its own tokens, its keys the prompt's
tokens too. The kernel aligns a sequence's last query with its last key, so a response's token sees the prompt and its
own past. Keys and values of a prompt are copied for each of its responses; that is small beside the rest of a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch.autograd.graph import saved_tensors_hooks

from eval_hh.inference.models import MODEL_ERRORS
from eval_hh.inference.packed_ranking import Ranking, responses_mask

WIDEST = 256  # head size that the kernel takes
CLOSE = 0.05  # tolerance of the kernel's probe, on numbers around 1 in half precision


@dataclass(frozen=True)
class Sequences:
    """The sequences of a row, in the order of the row's tokens."""

    columns: torch.Tensor  # int64 [S]: the row's token of each key, sequence after sequence
    query_ends: torch.Tensor  # int32 [N + 1]: 0 and where each sequence's queries end
    key_ends: torch.Tensor  # int32 [N + 1]: likewise in `columns`
    longest_query: int
    longest_key: int


def sequences(rankings: Sequence[Ranking], device: torch.device) -> Sequences:
    """Returns the sequences of a row of rankings."""
    columns: list[int] = []
    queries, keys = [], []
    for ranking in rankings:
        prompt = range(ranking.start, ranking.prompt_end)
        start = ranking.start
        for length in (ranking.n_prompt, *ranking.responses):
            own = range(start, start + length)
            before = () if start == ranking.start else prompt
            columns += [*before, *own]
            queries.append(length)
            keys.append(len(before) + length)
            start += length
    return Sequences(torch.tensor(columns, device=device), _ends(queries, device), _ends(keys, device),
                     max(queries), max(keys))  # fmt: skip


def _ends(lengths: list[int], device: torch.device) -> torch.Tensor:
    return F.pad(torch.tensor(lengths).cumsum(0), (1, 0)).to(device, torch.int32)


def usable(query: torch.Tensor, value: torch.Tensor, dropout: float) -> bool:
    """Returns whether `attend` computes attention of these tensors, [1, heads, T, width], on this machine."""
    width = query.shape[3]
    fits = value.shape[3] == width <= WIDEST and width % 8 == 0 and dropout == 0
    half = query.dtype in (torch.bfloat16, torch.float16)
    return query.is_cuda and half and fits and _kernel_is_right(query.device, query.dtype, width)


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, of: Sequences, scaling: float | None
) -> torch.Tensor:
    """Returns [1, T, heads, width] for query, key and value [1, heads, T, width]."""
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    return _kernel(query, _gathered(key, of.columns), _gathered(value, of.columns), of, scaling).unsqueeze(0)


def _gathered(states: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Returns rows of [T, heads, width]; an embedding's gradient sums repeated rows in float32 and in one order."""
    return F.embedding(columns, states.flatten(1)).view(-1, *states.shape[1:])


def _kernel(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, of: Sequences, scaling: float | None
) -> torch.Tensor:
    """Returns causal attention [T, heads, width] within each sequence."""
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn(
        query, key, value, of.query_ends, of.key_ends, of.longest_query, of.longest_key,
        scale=scaling, window_size=(-1, 0),
    )  # fmt: skip


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


@cache
def _kernel_is_right(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Returns whether this torch and card have the kernel and it gives, on a probe, what sdpa gives with a mask.

    Values and gradients are compared for a prompt of 3 tokens and responses of 2 and 5.
    """
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(1, 2, 10, width, generator=generator).to(device, dtype) for _ in range(4)]
    mask = F.pad(torch.ones(3, 3, device=device).tril().bool(), (0, 7))
    mask = torch.cat([mask, responses_mask(3, [2, 5], device)])
    found = []
    try:
        # Hooks of its own: checkpointing counts what its forward pass saves, and this one runs only once.
        with torch.enable_grad(), torch.autocast(device.type, enabled=False), saved_tensors_hooks(_same, _same):
            for way in ("kernel", "sdpa"):
                query, key, value = (each.clone().requires_grad_() for each in states[:3])
                if way == "kernel":
                    out = attend(query, key, value, sequences([Ranking(0, [2, 5], 3)], device), None)
                else:
                    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)
                gradients = torch.autograd.grad(out, (query, key, value), states[3].transpose(1, 2))
                found.append([out, *gradients])
    except (ImportError, *MODEL_ERRORS):
        return False
    return all((a - b).abs().max().item() <= CLOSE for a, b in zip(*found, strict=True))
