"""Prompts as sparse rows: counts of token n-grams, their TF-IDF vectors, and nearest neighbours.

Used by the strategies of selection.py; the N rows are always prompts.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.sparse import csr_array, diags_array, hstack, vstack

from data_preprocess.ngrams.token_ids import TokenIds, packed

TFIDF_NGRAMS = (1, 2)
MAX_HOLDERS = 1000  # TF-IDF terms in more prompts than this are dropped
NEIGHBOURS = 100  # similarities kept per prompt, including its own
BLOCK = 256  # prompts compared with all others at a time; bounds the memory
THREADS = min(os.cpu_count() or 1, 4)


def ngram_counts(token_ids: Sequence[Sequence[int]], n: int) -> csr_array:
    """Returns the count of each token n-gram in each prompt: [N, G], int32, columns of every row ascending.

    n-grams never cross prompts. G, the number of columns, is at least the number of distinct n-grams.
    """
    return next(ngram_counts_of(token_ids, [n]))


def ngram_counts_of(token_ids: Sequence[Sequence[int]], orders: Sequence[int]) -> Iterator[csr_array]:
    """Yields ngram_counts for every n in `orders` (ascending) in one pass that extends n-grams token by token."""
    ids = packed(token_ids)
    prompt_of = np.repeat(np.arange(len(ids), dtype=np.int32), ids.lengths)
    tokens = _numbered(ids.flat)
    ngrams, n_tokens = tokens, int(tokens.max(initial=0)) + 1
    for n in range(1, max(orders) + 1):
        if n > 1:
            # Renumbered at every length, so that the product stays far below 64 bits.
            ngrams = _numbered(ngrams[: max(len(tokens) - n + 1, 0)].astype(np.int64) * n_tokens + tokens[n - 1 :])
        if n in orders:
            yield _counts(ids, prompt_of, ngrams)


def _counts(ids: TokenIds, prompt_of: np.ndarray, ngrams: np.ndarray) -> csr_array:
    """Counts numbered n-grams, one per token that starts one, leaving out those that cross prompts."""
    inside = prompt_of[: len(ngrams)] == prompt_of[len(prompt_of) - len(ngrams) :]
    rows, columns = prompt_of[: len(ngrams)][inside], ngrams[inside]
    shape = (len(ids), int(columns.max(initial=-1)) + 1)
    counts = csr_array((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=shape)  # duplicates add up
    counts.sort_indices()
    return counts


def _numbered(values: np.ndarray) -> np.ndarray:
    """Renumbers the values 0, 1, ... in ascending order."""
    return np.unique(values, return_inverse=True)[1].astype(np.int32)


def tfidf_vectors(token_ids: Sequence[Sequence[int]]) -> csr_array:
    """Returns unit TF-IDF vectors of token unigrams and bigrams: [N, terms], float64; zero for a prompt without terms.

    A term's weight is its count times ln(N / number of prompts that contain it) (Spärck Jones 1972). Terms in more than
    MAX_HOLDERS prompts are dropped: their weights are the lowest, and comparing all prompts would cost the square of
    that number for each of them. In a pool of up to MAX_HOLDERS prompts nothing is dropped.
    """
    counts = hstack(list(ngram_counts_of(token_ids, TFIDF_NGRAMS)), format="csr")
    holders = np.bincount(counts.indices, minlength=counts.shape[1])
    kept = (holders > 0) & (holders <= MAX_HOLDERS)
    weights = np.log(counts.shape[0] / holders[kept])
    vectors = csr_array(counts[:, kept] * weights)
    vectors.eliminate_zeros()  # terms that occur in all prompts
    norms = np.sqrt(vectors.power(2).sum(axis=1))
    return csr_array(diags_array(1 / np.where(norms > 0, norms, 1)) @ vectors)


def nearest_neighbours(vectors: csr_array) -> csr_array:
    """Returns cosine similarities of each prompt and its NEIGHBOURS nearest prompts, itself included: [N, N], float64.

    Exact, by products of blocks of prompts with all prompts. Only the NEIGHBOURS largest entries of a row are kept, so
    rows are complete for pools up to that size. Ties at the limit are broken arbitrarily but deterministically.
    """
    transposed = csr_array(vectors.T)

    def nearest_of(start: int) -> csr_array:
        return _largest_of_rows(vectors[start : start + BLOCK] @ transposed)

    with ThreadPoolExecutor(THREADS) as threads:
        blocks = list(threads.map(nearest_of, range(0, vectors.shape[0], BLOCK)))
    return csr_array(vstack(blocks, format="csr"))


def _largest_of_rows(similarities: csr_array) -> csr_array:
    """Keeps the NEIGHBOURS largest entries of every row."""
    columns, values = [], []
    for start, end in zip(similarities.indptr, similarities.indptr[1:], strict=False):
        row, column = similarities.data[start:end], similarities.indices[start:end]
        if len(row) > NEIGHBOURS:
            largest = np.argpartition(row, len(row) - NEIGHBOURS)[len(row) - NEIGHBOURS :]
            row, column = row[largest], column[largest]
        values.append(row)
        columns.append(column)
    ends = np.cumsum([0, *map(len, columns)])
    return csr_array((np.concatenate(values), np.concatenate(columns), ends), shape=similarities.shape)
