"""Checks the embedded world itself, before any study: what there is to learn, and what makes D rise with M.

Used by `reproduce.py --profile toy --check`, with which the world was chosen.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from data_preprocess.dialogue import render_prompt
from data_preprocess.diversity import RECORD
from data_preprocess.files import read_json
from data_preprocess.ngrams.token_ids import encode_prompts
from data_preprocess.ranking import SEED, nested_subsets, rankings_file
from data_preprocess.records import read_rows
from data_preprocess.toy_world.facts import STATEMENTS
from data_preprocess.toy_world.gold_reward import GoldReward, read_prompt
from data_preprocess.toy_world.word_tokenizer import filler_words
from eval_hh.cells import POOLS, TEST_FILES

Respond = Callable[[list[dict]], list[str]]  # rows of one test file -> one response each
Bigram = tuple[int, int]


def check_lines(root: Path, ranking_len: int, responders: dict[str, Respond], reward_model_metrics: dict) -> list[str]:
    """Returns Markdown: gold rewards of the responders and of training data, D by M, and the reward model's metrics.

    Args:
        root: the study's root, with the world's data, the rankings of split.py and the subsets of sample.py.
        ranking_len: responses of the rankings that split.py cuts.
        responders: by name, for the table of gold rewards on the test prompts.
        reward_model_metrics: of train_reward.py.
    """
    lines = ["| gold reward x 100 | " + " | ".join(POOLS) + " |", "|---|" + "---|" * len(POOLS)]
    for name, respond in responders.items():
        scores = gold_by_pool(root, respond)
        lines.append(f"| {name} | " + " | ".join(f"{scores[pool]:.1f}" for pool in POOLS) + " |")
    lines += ["", "| K | gold reward x 100 of the best response of K |", "|---|---|"]
    lines += [f"| {k} | {100 * best_of(root, k):.1f} |" for k in range(2, ranking_len + 1)]
    sizes = [int(size) for size in read_json(root / "data" / RECORD) if size.isdigit()]  # not of selected subsets
    lines += ["", *diversity_table(root, sizes), ""]
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


def best_of(root: Path, ranking_len: int) -> float:
    """Returns the mean gold reward of the first response of all rankings of this length: the target of SFT."""
    rows = read_rows(rankings_file(root / "data", ranking_len))
    scores = GoldReward().score([row["prefix"][0] for row in rows], [row["suffix"][0] for row in rows])
    return sum(scores) / len(scores)


def diversity_table(root: Path, sizes: Sequence[int]) -> list[str]:
    """Returns a Markdown table of D, D without filler and the facts asked about, by number of prompts."""
    from data_preprocess.hub import load_tokenizer

    tokenizer = load_tokenizer(root / "data" / "toy" / "tokenizer")
    rows = read_rows(rankings_file(root / "data", 2))  # the prompts are the same for every K
    facts = [asked_facts(row["prefix"][0]) for row in rows]
    ids = [list(each) for each in encode_prompts(tokenizer, [render_prompt(row["prefix"][0]) for row in rows])]
    filler = {i for word, i in tokenizer.get_vocab().items() if word.strip(" ") in filler_words()}
    prompts = [list(zip(each, each[1:], strict=False)) for each in ids]
    content = [[bigram for bigram in each if not filler & set(bigram)] for each in prompts]
    lines = [
        "| M | D | D of content | distinct bigrams | with filler | facts asked about |",
        "|---|---|---|---|---|---|",
    ]
    subsets = nested_subsets(list(range(len(rows))), sorted(sizes), SEED)
    for size, chosen in subsets.items():
        n_all, d_all = distinct_and_d([prompts[i] for i in chosen])
        n_content, d_content = distinct_and_d([content[i] for i in chosen])
        known = len(set().union(*(facts[i] for i in chosen))) / len(set().union(*facts))
        share = 1 - n_content / n_all
        lines.append(f"| {size} | {d_all:.2f} | {d_content:.2f} | {n_all} | {share:.0%} | {known:.0%} |")
    return [*lines, "", f"Filler is every bigram with one of: {' '.join(sorted(filler_words())).strip()}"]


def distinct_and_d(prompts: Sequence[Iterable[Bigram]]) -> tuple[int, float]:
    """Returns the number of distinct bigrams and D of prompts given as bigrams."""
    found = [bigram for prompt in prompts for bigram in prompt]
    return len(set(found)), math.sqrt(len(prompts)) * len(set(found)) / len(found)


def asked_facts(turns: Sequence[str]) -> set[tuple[str, str, int]]:
    """Returns (class, word, index) of each fact that the answer to a prompt consists of."""
    words, asked = read_prompt(tuple(turns))
    parts = [part for name in asked for part in STATEMENTS[name].parts]
    return {(name, words[name], index) for name, index in parts if name != "victim"}


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
