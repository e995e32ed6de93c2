"""Every documented format ends as the same prompt and responses; what fits no format is named by line."""

import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from data_preprocess.command import InputError
from data_preprocess.dialogue import parse_prompt, render_prompt
from data_preprocess.prepare import main
from data_preprocess.preparing.raw_hh import SOURCES, read_split
from data_preprocess.preparing.recipes import NONE
from data_preprocess.preparing.row_formats import (
    LeftOut,
    Mapping,
    load_texts,
    lookup,
    open_source,
    read_candidates,
    read_row,
)
from data_preprocess.preparing.votes import BY_SIGN
from data_preprocess.records import load_records

TURNS = ["<|prompter|>Hi", "<|assistant|>Hello.", "<|prompter|>Name a fruit.", "<|assistant|>"]
TEXT = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Name a fruit.\n\nAssistant:"
USER = {"role": "user", "content": "Name a fruit."}
MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}, USER]
SYSTEM = {"role": "system", "content": "Be brief."}
PLUM, RICE = {"role": "assistant", "content": "Plum."}, {"role": "assistant", "content": "Rice."}
BOTH = ["Plum.", "Rice."]
SHARED = [{"from": message["role"], "value": message["content"]} for message in MESSAGES]
PLAIN = Mapping()


def read_source(source, mapping):
    """Rows by their own fields alone, whatever recipe their columns fit."""
    return read_candidates(open_source(source, name=NONE)[1], source, mapping)


def ranking(**meta):
    return {"prefix": [TURNS] * 2, "suffix": BOTH, "reward": [1, 0], "meta": meta}


def read(tmp_path, *rows, mapping=PLAIN):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_source(str(path), mapping)[0]


@pytest.mark.parametrize(
    "row, mapping, rewards",
    [
        ({"prompt": TEXT, "chosen": " Plum.", "rejected": " Rice."}, PLAIN, [1.0, 0.0]),  # TRL, standard
        ({"prompt": MESSAGES, "chosen": [PLUM], "rejected": [RICE]}, PLAIN, [1.0, 0.0]),  # TRL, conversational
        ({"chosen": TEXT + " Plum.", "rejected": TEXT + " Rice."}, PLAIN, [1.0, 0.0]),  # raw HH, implicit prompt
        ({"chosen": [*MESSAGES, PLUM], "rejected": [*MESSAGES, RICE]}, PLAIN, [1.0, 0.0]),  # implicit, messages
        ({"prompt": "Name a fruit.", "chosen": [*MESSAGES, PLUM], "rejected": [*MESSAGES, RICE], "score_chosen": 8,
          "score_rejected": 2.5}, Mapping(rewards=("score_chosen", "score_rejected")), [8.0, 2.5]),
        ({"prompt": MESSAGES, "completions": BOTH, "scores": [3, 1]}, PLAIN, [3.0, 1.0]),
        ({"prompt": MESSAGES, "completions": BOTH, "scores": [1, 2]}, Mapping(ranks=True), [-1.0, -2.0]),
        ({"instruction": TEXT, "completions": [{"response": "Plum.", "overall_score": 8.5},
                                               {"response": "Rice.", "overall_score": 2}]},
         Mapping(rewards=("completions.overall_score",)), [8.5, 2.0]),  # UltraFeedback
        ({"q": {"text": TEXT}, "good": "Plum.", "bad": "Rice.", "s": {"votes": [["a"]]}},
         Mapping(prompt=("q.text",), responses=("good", "bad")), None),
        ({"q": MESSAGES, "replies": BOTH, "votes": [[0, 1], [1, 0], [0, 1, "a"]]},
         Mapping(prompt=("q",), responses=("replies",), rewards=("votes",)), [1.0, -1.0]),
        ({"prefix": [TURNS] * 2, "suffix": BOTH, "reward": [2, 3], "meta": {"quality": [0.1, 0.2]}},
         Mapping(rewards=("meta.quality",)), [0.1, 0.2]),  # the rankings format
        ({"conversations": SHARED, "chosen": {"from": "gpt", "value": "Plum."}, "rejected":
          {"from": "gpt", "value": "Rice."}}, PLAIN, [1.0, 0.0]),  # ShareGPT
        ({"chosen": [*SHARED, {"from": "gpt", "value": "Plum."}], "rejected": [*SHARED, RICE]}, PLAIN, [1.0, 0.0]),
        ({"instruction": "Name a fruit.", "input": "", "history": [["Hi", "Hello."]], "chosen": "Plum.",
          "rejected": "Rice."}, PLAIN, [1.0, 0.0]),  # Alpaca
        ({"prompt": "Name a fruit.", "history": MESSAGES[:2], "completions": BOTH, "scores": ["3", 1]}, PLAIN, [3, 1]),
        ({"messages": MESSAGES, "responses": [[{"type": "text", "text": "Plum."}], "Rice."], "scores": [1, 0]}, PLAIN,
         [1.0, 0.0]),
    ],
)  # fmt: skip
def test_formats(tmp_path, row, mapping, rewards):
    [candidates] = read(tmp_path, row, mapping=mapping)
    assert candidates.prefix == TURNS
    assert [text.strip() for text in candidates.responses] == BOTH
    assert candidates.rewards == rewards
    assert candidates.meta["line"] == 1 and candidates.meta["source"].endswith("data.jsonl")


def test_messages_and_prompts_alone(tmp_path):
    rows = [{"messages": [SYSTEM, *MESSAGES, PLUM]}, {"messages": MESSAGES}, {"prompt": TEXT, "id": 7}]
    spoken, unanswered, prompt = read(tmp_path, *rows)
    assert spoken.prefix == unanswered.prefix == prompt.prefix == TURNS
    assert (spoken.responses, unanswered.responses, prompt.responses) == (["Plum."], [], [])
    assert spoken.meta["system"] == "Be brief." and "system" not in unanswered.meta
    assert len({spoken.meta["id"], unanswered.meta["id"], "7"}) == 3 and prompt.meta["id"] == "7"


def turns_of(tmp_path, row, mapping=PLAIN):
    [candidates] = read(tmp_path, row, mapping=mapping)
    return candidates.prefix


def test_what_alpaca_asks_is_its_instruction_a_blank_line_and_its_input(tmp_path):
    asked = ["<|prompter|>Translate.\n\nplum", "<|assistant|>"]
    row = {"instruction": "Translate.", "input": "plum", "output": "Pflaume"}
    [candidates] = read(tmp_path, row)
    assert candidates.prefix == asked and candidates.responses == ["Pflaume"] and candidates.rewards is None
    assert turns_of(tmp_path, row, Mapping(prompt=("instruction",))) == asked
    assert turns_of(tmp_path, {"q": "Translate.", "w": "plum", "x": None}, Mapping(prompt=("q", "x", "w"))) == asked
    assert turns_of(tmp_path, row, Mapping(ignore=("input",))) == ["<|prompter|>Translate.", "<|assistant|>"]
    history = [["Hi", "Hello."], ["You?", "Fine."]]
    assert turns_of(tmp_path, {**row, "history": history}) == [
        "<|prompter|>Hi", "<|assistant|>Hello.", "<|prompter|>You?", "<|assistant|>Fine.", *asked
    ]  # fmt: skip


def test_what_gets_lost_is_counted(tmp_path):
    path = tmp_path / "data.jsonl"
    rows = [
        {"instruction": "Hi", "system": "Be brief.", "topic": "a", "models": ["m"], "votes": [1], "n": 3, "note": " "},
        {"instruction": "Ho", "system": "", "topic": "b", "prompt_id": "x", "label": {"by": {"name": "z"}}, "": "0"},
        {"prompt": [SYSTEM, {"role": "developer", "content": "In Latin."}, *MESSAGES, PLUM], "response": "Fig."},
        {"prefix": [TURNS] * 2, "suffix": BOTH, "reward": [1, 0], "meta": {}, "sft_index": 1},
        {"prompt": "Hi", "chosen": [*MESSAGES, PLUM], "rejected": [*MESSAGES, RICE], "messages": [*MESSAGES, PLUM]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pool, left_out = read_source(str(path), PLAIN)
    assert left_out == [
        "2 rows: a system message is left out of the prompt, which has no turn for it",
        "1 rows: the reply that ends the prompt's messages is left out",
        "1 rows: sft_index is left out",
        "fields with text that are not read: topic (2 rows), models (1 rows), label (1 rows), '' (1 rows), "
        "messages (1 rows)",
    ]
    assert [one.meta.get("system") for one in pool] == ["Be brief.", None, "Be brief.\n\nIn Latin.", None, None]
    assert read_source(str(path), Mapping(ignore=("topic", "models", "label", "messages", "")))[1] == left_out[:3]


def test_what_stands_beside_the_text_of_messages_and_responses_is_counted(tmp_path):
    path = tmp_path / "data.jsonl"
    thought = {**PLUM, "reasoning_content": "It is ripe.", "tool_calls": [], "audio": None, "weight": 1}
    part = {"type": "text", "text": "Name a fruit.", "citation": {"of": "a book"}, "image_url": None}
    answers = [{"text": text, "model": "m", "by": {"help": "3", "why": "w"}, "note": " "} for text in BOTH]
    rows = [
        {"prompt": [{**USER, "name": "Ann"}], "chosen": [thought], "rejected": [{**RICE, "reasoning_content": None}]},
        {"prompt": [{**USER, "content": [part]}], "completions": answers},
        {"messages": [{"from": "human", "value": "Hi", "role": None, "content": None}, PLUM]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    unread = "fields with text that are not read: "
    assert read_source(str(path), PLAIN)[1] == [
        f"{unread}chosen.reasoning_content (1 rows), prompt.name (1 rows), completions.model (1 rows), "
        "completions.by (1 rows), prompt.citation (1 rows)"
    ]
    ignore = ("prompt.name", "chosen.reasoning_content", "prompt.citation", "completions.by")
    assert read_source(str(path), Mapping(ignore=ignore))[1] == [f"{unread}completions.model (1 rows)"]
    path.write_text(json.dumps({"prompt": "Hi", "completions": answers}) + "\n")
    rated = Mapping(rewards=("completions.by.help",))
    assert read_source(str(path), rated)[1] == [f"{unread}completions.model (1 rows)"]


def test_diversity_reads_the_same_prompts_and_counts_the_same(tmp_path):
    rows = [
        {"instruction": "Translate.", "input": "plum", "system": "Be brief.", "output": "Pflaume"},
        {"question": "Why?", "history": [["Hi", "Hello."]]},
        {"conversations": [SYSTEM, *MESSAGES, PLUM]},
        {"prompt": TEXT + " "},
    ]
    pool = read(tmp_path, *rows)
    left_out = LeftOut()
    texts = [text for text, _ in load_texts(str(tmp_path / "data.jsonl"), None, "train", left_out)]
    assert texts == [render_prompt(one.prefix) for one in pool]
    assert left_out.notes() == ["2 rows: a system message is left out of the prompt, which has no turn for it"]


def test_rewards_that_are_not_given_are_left_out_on_demand(tmp_path):
    values = ["5", None, "N/A", "n/a ", "", math.nan, 2]
    row = {"prompt": "Hi", "completions": [{"text": str(i), "by": {"help": v}} for i, v in enumerate(values)]}
    row["completions"].append({"text": "7", "by": {"help": None}})
    named = r"data.jsonl:1: r: .* \(expected a finite number; --drop_unrated leaves out"
    for value in ("N/A", "", math.nan):
        with pytest.raises(InputError, match=named):
            read(tmp_path, {"prompt": "a", "x": ["b"], "r": [value]}, mapping=Mapping(responses=("x",), rewards=("r",)))
    mapping = Mapping(rewards=("completions.by.help",), drop_unrated=True)
    [candidates] = read(tmp_path, row, mapping=mapping)
    assert candidates.rewards == [5.0, None, None, None, None, None, 2.0, None]
    with pytest.raises(InputError, match=r"'good' \(expected a finite number\)"):
        read(tmp_path, {"prompt": "a", "responses": ["b"], "scores": ["good"]}, mapping=Mapping(drop_unrated=True))


def test_ids(tmp_path):
    row = {"prompt": TEXT, "key": {"k": "a"}, "prompt_id": "p"}
    assert read(tmp_path, row)[0].meta["id"] == "p"
    assert read(tmp_path, row, mapping=Mapping(id="key.k"))[0].meta["id"] == "a"
    assert read(tmp_path, {"prompt": TEXT, "id": 0})[0].meta["id"] == "0"


def test_a_file_that_prepare_has_written_keeps_its_marks(tmp_path):
    meta = {"id": "i", "source": "s", "line": 9, "response_from": ["data", "m"]}
    [again] = read(tmp_path, {"prefix": [TURNS] * 2, "suffix": BOTH, "reward": [2, 1], "meta": meta})
    assert again.origins == ["data", "m"] and again.meta == {"id": "i", "source": "s", "line": 9}


@pytest.mark.parametrize(
    "row, mapping, message",
    [
        ({"words": 1}, PLAIN, "fields are words"),
        ({"prompt": [USER, USER], "chosen": "a", "rejected": "b"}, PLAIN, "two turns of one role in a row"),
        ({"messages": [USER, PLUM, PLUM, USER]}, PLAIN, "two turns of one role in a row"),
        ({"messages": "Hi"}, PLAIN, "messages: 'Hi' .*expected a list of role and content"),
        ({"messages": [{"role": [1], "content": "x"}]}, PLAIN, r"role \[1\]"),
        ({"prefix": [TURNS], "suffix": 3}, PLAIN, "suffix is a number"),
        ({"chosen": [USER, PLUM], "rejected": [MESSAGES[0], PLUM]}, PLAIN, "the same messages but for the last"),
        ({"chosen": "a", "rejected": "b"}, PLAIN, "does not open with a role tag .*expected a prompt field"),
        ({"prompt": "a", "chosen": 3, "rejected": "b"}, PLAIN, "chosen is 3"),
        ({"prompt": "a", "completions": ["b"], "scores": [1, 2]}, PLAIN, "scores: 2 values for 1 responses"),
        ({"prompt": "a", "completions": ["b", None]}, PLAIN, "response 1 is None"),
        ({"completions": ["b"]}, PLAIN, "expected prompt, instruction, question, or --prompt_from"),
        ({"prompt": "a"}, Mapping(responses=("b",)), "no field b"),
        ({"prompt": "a", "r": ["b"]}, Mapping(responses=("r.x",)), "no field r.x"),
        ({"prompt": "a", "r": ["b"], "s": "1"}, Mapping(responses=("r",), rewards=("s", "t")), "no field t"),
        ({"prefix": [TURNS], "suffix": BOTH, "reward": [1, 2], "meta": {}}, PLAIN, "lengths differ"),
        ({"prompt": "a", "completions": ["b"], "scores": [1e39]}, PLAIN, "1e.39 .*at most 3.403e.38, of float32"),
        ({"prompt": "a", "completions": ["b"], "scores": [True]}, PLAIN, "True .expected a finite number"),
        ({"prompt": "a", "completions": [USER]}, PLAIN, "expected a message by the assistant"),
        ({"prompt": " \n"}, PLAIN, "prompt: a prompt without text"),
        ({"chosen": "\n\nHuman: \n\nAssistant: a", "rejected": "\n\nHuman: \n\nAssistant: b"}, PLAIN, "without text"),
        ({"prompt": [USER, {"role": "assistant", "content": ""}, USER]}, PLAIN, "prompt: a message without text"),
        ({"prompt": "a plum, a pear", "input": "plum"}, PLAIN, "input holds text .* lose .*--ignore input"),
        ({"question": "a", "context": {"sentences": ["b"]}}, PLAIN, "context holds text that the prompt would lose"),
        ({"prompt": "a", "instruction": "b"}, PLAIN, "instruction holds text that the prompt would lose"),
        ({"prompt": "a", "history": "b"}, PLAIN, "history holds text that the prompt would lose"),
        ({"prompt": "a", "history": [["b"]]}, PLAIN, r"history is \[\['b'\]\] .expected \[user, assistant\] texts"),
        ({"prompt": "a", "history": [["b", " "]]}, PLAIN, "history: a turn without text"),
        ({"prompt": "a", "history": [USER]}, PLAIN, "two turns of one role in a row"),
        ({"prompt": [1], "id": "x"}, Mapping(prompt=("prompt", "id")), "prompt is .* as one of several fields"),
        ({"prompt": "a", "id": [1]}, PLAIN, r"id is \[1\] .expected a text or a whole number"),
        ({"prompt": "a", "key": None}, Mapping(id="key"), "key is None"),
        (ranking(source=[1]), PLAIN, r"meta.source is \[1\] .expected a text"),
        (ranking(id={"a": 1}), PLAIN, r"meta.id is \{'a': 1\}"),
        (ranking(x=[math.nan]), PLAIN, "meta cannot be written as JSON"),
        (ranking(response_from=["m", ["n"]]), PLAIN, "meta.response_from is .*expected a name for each of the 2"),
        (ranking(response_from=["m"]), PLAIN, "meta.response_from is .*expected a name for each of the 2"),
    ],
)
def test_what_fits_no_format_is_named_by_line(tmp_path, row, mapping, message):
    good = {"prompt": "a", "r": ["x"], "s": 1, "t": 1, "b": "c", "chosen": "y", "rejected": "z", "key": "k", "id": "i"}
    if mapping.responses:
        good["r"] = [{"x": "x"}] if mapping.responses == ("r.x",) else ["x"]
        good["s"], good["t"] = 1, 1
        mapping_for_good = mapping.rewards is None
    else:
        mapping_for_good = True
    rows = [good, row] if mapping_for_good else [row]
    with pytest.raises(InputError, match=rf"data.jsonl:{len(rows)}: .*({message})"):
        read(tmp_path, *rows, mapping=mapping)


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no rows"):
        read(tmp_path)


def test_lookup():
    row = {"a": {"b": [{"c": 1}, {"c": 2}]}}
    assert lookup(row, "a.b.c", "here") == [1, 2]
    with pytest.raises(InputError, match=r"here: no field a.x \(fields are a\)"):
        lookup(row, "a.x", "here")
    assert lookup({"a.x": 3, **row}, "a.x", "here") == 3


def test_a_flattened_column_is_found_by_its_name(tmp_path):
    mapping = Mapping(prompt=("q.text",), responses=("a",), rewards=("s.r",))
    [one] = read(tmp_path, {"q.text": "Hi", "q": {"text": "No"}, "a": ["1", "2"], "s.r": [[1, 0]]}, mapping=mapping)
    assert one.prefix[0] == "<|prompter|>Hi" and one.rewards == [-1.0, 1.0]


def test_oasst_trees(tmp_path):
    def message(identity, parent, role, text, **more):
        return {"message_id": identity, "parent_id": parent, "role": role, "text": text, **more}

    rows = [
        message("p", None, "prompter", "Hi"),
        message("a", "p", "assistant", "Hello.", rank=1),
        message("b", "p", "assistant", "Hey.", rank=0),
        message("c", "p", "assistant", "Gone", rank=2, deleted=True),
        message("q", "a", "prompter", "Name a fruit."),
        message("f", "q", "assistant", "Plum.", rank=0),
        message("g", "q", "assistant", "Rice.", rank=2),
        message("h", "q", "assistant", "Fig.", rank=1),
        message("r", "b", "prompter", "Bye"),
        message("s", "r", "assistant", "Bye.", rank=0),
        message("t", "r", "assistant", "Bye!", rank=None),
    ]
    first, second = read(tmp_path, *rows[::-1])[::-1]
    assert first.prefix == ["<|prompter|>Hi", "<|assistant|>"]
    assert dict(zip(first.responses, first.rewards, strict=True)) == {"Hello.": -1.0, "Hey.": 0.0}
    assert second.prefix == TURNS and second.meta["id"] == "q"
    assert dict(zip(second.responses, second.rewards, strict=True)) == {"Plum.": 0.0, "Fig.": -1.0, "Rice.": -2.0}
    with pytest.raises(InputError, match="data.jsonl:1: parent_id 'p' .*expected the id of a message"):
        read(tmp_path, *rows[1:])
    with pytest.raises(InputError, match="data.jsonl:12: message_id 'c' is that of line 4 "):
        read(tmp_path, *rows, rows[3])
    with pytest.raises(InputError, match="data.jsonl:1: message 'p' is its own ancestor"):
        read(tmp_path, {**rows[0], "parent_id": "a"}, *rows[1:])
    with pytest.raises(InputError, match="data.jsonl:2: parent_id 'z'"):
        read(tmp_path, rows[0], message("y", "z", "prompter", "Hi"), *rows[1:])
    with pytest.raises(InputError, match="data.jsonl:1: no message of the file has two replies with a rank"):
        read(tmp_path, *rows[:2])
    with pytest.raises(InputError, match="data.jsonl:1: a prompt without text"):
        read(tmp_path, {**rows[0], "text": " "}, *rows[1:3])
    for change, expected in (
        ({"role": "system"}, "data.jsonl:2: role 'system'"),
        ({"text": None}, "data.jsonl:2: no message of a tree"),
        ({"message_id": [1]}, "data.jsonl:2: no message of a tree"),
        ({"rank": "x"}, "data.jsonl:2: rank: 'x'"),
        ({"parent_id": "b"}, "data.jsonl:3: two turns of one role in a row"),
    ):
        with pytest.raises(InputError, match=expected):
            read(tmp_path, rows[0], {**rows[1], **change}, rows[2], message("d", "p", "assistant", "Ho.", rank=3),
                 message("e", "b", "assistant", "Ha.", rank=4))  # fmt: skip


def test_a_rendered_prompt_comes_back_as_its_turns(shared):
    """parse_prompt inverts render_prompt on all real prompts, but for white space at the very end."""
    for source in SOURCES:
        for candidates in read_split(str(shared / "data" / "hh_rlhf"), source, "test", False).pairs:
            assert parse_prompt(render_prompt(candidates.prefix)) == candidates.prefix
    assert parse_prompt("Hi") == [] and parse_prompt("\n\nHuman: Hi") == ["<|prompter|>Hi", "<|assistant|>"]


def test_human_ranked_sets_go_through_without_a_model(shared):
    for name, quality in (("oasst1_ranked", "meta.quality"), ("finegrained_len4", "reward")):
        rows = [json.loads(line) for line in open(shared / "data" / name / "train.json", encoding="utf-8")]
        pool, left_out = read_source(str(shared / "data" / name), Mapping(rewards=(quality,)))
        assert left_out == []
        for candidates, row in zip(pool, rows, strict=True):
            expected = row["meta"]["quality"] if "quality" in row["meta"] else row["reward"]
            assert candidates.rewards == expected and candidates.responses == row["suffix"]


def documented_examples():
    """(rows, flags) of every example in data_preprocess/README.md."""
    text = (Path(__file__).resolve().parents[1] / "data_preprocess" / "README.md").read_text(encoding="utf-8")
    pair = re.compile(r"^```json\n((?:\{.*\n)+)```\n```sh\npython prepare.py (.*)\n```$", re.MULTILINE)
    for block, flags in pair.findall(text):
        rows = block.strip().splitlines()
        yield pytest.param(rows, flags.split(), id=rows[0][:30])


@pytest.mark.parametrize("rows, flags", documented_examples())
def test_documented_examples(tmp_path, rows, flags):
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    main([str(path) if flag == "FILE" else flag for flag in flags] + ["--dev_rows", "0"])
    [train] = (tmp_path / "data" / "original").glob("*/train.json")
    [record] = load_records(train)
    # Alpaca's instruction and input have a blank line between them.
    assert [" ".join(turn.split()) for turn in record.prefix] == ["<|prompter|>Name a fruit.", "<|assistant|>"]
    assert record.suffix[0] == "A plum." and record.reward[0] > record.reward[1]


@pytest.mark.parametrize("text", ["[" * 100_000, r'["\ud800"]', '[{"a": 1, "a": 2}]', "[x]"])
def test_a_text_that_opens_like_a_list_is_a_text(tmp_path, text):
    """Only messages written as JSON are read as such in any cell of a CSV file."""
    path = tmp_path / "data.csv"
    path.write_text(f'prompt,chosen,rejected\n"{text.replace(chr(34), chr(34) * 2)}",a,b\n')
    [one] = read_source(str(path), PLAIN)[0]
    assert one.prefix == [f"<|prompter|>{text}", "<|assistant|>"]


def test_numbers_that_json_lacks_are_no_columns(tmp_path):
    """1e999 is infinity to Python, and Argilla, Label Studio and our own reader refuse a file with Infinity."""
    row = {"prompt": "Hi", "low": -math.inf, "high": math.inf, "none": math.nan, "level": 2.5, "long": 10**400}
    [one] = read(tmp_path, row, mapping=Mapping(keep=True))
    assert one.columns() == {"level": 2.5, "long": 10**400}


def test_all_formats_are_documented():
    assert len(list(documented_examples())) == 12


def test_rows_of_any_values_are_read_or_refused():
    """20,000 rows of random fields and values: only InputError, never another exception."""
    rng = random.Random(0)
    values = [None, True, 3, float("nan"), 10**400, "", "Hi", TEXT, "<|prompter|>x", [], {}, [[]], [{}], ["a", "b"]]
    values += [TURNS, [TURNS, TURNS], MESSAGES, [SYSTEM], [PLUM], [*MESSAGES, PLUM], [1, 2]]
    values += [[{"role": [1], "content": "x"}], [[0, 1]], [[1, 0, "tie"]], [None, 1], {"a": 1}]
    values += [[{"response": "x"}, {"response": 3}]]
    names = "prompt chosen rejected messages completions scores prefix suffix reward meta id instruction".split()
    paths = [*names, "meta.a", "completions.response"]

    def some(share):
        return tuple(rng.sample(paths, rng.randrange(1, 3))) if rng.random() < share else None

    read_rows = 0
    for _ in range(20_000):
        row = {name: rng.choice(values) for name in rng.sample(names, rng.randrange(1, 7))}
        ignore = ("prompt", "instruction") if rng.random() < 0.5 else ()
        mapping = Mapping(some(0.2), some(0.2), some(0.2), rng.random() < 0.5, None, ignore, rng.random() < 0.5)
        if rng.random() < 0.1:
            winner = rng.choice(["scores", "id", "meta.a"])
            mapping = replace(
                mapping, rewards=None, winner=winner, winner_values=rng.choice([None, BY_SIGN, ("a", "Hi")])
            )
        try:
            candidates = read_row(row, "file:1", "file", mapping, LeftOut())
        except InputError as error:
            assert str(error).startswith("file:1: ") and "\n" not in str(error)
            continue
        read_rows += 1
        assert candidates.rewards is None or len(candidates.rewards) == len(candidates.responses)
        assert all(isinstance(text, str) for text in candidates.prefix + candidates.responses)
    assert read_rows > 500
