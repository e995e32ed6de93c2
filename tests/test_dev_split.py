"""Train, dev and test: draws of random.sample, and near-duplicates counted and dropped."""

import random

import pytest

from data_preprocess.command import InputError
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.preparing.dev_split import sample_dev, split_train


def prompt(text, line=0):
    return Candidates([f"<|prompter|>{text}", "<|assistant|>"], [], None, {"line": line})


POOL = [prompt(f"question {i} about the number {i} and its friends", i) for i in range(30)]


def test_sample_dev():
    dev, rest = sample_dev(POOL, 5, seed=42)
    random.seed(42)
    assert dev == random.sample(POOL, 5)
    assert rest == [row for row in POOL if row not in dev]
    with pytest.raises(InputError, match="--dev_rows: 31 rows requested, only 30 available"):
        sample_dev(POOL, 31, seed=42)


def test_near_duplicates_are_counted_or_dropped():
    test = [prompt("Question 3 about the number 3, and its friends!"), prompt("something else")]
    twins = [prompt(f"QUESTION {i} about the number {i} and its friends", 100 + i) for i in range(30)]
    kept = split_train(POOL + twins, test, 10, 42, decontaminate=False)
    clean = split_train(POOL + twins, test, 10, 42, decontaminate=True)
    assert len(kept.train) == 50 and len(kept.dev) == 10
    assert kept.notes[0] == "near-duplicates: 2 of 60 train and dev prompts are near a test prompt (kept)"
    assert clean.notes[0] == kept.notes[0].replace("kept", "dropped")
    numbers = {row.meta["line"] % 100 for row in clean.dev}
    assert 3 not in numbers | {row.meta["line"] % 100 for row in clean.train}
    assert not numbers & {row.meta["line"] % 100 for row in clean.train}
    assert clean.notes[-1].endswith("train prompts are near a dev prompt (dropped)")
    both = [row.meta["line"] % 100 for row in clean.dev]
    assert len(clean.train) == 58 - 10 - sum(both.count(number) == 1 for number in numbers)


def test_without_test_or_dev_nothing_is_said():
    splits = split_train(POOL, [], 0, 42, decontaminate=True)
    assert (splits.train, splits.dev, splits.notes) == (POOL, [], [])
