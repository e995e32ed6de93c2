"""Diversity of the paper's 8 nested sizes for K = 2, 3, 4, and its cost for up to a million prompts.

Run: python benchmarks/run.py diversity_counts [--quick] [--prompts N] [--curve N ...] [--threads N] [--json FILE]
Naive: as in the published scripts, every subset of every K is tokenised prompt by prompt and its n-grams are put into a
set of its own. Ours: what sample.py calls. Both start from the prompts' turns.
"""

import sys
import time
from dataclasses import dataclass
from itertools import groupby
from math import sqrt

from benchmarks import hh_like, stand_in_models
from benchmarks.side_by_side import Row, Settings, in_fresh_process, in_turns, sized
from data_preprocess.dialogue import render_prompt
from data_preprocess.diversity import Diversity, diversity_curve
from data_preprocess.ngrams.token_ids import encode_prompts

RANKING_LENS = (4, 3, 2)
SIZES = (36000, 24000, 16000, 12000, 6000, 3000, 2000, 1500)  # the paper's
MAX_TOKENS = 512
Counts = tuple[int, int, float]  # U, T, D


@dataclass(frozen=True)
class Sizes(Settings):
    prompts: int = sized("the largest size; the others scale with it", SIZES[0], SIZES[0] // 10)
    curve: tuple[int, ...] = sized(
        "numbers of prompts for the time and memory curve", (10_000, 100_000, 1_000_000), (1000, 10_000, 100_000)
    )


def compare(sizes: list[int]) -> list[Row]:
    """Runs both ways on the same prompts: tokenising and counting, then counting alone; exits if the counts differ."""
    tokenizer, prompts = stand_in_models.llama_tokenizer(), hh_like.prompts(sizes[0])
    prompts_of = {ranking_len: list(prompts) for ranking_len in RANKING_LENS}
    both, found = in_turns(
        lambda: naive_diversity(tokenizer, prompts_of, sizes), lambda: shared_diversity(tokenizer, prompts_of, sizes)
    )
    check_counts(*found)
    token_ids = encode_prompts(tokenizer, hh_like.rendered(prompts))
    lists = [ids.tolist() for ids in token_ids]
    counting = in_turns(
        lambda: [count_naively(lists[:size]) for _ in RANKING_LENS for size in sizes],
        lambda: diversity_curve(token_ids, sizes),
        rounds=3,
    ).seconds
    subsets = f"{len(sizes)} nested sizes up to {sizes[0]:,} for K = 2, 3, 4"
    return [
        Row(f"diversity of {subsets}, {hh_like.source()}", *both, "s", "20x", "one round"),
        Row("counting alone, of the same", *counting, "s", "40x", "all K share their prompts: ours counts once"),
        Row("subsets whose U, T and D both ways agree on", None, len(sizes) * len(RANKING_LENS), "of them", "all"),
    ]


def naive_diversity(tokenizer, prompts_of: dict[int, list[list[str]]], sizes: list[int]) -> dict[int, dict]:
    """Returns `Counts` by K and size, each subset computed separately."""
    return {
        ranking_len: {size: count_naively([encode_one(tokenizer, turns) for turns in prompts[:size]]) for size in sizes}
        for ranking_len, prompts in prompts_of.items()
    }


def shared_diversity(
    tokenizer, prompts_of: dict[int, list[list[str]]], sizes: list[int]
) -> dict[int, dict[int, Diversity]]:
    """Our way: consecutive K with equal prompts are tokenised and counted once, as in sample.py."""
    curves = {}
    for prompts, ranking_lens in groupby(prompts_of, key=prompts_of.get):
        curve = diversity_curve(encode_prompts(tokenizer, hh_like.rendered(prompts)), sizes)
        curves |= dict.fromkeys(ranking_lens, curve)
    return curves


def encode_one(tokenizer, turns: list[str]) -> list[int]:
    ids = tokenizer(render_prompt(turns), add_special_tokens=False, verbose=False)["input_ids"]
    return [tokenizer.bos_token_id, *ids][:MAX_TOKENS]


def count_naively(token_ids: list[list[int]]) -> Counts:
    """Returns U, T and D of the bigrams of one subset."""
    seen, total = set(), 0
    for ids in token_ids:
        for bigram in zip(ids, ids[1:], strict=False):
            seen.add(bigram)
            total += 1
    return len(seen), total, sqrt(len(token_ids)) * len(seen) / total


def check_counts(naive: dict[int, dict[int, Counts]], ours: dict) -> None:
    """Exits if the two ways do not count the same, to the last bit of D."""
    for ranking_len, by_size in naive.items():
        for size, expected in by_size.items():
            result = ours[ranking_len][size]
            found = (result.unique, result.total, result.score)
            if found != expected:
                sys.exit(f"error: K {ranking_len}, {size} prompts: U, T, D are {found} (expected {expected})")


def curve_point(count: int, threads: int) -> list[Row]:
    """Measures seconds, speed and memory for one number of prompts, in a separate process."""
    (tokenising, counting, n_tokens), peak = in_fresh_process(threads, measure_prompts, count)
    what = f"{count:,} prompts of {n_tokens / count:.0f} tokens"
    parts = f"tokenising {tokenising:.3g} s, counting {counting:.3g} s"
    seconds = tokenising + counting
    return [
        Row(f"{what}, tokenised and counted", None, seconds, "s", note=parts),
        Row(f"{what}, speed", None, n_tokens / seconds, "tokens/s", "the same for all sizes"),
        Row(f"{what}, peak memory with the texts", None, peak, "MiB", "under 4096"),
    ]


def measure_prompts(count: int) -> tuple[float, float, int]:
    """Returns (seconds of tokenising, seconds of counting, number of tokens)."""
    tokenizer, prompts = stand_in_models.llama_tokenizer(), hh_like.rendered(hh_like.prompts(count))
    began = time.perf_counter()
    token_ids = encode_prompts(tokenizer, prompts)
    encoded = time.perf_counter()
    diversity_curve(token_ids, [count])
    return encoded - began, time.perf_counter() - encoded, len(token_ids.flat)


def measure(sizes: Sizes) -> list[Row]:
    rows = compare([max(1, size * sizes.prompts // SIZES[0]) for size in SIZES])
    for count in sizes.curve:
        rows += curve_point(count, sizes.threads)
    return rows
