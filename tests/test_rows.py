"""Prompts of every form come out as the text that the same tagged turns give."""

import gzip
import json

import pytest

from data_preprocess.command import InputError
from data_preprocess.dialogue import render_prompt
from data_preprocess.preparing.row_formats import LeftOut, load_texts
from data_preprocess.preparing.turns import read_dialogue

MULTI = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Name a fruit.\n\nAssistant:"


@pytest.mark.parametrize(
    "value, text",
    [
        ("Name a fruit.", "\n\nHuman: Name a fruit.\n\nAssistant:"),
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
        (
            [
                {"from": role, "value": text}
                for role, text in (("human", "Hi"), ("gpt", "Hello."), ("human", "Name a fruit."))
            ],
            MULTI,
        ),
        (
            [
                {"role": "Developer", "content": "Be brief.", "from": None},
                {"role": "User", "content": [{"type": "text", "text": "Hi"}], "from": None},
                {"role": "model", "content": ["Hello."], "from": None},
                {"role": "user", "content": "Name a fruit.", "from": None},
            ],
            MULTI,
        ),
        ("Hi\n<extra_id_1>Assistant\nHello.\n<extra_id_1>User\nName a fruit.", MULTI),  # HelpSteer2
        ('[{"role": "cook"}]', '\n\nHuman: [{"role": "cook"}]\n\nAssistant:'),  # a list, not of messages
        ("<extra_id_1>User\nHi", "\n\nHuman: <extra_id_1>User\nHi\n\nAssistant:"),  # marks in another order are text
        ("Hi\n<extra_id_1>Assistant\nHo.", "\n\nHuman: Hi\n<extra_id_1>Assistant\nHo.\n\nAssistant:"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "input_text", "text": "you"}]}],
            "\n\nHuman: Hi\nyou\n\nAssistant:",
        ),
    ],
)
def test_prompt_text(value, text):
    assert render_prompt(read_dialogue(value, "here").prompt) == text


@pytest.mark.parametrize(
    "value, message",
    [
        (None, "here is None"),
        ([], r"here is \[\]"),
        (3.5, "here is 3.5"),
        (["Hi"], "here: turn 'Hi'"),
        ([{"role": "user"}], "here: message .*expected role and content"),
        ([{"role": "user", "content": "a"}, "b"], "here: message 'b'"),
        ([{"role": None, "content": "a"}], "here: message .*expected role and content, or from and value"),
        ([{"role": "tool", "content": "a"}], "here: role 'tool' .expected system, developer, user, .* model, bot,"),
        ([{"role": "user", "content": None}], "here: content is None .expected a text, or a list of text parts"),
        ([{"role": "user", "content": []}], r"here: content is \[\]"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": "u"}]}],
            "here: content: part .*image_url.*expected text parts only",
        ),
        ([{"from": "human", "value": 3}], "here: value is 3"),
        (
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}, {"role": "user", "content": "b"}],
            "here: a message without text",
        ),
        ("", "here: a prompt without text"),
        (" \n\t", "here: a prompt without text"),
        ("\n\nHuman: \n\nAssistant:", "here: a prompt without text"),
        (["<|prompter|> ", "<|assistant|>"], "here: a prompt without text"),
        ([{"role": "system", "content": "a"}], "here: no message by a user"),
    ],
)
def test_prompt_text_refuses(value, message):
    with pytest.raises(InputError, match=message):
        read_dialogue(value, "here")


def load_prompts(path):
    return [prompt for prompt, _ in load_texts(str(path), None, "train", LeftOut())]


def test_rankings_and_gzip(tmp_path):
    row = {"prefix": [["<|prompter|>Hi", "<|assistant|>"]], "suffix": [""], "reward": [0], "meta": {}}
    path = tmp_path / "test.json.gz"
    path.write_bytes(gzip.compress((json.dumps(row) + "\n").encode()))
    assert load_prompts(path) == ["\n\nHuman: Hi\n\nAssistant:"]
    path.write_bytes(gzip.compress((json.dumps({**row, "reward": [1, 2]}) + "\n").encode()))
    with pytest.raises(InputError, match="test.json.gz:1: lengths differ"):
        load_prompts(path)


def test_real_rankings(shared):
    prompts = load_prompts(shared / "data" / "oasst1_ranked")
    assert len(prompts) == 418
    assert prompts[0] == "\n\nHuman: What do you think about ChatGPT?\n\nAssistant:"
