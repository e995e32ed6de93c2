"""Token ids of many prompts, kept in one array."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from data_preprocess.ngrams.piecewise_bpe import encoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_TOKENS = 512  # tokens of a prompt that count, BOS included
BATCH = 2000  # prompts tokenised at a time: bounds what is held beside the ids
ID_BYTES = 4


class TokenIds(Sequence):
    """A sequence of arrays of ids, one per prompt, that lie one after another in `flat`: 4 bytes a token."""

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


def packed(token_ids: Sequence[Sequence[int]]) -> TokenIds:
    """Any sequence of id sequences in one array; a TokenIds as it is."""
    if isinstance(token_ids, TokenIds):
        return token_ids
    filled = [np.asarray(ids) for ids in token_ids if len(ids)]
    flat = np.concatenate(filled) if filled else np.empty(0, dtype=np.int32)
    return TokenIds(flat, [len(ids) for ids in token_ids])


def encode_prompts(tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str]) -> TokenIds:
    """Token ids (int32) of each prompt: BOS where the tokenizer has one, the first 512 tokens with it."""
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    opening, room = np.array(bos, dtype=np.int32).tobytes(), (MAX_TOKENS - len(bos)) * ID_BYTES
    encode = encoder(tokenizer)
    flat, lengths = bytearray(), []
    for start in range(0, len(prompts), BATCH):
        encoded = [opening + ids[:room] for ids in encode(prompts[start : start + BATCH])]
        lengths += [len(ids) // ID_BYTES for ids in encoded]
        flat += b"".join(encoded)
    return TokenIds(np.frombuffer(flat, dtype=np.int32), lengths)
