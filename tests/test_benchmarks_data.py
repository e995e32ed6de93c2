"""The benchmarks of diversity, selection, split and sample on tiny sizes; each ends where its two ways differ."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from benchmarks import (
    diversity_counts,
    embedding_selection,
    hh_like,
    selection_speed,
    side_by_side,
    stand_in_models,
    subset_files,
)
from benchmarks.side_by_side import in_turns
from data_preprocess import selection
from data_preprocess.command import InputError
from data_preprocess.diversity import diversity_curve
from data_preprocess.ngrams import new_ngrams, piecewise_bpe, sparse_rows
from data_preprocess.ngrams.token_ids import encode_prompts
from data_preprocess.subsets import write_split

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def run(name, *flags):
    done = subprocess.run([sys.executable, BENCHMARKS / "run.py", name, *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_diversity_on_tiny_sizes(tmp_path):
    rows = tmp_path / "rows.json"
    flags = ["--prompts", "48", "--curve", "30", "60", "--threads", "1", "--json", rows]
    lines = run("diversity_counts", *flags).splitlines()
    assert lines[0].startswith("diversity of 8 nested sizes up to 48 for K = 2, 3, 4") and "target 20x" in lines[0]
    assert lines[1].startswith("counting alone, of the same: naive ") and "target 40x" in lines[1]
    assert lines[2] == "subsets whose U, T and D both ways agree on: 24 of them, target all"
    for count, (seconds, speed, memory) in ((30, lines[3:6]), (60, lines[6:9])):
        assert all(line.startswith(f"{count} prompts of ") for line in (seconds, speed, memory))
        assert " s  (tokenising " in seconds and " tokens/s," in speed and " MiB, target under 4096" in memory
    alone = [row["naive"] is None for row in json.loads(rows.read_text())]
    assert alone == [False] * 2 + [True] * 7


@pytest.fixture
def small():
    return stand_in_models.trained_like_llama(["the cat sat on the mat", "they can't eat  that"], 320)


@pytest.mark.parametrize("field", ["unique", "total", "score"])
def test_a_wrong_count_ends_the_diversity_benchmark(small, field):
    prompts_of = {2: hh_like.prompts(12), 3: hh_like.prompts(12)}
    naive = diversity_counts.naive_diversity(small, prompts_of, [12, 5])
    ours = diversity_counts.shared_diversity(small, prompts_of, [12, 5])
    diversity_counts.check_counts(naive, ours)
    wrong = replace(ours[3][5], **{field: getattr(ours[3][5], field) * (1 + 2**-50) if field == "score" else 7})
    with pytest.raises(SystemExit, match="error: K 3, 5 prompts: U, T, D are"):
        diversity_counts.check_counts(naive, {**ours, 3: {**ours[3], 5: wrong}})
    del ours[2]
    with pytest.raises(KeyError):
        diversity_counts.check_counts(naive, ours)


def test_naive_counts_by_hand(small):
    assert diversity_counts.count_naively([[1, 2, 3], [2, 3, 1], [7], [1, 2, 3]]) == (3, 6, 1.0)
    turns = hh_like.prompts(3)
    expected = encode_prompts(small, hh_like.rendered(turns))
    assert [diversity_counts.encode_one(small, prompt) for prompt in turns] == [ids.tolist() for ids in expected]


def test_a_point_of_the_curve_is_measured_on_its_prompts():
    seconds, counting, n_tokens = diversity_counts.measure_prompts(25)
    token_ids = encode_prompts(stand_in_models.llama_tokenizer(), hh_like.rendered(hh_like.prompts(25)))
    assert n_tokens == sum(map(len, token_ids)) == diversity_curve(token_ids, [25], 1)[25].total
    assert seconds > 0 and counting > 0


def test_threads_are_those_asked_for(monkeypatch):
    for module in (new_ngrams, sparse_rows):
        monkeypatch.setattr(module, "THREADS", 1)  # set there, and put back behind it
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    side_by_side.use_threads(3)
    assert new_ngrams.THREADS == sparse_rows.THREADS == 3
    assert os.environ["OMP_NUM_THREADS"] == os.environ["RAYON_NUM_THREADS"] == "3"


def test_the_stand_in_tokenizer_is_of_llamas_kind(monkeypatch, tmp_path):
    monkeypatch.setattr(stand_in_models, "LLAMA_FOLDER", tmp_path / "absent")
    monkeypatch.setattr(stand_in_models, "BPE_SIZE", 500)
    stand_in_models.llama_tokenizer.cache_clear()
    try:
        tokenizer = stand_in_models.llama_tokenizer()
        assert isinstance(piecewise_bpe.encoder(tokenizer), piecewise_bpe.PiecewiseEncoder)
        assert len(tokenizer) == 500 and tokenizer.bos_token_id is not None
        assert tokenizer.decode(tokenizer("<s>é\n")["input_ids"][:1]) == "<s>"
    finally:
        stand_in_models.llama_tokenizer.cache_clear()


def test_selection_on_tiny_sizes(tmp_path):
    rows = tmp_path / "rows.json"
    lines = run("selection_speed", "--prompts", "60", "--threads", "1", "--json", rows).splitlines()
    names = [*selection.STRATEGIES, "max_d matched in length"]
    for name, seconds, memory in zip(names, lines[::2], lines[1::2], strict=True):
        assert seconds.startswith(f"{name}: 6 of 60 prompts: ") and "target under 60  (D " in seconds
        assert memory.startswith(f"{name}: 6 of 60 prompts, peak memory: ") and memory.endswith("under 2048")
    assert [row["naive"] for row in json.loads(rows.read_text())] == [None] * 16


def test_what_is_measured_of_a_selection():
    token_ids = encode_prompts(stand_in_models.llama_tokenizer(), hh_like.rendered(hh_like.prompts(30)))
    seconds, note = selection_speed.choose(token_ids, 5, "max_d", False)
    chosen = selection.select_max_diversity(token_ids, 5)
    score = diversity_curve([token_ids[index] for index in chosen], [5])[5].score
    assert note == f"D {score:.2f}, {token_ids.lengths[chosen].mean():.0f} tokens a prompt" and seconds > 0


def test_what_is_measured_of_a_selection_by_embeddings(monkeypatch):
    def absent(*_: object) -> None:
        raise InputError("wordllama is not installed")

    monkeypatch.setattr(embedding_selection, "embedded", absent)  # vectors are made up then, in a moment
    vectors = embedding_selection.vectors_of(400)
    assert vectors.dtype == "float32" and (vectors**2).sum(axis=1) == pytest.approx(1, abs=1e-5)
    seconds, note = embedding_selection.choose(400, "random")
    assert seconds > 0 and note.startswith("similarity to the nearest selected prompt 0.")
    exact, ours, seconds = embedding_selection.facility_loss(1200)
    assert exact >= ours > 0.9 * exact > 0 and seconds > 0


def test_subset_files_on_tiny_sizes(tmp_path):
    rows = tmp_path / "rows.json"
    lines = run("subset_files", "--rows", "32", "--json", rows).splitlines()
    assert lines[0].startswith("split.py and sample.py without tokenizing, 32 rows of 4 responses") and "3x" in lines[0]
    assert lines[1].startswith("split.py alone: naive ")
    assert lines[2].startswith("sample.py alone, 8 sizes for K = 4, 3, 2: naive ")
    assert lines[3] == "files of equal sha256 both ways: 23 of them, target all"  # the two smallest sizes are one here
    both, split, sample = json.loads(rows.read_text())[:3]
    assert both["naive"] == split["naive"] + sample["naive"] and both["ours"] == split["ours"] + sample["ours"]


@pytest.mark.parametrize("damage", ["a byte", "no file", "one file more"])
def test_bytes_that_differ_end_the_benchmark(tmp_path, damage):
    naive, ours = tmp_path / "naive", tmp_path / "ours"
    for root in (naive, ours):
        subset_files.write_rankings(root, 6)
    subset_files.split_naively(naive)
    subset_files.sample_naively(naive, [6, 2])
    write_split(ours)
    subset_files.sample(ours, [6, 2])
    assert subset_files.check_files(naive, ours) == 8
    path = ours / "hh_train_len3_2" / "train.json"
    if damage == "a byte":
        path.write_bytes(path.read_bytes()[:-1] + b" ")
    elif damage == "no file":
        path.unlink()
    else:
        (naive / "hh_train_len3_9").mkdir()
        (naive / "hh_train_len3_9" / "train.json").write_text("")
    with pytest.raises(SystemExit, match="error: hh_train_len3_[29]/train.json: the two ways do not write the same"):
        subset_files.check_files(naive, ours)


def test_each_round_writes_anew(tmp_path, monkeypatch):
    """No round finds an output of the one before, so that none is timed on replacing files."""
    naive, ours, found = tmp_path / "naive", tmp_path / "ours", []
    for root in (naive, ours):
        (root / "out1").mkdir(parents=True)

    def way(root):
        found.append((root, sorted(path.name for path in root.iterdir())))
        (root / "out2").mkdir()

    subset_files.both_ways(partial(way, naive), partial(way, ours), "out*")
    assert sorted(found) == [(naive, [])] * 3 + [(ours, [])] * 3


def test_what_comes_before_a_way_is_not_timed(monkeypatch):
    now, order = [0.0], []
    monkeypatch.setattr(side_by_side.time, "perf_counter", lambda: now[0])

    def way(name, seconds):
        def call():
            order.append(name)
            now[0] += seconds

        return call

    naive, ours = way("naive", 5.0), way("ours", 2.0)

    def before(following):
        order.append("before naive" if following is naive else "before ours")
        now[0] += 100

    assert in_turns(naive, ours, 2, before=before).seconds == (5.0, 2.0)
    assert order == ["before naive", "naive", "before ours", "ours", "before ours", "ours", "before naive", "naive"]
