"""Selecting prompts by embeddings: 5,000 of 500,000 with every strategy, and what a fast one loses.

Run: python benchmarks/run.py embedding_selection [--quick] [--prompts N] [--exact N] [--json FILE]
Each strategy runs in a separate process. Embedding is apart: vectors are mixtures of two embeddings of real prompts by
wordllama, where it is installed, else draws around random centres. The loss of facility location is that of its
objective, the mean similarity to the nearest selected prompt, of --exact prompts against the greedy order without
clusters. k_center is exact.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks import hh_like
from benchmarks.side_by_side import Row, Settings, in_fresh_process, sized
from data_preprocess.command import InputError
from labelling.selecting.embedding_selection import (
    STRATEGIES,
    facility_location,
    nearest_similarity,
    select_by_embedding,
)
from labelling.selecting.embeddings import WORDLLAMA, embedded

SHARE = 100  # one prompt in this many is selected
DIMENSIONS, CENTRES = 256, 400  # of made-up vectors
MEASURED = 20_000  # prompts whose similarity to the selection is given
SEED = 0


@dataclass(frozen=True)
class Sizes(Settings):
    prompts: int = sized("prompts to select from", 500_000, 20_000)
    exact: int = sized("prompts of the comparison with the exact way", 50_000, 2_000)


def vectors_of(count: int) -> np.ndarray:
    """Returns unit vectors, [count, dimensions] float32, of which no two are equal."""
    rng = np.random.default_rng(SEED)
    try:
        real = embedded(hh_like.rendered(hh_like.corpus()[0]), WORDLLAMA)
    except InputError:
        real = rng.normal(size=(CENTRES, DIMENSIONS)).astype(np.float32)
    share = rng.uniform(0.5, 1, size=(count, 1)).astype(np.float32)
    one, other = (real[rng.integers(len(real), size=count)] for _ in range(2))
    mixed = share * one + (1 - share) * other
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


def choose(count: int, strategy: str) -> tuple[float, str]:
    """Returns (seconds of a selection, what it reaches)."""
    vectors = vectors_of(count)
    began = time.perf_counter()
    chosen = select_by_embedding(vectors, count // SHARE, strategy)
    seconds = time.perf_counter() - began
    near = nearest_similarity(vectors[:MEASURED], vectors[chosen])
    reached = f"similarity to the nearest selected prompt {near.mean():.3f} in the mean, {near.min():.3f} at least"
    return seconds, reached


def facility_loss(count: int) -> tuple[float, float, float]:
    """Returns (objective of the exact greedy order, objective of ours, seconds of the exact one)."""
    vectors, size = vectors_of(count), count // SHARE
    began = time.perf_counter()
    exact = facility_location(vectors, size, SEED, cluster_size=count)
    seconds = time.perf_counter() - began
    ours = facility_location(vectors, size, SEED)
    return *(float(np.maximum(nearest_similarity(vectors, vectors[one]), 0).mean()) for one in (exact, ours)), seconds


def measure(sizes: Sizes) -> Iterator[Row]:
    for strategy in STRATEGIES:
        (seconds, note), peak = in_fresh_process(sizes.threads, choose, sizes.prompts, strategy)
        what = f"{strategy} by embeddings: {sizes.prompts // SHARE:,} of {sizes.prompts:,} prompts"
        yield Row(what, None, seconds, "s", "under 180", note)
        yield Row(f"{what}, peak memory", None, peak, "MiB", "under 4096")
    (exact, ours, seconds), _ = in_fresh_process(sizes.threads, facility_loss, sizes.exact)
    what = f"facility by embeddings: objective, {sizes.exact // SHARE:,} of {sizes.exact:,}, of the exact greedy one's"
    note = f"{ours:.4f} of {exact:.4f}; the exact one took {seconds:.0f} s"
    yield Row(what, None, ours / exact, "", "at least 0.95", note)
