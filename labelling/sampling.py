"""What the commands share in which models label: settings of sampling, and the part of each of several processes."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass

from data_preprocess.command import check_seed, check_settings, count, setting, within
from data_preprocess.hub import source_options
from data_preprocess.ranking import SEED
from eval_hh.inference.resumable_jobs import is_main_process


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How responses are sampled from a causal language model."""

    temperature: float = setting("what logits are divided by in sampling", within(above=0), default=1.0)
    top_p: float = setting("probability that the nucleus holds", within(above=0, at_most=1), default=0.95)
    max_new_tokens: int = setting("tokens per sampled response", count(), default=128)
    batch_size: int = setting("responses per batch and process", count(), default=16)
    mixed_precision: str = setting(
        "of the models that sample, on a GPU; rewards are always float32",
        choices=("bf16", "fp16", "no"),
        default="bf16",
    )
    seed: int = setting("of every random draw", check_seed, default=SEED)

    def __post_init__(self) -> None:
        check_settings(self)


def check_models(models: Iterable[str | None]) -> None:
    """InputError for a model that is not there, before others work for hours; None was not given."""
    for model in models:
        if model is not None:
            source_options(model)


@contextmanager
def only_first_process_prints() -> Iterator[bool]:
    """Inside, of several processes that a launcher started only the first one prints; whether this is it."""
    is_main = is_main_process()
    with nullcontext() if is_main else redirect_stdout(io.StringIO()):
        yield is_main
