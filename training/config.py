"""Settings of one fine-tuning run: the flags of main.py with the paper's values, and checks for contradictions."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_preprocess.command import (
    MAX_RATE,
    InputError,
    check_name,
    check_seed,
    check_settings,
    count,
    setting,
    study_root,
    within,
)
from data_preprocess.dialogue import HH, PROMPT_FORMATS
from data_preprocess.records import FLOAT32_MAX
from training.lora import LoraSettings
from training.schedule import Schedule
from training.tracking.trackers import TRACKERS, check_report_to

DEV_REWARD_MODEL = "OpenAssistant/oasst-rm-2.1-pythia-1.4b-epoch-2.5"
POSITIVE = {"above": 0, "at_most": FLOAT32_MAX}
WEIGHT = {"at_least": 0, "at_most": FLOAT32_MAX}


def _under_root(place: str) -> Any:
    return lambda: str(study_root() / place)


@dataclass(frozen=True)
class TrainConfig(LoraSettings, Schedule):
    """One run. Fields without a default are required flags; the other defaults are the paper's settings."""

    index: str = setting("name of the experiment; an existing one is resumed, and may be extended", check_name)
    model_name_or_path: str = setting("folder or hub name of the causal LM to start from")
    train_file_path: str = setting("folder with train.json, or a file of rankings")
    training_stage_num: int = setting("ranking_len K: PRO on the first K responses; 1 is SFT on the best")
    do_train: bool = setting("run training (required)", default=False)
    do_validation: bool = setting("generate and score dev responses at every checkpoint", default=False)
    seed: int = setting("seed of the prompt order and of dropout", check_seed, default=42)
    sft_weight: float = setting("weight of PRO's SFT term, multiplied by (K-1)^2", within(**WEIGHT), default=0.05)
    learning_rate: float = setting(
        "AdamW's learning rate, the peak of its schedule", within(above=0, at_most=MAX_RATE), default=2e-5
    )
    global_batch_size: int = setting("prompts per optimiser step over all processes", count(at_most=10**6), default=112)
    per_device_train_batch_size: int = setting(
        "maximum prompts per forward pass; lowered to a divisor of a process's share of a step", default=14
    )
    gradient_accumulation_steps: int | None = setting("passes per step; derived if not given", default=None)
    per_device_eval_batch_size: int = setting("dev prompts per batch", default=16)
    block_size: int = setting("maximum tokens of prompt and one response, truncated on the right", default=512)
    max_prompt: int = setting("maximum tokens of the prompt with BOS, truncated on the left", default=384)
    append_eos: bool = setting(
        "make EOS, or a chat template's end of turn, a target after every response that was not truncated", default=True
    )
    prompt_format: str = setting(
        "hh, the published text; chat, the tokenizer's chat template; or auto, chat where there is a template",
        choices=PROMPT_FORMATS,
        default=HH,
    )
    max_new_tokens: int = setting("maximum tokens generated per dev prompt", default=128)
    max_grad_norm: float = setting("maximum gradient norm, for clipping", within(**POSITIVE), default=1.0)
    gradient_checkpointing: bool = setting("recompute activations in the backward pass", default=False)
    stop_criterion: str = setting("what ends training: steps or epoch", default="steps")
    max_train_steps: int = setting("optimiser steps with --stop_criterion steps", default=4000)
    num_train_epochs: int = setting("epochs with --stop_criterion epoch", default=1)
    checkpointing_step: int = setting("optimiser steps between checkpoints", default=500)
    state_minutes: float = setting(
        "save a full state between checkpoints too, after this many minutes", within(**POSITIVE), default=20.0
    )
    keep_states: int = setting("number of newest full states to keep", default=2)
    dev_reward_model: str = setting("selects the best checkpoint", default=DEV_REWARD_MODEL)
    reward_dtype: str = setting("of the dev reward model's weights", choices=("float32", "bfloat16"), default="float32")
    validation_file_path: str = setting("the dev file's folder", default_factory=_under_root("data/hh_dev"))
    validation_file_name: str = setting("name of the dev file", check_name, default="sampled_dev.json")
    output_dir: str = setting("folder of all runs", default_factory=_under_root("checkpoints"))
    log_path: str = setting("folder of all logs", default_factory=_under_root("logs"))
    report_to: list[str] = setting(
        "where metrics go besides metrics.jsonl: trackers, or none",
        choices=(*TRACKERS, "none"),
        default_factory=lambda: ["tensorboard"],
    )
    push_to_hub: str | None = setting(
        "OWNER/NAME: upload the best checkpoint with a model card to this repository of the Hugging Face hub, made "
        "private if it does not exist",
        metavar="REPOSITORY",
        default=None,
    )
    preflight: int | None = setting(
        "only check settings and data for this number of processes", within(), metavar="NUM_PROCESSES", default=None
    )

    def __post_init__(self) -> None:
        check_settings(self)
        self.check_lora()
        if self.stop_criterion not in ("steps", "epoch"):
            raise InputError(f"--stop_criterion {self.stop_criterion!r}: expected steps or epoch")
        check_report_to(self.report_to)
        if not 2 <= self.max_prompt < self.block_size:
            raise InputError(f"--max_prompt {self.max_prompt}: expected 2 to --block_size - 1 ({self.block_size - 1})")

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
        """Returns the optimiser steps of the whole run over `n_records` prompts."""
        if self.stop_criterion == "steps":
            return self.max_train_steps
        return math.ceil(self.num_train_epochs * n_records / self.global_batch_size)


def micro_batches(config: TrainConfig, num_processes: int) -> tuple[int, int]:
    """Returns (prompts per forward pass, forward passes per step) of each process.

    Their product times the number of processes is the global batch. All micro-batches have the same size, so the mean
    over them is the mean over the global batch.

    Raises:
        InputError: the number of processes, or --gradient_accumulation_steps, does not divide the global batch.
    """
    total = config.global_batch_size
    if num_processes < 1 or total % num_processes:
        divisors = [n for n in range(1, total + 1) if total % n == 0]
        nearest = [n for n in divisors if n < num_processes][-1:] + [n for n in divisors if n > num_processes][:1]
        use = " or ".join(map(str, nearest))
        raise InputError(f"NUM_PROCESSES {num_processes} does not divide --global_batch_size {total}: use {use}")
    share = total // num_processes
    if config.gradient_accumulation_steps is not None:
        passes = config.gradient_accumulation_steps
        if share % passes or share // passes > config.per_device_train_batch_size:
            raise InputError(
                f"--gradient_accumulation_steps {passes} contradicts --global_batch_size {total} with "
                f"{num_processes} processes and --per_device_train_batch_size {config.per_device_train_batch_size}"
            )
        return share // passes, passes
    size = max(n for n in range(1, min(share, config.per_device_train_batch_size) + 1) if share % n == 0)
    return size, share // size
