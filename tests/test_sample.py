"""sample.py and sample.sh: golden subsets and record, nesting, errors that write nothing, dash and bash."""

import hashlib
import json
import os
import random
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from data_preprocess import split
from data_preprocess.diversity import RECORD, RECORD_TOKENIZERS, encode_prompts, prompt_diversity
from data_preprocess.files import InputError, write_json
from data_preprocess.records import read_rows
from data_preprocess.sample import SIZES, main

REPOSITORY = Path(__file__).resolve().parents[1]
FIXTURE = Path(__file__).parent / "fixtures" / "len4.json"
SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]


def install(root, source=FIXTURE):
    target = root / "data" / "original" / "hh_train_len4" / "train.json"
    target.parent.mkdir(parents=True)
    shutil.copy(source, target)
    split.main([])


@pytest.fixture
def tokenizer_dir(tmp_path_factory, byte_tokenizer):
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer.save_pretrained(folder)
    return str(folder)


RECORDS = [RECORD, RECORD_TOKENIZERS]


def made(root):
    """Every file under data/ that split did not make."""
    files = (path for path in (root / "data").rglob("*") if path.is_file())
    return sorted(str(path.relative_to(root / "data")) for path in files if "original" not in path.parts)


def test_default_sizes_are_the_papers():
    assert SIZES == (36000, 24000, 16000, 12000, 6000, 3000, 2000, 1500)


def test_subsets_are_prefixes_of_one_shuffle(tmp_path, tokenizer_dir):
    install(tmp_path)
    for ranking_len in (4, 3, 2):
        main([str(ranking_len), "--sizes", "3", "1", "--tokenizer", tokenizer_dir])
        rows = read_rows(tmp_path / "data" / "original" / f"hh_train_len{ranking_len}")
        random.seed(42)
        random.shuffle(rows)
        for size in (3, 1):
            path = tmp_path / "data" / f"hh_train_len{ranking_len}_{size}" / "train.json"
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows[:size]]
            assert path.read_text(encoding="utf-8") == "".join(lines)
    ids = [[row["meta"]["id"] for row in read_rows(tmp_path / "data" / f"hh_train_len{k}_3")] for k in (2, 3, 4)]
    assert ids[0] == ids[1] == ids[2]


def test_the_record_holds_the_diversity_of_each_size(tmp_path, tokenizer_dir, byte_tokenizer):
    install(tmp_path)
    main(["4", "--sizes", "4", "2", "--tokenizer", tokenizer_dir])
    record = json.loads((tmp_path / "data" / "record_hh_train.json").read_text())
    assert list(record) == ["4", "2"]
    for size in (4, 2):
        rows = read_rows(tmp_path / "data" / f"hh_train_len4_{size}")
        texts = {"<|prompter|>": "\n\nHuman: ", "<|assistant|>": "\n\nAssistant: "}
        prompts = []
        for row in rows:
            turns = (texts[turn[: turn.index("|>") + 2]] + turn[turn.index("|>") + 2 :] for turn in row["prefix"][0])
            prompts.append("".join(turns).rstrip())
        token_ids = encode_prompts(byte_tokenizer, prompts)
        bigrams = [pair for ids in token_ids for pair in zip(ids.tolist(), ids.tolist()[1:], strict=False)]
        assert record[str(size)] == {
            "2": {
                "#filtered_ngrams": len(set(bigrams)),
                "#all_ngrams": len(bigrams),
                "#samples": size,
                "diversity": pytest.approx(prompt_diversity(token_ids)),
            }
        }


def test_rankings_of_other_prompts_are_measured_by_themselves(tmp_path, tokenizer_dir):
    install(tmp_path)
    other = tmp_path / "data" / "original" / "hh_train_len2" / "train.json"
    text = other.read_text(encoding="utf-8").replace("Bye", "Farewell, and a good night to you all")
    other.write_text(text, encoding="utf-8")
    record = tmp_path / "data" / "record_hh_train.json"
    entries = []
    for ranking_lens in (["3"], ["2"], ["3", "2"]):
        main([*ranking_lens, "--sizes", "4", "--tokenizer", tokenizer_dir])
        entries.append(json.loads(record.read_text())["4"]["2"])
    assert entries[0] != entries[1] == entries[2]  # the entry of a size is that of the K sampled last


def test_the_record_is_merged_and_a_size_replaced(tmp_path, tokenizer_dir):
    install(tmp_path)
    path = tmp_path / "data" / "record_hh_train.json"
    write_json(path, {"36000": {"2": {"#samples": 36000}}, "2": {"2": {"stale": True}}})
    main(["3", "--sizes", "2", "--tokenizer", tokenizer_dir])
    record = json.loads(path.read_text())
    assert record["36000"] == {"2": {"#samples": 36000}}
    assert record["2"]["2"]["#samples"] == 2 and "stale" not in record["2"]["2"]
    assert path.read_text() == json.dumps(record, indent=4) + "\n"


def test_golden_subsets_and_record(tmp_path, shared):
    golden = json.loads((shared / "golden" / "preprocess.json").read_text())
    install(tmp_path, shared / "data" / "finegrained_len4" / "train.json")
    tokenizer = str(shared / "data" / "llama_tokenizer")
    sizes = list(golden["diversity"])
    main(["4", "3", "--tokenizer", tokenizer, "--sizes", *sizes])
    main(["2", "--tokenizer", tokenizer, "--sizes", *sizes])
    for name, expected in golden["files"].items():
        if not (tmp_path / "data" / name).exists():
            assert name.startswith("original/hh_train_len4")
            continue
        data = (tmp_path / "data" / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == expected["sha256"], name
        assert data.count(b"\n") == expected["rows"]
    record = json.loads((tmp_path / "data" / "record_hh_train.json").read_text())
    assert list(record) == sizes
    for size, expected in golden["diversity"].items():
        found = record[size]["2"]
        assert list(found) == list(expected)
        assert found == {**expected, "diversity": pytest.approx(expected["diversity"], rel=1e-12)}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["4"], r"--sizes: 36000 rows of 4 responses asked for, there are 4 \(expected 1 to 4\)"),
        (["4", "--sizes", "2", "5"], "--sizes: 5 rows of 4 responses asked for, there are 4"),
        (["4", "--sizes", "0"], "--sizes: 0 rows"),
        (["4", "5", "--sizes", "1"], "hh_train_len5/train.json: no such file"),
        (["4", "--sizes", "2", "--tokenizer", "/no/such/tokenizer"], "/no/such/tokenizer: no such folder"),
        (["4", "--sizes", "2", "--tokenizer", "nobody/nothing"], "nobody/nothing: .*pass the path of a local"),
    ],
)
def test_refusals_write_nothing(tmp_path, arguments, message):
    install(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        main(arguments)
    assert "\n" not in str(caught.value)
    assert made(tmp_path) == [] and "hh_train_len4_2" not in os.listdir(tmp_path / "data")


@pytest.mark.parametrize("content, message", [("{", ":1: not valid JSON"), ("[]", "expected a JSON object")])
def test_a_damaged_record_is_not_overwritten(tmp_path, tokenizer_dir, content, message):
    install(tmp_path)
    (tmp_path / "data" / "record_hh_train.json").write_text(content)
    with pytest.raises(InputError, match="record_hh_train.json.*" + message):
        main(["4", "--sizes", "2", "--tokenizer", tokenizer_dir])
    assert made(tmp_path) == ["record_hh_train.json"]
    assert (tmp_path / "data" / "record_hh_train.json").read_text() == content


def sample_sh(shell, *arguments, **environment):
    return subprocess.run(
        [shell, "sample.sh", *arguments],
        cwd=REPOSITORY / "data_preprocess",
        env={**os.environ, "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "arguments, passed",
    [
        ([], []),
        ([""], []),
        (["/a b/tok"], ["--tokenizer", "/a b/tok"]),
        (["--sizes", "3", "1"], ["--sizes", "3", "1"]),
        (["tok", "--sizes", "3", "1"], ["--sizes", "3", "1", "--tokenizer", "tok"]),
        (["", "--sizes", "3"], ["--sizes", "3"]),
    ],
)
def test_sample_sh_passes_its_arguments_on(tmp_path, shell, arguments, passed):
    log = tmp_path / "log"
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\nfor word in "$@"; do echo "$word" >>{log}; done\n')
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    done = sample_sh(shell, *arguments, PYTHON=str(fake))
    assert (done.returncode, done.stderr) == (0, "")
    assert log.read_text().split("\n")[:-1] == ["sample.py", "4", "3", "2", *passed]


@pytest.mark.parametrize("shell", SHELLS)
def test_sample_sh_fails_with_the_status_of_sample_py(tmp_path, shell):
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexit 7\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    assert sample_sh(shell, PYTHON=str(fake)).returncode == 7


def test_sample_sh_uses_llama_path(tmp_path, tokenizer_dir):
    install(tmp_path)
    done = sample_sh("sh", "--sizes", "2", LLaMA_path=tokenizer_dir)
    assert (done.returncode, done.stderr) == (0, "")
    assert made(tmp_path) == [f"hh_train_len{k}_2/train.json" for k in (2, 3, 4)] + RECORDS


@pytest.mark.parametrize("shell", SHELLS)
def test_sample_sh_under_each_shell(tmp_path, tokenizer_dir, shell):
    install(tmp_path)
    done = sample_sh(shell, tokenizer_dir, "--sizes", "4", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert made(tmp_path) == [f"hh_train_len{k}_{m}/train.json" for k in (2, 3, 4) for m in (2, 4)] + RECORDS
    tokenizers = json.loads((tmp_path / "data" / RECORD_TOKENIZERS).read_text())
    assert tokenizers == dict.fromkeys(("4", "2"), tokenizers["4"]) and tokenizer_dir.endswith(tokenizers["4"])


def test_sample_sh_says_in_one_line_that_no_tokenizer_can_be_loaded(tmp_path):
    install(tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "LLaMA_path"}
    done = sample_sh("sh", "--sizes", "2", **environment, LLaMA_path="")
    assert done.returncode == 2
    assert done.stderr.startswith("error: huggyllama/llama-7b: ") and done.stderr.count("\n") == 1
    assert "local" in done.stderr and made(tmp_path) == []
