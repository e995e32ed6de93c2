"""Choices of what people are asked: against slow loops, at equal budget, and the report by hand."""

import json
import os
from dataclasses import replace

import pytest

from data_preprocess.command import stop_requests
from data_preprocess.toy_world.world import WorldConfig
from study.choices_report import CHOICES, write_choices_report
from study.label_choices import ChoiceStudy, simulate
from study.study_file import built_in
from tests.tiny_study import SMALL

TOY = built_in("toy")


@pytest.mark.slow
def test_choices_from_the_world_to_the_report(tmp_path, monkeypatch):
    """Two replicates on a world and models so small that a cell takes seconds; a second start trains nothing."""
    monkeypatch.setenv("STUDY_ROOT", str(tmp_path))
    world = WorldConfig(train_rows=40, dev_rows=4, test_rows=4, reward_rows=20, reward_heldout_rows=8,
                        corpus_lines=100, plenty_rows=8)  # fmt: skip
    train = (*TOY.train, "--max_train_steps", "1", "--checkpointing_step", "1")
    profile = replace(TOY, world=world, train=train, train_reward=SMALL, pretrain=SMALL, max_new_tokens=4)
    choices = [replace(one, size=one.size // 30) for one in CHOICES]
    found = ChoiceStudy(profile, choices, [(42, 42), (43, 43)])
    with stop_requests() as request:
        rows, took = simulate(found, 2, request)
        text = write_choices_report(found.root, rows, f"Took {took}.")
        made = {path: os.stat(path).st_mtime_ns for path in found.root.rglob("eval_hh/results/*.json")}
        assert simulate(found, 2, request)[0] == rows
    assert {path: os.stat(path).st_mtime_ns for path in found.root.rglob("eval_hh/results/*.json")} == made
    assert len(made) == len(rows) == 24 and "than random" in text
    assert [json.loads(line) for line in (found.root / "cells.jsonl").read_text().splitlines()] == rows
