"""Cuts the rankings of 4 responses to rankings of 3, and those to rankings of 2.

Run: cd data_preprocess; python split.py [--ranking_len K]
Under STUDY_ROOT, reads data/original/hh_train_len4/train.json and writes data/original/hh_train_len{3,2}/train.json.
With --ranking_len K it cuts rankings of K responses to K - 1, and so on down to 2.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.command import check_settings, count, parse_settings, run, setting, study_root
from data_preprocess.subsets import FULL_LEN, write_split


@dataclass(frozen=True)
class SplitConfig:
    """Which rankings to cut."""

    ranking_len: int = setting("responses of the rankings to cut", count(at_least=3, at_most=1000), default=FULL_LEN)

    def __post_init__(self) -> None:
        check_settings(self)


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(SplitConfig, argv, __doc__)
    for path, n_rows in write_split(study_root() / "data", config.ranking_len).items():
        print(f"{path}: {n_rows} rows")


if __name__ == "__main__":
    run(main)
