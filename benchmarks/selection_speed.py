"""Selection: every strategy selecting 5,000 of 50,000 prompts, from their token ids, as sample.py --select calls it.

Run: python benchmarks/run.py selection_speed [--quick] [--prompts N] [--json FILE]
Each strategy runs in a separate process, and its seconds include its index or vectors.
"""

import time
import warnings
from dataclasses import dataclass

from benchmarks import hh_like, stand_in_models
from benchmarks.side_by_side import Row, Settings, in_fresh_process, sized
from data_preprocess.diversity import prompt_diversity
from data_preprocess.ngrams.token_ids import TokenIds, encode_prompts
from data_preprocess.selection import STRATEGIES, select_prompts

SHARE = 10  # one prompt in this many is selected


@dataclass(frozen=True)
class Sizes(Settings):
    prompts: int = sized("prompts to select from", 50_000, 4_000)


def all_strategies(token_ids: TokenIds, threads: int) -> list[Row]:
    """Measures seconds, memory and D of every strategy, and of max_d with length matching."""
    rows, size = [], max(1, len(token_ids) // SHARE)
    for strategy, matched in [*((strategy, False) for strategy in STRATEGIES), ("max_d", True)]:
        (seconds, note), peak = in_fresh_process(threads, choose, token_ids, size, strategy, matched)
        what = f"{strategy}{' matched in length' * matched}: {size:,} of {len(token_ids):,} prompts"
        rows += [
            Row(what, None, seconds, "s", "under 60", note),
            Row(f"{what}, peak memory", None, peak, "MiB", "under 2048"),
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
    prompts = hh_like.rendered(hh_like.prompts(sizes.prompts))
    return all_strategies(encode_prompts(stand_in_models.llama_tokenizer(), prompts), sizes.threads)
