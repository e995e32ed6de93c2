"""Scores the generated responses with a reward model.

Run from this folder: python rewarding.py --index EXP --stage RANKING_LEN --reward_model PATH_OR_NAME

Reads what generation.py wrote and writes eval_hh/inference_res/infer_main_EXP_RANKING_LEN_
best_checkpoint_FILE.json: the rows with infer.score, the sigmoid of the reward model's logit. A run that was killed, or
stopped by a signal, goes on where it was; a finished file is not made again. A score that is not finite ends the run.
"""

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import InputError, check_flags, check_text, count, environment_count, run, stop_requests
from eval_hh.cells import TEST_FILES
from eval_hh.inference.resumable_jobs import (
    BEST_CHECKPOINT,
    NAME_CHECKS,
    Job,
    Names,
    check_made_of,
    folder_identity,
    names_parser,
    processes,
    read_results,
    run_job,
    waiting_jobs,
)

if TYPE_CHECKING:
    from accelerate import PartialState

    from eval_hh.reward_model import RewardModel

TEST_REWARD_MODEL = "OpenAssistant/oasst-rm-2-pythia-6.9b-epoch-1"  # the paper's


@dataclass(frozen=True)
class Config:
    index: str  # name of the experiment
    stage: int  # ranking length that was trained on (1 for SFT)
    reward_model: str = TEST_REWARD_MODEL  # folder or hub name
    checkpoint: str = BEST_CHECKPOINT  # folder of the run that is tested
    test_files: Sequence[str] = TEST_FILES  # names under data/hh_test, without .json
    batch_size: int = 16  # dialogues per batch and process
    check: bool = False  # only look whether the reward model can be had
    mixed_precision: str = "no"  # of the weights on a GPU: bf16, fp16 or no; half precision blurs the scores

    def __post_init__(self) -> None:
        check_flags(vars(self), {**NAME_CHECKS, "reward_model": check_text, "batch_size": count()})


def parse_args(argv: list[str] | None = None) -> Config:
    parser = names_parser(__doc__)
    default = os.environ.get("TEST_REWARD_MODEL") or TEST_REWARD_MODEL
    parser.add_argument("--reward_model", default=default, help="folder or hub name ($TEST_REWARD_MODEL)")
    parser.add_argument("--batch_size", type=int, default=environment_count("BATCH_SIZE", Config.batch_size))
    parser.add_argument("--mixed_precision", choices=("bf16", "fp16", "no"), default=Config.mixed_precision)
    parser.add_argument("--check", action="store_true", help="only check that the reward model can be had")
    return Config(**vars(parser.parse_args(argv)))


def main(argv: list[str] | None = None) -> None:
    config = parse_args(argv)
    from data_preprocess.hub import source_options

    source_options(config.reward_model)
    if config.check:
        return
    names = Names(config.index, config.stage, config.checkpoint)
    jobs = plan_jobs(config, names)
    with stop_requests():
        state = processes()
        waiting = waiting_jobs(list(jobs.values()), state)
        rows = {name: generated_rows(names, name) for name, job in jobs.items() if job in waiting}
        made = score_files({name: jobs[name] for name in rows}, rows, config, state) if rows else 0
    if state.is_main_process:
        print(f"{made} of {len(jobs)} test files scored anew for {config.index}, stage {config.stage}")


def plan_jobs(config: Config, names: Names) -> dict[str, Job]:
    """What is to be made of each generated file; InputError where one is missing."""
    for name in config.test_files:
        if not names.generated(name).is_file():
            hint = f"make it first: python generation.py {names.flags}"
            raise InputError(f"{names.generated(name)}: no such file ({hint})")
    settings = {
        "step": "rewarding",
        "reward_model": folder_identity(config.reward_model),
        "mixed_precision": config.mixed_precision,
    }
    return {
        name: Job(f"scoring {name}", names.scored(name), names.generated(name), settings) for name in config.test_files
    }


def generated_rows(names: Names, name: str) -> list[dict]:
    """The rows of a generated file. InputError where they are not those of its test file."""
    from data_preprocess.records import read_rows

    path, test = names.generated(name), names.test_file(name)
    rows = read_results(path, "t")
    hint = f"delete it and make it anew: python generation.py {names.flags}"
    check_made_of(rows, path, read_rows(test, training=False), test, hint)
    return rows


def score_files(
    jobs: dict[str, Job], rows: dict[str, list[dict]], config: Config, state: "PartialState"
) -> int:
    """Loads the reward model once and scores the rows of each job's generated file; how many were made.

    Raises:
        InputError: a dialogue that the model cannot read; before anything is scored.
        RunError: a score that is not finite.
    """
    from eval_hh.inference.decoding import plan_batches
    from eval_hh.inference.models import weights_dtype
    from eval_hh.reward_model import check_finite, load_reward_model

    model = load_reward_model(config.reward_model, weights_dtype(config.mixed_precision))
    encoded = {name: encode_rows(model, rows[name], job.source) for name, job in jobs.items()}
    made = 0
    for name, job in jobs.items():
        dialogues = encoded[name]
        batches = plan_batches([len(ids) for ids in dialogues], config.batch_size)

        def score(batch: list[int], dialogues: list[list[int]] = dialogues, source: Path = job.source) -> list[float]:
            logits = model.score_batch([dialogues[row] for row in batch])
            check_finite(logits, [row + 1 for row in batch], f"{source}:")
            return [sigmoid(logit) for logit in logits]

        made += run_job(job, rows[name], batches, score, "score", state)
    return made


def encode_rows(model: "RewardModel", rows: list[dict], path: Path) -> list[list[int]]:
    """The dialogues of a generated file's rows as token ids. InputError that names the line of one that cannot be."""
    encoded = []
    for number, row in enumerate(rows, 1):
        try:
            encoded.append(model.encode(row["prefix"][0], row["infer"]["t"]))
        except InputError as error:
            raise InputError(f"{path}:{number}: {error}") from error
    return encoded


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-logit)), without overflow for any logit."""
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


if __name__ == "__main__":
    run(main)
