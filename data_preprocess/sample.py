"""Samples nested subsets of the rankings of K responses and records their prompts' diversity.

Run: cd data_preprocess; python sample.py K [K ...] [--sizes M ...] [--tokenizer PATH_OR_NAME]
Reads data/original/hh_train_lenK/train.json, writes data/hh_train_lenK_M/train.json for every K and size M and
merges the diversity into data/record_hh_train.json, all under STUDY_ROOT. Nothing is written unless everything
can be.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.dialogue import render_prompt
from data_preprocess.diversity import (
    RECORD,
    RECORD_TOKENIZERS,
    TOKENIZER_HELP,
    Diversity,
    default_tokenizer,
    diversity_curve,
    encode_prompts,
)
from data_preprocess.files import InputError, json_lines, read_json, run, study_root, write_files
from data_preprocess.ranking import nested_subsets
from data_preprocess.records import read_rankings

SIZES = (36000, 24000, 16000, 12000, 6000, 3000, 2000, 1500)
SEED = 42
NGRAM = 2


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    data = study_root() / "data"
    by_len = {k: read_rankings(data / "original" / f"hh_train_len{k}", k) for k in args.ranking_len}
    for ranking_len, rows in by_len.items():
        check_sizes(args.sizes, len(rows), ranking_len)
    record_path = data / RECORD
    record = read_record(record_path)
    tokenizers_path = data / RECORD_TOKENIZERS

    from eval_hh.models import load_tokenizer

    tokenizer_name = args.tokenizer or default_tokenizer()
    tokenizer = load_tokenizer(tokenizer_name)
    outputs: dict[Path, Iterable[str]] = {}
    summary, measured, curve = [], None, {}
    for ranking_len, rows in by_len.items():
        subsets = nested_subsets(rows, args.sizes, SEED)
        prompts = [render_prompt(row["prefix"][0]) for row in subsets[max(args.sizes)]]
        if prompts != measured:  # rankings cut by split.py share their prompts, which are then measured once
            measured, curve = prompts, diversity_curve(encode_prompts(tokenizer, prompts), args.sizes, NGRAM)
        for size, subset in subsets.items():
            path = data / f"hh_train_len{ranking_len}_{size}" / "train.json"
            outputs[path] = json_lines(subset)
            record[str(size)] = {str(NGRAM): record_entry(curve[size])}
            summary.append(f"{path}: {size} rows, diversity {curve[size].score:.4f}")
    tokenizers = read_record(tokenizers_path) | dict.fromkeys(map(str, args.sizes), under_root(tokenizer_name))
    for path, content in ((record_path, record), (tokenizers_path, tokenizers)):
        outputs[path] = [json.dumps(content, indent=4) + "\n"]
    write_files(outputs)
    print("\n".join(summary))


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
