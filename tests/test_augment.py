"""augment.py on tiny models: what is written, recomputed by hand, through a kill, and bad input in one line."""

import json
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from data_preprocess.command import InputError
from data_preprocess.dialogue import render_prompt
from data_preprocess.hub import load_tokenizer
from data_preprocess.records import load_records, read_rows
from data_preprocess.subsets import AUGMENTATIONS, Subset, subset_named
from labelling.augment import main

REPOSITORY = Path(__file__).resolve().parents[1]
THINGS = "amber resin whales taps washers plums rice bread clocks kites drums stoves quilts boats lamps".split()


def prompt(text):
    return ["<|prompter|>" + text, "<|assistant|>"]


def ranking(text, ranking_len=2):
    rewards = [float(-rank) for rank in range(ranking_len)]
    return {"prefix": [prompt(text)] * ranking_len, "suffix": list("abcd")[:ranking_len], "reward": rewards, "meta": {}}


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


POOL = [f"Where do {a} and {b} come from, {c}?" for a, b, c in zip(THINGS, THINGS[3:], THINGS[6:], strict=False)]


@pytest.fixture
def flags(tmp_path, tiny_causal_lm_dir, tiny_reward_dir):
    base = [ranking(f"What are {thing} made of?") for thing in THINGS[:4]]
    write(tmp_path / "data" / "hh_train_len2_4" / "train.json", base)
    write(tmp_path / "pool.jsonl", [{"prompt": text} for text in [POOL[0], *POOL, "What are amber made of?"]])
    model = str(tiny_causal_lm_dir("opt"))
    return [
        "hh_train_len2_4", "--pool", str(tmp_path / "pool.jsonl"), "--add", "3", "--answer_model", model,
        "--reward_model", str(tiny_reward_dir), "--max_new_tokens", "6", "--batch_size", "4", "--tokenizer", model,
    ]  # fmt: skip


def bigrams(tokenizer, texts):
    found = []
    for text in texts:
        ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        found += zip(ids, ids[1:], strict=False)
    return found


def d_of(tokenizer, prompts):
    """The paper's formula, by a loop."""
    found = bigrams(tokenizer, [render_prompt(turns) for turns in prompts])
    return len(prompts) ** 0.5 * len(set(found)) / len(found)


def test_the_enlarged_subset_by_hand(flags, tmp_path, tiny_reward_dir, capsys):
    from eval_hh.reward_model import load_reward_model

    main(flags)
    printed = capsys.readouterr().out
    assert "2 of 11 prompts dropped: near-copies" in printed  # one stands there twice, one is the subset's
    folder = tmp_path / "data" / "hh_train_len2_7_augment_diverse"
    rows = read_rows(folder)
    base = read_rows(tmp_path / "data" / "hh_train_len2_4")
    assert rows[:4] == [{**row, "meta": {"origin": "base"}} for row in base]
    added = rows[4:]
    tokenizer, reward_model = load_tokenizer(flags[-1]), load_reward_model(tiny_reward_dir)
    expected = [row["prefix"][0] for row in base]
    for row in added:  # each time the prompt with which D is highest
        free = [prompt(text) for text in POOL if prompt(text) not in expected]
        expected.append(max(free, key=lambda one: d_of(tokenizer, [*expected, one])))
        assert row["prefix"] == [expected[-1]] * 2
        scores = reward_model.score(row["prefix"], row["suffix"])
        assert row["reward"] == pytest.approx(scores, abs=1e-5) and row["reward"][0] >= row["reward"][1]
        assert len({text.strip() for text in row["suffix"]}) == 2 and all(row["suffix"])
        assert row["meta"]["origin"] == "pool" and row["meta"]["response_from"] == [flags[5 + 1]] * 2
    record = json.loads((tmp_path / "data" / "record_hh_train.json").read_text())
    assert record["len2_7_augment_diverse"]["2"]["diversity"] == pytest.approx(d_of(tokenizer, expected))
    names = json.loads((tmp_path / "data" / "record_hh_train_tokenizers.json").read_text())
    assert names == {"len2_7_augment_diverse": flags[-1]}
    assert len(load_records(folder)) == 7

    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "data" / "original").rglob("*.jsonl")}
    before = (folder / "train.json").read_bytes()
    main(flags)  # once more: nothing is sampled or scored again, and the result is the same
    assert (folder / "train.json").read_bytes() == before
    assert files == {path: path.stat().st_mtime_ns for path in files} and len(files) == 2


def test_the_least_overlap_by_hand(flags, tmp_path, byte_tokenizer):
    main([*flags, "--by", "overlap"])
    base, added = (
        [row["prefix"][0] for row in read_rows(tmp_path / "data" / "hh_train_len2_7_augment_overlap")][part]
        for part in (slice(4), slice(4, None))
    )
    held = set(bigrams(byte_tokenizer, map(render_prompt, base)))
    free = [prompt(text) for text in POOL]
    for turns in added:
        own = {str(one): set(bigrams(byte_tokenizer, [render_prompt(one)])) for one in free}
        expected = min(free, key=lambda one: Fraction(len(own[str(one)] & held), len(own[str(one)])))
        assert turns == expected
        held |= own[str(turns)]
        free.remove(turns)
    main([*flags, "--by", "overlap", "--match_length"])
    assert (tmp_path / "data" / "hh_train_len2_7_augment_overlap_matched" / "train.json").is_file()


def test_a_subset_of_another_draw_is_enlarged_where_it_lies(flags, tmp_path):
    draw = tmp_path / "data" / "draw43"
    base = [ranking(f"Who has {thing}?") for thing in THINGS[:4]]
    write(draw / "hh_train_len2_4" / "train.json", base)
    main(["draw43/hh_train_len2_4", *flags[1:]])
    rows = read_rows(draw / "hh_train_len2_7_augment_diverse")
    assert [row["prefix"] for row in rows[:4]] == [row["prefix"] for row in base] and len(rows) == 7
    record, answers = (json.loads((draw / f"record_hh_train{name}.json").read_text()) for name in ("", "_responses"))
    assert list(record) == list(answers) == ["len2_7_augment_diverse"]
    texts = [text for row in rows for text in row["suffix"]]
    assert (answers["len2_7_augment_diverse"]["all"]["samples"], len(texts)) == (14, 14)
    found = bigrams(load_tokenizer(flags[-1]), texts)
    measured = answers["len2_7_augment_diverse"]["all"]
    assert (measured["unique"], measured["total"]) == (len(set(found)), len(found))
    assert not list((tmp_path / "data").glob("*augment*")) and not list((tmp_path / "data").glob("record*"))
    main(flags)  # draw 42's has answers of its own, which do not mix with those of draw 43
    work = tmp_path / "data" / "original" / "augmentation"
    folders = [path.relative_to(work).as_posix() for path in work.rglob("*augment_diverse")]
    assert sorted(folders) == ["draw43/hh_train_len2_7_augment_diverse", "hh_train_len2_7_augment_diverse"]


def test_the_control_draws_from_the_same_pool(flags, tmp_path):
    chosen = []
    for seed in ("42", "43"):
        main([*flags, "--by", "random", "--seed", seed])
        rows = read_rows(tmp_path / "data" / "hh_train_len2_7_augment_random")
        chosen.append([row["prefix"][0] for row in rows[4:]])
        assert len(rows) == 7 and all(turns in map(prompt, POOL) for turns in chosen[-1])
    assert chosen[0] != chosen[1]


def test_prompts_that_a_model_writes(flags, tmp_path, tiny_causal_lm_dir, capsys):
    at = flags.index("--pool")
    flags[at : at + 2] = ["--write_prompts", "12", "--generator", str(tiny_causal_lm_dir("gpt2"))]
    main(flags)
    file = tmp_path / "data" / "original" / "augmentation" / "hh_train_len2_4" / "prompts.jsonl"
    texts = [json.loads(line)["responses"][0] for line in file.read_text().splitlines()]
    assert len(texts) == 12 and f"of 12 texts of {tiny_causal_lm_dir('gpt2')} are prompts" in capsys.readouterr().out
    added = read_rows(tmp_path / "data" / "hh_train_len2_7_augment_diverse")[4:]
    assert all(row["meta"]["origin"] == "written" for row in added)
    assert all(row["meta"]["written_by"] == str(tiny_causal_lm_dir("gpt2")) for row in added)
    assert all(any(row["prefix"][0][0].removeprefix("<|prompter|>") in text for text in texts) for row in added)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--num_per_prompt", "1"], "--num_per_prompt: 1 .expected at least the 2"),
        (["--write_prompts", "2"], "--write_prompts 2: fewer than --add 3"),
    ],
)
def test_flags_that_cannot_do_are_refused_before_a_generator_works(change, message, flags, tmp_path):
    at = flags.index("--pool")
    flags[at : at + 2] = ["--write_prompts", "12", "--generator", flags[flags.index("--answer_model") + 1]]
    with pytest.raises(InputError, match=message):
        main([*flags, *change])
    assert not (tmp_path / "data" / "original").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--write_prompts", "3"], "--pool or --write_prompts: give one of them"),
        (["--generator", "m"], "--write_prompts and --generator: give both, or neither"),
        (["--add", "0"], "--add 0"),
        (["--add", "10"], r"--add: 10 prompts requested, only 9 of 11 are left \(expected more prompts"),
        (["--max_jaccard", "1"], "--max_jaccard 1.0"),
        (["--max_jaccard", "nan"], "--max_jaccard nan"),
        (["--num_per_prompt", "1"], "--num_per_prompt: 1"),
        (["--temperature", "0"], "--temperature 0"),
        (["--by", "random", "--match_length"], "--match_length applies to --by diverse and overlap"),
        (["--answer_model", "/nowhere/at/all"], "/nowhere/at/all: no such folder"),
        (["--pool", "/nowhere/at/all"], "/nowhere/at/all: no such file"),
    ],
)
def test_bad_flags_are_one_line_and_nothing_is_written(flags, change, message, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        main([*flags, *change])
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "data").glob("*augment*")) and not list((tmp_path / "data").glob("record*"))


@pytest.mark.parametrize(
    "folder",
    [
        "hh_train_len2_4_max_d", "hh_train_len2_4_augment_random", "mine", "../data/hh_train_len2_4",
        "draw42/hh_train_len2_4", "hh_train_len2_4/",
    ],
)  # fmt: skip
def test_the_base_is_a_random_subset(flags, folder):
    with pytest.raises(InputError, match=f"{folder}: expected the folder of a random subset"):
        main([folder, *flags[1:]])


def test_a_subset_that_its_name_does_not_fit_is_named(flags, tmp_path):
    write(tmp_path / "data" / "hh_train_len2_5" / "train.json", [ranking("Why?")])
    with pytest.raises(InputError, match=r"hh_train_len2_5: 1 rows \(expected the 5"):
        main(["hh_train_len2_5", *flags[1:]])


def test_an_empty_prompt_of_the_pool_is_named(flags, tmp_path):
    write(tmp_path / "pool.jsonl", [{"prompt": "Why?"}, {"prompt": " "}])
    with pytest.raises(InputError, match="pool.jsonl:2: prompt: a prompt without text"):
        main(flags)


def test_enlarged_subsets_have_names_of_their_own():
    for selection in AUGMENTATIONS:
        subset = Subset(4, 120, selection)
        assert subset.folder == f"hh_train_len4_120_{selection}" and subset_named(subset.folder) == subset
        assert subset.key == f"len4_120_{selection}"  # what was added can hang on K, so D is recorded by K
    assert subset_named("hh_train_len4_120_augment_random_matched") is None
    assert Subset(4, 120).key == "120" and Subset(4, 120, "max_d").key == "120_max_d"


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_like_one_that_was_not(flags, tmp_path):
    whole = tmp_path / "data" / "hh_train_len2_7_augment_diverse" / "train.json"
    main([*flags, "--batch_size", "1"])
    expected = whole.read_bytes()
    broken = tmp_path / "broken"
    write(broken / "data" / "hh_train_len2_4" / "train.json", read_rows(tmp_path / "data" / "hh_train_len2_4"))
    environment = {**os.environ, "STUDY_ROOT": str(broken), "OMP_NUM_THREADS": "1"}
    killer = [sys.executable, "kill_at.py", "labelling.augment", "eval_hh.inference.resumable_jobs.Parts.append", "2"]
    for _ in range(2):
        done = subprocess.run([*killer, "after", "--", *flags, "--batch_size", "1"], cwd=REPOSITORY / "tests",
                              env=environment, capture_output=True, text=True)  # fmt: skip
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not list((broken / "data").glob("*augment*"))
    command = [sys.executable, "augment.py", *flags, "--batch_size", "1"]
    subprocess.run(command, cwd=REPOSITORY / "labelling", env=environment, check=True, capture_output=True)
    assert (broken / "data" / "hh_train_len2_7_augment_diverse" / "train.json").read_bytes() == expected
