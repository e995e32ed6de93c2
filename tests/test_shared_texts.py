"""Which texts are computed together, in which rows, and where their tokens stand."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval_hh.inference.shared_texts import LARGEST_GROUP, group_texts, n_shared, plan_rows, row_of, shared_row


def test_a_row_by_hand():
    row = shared_row([[5, 6, 7], [1, 2, 3, 4], [5, 6, 8, 9]], ["a", "b", "a"])
    assert row.lengths == [[2, 1, 2], [4]]
    assert row.input_ids == [5, 6, 7, 8, 9, 1, 2, 3, 4]
    assert row.position_ids == [0, 1, 2, 2, 3, 0, 1, 2, 3]
    assert row.columns == [[0, 1, 2], [5, 6, 7, 8], [0, 1, 3, 4]]  # in the order of the texts


def test_texts_of_other_prompts_share_nothing():
    assert group_texts([[1, 2, 3], [1, 2, 4], [1, 2, 5]], ["a", "b", "a"]) == [[0, 2], [1]]


def test_what_texts_share_is_no_whole_text():
    """Each text keeps a token of its own, the last, also one that begins another."""
    assert n_shared([[1, 2], [1, 2, 3]]) == 1
    assert n_shared([[7], [7, 8]]) == n_shared([[7, 8]]) == 0
    assert shared_row([[7], [7, 8]], [0, 0]).lengths == [[1], [2]]


def test_texts_that_share_little_are_computed_alone():
    """As two that are cut from the left at different places: what they compare with one another costs more."""
    texts = [[1, *range(100, 140)], [1, *range(200, 240)]]
    assert n_shared(texts) == 0 and group_texts(texts, [0, 0]) == [[0], [1]]


def test_a_large_group_is_split():
    texts = [[*range(100), n, *range(200)] for n in range(50)]
    groups = group_texts(texts, [0] * 50)
    assert sum(groups, []) == list(range(50)) and len(groups) == 3
    assert all(sum(len(texts[i]) - 100 for i in group) <= LARGEST_GROUP for group in groups)


def test_rows_are_planned_by_tokens():
    """Of 256 tokens for each text of a batch, shared ones counted once; the longest first."""
    texts = [[n // 4, *[9] * 99, *[n] * 25] for n in range(16)]  # four prompts of 100 tokens, 200 for each group
    assert plan_rows(texts, [n // 4 for n in range(16)], 2) == [list(range(8)), list(range(8, 16))]
    texts[15] = [3, *[9] * 99, *[15] * 90]
    assert plan_rows(texts, [n // 4 for n in range(16)], 2) == [[12, 13, 14, 15, 0, 1, 2, 3], [*range(4, 12)]]
    assert plan_rows(texts, list(range(16)), 1)[0] == [15]  # nothing shared: a text of 190 tokens, and no room for more


@st.composite
def jobs(draw):
    """Texts over few token ids, so that many begin alike, and their prompts."""
    texts = draw(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=12))
    prompts = draw(st.lists(st.integers(0, 2), min_size=len(texts), max_size=len(texts)))
    return texts, prompts


@settings(max_examples=200, deadline=None)
@given(jobs(), st.integers(1, 4))
def test_a_row_holds_every_text_at_its_own_positions(job, batch_size):
    texts, prompts = job
    row = shared_row(texts, prompts)
    for text, columns in zip(texts, row.columns, strict=True):
        assert [row.input_ids[column] for column in columns] == text
        assert [row.position_ids[column] for column in columns] == list(range(len(text)))
        assert all(a < b for a, b in pairwise(columns))
    assert sum(map(sum, row.lengths)) == len(row.input_ids) <= sum(map(len, texts))
    batches = plan_rows(texts, prompts, batch_size)
    assert sorted(sum(batches, [])) == list(range(len(texts)))


def test_a_text_that_adds_nothing_has_its_prompt_s_columns():
    row = row_of([([4, 5], [[6], []])])
    assert row.columns == [[0, 1, 2], [0, 1]] and row.lengths == [[2, 1, 0]]


@pytest.mark.parametrize("n", [1, 2, 7])
def test_equal_texts_are_computed_once(n):
    """So that their scores are equal, and a comparison of them is a tie."""
    row = shared_row([*[[1, 2, 3, 4]] * n, [1, 2, 5], [1, 2, 3, 4]], [*[0] * n, 0, 0])
    assert row.lengths == [[2, 2, 1]]
    assert row.columns == [*[[0, 1, 2, 3]] * n, [0, 1, 4], [0, 1, 2, 3]]
    assert shared_row([[1, 2, 3, 4]] * n, [0] * n).lengths == [[4]]
    assert group_texts([[1, 2], [3], [1, 2]], [0, 0, 0], largest=1) == [[0, 2], [1]]
