"""From responses to rankings: what is kept, dropped and drawn, and the row that comes out."""

import hashlib
from collections import Counter

from data_preprocess.preparing.candidates import (
    Candidates,
    add_responses,
    average_equal,
    choose,
    commonest_len,
    distinct,
    drop_unjudged,
    keep_responses,
    plain_row,
    prompt_id,
    training_row,
)

TURNS = ["<|prompter|>Hi", "<|assistant|>"]


def made(responses, rewards=None, identity="x", turns=TURNS):
    return Candidates(turns, responses, rewards, {"id": identity})


def test_id_is_made_of_the_words():
    text = b"\n\nHuman: Hi\n\nAssistant:"
    assert prompt_id(TURNS) == hashlib.sha256(text).hexdigest()[:16]
    assert prompt_id(["<|prompter|>Hi.", "<|assistant|>"]) != prompt_id(TURNS)
    assert prompt_id(["<|system|>Be brief.", *TURNS]) == hashlib.sha256(b"<|system|>Be brief." + text).hexdigest()[:16]


def test_empty_and_equal_responses_go():
    kept = distinct(add_responses(made(["a", " ", "b "], [3.0, 2.0, 1.0]), ["b", "", "c"], "m"))
    assert kept.responses == ["a", "b ", "c"]
    assert kept.origins == ["data", "data", "m"]
    assert kept.rewards is None  # sampled responses have none, so none holds
    assert distinct(made(["\u200b", "a\u200b", "\ufeff\n"])).responses == ["a\u200b"]
    assert distinct(made(["a", "a ", "b"], [3.0, 2.0, 1.0])).rewards == [3.0, 1.0]


def test_equal_responses_get_the_mean_of_their_rewards():
    pool = [made(["a", "a ", "b"], [3.0, 2.0, 1.0]), made(["a", "a"], [1.0, 1.0]), made(["a", "a"], None)]
    averaged, notes = average_equal(pool)
    assert [one.rewards for one in averaged] == [[2.5, 2.5, 1.0], [1.0, 1.0], None]
    assert notes == ["1 prompts have equal responses with different rewards, which get the mean of these"]
    assert average_equal(pool[1:]) == (pool[1:], [])


def test_responses_without_a_reward_go():
    pool = [made(["a", "b", "c"], [3.0, None, 1.0]), made(["a", "b"]), made(["a"], [None]), made(["a"], [0.0])]
    kept, dropped = drop_unjudged(pool)
    assert dropped == 2 and [c.responses for c in kept] == [["a", "c"], ["a", "b"], [], ["a"]]
    assert [c.rewards for c in kept] == [[3.0, 1.0], None, [], [0.0]]


def test_too_few_responses_drop_the_prompt_and_are_counted():
    pool = [
        made(["a", "b", "c"]),
        made(["a", "a", "b"]),
        made(["a", ""]),
        made(["a", "b", "c"], turns=["<|assistant|>Hi", "<|prompter|>"]),
    ]
    kept, dropped = choose(pool, 3, seed=42)
    assert [candidates.responses for candidates in kept] == [["a", "b", "c"]]
    assert dropped == {
        "fewer than 3 distinct non-empty responses": 2,
        "the prompt does not end where the assistant speaks": 1,
    }


def test_which_of_more_responses_stay_is_drawn_by_prompt_and_seed_alone():
    pool = [made(list("abcde"), [5.0, 4.0, 3.0, 2.0, 1.0], f"id{i}") for i in range(300)]
    kept, dropped = choose(pool, 2, seed=42)
    assert dropped == {} and all(len(c.responses) == len(c.rewards) == 2 for c in kept)
    assert all(c.rewards == [5.0 - "abcde".index(text) for text in c.responses] for c in kept)
    alone = [choose([candidates], 2, seed=42)[0][0] for candidates in reversed(pool)]
    assert alone[::-1] == kept
    assert choose(pool, 2, seed=43)[0] != kept
    counts = Counter(text for candidates in kept for text in candidates.responses)
    assert all(80 < counts[text] < 160 for text in "abcde")  # 120 each, standard deviation 8.5


def test_commonest_len():
    assert commonest_len([made(["a", "b"]), made(["a", "b", "b"]), made(["a", "b", "c"])]) == 2
    assert commonest_len([made(["a", "b", "c"]), made(["a", "b"])]) == 2
    assert commonest_len([made(["a"]), made(["a"]), made(["a", "b", "c"])]) == 3
    assert commonest_len([made(["a"])]) == 2


def test_training_row_is_sorted_with_ties_in_place():
    candidates = add_responses(made(["a", "b"]), ["c", "d"], "m")
    row = training_row(Candidates(TURNS, candidates.responses, [0.0, 1.0, 0.0, 1.0], {"id": "x"}, candidates.origins))
    assert row == {
        "prefix": [TURNS] * 4,
        "suffix": ["b", "d", "a", "c"],
        "reward": [1.0, 1.0, 0.0, 0.0],
        "meta": {"id": "x", "response_from": ["data", "m", "data", "m"]},
    }


def test_plain_row_of_a_prompt_alone():
    assert plain_row(made([])) == {"prefix": [TURNS], "suffix": [""], "reward": [0.0], "meta": {"id": "x"}}
    assert plain_row(made(["a", ""], [0.0, 1.0]))["suffix"] == ["a", ""]


def test_numbers_in_meta_go_where_their_responses_go():
    """Sorted, sampled ones added, one dropped; a prompt whose answers are dropped has none."""
    candidates = Candidates(TURNS, ["a", "b", "b "], [1.0, 2.0, 2.0], {"id": "x", "quality": [5, 7, 6]})
    row = training_row(distinct(candidates))
    assert (row["suffix"], row["meta"]["quality"]) == (["b", "a"], [7, 5])
    more = add_responses(distinct(candidates), ["c", "d"], ["m", "n"])
    assert more.meta["quality"] == [5, 7, None, None] and more.origins == ["data", "data", "m", "n"]
    assert add_responses(keep_responses(candidates, []), ["c"], "m").meta["quality"] == []


def test_a_prompt_is_named_by_its_line_or_its_text():
    assert Candidates(TURNS, [], None, {"source": "pool.csv", "line": 3}).where == "pool.csv:3"
    assert "Hi" in Candidates(TURNS, [], None, {"id": "a"}).where
