"""TRL's Parquet: literal rows of both forms, and back again through the reader of any source."""

import json

import pytest

from data_preprocess.command import InputError
from data_preprocess.dialogue import training_text
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.preparing.export import PAIR_FORMS, preference_pairs, trl_standard, write_pairs, write_prompts
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
    assert [PAIR_FORMS["trl"](*pair) for pair in preference_pairs(POOL)] == [
        {**answer, "chosen": [{"role": "assistant", "content": "Boil it."}]},
        {**answer, "chosen": [{"role": "assistant", "content": "Rinse it."}]},
    ]


def test_standard_rows_join_to_the_text_trained_on():
    rows = [trl_standard(*pair) for pair in preference_pairs(POOL)]
    assert [row["prompt"] + row["chosen"] for row in rows] == [
        training_text(TURNS, "Boil it."),
        training_text(TURNS, "Rinse it."),
    ]
    assert rows[0]["prompt"] == "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Rice?\n\nAssistant:"
    assert rows[0]["rejected"] == " No."


@pytest.mark.parametrize("ending", [".parquet", ".jsonl", ".json"])
def test_rankings_without_a_pair_are_refused_and_nothing_is_written(tmp_path, ending):
    with pytest.raises(InputError, match=f"pairs{ending}: no pairs .expected .*rewards differ"):
        write_pairs(tmp_path / f"pairs{ending}", [Candidates(TURNS, ["a", "b"], [1.0, 1.0], {"id": "p"})], trl_standard)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".parquet", ".jsonl", ".json"])
@pytest.mark.parametrize("conversational", [True, False])
def test_pairs_come_back(shared, tmp_path, monkeypatch, conversational, ending):
    """`datasets` reads the columns that TRL wants, and the pairs are those of the ranking."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    pool = read_source(str(shared / "data" / "finegrained_len4"), "train", Mapping())[0][:50]
    path = tmp_path / "out" / f"pairs{ending}"
    count = write_pairs(path, pool, PAIR_FORMS["trl"] if conversational else trl_standard)
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
    kind = {".parquet": "parquet"}.get(ending, "json")
    loaded = datasets.load_dataset(kind, data_files=str(path), split="train")
    assert set(loaded.column_names) == {"prompt", "chosen", "rejected"} and len(loaded) == count


def test_prompts_for_labelling(tmp_path):
    path = tmp_path / "prompts.jsonl"
    write_prompts(path, POOL)
    assert json.loads(path.read_text()) == {"id": "p", "prompt": MESSAGES}
    [again], _ = read_source(str(path), "train", Mapping())
    assert again.prefix == TURNS and again.meta["id"] == "p"
