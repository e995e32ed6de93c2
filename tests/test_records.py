"""Every way in which a file of rankings can be wrong is refused with its line, and what is right is read."""

import gzip
import json
import math

import numpy as np
import pytest

from data_preprocess.command import InputError
from data_preprocess.records import Record, load_records, read_rankings, read_rows

TURNS = ["<|prompter|>Hi", "<|assistant|>"]


def good_row(**changes):
    row = {"prefix": [TURNS, TURNS], "suffix": ["Hello.", "Go."], "reward": [1.5, -2], "meta": {"id": 7}}
    return {**row, **changes}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_row_becomes_a_record(tmp_path):
    path = write(tmp_path / "train.json", good_row(), good_row(sft_index=1, reward=[2, 2]))
    expected = Record(TURNS, ["Hello.", "Go."], [1.5, -2.0], {"id": 7}, 0)
    assert load_records(path)[0] == expected
    assert load_records(tmp_path)[1] == Record(TURNS, ["Hello.", "Go."], [2.0, 2.0], {"id": 7}, 1)
    assert read_rows(path) == [good_row(), good_row(sft_index=1, reward=[2, 2])]
    (tmp_path / "train.json.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert load_records(tmp_path / "train.json.gz")[0] == expected


ALWAYS_WRONG = [
    ({"prefix": None}, r"prefix is null \(expected one copy"),
    ({"prefix": [], "suffix": [], "reward": []}, "prefix is an empty list"),
    ({"prefix": ["a", "b"]}, r"prefix\[0\] is a string"),
    ({"prefix": [[], []]}, r"prefix\[0\] is an empty list"),
    ({"prefix": [["Hi", "<|assistant|>"]] * 2}, r"turn 0 of the prefix is 'Hi' \(expected a string that"),
    ({"prefix": [[" <|prompter|>Hi", "<|assistant|>"]] * 2}, "turn 0 of the prefix"),
    ({"prefix": [["<|prompter|>Hi", 3]] * 2}, "turn 1 of the prefix is a number"),
    ({"prefix": [["<|prompter|>Hi"]] * 2}, "the prefix ends in '<|prompter|>Hi'".replace("|", r"\|")),
    ({"prefix": [["<|prompter|>Hi", "<|assistant|> "]] * 2}, "the prefix ends in"),
    ({"prefix": [TURNS, ["<|prompter|>Ho", "<|assistant|>"]]}, r"prefix\[1\] differs from prefix\[0\]"),
    ({"prefix": [TURNS]}, r"lengths differ: prefix 1, suffix 2, reward 2"),
    ({"suffix": ["one"]}, "lengths differ: prefix 2, suffix 1, reward 2"),
    ({"reward": [1.0]}, "lengths differ: prefix 2, suffix 2, reward 1"),
    ({"reward": []}, "lengths differ"),
    ({"suffix": "one"}, "suffix is a string"),
    ({"suffix": ["one", None]}, r"suffix\[1\] is null"),
    ({"reward": {"a": 1}}, "reward is an object"),
    ({"reward": [1.0, "2"]}, r"reward\[1\] is a string"),
    ({"reward": [True, False]}, r"reward\[0\] is a boolean"),
    ({"reward": [1.0, None]}, r"reward\[1\] is null"),
    ({"reward": [math.nan, 1.0]}, r"reward\[0\] is nan \(expected a finite number"),
    ({"reward": [math.inf, 1.0]}, r"reward\[0\] is inf"),
    ({"reward": [1.0, -math.inf]}, r"reward\[1\] is -inf"),
    ({"reward": [10**400, 1.0]}, r"reward\[0\] is .*expected a finite number"),
    ({"prefix": [["<|prompter|> \n", "<|assistant|>"]] * 2}, "a prompt without text"),
    ({"prefix": [["<|assistant|>"]] * 2}, "a prompt without text"),
    ({"meta": None}, "meta is null"),
    ({"meta": []}, "meta is a list"),
    ({"sft_index": 2}, r"sft_index is 2 \(expected 0 to 1"),
    ({"sft_index": -1}, "sft_index is -1"),
    ({"sft_index": True}, "sft_index is True"),
    ({"sft_index": 0.0}, "sft_index is 0.0"),
    ({"sft_index": None}, "sft_index is None"),
    ({"score": 1, "rewards": []}, r"unknown key 'score', 'rewards' \(expected prefix, suffix"),
]
WRONG_IN_TRAINING = [
    ({"reward": [1.0, 1.25]}, r"rewards increase, 1.0 to 1.25 at reward\[1\]"),
    ({"reward": [1e39, 1.0]}, r"reward\[0\] is 1e\+39 \(expected at most 3.403e\+38, of float32"),
    ({"reward": [10**39, 1.0]}, r"reward\[0\] is 1000"),
    ({"reward": [1.0, -3.5e38]}, r"reward\[1\] is -3.5e\+38"),
    ({"reward": [3e38, -3e38]}, r"rewards from 3e\+38 to -3e\+38 \(expected differences of at most 3.403e\+38"),
    ({"suffix": ["Hello.", ""]}, r"suffix\[1\] is empty"),
    ({"suffix": [" \n\t", "Go."]}, r"suffix\[0\] is empty"),
    ({"prefix": [["<|assistant|>Hi", "<|prompter|>"]] * 2}, "the prefix ends in"),
]


@pytest.mark.parametrize("changes, message", ALWAYS_WRONG + WRONG_IN_TRAINING)
def test_a_wrong_row_is_refused_with_its_line(tmp_path, changes, message):
    path = write(tmp_path / "train.json", good_row(), good_row(), good_row(**changes), good_row())
    for read in (load_records, read_rows):
        with pytest.raises(InputError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}:3: ") and "\n" not in str(caught.value)


def test_rewards_of_float32_are_read(tmp_path):
    largest = float(np.finfo(np.float32).max)
    for rewards in ([largest, 0.0], [0.0, -largest], [int(largest), 1]):
        assert load_records(write(tmp_path / "train.json", good_row(reward=rewards)))[0].reward == rewards


@pytest.mark.parametrize("changes, message", ALWAYS_WRONG)
def test_a_wrong_row_is_wrong_in_test_files_too(tmp_path, changes, message):
    path = write(tmp_path / "test.json", good_row(**changes))
    with pytest.raises(ValueError, match=message):
        load_records(path, training=False)


@pytest.mark.parametrize("changes, _", WRONG_IN_TRAINING)
def test_test_files_may_hold_what_training_may_not(tmp_path, changes, _):
    path = write(tmp_path / "test.json", good_row(**changes))
    assert read_rows(path, training=False) == [good_row(**changes)]
    assert len(load_records(path, training=False)) == 1


@pytest.mark.parametrize("key", ["prefix", "suffix", "reward", "meta"])
def test_a_missing_key_is_named(tmp_path, key):
    row = good_row()
    del row[key]
    with pytest.raises(InputError, match=rf"train.json:1: missing {key} \(expected prefix, suffix, reward, meta"):
        load_records(write(tmp_path / "train.json", row))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", r":1: the file is empty"),
        (b"{", r":1: not valid JSON"),
        (b"\xff\n", r":1: not UTF-8"),
        (b"[]\n", r":1: the file is empty"),
        (b"[1]\n", r":element 1: expected a JSON object"),
        (b"\n", r":1: the file is empty"),
        (b"\n{}\n", r":1: blank line"),
    ],
)
def test_files_that_are_no_jsonl_are_refused(tmp_path, content, message):
    (tmp_path / "train.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_records(tmp_path)


def test_an_absent_file_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "absent", tmp_path / "train.json"):
        with pytest.raises(InputError, match="train.json: no such file"):
            load_records(path)


def test_read_rankings_wants_exactly_k_responses(tmp_path):
    three = good_row(prefix=[TURNS] * 3, suffix=["a", "b", "c"], reward=[3, 2, 1])
    path = write(tmp_path / "train.json", good_row(), three)
    with pytest.raises(InputError, match=rf"{path}:2: 3 responses \(expected 2\)"):
        list(read_rankings(path, 2))
    with pytest.raises(InputError, match=rf"{path}:1: 2 responses \(expected 3\)"):
        list(read_rankings(tmp_path, 3))


@pytest.mark.parametrize("name, count, lens", [("finegrained_len4", 500, {4}), ("oasst1_ranked", 418, {2, 3, 4, 5})])
def test_real_rankings_load(shared, name, count, lens):
    records = load_records(shared / "data" / name)
    assert len(records) == count
    assert {len(record.suffix) for record in records} == lens
    first = json.loads((shared / "data" / name / "train.json").read_text().split("\n")[0])
    assert records[0] == Record(first["prefix"][0], first["suffix"], first["reward"], first["meta"], 0)
