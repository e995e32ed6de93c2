"""Clusters of prompts by their tokens, from which random prompts are drawn in proportion."""

from __future__ import annotations

import sys

import numpy as np

from data_preprocess.ngrams.token_ids import TokenIds

N_CLUSTERS = 20
PER_CLUSTER = 25  # prompts that a pool has for each cluster, at least
DIMENSIONS = 32
FIT_ROWS = 20_000  # prompts that axes and centres are fitted to


def cluster_prompts(token_ids: TokenIds, seed: int) -> list[str]:
    """Returns the cluster of each prompt [N], as a text; one cluster for a pool too small, or too alike, to be divided.

    Latent semantic analysis (Deerwester et al., 1990: a truncated SVD of tf-idf counts of tokens), rows of length one,
    then k-means. Deterministic for a seed; needs no model of language.
    """
    from scipy.cluster.vq import kmeans2, vq
    from scipy.sparse.linalg import svds

    n_clusters = min(N_CLUSTERS, len(token_ids) // PER_CLUSTER)
    if n_clusters < 2:
        return ["0"] * len(token_ids)
    rng = np.random.default_rng(seed)
    rows = _tf_idf(token_ids)
    fitted = rows[np.sort(rng.permutation(len(token_ids))[:FIT_ROWS])]
    if not fitted.count_nonzero():  # no token tells one prompt from another
        found = "the prompts do not differ in the tokens that are read of each"
        print(f"warning: {found}: random ones are taken, not shares of clusters", file=sys.stderr)
        return ["0"] * len(token_ids)
    k = min(DIMENSIONS, min(fitted.shape) - 1)
    axes = svds(fitted, k=k, v0=np.ones(min(fitted.shape)), return_singular_vectors="vh")[2]  # [k, vocabulary]
    points = _unit_rows(rows @ axes.T)
    centres, _ = kmeans2(_unit_rows(fitted @ axes.T), n_clusters, minit="++", seed=rng, missing="warn")
    return [str(number) for number in vq(points, centres)[0]]


def _tf_idf(token_ids: TokenIds):
    """Returns the sparse rows [N, vocabulary] of counts x log(N / prompts with the token), of length one."""
    from scipy.sparse import csr_array, diags_array

    vocabulary, columns = np.unique(token_ids.flat, return_inverse=True)
    edges = np.concatenate([[0], np.cumsum(token_ids.lengths)])
    shape = (len(token_ids), len(vocabulary))
    counts = csr_array((np.ones(len(columns)), columns, edges), shape=shape)
    counts.sum_duplicates()
    weights = np.log(shape[0] / np.bincount(counts.indices, minlength=shape[1]))
    rows = counts @ diags_array(weights)
    lengths = np.sqrt((rows * rows).sum(axis=1))
    return diags_array(1 / np.where(lengths > 0, lengths, 1.0)) @ rows


def _unit_rows(points: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return points / np.where(lengths > 0, lengths, 1.0)
