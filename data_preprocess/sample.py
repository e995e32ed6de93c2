"""Samples nested subsets of the rankings of K responses, or selects some, and records their prompts' diversity.

Run: cd data_preprocess; python sample.py K [K ...] [--sizes M ...] [--tokenizer PATH_OR_NAME]
         [--select STRATEGY] [--match_length] [--max_tokens N]
Reads data/original/hh_train_lenK/train.json, writes data/hh_train_lenK_M/train.json for every K and size M and
merges the diversity into data/record_hh_train.json, all under STUDY_ROOT. Another selection than the random one has
its name in both: data/hh_train_lenK_M_max_d/, "M_max_d", and with --match_length "M_max_d_matched". Nothing is
written unless everything can be.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.command import InputError, check_flags, check_text, count, run, study_root
from data_preprocess.dialogue import render_prompt
from data_preprocess.diversity import TOKENIZER_HELP, Diversity, default_tokenizer, diversity_curve, nested_diversity
from data_preprocess.diversity_record import DiversityRecord
from data_preprocess.files import write_files
from data_preprocess.ngrams.strategies import NGRAM
from data_preprocess.ngrams.token_ids import TokenIds, encode_prompts
from data_preprocess.selection import STRATEGIES, select_prompts, select_within_tokens, selection_name
from data_preprocess.subsets import RANDOM, RankingLine, Subset, read_lines_of, sample_subsets, subset_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHECKS = {
    "ranking_len": count(at_least=2, at_most=1000), "sizes": count(), "max_tokens": count(), "tokenizer": check_text
}  # fmt: skip
SIZES = (36000, 24000, 16000, 12000, 6000, 3000, 2000, 1500)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    selection = selection_name(args.select, args.match_length)
    data = study_root() / "data"
    rankings = {k: read_lines_of(data, k) for k in args.ranking_len}
    if args.max_tokens is None:
        for ranking_len, rows in rankings.items():
            check_sizes(args.sizes, len(rows), ranking_len)
    record = DiversityRecord(data)

    from data_preprocess.hub import load_tokenizer

    tokenizer_name = args.tokenizer or default_tokenizer()
    tokenizer = load_tokenizer(tokenizer_name)
    if selection == RANDOM and args.max_tokens is None:
        subsets, prompts = sample_subsets(data, rankings, args.sizes)
        curves = nested_diversity(tokenizer, prompts, args.sizes, NGRAM)
    else:
        subsets, curves = select_subsets(data, rankings, tokenizer, args)
    for ranking_len, curve in curves.items():
        for size, diversity in curve.items():
            record.add(Subset(ranking_len, size, selection).key, diversity, tokenizer_name)
    write_files({**subsets, **record.texts()})
    for ranking_len, curve in curves.items():
        for size, diversity in curve.items():
            file = subset_file(data, ranking_len, size, selection)
            print(f"{file}: {size} rows, diversity {diversity.score:.4f}")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ranking_len", type=int, nargs="+", metavar="K", help="responses per prompt")
    parser.add_argument("--sizes", type=int, nargs="+", help="prompts per subset (default: the paper's, 36000 to 1500)")
    parser.add_argument("--tokenizer", help=TOKENIZER_HELP)
    parser.add_argument(
        "--select", choices=STRATEGIES, default=RANDOM,
        help="which prompts (default: random). Smaller subsets lie in larger ones, but for max_d and --match_length",
    )  # fmt: skip
    parser.add_argument(
        "--match_length", action="store_true", help="mean length in tokens within 5%% of that of all prompts"
    )
    parser.add_argument(
        "--max_tokens", type=int, metavar="N",
        help="instead of --sizes: one subset, chosen until its prompts would have more than N tokens",
    )  # fmt: skip
    args = parser.parse_args(argv)
    check_flags(vars(args), CHECKS)
    if args.max_tokens is not None:
        for flag, given in (("--sizes", args.sizes), ("--match_length", args.match_length)):
            if given:
                raise InputError(f"--max_tokens and {flag} (expected one of them: both say how much is chosen)")
    args.sizes = args.sizes or list(SIZES)
    return args


def select_subsets(
    data: Path, rankings: dict[int, list[RankingLine]], tokenizer: "PreTrainedTokenizerBase", args: argparse.Namespace
) -> tuple[dict[Path, list[bytes]], dict[int, dict[int, Diversity]]]:
    """The lines of every selected subset's file, and by K and size the diversity of its prompts.

    K with the same prompts, as split.py cuts them, are tokenised and selected once, so that they share their prompts.
    """
    selection = selection_name(args.select, args.match_length)
    subsets, curves, pool = {}, {}, None
    for ranking_len, rows in rankings.items():
        prompts = [row.turns for row in rows]
        if prompts != pool:
            pool = prompts
            token_ids = encode_prompts(tokenizer, [render_prompt(turns) for turns in prompts])
            chosen = choose(token_ids, args)
            curve = {
                size: diversity_curve([token_ids[index] for index in indices], [size], NGRAM)[size]
                for size, indices in chosen.items()
            }
        curves[ranking_len] = curve
        for size, indices in chosen.items():
            subsets[subset_file(data, ranking_len, size, selection)] = [rows[index].line for index in indices]
    return subsets, curves


def choose(token_ids: TokenIds, args: argparse.Namespace) -> dict[int, list[int]]:
    """The indices of the prompts that the flags ask for, by size."""
    if args.max_tokens is None:
        return select_prompts(token_ids, args.sizes, args.select, args.match_length)
    indices = select_within_tokens(token_ids, args.max_tokens, args.select)
    if not indices:
        found = f"{args.max_tokens} are fewer tokens than the first prompt chosen has"
        raise InputError(f"--max_tokens: {found} (prompts have {token_ids.lengths.mean():.0f} in the mean)")
    return {len(indices): indices}


def check_sizes(sizes: list[int], n_rows: int, ranking_len: int) -> None:
    """InputError for a size that is not from 1 to the number of rows."""
    for size in sizes:
        if not 1 <= size <= n_rows:
            found = f"{size} rows of {ranking_len} responses asked for, there are {n_rows}"
            raise InputError(f"--sizes: {found} (expected 1 to {n_rows})")


if __name__ == "__main__":
    run(main)
