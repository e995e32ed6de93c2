"""Samples nested subsets of the rankings of K responses and records their prompts' diversity.

Run: cd data_preprocess; python sample.py K [--sizes M ...] [--tokenizer PATH_OR_NAME]
Reads data/original/hh_train_lenK/train.json, writes data/hh_train_lenK_M/train.json for every size M and
merges the diversity into data/record_hh_train.json, all under STUDY_ROOT. Nothing is written unless
everything can be.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.dialogue import render_prompt
from data_preprocess.diversity import TOKENIZER_HELP, Diversity, default_tokenizer
from data_preprocess.files import InputError, atomic_write, read_json, run, study_root, write_jsonl_files
from data_preprocess.ranking import nested_subsets
from data_preprocess.records import read_rankings

SIZES = (36000, 24000, 16000, 12000, 6000, 3000, 2000, 1500)
SEED = 42
NGRAM = 2


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ranking_len", type=int, metavar="K", help="responses per prompt")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="prompts per subset")
    parser.add_argument("--tokenizer", help=TOKENIZER_HELP)
    args = parser.parse_args(argv)
    data = study_root() / "data"
    rows = read_rankings(data / "original" / f"hh_train_len{args.ranking_len}", args.ranking_len)
    check_sizes(args.sizes, len(rows))
    record_path = data / "record_hh_train.json"
    record = read_record(record_path)
    subsets = nested_subsets(rows, args.sizes, SEED)
    curve = measure(subsets[max(args.sizes)], args.sizes, args.tokenizer or default_tokenizer())
    paths = {size: data / f"hh_train_len{args.ranking_len}_{size}" / "train.json" for size in subsets}
    record |= {str(size): {str(NGRAM): record_entry(curve[size])} for size in subsets}
    with atomic_write(record_path) as file:
        file.write(json.dumps(record, indent=4) + "\n")
        write_jsonl_files({paths[size]: rows for size, rows in subsets.items()})
    for size, path in paths.items():
        print(f"{path}: {size} rows, diversity {curve[size].score:.4f}")


def check_sizes(sizes: list[int], n_rows: int) -> None:
    """InputError for a size that is not from 1 to the number of rows."""
    for size in sizes:
        if not 1 <= size <= n_rows:
            raise InputError(f"--sizes: {size} rows asked for, there are {n_rows} (expected 1 to {n_rows})")


def measure(rows: list[dict], sizes: list[int], tokenizer_name: str) -> dict[int, Diversity]:
    """Diversity of the first M rows' prompts for every M in sizes."""
    from data_preprocess.diversity import diversity_curve, encode_prompts
    from eval_hh.models import load_tokenizer

    prompts = [render_prompt(row["prefix"][0]) for row in rows]
    return diversity_curve(encode_prompts(load_tokenizer(tokenizer_name), prompts), sizes, NGRAM)


def read_record(path: Path) -> dict:
    """The diversity record so far, by size and then n; empty where there is none yet."""
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
