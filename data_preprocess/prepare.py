"""Builds the test and dev files from raw HH-RLHF.

Run: cd data_preprocess; python prepare.py --raw DIR [--max_rows N] [--published_parsing] [--dev_from test]
DIR holds harmless-base, helpful-base, helpful-online and helpful-rejection-sampled, each with test.jsonl and
train.jsonl (or .jsonl.gz). Writes data/hh_test/*.json and data/hh_dev/sampled_dev.json under STUDY_ROOT, all
or none.
"""

import argparse
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.dialogue import ParsedPair, explain_pair
from data_preprocess.files import InputError, json_lines, read_jsonl, run, study_root, write_files

# Raw folder -> name of the test file made from it.
SOURCES = {
    "harmless-base": "harmless_base",
    "helpful-base": "helpful_base",
    "helpful-online": "helpful_online",
    "helpful-rejection-sampled": "helpful_rejection",
}
SEED = 42
DEV_ROWS = 280


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    test_paths = {source: raw_file(args.raw, source, "test") for source in SOURCES}
    pool_paths = {source: raw_file(args.raw, source, args.dev_from) for source in SOURCES}
    published = args.published_parsing
    tests = {source: read_pairs(path, source, published) for source, path in test_paths.items()}
    pool = tests
    if args.dev_from == "train":
        pool = {source: read_pairs(path, source, published) for source, path in pool_paths.items()}
    dev = sample_dev([row for rows in pool.values() for row in rows], args.dev_rows)
    if args.dev_from == "test":
        print("dev rows are drawn from the test files, as published: a leak, since the checkpoint is chosen")
        print("on prompts that it is tested on")
    data = study_root() / "data"
    outputs = {data / "hh_dev" / "sampled_dev.json": dev}
    for source, rows in tests.items():
        outputs[data / "hh_test" / f"{SOURCES[source]}.json"] = rows[: args.max_rows]
        if args.max_rows and args.max_rows < len(rows):
            print(f"{source}: the first {args.max_rows} of {len(rows)} test rows are kept (--max_rows)")
    write_files({path: json_lines(rows) for path, rows in outputs.items()})
    for path, rows in outputs.items():
        print(f"{path}: {len(rows)} rows")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--raw", type=Path, required=True, metavar="DIR", help="folder of raw HH-RLHF")
    parser.add_argument("--max_rows", type=int, metavar="N", help="keep the first N rows of each test file")
    parser.add_argument("--published_parsing", action="store_true",
                        help="drop paragraphs without a role tag, as the published data does")  # fmt: skip
    parser.add_argument("--dev_from", choices=("train", "test"), default="train",
                        help="split that dev rows are drawn from (test: the published leak)")  # fmt: skip
    parser.add_argument("--dev_rows", type=int, default=DEV_ROWS, help=f"number of dev rows ({DEV_ROWS})")
    args = parser.parse_args(argv)
    for flag in ("max_rows", "dev_rows"):
        value = getattr(args, flag)
        if value is not None and value < 1:
            raise InputError(f"--{flag}: {value} (expected at least 1)")
    return args


def raw_file(raw: Path, source: str, split: str) -> Path:
    """The raw file of a source and split, plain before gzipped; InputError where there is neither."""
    for suffix in (".jsonl", ".jsonl.gz"):
        path = raw / source / (split + suffix)
        if path.is_file():
            return path
    remedy = " or --dev_from test" if split == "train" else ""
    raise InputError(f"{raw / source}: no {split}.jsonl or {split}.jsonl.gz (expected raw HH-RLHF{remedy})")


def read_pairs(path: Path, source: str, published: bool) -> list[dict]:
    """Rows [chosen, rejected] of one raw file; prints how many lines are skipped, and each one's reason."""
    rows, skipped = [], []
    for line, pair in read_jsonl(path):
        for key in ("chosen", "rejected"):
            if not isinstance(pair.get(key), str):
                raise InputError(f"{path}:{line}: {key} is not a text (expected chosen and rejected)")
        parsed = explain_pair(pair["chosen"], pair["rejected"], published)
        if isinstance(parsed, ParsedPair):
            rows.append(pair_row(parsed, f"{source}/{path.name.split('.')[0]}", line))
        else:
            skipped.append(f"  skipped line {line}: {parsed}")
    print(f"{path}: {len(rows)} rows, {len(skipped)} skipped")
    print("".join(line + "\n" for line in skipped), end="")
    return rows


def pair_row(pair: ParsedPair, source: str, line: int) -> dict:
    """A test row: chosen before rejected, rewards 1 and 0, and where the pair stands in the raw data."""
    return {
        "prefix": [pair.prefix] * 2,
        "suffix": pair.suffix,
        "reward": [1.0, 0.0],
        "meta": {"source": source, "line": line},
    }


def sample_dev(rows: list[dict], count: int) -> list[dict]:
    """A seeded sample of the rows."""
    if count > len(rows):
        raise InputError(f"--dev_rows: {count} rows asked for, there are {len(rows)}")
    return random.Random(SEED).sample(rows, count)


if __name__ == "__main__":
    run(main)
