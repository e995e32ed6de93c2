"""labelling/written_prompts.py: what a generator is asked, and what its texts come to, by hand."""

import pytest

from data_preprocess.dialogue import render_prompt
from data_preprocess.preparing.candidates import prompt_id
from labelling.written_prompts import EXAMPLES, FIRST, NEXT, cleaned, openings, requests, written


def test_a_request_is_a_dialogue_in_which_the_examples_were_written():
    (turns,) = requests(["How are you?"], 1, 0)
    assert render_prompt(turns) == f"\n\nHuman: {FIRST}\n\nAssistant: How are you?\n\nHuman: {NEXT}\n\nAssistant:"
    many = [f"Example {i}?" for i in range(30)]
    asked = requests(many, 50, 1)
    assert all(len(turns) == 2 * EXAMPLES + 2 and len(set(turns[1:-1:2])) == EXAMPLES for turns in asked)
    assert {turn for turns in asked for turn in turns[1:-1:2]} == {f"<|assistant|>{text}" for text in many}
    assert requests(many, 80, 1)[:50] == asked != requests(many, 50, 2)


def test_examples_are_first_turns_of_people():
    prompts = [
        ["<|prompter|>Hi ", "<|assistant|>Hello", "<|prompter|>Why?", "<|assistant|>"],
        ["<|assistant|>Hi", "<|prompter|>Yes", "<|assistant|>"],
        ["<|prompter|>Hi", "<|assistant|>"],
        ["<|prompter|>  ", "<|assistant|>"],
        ["<|prompter|>What is amber?", "<|assistant|>"],
    ]
    assert openings(prompts) == ["Hi", "What is amber?"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is amber?", "What is amber?"),
        ("  3. What is amber?\n\nAnd another:\n\n4. No", "What is amber?"),
        ("- \u201cWhat is amber?\u201d", "What is amber?"),
        ('Human: "What is it?"', "What is it?"),
        ("Two lines\nare one prompt", "Two lines\nare one prompt"),
        ('He said "no" and "yes"', 'He said "no" and "yes"'),
        ("3.5 is what of 7?", "3.5 is what of 7?"),
        ("\u00c9t\u00e9?", "\u00c9t\u00e9?"),
        ("", None),
        ("12. ", None),
        ("...", None),
        ("42", None),
        ("What is <|assistant|> for?", None),
    ],
)
def test_cleaning_by_hand(text, expected):
    assert cleaned(text) == expected


def test_texts_without_a_prompt_give_none():
    (one,) = written(["", "1) Why?"], "m")
    assert one.prefix == ["<|prompter|>Why?", "<|assistant|>"] and one.responses == []
    assert one.meta == {"id": prompt_id(one.prefix), "written_by": "m"}
