"""prepare.py: hand-made raw pairs end in known rows; the real test files give the published counts."""

import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from data_preprocess.command import InputError
from data_preprocess.prepare import main
from data_preprocess.preparing.raw_hh import SOURCES
from data_preprocess.records import load_records, read_rows
from data_preprocess.split import main as split

REPOSITORY = Path(__file__).resolve().parents[1]
FIXTURE = Path(__file__).parent / "fixtures" / "raw_pairs.jsonl"
NAMES = ("harmless_base", "helpful_base", "helpful_online", "helpful_rejection")


@pytest.fixture
def raw(tmp_path_factory):
    """Raw HH-RLHF in small: four folders, test plain or gzipped, train with prompts of its own."""
    folder = tmp_path_factory.mktemp("raw")
    for index, source in enumerate(SOURCES):
        (folder / source).mkdir()
        if index % 2:
            (folder / source / "test.jsonl.gz").write_bytes(gzip.compress(FIXTURE.read_bytes()))
        else:
            (folder / source / "test.jsonl").write_bytes(FIXTURE.read_bytes())
        text = FIXTURE.read_text().replace("rice", "oats")
        (folder / source / "train.jsonl").write_text(text)
    return folder


def outputs(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_rows_of_the_fixture(tmp_path, raw, capsys):
    main(["--raw", str(raw), "--dev_rows", "5"])
    printed = capsys.readouterr().out
    assert printed.count("3 rows, 1 skipped") == 8
    assert printed.count("  skipped line 4: the two dialogues differ before their last turn") == 8
    assert "leak" not in printed
    for name, source in zip(NAMES, SOURCES, strict=True):
        rows = read_rows(tmp_path / "data" / "hh_test" / f"{name}.json", training=False)
        turns = ["<|prompter|>How do I boil rice?", "<|assistant|>"]
        identity = hashlib.sha256(b"\n\nHuman: How do I boil rice?\n\nAssistant:").hexdigest()[:16]
        assert rows[0] == {
            "prefix": [turns, turns],
            "suffix": ["Rinse it.\n\nThen simmer it.", "No idea."],
            "reward": [1.0, 0.0],
            "meta": {"id": identity, "source": f"{source}/test", "line": 1},
        }
        assert [row["meta"]["line"] for row in rows] == [1, 2, 3]
        assert rows[1]["suffix"] == ["Sure.", ""]


def test_dev_comes_from_train_by_default(tmp_path, raw):
    main(["--raw", str(raw), "--dev_rows", "5"])
    dev = read_rows(tmp_path / "data" / "hh_dev" / "sampled_dev.json", training=False)
    assert len(dev) == 5 and all(row["meta"]["source"].endswith("/train") for row in dev)
    pool = [(f"{source}/train", line) for source in SOURCES for line in (1, 2, 3)]
    random.seed(42)
    assert [(row["meta"]["source"], row["meta"]["line"]) for row in dev] == random.sample(pool, 5)


def test_dev_from_test_says_that_it_leaks(tmp_path, raw, capsys):
    main(["--raw", str(raw), "--dev_rows", "5", "--dev_from", "test", "--max_rows", "1"])
    assert "leak" in capsys.readouterr().out
    dev = load_records(tmp_path / "data" / "hh_dev" / "sampled_dev.json", training=False)
    assert len(dev) == 5 and all(record.meta["source"].endswith("/test") for record in dev)
    for name in NAMES:
        records = load_records(tmp_path / "data" / "hh_test" / f"{name}.json", training=False)
        assert [record.meta["line"] for record in records] == [1]


def test_published_parsing(tmp_path, raw, capsys):
    main(["--raw", str(raw), "--dev_rows", "5", "--published_parsing"])
    assert "different numbers of turns" in capsys.readouterr().out
    rows = read_rows(tmp_path / "data" / "hh_test" / "harmless_base.json", training=False)
    assert [row["suffix"] for row in rows] == [["Rinse it.", "No idea."], ["Sure.", ""], ["Yes.\nGo to bed.", "No."]]


@pytest.mark.parametrize(("most", "kept"), [(12, [1, 2, 3]), (11, [1, 3]), (7, [1, 3]), (6, [3]), (5, [3])])
def test_rows_with_a_long_prompt_are_dropped_from_every_file(tmp_path, raw, capsys, most, kept):
    """The fixture's prompts have 7, 12 and 5 words with their role tags, their responses fewer."""
    main(["--raw", str(raw), "--dev_rows", "2", "--max_words", str(most)])
    for name in NAMES:
        rows = read_rows(tmp_path / "data" / "hh_test" / f"{name}.json", training=False)
        assert [row["meta"]["line"] for row in rows] == kept
    for name in ("hh_dev/sampled_dev.json", "original/hh_train_len2/train.json"):
        rows = read_rows(tmp_path / "data" / name, training=False)
        assert {row["meta"]["line"] for row in rows} <= set(kept)
    dropped = f"helpful-online/train.jsonl: {3 - len(kept)} of 3 rows dropped: a text of more than {most} words"
    assert dropped in capsys.readouterr().out and dropped in (tmp_path / "data" / "README.md").read_text()


def test_rows_with_a_long_response_are_dropped(tmp_path, capsys):
    source = tmp_path / "rankings.jsonl"
    responses = [["Two words.", "One."], ["Here are just five words.", "One."], ["One.", "Here are six of them all."]]
    rows = [{"prompt": f"Question {i}?", "responses": texts, "scores": [2, 1]} for i, texts in enumerate(responses)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["--source", str(source), "--dev_rows", "0", "--max_words"]
    main([*arguments, "5"])
    train = read_rows(tmp_path / "data" / "original" / "hh_train_len2" / "train.json", training=True)
    assert [row["suffix"] for row in train] == responses[:2]
    assert f"{source}: 1 of 3 rows dropped: a text of more than 5 words" in capsys.readouterr().out
    with pytest.raises(InputError, match=f"^--max_words 3: all 3 rows of {source} have a longer text"):
        main([*arguments, "3"])  # the prompt and its two role tags are four words


def break_json(folder):
    with open(folder / "helpful-online" / "test.jsonl", "a") as file:
        file.write('{"chosen": \n')


def break_field(folder):
    (folder / "helpful-online" / "test.jsonl").write_text('{"chosen": "a", "rejected": 3}\n')


def cut_gzip(folder):
    path = folder / "helpful-base" / "test.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-20])


def drop_train(folder):
    (folder / "helpful-base" / "train.jsonl").unlink()


def drop_test(folder):
    (folder / "helpful-base" / "test.jsonl.gz").unlink()


NO_PROMPT = {"chosen": "\n\nHuman:  \n\nAssistant: a", "rejected": "\n\nHuman:  \n\nAssistant: b"}


def empty_test(folder):
    (folder / "helpful-base" / "test.jsonl.gz").write_bytes(gzip.compress(b""))


def empty_train(folder):
    (folder / "harmless-base" / "train.jsonl").write_text("")


def empty_prompts(folder):
    (folder / "harmless-base" / "train.jsonl").write_text(json.dumps(NO_PROMPT) + "\n")


@pytest.mark.parametrize(
    "damage, message",
    [
        (empty_test, "helpful-base/test.jsonl.gz: no rows .expected chosen and rejected"),
        (empty_train, "harmless-base/train.jsonl: no rows"),
        (empty_prompts, "harmless-base/train.jsonl: no pairs, all 1 lines are skipped"),
        (break_json, "helpful-online/test.jsonl:5: not valid JSON"),
        (break_field, "helpful-online/test.jsonl:1: rejected is not a text"),
        (cut_gzip, r"helpful-base/test.jsonl.gz:\d: damaged or truncated gzip"),
        (drop_train, "helpful-base: no train.jsonl or train.jsonl.gz .*--dev_from test"),
        (drop_test, "helpful-base: no test.jsonl or test.jsonl.gz"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(tmp_path, raw, damage, message):
    damage(raw)
    with pytest.raises(InputError, match=message):
        main(["--raw", str(raw), "--dev_rows", "5"])
    assert outputs(tmp_path) == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--dev_rows", "13"], "--dev_rows: 13 rows requested, only 12 available"),
        (["--max_rows", "0"], "--max_rows 0"),
        (["--max_words", "0"], "--max_words 0"),
        (["--max_words", "4"], "--max_words 4: all 3 rows of .*harmless-base/test.jsonl have a longer text"),
        (["--dev_rows", "0"], "--dev_rows 0"),
        (["--ranking_len", "1"], "--ranking_len 1: .*at least 2"),
        (["--ranking_len", "3"], "--ranking_len: 3 .*at most 2"),
        (["--source", "x"], "--raw or --source: give one"),
        (["--join", "x"], "--join applies to --source"),
        (["--export", "trl"], "--export applies to --source"),
    ],
)
def test_impossible_counts_are_refused(tmp_path, raw, arguments, message):
    with pytest.raises(InputError, match=message):
        main(["--raw", str(raw), *arguments])
    assert outputs(tmp_path) == []


@pytest.mark.parametrize("flags", [[], ["--published_parsing"]])
def test_real_test_files(tmp_path, shared, flags):
    main(["--raw", str(shared / "data" / "hh_rlhf"), "--dev_from", "test", *flags])
    counts = [len(load_records(tmp_path / "data" / "hh_test" / f"{name}.json", training=False)) for name in NAMES]
    assert counts == [2312, 2354, 1135, 2749]
    assert len(load_records(tmp_path / "data" / "hh_dev" / "sampled_dev.json", training=False)) == 280


def test_the_command_from_its_own_folder(tmp_path, raw):
    command = [sys.executable, "prepare.py", "--raw", str(raw), "--dev_rows", "2"]
    environment = {**os.environ, "STUDY_ROOT": str(tmp_path)}
    subprocess.run(command, cwd=REPOSITORY / "data_preprocess", env=environment, check=True)
    assert outputs(tmp_path) == [
        "data/README.md",
        "data/hh_dev/sampled_dev.json",
        *(f"data/hh_test/{name}.json" for name in NAMES),
        "data/original/hh_train_len2/train.json",
    ]
    drop_train(raw)
    failed = subprocess.run(
        command, cwd=REPOSITORY / "data_preprocess", env=environment, capture_output=True, text=True
    )
    assert failed.returncode == 2 and failed.stderr.startswith("error: ") and failed.stderr.count("\n") == 1
    assert json.loads(FIXTURE.read_text().split("\n")[0])["chosen"].startswith("\n\nHuman:")


def test_a_prompt_without_text_is_skipped_by_its_line(tmp_path, raw, capsys):
    with open(raw / "helpful-online" / "train.jsonl", "a") as file:
        file.write(json.dumps(NO_PROMPT) + "\n")
    main(["--raw", str(raw), "--dev_rows", "5"])
    printed = capsys.readouterr().out
    assert "helpful-online/train.jsonl: 3 rows, 2 skipped" in printed
    assert "skipped line 5: its prompt has no text" in printed


def source_of(tmp_path, count, text="What of {}?"):
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": text.format(i), "chosen": "a", "rejected": "b"} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_where_no_training_prompt_is_left_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match="no training prompts left: 3 prompts of "):
        main(["--source", str(source_of(tmp_path, 3)), "--dev_rows", "3"])
    assert outputs(tmp_path) == ["pairs.jsonl"]


def test_what_is_read_is_not_overwritten(tmp_path):
    """Preparing a file in its own place would take dev rows out of it again and again."""
    main(["--source", str(source_of(tmp_path, 20))])
    train = tmp_path / "data" / "original" / "hh_train_len2"
    before = (train / "train.json").read_bytes()
    for source in (train, train / "train.json"):
        with pytest.raises(InputError, match="hh_train_len2/train.json: is read as --source"):
            main(["--source", str(source)])
    with pytest.raises(InputError, match="train.json: is read as --source"):
        main(["--source", str(train), "--export", "prompts", "--output", str(train / "train.json")])
    assert (train / "train.json").read_bytes() == before


def test_an_array_is_named_by_elements_and_kept_by_number(tmp_path):
    path = tmp_path / "pairs.json"
    rows = [{"prompt": f"What of {i}?", "chosen": "a", "rejected": "b"} for i in range(3)]
    path.write_text(json.dumps(rows))
    main(["--source", str(path), "--dev_rows", "0"])
    records = load_records(tmp_path / "data" / "original" / "hh_train_len2")
    assert [record.meta["line"] for record in records] == [1, 2, 3]
    path.write_text(json.dumps([*rows, {"prompt": "x", "chosen": 1, "rejected": "b"}]))
    with pytest.raises(InputError, match="pairs.json:element 4: chosen is 1"):
        main(["--source", str(path), "--dev_rows", "0"])


def test_the_card_says_what_is_left_out_and_how_words_are_counted(tmp_path):
    path = tmp_path / "pairs.jsonl"
    row = {"instruction": "Go", "input": "on", "system": "Be kind.", "topic": "t", "chosen": "a", "rejected": "b"}
    path.write_text(json.dumps(row) + "\n")
    main(["--source", str(path), "--dev_rows", "0"])
    card = (tmp_path / "data" / "README.md").read_text()
    assert "- 1 rows: a system message is left out of the prompt" in card
    assert "- fields with text that are not read: topic (1 rows)" in card
    assert "by characters where a script has no blanks" in card
    [record] = load_records(tmp_path / "data" / "original" / "hh_train_len2")
    assert record.prefix[0] == "<|prompter|>Go\n\non" and record.meta["system"] == "Be kind."


def test_labelled_answers_become_rankings(tmp_path, capsys):
    """Prompts go out with their ids, answers and votes come back, the data card says what was joined."""
    prompts, sent = tmp_path / "prompts.jsonl", tmp_path / "to_label.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"What of {i}?"}) + "\n" for i in range(4)))
    main(["--source", str(prompts), "--export", "prompts", "--output", str(sent)])
    ids = [json.loads(line)["id"] for line in sent.read_text().splitlines()]
    answers, votes = tmp_path / "answers.csv", tmp_path / "votes.jsonl"
    answers.write_text("id,answer,response\n" + "".join(f"{i},{a},{a} to {i}\n" for i in ids[:3] for a in "xy"))
    votes.write_text("".join(json.dumps({"id": i, "a": "x", "b": "y", "vote": "b"}) + "\n" for i in ids[:2]))
    main(["--source", str(sent), "--join", str(answers), str(votes), "--dev_rows", "0"])
    printed = capsys.readouterr().out
    assert f"missing: prompts without an answer: 1 ({ids[3]})" in printed
    assert f"missing: prompts without a judgement: 1 ({ids[2]})" in printed
    records = load_records(tmp_path / "data" / "original" / "hh_train_len2")
    assert [(r.meta["id"], r.suffix, r.reward) for r in records] == [
        (i, [f"y to {i}", f"x to {i}"], [1.0, -1.0]) for i in ids[:2]
    ]
    assert "2 prompts have judged answers" in (tmp_path / "data" / "README.md").read_text()


@pytest.mark.parametrize("name, ranking_len, rows", [("finegrained_len4", 4, 500), ("oasst1_ranked", 3, 281)])
def test_human_ranked_sets(tmp_path, shared, name, ranking_len, rows):
    """281: the rankings of oasst1_ranked with 3 or more responses; of 4 or 5, three are drawn."""
    main(["--source", str(shared / "data" / name), "--dev_rows", "0"])
    records = load_records(tmp_path / "data" / "original" / f"hh_train_len{ranking_len}")
    given = load_records(shared / "data" / name)
    by_prompt = {json.dumps(record.prefix): dict(zip(record.suffix, record.reward, strict=True)) for record in given}
    assert abs(len(records) - rows) <= 1 and {len(record.suffix) for record in records} == {ranking_len}
    for record in records:
        rewards = by_prompt[json.dumps(record.prefix)]
        assert record.reward == [rewards[text] for text in record.suffix]


def test_a_tenth_of_another_source_is_dev(tmp_path, shared):
    main(["--source", str(shared / "data" / "finegrained_len4")])
    dev = read_rows(tmp_path / "data" / "hh_dev" / "sampled_dev.json", training=False)
    train = read_rows(tmp_path / "data" / "original" / "hh_train_len4")
    lines = [[row["meta"]["line"] for row in rows] for rows in (train, dev)]
    assert [len(rows) for rows in lines] == [450, 50] and sorted(lines[0] + lines[1]) == list(range(1, 501))


def test_a_pair_without_rewards_is_named(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"prompt": "Hi", "completions": ["a", "b"]}) + "\n")
    with pytest.raises(InputError, match="data.jsonl:1: responses without rewards .*--rewards_from"):
        main(["--source", str(path), "--dev_rows", "0"])
    assert outputs(tmp_path) == ["data.jsonl"]


def test_test_prompts_can_be_held_out_of_any_source(tmp_path, capsys):
    """Disjoint, reproducible when run again, best response first, and checked like every test file."""
    source = tmp_path / "rankings.jsonl"
    rows = [{"prompt": f"Question {i} about topic {7 * i}?", "responses": ["bad", f"good {i}"], "rewards": [0.0, 1.0]}
            for i in range(30)]  # fmt: skip
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    flags = ["--source", str(source), "--dev_rows", "4", "--test_rows", "6", "--rewards_from", "rewards"]
    main(flags)
    read = {name: (tmp_path / "data" / name).read_bytes() for name in ("hh_test/test.json", "hh_dev/sampled_dev.json")}
    test = read_rows(tmp_path / "data" / "hh_test" / "test.json", training=False)
    train = read_rows(tmp_path / "data" / "original" / "hh_train_len2" / "train.json")
    dev = read_rows(tmp_path / "data" / "hh_dev" / "sampled_dev.json", training=False)
    prompts = [{json.dumps(row["prefix"][0]) for row in its} for its in (test, dev, train)]
    assert list(map(len, prompts)) == [6, 4, 20] and len(set.union(*prompts)) == 30
    assert all(row["suffix"][0].startswith("good") and row["reward"] == [1.0, 0.0] for row in test)
    capsys.readouterr()
    main(flags)
    assert read == {name: (tmp_path / "data" / name).read_bytes() for name in read}
    assert "0 of 24 train and dev prompts are near a test prompt" in capsys.readouterr().out
    with pytest.raises(InputError, match="--test_rows: 26 rows and 4 dev rows of 30 prompts"):
        main([*flags[:5], "26", *flags[6:]])


def test_what_was_ranked_is_ranked_again_by_another_number(tmp_path, monkeypatch):
    """prepare.py sorts responses, and split.py drops some: numbers in meta stay those of their responses."""
    numbers = {"quality": [0.2, 0.7, 0.1], "by": {"safety": [3, 1, 2]}}
    row = {"prefix": [["<|prompter|>Name a fruit.", "<|assistant|>"]] * 3, "suffix": ["0.2", "0.7", "0.1"],
           "reward": [0, 0, 0], "meta": numbers}  # fmt: skip
    source, safety = tmp_path / "rows.jsonl", {"0.2": 3, "0.7": 1, "0.1": 2}
    source.write_text(json.dumps(row) + "\n")
    for name, wanted in (("meta.quality", float), ("meta.by.safety", safety.get), ("meta.quality", float)):
        monkeypatch.setenv("STUDY_ROOT", str(tmp_path / name))
        main(["--source", str(source), "--rewards_from", name, "--dev_rows", "0"])
        source = tmp_path / name / "data" / "original" / "hh_train_len3" / "train.json"
        (found,) = load_records(source)
        assert found.suffix == sorted(found.suffix, key=wanted, reverse=True)
        assert found.reward == list(map(wanted, found.suffix))
        assert found.meta["by"]["safety"] == list(map(safety.get, found.suffix))
    split(["--ranking_len", "3"])
    (cut,) = load_records(source.parents[1] / "hh_train_len2" / "train.json")
    assert cut.meta["quality"] == list(map(float, cut.suffix))
