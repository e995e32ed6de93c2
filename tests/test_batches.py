"""training/batches.py: which prompts a step sees, and how they are dealt out."""

from random import Random

import pytest

from training.batches import balanced, step_indices


def test_balanced_by_hand():
    """9 and 8 open the parts, 5 joins the 8 and 4 the 9; the parts are even, and each has room for a 1."""
    assert balanced([0, 1, 2, 3, 4, 5], [1, 9, 5, 8, 4, 1], 2) == [[1, 4, 0], [3, 2, 5]]


@pytest.mark.parametrize("n_parts", [1, 2, 7, 8, 16, 56, 112])
def test_parts_have_equal_counts_and_nearly_equal_sizes(n_parts):
    rng = Random(0)
    sizes = [rng.randint(1, 100) ** 2 for _ in range(500)]
    rows = rng.sample(range(500), 112)
    parts = balanced(rows, sizes, n_parts)
    assert sorted(row for part in parts for row in part) == sorted(rows)
    assert {len(part) for part in parts} == {112 // n_parts}
    totals = [sum(sizes[row] for row in part) for part in parts]
    if n_parts <= 8:
        assert max(totals) < 1.05 * min(totals)
    in_order = [sum(sizes[row] for row in rows[i::n_parts]) for i in range(n_parts)]
    assert max(totals) <= max(in_order)


def test_step_indices_are_shuffles_end_to_end():
    """10 records in steps of 4: five steps are two whole passes, whatever the step they are asked for."""
    rows = [index for step in range(1, 6) for index in step_indices(10, 4, seed=42, step=step)]
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert rows[:10] != rows[10:] != list(range(10))
    assert step_indices(10, 4, seed=42, step=3) == rows[8:12]
    assert step_indices(10, 4, seed=43, step=1) != rows[:4]
    assert len(step_indices(3, 8, seed=42, step=1)) == 8  # fewer records than a step holds
