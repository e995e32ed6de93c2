"""Scores, ranks and votes as rewards; Copeland counts against a slow count over all pairs."""

import random

import pytest

from data_preprocess.command import InputError
from data_preprocess.preparing.votes import copeland, number, rewards_from, rewards_of_winner


def test_copeland_by_hand():
    # 0 beats 1 and 2; 1 and 2 tie; nobody judged 3 against anyone.
    votes = [(0, 1, 1.0), (2, 0, -1.0), (1, 2, 0.0)]
    assert copeland(4, votes) == [2.0, -1.0, -1.0, 0.0]
    # The majority decides a pair, however the pair is written: 2 of 3 prefer 1.
    assert copeland(2, [(0, 1, 1.0), (0, 1, -1.0), (1, 0, 1.0)]) == [-1.0, 1.0]
    assert copeland(2, [(0, 1, 1.0), (1, 0, 1.0)]) == [0.0, 0.0]


def test_copeland_as_a_slow_count():
    rng = random.Random(1)
    for _ in range(200):
        n = rng.randrange(2, 6)
        votes = [(*rng.sample(range(n), 2), rng.choice([1.0, 0.0, -1.0])) for _ in range(rng.randrange(20))]
        expected = []
        for a in range(n):
            won = lost = 0
            for b in range(n):
                if a != b:
                    mine = sum((x, y, v) in ((a, b, 1.0), (b, a, -1.0)) for x, y, v in votes)
                    theirs = sum((x, y, v) in ((b, a, 1.0), (a, b, -1.0)) for x, y, v in votes)
                    won, lost = won + (mine > theirs), lost + (theirs > mine)
            expected.append(float(won - lost))
        assert copeland(n, votes) == expected


def test_real_copeland_scores_come_back_from_their_votes(shared):
    """Votes by finegrained_len4's own order give rewards in that order: -3 to 3, ties equal."""
    from data_preprocess.records import read_rows

    for row in read_rows(shared / "data" / "finegrained_len4")[:100]:
        reward = row["reward"]
        votes = [[a, b, "tie" if reward[a] == reward[b] else "a"] for a in range(4) for b in range(a + 1, 4)]
        scores = rewards_from(votes, 4, False, "here")
        assert scores == [float(sum((x > y) - (x < y) for y in reward)) for x in reward]


def test_forms():
    assert rewards_from([3, 1.5], 2, False, "here") == [3.0, 1.5]
    assert rewards_from([0, 2, 1], 3, True, "here") == [0.0, -2.0, -1.0]
    assert rewards_from([[1, 0], [0, 2, "b"], [1, 2, "tie"]], 3, False, "here") == [-2.0, 1.0, 1.0]
    assert rewards_from([2, None], 2, True, "here") == [-2.0, None]
    assert number("2.5", "here") == 2.5


@pytest.mark.parametrize(
    "value, message",
    [
        (None, "here is None"),
        ([], r"here is \[\]"),
        ([1.0], "here: 1 values for 2 responses"),
        ([1.0, "x"], "here: 'x' .*finite number"),
        ([1.0, True], "here: True"),
        ([1.0, float("nan")], "here: nan"),
        ([1.0, 10**400], "here: 1000"),
        ([[0, 2]], "expected responses 0 to 1"),
        ([[0, 0]], r"vote \[0, 0\]"),
        ([[0]], r"vote \[0\]"),
        ([[0, True]], r"vote \[0, True\]"),
        ([[0, 1, "c"]], "vote is 'c'"),
    ],
)
def test_what_is_no_judgement(value, message):
    with pytest.raises(InputError, match=message):
        rewards_from(value, 2, False, "here")


@pytest.mark.parametrize(
    "value, names, rewards",
    [
        (0, None, [1, 0, 0]),
        (2.0, None, [0, 0, 1]),
        ("1", None, [0, 1, 0]),
        (1, ("2", "1", "0"), [0, 1, 0]),
        ("c", ("a", "b", "c"), [0, 0, 1]),
        ("tie", None, [0.5, 0.5, 0.5]),
        ("Tie (bothbad)", ("a", "b", "c"), [0.5, 0.5, 0.5]),
        ("tied", ("tied", "b", "c"), [1, 0, 0]),
        (None, None, [None, None, None]),
        ("N/A", ("a", "b", "c"), [None, None, None]),
        (float("nan"), None, [None, None, None]),
    ],
)
def test_the_winner_of_a_row(value, names, rewards):
    assert rewards_of_winner(value, 3, names, "here") == rewards


@pytest.mark.parametrize(
    "value, rewards", [(-3, [1, 0]), ("-0.5", [1, 0]), (2, [0, 1]), (0, [0.5, 0.5]), (-0.0, [0.5, 0.5])]
)
def test_the_winner_by_the_sign_of_a_number(value, rewards):
    assert rewards_of_winner(value, 2, ("negative", "positive"), "here") == rewards
