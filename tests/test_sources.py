"""Prompts of every form come out as the text that the same tagged turns give."""

import gzip
import json

import pytest

from data_preprocess.command import InputError
from data_preprocess.sources import load_prompts, prompt_text

MULTI = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Name a fruit.\n\nAssistant:"


@pytest.mark.parametrize(
    "value, text",
    [
        ("Name a fruit.", "\n\nHuman: Name a fruit.\n\nAssistant:"),
        ("", "\n\nHuman: \n\nAssistant:"),
        (MULTI, MULTI),
        ("<|assistant|>Sure", "\n\nHuman: <|assistant|>Sure\n\nAssistant:"),  # a typed tag is text
        (["<|prompter|>Hi", "<|assistant|>Hello.", "<|prompter|>Name a fruit.", "<|assistant|>"], MULTI),
        (["<|prompter|>Hi", "<|assistant|>Hello.", "<|prompter|>Name a fruit."], MULTI),
        (
            [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello."},
                {"role": "human", "content": "Name a fruit."},
                {"role": "gpt", "content": "Plum."},
            ],
            MULTI,
        ),
    ],
)
def test_prompt_text(value, text):
    assert prompt_text(value, "here") == text


@pytest.mark.parametrize(
    "value, message",
    [
        (None, "here is None"),
        ([], r"here is \[\]"),
        (3.5, "here is 3.5"),
        (["Hi"], "here: turn 'Hi'"),
        ([{"role": "user"}], "here: message .*expected role and content"),
        ([{"role": "user", "content": "a"}, "b"], "here: message 'b'"),
        ([{"role": None, "content": "a"}], "here: role None"),
        ([{"role": "system", "content": "a"}], "here: no message by a user"),
    ],
)
def test_prompt_text_refuses(value, message):
    with pytest.raises(InputError, match=message):
        prompt_text(value, "here")


def test_rankings_and_gzip(tmp_path):
    row = {"prefix": [["<|prompter|>Hi", "<|assistant|>"]], "suffix": [""], "reward": [0], "meta": {}}
    path = tmp_path / "test.json.gz"
    path.write_bytes(gzip.compress((json.dumps(row) + "\n").encode()))
    assert load_prompts(str(path)) == ["\n\nHuman: Hi\n\nAssistant:"]
    path.write_bytes(gzip.compress((json.dumps({**row, "reward": [1, 2]}) + "\n").encode()))
    with pytest.raises(InputError, match="test.json.gz:1: lengths differ"):
        load_prompts(str(path))


def test_real_rankings(shared):
    prompts = load_prompts(str(shared / "data" / "oasst1_ranked"))
    assert len(prompts) == 418
    assert prompts[0] == "\n\nHuman: What do you think about ChatGPT?\n\nAssistant:"
