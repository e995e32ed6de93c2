"""Selection: greedy selection both ways on a small pool, then every strategy selecting 5,000 of 50,000 prompts.

Run: python benchmarks/run.py selection_speed [--quick] [--small N] [--prompts N] [--json FILE]
Naive: each step recounts what every candidate would add, from precomputed sets of bigrams. Ours: what sample.py
--select calls. Both start from token ids and must select the same prompts in the same order. At the large size each
strategy runs in a separate process, and its seconds include its index or vectors.
"""

import sys
import time
import warnings
from dataclasses import dataclass
from functools import partial

from benchmarks import hh_like, stand_in_models
from benchmarks.side_by_side import Comparison, Measure, Row, Settings, in_fresh_process, in_turns, sized
from data_preprocess.diversity import prompt_diversity
from data_preprocess.ngrams.token_ids import TokenIds, encode_prompts
from data_preprocess.selection import STRATEGIES, select_max_diversity, select_prompts

GREEDY = ("coverage", "per_token", "max_d", "low_d")
SHARE = 10  # one prompt in this many is selected
ROUNDS = 3


@dataclass(frozen=True)
class Sizes(Settings):
    small: int = sized("prompts of the comparison with the naive way", 1500, 300)
    prompts: int = sized("prompts of the other measurements", 50_000, 4_000)


def compare(pool: list[list[int]], size: int) -> list[Row]:
    """Runs greedy selection both ways for every bigram strategy; exits if the selected prompts differ."""
    rows = []
    for strategy in GREEDY:
        seconds, chosen = in_turns(
            partial(greedy_naively, pool, size, strategy), partial(greedy, pool, size, strategy), ROUNDS
        )
        check_choice(strategy, *chosen)
        what = f"{strategy}, greedy: {size:,} of {len(pool):,} prompts, {hh_like.source()}"
        rows.append(Comparison(what, *seconds, "s", note="the same prompts in the same order"))
    return rows


def greedy(pool: list[list[int]], size: int, strategy: str) -> list[int]:
    """Our way; max_d without its swaps."""
    if strategy == "max_d":
        return select_max_diversity(pool, size, passes=0)
    return select_prompts(pool, [size], strategy)[size]


def greedy_naively(pool: list[list[int]], size: int, strategy: str) -> list[int]:
    """Greedy selection in its plain form."""
    bigrams = [set(zip(ids, ids[1:], strict=False)) for ids in pool]
    lengths = [max(len(ids) - 1, 0) for ids in pool]
    held: set[tuple[int, int]] = set()
    chosen, left, total = [], dict.fromkeys(range(len(pool))), 0
    for _ in range(size):
        scores = {
            prompt: score(strategy, len(bigrams[prompt] - held), lengths[prompt], len(held), total) for prompt in left
        }
        best = max(scores, key=scores.__getitem__)  # the first in a tie
        chosen.append(best)
        del left[best]
        held |= bigrams[best]
        total += lengths[best]
    return chosen


def score(strategy: str, new: int, length: int, unique: int, total: int) -> float:
    """Returns the score of a candidate with `new` uncovered bigrams of `length`, given `unique` of `total` so far."""
    if strategy == "coverage":
        return new
    if strategy == "per_token":
        return new / max(length, 1)
    share = (unique + new) / max(total + length, 1)  # D without sqrt(M), the same for all candidates of a step
    return share if strategy == "max_d" else -share


def check_choice(strategy: str, naive: list[int], ours: list[int]) -> None:
    """Exits if the two ways do not select the same prompts in the same order."""
    if naive != ours:
        step = next(step for step, pair in enumerate(zip(naive, ours, strict=True)) if pair[0] != pair[1])
        sys.exit(f"error: {strategy}: prompt {ours[step]} is chosen at step {step + 1} (expected {naive[step]})")


def all_strategies(token_ids: TokenIds, threads: int) -> list[Row]:
    """Measures seconds, memory and D of every strategy, and of max_d with length matching."""
    rows, size = [], max(1, len(token_ids) // SHARE)
    for strategy, matched in [*((strategy, False) for strategy in STRATEGIES), ("max_d", True)]:
        (seconds, note), peak = in_fresh_process(threads, choose, token_ids, size, strategy, matched)
        what = f"{strategy}{' matched in length' * matched}: {size:,} of {len(token_ids):,} prompts"
        rows += [
            Measure(what, seconds, "s", "under 60", note),
            Measure(f"{what}, peak memory", peak, "MiB", "under 2048"),
        ]
    return rows


def choose(token_ids: TokenIds, size: int, strategy: str, matched: bool) -> tuple[float, str]:
    """Returns (seconds of a selection; its D and mean length, and whether the time limit ended it)."""
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        chosen = select_prompts(token_ids, [size], strategy, matched)[size]
    seconds = time.perf_counter() - began
    diversity = prompt_diversity([token_ids[index] for index in chosen])
    limit = any("limit" in str(warning.message) for warning in caught)
    ended = ", swaps ended by their limit of seconds" if limit else ""
    return seconds, f"D {diversity:.2f}, {token_ids.lengths[chosen].mean():.0f} tokens a prompt{ended}"


def measure(sizes: Sizes) -> list[Row]:
    prompts = hh_like.rendered(hh_like.prompts(max(sizes.small, sizes.prompts)))
    token_ids = encode_prompts(stand_in_models.llama_tokenizer(), prompts)
    rows = compare([ids.tolist() for ids in token_ids[: sizes.small]], max(1, sizes.small // SHARE))
    lengths = token_ids.lengths[: sizes.prompts]
    return rows + all_strategies(TokenIds(token_ids.flat[: lengths.sum()], lengths), sizes.threads)
