"""Diversity against sets counted in a double loop, numbers derived by hand, and the golden record."""

import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_preprocess import diversity
from data_preprocess.command import InputError
from data_preprocess.dialogue import render_prompt
from data_preprocess.diversity import (
    Diversity,
    diversity_curve,
    encode_prompts,
    main,
    prompt_diversity,
)
from data_preprocess.files import write_jsonl
from data_preprocess.ngrams import new_ngrams, token_ids


def slow_curve(token_ids, sizes, n):
    """The paper's formula, one subset at a time."""
    curve = {}
    for size in sizes:
        seen, total = set(), 0
        for ids in token_ids[:size]:
            for start in range(len(ids) - n + 1):
                seen.add(tuple(int(token) for token in ids[start : start + n]))
                total += 1
        score = math.sqrt(size) * len(seen) / total if total else 0.0
        curve[size] = Diversity(len(seen), total, size, score)
    return curve


def random_prompts(seed, count=60, vocabulary=9, longest=12):
    rng = random.Random(seed)
    return [[rng.randrange(vocabulary) for _ in range(rng.randrange(longest))] for _ in range(count)]


def test_hand_derived_bigrams():
    # Bigrams: 12 23 | 23 31 | (none) | 12 23 -> distinct 12 23 31; a boundary would add 32 and 31 again.
    prompts = [[1, 2, 3], [2, 3, 1], [7], [1, 2, 3]]
    curve = diversity_curve(prompts, [1, 2, 4])
    assert curve[1] == Diversity(2, 2, 1, 1.0)
    assert curve[2] == Diversity(3, 4, 2, math.sqrt(2) * 3 / 4)
    assert curve[4] == Diversity(3, 6, 4, 2 * 3 / 6)
    assert prompt_diversity(prompts) == 1.0
    assert prompt_diversity(prompts, n=1) == 2 * 4 / 10


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_slow_loop(n, seed):
    prompts = random_prompts(seed)
    sizes = [60, 1, 17, 33, 0]
    assert diversity_curve(prompts, sizes, n) == slow_curve(prompts, sizes, n)


@pytest.mark.parametrize(
    "limits",
    [
        {"PARTITION": 7},  # many partitions
        {"PARTITION": 1},  # as many as there may be, some of them empty
        {"PARTITION": 40, "THREADS": 1, "BLOCK": 7},
        {"MAX_TABLE": 2},  # ids renumbered by sorting
        {"MAX_KEY": 600},  # keys of 2 tokens fit, of 3 do not; prompts do not fit beside them
        {"MAX_KEY": 100, "PARTITION": 50},
    ],
)
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_every_fallback_counts_the_same(monkeypatch, limits, n):
    prompts = random_prompts(5)
    for name, value in limits.items():
        monkeypatch.setattr(new_ngrams, name, value)
    assert diversity_curve(prompts, [20, 60], n) == slow_curve(prompts, [20, 60], n)


def test_extreme_ids_do_not_overflow():
    huge = 2**60
    prompts = [[huge + 1, -huge, 5], [5, huge + 1, -huge], [0, 0, huge]]
    for n in (1, 2, 3):
        assert diversity_curve(prompts, [1, 3], n) == slow_curve(prompts, [1, 3], n)


def test_a_vocabulary_whose_fourgrams_exceed_64_bits():
    rng = np.random.default_rng(0)
    prompts = [rng.permutation(70_000) for _ in range(2)]  # 70000^4 = 2.4e19 > 2^63 = 9.2e18
    prompts.append(prompts[0][100:200])
    assert diversity_curve(prompts, [1, 3], 4) == slow_curve(prompts, [1, 3], 4)


def test_order_inside_a_prefix_does_not_matter_and_repeats_add_no_ngram():
    prompts = random_prompts(1)
    expected = diversity_curve(prompts, [30, 60])
    shuffled = random.Random(0).sample(prompts[:30], 30) + prompts[:29:-1]
    assert diversity_curve(shuffled, [30, 60]) == expected
    doubled = diversity_curve(prompts * 2, [120])[120]
    assert (doubled.unique, doubled.total) == (expected[60].unique, 2 * expected[60].total)
    assert doubled.score == pytest.approx(expected[60].score / math.sqrt(2))


def test_arrays_and_lists_count_alike():
    prompts = random_prompts(2)
    arrays = [np.array(ids, dtype=np.int32) for ids in prompts]
    assert diversity_curve(arrays, [60], 3) == diversity_curve(prompts, [60], 3)


def test_no_ngrams_score_zero():
    assert prompt_diversity([]) == 0.0
    assert prompt_diversity([[], [3]]) == 0.0
    assert diversity_curve([[1]], [0, 1]) == {0: Diversity(0, 0, 0, 0.0), 1: Diversity(0, 0, 1, 0.0)}


@pytest.mark.parametrize("sizes, n", [([3], 2), ([-1], 2), ([1], 0)])
def test_impossible_sizes_and_n_are_refused(sizes, n):
    with pytest.raises(ValueError, match="expected"):
        diversity_curve([[1, 2], [3]], sizes, n)


def test_golden_record(shared):
    """U, T, M and D of the published scripts for four nested sizes."""
    from transformers import AutoTokenizer

    golden = json.loads((shared / "golden" / "preprocess.json").read_text())
    rows = [json.loads(line) for line in open(shared / "data" / "finegrained_len4" / "train.json")]
    random.Random(golden["seed"]).shuffle(rows)
    tokenizer = AutoTokenizer.from_pretrained(shared / "data" / "llama_tokenizer")
    token_ids = encode_prompts(tokenizer, [render_prompt(row["prefix"][0]) for row in rows])
    curve = diversity_curve(token_ids, [int(size) for size in golden["diversity"]])
    for size, expected in golden["diversity"].items():
        found = curve[int(size)]
        counts = (found.unique, found.total, found.samples)
        assert counts == (expected["#filtered_ngrams"], expected["#all_ngrams"], expected["#samples"])
        assert found.score == pytest.approx(expected["diversity"], rel=1e-12)


def test_encoding_is_llamas_own_with_bos_cut_to_512(shared):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared / "data" / "llama_tokenizer")
    prompts = ["\n\nHuman: Hello there\n\nAssistant:", "", "<s> typed</s>", "many words " * 900]
    encoded = encode_prompts(tokenizer, prompts)
    for prompt, ids in zip(prompts, encoded, strict=True):
        assert ids.tolist() == tokenizer(prompt)["input_ids"][:512]
    assert encoded[0][0] == tokenizer.bos_token_id and len(encoded[3]) == 512


def test_bos_is_added_for_a_tokenizer_that_adds_none(byte_tokenizer, monkeypatch):
    monkeypatch.setattr(token_ids, "BATCH", 2)  # three prompts: a batch of two and one of one
    texts = ["Human", "a" * 1000, "whales"]
    plain = byte_tokenizer(texts)["input_ids"]
    assert plain[0][0] != byte_tokenizer.bos_token_id
    expected = [([byte_tokenizer.bos_token_id] + ids)[:512] for ids in plain]
    assert [ids.tolist() for ids in encode_prompts(byte_tokenizer, texts)] == expected


def test_without_a_bos_token_none_is_added(byte_tokenizer, monkeypatch):
    import copy

    tokenizer = copy.deepcopy(byte_tokenizer)
    tokenizer.bos_token = None
    assert encode_prompts(tokenizer, ["whales"])[0].tolist() == tokenizer("whales")["input_ids"]


@pytest.fixture
def tokenizer_dir(tmp_path_factory, byte_tokenizer):
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer.save_pretrained(folder)
    return str(folder)


ANY_FORM = {
    "prompt": ["Why?", "Say hi"],
    "turns": [["<|prompter|>Why?", "<|assistant|>"], ["<|prompter|>Say hi"]],
    "messages": [
        [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Why?"}],
        [{"role": "user", "content": "Say hi"}, {"role": "assistant", "content": "hi"}],
    ],
    "text": ["\n\nHuman: Why?\n\nAssistant:", "\n\nHuman: Say hi\n\nAssistant:"],
}


def table(capsys):
    lines = capsys.readouterr().out.split("\n")
    return [line.split() for line in lines if line.strip()]


def test_entry_reads_prompts_in_every_form_alike(tmp_path, tokenizer_dir, byte_tokenizer, capsys):
    path = tmp_path / "prompts.jsonl"
    write_jsonl(path, [{key: values[index] for key, values in ANY_FORM.items()} for index in range(2)])
    token_ids = encode_prompts(byte_tokenizer, ANY_FORM["text"])
    expected = [["n", "U", "T", "M", "D"]]
    for n in (1, 2, 3, 4):
        found = slow_curve(token_ids, [2], n)[2]
        expected.append([str(n), str(found.unique), str(found.total), "2", f"{found.score:.4f}"])
    main([str(path), "--tokenizer", tokenizer_dir, "--json", str(tmp_path / "out.json")])
    assert table(capsys) == expected
    written = json.loads((tmp_path / "out.json").read_text())["diversity"]
    assert [str(row["unique"]) for row in written] == [row[1] for row in expected[1:]]
    for column in ANY_FORM:
        main([str(path), "--tokenizer", tokenizer_dir, "--column", column])
        assert table(capsys) == expected, column


def test_entry_reads_rankings_and_sizes(tmp_path, tokenizer_dir, capsys):
    row = {"suffix": ["a"], "reward": [1.0], "meta": {}}
    texts = ("Why?", "Say hi", "Why?")
    rows = [{"prefix": [["<|prompter|>" + text, "<|assistant|>"]], **row} for text in texts]
    write_jsonl(tmp_path / "train.json", rows)
    main([str(tmp_path), "--tokenizer", tokenizer_dir, "--n", "2", "--sizes", "1", "3"])
    found = table(capsys)
    assert [line[3] for line in found] == ["M", "1", "3"]
    assert int(found[2][2]) > int(found[1][2]) and int(found[2][1]) > int(found[1][1])


def test_entry_reads_saved_data_sets(tmp_path, tokenizer_dir, capsys):
    import datasets

    write_jsonl(tmp_path / "p.jsonl", [{"question": "Why?"}, {"question": "Say hi"}])
    main([str(tmp_path / "p.jsonl"), "--column", "question", "--tokenizer", tokenizer_dir])
    expected = table(capsys)
    data = datasets.Dataset.from_dict({"question": ["Why?", "Say hi"]})
    data.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": data}).save_to_disk(tmp_path / "splits")
    (tmp_path / "parquet").mkdir()
    data.to_parquet(tmp_path / "parquet" / "train.parquet")
    for folder in ("one", "splits", "parquet"):
        main([str(tmp_path / folder), "--column", "question", "--tokenizer", tokenizer_dir])
        assert table(capsys) == expected, folder
    with pytest.raises(InputError, match="no split test .*train"):
        main([str(tmp_path / "splits"), "--column", "question", "--split", "test"])


@pytest.mark.parametrize(
    "rows, arguments, message",
    [
        ([{"q": "hi"}], [], r"p.jsonl:1: fields are q \(expected a prompt or prefix field, or --column\)"),
        ([{"prompt": "hi"}, {"prompt": 3}], [], r"p.jsonl:2: prompt is 3 \(expected a text"),
        ([{"prompt": "hi"}], ["--column", "q"], r"p.jsonl:1: fields are prompt \(expected --column q"),
        ([{"prompt": [{"role": "robot", "content": "x"}]}], [], r"p.jsonl:1: prompt: role 'robot'"),
        ([{"prompt": [{"role": "assistant", "content": "x"}]}], [], "no message by a user"),
        ([{"prompt": ["untagged"]}], [], r"p.jsonl:1: prompt: turn 'untagged'"),
        ([{"prompt": "hi"}], ["--sizes", "2"], r"--sizes: 2 \(expected 1 to 1, the number of prompts"),
        ([{"prompt": "hi"}], ["--n", "0"], "--n 0"),
        ([], [], "no prompts"),
    ],
)
def test_entry_refuses_bad_input(tmp_path, rows, arguments, message):
    write_jsonl(tmp_path / "p.jsonl", rows)
    with pytest.raises(InputError, match=message):
        main([str(tmp_path / "p.jsonl"), *arguments])


def test_entry_names_the_local_way_when_the_hub_is_out_of_reach(monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="pass a local JSONL file") as caught:
        main(["someone/prompts"])
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such file or folder"):
        main(["./absent.jsonl"])


def test_without_a_network_the_command_says_one_line_and_soon(tmp_path):
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    del environment["HF_HUB_OFFLINE"]
    done = subprocess.run(
        [sys.executable, "diversity.py", "someone/prompts"],
        cwd=Path(diversity.__file__).parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=25,  # the hub client's own retries take longer
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: someone/prompts: ")


def test_score_reaches_its_bound_where_no_ngram_repeats():
    """D <= sqrt(M), with equality where all n-grams differ."""
    prompts = [list(range(5 * index, 5 * index + 5)) for index in range(12)]
    for size, found in diversity_curve(prompts, [1, 4, 9, 12]).items():
        assert found.score == pytest.approx(math.sqrt(size))
