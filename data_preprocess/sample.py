"""Samples nested subsets of the rankings of K responses and records their prompts' diversity.

Run: cd data_preprocess; python sample.py K [K ...] [--sizes M ...] [--tokenizer PATH_OR_NAME]
Reads data/original/hh_train_lenK/train.json, writes data/hh_train_lenK_M/train.json for every K and size M and
merges the diversity into data/record_hh_train.json, all under STUDY_ROOT. Nothing is written unless everything
can be.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.diversity import (
    RECORD,
    RECORD_TOKENIZERS,
    TOKENIZER_HELP,
    Diversity,
    default_tokenizer,
    nested_diversity,
)
from data_preprocess.files import InputError, read_json, run, study_root, write_files
from data_preprocess.subsets import read_lines_of, sample_subsets, subset_file

SIZES = (36000, 24000, 16000, 12000, 6000, 3000, 2000, 1500)
NGRAM = 2


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    data = study_root() / "data"
    rankings = {k: read_lines_of(data, k) for k in args.ranking_len}
    for ranking_len, rows in rankings.items():
        check_sizes(args.sizes, len(rows), ranking_len)
    record_path = data / RECORD
    record = read_record(record_path)
    tokenizers_path = data / RECORD_TOKENIZERS

    from eval_hh.models import load_tokenizer

    tokenizer_name = args.tokenizer or default_tokenizer()
    tokenizer = load_tokenizer(tokenizer_name)
    subsets, prompts = sample_subsets(data, rankings, args.sizes)
    curves = nested_diversity(tokenizer, prompts, args.sizes, NGRAM)
    for curve in curves.values():
        record |= {str(size): {str(NGRAM): record_entry(diversity)} for size, diversity in curve.items()}
    tokenizers = read_record(tokenizers_path) | dict.fromkeys(map(str, args.sizes), under_root(tokenizer_name))
    records = {record_path: record, tokenizers_path: tokenizers}
    write_files({**subsets, **{path: [json.dumps(content, indent=4) + "\n"] for path, content in records.items()}})
    for ranking_len, curve in curves.items():
        for size, diversity in curve.items():
            print(f"{subset_file(data, ranking_len, size)}: {size} rows, diversity {diversity.score:.4f}")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ranking_len", type=int, nargs="+", metavar="K", help="responses per prompt")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="prompts per subset")
    parser.add_argument("--tokenizer", help=TOKENIZER_HELP)
    return parser.parse_args(argv)


def check_sizes(sizes: list[int], n_rows: int, ranking_len: int) -> None:
    """InputError for a size that is not from 1 to the number of rows."""
    for size in sizes:
        if not 1 <= size <= n_rows:
            found = f"{size} rows of {ranking_len} responses asked for, there are {n_rows}"
            raise InputError(f"--sizes: {found} (expected 1 to {n_rows})")


def under_root(name: str) -> str:
    """A folder under STUDY_ROOT by its path there, which stays true when the root moves; else the name as it is."""
    path = Path(name).resolve()
    is_inside = path.is_dir() and path.is_relative_to(study_root())
    return path.relative_to(study_root()).as_posix() if is_inside else name


def read_record(path: Path) -> dict:
    """A record so far, by size; empty where there is none yet."""
    record = read_json(path) if path.exists() else {}
    if not isinstance(record, dict):
        raise InputError(f"{path}:1: expected a JSON object of sizes (remove the file to start a new record)")
    return record


def record_entry(diversity: Diversity) -> dict:
    """One entry of the record, under the published names."""
    return {
        "#filtered_ngrams": diversity.unique,
        "#all_ngrams": diversity.total,
        "#samples": diversity.samples,
        "diversity": diversity.score,
    }


if __name__ == "__main__":
    run(main)
