"""Cutting rankings: draws written by hand, properties over many seeds."""

import random

import pytest

from data_preprocess.ranking import cut_ranking, nested_subsets, values_of

ROW = {
    "prefix": [["p0"], ["p1"], ["p2"], ["p3"]],
    "suffix": ["a", "b", "c", "d"],
    "reward": [4.0, 2.0, 2.0, 1.0],
    "sft_index": 3,
    "meta": {"id": 9},
}


class Drawn:
    """A random stream whose next sample is known."""

    def __init__(self, indices):
        self.indices = indices

    def sample(self, population, k):
        assert list(population) == [0, 1, 2, 3] and k == len(self.indices)
        return self.indices


@pytest.mark.parametrize(
    "drawn, suffix, reward",
    [
        ([3, 0, 1], ["a", "b", "d"], [4.0, 2.0, 1.0]),
        ([2, 1, 0], ["a", "c", "b"], [4.0, 2.0, 2.0]),  # b and c tie: c was drawn first
        ([1, 3, 2], ["b", "c", "d"], [2.0, 2.0, 1.0]),
        ([2, 1], ["c", "b"], [2.0, 2.0]),
    ],
)
def test_kept_responses_are_sorted_and_ties_stay_as_drawn(drawn, suffix, reward):
    cut = cut_ranking(ROW, Drawn(drawn), len(drawn))
    assert cut["suffix"] == suffix and cut["reward"] == reward
    assert cut["prefix"] == [[f"p{'abcd'.index(text)}"] for text in suffix]
    assert list(cut) == ["prefix", "suffix", "reward", "meta"] and cut["meta"] == {"id": 9}


def test_every_response_is_kept_about_equally_often():
    rng = random.Random(0)
    counts = {text: 0 for text in ROW["suffix"]}
    for _ in range(4000):
        for text in cut_ranking(ROW, rng, 3)["suffix"]:
            counts[text] += 1
    # Each is kept with probability 3/4: 3000 of 4000, standard deviation 27.
    assert all(abs(count - 3000) < 140 for count in counts.values())


def test_subsets_nest_and_leave_the_rows_as_they_were():
    rows = list(range(50))
    subsets = nested_subsets(rows, [5, 50, 20], 42)
    shuffled = list(range(50))
    random.seed(42)
    random.shuffle(shuffled)
    assert subsets == {5: shuffled[:5], 50: shuffled, 20: shuffled[:20]}
    assert rows == list(range(50))


def test_the_responses_origins_are_cut_with_them():
    """Only a list of one origin per response is: other meta goes along as it is."""
    row = {"prefix": [["p"]] * 4, "suffix": list("abcd"), "reward": [4.0, 3.0, 2.0, 1.0]}
    rng = random.Random(0)
    for _ in range(20):
        cut = cut_ranking({**row, "meta": {"id": 1, "response_from": list("ABCD")}}, rng, 2)
        assert cut["meta"] == {"id": 1, "response_from": [text.upper() for text in cut["suffix"]]}
    for meta in ({}, {"response_from": ["A"]}, {"response_from": "ABCD"}):
        assert cut_ranking({**row, "meta": meta}, rng, 2)["meta"] == meta


def test_a_number_of_each_response_is_cut_with_it():
    """Whatever a later --rewards_from may name; what is no list of numbers, one per response, stays."""
    rng, stays = (
        random.Random(0),
        {"tags": list("abcd"), "span": [3, 9], "flags": [True] * 4, "n": 4, "rows": [[1]] * 4},
    )
    meta = {"quality": [0, 1, 2, 3], "by": {"person": [0.0, 1, None, 3]}, **stays}
    row = {"prefix": [["p"]] * 4, "suffix": list("0123"), "reward": [4.0, 3.0, 2.0, 1.0], "meta": meta}
    for _ in range(20):
        cut = cut_ranking(row, rng, 3)
        kept = list(map(int, cut["suffix"]))
        assert cut["meta"] == {"quality": kept, "by": {"person": [None if i == 2 else i for i in kept]}, **stays}
    assert values_of({"a": [1, 2]}, 2, [1, 0, None]) == {"a": [2, 1, None]}
    assert values_of({"a": []}, 0, [None]) == {"a": []}
