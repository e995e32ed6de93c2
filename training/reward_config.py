"""Settings of one reward model: the flags of train_reward.py, and how its steps divide over processes and passes."""

import argparse
import math
import types
import typing
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import Any

from data_preprocess.command import InputError

# Settings that leave the model alone but for rounding: a run that is resumed may change them.
FREE_TO_CHANGE = (
    "output_dir", "per_device_train_batch_size", "gradient_accumulation_steps", "per_device_eval_batch_size",
    "gradient_checkpointing",
)  # fmt: skip
PRECISIONS = ("no", "bf16")
SCRATCH_RATE, FURTHER_RATE = 3e-3, 1e-5


def _flag(help: str, **default: Any) -> Any:
    return field(metadata={"help": help}, **default)


@dataclass(frozen=True)
class RewardConfig:
    """Settings of one reward model."""

    train_file: str = _flag("rankings, best first")
    heldout_file: list[str] = _flag("one or more files of rankings that the accuracy is measured on, in any order")
    output_dir: str = _flag("folder that the model is saved as")
    tokenizer: str = _flag("folder of a tokenizer: a GPT-NeoX is trained from scratch", default="")
    model_name_or_path: str = _flag(
        "folder or hub name of a causal LM, which gets a one-label head, or of a one-label classifier", default=""
    )
    hidden_size: int = _flag("from scratch: width", default=64)
    num_layers: int = _flag("from scratch: layers", default=4)
    num_heads: int = _flag("from scratch: attention heads per layer; divides the width", default=4)
    max_steps: int = _flag("optimiser steps", default=1200)
    batch_size: int = _flag("rankings per optimiser step over all processes", default=8)
    per_device_train_batch_size: int | None = _flag(
        "most rankings in one forward pass of a process; not given: its whole share of a step", default=None
    )
    gradient_accumulation_steps: int | None = _flag(
        "forward passes per step of a process; not given: derived from the two above", default=None
    )
    per_device_eval_batch_size: int = _flag("texts scored together", default=64)
    eval_steps: int = _flag(
        "measure every so many steps, keep the most accurate model, and be resumable from there; "
        "0: only the last one is measured and saved",
        default=0,
    )
    mixed_precision: str = _flag("no or bf16; not given: what accelerate launch was told, else no", default="")
    gradient_checkpointing: bool = _flag("recompute activations in the backward pass", default=False)
    learning_rate: float | None = _flag(
        "peak, after a warm-up over the first tenth and before a linear decay to 0; "
        f"not given: {SCRATCH_RATE:g} from scratch, {FURTHER_RATE:g} from a checkpoint",
        default=None,
    )
    lm_weight: float = _flag(
        "from scratch: weight of also predicting the best response's tokens, which builds features", default=0.0
    )
    seed: int = _flag("of the initialisation, the order of the rankings and dropout", default=42)

    def __post_init__(self) -> None:
        if bool(self.tokenizer) == bool(self.model_name_or_path):
            raise InputError("--tokenizer (from scratch) or --model_name_or_path (go on): one of the two was expected")
        if self.hidden_size % self.num_heads:
            raise InputError(f"--hidden_size {self.hidden_size}: not a multiple of --num_heads {self.num_heads}")
        if min(self.max_steps, self.batch_size, self.num_layers) < 1:
            raise InputError("--max_steps, --batch_size and --num_layers: at least 1 was expected")
        for name in ("per_device_train_batch_size", "gradient_accumulation_steps", "per_device_eval_batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name} {value}: at least 1 was expected")
        if self.eval_steps < 0:
            raise InputError(f"--eval_steps {self.eval_steps}: 0 or more was expected")
        if self.mixed_precision not in ("", *PRECISIONS):
            raise InputError(f"--mixed_precision {self.mixed_precision!r}: expected {' or '.join(PRECISIONS)}")
        for name in ("learning_rate", "lm_weight"):
            value = getattr(self, name)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise InputError(f"--{name} {value}: a finite number of at least 0 was expected")

    def resolved(self, mixed_precision: str) -> "RewardConfig":
        """These settings with the learning rate and the precision that are used."""
        rate = FURTHER_RATE if self.model_name_or_path else SCRATCH_RATE
        rate = rate if self.learning_rate is None else self.learning_rate
        return replace(self, learning_rate=rate, mixed_precision=mixed_precision)

    def identity(self) -> dict[str, Any]:
        """The resolved settings that the model follows from; what is off is left out, and one file is no list.

        So a model that was trained before there was anything to turn on is still known as the same.
        """
        settings = {name: value for name, value in asdict(self).items() if name not in FREE_TO_CHANGE}
        if not self.eval_steps:
            del settings["eval_steps"]
        if self.mixed_precision == "no":
            del settings["mixed_precision"]
        if len(self.heldout_file) == 1:
            settings["heldout_file"] = self.heldout_file[0]
        return settings


def passes_per_step(config: RewardConfig, num_processes: int, n_rankings: int) -> int:
    """Forward passes per optimiser step of each process, on shares of equal size.

    Args:
        config: batch sizes; --gradient_accumulation_steps wins, within --per_device_train_batch_size.
        num_processes: that share a step.
        n_rankings: in the training file; where they are fewer than --batch_size, a step is all of them.

    Raises:
        InputError: a step cannot be divided so.
    """
    total = min(config.batch_size, n_rankings)
    if total % num_processes:
        raise InputError(
            f"--batch_size {config.batch_size}: a step of {total} rankings ({n_rankings} are in --train_file) "
            f"does not divide over {num_processes} processes"
        )
    share = total // num_processes
    most = config.per_device_train_batch_size or share
    passes = config.gradient_accumulation_steps or math.ceil(share / most)
    if passes > share or math.ceil(share / passes) > most:
        raise InputError(
            f"--gradient_accumulation_steps {passes} contradicts --batch_size {config.batch_size}: of the {share} "
            f"rankings of a process each pass must get between 1 and {most} (--per_device_train_batch_size)"
        )
    return passes


def parse_args(argv: list[str] | None, description: str) -> RewardConfig:
    """The settings of a command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for setting in fields(RewardConfig):
        text, kind = setting.metadata["help"], setting.type
        if kind is bool:
            parser.add_argument(f"--{setting.name}", action="store_true", help=text)
            continue
        more: dict[str, Any] = {"nargs": "+"} if typing.get_origin(kind) is list else {}
        if setting.default is MISSING:
            more["required"] = True
        else:
            more["default"] = setting.default
            text += "" if setting.default in (None, "") else f" (default: {setting.default})"
        plain = typing.get_args(kind)[0] if isinstance(kind, types.UnionType) or more.get("nargs") else kind
        parser.add_argument(f"--{setting.name}", type=plain, help=text, **more)
    return RewardConfig(**vars(parser.parse_args(argv)))
