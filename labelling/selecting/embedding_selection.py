"""Selects M of N prompts by their embeddings: facility location, k-center, clusters, novelty, and random ones.

Made for pools of a million prompts on two cores: the work is products of matrices, and no N x N matrix is ever made.
Embeddings are unit vectors, [N, dimensions] float32; a similarity is a cosine, a distance Euclidean. Every strategy is
deterministic for a seed. benchmarks/embedding_selection.py measures time, memory and what approximations lose.
"""

from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heapreplace, merge
from itertools import islice

import numpy as np
from scipy.sparse import csr_array

from data_preprocess.ranking import SEED
from data_preprocess.selection import kind_bins

CLUSTER_SIZE = 500  # facility: prompts that are compared with each other, on average
CLUSTERS = 100  # clusters: at most so many, and at most one per prompt to select
PER_CLUSTER = 50  # prompts per cluster on which k-means runs
ROUNDS = 8  # of k-means
BLOCK = 1 << 14  # prompts multiplied at a time; bounds the memory
PAIRS_BLOCK = 1 << 11  # prompts compared with all of their cluster at a time
FARTHEST = 4096  # k_center: candidates between two passes over the pool
NEAREST = 10  # novelty: selected prompts that count for a candidate, and neighbours that measure density
CANDIDATES = 5  # novelty: candidates per prompt to select
DENSITY_POWER = 0.5  # novelty: beta of NovelSum, whose alpha is 1


def select_by_embedding(
    vectors: np.ndarray, size: int, strategy: str, groups: Sequence[str] | None = None, seed: int = SEED
) -> list[int]:
    """Returns the indices of `size` of N prompts, in the order of selection.

    Args:
        vectors: [N, dimensions], unit length.
        size: from 0 to N.
        strategy: one of STRATEGIES.
        groups: the group of each prompt, such as its topic. Each group then keeps its share of the pool
            (`kind_bins`), and the strategy selects within each.
        seed: of all random draws.

    Raises:
        ValueError: an impossible size.
    """
    if not 0 <= size <= len(vectors):
        raise ValueError(f"size {size} (expected 0 to {len(vectors)}, the number of prompts)")
    return within_groups(
        groups or [""] * len(vectors), size, lambda members, quota: STRATEGIES[strategy](vectors[members], quota, seed)
    )


def within_groups(groups: Sequence[str], size: int, choose: Callable[[np.ndarray, int], list[int]]) -> list[int]:
    """Returns the indices of `size` of N prompts, each group with its share, by `choose`.

    Args:
        groups: [N], the group of each prompt.
        size: from 0 to N.
        choose: returns which places among `members`, indices of one group's prompts, are its so many.
    """
    bins = kind_bins(groups, size)
    chosen: list[int] = []
    for number, quota in enumerate(bins.quotas):
        members = np.flatnonzero(bins.number == number)
        chosen += members[choose(members, int(quota)) if quota else []].tolist()
    return chosen


def random_prompts(vectors: np.ndarray, size: int, seed: int) -> list[int]:
    """random: the control."""
    return np.random.default_rng(seed).permutation(len(vectors))[:size].tolist()


def from_clusters(vectors: np.ndarray, size: int, seed: int) -> list[int]:
    """clusters: random prompts, but every k-means cluster keeps its share of the pool."""
    labels = k_means(vectors, min(CLUSTERS, size), seed)
    bins = kind_bins([f"{label:06d}" for label in labels], size)
    room, chosen = bins.quotas.copy(), []
    for prompt in random_prompts(vectors, len(vectors), seed):
        if room[bins.number[prompt]]:
            room[bins.number[prompt]] -= 1
            chosen.append(prompt)
    return chosen


def facility_location(vectors: np.ndarray, size: int, seed: int, cluster_size: int = CLUSTER_SIZE) -> list[int]:
    """facility: at each step the prompt that adds most to the sum over the pool of each prompt's similarity, at least
    0, to its nearest selected one.

    Greedy, at least 1 - 1/e of the maximum (Nemhauser, Wolsey and Fisher 1978), for similarities that are 0 between
    prompts of different k-means clusters. The sum is then one of the clusters' own, so that merging their greedy orders
    by gain is the greedy order of all. Exact up to `cluster_size` prompts, which are one cluster.
    """
    labels = k_means(vectors, -(-len(vectors) // cluster_size), seed)
    members = (np.flatnonzero(labels == label) for label in range(labels.max() + 1))
    clusters = [part for cluster in members for part in _parts(cluster, 4 * cluster_size)]
    orders = [_greedy_facility(vectors, members) for members in clusters]
    return [prompt for _, prompt in islice(merge(*orders), size)]


def _parts(members: np.ndarray, most: int) -> list[np.ndarray]:
    """Cuts a cluster of more than `most` prompts into parts, for the work of one grows with its square."""
    return np.array_split(members, -(-len(members) // most)) if len(members) else []


def _greedy_facility(vectors: np.ndarray, members: np.ndarray) -> Iterator[tuple[float, int]]:
    """Yields (minus the gain, prompt) of the greedy order of one cluster; gains never rise (Minoux 1978)."""
    own = vectors[members]
    starts = range(0, len(own), PAIRS_BLOCK)
    gains = sum(np.maximum(own[start : start + PAIRS_BLOCK] @ own.T, 0).sum(axis=0) for start in starts)
    heap = [(-gain, place) for place, gain in enumerate(gains.tolist())]
    heapify(heap)
    nearest = np.zeros(len(own), dtype=np.float32)
    while heap:
        place = heap[0][1]
        similarity = own @ own[place]
        current = (-float(np.maximum(similarity - nearest, 0).sum()), place)
        others = min(heap[1:3], default=(1.0, 0))  # of a heap, the second smallest is one of the root's two children
        if current > others:
            heapreplace(heap, current)
            continue
        yield current[0], int(members[place])
        np.maximum(nearest, similarity, out=nearest)
        heapreplace(heap, (1.0, len(own)))  # behind all others
        if heap[0][1] == len(own):
            return


def k_center(vectors: np.ndarray, size: int, seed: int) -> list[int]:
    """k_center: at each step the prompt farthest from the selected ones, from the pool's first prompt on.

    The largest distance of any prompt to its nearest selected one is at most twice the minimum (Gonzalez 1985). Exactly
    that order, though the pool is passed over once for many steps: distances only fall, so the farthest of the FARTHEST
    farthest prompts is the farthest of all until it is nearer than the first one left out was.
    """
    chosen = [0]
    similarity = vectors @ vectors[0]  # to the nearest selected prompt; of a selected one infinite
    similarity[0] = np.inf
    while len(chosen) < size:
        count = min(FARTHEST, len(vectors))
        candidates = np.sort(np.argpartition(similarity, count - 1)[:count])
        others = np.delete(similarity, candidates).min(initial=np.inf)
        own, near, new = vectors[candidates], similarity[candidates], []
        while len(chosen) + len(new) < size:
            farthest = int(near.argmin())
            if near[farthest] > others and new:
                break
            new.append(int(candidates[farthest]))
            np.maximum(near, own @ own[farthest], out=near)
            near[farthest] = np.inf  # a selected prompt, whose copy may be selected later
        _raise_to(similarity, vectors, vectors[new])
        similarity[new] = np.inf
        chosen += new
    return chosen[:size]


def _raise_to(similarity: np.ndarray, vectors: np.ndarray, new: np.ndarray) -> None:
    """Raises each prompt's similarity to that of the nearest of new prompts, in place."""
    for start in range(0, len(vectors), BLOCK):
        part = slice(start, start + BLOCK)
        np.maximum(similarity[part], (vectors[part] @ new.T).max(axis=1), out=similarity[part])


def novelty(vectors: np.ndarray, size: int, seed: int) -> list[int]:
    """novelty: at each step the candidate with the highest novelty among the selected ones, after NovelSelect.

    Novelty is the sum over selected prompts of distance times a weight of 1 / rank of nearness and of the square root
    of the density at the selected prompt, which is 1 / sum of the distances to its 10 nearest neighbours (Yang et al.,
    "Measuring Data Diversity for Instruction Tuning", arXiv 2502.17184). Ours to keep it fast: the 10 nearest selected
    prompts count, neighbours are of the same k-means cluster, and candidates are 5 random prompts for each to select.
    """
    candidates = np.sort(np.random.default_rng(seed).permutation(len(vectors))[: CANDIDATES * size])
    own = vectors[candidates]
    density = local_density(vectors, k_means(vectors, -(-len(vectors) // CLUSTER_SIZE), seed))[candidates]
    weight = (density**DENSITY_POWER).astype(np.float32)
    # Of the nearest selected prompts of each candidate, nearest first: similarity and weight; 0 weight: none yet.
    near, near_weight = (np.full((len(own), NEAREST), fill, dtype=np.float32) for fill in (-1.0, 0.0))
    score = np.zeros(len(own), dtype=np.float32)
    ranks = 1 / np.arange(1, NEAREST + 1, dtype=np.float32)
    chosen = [int(density.argmax())]
    while len(chosen) < size:
        similarity = own @ own[chosen[-1]]
        nearer = np.flatnonzero((similarity > near[:, -1]) | (near_weight[:, -1] == 0))
        values = np.column_stack([near[nearer], similarity[nearer]])
        weights = np.column_stack([near_weight[nearer], np.full(len(nearer), weight[chosen[-1]])])
        values[weights == 0] = -2
        order = np.argsort(-values, axis=1, kind="stable")[:, :NEAREST]
        values, weights = (np.take_along_axis(table, order, axis=1) for table in (values, weights))
        near[nearer], near_weight[nearer] = values, weights
        score[nearer] = (ranks * weights * np.sqrt(np.maximum(2 - 2 * values, 0))).sum(axis=1)
        score[chosen] = -np.inf
        chosen.append(int(score.argmax()))
    return candidates[chosen[:size]].tolist()


def local_density(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns 1 / sum of the distances to the NEAREST nearest prompts of the same cluster: [N]."""
    density = np.ones(len(vectors))
    for label in range(labels.max(initial=-1) + 1):
        for members in _parts(np.flatnonzero(labels == label), 4 * CLUSTER_SIZE):
            similarity = vectors[members] @ vectors[members].T
            np.fill_diagonal(similarity, 1)  # near 1 the root below makes 4e-4 of a rounding error, which varies by CPU
            count = min(NEAREST + 1, len(members))
            nearest = -np.partition(-similarity, count - 1, axis=1)[:, :count]
            total = np.sqrt(np.maximum(2 - 2 * nearest, 0)).sum(axis=1)
            density[members] = 1 / np.maximum(total, 1e-3)  # copies of one text have no distance
    return density


def k_means(vectors: np.ndarray, count: int, seed: int = SEED) -> np.ndarray:
    """Returns the cluster of each prompt, 0 to at most count - 1: [N]. Spherical k-means (Dhillon and Modha 2001).

    Fitted on a random sample of PER_CLUSTER prompts per cluster in ROUNDS rounds; a cluster that becomes empty is left.
    """
    if count <= 1:
        return np.zeros(len(vectors), dtype=np.int64)
    order = np.random.default_rng(seed).permutation(len(vectors))
    sample = vectors[np.sort(order[: count * PER_CLUSTER])]
    centres = vectors[order[:count]]
    for _ in range(ROUNDS):
        labels = _nearest_centre(sample, centres)
        members = csr_array(
            (np.ones_like(labels, dtype=np.float32), (labels, np.arange(len(labels)))), (count, len(labels))
        )
        sums = members @ sample
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(norms > 0, sums / np.where(norms > 0, norms, 1), centres)
    return np.unique(_nearest_centre(vectors, centres), return_inverse=True)[1]


def _nearest_centre(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    starts = range(0, len(vectors), BLOCK)
    return np.concatenate([(vectors[start : start + BLOCK] @ centres.T).argmax(axis=1) for start in starts])


def nearest_similarity(vectors: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Returns the similarity of each prompt to the nearest of chosen ones, [M, dimensions]: [N]."""
    similarity = np.full(len(vectors), -1.0, dtype=np.float32)
    _raise_to(similarity, vectors, chosen)
    return similarity


Strategy = Callable[[np.ndarray, int, int], list[int]]
STRATEGIES: dict[str, Strategy] = {
    "random": random_prompts,
    "clusters": from_clusters,
    "facility": facility_location,
    "k_center": k_center,
    "novelty": novelty,
}
