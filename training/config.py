"""Settings of one fine-tuning run: the flags of main.py, their paper values, and what contradicts what."""

import argparse
import dataclasses
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_preprocess.command import MAX_RATE, InputError, check_name, check_number, check_seed, study_root
from data_preprocess.records import FLOAT32_MAX

DEV_REWARD_MODEL = "OpenAssistant/oasst-rm-2.1-pythia-1.4b-epoch-2.5"
COUNTS = (
    "training_stage_num", "global_batch_size", "per_device_train_batch_size", "gradient_accumulation_steps",
    "per_device_eval_batch_size", "block_size", "max_new_tokens", "max_train_steps", "num_train_epochs",
    "checkpointing_step", "keep_states",
)  # fmt: skip
MOST = 10**9  # of anything that is counted: more was a slip of the keyboard


def _flag(help: str, **default: Any) -> Any:
    return field(metadata={"help": help}, **default)


def _under_root(*parts: str) -> Any:
    return lambda: str(study_root().joinpath(*parts))


@dataclass(frozen=True)
class TrainConfig:
    """One run. Fields without a default are required flags; the other defaults are the paper's settings."""

    index: str = _flag("name of the experiment; a name that exists is resumed, and may go on to more steps")
    model_name_or_path: str = _flag("folder or hub name of the causal LM to start from")
    train_file_path: str = _flag("folder that holds train.json, or a file of rankings")
    training_stage_num: int = _flag("ranking_len K: PRO on the first K responses; 1 is SFT on the best")
    do_train: bool = _flag("train (without it nothing happens)", default=False)
    do_validation: bool = _flag("at every checkpoint, generate on the dev prompts and score", default=False)
    seed: int = _flag("seed of the order of prompts and of dropout", default=42)
    sft_weight: float = _flag("weight of PRO's SFT term, times (K-1)^2", default=0.05)
    learning_rate: float = _flag("constant learning rate of AdamW", default=2e-5)
    global_batch_size: int = _flag("prompts per optimiser step over all processes", default=112)
    per_device_train_batch_size: int = _flag(
        "most prompts in one forward pass; lowered to what divides a process's share", default=14
    )
    gradient_accumulation_steps: int | None = _flag("derived from the batch sizes unless given", default=None)
    per_device_eval_batch_size: int = _flag("dev prompts generated together", default=16)
    block_size: int = _flag("tokens of prompt and one response, cut from the right", default=512)
    max_prompt: int = _flag("tokens of the prompt with BOS, cut from the left", default=384)
    append_eos: bool = _flag("make EOS a target behind every response that was not cut", default=True)
    max_new_tokens: int = _flag("tokens generated per dev prompt", default=128)
    max_grad_norm: float = _flag("gradients are clipped to this norm", default=1.0)
    gradient_checkpointing: bool = _flag("recompute activations in the backward pass", default=False)
    stop_criterion: str = _flag("what ends training: steps or epoch", default="steps")
    max_train_steps: int = _flag("optimiser steps where --stop_criterion is steps", default=4000)
    num_train_epochs: int = _flag("passes over the prompts where --stop_criterion is epoch", default=1)
    checkpointing_step: int = _flag("optimiser steps between checkpoints", default=500)
    state_minutes: float = _flag("minutes after which a full state is saved between checkpoints too", default=20.0)
    keep_states: int = _flag("full states that are kept, the newest ones", default=2)
    dev_reward_model: str = _flag("reward model that chooses the best checkpoint", default=DEV_REWARD_MODEL)
    validation_file_path: str = _flag("folder of the dev file", default_factory=_under_root("data", "hh_dev"))
    validation_file_name: str = _flag("dev file", default="sampled_dev.json")
    output_dir: str = _flag("where runs are kept", default_factory=_under_root("checkpoints"))
    log_path: str = _flag("where logs are kept", default_factory=_under_root("logs"))

    def __post_init__(self) -> None:
        check_name("index", self.index)
        check_name("validation_file_name", self.validation_file_name)
        check_seed("seed", self.seed)
        for name in COUNTS:
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), at_least=1, at_most=MOST)
        check_number("global_batch_size", self.global_batch_size, at_most=10**6)  # a step lists its prompts
        check_number("learning_rate", self.learning_rate, above=0, at_most=MAX_RATE)
        for name in ("max_grad_norm", "state_minutes"):
            check_number(name, getattr(self, name), above=0, at_most=FLOAT32_MAX)
        check_number("sft_weight", self.sft_weight, at_least=0, at_most=FLOAT32_MAX)
        if self.stop_criterion not in ("steps", "epoch"):
            raise InputError(f"--stop_criterion {self.stop_criterion!r}: expected steps or epoch")
        if not 2 <= self.max_prompt < self.block_size:
            raise InputError(
                f"--max_prompt {self.max_prompt}: expected 2 to --block_size - 1 ({self.block_size - 1})"
            )

    @property
    def run_folder(self) -> Path:
        return Path(self.output_dir) / f"index_{self.index}" / f"stage_{self.training_stage_num}"

    @property
    def log_folder(self) -> Path:
        return Path(self.log_path) / self.index / str(self.training_stage_num)

    @property
    def metrics_file(self) -> Path:
        return self.log_folder / "metrics.jsonl"

    @property
    def dev_file(self) -> Path:
        return Path(self.validation_file_path) / self.validation_file_name

    def total_steps(self, n_records: int) -> int:
        """Optimiser steps of the whole run over `n_records` prompts."""
        if self.stop_criterion == "steps":
            return self.max_train_steps
        return math.ceil(self.num_train_epochs * n_records / self.global_batch_size)


def micro_batches(config: TrainConfig, num_processes: int) -> tuple[int, int]:
    """(prompts per forward pass, forward passes per step) of each process; their product times processes is global.

    All micro-batches are of one size, so that the mean over them is the mean over the global batch.

    Raises:
        InputError: the processes, or --gradient_accumulation_steps, do not divide the global batch.
    """
    total = config.global_batch_size
    if num_processes < 1 or total % num_processes:
        divisors = [n for n in range(1, total + 1) if total % n == 0]
        below = max((n for n in divisors if n < num_processes), default=None)
        above = min((n for n in divisors if n > num_processes), default=None)
        nearest = " or ".join(str(n) for n in (below, above) if n is not None)
        raise InputError(
            f"NUM_PROCESSES {num_processes} does not divide --global_batch_size {total}: use {nearest}"
        )
    share = total // num_processes
    if config.gradient_accumulation_steps is not None:
        passes = config.gradient_accumulation_steps
        if passes < 1 or share % passes or share // passes > config.per_device_train_batch_size:
            raise InputError(
                f"--gradient_accumulation_steps {passes} contradicts --global_batch_size {total} with "
                f"{num_processes} processes and --per_device_train_batch_size {config.per_device_train_batch_size}"
            )
        return share // passes, passes
    size = max(n for n in range(1, min(share, config.per_device_train_batch_size) + 1) if share % n == 0)
    return size, share // size


def parse_args(argv: Sequence[str] | None = None) -> tuple[TrainConfig, int | None]:
    """(settings, number of processes to check for): the second is None unless --preflight was given."""
    parser = argparse.ArgumentParser(description="Fine-tune a causal LM on ranked responses with PRO or SFT.")
    for setting in dataclasses.fields(TrainConfig):
        _add_flag(parser, setting)
    parser.add_argument(
        "--preflight", type=int, metavar="NUM_PROCESSES", help="check settings and data for so many processes, and stop"
    )
    values = vars(parser.parse_args(argv))
    preflight = values.pop("preflight")
    return TrainConfig(**{name: value for name, value in values.items() if value is not None}), preflight


def _add_flag(parser: argparse.ArgumentParser, setting: dataclasses.Field) -> None:
    default = setting.default
    required = default is dataclasses.MISSING and setting.default_factory is dataclasses.MISSING
    text = setting.metadata["help"].replace("%", "%%")
    if default not in (dataclasses.MISSING, None):
        text += f" (default: {default})"
    if setting.type is bool:
        parser.add_argument(f"--{setting.name}", action="store_const", const=True, help=text)
        parser.add_argument(f"--no_{setting.name}", dest=setting.name, action="store_const", const=False)
        return
    kind = typing.get_args(setting.type)[0] if isinstance(setting.type, types.UnionType) else setting.type
    parser.add_argument(f"--{setting.name}", type=kind, required=required, help=text)
