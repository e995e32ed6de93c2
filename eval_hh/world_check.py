"""The embedded world on its own terms: what gold reward its test prompts allow, and what a given model gets.

Library, used by `reproduce.py --profile toy --check`, which is how the world was chosen before any study was run.
"""

from collections.abc import Callable
from pathlib import Path

from data_preprocess.records import read_rows
from data_preprocess.toy import GoldReward
from eval_hh.cells import POOLS, TEST_FILES


def gold_by_pool(root: Path, respond: Callable[[list[dict]], list[str]]) -> dict[str, float]:
    """Mean gold reward times 100 of the responses that `respond` gives to test rows, by pool of test files.

    Args:
        root: the study's root, with the world's data/hh_test.
        respond: rows of one test file -> one response each.
    """
    scores = {}
    for name in TEST_FILES:
        rows = read_rows(root / "data" / "hh_test" / f"{name}.json", training=False)
        scores[name] = GoldReward().score([row["prefix"][0] for row in rows], respond(rows))
    pools = {pool: [score for name in names for score in scores[name]] for pool, names in POOLS.items()}
    return {pool: 100 * sum(values) / len(values) for pool, values in pools.items()}


def best_responses(rows: list[dict]) -> list[str]:
    """The world's own best response to each row: the ceiling."""
    return [row["suffix"][0] for row in rows]


def model_responses(model_path: Path, max_new_tokens: int, batch_size: int) -> Callable[[list[dict]], list[str]]:
    """What a model's greedy decoding gives to each row."""
    from eval_hh.decoding import generate
    from eval_hh.models import device, load_causal_lm, load_tokenizer

    model, tokenizer = load_causal_lm(model_path).to(device()), load_tokenizer(model_path)

    def respond(rows: list[dict]) -> list[str]:
        return generate(model, tokenizer, [row["prefix"][0] for row in rows], max_new_tokens, batch_size)

    return respond
