"""TRL's Parquet: literal rows of both forms, and back again through the reader of any source."""

import json

import pytest

from data_preprocess.command import InputError
from data_preprocess.dialogue import training_text
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.preparing.export import preference_pairs, write_prompts, write_trl
from data_preprocess.preparing.row_formats import Mapping, read_source

TURNS = ["<|prompter|>Hi", "<|assistant|>Hello.", "<|prompter|>Rice?", "<|assistant|>"]
POOL = [Candidates(TURNS, ["Boil it.", "No.", "Rinse it."], [2.0, -1.0, 2.0], {"id": "p"})]
MESSAGES = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Rice?"},
]


def test_conversational_rows():
    answer = {"prompt": MESSAGES, "rejected": [{"role": "assistant", "content": "No."}]}
    assert list(preference_pairs(POOL, conversational=True)) == [
        {**answer, "chosen": [{"role": "assistant", "content": "Boil it."}]},
        {**answer, "chosen": [{"role": "assistant", "content": "Rinse it."}]},
    ]


def test_standard_rows_join_to_the_text_trained_on():
    rows = list(preference_pairs(POOL, conversational=False))
    assert [row["prompt"] + row["chosen"] for row in rows] == [
        training_text(TURNS, "Boil it."),
        training_text(TURNS, "Rinse it."),
    ]
    assert rows[0]["prompt"] == "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Rice?\n\nAssistant:"
    assert rows[0]["rejected"] == " No."


def test_rankings_without_a_pair_are_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match="pairs.parquet: no pairs .expected .*rewards differ"):
        write_trl(tmp_path / "pairs.parquet", [Candidates(TURNS, ["a", "b"], [1.0, 1.0], {"id": "p"})], True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("conversational", [True, False])
def test_parquet_comes_back(shared, tmp_path, monkeypatch, conversational):
    """`datasets` reads the columns that TRL wants, and the pairs are those of the ranking."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    pool = read_source(str(shared / "data" / "finegrained_len4"), "train", Mapping())[0][:50]
    path = tmp_path / "out" / "pairs.parquet"
    count = write_trl(path, pool, conversational)
    again, _ = read_source(str(path), "train", Mapping())
    expected = [
        (c.prefix, [c.responses[a], c.responses[b]])
        for c in pool
        for a in range(4)
        for b in range(a + 1, 4)
        if c.rewards[a] > c.rewards[b]
    ]
    assert count == len(expected) > 200
    assert [(c.prefix, c.responses) for c in again] == expected
    assert datasets.Dataset.from_parquet(str(path)).column_names == ["prompt", "chosen", "rejected"]


def test_prompts_for_labelling(tmp_path):
    path = tmp_path / "prompts.jsonl"
    write_prompts(path, POOL)
    assert json.loads(path.read_text()) == {"id": "p", "prompt": MESSAGES}
    [again], _ = read_source(str(path), "train", Mapping())
    assert again.prefix == TURNS and again.meta["id"] == "p"
