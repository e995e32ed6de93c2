"""Token ids of many prompts, in one array."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from data_preprocess.ngrams.piecewise_bpe import encoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_TOKENS = 512  # tokens counted per prompt, including BOS
BATCH = 2000  # prompts tokenised at a time; bounds the memory
ID_BYTES = 4


class TokenIds(Sequence):
    """A sequence of id arrays, one per prompt, stored consecutively in `flat`: 4 bytes per token."""

    def __init__(self, flat: np.ndarray, lengths: Sequence[int]):
        self.flat = flat
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self._ends = np.cumsum(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        end = self._ends[index]
        return self.flat[end - self.lengths[index] : end]

    def take(self, places: Sequence[int]) -> "TokenIds":
        """Returns the ids of the prompts at these places, in their order; one place may occur several times."""
        places = np.asarray(places, dtype=np.int64)
        lengths, ends = self.lengths[places], self._ends[places]
        shift = np.repeat(ends - np.cumsum(lengths), lengths)  # from a token's new place to its old one
        return TokenIds(self.flat[np.arange(len(shift)) + shift], lengths)


def packed(token_ids: Sequence[Sequence[int]]) -> TokenIds:
    """Packs a sequence of id sequences into one array; a TokenIds is returned unchanged."""
    if isinstance(token_ids, TokenIds):
        return token_ids
    filled = [np.asarray(ids) for ids in token_ids if len(ids)]
    flat = np.concatenate(filled) if filled else np.empty(0, dtype=np.int32)
    return TokenIds(flat, [len(ids) for ids in token_ids])


def joined(first: TokenIds, second: TokenIds) -> TokenIds:
    """Returns the ids of two sets of prompts in one array."""
    return TokenIds(np.concatenate([first.flat, second.flat]), np.concatenate([first.lengths, second.lengths]))


def encode_prompts(tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str]) -> TokenIds:
    """Returns token ids (int32) of each prompt, with BOS if the tokenizer has one, truncated to 512 including BOS."""
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    opening, room = np.array(bos, dtype=np.int32).tobytes(), (MAX_TOKENS - len(bos)) * ID_BYTES
    encode = encoder(tokenizer)
    flat, lengths = bytearray(), []
    for start in range(0, len(prompts), BATCH):
        encoded = [opening + ids[:room] for ids in encode(prompts[start : start + BATCH])]
        lengths += [len(ids) // ID_BYTES for ids in encoded]
        flat += b"".join(encoded)
    return TokenIds(np.frombuffer(flat, dtype=np.int32), lengths)
