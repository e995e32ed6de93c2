"""Selection: greedy choice both ways on a small pool, then every strategy at 50,000 prompts, 5,000 of them chosen.

Run: python benchmarks/selection_speed.py [--quick] [--small N] [--prompts N] [--json FILE]
Naive: each step counts anew what every candidate would add, from sets of bigrams made once. Ours: what sample.py
--select calls. Both start from token ids, and the benchmark ends where they do not choose the same prompts in the same
order. At the large size each strategy runs in a process of its own, with its index or its vectors in the seconds.
"""

import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import hh_like, llama_like
from benchmarks.side_by_side import Comparison, Measure, Row, in_turns, parser, peak_memory, report
from data_preprocess.command import run
from data_preprocess.ngrams.token_ids import TokenIds, encode_prompts

GREEDY = ("coverage", "per_token", "max_d", "low_d")
SMALL, PROMPTS = 1500, 50_000
QUICK_SMALL, QUICK_PROMPTS = 300, 4_000
SHARE = 10  # one prompt of so many is chosen
ROUNDS = 3


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("--small", type=int, help=f"prompts of the comparison (default: {SMALL}, quick: {QUICK_SMALL})")
    made.add_argument("--prompts", type=int, help=f"prompts of the rest (default: {PROMPTS}, quick: {QUICK_PROMPTS})")
    args = made.parse_args(argv)
    small, large = (QUICK_SMALL, QUICK_PROMPTS) if args.quick else (SMALL, PROMPTS)
    small, large = args.small or small, args.prompts or large
    os.environ["RAYON_NUM_THREADS"] = str(args.threads)
    token_ids = encode_prompts(llama_like.tokenizer(), hh_like.rendered(hh_like.prompts(max(small, large))))
    rows = compare([ids.tolist() for ids in token_ids[:small]], max(1, small // SHARE))
    report(rows + all_strategies(token_ids, large, args.threads), args.json)


def compare(pool: list[list[int]], size: int) -> list[Row]:
    """Greedy choice both ways, by every strategy that counts bigrams; ends where the chosen prompts differ."""
    rows = []
    for strategy in GREEDY:
        found: dict[str, list[int]] = {}
        seconds = in_turns(
            lambda strategy=strategy, found=found: found.update(naive=greedy_naively(pool, size, strategy)),
            lambda strategy=strategy, found=found: found.update(ours=greedy(pool, size, strategy)),
            ROUNDS,
            warm_up=False,
        )
        check_choice(strategy, found["naive"], found["ours"])
        what = f"{strategy}, greedy: {size:,} of {len(pool):,} prompts, {hh_like.source()}"
        rows.append(Comparison(what, *seconds, "s", note="the same prompts in the same order"))
    return rows


def greedy(pool: list[list[int]], size: int, strategy: str) -> list[int]:
    """Ours, of max_d without its swaps."""
    from data_preprocess.selection import select_max_diversity, select_prompts

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


def all_strategies(token_ids: TokenIds, count: int, threads: int) -> list[Row]:
    """Seconds, memory and D of every strategy, and of max_d matched in length."""
    from data_preprocess.selection import STRATEGIES

    rows, size = [], max(1, count // SHARE)
    with tempfile.TemporaryDirectory() as folder:
        pool, result = Path(folder) / "pool.npz", Path(folder) / "result"
        np.savez(pool, flat=token_ids.flat, lengths=token_ids.lengths)
        for strategy, matched in [*((strategy, False) for strategy in STRATEGIES), ("max_d", True)]:
            peak = peak_memory(measure, pool, count, size, strategy, matched, threads, result)
            seconds, diversity, length, ended = result.read_text().split()
            what = f"{strategy}{' matched in length' * matched}: {size:,} of {count:,} prompts"
            limit = ", swaps ended by their limit of seconds" if int(ended) else ""
            note = f"D {float(diversity):.2f}, {float(length):.0f} tokens a prompt{limit}"
            rows += [
                Measure(what, float(seconds), "s", "under 60", note),
                Measure(f"{what}, peak memory", peak, "MiB", "under 2048"),
            ]
    return rows


def measure(pool: Path, count: int, size: int, strategy: str, matched: bool, threads: int, result: Path) -> None:
    """Writes seconds, D and mean length of a choice, and whether the limit of seconds ended it, into `result`."""
    from data_preprocess.diversity import prompt_diversity
    from data_preprocess.ngrams import sparse_rows
    from data_preprocess.selection import select_prompts

    sparse_rows.THREADS = threads
    with np.load(pool) as stored:
        lengths = stored["lengths"][:count]
        token_ids = TokenIds(stored["flat"][: lengths.sum()], lengths)
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        chosen = select_prompts(token_ids, [size], strategy, matched)[size]
    seconds = time.perf_counter() - began
    diversity = prompt_diversity([token_ids[index] for index in chosen])
    ended = sum("limit" in str(warning.message) for warning in caught)
    result.write_text(f"{seconds} {diversity} {lengths[chosen].mean()} {ended}")


if __name__ == "__main__":
    run(main)
