"""Samples or selects subsets of the rankings of K responses and records the diversity of their prompts.

Run: cd data_preprocess; python sample.py K [K ...] [--sizes M ...] [--tokenizer PATH_OR_NAME]
         [--select STRATEGY] [--match_length] [--max_tokens N]
Reads data/original/hh_train_lenK/train.json, writes data/hh_train_lenK_M/train.json for every K and size M and adds
their diversity to data/record_hh_train.json, all under STUDY_ROOT. Selections other than random are named in both:
data/hh_train_lenK_M_max_d/, "M_max_d", and with --match_length "M_max_d_matched". All files are written or none.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.command import (
    InputError,
    check_settings,
    check_text,
    count,
    parse_settings,
    run,
    setting,
    study_root,
)
from data_preprocess.dialogue import render_prompt
from data_preprocess.diversity import TOKENIZER_HELP, Diversity, default_tokenizer, diversity_curve, nested_diversity
from data_preprocess.diversity_record import DiversityRecord
from data_preprocess.files import write_files
from data_preprocess.hub import load_tokenizer
from data_preprocess.ngrams.strategies import NGRAM
from data_preprocess.ngrams.token_ids import TokenIds, encode_prompts
from data_preprocess.selection import STRATEGIES, select_prompts, select_within_tokens, selection_name
from data_preprocess.subsets import RANDOM, RankingLine, Subset, read_lines_of, sample_subsets, subset_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SIZES = (36000, 24000, 16000, 12000, 6000, 3000, 2000, 1500)


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Which subsets to make."""

    ranking_len: tuple[int, ...] = setting(
        "responses per prompt", count(at_least=2, at_most=1000), metavar="K", positional=True
    )
    sizes: tuple[int, ...] | None = setting(
        "prompts per subset (default: the paper's, 36000 to 1500)", count(), metavar="M", default=None
    )
    tokenizer: str | None = setting(TOKENIZER_HELP, check_text, default=None)
    select: str = setting(
        "how prompts are selected; subsets are nested, except for max_d and with --match_length",
        choices=STRATEGIES,
        default=RANDOM,
    )
    match_length: bool = setting("keep the mean length in tokens within 5% of that of all prompts", default=False)
    max_tokens: int | None = setting(
        "instead of --sizes: select one subset of at most N prompt tokens",
        count(),
        metavar="N",
        default=None,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.max_tokens is not None:
            for flag, given in (("--sizes", self.sizes), ("--match_length", self.match_length)):
                if given:
                    raise InputError(f"--max_tokens and {flag} (expected one of them: both set the subset size)")

    @property
    def selection(self) -> str:
        return selection_name(self.select, self.match_length)


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(SampleConfig, argv, __doc__)
    sizes, selection = config.sizes or SIZES, config.selection
    data = study_root() / "data"
    rankings = {k: read_lines_of(data, k) for k in config.ranking_len}
    if config.max_tokens is None:
        for ranking_len, rows in rankings.items():
            check_sizes(sizes, len(rows), ranking_len)
    record = DiversityRecord(data)

    tokenizer_name = config.tokenizer or default_tokenizer()
    tokenizer = load_tokenizer(tokenizer_name)
    if selection == RANDOM and config.max_tokens is None:
        subsets, prompts = sample_subsets(data, rankings, sizes)
        curves = nested_diversity(tokenizer, prompts, sizes, NGRAM)
    else:
        subsets, curves = select_subsets(data, rankings, tokenizer, config)
    for ranking_len, curve in curves.items():
        for size, diversity in curve.items():
            record.add(Subset(ranking_len, size, selection).key, diversity, tokenizer_name)
    write_files({**subsets, **record.texts()})
    for ranking_len, curve in curves.items():
        for size, diversity in curve.items():
            file = subset_file(data, ranking_len, size, selection)
            print(f"{file}: {size} rows, diversity {diversity.score:.4f}")


def select_subsets(
    data: Path, rankings: dict[int, list[RankingLine]], tokenizer: "PreTrainedTokenizerBase", config: SampleConfig
) -> tuple[dict[Path, list[bytes]], dict[int, dict[int, Diversity]]]:
    """Returns the lines of every selected subset's file, and the diversity of its prompts by K and size.

    Consecutive K with equal prompts (from split.py) are tokenised and selected once, so their subsets share prompts.
    """
    selection = config.selection
    subsets, curves, pool = {}, {}, None
    for ranking_len, rows in rankings.items():
        prompts = [row.turns for row in rows]
        if prompts != pool:
            pool = prompts
            token_ids = encode_prompts(tokenizer, [render_prompt(turns) for turns in prompts])
            chosen = choose(token_ids, config)
            curve = {
                size: diversity_curve([token_ids[index] for index in indices], [size], NGRAM)[size]
                for size, indices in chosen.items()
            }
        curves[ranking_len] = curve
        for size, indices in chosen.items():
            subsets[subset_file(data, ranking_len, size, selection)] = [rows[index].line for index in indices]
    return subsets, curves


def choose(token_ids: TokenIds, config: SampleConfig) -> dict[int, list[int]]:
    """Returns the indices of the selected prompts, by size."""
    if config.max_tokens is None:
        return select_prompts(token_ids, config.sizes or SIZES, config.select, config.match_length)
    indices = select_within_tokens(token_ids, config.max_tokens, config.select)
    if not indices:
        found = f"{config.max_tokens} are fewer tokens than the first prompt chosen has"
        raise InputError(f"--max_tokens: {found} (prompts have {token_ids.lengths.mean():.0f} in the mean)")
    return {len(indices): indices}


def check_sizes(sizes: Sequence[int], n_rows: int, ranking_len: int) -> None:
    """Raises InputError for a size outside 1 to the number of rows."""
    for size in sizes:
        if not 1 <= size <= n_rows:
            found = f"{size} rows of {ranking_len} responses requested, only {n_rows} available"
            raise InputError(f"--sizes: {found} (expected 1 to {n_rows})")


if __name__ == "__main__":
    run(main)
