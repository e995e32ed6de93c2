"""Scores the generated responses with a reward model.

Run from this folder: python rewarding.py --index EXP --stage RANKING_LEN --reward_model PATH_OR_NAME
or, for a model of no run: python rewarding.py --name NAME --reward_model PATH_OR_NAME

Reads the output of generation.py and writes eval_hh/inference_res/infer_main_EXP_RANKING_LEN_best_checkpoint_FILE.json,
or models/NAME/infer_main_FILE.json for --name: the rows with infer.score, the sigmoid of the reward model's logit. A
run that was killed or stopped by a signal resumes when started again; a finished file is not made again. A score that
is not finite ends the run.
"""

import math
import os
import sys
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import InputError, environment_count, parse_settings, run, setting
from eval_hh.inference.resumable_jobs import Job, folder_identity, run_job, run_step
from eval_hh.run_paths import (
    PRECISIONS,
    TEST_REWARD_MODEL,
    AnyNames,
    Evaluation,
    check_made_of,
    encode_rows,
    read_results,
    recorded_precision,
)

if TYPE_CHECKING:
    from accelerate import PartialState


@dataclass(frozen=True, kw_only=True)
class Rewarding(Evaluation):
    """How responses are scored."""

    reward_model: str = setting(
        "folder or hub name ($TEST_REWARD_MODEL)",
        default_factory=lambda: os.environ.get("TEST_REWARD_MODEL") or TEST_REWARD_MODEL,
    )
    batch_size: int = setting("dialogues per batch and process, of 256 tokens each ($BATCH_SIZE)",
                              default_factory=lambda: environment_count("BATCH_SIZE", 16))  # fmt: skip
    mixed_precision: str = setting("precision of the weights; half precision blurs scores", choices=PRECISIONS,
                                   default="no")  # fmt: skip

    @property
    def precision(self) -> str:
        """As results record it, see `recorded_precision`."""
        return recorded_precision(self.mixed_precision, "no")


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(Rewarding, argv, __doc__)
    from data_preprocess.hub import source_options

    source_options(config.reward_model)
    _ = config.precision  # which this machine may not have
    if config.check:
        return
    did = f"newly scored for {config.names}"
    run_step(plan_jobs(config), lambda todo, state: score_files(todo, config, state), did)


def plan_jobs(config: Rewarding) -> dict[str, Job]:
    """Returns the job of each generated file. Raises InputError if one is missing."""
    names = config.names
    for name in config.test_files:
        if not names.generated(name).is_file():
            hint = f"run first: python generation.py {names.flags}"
            raise InputError(f"{names.generated(name)}: no such file ({hint})")
    settings = {
        "step": "rewarding",
        "reward_model": folder_identity(config.reward_model),
        "mixed_precision": config.precision,
    }
    return {
        name: Job(f"scoring {name}", names.scored(name), names.generated(name), settings) for name in config.test_files
    }


def generated_rows(names: AnyNames, name: str) -> list[dict]:
    """Reads the rows of a generated file. Raises InputError if they do not match its test file."""
    from data_preprocess.records import read_rows

    path, test = names.generated(name), names.test_file(name)
    rows = read_results(path, "t")
    hint = f"delete it and run again: python generation.py {names.flags}"
    check_made_of(rows, path, read_rows(test, training=False), test, hint)
    return rows


def score_files(jobs: dict[str, Job], config: Rewarding, state: "PartialState") -> int:
    """Loads the reward model once and scores the rows of each job's generated file; returns how many were made.

    Raises:
        InputError: the model cannot read a dialogue; raised before anything is scored.
        RunError: a score is not finite.
    """
    import torch

    from eval_hh.inference.models import weights_dtype
    from eval_hh.inference.together import agreed
    from eval_hh.reward_model import check_finite, load_reward_model, measure_half_precision

    rows = {name: generated_rows(config.names, name) for name in jobs}
    model = load_reward_model(config.reward_model, weights_dtype(config.precision))
    encoded = {name: encode_rows(model.encode, rows[name], job.source, "t") for name, job in jobs.items()}
    prompts_of = {name: [tuple(row["prefix"][0]) for row in rows[name]] for name in jobs}
    measured = {}
    with agreed(state):
        if state.is_main_process and model.model.dtype != torch.float32:
            every = list(chain(*encoded.values())), list(chain(*prompts_of.values()))
            measured = measure_half_precision(model, config.reward_model, *every, config.batch_size)
    made = 0
    for name, job in jobs.items():
        dialogues, prompts = encoded[name], prompts_of[name]
        batches = model.plan(dialogues, prompts, config.batch_size)

        def score(
            batch: list[int], dialogues: list = dialogues, prompts: list = prompts, source: Path = job.source
        ) -> list[float]:
            logits = model.score_batch([dialogues[row] for row in batch], [prompts[row] for row in batch])
            check_finite(logits, [row + 1 for row in batch], f"{source}:")
            return [sigmoid(logit) for logit in logits]

        made += run_job(replace(job, measured=measured), rows[name], batches, score, "score", state)
    return made


def sigmoid(logit: float) -> float:
    """Returns 1 / (1 + exp(-logit)) without overflow."""
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


if __name__ == "__main__":
    run(main)
