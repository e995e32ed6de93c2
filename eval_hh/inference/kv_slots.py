"""The KV cache of the rows being decoded: one slot per row, written in place.

transformers' own cache is copied as a whole for every token and aligns rows by padding. Here token i of a row is in
column i of the row's slot, whatever the other rows' lengths. Rows of any length are decoded together, a new row takes a
free slot without touching the others, and the slots in use are always the first ones: when a row ends, the last row
moves into its slot, so finished rows are neither computed nor read again.

On a CPU the slots of a model in half precision hold float32, and a token's attention is computed in it: of torch's
kernels there, the one in bfloat16 is the slower one for single queries.
"""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import (
    CacheLayerMixin,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    get_layer_types_and_kwargs,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from data_preprocess.command import InputError
from eval_hh.inference.models import column_limit, rope_limit

NAME = "kv_slots"  # of the attention implementation registered with transformers


@dataclass(frozen=True)
class Layers:
    """What a model's layers cache of a row."""

    count: int
    # Layer type in the model's configuration -> attention window in tokens, None for full attention.
    windows: dict[str, int | None]


class SlotCache(Cache):
    """The cache of all layers. Before a forward pass, `begin` or `extend` sets where it writes."""

    def __init__(self, layers: Layers, dtype: torch.dtype, slots: int, columns: int):
        """Holds `columns` tokens of `slots` rows each, and of the row that `keep` keeps.

        Memory is allocated at the first forward pass. `dtype`: see `use_slots`.
        """
        super().__init__(layers=[_SlotLayer(self) for _ in range(layers.count)])
        self.windows, self.dtype = layers.windows, dtype
        self.shape = slots, columns
        self.kept: list[int] | None = None  # see `keep`
        self.first = 0
        self.sources: torch.Tensor | None = None
        self.positions: torch.Tensor | None = None
        self.width = 0

    def begin(self, first: int, sources: torch.Tensor) -> None:
        """Makes the next pass read new rows from their first token, into slots `first`, `first` + 1 and so on.

        Shorter rows are padded on the right: causal attention hides the padding from their tokens, and `extend` later
        masks or overwrites it. So the pass needs no attention mask.

        Args:
            first: the first of the slots.
            sources: int64 [slots], the row of the pass that each of the slots gets; several may get the same.
        """
        self.first, self.sources, self.positions, self.width = first, sources, None, 0

    def extend(self, positions: torch.Tensor, width: int) -> None:
        """Makes the next pass read one token for each of slots 0 to B - 1.

        Args:
            positions: int64 [B], the column of the token in each slot.
            width: the largest position plus 1; passed in, since reading the tensor would synchronise the GPU.
        """
        self.positions, self.width = positions, width

    def mask(self) -> torch.Tensor | dict[str, torch.Tensor]:
        """Returns the additive attention mask of an `extend` pass, [B, 1, 1, width] of 0 or minus infinity.

        Returns a mask for each type of layer if their windows differ.
        """
        masks = {window: self._mask(window) for window in set(self.windows.values())}
        if len(masks) == 1:
            return next(iter(masks.values()))
        return {kind: masks[window] for kind, window in self.windows.items()}

    def _mask(self, window: int | None) -> torch.Tensor:
        columns, newest = torch.arange(self.width, device=self.positions.device), self.positions.unsqueeze(1)
        hidden = columns > newest
        if window is not None:
            hidden |= columns <= newest - window
        hidden = hidden[:, None, None]
        return torch.zeros(hidden.shape, dtype=self.dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)

    def move(self, source: int, target: int, length: int) -> None:
        """Copies the first `length` columns of slot `source` to slot `target`."""
        for layer in self.layers:
            for states in (layer.keys, layer.values):
                states[target, :, :length] = states[source, :, :length]

    def keep(self, slot: int, prompt: list[int]) -> None:
        """Keeps the states of a prompt, with which a slot begins, in place of those kept before, for `restore`."""
        if prompt != self.kept:
            self.kept = prompt
            if len(prompt) > 1:  # otherwise nothing may have been allocated yet
                self.move(slot, self.shape[0], len(prompt) - 1)

    def restore(self, slots: range) -> None:
        """Copies the states of the kept prompt to the beginning of each slot."""
        for slot in slots:
            self.move(self.shape[0], slot, len(self.kept) - 1)

    def row_bytes(self) -> int:
        """Returns the memory of a row, once it is allocated."""
        return sum(states[0].nbytes for layer in self.layers for states in (layer.keys, layer.values))


class _SlotLayer(CacheLayerMixin):
    """Keys and values of one layer, [slots + 1, heads, columns, head size] each."""

    def __init__(self, cache: SlotCache):
        super().__init__()
        self.cache = cache

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys, self.values = self._empty(key_states), self._empty(value_states)
        self.is_initialized = True

    def _empty(self, states: torch.Tensor) -> torch.Tensor:
        slots, columns = self.cache.shape
        # Zeros, since masked values must be finite too.
        return states.new_zeros(slots + 1, states.shape[1], columns, states.shape[3], dtype=self.cache.dtype)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes the states of a pass, [B, heads, T, head size]; returns those that its tokens may attend to."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        return self._written(self.keys, key_states), self._written(self.values, value_states)

    def _written(self, kept: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        cache, (rows, _, tokens, _) = self.cache, states.shape
        if cache.positions is None:
            kept[cache.first : cache.first + len(cache.sources), :, :tokens] = states[cache.sources]
            return states
        kept[torch.arange(rows, device=states.device), :, cache.positions] = states[:, :, 0].to(kept.dtype)
        return kept[:rows, :, : cache.width]

    def get_seq_length(self) -> int:
        """Returns the number of tokens before those of the next pass."""
        return max(0, self.cache.width - 1)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return self.cache.shape[1]


def use_slots(model: PreTrainedModel) -> torch.dtype:
    """Returns the dtype of the keys and values in a model's slots, which its attention takes from now on."""
    is_half = model.device.type == "cpu" and model.dtype in (torch.bfloat16, torch.float16)
    if is_half and model.config._attn_implementation == "sdpa" and model._can_set_attn_implementation():
        AttentionInterface.register(NAME, attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)
    return torch.float32 if model.config._attn_implementation == NAME else model.dtype


def attention(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, *args: Any, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """Computes sdpa in the precision of the keys, [B, heads, T, width]; transformers calls it, as its own for sdpa."""
    output, weights = sdpa_attention_forward(module, query.to(key.dtype), key, *args, **kwargs)
    return output.to(query.dtype), weights


def read_layers(model: PreTrainedModel, longest: int) -> Layers:
    """Returns the layers of a model whose rows can be decoded in slots; its weights are not used.

    Args:
        model: a causal language model.
        longest: tokens of the longest row to come.

    Raises:
        InputError: a layer caches something other than keys and values (a recurrent state), or attends to neither all
            of a row nor a sliding window; or a token's place is its column instead of its position id, or depends on
            the length of other rows.
    """
    config = model.config.get_text_config(decoder=True)
    layers = DynamicCache(config=config).layers
    types, _ = get_layer_types_and_kwargs(config)
    windows: dict[str, int | None] = {}
    wrong = set()
    for kind, layer in zip(types, layers, strict=True):
        window = _window(layer, longest)
        known = type(layer) in (DynamicLayer, DynamicSlidingWindowLayer)
        if not known or (kind == "chunked_attention" and window) or windows.setdefault(kind, window) != window:
            wrong.add(f"{kind} in a {type(layer).__name__}")
    if "position_ids" not in inspect.signature(model.forward).parameters or model.config.to_dict().get("alibi"):
        wrong.add("no position ids")
    for what, limit in (("RoPE", rope_limit(config)), ("attention", column_limit(config))):
        if limit is not None and longest > limit:
            wrong.add(f"{what} that depends on the longest row beyond {limit} tokens")
    if wrong:
        kind = f"a {model.config.model_type} model cannot be decoded here ({', '.join(sorted(wrong))})"
        raise InputError(f"{kind}: expected attention to {longest} tokens or a window, placed by position ids")
    return Layers(len(layers), windows)


def _window(layer: object, longest: int) -> int | None:
    """Returns the number of tokens that a layer attends to; None for all of a row."""
    window = layer.sliding_window if type(layer) is DynamicSlidingWindowLayer else longest
    return window if window < longest else None
