"""The task file for lm-evaluation-harness reads this project's rows as the project does."""

from pathlib import Path

import pytest
import yaml
from eval_study import dialogue_row
from jinja2 import Environment, StrictUndefined

from data_preprocess.dialogue import render_prompt

TASK = yaml.safe_load((Path(__file__).parents[1] / "eval_hh" / "harness" / "hh_pairs.yaml").read_text("utf-8"))
TURNS = [
    ["<|prompter|>Hi there?", "<|assistant|>"],
    ["<|prompter|> a ", "<|assistant|>b", "<|prompter|>What is \\n {{ x }}?", "<|assistant|>"],
    dialogue_row("How do I fix a tap?", 1)["prefix"][0],
]


def rendered(name, row):
    return Environment(undefined=StrictUndefined).from_string(TASK[name]).render(**row)


@pytest.mark.parametrize("turns", TURNS)
def test_its_prompt_is_the_published_text(turns):
    assert rendered("doc_to_text", {"prefix": [turns, turns]}) == render_prompt(turns)


def test_its_choices_are_the_responses_and_the_best_comes_first():
    row = dialogue_row("Hi", 0)
    assert yaml.safe_load(rendered("doc_to_choice", row)) == row["suffix"] and TASK["doc_to_target"] == 0
    assert "target_delimiter" not in TASK, "the harness puts a space before a choice, as the published text does"
