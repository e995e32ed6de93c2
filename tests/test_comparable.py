"""eval_hh/analysis/comparable.py: result files that differ in what must be alike are left out, or named."""

import dataclasses
import json

import pytest

from eval_hh.analysis.comparable import OF_ITS_OWN
from eval_hh.analysis.results import load_results
from tests.made_up import make_cell
from training.config import TrainConfig
from training.saving.checkpoints import FREE_TO_CHANGE

RUN = {
    "model_name_or_path": "models/opt-1.3b",
    "dev_reward_model": "models/a",
    "learning_rate": 0.001,
    "max_train_steps": 100,
}


def runs(**changed):
    """Four replicates of PRO K=2 M=100; `changed` are settings of the last one's run."""
    cells = [make_cell("PRO", 2, 100, seed, 0.5, draw=seed) for seed in (42, 43, 44, 45)]
    for cell in cells:
        cell["config"] |= RUN
    cells[-1]["config"] |= changed
    return cells


@pytest.fixture
def load(tmp_path):
    def load(cells):
        for number, cell in enumerate(cells):
            (tmp_path / f"{number}.json").write_text(json.dumps(cell))
        results = load_results(tmp_path)
        return len(results.cells), [one.replace(f"{tmp_path}/", "") for one in results.warnings]

    return load


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"model_name_or_path": "models/opt-125m"}, "base model: opt-125m, but this report is about opt-1.3b"),
        ({"learning_rate": 0.01}, "learning_rate: 0.01, but 0.001 in most runs of PRO K=2 M=100"),
        ({"dev_reward_model": "b"}, "dev_reward_model: 'b', but 'a' in most runs of PRO K=2 M=100"),
        ({"max_train_steps": 50}, "max_train_steps: 50, but 100 in most runs of PRO K=2 M=100"),
    ],
)
def test_a_replicate_that_was_trained_otherwise_is_left_out(load, changed, why):
    assert load(runs(**changed)) == (3, [f"left out 3.json: {why}"])


@pytest.mark.parametrize(
    "changed",
    [
        {"model_name_or_path": "/elsewhere/opt-1.3b", "dev_reward_model": "/elsewhere/a"},
        {"per_device_train_batch_size": 1, "report_to": ["none"], "output_dir": "elsewhere"},
        {"weight_decay": 0.01},  # of a later version, which records it
    ],
)
def test_what_changes_nothing_that_a_run_learns_is_no_difference(load, changed):
    assert load(runs(**changed)) == (4, [])


def test_a_base_model_is_known_by_its_checksum_where_all_have_one(load):
    cells = runs()
    for cell in cells:
        cell["data_sha256"] = {"base_model": "a1"}
    cells[0]["data_sha256"] = {"base_model": "b2"}
    assert load(cells) == (3, ["left out 0.json: base model: b2, but this report is about a1"])


def test_a_damaged_checksum_is_another_one(load):
    cells = runs()
    for cell in cells:
        cell["data_sha256"] = {"base_model": "a1"}
    cells[3]["data_sha256"] = {"base_model": ["a1"]}
    assert load(cells) == (3, ["left out 3.json: base model: ['a1'], but this report is about a1"])


def test_precision_belongs_to_the_training(load):
    cells = runs()
    for cell in cells:
        cell["launch"] = {"mixed_precision": "bf16", "num_processes": 2}
    cells[1]["launch"] = {"mixed_precision": "no", "num_processes": 1}
    why = "mixed_precision: 'no', but 'bf16' in most runs of PRO K=2 M=100"
    assert load(cells) == (3, [f"left out 1.json: {why}"])


def test_checkpoints_are_chosen_on_the_same_dev_rows(load):
    cells = runs()
    for cell in cells:
        cell["data_sha256"] = {"dev": "a1"}
    cells[2]["data_sha256"] = {"dev": "b2"}
    assert load(cells) == (3, ["left out 2.json: dev rows: 'b2', but 'a1' in most runs of PRO K=2 M=100"])


def test_what_may_change_on_resuming_does_not_count():
    """evaluation imports nothing of training, so that this test ties the two lists."""
    assert FREE_TO_CHANGE <= OF_ITS_OWN <= {field.name for field in dataclasses.fields(TrainConfig)}


def test_settings_that_were_trained_differently_are_named(load):
    cells = [make_cell("PRO", k, 100, 42, 0.5) for k in (2, 3, 4)]
    for cell in cells:
        cell["config"] |= RUN | {"learning_rate": 0.001 * (1 + (cell["ranking_len"] == 4))}
    found = "learning_rate is 0.002 in 1 of its settings (PRO K=4 M=100)"
    assert load(cells) == (3, [f"PRO was trained in different ways, which comparisons may show: {found}"])


def test_algorithms_may_have_settings_of_their_own(load):
    cells = [make_cell(algorithm, 2, 100, 42, 0.5) for algorithm in ("PRO", "SFT")]
    cells[0]["config"]["learning_rate"], cells[1]["config"]["learning_rate"] = 0.001, 0.002
    assert load(cells) == (2, [])


def test_a_copy_under_another_seed_is_no_replicate(load):
    cells = runs()
    for cell in cells[1:3]:
        cell["files"] = cells[0]["files"]
    why = "the reward of every test prompt is that of 0.json (a copy, or training that changed nothing)"
    assert load(cells) == (2, [f"left out {number}.json: {why}" for number in (1, 2)])


def test_rewards_that_are_all_one_number_may_be_equal(load):
    cells = runs()
    for cell in cells:
        for entry in cell["files"].values():
            entry["reward"] = [1.0] * entry["n"]
            entry["mean"]["reward"], entry["interval"] = 1.0, [1.0, 1.0]
    assert load(cells) == (4, [])
