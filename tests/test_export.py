"""TRL's Parquet: literal rows of both forms, and back again through the reader of any source."""

import copy
import json

import pytest
from chat_templates import TEMPLATES

from data_preprocess.command import InputError
from data_preprocess.dialogue import training_text
from data_preprocess.prepare import main
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.preparing.export import (
    PAIR_FORMS,
    preference_pairs,
    trl_standard,
    usage,
    write_pairs,
    write_prompts,
)
from data_preprocess.preparing.recipes import Mapping
from tests.test_formats import read_source

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
    pool = read_source(str(shared / "data" / "finegrained_len4"), Mapping())[0][:50]
    path = tmp_path / "out" / f"pairs{ending}"
    count = write_pairs(path, pool, PAIR_FORMS["trl"] if conversational else trl_standard)
    again, _ = read_source(str(path), Mapping())
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
    [again], _ = read_source(str(path), Mapping())
    assert again.prefix == TURNS and again.meta["id"] == "p"


SYSTEM = Candidates(TURNS, ["Boil it.", "No."], [1.0, 0.0], {"id": "p", "system": "Be kind."})
SAID = [{"role": "system", "content": "Be kind."}, *MESSAGES]
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("Boil it.", "No."))


@pytest.mark.parametrize(
    "tool, row",
    [
        ("trl", {"prompt": SAID, "chosen": [GOOD], "rejected": [BAD]}),
        ("openrlhf", {"chosen": [*SAID, GOOD], "rejected": [*SAID, BAD]}),
        ("axolotl", {"messages": SAID, "chosen": GOOD, "rejected": BAD}),
        (
            "llamafactory",
            {
                "conversations": [
                    {"from": "human", "value": "Hi"},
                    {"from": "gpt", "value": "Hello."},
                    {"from": "human", "value": "Rice?"},
                ],
                "chosen": {"from": "gpt", "value": "Boil it."},
                "rejected": {"from": "gpt", "value": "No."},
                "system": "Be kind.",
            },
        ),
    ],
)
def test_rows_in_each_tools_documented_form(tmp_path, tool, row):
    for ending in (".jsonl", ".json"):
        path = tmp_path / f"pairs{ending}"
        assert write_pairs(path, [SYSTEM], PAIR_FORMS[tool]) == 1
        text = path.read_text()
        assert (json.loads(text) if ending == ".json" else [json.loads(text)]) == [row]


def test_what_to_tell_each_tool(tmp_path):
    path = tmp_path / "pairs.json"
    assert usage("trl", path) == ""
    entry = json.loads("{" + usage("llamafactory", path).split(": ", maxsplit=2)[2] + "}")
    assert entry["pairs"]["file_name"] == "pairs.json" and entry["pairs"]["ranking"] is True
    assert set(entry["pairs"]["columns"].values()) == {"conversations", "chosen", "rejected", "system"}
    assert "type: chat_template.default" in usage("axolotl", path) and "ds_type: json" in usage("axolotl", path)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["conversational", "standard"])
@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_trl_itself_trains_on_them(tmp_path, tiny_causal_lm_dir, byte_tokenizer, monkeypatch, form, ending):
    """One step of DPO, on a file as the command writes it."""
    trl = pytest.importorskip("trl")
    import datasets
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = tmp_path / f"pairs{ending}"
    write_pairs(path, [SYSTEM, *POOL] * 4, PAIR_FORMS["trl"] if form == "conversational" else trl_standard)
    kind = {".jsonl": "json", ".parquet": "parquet"}[ending]
    rows = datasets.load_dataset(kind, data_files=str(path), split="train")
    tokenizer = copy.deepcopy(byte_tokenizer)
    tokenizer.chat_template = TEMPLATES["smollm2"]
    arguments = trl.DPOConfig(
        output_dir=str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=2, report_to=[], use_cpu=True,
        max_length=256, bf16=False, gradient_checkpointing=False,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(tiny_causal_lm_dir("qwen2"))
    trainer = trl.DPOTrainer(model, args=arguments, train_dataset=rows, processing_class=tokenizer)
    assert trainer.train().global_step == 1


def test_a_system_message_that_is_left_out_is_counted(tmp_path, capsys):
    turns = ["<|prompter|>Hi", "<|assistant|>"]
    row = {"prefix": [turns] * 2, "suffix": ["a", "b"], "reward": [1, 0], "meta": {"system": "Be kind."}}
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps(row) + "\n" + json.dumps({**row, "meta": {}}) + "\n")
    for form, said in (("standard", True), ("conversational", False)):
        main(["--source", str(source), "--export", "trl", "--form", form, "--output", str(output)])
        line = "1 rankings: their system message is left out (--form conversational keeps it)"
        assert (line in capsys.readouterr().out) == said


def test_no_pair_has_a_response_without_text(tmp_path, capsys):
    """Nor one response twice: as in rankings, from which they are dropped."""
    source, output = tmp_path / "in.jsonl", tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": "Name a fruit.", "completions": ["", "A plum.", "Rice.", " \u200b"], "scores": [3, 2, 1, 0]},
        {"prompt": "Name a tree.", "completions": ["An oak.", "An oak. ", "A log."], "scores": [2, 2, 1]},
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(["--source", str(source), "--export", "trl", "--form", "standard", "--output", str(output)])
    pairs = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(pair["chosen"], pair["rejected"]) for pair in pairs] == [(" A plum.", " Rice."), (" An oak.", " A log.")]
    assert "3 responses are left out: without text, or equal to another" in capsys.readouterr().out
