"""split.py: the published cut, written once more with the random module; golden files; errors write nothing."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_preprocess.command import InputError
from data_preprocess.records import read_rows
from data_preprocess.split import main
from data_preprocess.subsets import split_rankings

REPOSITORY = Path(__file__).resolve().parents[1]
FIXTURE = Path(__file__).parent / "fixtures" / "len4.json"


def install(root, source=FIXTURE):
    target = root / "data" / "original" / "hh_train_len4" / "train.json"
    target.parent.mkdir(parents=True)
    shutil.copy(source, target)
    return target


def published_cut(rows):
    """reference.md word for word: all of len3, then all of len2, from one stream."""
    random.seed(42)
    by_len = {4: rows}
    for ranking_len in (3, 2):
        by_len[ranking_len] = []
        for row in by_len[ranking_len + 1]:
            drawn = random.sample(range(ranking_len + 1), ranking_len)
            order = sorted(range(ranking_len), key=lambda place: (-row["reward"][drawn[place]], place))
            kept = [drawn[place] for place in order]
            new = {key: [row[key][index] for index in kept] for key in ("prefix", "suffix", "reward")}
            by_len[ranking_len].append({**new, "meta": row["meta"]})
    return by_len


def test_split_is_the_published_cut(tmp_path, capsys):
    install(tmp_path)
    main([])
    expected = published_cut(read_rows(FIXTURE))
    for ranking_len in (3, 2):
        path = tmp_path / "data" / "original" / f"hh_train_len{ranking_len}" / "train.json"
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in expected[ranking_len]]
        assert path.read_text(encoding="utf-8") == "".join(lines)
        assert f"{path}: 4 rows" in capsys.readouterr().out if ranking_len == 3 else True
        assert len(read_rows(path)) == 4


def test_the_first_draws_by_hand():
    """random.Random(42).sample(range(4), 3) begins [0, 3, 1]; of the 3 kept, later draws keep 2."""
    rng = random.Random(42)
    assert rng.sample(range(4), 3) == [0, 3, 1]
    row = read_rows(FIXTURE)[0]
    three = split_rankings([row])[3][0]
    assert three["suffix"] == ["A cherry is red.", "Cherry.", "No."]
    assert three["reward"] == [3.0, 1.5, -2.0]


def test_the_global_random_state_is_left_alone(tmp_path):
    install(tmp_path)
    random.seed(1)
    expected = random.random()
    random.seed(1)
    main([])
    assert random.random() == expected


def test_golden_files(tmp_path, shared):
    golden = json.loads((shared / "golden" / "preprocess.json").read_text())["files"]
    install(tmp_path, shared / "data" / "finegrained_len4" / "train.json")
    main([])
    checked = 0
    for name, expected in golden.items():
        path = tmp_path / "data" / name
        if name.startswith("original/"):
            data = path.read_bytes()
            assert hashlib.sha256(data).hexdigest() == expected["sha256"], name
            assert data.count(b"\n") == expected["rows"]
            checked += 1
    assert checked >= 2


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"prefix": 1', ":5: not valid JSON"),
        (json.dumps(published_cut(read_rows(FIXTURE))[3][0]), r":5: 3 responses \(expected 4\)"),
        (FIXTURE.read_text(encoding="utf-8").split("\n")[0].replace("1.5", "NaN"), r":5: reward\[1\] is nan"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(tmp_path, line, message):
    path = install(tmp_path)
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        main([])
    assert os.listdir(tmp_path / "data" / "original") == ["hh_train_len4"]


def test_the_command_from_its_own_folder(tmp_path):
    command = [sys.executable, "split.py"]
    environment = {**os.environ, "STUDY_ROOT": str(tmp_path)}
    folder = REPOSITORY / "data_preprocess"
    failed = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    source = tmp_path / "data" / "original" / "hh_train_len4" / "train.json"
    assert (failed.returncode, failed.stderr) == (2, f"error: {source}: no such file\n")
    install(tmp_path)
    subprocess.run(command, cwd=folder, env=environment, check=True)
    assert len(read_rows(tmp_path / "data" / "original" / "hh_train_len2")) == 4


def limit_file_size():
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


@pytest.mark.parametrize("trouble", ["full disk", "blocked folder"])
def test_when_it_cannot_write_it_says_so_and_leaves_nothing(tmp_path, trouble):
    """A limit on file sizes stands for a full disk: len3 takes more than 1000 bytes."""
    original = install(tmp_path).parents[1]
    if trouble == "blocked folder":
        (original / "hh_train_len2").write_text("a file where a folder should be")
    done = subprocess.run(
        [sys.executable, "split.py"],
        cwd=REPOSITORY / "data_preprocess",
        env={**os.environ, "STUDY_ROOT": str(tmp_path)},
        preexec_fn=limit_file_size if trouble == "full disk" else None,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stdout == ""
    named = "hh_train_len3/train.json" if trouble == "full disk" else "hh_train_len2"
    assert done.stderr.startswith(f"error: {original / named}") and done.stderr.count("\n") == 1
    left = [path.name for path in original.rglob("*") if path.is_file()]
    assert sorted(left) == sorted(["train.json"] + ["hh_train_len2"] * (trouble == "blocked folder"))


def test_longer_rankings_are_cut_one_response_at_a_time(tmp_path):
    """Rankings of 5 to 4, 3 and 2; every cut is part of the one before it, its best response first."""
    rows = [
        {"prefix": [["q", "Assistant:"]] * 5, "suffix": [f"{i}{j}" for j in range(5)],
         "reward": [4.0, 3.0, 2.0, 1.0, 0.0], "meta": {}} for i in range(20)
    ]  # fmt: skip
    cuts = split_rankings(rows, 5)
    assert list(cuts) == [4, 3, 2]
    for longer, cut in zip((rows, cuts[4], cuts[3]), cuts.values(), strict=True):
        for before, after in zip(longer, cut, strict=True):
            assert set(after["suffix"]) < set(before["suffix"]) and after["reward"] == sorted(after["reward"])[::-1]
    target = tmp_path / "data" / "original" / "hh_train_len5" / "train.json"
    target.parent.mkdir(parents=True)
    row = {**rows[0], "prefix": [["<|prompter|>q", "<|assistant|>"]] * 5}
    target.write_text(json.dumps(row) + "\n", encoding="utf-8")
    main(["--ranking_len", "5"])
    assert {len(read_rows(target.parents[1] / f"hh_train_len{k}" / "train.json")[0]["suffix"]) for k in (4, 3, 2)} == {
        4, 3, 2,
    }  # fmt: skip
    with pytest.raises(InputError, match="--ranking_len 2: expected a number of at least 3"):
        main(["--ranking_len", "2"])
