"""What orjson reads and writes for us is what json reads and writes, to the type and the last digit."""

import json
import math

import pytest

from data_preprocess.command import InputError
from data_preprocess.files import read_jsonl
from data_preprocess.quick_json import could_differ, object_in, quick_object, quick_strings
from data_preprocess.records import quick_ranking, read_rankings, row_line

NUMBERS = [
    "0", "-0", "-0.0", "1.10", "1.0E+2", "1e16", "1e-7", "123456789012345680.0", "0.1", "5e-324", "1e308", "-1e22",
    "9007199254740993", "9223372036854775807", "-9223372036854775808", "18446744073709551615", "2.5e-5",
    "18446744073709551616", "-9223372036854775809", "123456789012345678901234567890", "1" * 400, "1e19", "9.3e18",
    "NaN", "Infinity", "-Infinity", "1E400", "-1e999", "1e-400", "9007199254740993.0", "2.2250738585072011e-308",
]  # fmt: skip
OBJECTS = [
    *(f'{{"a": {number}}}' for number in NUMBERS),
    *(f'{{"a": [{{"b": [1, {number}]}}]}}' for number in NUMBERS),
    ' \t{"a":1 , "b" :[ ]}\r\n', '{"\\u0061": "\\/\\u00e9\\ud83d\\ude00\\u0000"}', "{}",
    '{"a": "é🙂\u2028\x7f"}', '{"a": ' + "[" * 99 + "]" * 99 + "}", '{"\\"a\\\\": "\\u0022\\\\\\""}',
    '{"a": true, "b": null, "": false}',
]  # fmt: skip
REFUSED = [
    "", " ", "{", '{"a": 1,}', "{'a': 1}", '{"a": 01}', '{"a": .5}', '{"a": 1.}', '{"a": +1}', '{"a": "\t"}',
    '{"a": "\\x"}', '{"a": "\\ud83d"}', '{"a": "\\ude00\\ud83d"}', "1", '"a"', "null", "NaN", '{"a": 1} {}',
    '{"a": 1, "b": 2, "a": 3}', '{"a": {"b" :1, "b":"c"}}', '{"a": ' + "[" * 100 + "]" * 100 + "}",
    '{"a": ' + "[" * 1030 + "]" * 1030 + "}",
    '{"a": 1}\x0c', '{"a": ' + "1" * 5000 + "}", '{"a": nan}', "{1: 2}", '{"a" 1}', '{"a": "}',
]  # fmt: skip


def exactly(value):
    """A text that two values share only if they are alike to the type, the order of keys and the sign of zero."""
    return repr(value)


@pytest.mark.parametrize("text", OBJECTS, ids=lambda text: text[:30])
@pytest.mark.parametrize("quick", [quick_object, quick_ranking])
def test_an_object_is_read_as_json_reads_it_or_left_to_json(text, quick, tmp_path):
    try:
        expected = exactly(json.loads(text))
    except RecursionError:
        expected = None
    found = quick(text.encode())
    assert found is None or exactly(found) == expected
    (tmp_path / "rows.jsonl").write_bytes(text.strip().encode() + b"\n")
    if expected is not None:
        assert [(n, exactly(row)) for n, row in read_jsonl(tmp_path / "rows.jsonl", quick)] == [(1, expected)]


def test_plain_objects_are_not_left_to_json():
    for text in ('{"a": 1.5, "b": ["é", {"c": -7}], "d": 18446744073709551615}', '{"a": [true, null]}'):
        assert quick_object(text.encode()) == json.loads(text)


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:30])
def test_what_json_refuses_is_refused_in_its_words(text, tmp_path):
    with pytest.raises(ValueError) as expected:
        object_in(text.rstrip("\r\n"))
    assert quick_object(text.encode()) is None
    path = tmp_path / "rows.jsonl"
    path.write_bytes(text.encode() + b"\n{}\n")  # a blank line at the end would be no row
    with pytest.raises(InputError) as found:
        list(read_jsonl(path))
    assert str(found.value) == f"{path}:1: {expected.value}"


def test_bytes_that_are_not_utf8_are_left_to_the_decoder():
    for line in (b'{"a": "\xe9"}', b'{"a": "\xed\xa0\xbd"}', b"\xff"):
        assert quick_object(line) is None


def test_numbers_are_looked_at_to_any_depth_that_is_read():
    deep: list = [2.0**64]
    for _ in range(90):
        deep = [deep, {"a": "text"}]

    def differs(*values):
        return could_differ(values, json.dumps(values).encode())

    assert differs(deep) and differs({"a": {"b": -(2.0**63)}}) and differs(math.inf)
    assert not differs(2.0**62, 2**64 - 1, "1e99", None, True, [[]], {}, {'"a': {'b"': '\\"'}})
    for _ in range(5000):
        deep = [deep]
    assert could_differ([deep], b"")


def test_a_key_that_stands_twice_is_told_by_its_quotes():
    twice = line(rest='"meta": {}, "meta": 1')
    for text in ('{"a": 1, "a": 2}', '{"b": {"a": [], "a":"x"}}', '{"a" :1,"\\u0061":1}', twice):
        assert quick_object(text.encode()) is None and quick_ranking(text.encode()) is None


TURNS = '["<|prompter|>Hi", "<|assistant|>"]'


def line(prefix=f"{TURNS}, {TURNS}", suffix='["a", "b"]', rest='"reward": [1, 0.5], "meta": {}'):
    return f'{{"prefix": [{prefix}], "suffix": {suffix}, {rest}}}'


RANKINGS = [
    line(),
    line(prefix=TURNS),  # another number of copies than of responses
    line(prefix=f"{TURNS}, {TURNS}, {TURNS}, {TURNS}"),  # two copies for each
    line(prefix=f'{TURNS}, ["<|prompter|>Ho", "<|assistant|>"]'),
    line(prefix=f"{TURNS},{TURNS}"),
    line(prefix=f" {TURNS},  {TURNS}"),
    line(prefix="1, 2, 1, 2"),
    line(prefix="", suffix="[]"),
    line(prefix="", suffix='["a"]'),
    line(prefix=", "),
    line(prefix="1", suffix='["a"]'),
    line(prefix='[1], "x": [2, [1], "x": [2'),  # a half each, and half of it is no list
    line(prefix='[1]], "prefix": [[2]], "prefix": [[1]], "prefix": [[2]'),
    line(prefix=TURNS, suffix='"a"'),
    line(suffix="null"),
    line(suffix="2"),
    line(suffix='{"a": 1, "b": 2}'),
    line(rest='"prefix": [1], "reward": [], "meta": {}'),
    line(rest='"suffix": ["c", "d"], "reward": [1, 0], "meta": {}'),
    line(rest='"suffix": ["c"], "reward": [1, 0], "meta": {}'),
    line(rest='"reward": [18446744073709551616, 1e16], "meta": {"n": [-99999999999999999999]}'),
    line(rest='"reward": [NaN, 1], "meta": {}'),
    line(rest='"meta": {"a": "\\ud83d\\ude00", "suffix": [1]}, "reward": [1, 1], "sft_index": 1'),
    line(prefix='["<|prompter|>a], \\"suffix\\": [b", "<|assistant|>"]', suffix='["x"]'),
    line(prefix='["a\\u00e9\\/"], ["a\\u00e9\\/"]'),
    line()[:-1],
    line() + "}",
    line(suffix='["a", "b"'),
    line(prefix='["a", ["a"'),
    f'{{"prefix": [{TURNS}]}}',
    f'{{"suffix": ["a"], "prefix": [{TURNS}], "suffix": ["b"]}}',
]


@pytest.mark.parametrize("text", RANKINGS)
def test_a_ranking_is_read_as_json_reads_it(text):
    try:
        expected = exactly(json.loads(text))
    except json.JSONDecodeError:
        expected = None
    found = quick_ranking(text.encode())
    assert found is None or exactly(found) == expected


def test_a_usual_ranking_is_read_with_one_prompt():
    row = quick_ranking(line().encode())
    assert row == json.loads(line()) and row["prefix"][0] is row["prefix"][1]


def test_strings_are_written_as_json_writes_them():
    texts = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    blocks = ["".join(texts[start : start + 4096]) for start in range(0, len(texts), 4096)]
    for sample in (texts[:1000], blocks, [], ["", '"\\', "</s>"]):
        assert quick_strings(sample) == json.dumps(sample, ensure_ascii=False).encode()


ODD = {
    "prefix": [["<|prompter|>H\u00e9 \"q\" \\ \n\t\x00\x1f\x7f\u2028 🙂", "<|assistant|>"]] * 3,
    "suffix": ["a", "\u00a0b", "c\r\n"],
    "reward": [10**30, 1e16, -0.0],
    "meta": {"n": [1e-7, math.inf, math.nan, None, True, 10**25], "é": {"t": "\x01é"}, "": ""},
    "sft_index": 2,
}


@pytest.mark.parametrize("order", [list(ODD), list(reversed(ODD)), ["meta", "prefix", "reward", "suffix"]])
def test_a_row_is_written_as_json_writes_it(order, tmp_path):
    row = {key: ODD[key] for key in order}
    expected = (json.dumps(row, ensure_ascii=False) + "\n").encode()
    assert row_line(row) == expected
    texts = {
        "plain": json.dumps(row, ensure_ascii=False),
        "escaped": json.dumps(row),
        "compact": json.dumps(row, separators=(",", ":")),
        "spread": json.dumps(row).replace(", ", " ,  "),
    }
    for path, text in texts.items():
        (tmp_path / path).write_text(text + "\n", encoding="utf-8")
        assert [row_line(row) for row in read_rankings(tmp_path / path, 3)] == [expected], path


def test_real_rows_come_out_as_json_writes_them(shared):
    for name, lens in (("finegrained_len4", (4,)), ("oasst1_ranked", (2, 3, 4, 5))):
        path = shared / "data" / name / "train.json"
        for text in path.read_text(encoding="utf-8").split("\n")[:-1]:
            expected = json.loads(text)
            found = quick_ranking(text.encode())
            assert exactly(found) == exactly(expected) and len(found["suffix"]) in lens
            assert row_line(found).decode() == json.dumps(expected, ensure_ascii=False) + "\n"
