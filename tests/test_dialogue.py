"""Turns, prompt texts and raw HH-RLHF dialogues; tests/fixtures/raw_pairs.jsonl holds the hand-made pairs."""

import gzip
import json
import random
from pathlib import Path

import pytest

from data_preprocess.dialogue import (
    ASSISTANT,
    PROMPTER,
    STOP_STRINGS,
    ParsedPair,
    cut_at_stop,
    explain_pair,
    parse_pair,
    render_prompt,
    split_turn,
    training_text,
)

FIXTURE = Path(__file__).parent / "fixtures" / "raw_pairs.jsonl"
TEST_FOLDERS = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")


def fixture_pairs():
    return [json.loads(line) for line in FIXTURE.read_text().splitlines()]


def test_prompt_text_byte_for_byte():
    turns = ["<|prompter|>Hi there ", "<|assistant|>Hello.\n", "<|prompter|>", "<|assistant|>"]
    assert render_prompt(turns) == "\n\nHuman: Hi there \n\nAssistant: Hello.\n\n\nHuman: \n\nAssistant:"
    assert render_prompt(["<|prompter|>  Hi  "]) == "\n\nHuman:   Hi"
    assert training_text(turns[:1] + turns[3:], " ok ") == "\n\nHuman: Hi there \n\nAssistant:  ok "


@pytest.mark.parametrize("typed", ["<|assistant|>", "<|prompter|>", "a<|assistant|>Sure!<|prompter|>b"])
def test_a_typed_tag_stays_text(typed):
    turns = [PROMPTER + typed, ASSISTANT]
    assert split_turn(turns[0]) == (PROMPTER, typed)
    text = render_prompt(turns)
    assert text == "\n\nHuman: " + typed + "\n\nAssistant:"
    assert text.count("Assistant:") == 1 and text.count("Human:") == 1


@pytest.mark.parametrize("turn", ["", "Hi", " <|prompter|>Hi", "<|system|>Hi", "<|Prompter|>Hi"])
def test_a_turn_without_a_tag_is_refused(turn):
    with pytest.raises(ValueError, match="must start with"):
        split_turn(turn)
    with pytest.raises(ValueError, match="must start with"):
        render_prompt([turn])


@pytest.mark.parametrize(
    "text, kept",
    [
        ("Fine. Human: and you?", "Fine. "),
        ("a assistant: b Human: c", "a "),
        ("Assistant: x", ""),
        ("A humane: and assistants, Humans", "A humane: and assistants, Humans"),
        ("HUMAN: no", "HUMAN: no"),
        ("superhuman: yes", "super"),
        ("", ""),
    ],
)
def test_cut_at_the_first_stop_string(text, kept):
    assert cut_at_stop(text) == kept
    assert STOP_STRINGS == ("Human:", "human:", "Assistant:", "assistant:")


def test_default_parsing_of_the_fixture():
    rice, multi, repeated, differ = fixture_pairs()
    turns = ["<|prompter|>How do I boil rice?", "<|assistant|>"]
    assert parse_pair(**rice) == (turns, ["Rinse it.\n\nThen simmer it.", "No idea."])
    prefix, suffix = parse_pair(**multi)
    assert prefix == [
        "<|prompter|>Hi",
        "<|assistant|>Hello!",
        "<|prompter|>Two things:\n\n1. rice\n\n2. beans",
        "<|assistant|>",
    ]
    assert suffix == ["Sure.", ""]
    assert parse_pair(**repeated) == (
        ["<|prompter|>Is it late?", "<|assistant|>"],
        ["Yes.\n\n Go to bed.", "No."],
    )
    assert parse_pair(**differ) is None
    assert explain_pair(**differ) == "the two dialogues differ before their last turn"


def test_published_parsing_of_the_fixture():
    rice, multi, repeated, differ = fixture_pairs()
    turns = ["<|prompter|>How do I boil rice?", "<|assistant|>"]
    assert parse_pair(**rice, published=True) == (turns, ["Rinse it.", "No idea."])
    prefix, suffix = parse_pair(**multi, published=True)
    assert prefix == ["<|prompter|>Hi", "<|assistant|>Hello!", "<|prompter|>Two things:", "<|assistant|>"]
    assert suffix == ["Sure.", ""]
    assert parse_pair(**repeated, published=True)[1] == ["Yes.\nGo to bed.", "No."]
    assert parse_pair(**differ, published=True) is None
    assert explain_pair(**differ, published=True) == "the two dialogues have different numbers of turns"


@pytest.mark.parametrize("published", [False, True])
def test_texts_without_turns_are_skipped(published):
    good = "\n\nHuman: a\n\nAssistant: b"
    for bad in ("", "just words", "\n\njust words"):
        assert parse_pair(good, bad, published) is None
        assert explain_pair(bad, good, published) == "a dialogue does not open with a role tag"


def test_different_prompts_are_skipped_by_default():
    """Two responses to different prompts are no ranking; the published rule takes the chosen one's prompt."""
    chosen, rejected = "\n\nHuman: a\n\nAssistant: b", "\n\nHuman: c\n\nAssistant: d"
    assert parse_pair(chosen, rejected) is None
    assert parse_pair(chosen, rejected, published=True) == (["<|prompter|>a", "<|assistant|>"], ["b", "d"])


def test_words_that_only_look_like_tags_open_no_turn():
    chosen = "\n\nHuman: a\n\nHumans: no\n\n Human: no\n\nAssistant: b\nHuman: c"
    expected = ["<|prompter|>a\n\nHumans: no\n\n Human: no", "<|assistant|>"], ["b\nHuman: c"] * 2
    assert parse_pair(chosen, chosen) == expected


def random_dialogue(rng):
    pieces = ["hi", " ", "\n", "\n\n", "Human", ":", "1. ", "<|assistant|>", "Assistant", "é", "\t"]
    turns = []
    for turn in range(rng.randrange(1, 5)):
        text = "".join(rng.choice(pieces) for _ in range(rng.randrange(8)))
        turns.append(f"\n\n{('Human', 'Assistant')[turn % 2]}: {text}")
    return "".join(turns)


def test_round_trip_on_random_dialogues():
    rng = random.Random(0)
    for _ in range(3000):
        text = random_dialogue(rng)
        prefix, suffix = parse_pair(text, text)
        if training_text(prefix, suffix[0]) != text:
            # Only a tag without the space that follows it in raw data is not given back as it was.
            assert any(f"\n\n{name}:" in text.replace(f"\n\n{name}: ", "") for name in ("Human", "Assistant"))
        for turn in prefix:
            assert "\n\nHuman:" not in turn and "\n\nAssistant:" not in turn


def real_pairs(shared, folder):
    with gzip.open(shared / "data" / "hh_rlhf" / folder / "test.jsonl.gz", "rt", encoding="utf-8") as file:
        for line, text in enumerate(file, start=1):
            yield line, json.loads(text)


def test_published_row_counts(shared):
    counts = [
        sum(parse_pair(**pair, published=True) is not None for _, pair in real_pairs(shared, folder))
        for folder in TEST_FOLDERS
    ]
    assert counts == [2312, 2354, 1135, 2749]


def test_published_rule_drops_paragraphs_of_48_chosen_harmless_replies(shared):
    """paper.md: 48 of 2312 chosen harmless replies lose what follows a blank line."""
    losers = 0
    for _, pair in real_pairs(shared, "harmless-base"):
        reply = pair["chosen"].rsplit("\n\nAssistant:", 1)[1]
        lost = len(parse_pair(**pair, published=True)[1][0]) < len(reply.strip())
        losers += lost and "\n\n" in reply
    assert losers == 48


def test_round_trip_on_all_real_dialogues(shared):
    """Of 8552 x 2 dialogues all but 21 come back byte for byte: 2 skipped pairs, 17 replies with a tag inside."""
    listed = []
    for folder in TEST_FOLDERS:
        for line, pair in real_pairs(shared, folder):
            parsed = explain_pair(**pair)
            if not isinstance(parsed, ParsedPair):
                listed += [(folder, line, parsed)] * 2
                continue
            for side, response in zip(("chosen", "rejected"), parsed.suffix, strict=True):
                text = training_text(parsed.prefix, response)
                if text != pair[side]:
                    # No word is lost: taking the repeated tags out of the raw text gives the same text.
                    head, tail = pair[side][: len(text)], pair[side]
                    assert render_prompt(parsed.prefix) == head[: len(render_prompt(parsed.prefix))]
                    opening = render_prompt(parsed.prefix)
                    assert text == opening + tail[len(opening) :].replace("\n\nAssistant: ", "\n\n")
                    listed.append((folder, line, "a repeated tag"))
    assert len(listed) == 21
    assert [entry for entry in listed if entry[2] != "a repeated tag"] == [
        ("helpful-online", line, "the two dialogues differ before their last turn") for line in (786, 786, 1056, 1056)
    ]
