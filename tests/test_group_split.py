"""--train_from test: parts without a common first human turn or near-duplicate, exact sizes, and what is refused."""

import json
import re
from itertools import combinations

import pytest

from data_preprocess.command import InputError
from data_preprocess.prepare import main
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.preparing.group_split import PartSizes, first_human_turn, split_by_first_turn
from data_preprocess.preparing.near_duplicates import shingles
from data_preprocess.preparing.raw_hh import SOURCES
from data_preprocess.records import load_records, read_rows

FILES = ("a", "b")
TOPICS = ("rain", "bread", "wolves", "chess", "glass", "moss", "steel", "tides", "yeast", "comets")


def row(file, line, *turns):
    tags = ("<|prompter|>", "<|assistant|>")
    prefix = [tags[i % 2] + turn for i, turn in enumerate(turns)]
    return Candidates([*prefix, tags[len(turns) % 2]], ["yes", "no"], [1.0, 0.0], {"source": file, "line": line})


def release():
    """40 rows: 30 alone with their first turn, 4 twins and 6 of three dialogues that begin with "Hello"."""
    alone = [f"Tell me why {topic} number {i} is so old" for i in range(3) for topic in TOPICS]
    rows = [row("ab"[i % 2], i, text) for i, text in enumerate(alone)]
    twins = [f"{text}, please and thanks!" for text in alone[:2]]
    rows += [row("b", 30 + i, twins[i % 2], "What?", f"the {topic}") for i, topic in enumerate(TOPICS[:4])]
    hello = ("Hello", " hello ", "HELLO", "Hi\nyou", "hi  you", "hi you")
    rows += [row("a", 34 + i, text, "Yes?", f"I like {TOPICS[i]} more than fish") for i, text in enumerate(hello)]
    return {file: [one for one in rows if one.meta["source"] == file] for file in FILES}


def all_parts(splits, tests):
    return {**{f"test {file}": rows for file, rows in tests.items()}, "dev": splits.dev, **splits.reward,
            "train": splits.train}  # fmt: skip


SIZES = PartSizes(3, 5, (6, 4))


@pytest.mark.parametrize("seed", range(8))
def test_parts_share_no_first_turn_and_no_near_duplicate(seed):
    """Against a comparison of all pairs of rows."""
    parts = all_parts(*split_by_first_turn(release(), SIZES, seed))
    counts = {name: len(rows) for name, rows in parts.items()}
    assert {name: counts[name] for name in ("test a", "test b", "dev", "heldout", "train_1", "train_2")} == {
        "test a": 3, "test b": 3, "dev": 5, "heldout": 2, "train_1": 6, "train_2": 4}  # fmt: skip
    assert counts["train"] > 0
    parts = {"test": parts.pop("test a") + parts.pop("test b"), **parts}
    for one, other in combinations(parts.values(), 2):
        for first in one:
            for second in other:
                turns = [rows.prefix[0].removeprefix("<|prompter|>").lower().split() for rows in (first, second)]
                assert turns[0] != turns[1]
                left, right = shingles(first.prefix), shingles(second.prefix)
                assert len(left & right) / len(left | right) < 0.8
    lines = [one.meta["line"] for rows in parts.values() for one in rows]
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize("seed", range(4))
def test_every_row_is_in_a_part_or_counted(seed):
    splits, tests = split_by_first_turn(release(), SIZES, seed)
    parts = all_parts(splits, tests)
    total, *notes = splits.notes
    assert total == "40 rows with 34 different first human turns, split by these"
    noted = [[int(word) for word in re.findall(r"(?<!_)\b\d+", note)] for note in notes]  # kept, near, beyond
    in_test = len(parts.pop("test a") + parts.pop("test b"))
    assert [kept for kept, *_ in noted] == [in_test, *map(len, parts.values())]
    assert sum(map(sum, noted)) == 40


def test_the_draw_depends_on_the_seed_only_and_not_on_later_parts():
    first, second = (all_parts(*split_by_first_turn(release(), SIZES, 42)) for _ in range(2))
    assert first == second
    assert all_parts(*split_by_first_turn(release(), SIZES, 43))["dev"] != first["dev"]
    without = all_parts(*split_by_first_turn(release(), PartSizes(3, 5), 42))
    assert all(without[name] == first[name] for name in ("test a", "test b", "dev"))
    assert len(without["train"]) > len(first["train"]) and "heldout" not in without


def test_a_near_duplicate_of_a_test_prompt_is_dropped_and_counted():
    long = "Please explain to me in some detail how an old clock on a tower is wound and set every week of the year"
    twin = row("a", 9, long.replace("the year", "a year"))
    files = {"a": [row("a", 1, long), twin], "b": [row("b", i, f"{topic} again") for i, topic in enumerate(TOPICS)]}
    seen = set()
    for seed in range(20):
        splits, tests = split_by_first_turn(files, PartSizes(1, 3), seed)
        assert all(one.meta["source"] == "b" for one in splits.train + splits.dev)
        assert sum("dropped: 1 near-duplicates" in note for note in splits.notes) == 1, splits.notes
        seen |= {one.meta["line"] for one in tests["a"]}
    assert seen == {1, 9}


def test_dev_is_not_drawn_first_from_files_that_were_full():
    """File a fills its test rows long before b does; its other rows must not come first in dev."""
    files = {"a": [row("a", i, f"{i} apples are many") for i in range(400)],
             "b": [row("b", i, f"{i} boats are few") for i in range(400)]}  # fmt: skip
    files["b"] = files["b"][:200]
    splits, _ = split_by_first_turn(files, PartSizes(60, 90), 42)
    from_b = sum(one.meta["source"] == "b" for one in splits.dev)
    assert 12 <= from_b <= 40  # 140 of 480 rows: 26 expected, standard deviation 4


def test_the_first_human_turn_is_not_the_assistants():
    prefix = ["<|assistant|>Welcome", "<|prompter|>Hi  There", "<|assistant|>"]
    assert first_human_turn(Candidates(prefix, [], None)) == "hi there"


@pytest.fixture
def raw(tmp_path_factory):
    """Raw HH-RLHF in small: test files of 10 pairs each, the last with an empty response, and no train files."""
    folder = tmp_path_factory.mktemp("raw")
    for number, source in enumerate(SOURCES):
        (folder / source).mkdir()
        with open(folder / source / "test.jsonl", "w", encoding="utf-8") as file:
            for i, topic in enumerate(TOPICS):
                prompt = f"\n\nHuman: {topic}, question {number} of many?\n\nAssistant:"
                worse = " Worse." if i < 9 else ""
                file.write(json.dumps({"chosen": f"{prompt} Good {i}.", "rejected": prompt + worse}) + "\n")
    return folder


FLAGS = ["--train_from", "test", "--max_rows", "2", "--dev_rows", "3"]


def test_the_command_writes_every_part(tmp_path, raw, capsys):
    main(["--raw", str(raw), *FLAGS, "--reward_rows", "5", "5"])
    data = tmp_path / "data"
    files = {path.relative_to(data).as_posix(): read_rows(path, training=False) for path in data.rglob("*.json")}
    tests = {f"hh_test/{name}.json" for name in SOURCES.values()}
    rewards = {f"reward/{name}.json" for name in ("heldout", "train_1", "train_2")}
    train = "original/hh_train_len2/train.json"
    assert files.keys() == {"hh_dev/sampled_dev.json", train} | tests | rewards
    assert {len(files[name]) for name in tests} == {2} and len(files["hh_dev/sampled_dev.json"]) == 3
    turns = [rows["prefix"][0][0] for part in files.values() for rows in part]
    assert len(set(turns)) == len(turns)
    printed, card = capsys.readouterr().out, (data / "README.md").read_text(encoding="utf-8")
    assert "dev rows from the test split" in card and "--reward_rows 5 5" in card
    for name in (*rewards, train):
        assert all(list(record.reward) == [1.0, 0.0] for record in load_records(data / name))
    # The pairs with an empty response are no rankings: they are test or dev rows, or dropped and counted.
    empty = sum("" in row["suffix"] for rows in files.values() for row in rows)
    noted = re.findall(r"(\d+) (?:of \d+ training prompts|pairs) dropped: fewer than 2 distinct", printed)
    assert empty + sum(map(int, noted)) == 4 and len(turns) + sum(map(int, noted)) == 40


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--train_from", "test"], "--train_from test needs --max_rows"),
        ([*FLAGS, "--dev_from", "test"], "--dev_from and --train_from test: give one"),
        (["--reward_rows", "3"], "--reward_rows needs --train_from test"),
        ([*FLAGS, "--dev_rows", "50"], "--dev_rows: 50 rows requested for dev, only 32 available"),
        ([*FLAGS, "--reward_rows", "20", "20"], "--reward_rows: 20 rows requested for train_2, only 1 available"),
        ([*FLAGS, "--reward_rows", "0"], "--reward_rows 0"),
        (["--train_from", "test", "--max_rows", "9", "--dev_rows", "4"], "no training prompts left"),
    ],
)
def test_what_is_refused(tmp_path, raw, flags, message):
    with pytest.raises(InputError, match=message):
        main(["--raw", str(raw), *flags])
    assert not (tmp_path / "data").exists()


def test_another_source_has_no_releases(tmp_path):
    with pytest.raises(InputError, match="--train_from test applies to --raw"):
        main(["--source", str(tmp_path), "--train_from", "test"])
    with pytest.raises(InputError, match="train.jsonl.*or --train_from test"):
        (tmp_path / "harmless-base").mkdir()
        for source in SOURCES:
            (tmp_path / source).mkdir(exist_ok=True)
            (tmp_path / source / "test.jsonl").write_text(json.dumps({
                "chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}))  # fmt: skip
        main(["--raw", str(tmp_path)])


def test_the_real_release(tmp_path, shared):
    """By exact text; the rows of one first turn are told from the release's by a count here."""
    main(["--raw", str(shared / "data" / "hh_rlhf"), "--train_from", "test", "--max_rows", "20", "--dev_rows", "30",
          "--reward_rows", "100", "100"])  # fmt: skip
    parts: dict[str, set[str]] = {}
    counts: dict[str, int] = {}
    for path in (tmp_path / "data").rglob("*.json"):
        name = path.parent.name if path.parent.name == "hh_test" else path.stem
        rows = read_rows(path, training=False)
        counts[name] = counts.get(name, 0) + len(rows)
        parts.setdefault(name, set()).update(" ".join(row["prefix"][0][0].lower().split()) for row in rows)
    assert counts["hh_test"] == 80 and counts["sampled_dev"] == 30 and 95 <= counts["train_2"] <= 100
    assert counts["heldout"] <= 40 and counts["train"] > 8000
    for one, other in combinations(parts.values(), 2):
        assert not one & other
