"""Choices of what people are asked: what is labelled, at equal budget, and the report by hand."""

import json
import os
from dataclasses import astuple, replace
from random import Random

import numpy as np
import pytest

from data_preprocess.command import REPOSITORY, stop_requests
from data_preprocess.ranking import nested_subsets
from data_preprocess.records import Record
from data_preprocess.toy_world.gold_reward import gold_reward
from data_preprocess.toy_world.world import WorldConfig
from eval_hh.estimates import holm, over_replicates
from eval_hh.markup import verdict_word
from labelling import annotate, select_prompts
from labelling.selecting.score_choices import preference_variance
from study.label_choices import ChoiceStudy, labelled, simulate
from study.study_file import built_in
from study.toy.choices_report import (
    ALGORITHMS,
    CHOICES,
    PUBLISHED,
    ROWS,
    comparisons,
    control_of,
    label_facts,
    report_lines,
)
from study.toy.choices_report import write_choices_report as write_report
from tests.tiny_study import SMALL

LABELLING = REPOSITORY / "labelling"
TOY = built_in("toy")
SMALLER = [replace(one, size=one.size // 30) for one in CHOICES]  # 8 prompts with two, or 4 with four responses
N = 40


@pytest.fixture
def pool():
    """(Rows whose texts name their prompt and place, the reward model's scores of them)."""
    rng = Random(1)
    rows = [
        {"prefix": [[f"{i}"]] * 4, "suffix": [f"{i} {j}" for j in range(4)], "reward": [4, 3, 2, 1], "meta": {}}
        for i in range(N)
    ]
    return rows, [[rng.gauss(0, 1) for _ in range(4)] for _ in rows]


def prompts(rows):
    return [int(row["prefix"][0][0]) for row in rows]


@pytest.mark.parametrize("draw", [42, 43])
def test_a_choice_labels_as_much_as_its_control(pool, draw):
    """As many prompts and responses; of responses the same prompts, and of prompts the same half."""
    for choice in SMALLER:
        rows, control = (labelled(*pool, one, draw) for one in (choice, *(
            one for one in SMALLER if one.is_control and one.of_responses == choice.of_responses)))  # fmt: skip
        assert len(set(prompts(rows))) == len(rows) == len(control) == choice.size
        assert {len(row["suffix"]) for row in (*rows, *control)} == {choice.ranking_len}
        if choice.of_responses:
            assert prompts(rows) == prompts(control)
    assert SMALLER[0].size * 2 == SMALLER[-1].size * 4


def test_what_is_labelled_is_what_a_slow_loop_chooses(pool):
    rows, scores = pool
    half = nested_subsets(list(range(N)), [N // 2], 42)[N // 2]
    named = {one.how if one.of_responses else f"prompts {one.how}": labelled(*pool, one, 42) for one in SMALLER}
    for how, end in (("best_worst", max), ("closest", min)):
        for row, index in zip(named[how], half, strict=False):
            gaps = {(a, b): abs(scores[index][a] - scores[index][b]) for b in range(4) for a in range(b)}
            assert row["suffix"] == [rows[index]["suffix"][place] for place in end(gaps, key=gaps.get)]
            assert row["reward"] == sorted(row["reward"], reverse=True)
    by_variance = sorted(half, key=lambda index: preference_variance(scores[index]))
    assert prompts(named["prompts lowest"]) == by_variance[:4]
    assert prompts(named["prompts highest"]) == by_variance[::-1][:4]
    assert prompts(named["prompts random"]) == half[:4]


def test_diverse_words_are_one_of_each_kind_whatever_the_scores(pool):
    rows, scores = pool
    texts = ["boil the water first", "boil the water now", "ask your doctor today", "ask your doctor first"]
    [choice] = [one for one in SMALLER if one.how == "diverse"]
    found = labelled([{**row, "suffix": texts} for row in rows], scores, choice, 42)
    assert {sum(text in texts[:2] for text in row["suffix"]) for row in found} == {1}


def test_labels_choose_nothing(pool):
    rows, scores = pool
    others = [{**row, "reward": [0, 0, 0, 0]} for row in rows]
    for choice in SMALLER:
        chosen, same = (labelled(one, scores, choice, 42) for one in (rows, others))
        assert [sorted(row["suffix"]) for row in chosen] == [sorted(row["suffix"]) for row in same]


def test_draws_label_other_prompts(pool):
    for choice in SMALLER:
        assert set(prompts(labelled(*pool, choice, 42))) != set(prompts(labelled(*pool, choice, 43)))


def rows_of(gain):
    """Four replicates in which best-and-worst earns `gain` more than random, and everything else about as much."""
    noise = np.random.default_rng(0).normal(0, 1, (len(CHOICES), 2, 4))
    return [
        {"choice": choice.name, "algorithm": algorithm, "draw": 42 + r, "seed": 42 + r, "best": 70.0 + r, "gap": 20.0,
         "right": 0.9, "harmful": 0.25,
         "reward": 40 + 10 * r + noise[i, a, r] + gain * (choice.how == "best_worst")}
        for i, choice in enumerate(CHOICES) for a, algorithm in enumerate(ALGORITHMS) for r in range(4)
    ]  # fmt: skip


def test_differences_are_paired_by_replicate():
    """Replicates differ by 10 points, choices by about 1: unpaired, nothing could be told."""
    rows = rows_of(gain=20)
    found = comparisons(rows)
    assert [(choice.how, algorithm) for choice, algorithm, *_ in found] == [
        (how, one) for how in ("best_worst", "closest", "diverse", "highest", "lowest") for one in ALGORITHMS
    ]
    sides = [
        [row["reward"] for row in rows if (row["choice"], row["algorithm"]) == (name, "PRO")]
        for name in ("pair_best_worst", "pair_random")
    ]
    by_hand = over_replicates((np.array(sides[0]) - np.array(sides[1])) / 100)
    assert astuple(found[0][2]) == pytest.approx(astuple(by_hand))
    assert [p for *_, p in found] == holm([one.p for _, _, one, _ in found])
    words = [verdict_word(one, p) for _, _, one, p in found]
    assert words == ["better", "better", *["undecided"] * 8]
    assert [verdict_word(one, p) for _, _, one, p in comparisons(rows_of(gain=-20))][:2] == ["worse", "worse"]
    text = "\n".join(report_lines(rows, "Made by a test."))
    assert "4 replicates" in text and text.count("| better") == 2 and "Made by a test." in text


def test_each_choice_is_compared_with_its_own_control():
    assert {control_of(one).name for one in CHOICES if one.of_responses} == {"pair_random"}
    assert {control_of(one).name for one in CHOICES if not one.of_responses} == {"prompt_random"}


def test_what_labels_are_like_by_hand():
    turns = ["<|prompter|>How is a rusty copper kettle cleaned?", "<|assistant|>"]
    good, bad = "A kettle is cleaned with vinegar and a brush.", "Nobody knows."
    points = [gold_reward(turns, text) for text in (good, bad)]
    assert points[0] > points[1]
    records = [
        Record(turns, texts, [1, 0], {"kind": kind})
        for texts, kind in (([good, bad], "helpful_base"), ([bad, good], "harmless_base"), ([bad, bad], "helpful_base"))
    ]
    facts = label_facts(records)
    assert facts["best"] == pytest.approx(100 * (points[0] + 2 * points[1]) / 3)
    assert facts["gap"] == pytest.approx(0) and facts["right"] == 0.5 and facts["harmful"] == pytest.approx(1 / 3)


@pytest.mark.slow
def test_choices_from_the_world_to_the_report(tmp_path, monkeypatch):
    """Two replicates on a world and models so small that a cell takes seconds; a second start trains nothing."""
    monkeypatch.setenv("STUDY_ROOT", str(tmp_path))
    world = WorldConfig(train_rows=40, dev_rows=4, test_rows=4, reward_rows=20, reward_heldout_rows=8,
                        corpus_lines=100, plenty_rows=8)  # fmt: skip
    train = (*TOY.train, "--max_train_steps", "1", "--checkpointing_step", "1")
    profile = replace(TOY, world=world, train=train, train_reward=SMALL, pretrain=SMALL, max_new_tokens=4)
    found = ChoiceStudy(profile, SMALLER, [(42, 42), (43, 43)])
    with stop_requests() as request:
        rows, took = simulate(found, 2, request)
        text = write_report(found.root, rows, f"Took {took}.")
        made = {path: os.stat(path).st_mtime_ns for path in found.root.rglob("eval_hh/results/*.json")}
        assert simulate(found, 2, request)[0] == rows
    assert {path: os.stat(path).st_mtime_ns for path in found.root.rglob("eval_hh/results/*.json")} == made
    assert len(made) == len(rows) == 28 and "than random" in text
    assert [json.loads(line) for line in (found.root / "cells.jsonl").read_text().splitlines()] == rows


def test_published_rows_are_what_the_report_the_readme_and_the_help_say(capsys):
    """Each number that is quoted comes from the committed cells."""
    folder = REPOSITORY / "eval_hh" / "results" / PUBLISHED
    rows = [json.loads(line) for line in (folder / ROWS).read_text().splitlines()]
    table = [line for line in report_lines(rows, "") if line.startswith("|")]
    report, readme = ((path / name).read_text() for path, name in ((folder, "report.md"), (LABELLING, "README.md")))
    assert all(line in report for line in table) and all(line in readme for line in table[: 2 + 2 * 5])
    quoted = {}
    for module in (annotate, select_prompts):
        with pytest.raises(SystemExit):
            module.main(["--help"])
        quoted[module] = " ".join(capsys.readouterr().out.split())
    said = {"best_worst": annotate, "closest": annotate, "diverse": annotate, "highest": select_prompts}
    for choice, algorithm, found, p in comparisons(rows):
        if choice.how in said:
            numbers = f"{100 * found.difference:+.2f}, {100 * found.low:+.2f} to {100 * found.high:+.2f}"
            assert f"{algorithm} {numbers}" in quoted[said[choice.how]]
            assert verdict_word(found, p) == ("better" if choice.how == "best_worst" else "undecided")
    best = [[one["best"] for one in rows if one["choice"] == name and one["algorithm"] == "PRO"]
            for name in ("pair_best_worst", "pair_random")]  # fmt: skip
    assert "{:.2f} points, with random pairs {:.2f}".format(*map(np.mean, best)) in " ".join(readme.split())
