"""labelling/additions.py: the choice among prompts of which some cannot be answered, and the rows made."""

import pytest

from data_preprocess.command import InputError
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.selection import select_addition
from data_preprocess.subsets import RANDOM
from labelling.additions import DIVERSE, ORDERS, OVERLAP, addition, answered_addition, check_prompts, enlarged

BASE = [[1, 2, 3], [1, 2, 4]]
POOL = [[1, 2, 3, 4], [7, 8, 9], [1, 2], [5, 6, 5, 6], [9, 8, 7, 6], [3, 3, 3], [4, 1, 2]]


def candidates(index):
    return Candidates([f"<|prompter|>{index}", "<|assistant|>"], ["a", "b"], None, {"id": str(index)})


def run(by, size, unanswerable):
    """The chosen prompts, the number refused, and which prompts were answered in which round."""
    asked = []

    def answer(indices):
        asked.append(indices)
        return {index: candidates(index) for index in indices if index not in unanswerable}

    def choose(refused):
        return addition(BASE, POOL, refused, size, by, False, 3)

    added, refused = answered_addition(choose, answer, len(POOL), size)
    return [int(one.meta["id"]) for one in added], refused, asked


@pytest.mark.parametrize("by", [DIVERSE, OVERLAP, RANDOM])
def test_what_cannot_be_answered_is_as_if_it_had_not_been_there(by):
    full, refused, asked = run(by, 4, ())
    assert refused == 0 and asked == [full]
    bad = {full[0], full[2]}
    chosen, refused, asked = run(by, 4, bad)
    assert refused >= 2 and not bad & set(chosen)
    everything = [index for part in asked for index in part]
    assert len(everything) == len(set(everything))  # none was answered twice
    if by == RANDOM:
        order, _, _ = run(by, len(POOL), ())
        assert order[:4] == full and chosen == [index for index in order if index not in bad][:4]
    else:
        free = [index for index in range(len(POOL)) if index not in bad]
        assert chosen == [free[i] for i in select_addition(BASE, [POOL[i] for i in free], 4, order=ORDERS[by])]


def test_too_few_answers_are_one_line():
    with pytest.raises(InputError, match="--add: 5 prompts requested, but 3 of 7 prompts got too few distinct"):
        run(DIVERSE, 5, {1, 3, 4})


def test_the_shuffle_hangs_on_the_seed():
    orders = [addition(BASE, POOL, set(), 7, RANDOM, False, seed) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[2]) == list(range(7))


def test_an_empty_prompt_is_named_by_its_line():
    meta = {"source": "pool.jsonl", "line": 7}
    fine = Candidates(["<|prompter|>Hi", "<|assistant|>"], [], None, meta)
    for turns in (
        ["<|prompter|> ", "<|assistant|>"],
        ["<|prompter|>Hi", "<|assistant|>Yes", "<|prompter|>", "<|assistant|>"],
        ["<|assistant|>"],
    ):
        with pytest.raises(InputError, match="pool.jsonl:7: the prompt is empty"):
            check_prompts([fine, Candidates(turns, [], None, meta)])


def test_rows_say_where_they_come_from():
    turns = ["<|prompter|>Hi", "<|assistant|>"]
    base = {"prefix": [turns] * 2, "suffix": ["x", "y"], "reward": [2.0, 1.0], "meta": {"topic": "t"}, "sft_index": 1}
    added = Candidates(["<|prompter|>Ho", "<|assistant|>"], ["a", "b"], [0.5, 1.5], {"id": "i"}, ["m", "m"])
    assert enlarged([base], [added], "pool") == [
        {**base, "meta": {"topic": "t", "origin": "base"}},
        {
            "prefix": [["<|prompter|>Ho", "<|assistant|>"]] * 2,
            "suffix": ["b", "a"],
            "reward": [1.5, 0.5],
            "meta": {"id": "i", "response_from": ["m", "m"], "origin": "pool"},
        },
    ]
    assert base["meta"] == {"topic": "t"}
