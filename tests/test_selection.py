"""Selection against loops that count everything anew, brute force on small pools, and the published bounds."""

import itertools
import math
import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from data_preprocess.command import InputError
from data_preprocess.dialogue import render_prompt
from data_preprocess.diversity import prompt_diversity
from data_preprocess.ngrams import sparse_rows
from data_preprocess.ngrams.sparse_rows import nearest_neighbours, ngram_counts, tfidf_vectors
from data_preprocess.ngrams.strategies import overlap_order
from data_preprocess.ngrams.token_ids import encode_prompts, packed
from data_preprocess.preparing.raw_hh import SOURCES, read_split
from data_preprocess.selection import (
    LENGTH_TOLERANCE,
    SELECTIONS,
    STRATEGIES,
    Selection,
    kind_bins,
    length_bins,
    select_addition,
    select_max_diversity,
    select_prompts,
    select_within_tokens,
)

GREEDY = ("coverage", "per_token", "max_d", "low_d")


def random_pool(seed, count=40, vocabulary=9, shortest=0, longest=12):
    rng = random.Random(seed)
    return [[rng.randrange(vocabulary) for _ in range(rng.randint(shortest, longest))] for _ in range(count)]


def topical_pool(seed, count=300):
    """Prompts of 5 to 60 tokens, each in the words of one of 20 topics and in common words."""
    rng = random.Random(seed)
    pool = []
    for _ in range(count):
        topic, length = rng.randrange(20), round(5 + 55 * rng.random() ** 2)
        own = [100 + 10 * topic + rng.randrange(10) for _ in range(length)]
        pool.append([1, *(word if rng.random() < 0.6 else rng.randrange(2, 20) for word in own)])
    return pool


def bigrams(ids):
    return list(zip(ids, ids[1:], strict=False))


def slow_score(strategy, pool, chosen, candidate):
    """A candidate's score, everything counted anew, as an exact fraction."""
    held = {bigram for index in chosen for bigram in bigrams(pool[index])}
    new = len(set(bigrams(pool[candidate])) - held)
    if strategy == "coverage":
        return Fraction(new)
    if strategy == "per_token":
        return Fraction(new, max(len(bigrams(pool[candidate])), 1))
    total = sum(len(bigrams(pool[index])) for index in (*chosen, candidate))
    share = Fraction(len(held) + new, total) if total else Fraction(0)
    return -share if strategy == "low_d" else share


def slow_greedy(strategy, pool, size):
    chosen = []
    for _ in range(size):
        candidates = [index for index in range(len(pool)) if index not in chosen]
        # max gives the first of equal ones.
        chosen.append(max(candidates, key=lambda index: slow_score(strategy, pool, chosen, index)))
    return chosen


def d_of(pool, chosen):
    """The paper's formula, by a loop."""
    found = [bigram for index in chosen for bigram in bigrams(pool[index])]
    return math.sqrt(len(chosen)) * len(set(found)) / len(found) if found else 0.0


@pytest.mark.parametrize("strategy", GREEDY)
@pytest.mark.parametrize("seed", range(6))
def test_greedy_equals_a_loop_that_recounts(strategy, seed):
    """Many ties, repeated and empty prompts among them: of equal ones the first is taken."""
    pool = random_pool(seed) + random_pool(seed)[:8] + [[], [3]]
    expected = slow_greedy(strategy, pool, 30)
    if strategy == "max_d":
        assert select_max_diversity(pool, 30, passes=0) == expected
    else:
        assert select_prompts(pool, [30], strategy) == {30: expected}


@pytest.mark.parametrize("seed", [42, 43])
def test_random_is_the_shuffle_of_sample_py(seed):
    order, pool = list(range(50)), random_pool(0, 50)
    random.Random(seed).shuffle(order)
    expected = {7: order[:7], 20: order[:20]}
    assert select_prompts(pool, [7, 20], "random", seed=seed) == expected
    if seed == 42:
        assert select_prompts(pool, [7, 20], "random") == expected
    room = sum(len(pool[index]) for index in order[:20])
    assert select_within_tokens(pool, room, "random", seed)[:20] == order[:20]


@pytest.mark.parametrize("seed", range(8))
def test_no_exchange_of_one_prompt_raises_d_after_the_swaps(seed):
    pool = random_pool(seed, 25, vocabulary=6)
    chosen = select_max_diversity(pool, 8, passes=100)
    assert len(set(chosen)) == 8
    best = d_of(pool, chosen)
    assert best >= d_of(pool, select_max_diversity(pool, 8, passes=0))
    for place, other in itertools.product(range(8), set(range(25)) - set(chosen)):
        assert d_of(pool, [*chosen[:place], other, *chosen[place + 1 :]]) <= best + 1e-12


def test_maximal_d_against_brute_force():
    """Never above the optimum, never below the greedy choice, and at the optimum in most of 100 small pools."""
    rng, optimal = random.Random(0), []
    for seed in range(100):
        count, size = rng.randint(6, 10), rng.randint(2, 5)
        pool = random_pool(seed, count, vocabulary=5, shortest=1, longest=9)
        best = max(d_of(pool, subset) for subset in itertools.combinations(range(count), size))
        greedy, swapped = (d_of(pool, select_max_diversity(pool, size, passes=passes)) for passes in (0, 10))
        assert greedy <= swapped <= best + 1e-12
        optimal.append((swapped > best - 1e-12, greedy > best - 1e-12))
    with_swaps, greedy_alone = np.sum(optimal, axis=0)
    assert with_swaps >= 90 and with_swaps > greedy_alone  # 98 and 87, when this was written


def test_the_limit_of_seconds_warns_and_leaves_the_greedy_choice():
    pool = topical_pool(0)
    with pytest.warns(UserWarning, match="limit of -1 seconds: another run may choose other prompts"):
        assert select_max_diversity(pool, 150, seconds=-1) == select_max_diversity(pool, 150, passes=0)
    assert select_max_diversity(pool, 150) != select_max_diversity(pool, 150, passes=0)


def slow_similarities(pool):
    """Cosines of TF-IDF vectors of unigrams and bigrams, by dictionaries."""
    terms = [Counter([*((token,) for token in ids), *bigrams(ids)]) for ids in pool]
    holders = Counter(term for counts in terms for term in counts)
    vectors = [{term: n * math.log(len(pool) / holders[term]) for term, n in counts.items()} for counts in terms]
    norms = [math.sqrt(sum(weight**2 for weight in vector.values())) or 1.0 for vector in vectors]
    dot = [[sum(w * b.get(term, 0.0) for term, w in a.items()) for b in vectors] for a in vectors]
    return np.array(dot) / np.outer(norms, norms)


def facility(similarities, chosen):
    return similarities[:, list(chosen)].max(axis=1).sum()


@pytest.mark.parametrize("seed", range(4))
def test_facility_equals_a_dense_loop(seed):
    pool = random_pool(seed, 30, vocabulary=12) + [[], [4, 5]]
    similarities, chosen = slow_similarities(pool), []
    for prompt in select_prompts(pool, [20], "facility")[20]:
        others = [index for index in range(len(pool)) if index not in chosen]
        values = {index: facility(similarities, [*chosen, index]) for index in others}
        assert values[prompt] >= max(values.values()) - 1e-9
        chosen.append(prompt)


def test_facility_keeps_its_bound():
    for seed in range(5):
        pool = random_pool(seed, 10, vocabulary=12, shortest=2)
        similarities = slow_similarities(pool)
        best = max(facility(similarities, subset) for subset in itertools.combinations(range(10), 3))
        assert facility(similarities, select_prompts(pool, [3], "facility")[3]) >= (1 - 1 / math.e) * best


def test_only_the_nearest_neighbours_count(monkeypatch):
    pool = topical_pool(1, 60)
    dense = slow_similarities(pool)
    for block in (7, 256):
        monkeypatch.setattr(sparse_rows, "BLOCK", block)
        monkeypatch.setattr(sparse_rows, "NEIGHBOURS", 100)
        assert nearest_neighbours(tfidf_vectors(pool)).toarray() == pytest.approx(dense, abs=1e-12)
        monkeypatch.setattr(sparse_rows, "NEIGHBOURS", 5)
        kept = np.where(dense >= np.sort(dense, axis=1)[:, [-5]], dense, 0.0)
        assert nearest_neighbours(tfidf_vectors(pool)).toarray() == pytest.approx(kept, abs=1e-12)


def test_terms_of_too_many_prompts_are_left_out(monkeypatch):
    pool = [[1, 2, 3], [1, 2, 4], [1, 5], [1, 5]]
    everything = tfidf_vectors(pool).toarray()  # 1 2 3 4 5, 12 23 24 15; the weight of the 1 of all is zero
    assert ((everything > 0).sum(axis=1) == [4, 4, 2, 2]).all() and everything.shape == (4, 9)
    monkeypatch.setattr(sparse_rows, "MAX_HOLDERS", 1)
    assert tfidf_vectors(pool).toarray() == pytest.approx(
        np.array([[0.5**0.5, 0, 0.5**0.5, 0], [0, 0.5**0.5, 0, 0.5**0.5], [0] * 4, [0] * 4])  # 3 4 23 24
    )


def distances(pool):
    """Euclidean distances of the TF-IDF vectors."""
    similarities = slow_similarities(pool)
    squares = np.diag(similarities)
    return np.sqrt(np.maximum(squares[:, None] + squares - 2 * similarities, 0))


@pytest.mark.parametrize("seed", range(5))
def test_k_center_is_farthest_first_and_within_twice_the_best_radius(seed):
    pool = random_pool(seed, 11, vocabulary=10) + [[], []]
    apart = distances(pool)
    chosen = select_prompts(pool, [5], "k_center")[5]
    assert chosen[0] == 0
    for step in range(1, 5):
        nearest = apart[:, chosen[:step]].min(axis=1)
        assert nearest[chosen[step]] >= nearest.max() - 1e-7
    for size in range(1, 6):
        radii = (apart[:, list(subset)].min(axis=1).max() for subset in itertools.combinations(range(13), size))
        assert apart[:, chosen[:size]].min(axis=1).max() <= 2 * min(radii) + 1e-7


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_ngram_counts_equal_a_loop(n):
    pool = [[70_000_000, 2, 70_000_000, 2, 2], [], [2], *random_pool(3, 20, vocabulary=3)]
    counts = ngram_counts(pool, n)
    found = Counter(counts.tocoo().data.tolist())
    expected = [Counter(tuple(ids[start : start + n]) for start in range(len(ids) - n + 1)) for ids in pool]
    assert found == Counter(times for ngrams in expected for times in ngrams.values())
    held = [(counts[[row]] != 0).indices for row in range(len(pool))]
    for one, other in itertools.combinations(range(len(pool)), 2):
        assert len(np.intersect1d(held[one], held[other])) == len(expected[one].keys() & expected[other].keys())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_matched_prompts_have_the_pools_mean_length(strategy):
    """Lengths from 6 to 61, squared: without bins, coverage and low_d are far off."""
    pool = topical_pool(4)
    lengths = np.array([len(ids) for ids in pool])
    for size, chosen in select_prompts(pool, [20, 48, 150, 299, 300], strategy, match_length=True).items():
        assert len(set(chosen)) == size
        assert abs(lengths[chosen].mean() / lengths.mean() - 1) <= LENGTH_TOLERANCE


def test_swaps_stay_within_a_length_bin():
    pool = topical_pool(5)
    lengths = np.array([len(ids) for ids in pool])
    bins = length_bins(lengths, 60)
    assert bins.quotas.sum() == 60 and len(bins.quotas) > 3
    for low, high in itertools.pairwise(range(len(bins.quotas))):
        assert lengths[bins.number == low].max() <= lengths[bins.number == high].min()
    chosen = select_prompts(pool, [60], "max_d", match_length=True)[60]
    assert np.bincount(bins.number[chosen]).tolist() == bins.quotas.tolist()


def test_lengths_that_cannot_be_matched_are_refused():
    lengths = np.array([1] * 9 + [1000])
    with pytest.raises(InputError, match="no 5 of 10 prompts found .* within 5% of the pool's mean of 100.9 tokens"):
        length_bins(lengths, 5)
    assert length_bins(lengths, 10).quotas.sum() == 10
    assert length_bins(lengths, 0).quotas.sum() == 0


def slow_quotas(kinds, size):
    """Largest remainders of exact shares, by kind; of equal remainders the first kind in alphabetical order."""
    shares = {kind: Fraction(size * kinds.count(kind), len(kinds)) for kind in sorted(set(kinds))}
    quotas = {kind: math.floor(share) for kind, share in shares.items()}
    by_remainder = sorted(shares, key=lambda kind: quotas[kind] - shares[kind])
    for kind in by_remainder[: size - sum(quotas.values())]:
        quotas[kind] += 1
    return quotas


@pytest.mark.parametrize("seed", range(20))
def test_quotas_of_kinds_are_largest_remainders(seed):
    rng = random.Random(seed)
    kinds = rng.choices("zabyx", weights=(1, 5, 9, 2, 40), k=rng.randint(1, 60))
    for size in range(len(kinds) + 1):
        bins = kind_bins(kinds, size)
        quotas = dict(zip(sorted(set(kinds)), bins.quotas.tolist(), strict=True))
        assert quotas == slow_quotas(kinds, size)
        assert sum(quotas.values()) == size
        assert all(abs(quotas[kind] - size * kinds.count(kind) / len(kinds)) < 1 for kind in quotas)
        assert all(quota <= kinds.count(kind) for kind, quota in quotas.items())
        assert [sorted(set(kinds))[number] for number in bins.number] == kinds


def pool_of_kinds(seed):
    """300 prompts of three kinds whose lengths and words differ, and the kind of each; no kind's share is round."""
    rng, pool = random.Random(seed), topical_pool(seed)
    kinds = [("long" if len(ids) > 35 else "short") if rng.random() < 0.8 else "rare" for ids in pool]
    return pool, kinds


@pytest.mark.parametrize("match_length", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_kind_keeps_its_share(strategy, match_length):
    pool, kinds = pool_of_kinds(11)
    lengths = np.array([len(ids) for ids in pool])
    shares = Counter(kinds)
    for size, chosen in select_prompts(pool, [20, 47, 150, 300], strategy, match_length, kinds).items():
        assert len(chosen) == len(set(chosen)) == size
        assert Counter(kinds[index] for index in chosen) == slow_quotas(kinds, size)
        if match_length:
            assert abs(lengths[chosen].mean() / lengths.mean() - 1) <= LENGTH_TOLERANCE
    free = select_prompts(pool, [47], strategy)[47]
    deviation = max(abs(sum(kinds[index] == kind for index in free) - 47 * shares[kind] / 300) for kind in shares)
    assert deviation > 1 or strategy not in ("max_d", "low_d", "coverage")  # without quotas these would not keep it


def test_d_is_still_low_and_high_within_kinds_and_lengths():
    pool, kinds = pool_of_kinds(12)
    found = {
        strategy: d_of(pool, select_prompts(pool, [60], strategy, True, kinds)[60])
        for strategy in ("low_d", "random", "max_d")
    }
    assert found["low_d"] < 0.97 * found["random"] < found["random"] < 0.97 * found["max_d"]


def test_bins_of_kinds_and_lengths_are_cut_within_kinds():
    pool, kinds = pool_of_kinds(13)
    lengths = np.array([len(ids) for ids in pool])
    outer = kind_bins(kinds, 60)
    bins = length_bins(lengths, 60, outer)
    kinds_of_bin = [set(outer.number[bins.number == number]) for number in range(len(bins.quotas))]
    assert all(len(of_one) == 1 for of_one in kinds_of_bin) and len(bins.quotas) > 3
    for kind, quota in enumerate(outer.quotas):
        assert sum(bins.quotas[number] for number, (of,) in enumerate(kinds_of_bin) if of == kind) == quota
    chosen = select_prompts(pool, [60], "max_d", True, kinds)[60]  # its swaps stay within a bin
    assert np.bincount(bins.number[chosen], minlength=len(bins.quotas)).tolist() == bins.quotas.tolist()


def test_kinds_and_lengths_that_contradict_each_other_are_refused():
    with pytest.raises(
        InputError, match="no 1 of 4 prompts found with a mean length within 5% of the pool's mean of 7.5"
    ):
        select_prompts([[1] * 5, [2] * 5, [3] * 5, [4] * 15], [1], "random", True, ["a", "a", "a", "b"])


def prompts_of_hh(shared, count):
    folder = str(shared / "data" / "hh_rlhf")
    pairs = [pair for name in SOURCES for pair in read_split(folder, name, "test", False).pairs]
    random.Random(1).shuffle(pairs)
    return [render_prompt(pair.prefix) for pair in pairs[:count]]


def check_order(pool, size):
    """D of low_d < random < max_d, with and without equal lengths, and max_d above the other strategies."""
    for matched in (False, True):
        found = {}
        for strategy in STRATEGIES:
            chosen = select_prompts(pool, [size], strategy, matched)[size]
            found[strategy] = prompt_diversity([pool[index] for index in chosen])
        assert found["low_d"] < 0.97 * found["random"] < found["random"] < 0.97 * found["max_d"], found
        assert max(found.values()) == found["max_d"]


def test_d_of_the_strategies_on_a_made_up_pool():
    check_order(topical_pool(6, 400), 80)


def test_d_of_the_strategies_on_real_prompts(shared):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared / "data" / "llama_tokenizer")
    check_order(encode_prompts(tokenizer, prompts_of_hh(shared, 1000)), 200)


@pytest.mark.parametrize("matched", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_is_determined_and_takes_sizes_of_all_kinds(strategy, matched):
    pool = [ids + [8, 9] for ids in random_pool(7, 30, longest=5)]
    sizes = [0, 10, 20, 30]
    found = select_prompts(pool, sizes, strategy, matched)
    assert [sorted(set(found[size])) == sorted(found[size]) for size in sizes] == [True] * 4
    assert [len(found[size]) for size in sizes] == sizes
    arrays = [np.array(ids, dtype=np.int32) for ids in pool]
    assert select_prompts(arrays, sizes, strategy, matched) == found
    assert select_prompts(packed(pool), sizes, strategy, matched) == found
    assert all(type(index) is int for index in found[20])
    if strategy != "max_d" and not matched:
        assert found[20] == found[30][:20] and found[10] == found[30][:10]


def test_max_d_improves_each_size_by_itself():
    pool = topical_pool(8)
    assert select_prompts(pool, [20, 50], "max_d") == {size: select_max_diversity(pool, size) for size in (20, 50)}


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name not in ("random", "low_d", "k_center")])
def test_a_copy_is_chosen_after_its_first_and_last_of_all(strategy):
    pool = random_pool(9, 10, vocabulary=50, shortest=6)
    assert sorted(select_prompts(pool * 2, [10], strategy)[10]) == list(range(10))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("pool", [[], [[], []], [[5]], [[], [5], [5, 6], []]])
def test_pools_with_nothing_to_count(strategy, pool):
    assert sorted(select_prompts(pool, [len(pool)], strategy)[len(pool)]) == list(range(len(pool)))


@pytest.mark.parametrize(
    "sizes, strategy, message",
    [
        ([3], "max_d", r"size 3 \(expected 0 to 2, the number of prompts\)"),
        ([1, -1], "random", "size -1"),
        ([1], "best", "strategy 'best' .expected one of random, coverage, per_token, max_d, facility, k_center, low_d"),
    ],
)
def test_impossible_sizes_and_strategies_are_refused(sizes, strategy, message):
    with pytest.raises(ValueError, match=message):
        select_prompts([[1, 2], [3]], sizes, strategy)
    if strategy == "max_d":
        with pytest.raises(ValueError, match=message):
            select_max_diversity([[1, 2], [3]], sizes[0])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_tokens_end_the_choice(strategy):
    pool = topical_pool(10, 100)
    lengths = np.array([len(ids) for ids in pool])
    chosen = select_within_tokens(pool, 900, strategy)
    assert len(set(chosen)) == len(chosen) and lengths[chosen].sum() <= 900
    if strategy == "max_d":
        greedy = select_max_diversity(pool, len(chosen), passes=0)
        assert lengths[greedy].sum() <= 900 and d_of(pool, chosen) > d_of(pool, greedy)
    else:
        following = select_prompts(pool, [len(chosen) + 1], strategy)[len(chosen) + 1]
        assert following[:-1] == chosen and lengths[following].sum() > 900
    assert len(select_within_tokens(pool, lengths.sum(), strategy)) == 100
    assert select_within_tokens(pool, 1, strategy) == []


def test_names_of_selections_are_told_apart():
    assert len(SELECTIONS) == 7 * 2**3
    assert {"max_d", "max_d_matched", "random", "low_d_matched", "coverage_half", "random_kind"} < set(SELECTIONS)
    assert SELECTIONS["low_d_matched_kind_half"] == Selection("low_d", match_length=True, match_kind=True, half=True)
    assert all(selection.name == name for name, selection in SELECTIONS.items())


def test_a_selection_says_its_flags():
    assert SELECTIONS["random"].flags == []
    assert SELECTIONS["random_half"].flags == ["--half"]
    expected = ["--select", "max_d", "--match_length", "--match_kind", "--half"]
    assert SELECTIONS["max_d_matched_kind_half"].flags == expected


@pytest.mark.parametrize("seed", range(6))
def test_an_addition_raises_the_d_of_base_and_chosen_ones_the_most(seed):
    base, pool = random_pool(seed, count=8), random_pool(100 + seed, count=25)
    chosen = []
    for _ in range(10):
        candidates = [index for index in range(len(pool)) if index not in chosen]
        scores = [exact_share(base + [pool[i] for i in (*chosen, index)]) for index in candidates]
        chosen.append(candidates[scores.index(max(scores))])  # of equal ones the first
    assert select_addition(base, pool, 10) == chosen
    assert select_addition([], pool, 10) == slow_greedy("max_d", pool, 10)
    assert select_addition(base, pool, 0) == [] == select_addition(base, [], 0)
    with pytest.raises(ValueError, match="size 26"):
        select_addition(base, pool, 26)


def slow_overlap(pool, taken, candidate):
    """The share of a prompt's distinct bigrams that occur in the others, counted anew; 1 without bigrams."""
    held = {bigram for prompt in taken for bigram in bigrams(prompt)}
    own = set(bigrams(pool[candidate]))
    return Fraction(len(own & held), len(own)) if own else Fraction(1)


@pytest.mark.parametrize("seed", range(6))
def test_an_addition_overlaps_the_least_with_base_and_chosen_ones(seed):
    """Ties, repeated bigrams and prompts without any among them: of equal ones the first is taken."""
    base, pool = random_pool(seed, count=8), random_pool(100 + seed, count=25) + [[], [4], [5, 5, 5, 5]]
    chosen = []
    for _ in range(len(pool)):
        candidates = [index for index in range(len(pool)) if index not in chosen]
        taken = base + [pool[index] for index in chosen]
        chosen.append(min(candidates, key=lambda index: slow_overlap(pool, taken, index)))
    assert select_addition(base, pool, len(pool), order=overlap_order) == chosen
    assert select_addition(base, pool, 5, order=overlap_order) == chosen[:5] != select_addition(base, pool, 5)


def exact_share(prompts):
    """U / T of prompts, counted anew; the factor sqrt(M) is the same for all that could come next."""
    found = [bigram for prompt in prompts for bigram in bigrams(prompt)]
    return Fraction(len(set(found)), len(found)) if found else Fraction(0)


def test_an_addition_is_as_long_as_the_pool_on_average():
    pool = topical_pool(1)
    base, rest = pool[:50], pool[50:]
    mean = np.mean([len(prompt) for prompt in rest])
    matched, free = select_addition(base, rest, 60, match_length=True), select_addition(base, rest, 60)
    apart = select_addition(base, rest, 60, match_length=True, order=overlap_order)
    assert abs(np.mean([len(rest[index]) for index in apart]) - mean) <= LENGTH_TOLERANCE * mean
    assert abs(np.mean([len(rest[index]) for index in matched]) - mean) <= LENGTH_TOLERANCE * mean
    assert abs(np.mean([len(rest[index]) for index in free]) - mean) > LENGTH_TOLERANCE * mean
    random_ones = random.Random(0).sample(range(len(rest)), 60)
    d_with = [prompt_diversity(base + [rest[index] for index in added]) for added in (random_ones, matched)]
    assert len(set(matched)) == 60 and d_with[0] < d_with[1]
