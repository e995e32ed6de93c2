"""Where the keys and values of the rows that are being decoded lie: a slot for each row, written in place.

transformers' own cache is copied whole for every token, and lines its rows up by padding.
Here a row's token number i is in column i of the row's slot, whatever the other rows' lengths. Rows of any length stand
side by side, a new one takes a free slot without a touch to the others, and the slots in use are always the first
ones: where a row ends, the last one moves into its slot, and what has ended is neither computed nor read again.
"""

import inspect
from dataclasses import dataclass

import torch
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import (
    CacheLayerMixin,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    get_layer_types_and_kwargs,
)

from data_preprocess.command import InputError
from eval_hh.inference.models import column_limit, rope_limit


@dataclass(frozen=True)
class Layers:
    """What the layers of a model keep of a row."""

    count: int
    # Of each type of layer, as the model's configuration names them: the last tokens that it sees, None for all.
    windows: dict[str, int | None]


class SlotCache(Cache):
    """The cache of all layers. Before a forward pass, `begin` or `extend` says where it is to write."""

    def __init__(self, layers: Layers, slots: int, columns: int):
        """Holds `columns` tokens of `slots` rows each; memory is taken at the first forward pass."""
        super().__init__(layers=[_SlotLayer(self) for _ in range(layers.count)])
        self.windows = layers.windows
        self.shape = slots, columns
        self.first = 0
        self.positions: torch.Tensor | None = None
        self.width = 0

    def begin(self, first: int) -> None:
        """The next pass reads new rows from their first token, into slots `first`, `first` + 1 and so on.

        Shorter rows are padded on the right: causal attention keeps that from their tokens, and `extend` hides or
        overwrites it later. So the pass needs no attention mask.
        """
        self.first, self.positions, self.width = first, None, 0

    def extend(self, positions: torch.Tensor, width: int) -> None:
        """The next pass reads one token for each of slots 0 to B - 1.

        Args:
            positions: int64 [B], the column of the token in each slot.
            width: the largest of them plus 1; known to the caller, where a look at the tensor would wait for a GPU.
        """
        self.positions, self.width = positions, width

    def mask(self, dtype: torch.dtype) -> torch.Tensor | dict[str, torch.Tensor]:
        """What an `extend` pass may see, [B, 1, 1, width] to be added to attention scores: 0, or minus infinity.

        A mask for each type of layer where their windows differ.
        """
        masks = {window: self._mask(dtype, window) for window in set(self.windows.values())}
        if len(masks) == 1:
            return next(iter(masks.values()))
        return {kind: masks[window] for kind, window in self.windows.items()}

    def _mask(self, dtype: torch.dtype, window: int | None) -> torch.Tensor:
        columns, newest = torch.arange(self.width, device=self.positions.device), self.positions.unsqueeze(1)
        hidden = columns > newest
        if window is not None:
            hidden |= columns <= newest - window
        hidden = hidden[:, None, None]
        return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)

    def move(self, source: int, target: int, length: int) -> None:
        """Copies the first `length` columns of a slot over those of another."""
        for layer in self.layers:
            for states in (layer.keys, layer.values):
                states[target, :, :length] = states[source, :, :length]


class _SlotLayer(CacheLayerMixin):
    """Keys and values of one layer, [slots, heads, columns, head size] each."""

    def __init__(self, cache: SlotCache):
        super().__init__()
        self.cache = cache

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys, self.values = self._empty(key_states), self._empty(value_states)
        self.is_initialized = True

    def _empty(self, states: torch.Tensor) -> torch.Tensor:
        slots, columns = self.cache.shape
        # Zeros: what is hidden by minus infinity must be finite all the same.
        return states.new_zeros(slots, states.shape[1], columns, states.shape[3])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes what a pass has computed, [B, heads, T, head size]; returns what its tokens may attend to."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        return self._written(self.keys, key_states), self._written(self.values, value_states)

    def _written(self, kept: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        cache, (rows, _, tokens, _) = self.cache, states.shape
        if cache.positions is None:
            kept[cache.first : cache.first + rows, :, :tokens] = states
            return states
        kept[torch.arange(rows, device=states.device), :, cache.positions] = states[:, :, 0]
        return kept[:rows, :, : cache.width]

    def get_seq_length(self) -> int:
        """Tokens that lie before those of the pass to come."""
        return max(0, self.cache.width - 1)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return self.cache.shape[1]


def read_layers(model: PreTrainedModel, longest: int) -> Layers:
    """The layers of a model whose rows can be decoded in slots; its weights are not looked at.

    Args:
        model: a causal language model.
        longest: tokens of the longest row that is to come.

    Raises:
        InputError: a layer keeps something else than keys and values (a recurrent state), or sees neither all of a row
            nor a window of it; or a token's place is its column rather than the position id that it is given, or
            depends on the length of other rows.
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
    """The tokens that a layer sees; None where that is all of a row."""
    window = layer.sliding_window if type(layer) is DynamicSlidingWindowLayer else longest
    return window if window < longest else None
