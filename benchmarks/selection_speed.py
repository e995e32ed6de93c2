"""Selection: greedy choice both ways on a small pool, then every strategy at 50,000 prompts, 5,000 of them chosen.

Run: python benchmarks/selection_speed.py [--quick] [--small N] [--prompts N] [--json FILE]
Naive: each step counts anew what every candidate would add, from sets of bigrams made once. Ours: what sample.py
--select calls. Both start from token ids, and the benchmark ends where they do not choose the same prompts in the same
order. At the large size each strategy runs in a process of its own, with its index or its vectors in the seconds.
"""

import sys
import time
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import hh_like, stand_in_models
from benchmarks.side_by_side import Comparison, Measure, Row, Settings, benchmark, in_fresh_process, in_turns, sized
from data_preprocess.command import run
from data_preprocess.diversity import prompt_diversity
from data_preprocess.ngrams.token_ids import TokenIds, encode_prompts
from data_preprocess.selection import STRATEGIES, select_max_diversity, select_prompts

GREEDY = ("coverage", "per_token", "max_d", "low_d")
SHARE = 10  # one prompt of so many is chosen
ROUNDS = 3


@dataclass(frozen=True)
class Sizes(Settings):
    small: int = sized("prompts of the comparison", 1500, 300)
    prompts: int = sized("prompts of the rest", 50_000, 4_000)


def compare(pool: list[list[int]], size: int) -> list[Row]:
    """Greedy choice both ways, by every strategy that counts bigrams; ends where the chosen prompts differ."""
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
    """Ours, of max_d without its swaps."""
    if strategy == "max_d":
        return select_max_diversity(pool, size, passes=0)
    return select_prompts(pool, [size], strategy)[size]


def greedy_naively(pool: list[list[int]], size: int, strategy: str) -> list[int]:
    """The greedy choice as one would write it down."""
    bigrams = [set(zip(ids, ids[1:], strict=False)) for ids in pool]
    lengths = [max(len(ids) - 1, 0) for ids in pool]
    held: set[tuple[int, int]] = set()
    chosen, left, total = [], dict.fromkeys(range(len(pool))), 0
    for _ in range(size):
        scores = {
            prompt: score(strategy, len(bigrams[prompt] - held), lengths[prompt], len(held), total) for prompt in left
        }
        best = max(scores, key=scores.__getitem__)  # the first of equal ones
        chosen.append(best)
        del left[best]
        held |= bigrams[best]
        total += lengths[best]
    return chosen


def score(strategy: str, new: int, length: int, unique: int, total: int) -> float:
    """A candidate's, of `new` bigrams among its `length`, with `unique` among `total` chosen so far."""
    if strategy == "coverage":
        return new
    if strategy == "per_token":
        return new / max(length, 1)
    share = (unique + new) / max(total + length, 1)  # D but for sqrt(M), which all candidates of a step have
    return share if strategy == "max_d" else -share


def check_choice(strategy: str, naive: list[int], ours: list[int]) -> None:
    """Ends the benchmark where the two ways do not choose the same prompts in the same order."""
    if naive != ours:
        step = next(step for step, pair in enumerate(zip(naive, ours, strict=True)) if pair[0] != pair[1])
        sys.exit(f"error: {strategy}: prompt {ours[step]} is chosen at step {step + 1} (expected {naive[step]})")


def all_strategies(token_ids: TokenIds, threads: int) -> list[Row]:
    """Seconds, memory and D of every strategy, and of max_d matched in length."""
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
    """(Seconds of a choice; its D and mean length, and whether the limit of seconds ended it)."""
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


def main(argv: list[str] | None = None) -> None:
    benchmark(measure, argv, __doc__, Sizes)


if __name__ == "__main__":
    run(main)
