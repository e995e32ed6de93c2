"""Counts the distinct n-grams that first occur in each prompt.

An n-gram and its prompt are packed into one integer and sorted: a plain integer sort takes a fifth of the time of
np.unique with indices and needs no additional memory.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from data_preprocess.ngrams.token_ids import TokenIds

PARTITION = 1 << 19  # n-grams sorted by a thread at a time, unless MAX_PARTITIONS requires more
MAX_PARTITIONS = 64  # each one scans all tokens, so a number growing with the tokens would cost quadratic time
THREADS = min(os.cpu_count() or 1, 4)  # each holds a partition in memory
BLOCK = 1 << 20  # n-grams scanned at a time for those of a partition
MAX_KEY = 1 << 62  # keys are int64
MAX_TABLE = 1 << 26  # token ids below this are renumbered by a lookup table


def new_ngrams(ids: TokenIds, n: int) -> np.ndarray:
    """Returns the number of distinct n-grams that first occur in each prompt: [N]. ValueError for n below 1.

    n-grams with the same first token fall into the same partition, and partitions are counted separately, in threads:
    the expensive steps (comparing, indexing, sorting) release the GIL.
    """
    if n < 1:
        raise ValueError(f"n is {n} (expected at least 1)")
    if not len(ids.flat):
        return np.zeros(len(ids), dtype=np.int64)
    tokens, vocabulary = _dense(ids.flat)
    prompt_of = np.repeat(np.arange(len(ids), dtype=np.int32), ids.lengths)
    n_starts = max(len(tokens) - n + 1, 0)
    n_partitions = min(len(tokens) // PARTITION + 1, MAX_PARTITIONS)
    partition_of = (tokens[:n_starts] % n_partitions).astype(np.uint8)
    # No n-gram starts where the token n-1 positions later belongs to another prompt.
    partition_of[prompt_of[:n_starts] != prompt_of[len(tokens) - n_starts :]] = n_partitions

    def count(partition: int) -> np.ndarray:
        positions = _places(partition_of, partition)
        keys = _keys(tokens, positions, n, vocabulary, n_partitions, len(ids))
        return np.bincount(_first_prompts(keys, prompt_of[positions], len(ids)), minlength=len(ids))

    with ThreadPoolExecutor(THREADS) as threads:
        return sum(threads.map(count, range(n_partitions)))


def _places(values: np.ndarray, wanted: int) -> np.ndarray:
    """Returns np.flatnonzero(values == wanted), by blocks whose comparison fits the processor's cache."""
    starts = range(0, len(values), BLOCK)
    found = [np.flatnonzero(values[start : start + BLOCK] == wanted) + start for start in starts]
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def _dense(tokens: np.ndarray) -> tuple[np.ndarray, int]:
    """Renumbers token ids to 0 .. V-1, in two bytes if they fit; returns them and V, the number of distinct ids."""
    if tokens.min() < 0 or tokens.max() >= MAX_TABLE:
        values, inverse = np.unique(tokens, return_inverse=True)
        return inverse.astype(np.int32), len(values)
    used = np.zeros(int(tokens.max()) + 1, dtype=bool)
    used[tokens] = True
    vocabulary = int(used.sum())
    rank = (np.cumsum(used) - 1).astype(np.uint16 if vocabulary <= 1 << 16 else np.int32)
    return rank[tokens], vocabulary


def _keys(
    tokens: np.ndarray, positions: np.ndarray, n: int, vocabulary: int, n_partitions: int, n_prompts: int
) -> np.ndarray:
    """Returns keys that identify the n-grams at one partition's positions and leave room to pack the prompt."""
    keys = tokens[positions].astype(np.int64) // n_partitions  # a partition's first tokens share the remainder
    n_keys = vocabulary // n_partitions + 1
    for offset in range(1, n):
        if n_keys * vocabulary >= MAX_KEY:
            keys, n_keys = _renumbered(keys)
        keys *= vocabulary
        keys += tokens[positions + offset]
        n_keys *= vocabulary
    return keys if n_keys << n_prompts.bit_length() < MAX_KEY else _renumbered(keys)[0]


def _renumbered(keys: np.ndarray) -> tuple[np.ndarray, int]:
    values, keys = np.unique(keys, return_inverse=True)
    return keys, len(values)


def _first_prompts(keys: np.ndarray, prompts: np.ndarray, n_prompts: int) -> np.ndarray:
    """Returns the smallest prompt index for each distinct key."""
    bits = n_prompts.bit_length()
    packed = (keys << bits) | prompts
    packed.sort()
    keys = packed >> bits
    first = np.ones(len(keys), dtype=bool)
    first[1:] = keys[1:] != keys[:-1]
    return packed[first] & ((1 << bits) - 1)
