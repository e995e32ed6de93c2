"""Generates a checkpoint's responses to the test prompts.

Run from this folder: python generation.py --index EXP --stage RANKING_LEN

For each data/hh_test/FILE.json it writes eval_hh/inference_res/cache/infer_generate_main_EXP_RANKING_LEN_
best_checkpoint_FILE.json: the test rows, each with "infer": {"t": text}. A run that was killed, or stopped by a signal,
goes on where it was; a finished file is not made again.
"""

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
    folder_identity,
    names_parser,
    processes,
    run_job,
    waiting_jobs,
)

if TYPE_CHECKING:
    from accelerate import PartialState


@dataclass(frozen=True)
class Config:
    index: str  # name of the experiment
    stage: int  # ranking length that was trained on (1 for SFT)
    checkpoint: str = BEST_CHECKPOINT  # folder of the run that is tested
    model_path: str | None = None  # tests this folder or hub name instead; results keep the experiment's name
    test_files: Sequence[str] = TEST_FILES  # names under data/hh_test, without .json
    max_new_tokens: int = 128  # tokens decoded per prompt at most
    batch_size: int = 16  # prompts decoded at a time, per process
    check: bool = False  # only look whether all inputs are there and well-formed
    mixed_precision: str = "bf16"  # of the weights on a GPU: bf16, fp16 or no; the CPU always has float32

    def __post_init__(self) -> None:
        checks = {"model_path": check_text, "max_new_tokens": count(), "batch_size": count()}
        check_flags(vars(self), {**NAME_CHECKS, **checks})


def parse_args(argv: list[str] | None = None) -> Config:
    parser = names_parser(__doc__)
    parser.add_argument("--model_path", help="test this model instead of the run's checkpoint")
    parser.add_argument("--max_new_tokens", type=int, default=Config.max_new_tokens)
    parser.add_argument("--batch_size", type=int, default=environment_count("BATCH_SIZE", Config.batch_size))
    parser.add_argument("--mixed_precision", choices=("bf16", "fp16", "no"), default=Config.mixed_precision)
    parser.add_argument("--check", action="store_true", help="only check the inputs")
    return Config(**vars(parser.parse_args(argv)))


def main(argv: list[str] | None = None) -> None:
    config = parse_args(argv)
    names = Names(config.index, config.stage, config.checkpoint)
    model_path, tests = checked_inputs(config, names)
    if config.check:
        return
    jobs = plan_jobs(config, names, model_path)
    with stop_requests():
        state = processes()
        waiting = waiting_jobs(list(jobs.values()), state)
        todo = {name: job for name, job in jobs.items() if job in waiting}
        made = generate_files(todo, tests, model_path, config, state) if todo else 0
    if state.is_main_process:
        print(f"{made} of {len(jobs)} test files generated anew for {config.index}, stage {config.stage}")


def checked_inputs(config: Config, names: Names) -> tuple[str | Path, dict[str, list[dict]]]:
    """The path of the tested model and the rows of each test file; InputError where something is amiss."""
    from data_preprocess.hub import source_options
    from data_preprocess.records import read_rows

    model_path = config.model_path or names.run_folder / config.checkpoint
    if not config.model_path and not model_path.is_dir():
        hint = f"train experiment {config.index} first, with the launchers in training/"
        raise InputError(f"{model_path}: no such checkpoint ({hint})")
    source_options(model_path)
    for name in config.test_files:
        if not names.test_file(name).is_file():
            hint = "make it first: cd data_preprocess; python prepare.py"
            raise InputError(f"{names.test_file(name)}: no such test file ({hint})")
    return model_path, {name: read_rows(names.test_file(name), training=False) for name in config.test_files}


def plan_jobs(config: Config, names: Names, model_path: str | Path) -> dict[str, Job]:
    """What is to be made of each test file. The batch size is left out: it changes texts by float error only."""
    settings = {
        "step": "generation",
        "model": folder_identity(model_path),
        "max_new_tokens": config.max_new_tokens,
        "mixed_precision": config.mixed_precision,
    }
    return {
        name: Job(f"generating {name}", names.generated(name), names.test_file(name), settings)
        for name in config.test_files
    }


def generate_files(
    jobs: dict[str, Job],
    tests: dict[str, list[dict]],
    model_path: str | Path,
    config: Config,
    state: "PartialState",
) -> int:
    """Loads the model once and generates for each job's test file; how many were made."""
    from data_preprocess.hub import load_tokenizer
    from eval_hh.inference.decoding import Decoder, plan_units
    from eval_hh.inference.models import device, load_causal_lm, weights_dtype

    model = load_causal_lm(model_path, weights_dtype(config.mixed_precision)).to(device())
    decoder = Decoder(model, load_tokenizer(model_path), config.max_new_tokens)
    decoder.check()
    made = 0
    for name, job in jobs.items():
        prompts = [decoder.encode(row["prefix"][0]) for row in tests[name]]
        units = plan_units([len(ids) for ids in prompts], config.batch_size)

        def decode(unit: list[int], prompts: list[list[int]] = prompts) -> list[str]:
            return decoder.decode([prompts[row] for row in unit], config.batch_size)

        made += run_job(job, tests[name], units, decode, "t", state)
    return made


if __name__ == "__main__":
    run(main)
