"""Prompts, replies and rankings with the lengths of HH-RLHF, for the benchmarks.

The text is HH-RLHF's own if ../shared/data/hh_rlhf exists (or $HH_RLHF names such a folder). Otherwise it consists of
made-up words, in the numbers of hh_lengths.json: percentiles 0 to 100 of words per prompt and per reply over the
release's test files. No rankings of 4 are public, so each prompt is given replies drawn with a seed.
"""

import os
from functools import cache
from pathlib import Path
from random import Random

import numpy as np

from data_preprocess.command import REPOSITORY
from data_preprocess.dialogue import ASSISTANT, PROMPTER, render_prompt
from data_preprocess.files import read_json
from data_preprocess.preparing.raw_hh import SOURCES, read_split
from data_preprocess.records import Record

SHARED = REPOSITORY.parent / "shared"
LENGTHS = Path(__file__).with_name("hh_lengths.json")
MADE_UP = 8000  # prompts made up if there are no real ones, about as many as in the release's test files
SYLLABLES = [consonant + vowel for consonant in "bcdfghklmnprstvw" for vowel in ("a", "e", "i", "o", "u", "ea", "ou")]


def raw_folder() -> Path | None:
    """Returns the folder of real HH-RLHF, or None."""
    folder = Path(os.environ.get("HH_RLHF") or SHARED / "data" / "hh_rlhf")
    return folder if folder.is_dir() else None


def source() -> str:
    """Describes the text in a few words, for the results."""
    return "real HH-RLHF text" if raw_folder() else "made-up words in HH-RLHF's lengths"


@cache
def corpus() -> tuple[list[list[str]], list[str]]:
    """Returns (prompts, each a list of turns that ends with a bare tag; non-empty replies)."""
    folder = raw_folder()
    if folder is None:
        return _made_up()
    pairs = [pair for name in SOURCES for pair in read_split(str(folder), name, "test", published=False).pairs]
    pairs = [pair for pair in pairs if pair.prefix[-1] == ASSISTANT]
    return [pair.prefix for pair in pairs], [text for pair in pairs for text in pair.responses if text.strip()]


def _made_up() -> tuple[list[list[str]], list[str]]:
    lengths, rng = read_json(LENGTHS), Random(0)
    words = [rng.choice(SYLLABLES) + rng.choice(SYLLABLES) * rng.randint(0, 2) for _ in range(20000)]

    def text(kind: str) -> str:
        n_words = max(1, round(np.interp(100 * rng.random(), range(101), lengths[kind])))
        # Squaring the draw favours the first words, as language favours frequent ones.
        return " ".join(words[int(len(words) * rng.random() ** 2)] for _ in range(n_words))

    prompts = [[PROMPTER + text("prompt_words"), ASSISTANT] for _ in range(MADE_UP)]
    return prompts, [text("reply_words") for _ in range(MADE_UP)]


def prompts(count: int, seed: int = 0) -> list[list[str]]:
    """Returns `count` prompts in a seeded order; if there are fewer, they are repeated with one word changed."""
    pool, rng = list(corpus()[0]), Random(seed)
    rng.shuffle(pool)
    repeats = [_edited(pool[rng.randrange(len(pool))], rng) for _ in range(count - len(pool))]
    return pool[:count] + repeats


def _edited(turns: list[str], rng: Random) -> list[str]:
    """Returns the prompt with random syllables appended to one word of its last turn with text."""
    *before, turn, tag = turns
    words = turn.split(" ")
    words[rng.randrange(1, len(words)) if len(words) > 1 else 0] += "".join(rng.choices(SYLLABLES, k=3))
    return [*before, " ".join(words), tag]


def replies(count: int, seed: int = 0) -> list[str]:
    """Returns `count` replies, drawn with replacement."""
    return Random(seed).choices(corpus()[1], k=count)


def rankings(count: int, ranking_len: int, seed: int = 0) -> list[Record]:
    """Returns prompts with `ranking_len` drawn replies each, and rewards that fall from 1 in steps of 1/2."""
    texts = replies(count * ranking_len, seed)
    rewards = [1 - k / 2 for k in range(ranking_len)]
    return [
        Record(turns, texts[i * ranking_len : (i + 1) * ranking_len], rewards)
        for i, turns in enumerate(prompts(count, seed))
    ]


def rendered(turns_list: list[list[str]]) -> list[str]:
    """Returns the prompts as a language model reads them."""
    return [render_prompt(turns) for turns in turns_list]
