"""Settings of one reward model: the flags of train_reward.py, and how a step is split over processes and passes."""

import math
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

from data_preprocess.command import MAX_RATE, InputError, check_seed, check_settings, count, setting, within
from data_preprocess.dialogue import AUTO, PROMPT_FORMATS
from data_preprocess.records import FLOAT32_MAX
from training.lora import WITHOUT_LORA, LoraSettings
from training.schedule import SCHEDULES, Schedule
from training.tracking.trackers import check_report_to

# Settings that affect the model only by rounding, and may change on resuming.
FREE_TO_CHANGE = (
    "output_dir", "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_checkpointing",
    "state_minutes", "keep_states", "report_to", "push_to_hub",
)  # fmt: skip
# Settings that came later: where they have their default, a model is what it was without them.
LATER = (*(each.name for kind in (Schedule, LoraSettings) for each in fields(kind)), "prompt_format")
PRECISIONS = ("no", "bf16")
SCRATCH_RATE, FURTHER_RATE = 3e-3, 1e-5


@dataclass(frozen=True)
class RewardConfig(LoraSettings, Schedule):
    """Settings of one reward model."""

    train_file: str = setting("rankings, best response first")
    heldout_file: list[str] = setting("one or more files of rankings, in any order, to measure the accuracy on")
    output_dir: str = setting("output folder of the model")
    tokenizer: str = setting("folder of a tokenizer; trains a GPT-NeoX from scratch", default="")
    model_name_or_path: str = setting(
        "folder or hub name of a causal LM, which gets a one-label head, or of a one-label classifier", default=""
    )
    hidden_size: int = setting("from scratch: hidden size", count(at_most=2**14), default=64)
    num_layers: int = setting("from scratch: number of layers", count(at_most=1000), default=4)
    num_heads: int = setting(
        "from scratch: attention heads per layer; must divide --hidden_size", count(at_most=2**14), default=4
    )
    max_steps: int = setting("optimiser steps", count(at_most=10**6), default=1200)
    batch_size: int = setting("rankings per optimiser step over all processes", default=8)
    per_device_train_batch_size: int | None = setting(
        "maximum rankings per forward pass of a process (default: its whole share of a step)", default=None
    )
    per_device_eval_batch_size: int = setting("texts per scoring batch, of 256 tokens each", default=64)
    eval_steps: int = setting(
        "measure and save a state every this many steps, keep the most accurate model; 0: only after the last step",
        count(at_least=0),
        default=0,
    )
    state_minutes: float = setting(
        "save a state, to resume from, after this many minutes without one", within(above=0), default=20.0
    )
    keep_states: int = setting("number of newest states to keep, in addition to the best", default=2)
    prompt_format: str = setting(
        "how dialogues are read: hh, role tags and EOS; chat, the tokenizer's chat template; or auto, as before in a "
        "reward model that is trained further, else chat where there is a template",
        choices=PROMPT_FORMATS,
        default=AUTO,
    )
    report_to: list[str] = setting(
        "trackers known to transformers.Trainer: tensorboard, wandb, ...; or none", default_factory=lambda: ["none"]
    )
    push_to_hub: str | None = setting(
        "OWNER/NAME: upload the model with a model card to this repository of the Hugging Face hub, made private if it "
        "does not exist",
        metavar="REPOSITORY",
        default=None,
    )
    mixed_precision: str = setting("no or bf16 (default: the launcher's, else no)", default="")
    gradient_checkpointing: bool = setting("recompute activations in the backward pass", default=False)
    learning_rate: float | None = setting(
        f"peak learning rate (default: {SCRATCH_RATE:g} from scratch, {FURTHER_RATE:g} from a checkpoint)",
        within(at_least=0, at_most=MAX_RATE),
        default=None,
    )
    lr_scheduler_type: str = setting(
        "schedule of the learning rate, by its name in transformers (default: warm-up over the first tenth of the "
        "steps, then linear decay to 0)",
        choices=SCHEDULES,
        default="",
        kw_only=True,
    )
    lm_weight: float = setting(
        "from scratch: weight of a next-token loss on the best responses, which helps to learn features",
        within(at_least=0, at_most=FLOAT32_MAX),
        default=0.0,
    )
    seed: int = setting("seed of the initialisation, the order of rankings and dropout", check_seed, default=42)

    def __post_init__(self) -> None:
        check_settings(self)
        self.check_lora()
        if bool(self.tokenizer) == bool(self.model_name_or_path):
            raise InputError("--tokenizer (from scratch) or --model_name_or_path (train further): expected one of them")
        if self.lora_r and self.tokenizer:
            raise InputError("--lora_r: needs a model to start from (expected --model_name_or_path, not --tokenizer)")
        if self.hidden_size % self.num_heads:
            raise InputError(f"--hidden_size {self.hidden_size}: not a multiple of --num_heads {self.num_heads}")
        if self.mixed_precision not in ("", *PRECISIONS):
            raise InputError(f"--mixed_precision {self.mixed_precision!r}: expected {' or '.join(PRECISIONS)}")

        check_report_to(self.report_to)
        if not self.lr_scheduler_type and (self.warmup_steps or self.lr_scheduler_kwargs):
            raise InputError("--warmup_steps and --lr_scheduler_kwargs: expected --lr_scheduler_type with them")

    def resolved(self, launched: str) -> "RewardConfig":
        """Returns these settings with learning rate and precision filled in; `launched` is the launcher's precision."""
        rate = FURTHER_RATE if self.model_name_or_path else SCRATCH_RATE
        rate = rate if self.learning_rate is None else self.learning_rate
        return replace(self, learning_rate=rate, mixed_precision=self.mixed_precision or launched)

    def sources(self) -> dict[str, list[str]]:
        """Returns the files and folders that are read, by flag."""
        given = {"train_file": [self.train_file], "heldout_file": self.heldout_file,
                 "tokenizer": [self.tokenizer], "model_name_or_path": [self.model_name_or_path]}  # fmt: skip
        return {flag: paths for flag, paths in given.items() if all(paths)}

    def settings(self) -> dict[str, Any]:
        """Returns the settings that determine the model."""
        return {name: value for name, value in asdict(self).items() if name not in FREE_TO_CHANGE}

    def identity(self) -> dict[str, Any]:
        """Returns the settings that tell the model from others, those of LATER only if they are not the default."""
        defaults = WITHOUT_LORA | {each.name: each.default for each in fields(self) if each.default is not MISSING}
        settings = self.settings().items()
        return {name: value for name, value in settings if name not in LATER or value != defaults[name]}


def passes_per_step(config: RewardConfig, num_processes: int, n_rankings: int) -> int:
    """Returns the forward passes per optimiser step of each process; InputError if a step does not divide evenly.

    A step has all `n_rankings` of the training file if they are fewer than --batch_size.
    """
    total = min(config.batch_size, n_rankings)
    if total % num_processes:
        raise InputError(
            f"--batch_size {config.batch_size}: a step of {total} rankings ({n_rankings} are in --train_file) "
            f"does not divide over {num_processes} processes"
        )
    share = total // num_processes
    return math.ceil(share / (config.per_device_train_batch_size or share))
