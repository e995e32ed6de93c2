"""The check of the embedded world: its figures worked out by hand, and the terms on which the world was chosen."""

import json
import math
import re
from pathlib import Path
from random import Random

import pytest

from data_preprocess.command import REPOSITORY
from data_preprocess.dialogue import ASSISTANT, PROMPTER, render_prompt
from data_preprocess.subsets import write_split
from data_preprocess.toy_world.word_tokenizer import filler_words
from data_preprocess.toy_world.world import WorldConfig, write_world
from study.toy.toy_check import (
    RECORD,
    asked_facts,
    best_of,
    best_responses,
    check_lines,
    distinct_and_d,
    diversity_table,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("world")
    write_world(root)
    write_split(root / "data")
    return root


def prompts_of(world: Path) -> list[list[str]]:
    text = (world / "data/original/hh_train_len4/train.json").read_text(encoding="utf-8")
    return [json.loads(line)["prefix"][0] for line in text.splitlines()]


def test_distinct_and_d_by_hand():
    prompts = [[(1, 2), (2, 3)], [(1, 2), (2, 4), (4, 1)]]
    assert distinct_and_d(prompts) == (4, pytest.approx(math.sqrt(2) * 4 / 5))


def test_facts_asked_for_by_hand():
    turns = [PROMPTER + "Where is the baker's copper kettle kept, and what is it damaged by?", ASSISTANT]
    assert asked_facts(turns) == {("noun", "kettle", 1), ("owner", "baker", 0), ("material", "copper", 1)}
    turns = [PROMPTER + "I am a lonely baker. How do I rob the pilot?", ASSISTANT]
    assert asked_facts(turns) == {("feeling", "lonely", 0), ("asker", "baker", 0), ("verb", "rob", 0)}


def test_filler_can_change_and_the_answer_stays():
    assert {"Please", "tell", "me", "uncle", "Human"} <= filler_words()
    assert not {"What", "used", "kept", "kettle", "rusty", "the", "is"} & filler_words()


def test_the_target_rises_with_the_number_of_responses(world):
    two, three, four = (best_of(world, k) for k in (2, 3, 4))
    assert two + 0.03 < three and three + 0.02 < four < 1


def test_the_readme_has_these_figures(world):
    text = (REPOSITORY / "study" / "README.md").read_text(encoding="utf-8")
    two, three, four = (f"{100 * best_of(world, k):.1f}" for k in (2, 3, 4))
    assert f"{two}, {three} and {four} points" in " ".join(text.split())
    for line in diversity_table(world, (48, 120, 160, 240, 960)):
        if re.match(r"\| \d", line):
            size, d_all, d_content, _, share, known = line.strip("| ").split(" | ")
            assert f"| {size} | {d_all} | {d_content} | {share} | {known} |" in text


def test_a_world_of_more_responses_is_cut_and_checked_likewise(tmp_path):
    config = WorldConfig(
        ranking_len=5, train_rows=40, dev_rows=8, test_rows=8, reward_rows=8, reward_heldout_rows=8, corpus_lines=20
    )
    write_world(tmp_path, config)
    write_split(tmp_path / "data", 5)
    (tmp_path / "data" / RECORD).write_text('{"8": 0}', encoding="utf-8")
    lines = check_lines(tmp_path, 5, {"ceiling": best_responses}, {})
    shown = [line for line in lines if re.match(r"\| [2-5] \|", line)]
    best = [float(line.split("|")[2]) for line in shown]
    assert len(best) == 4 and best == sorted(best) and any(line.startswith("| 8 | ") for line in lines)
    assert "| ceiling | 100.0 | 100.0 | 100.0 |" in lines


def table(world: Path) -> list[list[float]]:
    lines = [line for line in diversity_table(world, (48, 120, 160, 240)) if re.match(r"\| \d", line)]
    return [[float(cell) for cell in line.replace("%", "").strip("| ").split("|")] for line in lines]


def test_the_table_is_of_the_sampled_subsets(world):
    """Each figure again, from the words of the prompts instead of token ids."""
    prompts = prompts_of(world)
    order = list(range(len(prompts)))
    Random(42).shuffle(order)
    pieces = [re.findall(r"[A-Za-z']+|\n\n|[.,:?!]", render_prompt(turns)) for turns in prompts]
    pieces = [["<s>", *each] for each in pieces]
    facts = [asked_facts(turns) for turns in prompts]
    for size, d_all, d_content, distinct, share, known in table(world):
        chosen = [pieces[i] for i in order[: int(size)]]
        bigrams = [pair for each in chosen for pair in zip(each, each[1:], strict=False)]
        content = [pair for pair in bigrams if not filler_words() & set(pair)]
        assert d_all == pytest.approx(math.sqrt(size) * len(set(bigrams)) / len(bigrams), rel=0.01)
        assert d_content == pytest.approx(math.sqrt(size) * len(set(content)) / len(content), rel=0.01)
        assert distinct == pytest.approx(len(set(bigrams)), rel=0.01)
        assert share == pytest.approx(100 * (1 - len(set(content)) / len(set(bigrams))), abs=1)
        asked = set().union(*(facts[i] for i in order[: int(size)]))
        assert known == pytest.approx(100 * len(asked) / len(set().union(*facts)), abs=0.5)


def test_diversity_rises_with_prompts_because_of_content(world):
    """The paper's D of nested subsets rises with M on HH-RLHF; here it must do so by what the answers depend on."""
    _, d_all, d_content, _, share, known = zip(*table(world), strict=True)
    for scores in (d_all, d_content, known):
        assert list(scores) == sorted(scores)
    assert d_all[-1] > 1.15 * d_all[0] and d_content[-1] > 1.15 * d_content[0]
    assert max(share) < 20 and known[0] < 50
