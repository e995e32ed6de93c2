"""What a budget buys, by arithmetic, and the D of what is chosen, by a loop."""

import math
import random
from decimal import Decimal

import pytest

from data_preprocess.command import InputError
from data_preprocess.ngrams.token_ids import packed
from labelling.planning.budget import Prices, Split, choose_prompts, random_diversity, split_budget


def d_of(pool, chosen):
    found = [bigram for i in chosen for bigram in zip(pool[i], pool[i][1:], strict=False)]
    return math.sqrt(len(chosen)) * len(set(found)) / len(found)


def test_labelled_responses_are_shared_out():
    assert split_budget(Decimal(6000), Prices(), [2, 3, 4], 8000) == [
        Split(2, 3000, Decimal(6000)), Split(3, 2000, Decimal(6000)), Split(4, 1500, Decimal(6000))
    ]  # fmt: skip
    assert [split.size for split in split_budget(Decimal(11), Prices(), [2, 3, 4], 8000)] == [5, 3, 2]


def test_a_pool_is_used_up_and_a_budget_need_not_be():
    splits = split_budget(Decimal(100), Prices(), [2, 4], 30)
    assert [(split.size, split.cost) for split in splits] == [(30, 60), (25, 100)]


def test_money_pays_for_prompts_responses_and_comparisons():
    prices = Prices(Decimal("0.5"), Decimal("2"), Decimal("0.1"))
    # 0.5 + 2 K + 0.1 K (K - 1) / 2
    assert [prices.of_prompt(k) for k in (2, 3, 4)] == [Decimal("4.6"), Decimal("6.8"), Decimal("9.1")]
    assert Prices(Decimal("0.5"), Decimal("2"), Decimal("0.1"), 3).of_prompt(4) == Decimal("8.8")
    assert [s.size for s in split_budget(Decimal("46"), prices, [2, 3, 4], 99)] == [10, 6, 5]


def test_ten_prompts_at_a_tenth_are_one():
    """In binary floats 1 // 0.1 is 9."""
    assert split_budget(Decimal("1"), Prices(response=Decimal("0.05")), [2], 99)[0].size == 10


def test_what_a_budget_does_not_pay_for():
    assert [split.size for split in split_budget(Decimal(3), Prices(), [2, 3, 4], 9)] == [1, 1, 0]
    with pytest.raises(
        InputError, match=r"a budget of 1 does not cover a single prompt at K = 2, 3, 4 .expected 2 or more."
    ):
        split_budget(Decimal(1), Prices(), [2, 3, 4], 9)


def test_what_is_labelled_already_counts_at_every_k():
    """10 prompts at K = 4 have cost 40 of 100: 60 are left for 30, 20 or 15 more."""
    splits = split_budget(Decimal(100), Prices(), [2, 3, 4], 99, labelled=10)
    assert [(split.size, split.cost) for split in splits] == [(40, 100), (30, 100), (25, 100)]
    assert [split.size for split in split_budget(Decimal(100), Prices(), [2, 3, 4], 35, labelled=10)] == [35, 30, 25]
    assert split_budget(Decimal(40), Prices(), [2, 4], 99, labelled=10)[0].size == 10
    with pytest.raises(InputError, match="a budget of 39 is spent already: 10 prompts are labelled at K = 4, .* 40"):
        split_budget(Decimal(39), Prices(), [2, 4], 99, labelled=10)


def test_d_of_choices_and_of_random_prompts_by_a_loop():
    rng = random.Random(3)
    pool = [[rng.randrange(6) for _ in range(rng.randint(2, 9))] for _ in range(30)]
    order = list(range(30))
    random.Random(42).shuffle(order)
    expected = {size: pytest.approx(d_of(pool, order[:size])) for size in (1, 5, 12)}
    assert random_diversity(packed(pool), [5, 1, 12]) == expected
    choices = choose_prompts(packed(pool), [5, 12], "max_d")
    for size, choice in choices.items():
        assert len(set(choice.indices)) == size
        assert choice.diversity == pytest.approx(d_of(pool, choice.indices))
        assert choice.diversity > d_of(pool, order[:size])
        assert choice.tokens == pytest.approx(sum(len(pool[i]) for i in choice.indices) / size)
