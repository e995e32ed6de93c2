"""Checks the embedded world itself: the gold reward that its test prompts allow, and the one that a given model gets.

Used by `reproduce.py --profile toy --check`, with which the world was chosen before any study was run.
"""

from collections.abc import Callable
from pathlib import Path

from data_preprocess.diversity import RECORD
from data_preprocess.files import read_json
from data_preprocess.records import read_rows
from data_preprocess.toy_world.gold_reward import GoldReward
from eval_hh.cells import POOLS, TEST_FILES

Respond = Callable[[list[dict]], list[str]]  # rows of one test file -> one response each


def check_lines(root: Path, responders: dict[str, Respond], reward_model_metrics: dict) -> list[str]:
    """Returns Markdown: the gold rewards of each responder, D of each subset size, and the reward model's metrics."""
    lines = ["| gold reward x 100 | " + " | ".join(POOLS) + " |", "|---|" + "---|" * len(POOLS)]
    for name, respond in responders.items():
        scores = gold_by_pool(root, respond)
        lines.append(f"| {name} | " + " | ".join(f"{scores[pool]:.1f}" for pool in POOLS) + " |")
    record = read_json(root / "data" / RECORD)
    lines += ["", *(f"- D of {size} prompts: {record[size]['2']['diversity']:.2f}" for size in reversed(record))]
    return lines + [f"- reward model, {name}: {value}" for name, value in reward_model_metrics.items()]


def gold_by_pool(root: Path, respond: Respond) -> dict[str, float]:
    """Returns the mean gold reward x 100 of the responses of `respond` to the test rows, by pool of test files.

    Args:
        root: the study's root, with the world's data/hh_test.
        respond: generates the responses.
    """
    scores = {}
    for name in TEST_FILES:
        rows = read_rows(root / "data" / "hh_test" / f"{name}.json", training=False)
        scores[name] = GoldReward().score([row["prefix"][0] for row in rows], respond(rows))
    pools = {pool: [score for name in names for score in scores[name]] for pool, names in POOLS.items()}
    return {pool: 100 * sum(values) / len(values) for pool, values in pools.items()}


def best_responses(rows: list[dict]) -> list[str]:
    """Returns the world's own best response to each row: the ceiling."""
    return [row["suffix"][0] for row in rows]


def model_responses(model_path: Path, max_new_tokens: int, batch_size: int) -> Respond:
    """Returns a function that gives a model's greedy response to each row."""
    from data_preprocess.hub import load_tokenizer
    from eval_hh.inference.decoding import generate
    from eval_hh.inference.models import device, load_causal_lm

    model, tokenizer = load_causal_lm(model_path).to(device()), load_tokenizer(model_path)

    def respond(rows: list[dict]) -> list[str]:
        return generate(model, tokenizer, [row["prefix"][0] for row in rows], max_new_tokens, batch_size)

    return respond
