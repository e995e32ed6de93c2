"""Shared-prompt attention: rankings packed into one row, each prompt computed once for its K responses.

A row has no padding: ranking after ranking, each its prompt and then its responses one after another. Attention is
computed per ranking, so nothing is computed across rankings and no [T, T] mask is made; on a GPU in half precision,
full attention is one call per layer (varlen_attention.py). A token sees what it would see if its response alone
followed the prompt: transformers passes the mask function of each kind of layer (full attention, sliding window,
chunks) to `visible_positions`, which evaluates it by position, not by index in the row.

Everything else in a layer must treat each token separately. Whoever uses this compares it with a plain pass first.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import causal_mask_function, sdpa_mask

from eval_hh.inference.models import without_plans
from eval_hh.inference.packed_ranking import Ranking, responses_mask
from eval_hh.inference.varlen_attention import Sequences, attend, sequences, usable

ALIGNMENT = 8  # numbers; rows of an additive mask start at multiples of it
NAME = "shared_prompt"  # of the attention implementation registered with transformers
# Keyword arguments that attention may ignore: as in sdpa, a window acts only through the mask.
WITHOUT_EFFECT = frozenset({
    "sliding_window", "position_ids", "use_cache", "output_attentions", "output_hidden_states", "output_router_logits",
})  # fmt: skip


class Unpackable(ValueError):
    """Why a model's layers cannot be computed on packed rows."""


# Masks of the prompt's and of the responses' tokens; None means that each prompt token sees its whole past.
Masks = tuple[torch.Tensor | None, torch.Tensor]


class PackedRow:
    """How a row is split into rankings, and what its tokens see in each kind of layer."""

    def __init__(self, lengths: Sequence[Sequence[int]], device: torch.device | None = None):
        """lengths: per ranking, tokens of its prompt and of each of its responses, if any, in row order."""
        self.device = device or torch.device("cpu")
        self.rankings: list[Ranking] = []
        start = 0
        for n_prompt, *responses in lengths:
            self.rankings.append(Ranking(start, responses, start + n_prompt))
            start = self.rankings[-1].end
        self.n_tokens = start
        self.n_positions = max(ranking.n_prompt + max(ranking.responses, default=0) for ranking in self.rankings)
        self._masks: dict[tuple[int | None, torch.dtype], tuple[torch.Tensor | None, list[Masks]]] = {}

    @cached_property
    def halves(self) -> list[int]:
        """Tokens of each ranking's prompt and of its responses, in row order."""
        return [size for ranking in self.rankings for size in (ranking.n_prompt, sum(ranking.responses))]

    @cached_property
    def sequences(self) -> Sequences:
        """The row as sequences, for `varlen_attention.attend`."""
        return sequences(self.rankings, self.device)

    def masks(self, visible: torch.Tensor | None, dtype: torch.dtype) -> list[Masks]:
        """Returns the masks of each ranking in a layer for which `visible_positions` returned `visible`.

        On a GPU they are those of `additive`, for scores of `dtype`; on the CPU they are boolean.
        """
        key = None if visible is None else id(visible), dtype
        if key not in self._masks:  # cached per kind of layer; `visible` is kept, so that its id stays unique
            masks = [_masks(ranking, visible, self.device) for ranking in self.rankings]
            if self.device.type == "cuda":
                masks = [(prompt if prompt is None else additive(prompt, dtype), additive(responses, dtype))
                         for prompt, responses in masks]  # fmt: skip
            self._masks[key] = visible, masks
        return self._masks[key][1]


def _masks(ranking: Ranking, visible: torch.Tensor | None, device: torch.device) -> Masks:
    n_prompt, responses = ranking.n_prompt, responses_mask(ranking.n_prompt, ranking.responses, device)
    if visible is None:
        return None, responses
    own = [torch.arange(n_prompt, n_prompt + length, device=device) for length in ranking.responses]
    positions = torch.cat([torch.arange(n_prompt, device=device), *own])
    seen = visible[0, 0]
    return seen[:n_prompt, :n_prompt], responses & seen[positions[n_prompt:]][:, positions]


def additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Returns a boolean mask [Q, K] as 0 and minus infinity, in the memory layout of CUDA's memory-efficient kernel.

    Given a boolean mask, or rows of another alignment, sdpa makes this copy in each layer anew.
    """
    n_queries, n_keys = mask.shape
    aligned = torch.zeros(n_queries, -(-n_keys // ALIGNMENT) * ALIGNMENT, dtype=dtype, device=mask.device)
    return aligned[:, :n_keys].masked_fill_(~mask, -torch.inf)


_row: ContextVar[PackedRow | None] = ContextVar("row", default=None)


@contextmanager
def packed(model: PreTrainedModel, row: PackedRow, batch: dict[str, torch.Tensor]) -> Iterator[dict[str, Any]]:
    """Yields the keyword arguments of a forward pass of `model` over a batch of rankings, for use inside the block.

    Args:
        model: a transformers model.
        row: made of the batch's lengths.
        batch: input_ids and position_ids, both [1, T].

    Raises:
        Unpackable: the model was loaded with another attention implementation (e.g. eager), whose results may differ;
            or its layers do not use transformers' attention interface.
    """
    use_shared_prompts(model)
    token = _row.set(row)
    try:
        inputs = {name: batch[name] for name in ("input_ids", "position_ids")}
        # With a 2-D mask transformers treats the row as one text and passes on each layer's plain mask function.
        yield {**inputs, "attention_mask": torch.ones_like(batch["input_ids"]), "use_cache": False, "row": row}
    finally:
        _row.reset(token)


def use_shared_prompts(model: PreTrainedModel) -> None:
    """Makes a model use `attention` whenever its forward is given a row. Raises Unpackable, see `packed`."""
    implementation = model.config._attn_implementation
    if implementation == NAME:
        return
    without_plans()
    if implementation != "sdpa":
        raise Unpackable(f"shared prompts need attn_implementation='sdpa', this model has {implementation!r}")
    if not model._can_set_attn_implementation():
        raise Unpackable("its layers do not take their attention from transformers' attention interface")
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, visible_positions)
    model.set_attn_implementation(NAME)


def visible_positions(
    *,
    mask_function: Callable[..., torch.Tensor] = causal_mask_function,
    local_size: int | None = None,
    allow_is_causal_skip: bool = True,
    use_vmap: bool = False,
    device: torch.device | str = "cpu",
    **kwargs,
) -> torch.Tensor | None:
    """Returns what a token sees in one kind of layer; transformers calls it as its mask function.

    Args:
        mask_function: of (batch, head, query position, key position).
        local_size: the window, if any.
        allow_is_causal_skip: False if `mask_function` is more than causal with a window.
        use_vmap, device, **kwargs: as in transformers; outside `packed`, sdpa's mask is returned.

    Returns:
        Boolean [1, 1, P, P] for the P positions of the row: whether position q sees position k. None means the whole
            past.

    Raises:
        Unpackable: a position sees later ones.
    """
    row = _row.get()
    if row is None:
        return sdpa_mask(
            mask_function=mask_function, local_size=local_size, allow_is_causal_skip=allow_is_causal_skip,
            use_vmap=use_vmap, device=device, **kwargs,
        )  # fmt: skip
    n = row.n_positions
    if allow_is_causal_skip and (mask_function is causal_mask_function or (local_size is not None and n <= local_size)):
        return None
    visible = sdpa_mask(
        batch_size=1, q_length=n, kv_length=n, mask_function=mask_function, allow_is_causal_skip=False,
        use_vmap=use_vmap, device=device,
    )  # fmt: skip
    if (visible & ~visible.new_ones(n, n).tril()).any():
        raise Unpackable("its tokens see later ones, as an encoder's do")
    return visible


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    row: PackedRow | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Computes attention over a packed row; transformers calls it as its attention function.

    Args:
        module: the attention layer.
        query: [1, heads, T, width].
        key, value: [1, key-value heads, T, width].
        attention_mask: result of `visible_positions`, if there is a row.
        scaling, dropout: of the attention scores.
        row: how the row is split; None for any other forward of the same model.

    Returns:
        ([1, T, heads, width], None).

    Raises:
        Unpackable: the layer requests something that is not supported.
    """
    if row is None:
        if _row.get() is not None:
            raise Unpackable("its layers hand no keyword arguments on to their attention")
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    _check_request(module, row, attention_mask, kwargs)
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    if attention_mask is None and usable(query, value, dropout):
        return attend(query, key, value, row.sequences, scaling), None
    return _by_ranking(row, (query, key, value), row.masks(attention_mask, query.dtype), scaling, dropout), None


def _by_ranking(
    row: PackedRow,
    states: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    masks: list[Masks],
    scaling: float | None,
    dropout: float,
) -> torch.Tensor:
    """Returns attention [1, T, heads, width] over a packed row, a prompt or its responses at a time.

    `states` are query, key and value, [1, heads, T, width] each, and `masks` those of each ranking.
    """
    query, key, value = states
    # Splits, not slices: the gradient of each slice would be a tensor of the whole row's size.
    lengths, queries = [ranking.end - ranking.start for ranking in row.rankings], query.split(row.halves, dim=2)
    keys, values = key.split(lengths, dim=2), value.split(lengths, dim=2)
    parts = []
    for number, own in enumerate(masks):
        seen = row.rankings[number].n_prompt, lengths[number]
        for rows, n_seen, mask in zip(queries[2 * number : 2 * number + 2], seen, own, strict=True):
            if rows.shape[2]:
                parts.append(
                    F.scaled_dot_product_attention(
                        rows, keys[number][:, :, :n_seen], values[number][:, :, :n_seen],
                        attn_mask=mask, is_causal=mask is None, scale=scaling, dropout_p=dropout,
                    )
                )  # fmt: skip
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous()


def _check_request(
    module: torch.nn.Module, row: PackedRow, attention_mask: torch.Tensor | None, kwargs: dict[str, Any]
) -> None:
    """Raises Unpackable unless `attention` supports everything that the layer requests."""
    if kwargs.pop("is_causal", None) is False or not getattr(module, "is_causal", True):
        raise Unpackable("its tokens see later ones, as an encoder's do")
    asked = {name for name, value in kwargs.items() if value is not None and value is not False}
    unknown = sorted(asked - WITHOUT_EFFECT)
    if unknown:
        raise Unpackable(f"its attention takes {', '.join(unknown)}, which shared prompts do not support")
    expected = (1, 1, row.n_positions, row.n_positions)
    if attention_mask is not None and (attention_mask.dtype != torch.bool or attention_mask.shape != expected):
        raise Unpackable("its layers make attention masks of their own")
