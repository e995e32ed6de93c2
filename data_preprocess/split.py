"""Cuts the rankings of 4 responses to rankings of 3, and those to rankings of 2.

Run: cd data_preprocess; python split.py
Under STUDY_ROOT, reads data/original/hh_train_len4/train.json and writes data/original/hh_train_len{3,2}/train.json.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.command import run, study_root
from data_preprocess.subsets import write_split


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args(argv)
    for path, n_rows in write_split(study_root() / "data").items():
        print(f"{path}: {n_rows} rows")


if __name__ == "__main__":
    run(main)
