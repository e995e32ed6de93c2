"""Prompt diversity D = sqrt(M) * U / T of the paper: M prompts with U distinct among T token n-grams.

Run: cd data_preprocess; python diversity.py SOURCE [--column NAME] [--tokenizer PATH_OR_NAME] [--sizes M ...]
Prints n, U, T, M and D. SOURCE is prompts or rankings in any format of README.md. --compare adds distinct-n,
compression ratio, self-BLEU, Vendi score and Jaccard, with intervals, for prompts and responses.
"""

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.command import InputError, check_settings, count, parse_settings, run, setting, study_root
from data_preprocess.files import without_nan, write_json
from data_preprocess.hub import SOURCE_FORMS, load_tokenizer
from data_preprocess.ngrams.new_ngrams import new_ngrams
from data_preprocess.ngrams.token_ids import TokenIds, encode_prompts, packed
from data_preprocess.outputs import check_output_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEFAULT_TOKENIZER = "huggyllama/llama-7b"
TOKENIZER_HELP = f"folder or name of a tokenizer (default: $LLaMA_path, else {DEFAULT_TOKENIZER})"
RECORD = "record_hh_train.json"  # in data/: D of every subset, by size and then n, in the published format
# The published format has no field for the tokenizer, so a separate file holds it, by size.
RECORD_TOKENIZERS = "record_hh_train_tokenizers.json"
# Nor for the responses, which differ between the K of a size: their diversity by subset, as "len4_1500".
RECORD_RESPONSES = "record_hh_train_responses.json"


@dataclass(frozen=True)
class Diversity:
    """Counts and D of one set of prompts."""

    unique: int  # U, distinct n-grams
    total: int  # T, all n-grams
    samples: int  # M, prompts
    score: float  # sqrt(M) * U / T; 0 if no prompt has an n-gram


def default_tokenizer() -> str:
    """Returns $LLaMA_path, the variable of the published scripts, else LLaMA's name on the hub."""
    return os.environ.get("LLaMA_path") or DEFAULT_TOKENIZER


def under_root(name: str) -> str:
    """Returns a folder under STUDY_ROOT as its relative path, which survives moving the root; other names unchanged."""
    path = Path(name).resolve()
    is_inside = path.is_dir() and path.is_relative_to(study_root())
    return path.relative_to(study_root()).as_posix() if is_inside else name


def prompt_diversity(token_ids: Sequence[Sequence[int]], n: int = 2) -> float:
    """Returns D over all prompts: sqrt(M) * U / T for token n-grams; 0.0 if all prompts are shorter than n tokens."""
    size = len(token_ids)
    return diversity_curve(token_ids, [size], n)[size].score


def diversity_curve(token_ids: Sequence[Sequence[int]], sizes: Sequence[int], n: int = 2) -> dict[int, Diversity]:
    """Returns D of the first M prompts for every M in sizes, in one pass.

    A distinct n-gram counts at its first prompt, so a running sum gives U of all subsets. No n-gram crosses prompts.

    Args:
        token_ids: one sequence of token ids per prompt.
        sizes: numbers of leading prompts, each from 0 to len(token_ids).
        n: tokens per n-gram, at least 1.
    """
    for size in sizes:
        if not 0 <= size <= len(token_ids):
            raise ValueError(f"size {size} (expected 0 to {len(token_ids)}, the number of prompts)")
    ids = packed(token_ids)
    unique = np.concatenate([[0], np.cumsum(new_ngrams(ids, n))])
    total = np.concatenate([[0], np.cumsum(np.maximum(ids.lengths - n + 1, 0))])
    return {size: _diversity(int(unique[size]), int(total[size]), size) for size in sizes}


def _diversity(unique: int, total: int, samples: int) -> Diversity:
    return Diversity(unique, total, samples, math.sqrt(samples) * unique / total if total else 0.0)


@dataclass(frozen=True, kw_only=True)
class DiversityConfig:
    """Which prompts to measure, and how."""

    source: str = setting(f"prompts or rankings: {SOURCE_FORMS}", positional=True)
    column: str | None = setting(
        "field of the prompt: text, tagged turns, or messages with role and content", default=None
    )
    split: str = setting("split of a data set", default="train")
    tokenizer: str | None = setting(TOKENIZER_HELP, default=None)
    n: tuple[int, ...] = setting("tokens per n-gram", count(at_most=1000), default=(1, 2, 3, 4))
    sizes: tuple[int, ...] | None = setting("measure the first M prompts (default: all)", default=None)
    compare: bool = setting("add distinct-n, compression ratio, self-BLEU, Vendi score, Jaccard", default=False)
    json: str | None = setting("also write the tables to FILE", metavar="FILE", default=None)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.json is not None:
            check_output_file("json", self.json, {"source": [self.source]})
        if self.compare and self.sizes:
            raise InputError("--compare and --sizes (expected one of them: --compare measures all prompts)")


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(DiversityConfig, argv, __doc__)
    from data_preprocess.preparing.row_formats import LeftOut, load_texts

    left_out = LeftOut()
    texts, prompts = [], []
    for prompt, responses in load_texts(config.source, config.column, config.split, left_out):
        prompts.append(prompt)
        if config.compare:  # otherwise responses are not needed
            texts.append((prompt, responses))
    print("".join(f"{line}\n" for line in left_out.notes()), end="", file=sys.stderr)
    sizes = config.sizes or [len(prompts)]
    for size in sizes:
        if not 1 <= size <= len(prompts):
            expected = f"expected 1 to {len(prompts)}, the number of prompts in {config.source}"
            raise InputError(f"--sizes: {size} ({expected})")
    if config.compare and len(prompts) < 2:
        raise InputError(f"--compare: {config.source} holds one prompt (expected two or more)")
    name = config.tokenizer or default_tokenizer()
    tokenizer = load_tokenizer(name)
    token_ids = encode_prompts(tokenizer, prompts)
    curves = {n: diversity_curve(token_ids, sizes, n) for n in config.n}
    rows = [{"n": n, **asdict(result)} for n, curve in curves.items() for result in curve.values()]
    print(format_table(rows))
    found = {"source": config.source, "tokenizer": name, "diversity": rows}
    if config.compare:
        found["compare"] = compare(texts, token_ids, tokenizer)
    if config.json:
        write_json(config.json, found, indent=4)


def compare(
    texts: list[tuple[str, list[str]]], token_ids: TokenIds, tokenizer: "PreTrainedTokenizerBase"
) -> dict[str, list[dict]]:
    """Prints all measures of the prompts and, for rankings, of the responses per prompt; returns JSON values."""
    from data_preprocess.ngrams.other_measures import compare_prompts, compare_responses, format_measures

    measures = {"prompts": compare_prompts([prompt for prompt, _ in texts], token_ids)}
    rankings = [responses for _, responses in texts if len(responses) > 1]
    if rankings:
        measures["responses to a prompt, in the mean over prompts"] = compare_responses(rankings, tokenizer)
    for name, found in measures.items():
        print(f"\n{name}:\n{format_measures(found)}")
    return without_nan({name.split()[0]: [asdict(one) for one in found] for name, found in measures.items()})


def format_table(rows: list[dict]) -> str:
    """Formats rows {n, unique, total, samples, score} as aligned columns n, U, T, M, D."""
    lines = [f"{'n':>2} {'U':>12} {'T':>13} {'M':>9} {'D':>10}"]
    for row in rows:
        counts = f"{row['n']:>2} {row['unique']:>12} {row['total']:>13} {row['samples']:>9}"
        lines.append(f"{counts} {row['score']:>10.4f}")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
