"""Shared by the commands in which models label: their settings, model checks, and output of several processes."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from data_preprocess.command import (
    MAX_SEED,
    InputError,
    check_seed,
    check_settings,
    check_text,
    check_unused,
    setting,
    within,
)
from data_preprocess.dialogue import HH, PROMPT_FORMATS
from data_preprocess.hub import TOKENIZER_FILE, source_options
from data_preprocess.outputs import check_output_file
from data_preprocess.preparing.export import check_json_lines
from data_preprocess.preparing.prepare_config import DataConfig
from data_preprocess.ranking import SEED
from eval_hh.inference.endpoint import AT_A_TIME, EndpointFlags, reach
from eval_hh.inference.resumable_jobs import is_main_process
from labelling.selecting.diverse_responses import DIVERSE
from labelling.selecting.score_choices import ANY_TWO, BEST_WORST, CLOSEST

BY_SCORES = (BEST_WORST, CLOSEST)


@dataclass(frozen=True, kw_only=True)
class Sampling(EndpointFlags):
    """Settings for sampling responses from a causal language model, loaded here or behind an endpoint."""

    temperature: float = setting("sampling temperature", within(above=0), default=1.0)
    top_p: float = setting("nucleus sampling: cumulative probability", within(above=0, at_most=1), default=0.95)
    max_new_tokens: int = setting("maximum tokens per sampled response", default=128)
    batch_size: int | None = setting(
        "responses per batch and process (default: 16, or up to 64 sampled here on a GPU)", default=None
    )
    mixed_precision: str | None = setting(
        "precision of the sampling models (default: bf16 on a GPU, no, which is float32, on the CPU); rewards are "
        "always float32",
        choices=("bf16", "fp16", "no"),
        default=None,
    )
    seed: int = setting("random seed", check_seed, default=SEED)
    prompt_format: str = setting(
        "how the sampling models read a prompt: hh, the published text; chat, their chat templates; or auto, chat "
        "where there is a template",
        choices=PROMPT_FORMATS,
        default=HH,
    )

    endpoint_model: tuple[str, ...] = setting(
        "names by which the server knows the models that sample", check_text, metavar="NAME", default=()
    )
    endpoint_tokenizer: str | None = setting(
        "folder or hub name with the served model's tokenizer: prompts are then sent as its token ids, in "
        "--prompt_format, else as chat messages",
        check_text,
        metavar="MODEL",
        default=None,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        self.check_endpoint()

    @property
    def at_a_time(self) -> int:
        """Responses that are asked for, or scored, at a time."""
        return self.batch_size or AT_A_TIME

    def check_endpoint(self) -> None:
        """Raises InputError unless the endpoint's flags go together."""
        super().check_endpoint()
        if self.endpoint_tokenizer and not self.endpoint:
            raise InputError("--endpoint_tokenizer: expected --endpoint beside it")


@dataclass(frozen=True, kw_only=True)
class AnnotateConfig(DataConfig, Sampling):
    """Preparation of data labelled by models, or of responses for people to rank."""

    reward_model: str | None = setting("scores every training response, as raw logits", metavar="MODEL", default=None)
    to_rank: Path | None = setting(
        "instead of --reward_model: write each prompt of --source with --ranking_len different responses, for people "
        "to rank",
        metavar="FILE",
        default=None,
    )
    show: str = setting(
        "which responses --to_rank writes where a prompt has more: random; diverse, unlike each other and like the "
        "rest by their words; or two by --reward_model: best_worst, of the highest and the lowest score, or closest, "
        "of the closest scores (two minus random two in the embedded world, 95% interval, points: best_worst PRO "
        "+9.97, +6.95 to +12.99, SFT +9.39, +6.64 to +12.13, better; closest PRO -1.21, -4.49 to +2.08, SFT -0.94, "
        "-5.25 to +3.37, and diverse PRO +0.62, -2.44 to +3.67, SFT +0.70, -3.34 to +4.73, undecided)",
        choices=(ANY_TWO, DIVERSE, *BY_SCORES),
        default=ANY_TWO,
    )
    candidates: tuple[str, ...] = setting("causal LMs that sample additional responses", metavar="MODEL", default=())
    num_per_model: int = setting("responses per prompt sampled by each of --candidates", default=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_endpoint()
        if not (self.reward_model or self.to_rank):
            meant = "a model that scores the responses, or --to_rank FILE for people to rank them"
            raise InputError(f"--reward_model: missing (expected {meant})")
        self.check_show()
        highest = MAX_SEED - max(0, len(self.samplers) - 1)
        if self.seed > highest:
            raise InputError(f"--seed {self.seed}: model i samples with seed + i (expected at most {highest})")
        if not self.to_rank:
            return
        check_output_file("to_rank", self.to_rank, {"source": [self.source]})
        check_json_lines(self.to_rank, "to_rank")
        of_training = ("raw", "dev_rows", "test_rows", "train_rows", "decontaminate")
        check_unused(self, "--to_rank, which writes the prompts of --source for people", of_training)

    def check_show(self) -> None:
        """Raises InputError for flags that do not fit --show, which is of --to_rank."""
        by_scores = self.show in BY_SCORES
        if self.to_rank and not by_scores:
            check_unused(self, f"--to_rank with --show {self.show}, which needs no scores", ["reward_model"])
        if self.show != ANY_TWO and not self.to_rank:
            raise InputError(f"--show {self.show}: expected --to_rank FILE beside it")
        if self.show == DIVERSE and self.ranking_len is None:
            raise InputError(f"--show {self.show}: expected --ranking_len K beside it, of the responses of each prompt")
        if not by_scores:
            return
        if not self.reward_model:
            raise InputError(f"--show {self.show}: expected --reward_model MODEL beside it, whose scores it compares")
        if self.ranking_len not in (None, 2):
            raise InputError(f"--ranking_len {self.ranking_len}: --show {self.show} shows two responses (expected 2)")

    @property
    def samplers(self) -> tuple[str, ...]:
        """The models that sample responses, the served ones last."""
        return (*self.candidates, *self.endpoint_model)

    @property
    def n_sampled(self) -> int:
        return len(self.samplers) * self.num_per_model


def check_models(models: Iterable[str | None], sampling: Sampling) -> None:
    """Raises InputError for a missing model or server before others work for hours; None means not given."""
    for model in models:
        if model is not None:
            source_options(model)
    if sampling.endpoint_tokenizer:
        source_options(sampling.endpoint_tokenizer, TOKENIZER_FILE)
    if sampling.endpoint:
        reach(sampling.endpoint)


@contextmanager
def only_first_process_prints() -> Iterator[bool]:
    """Silences all but the first process of a launch inside the block; yields whether this is the first."""
    is_main = is_main_process()
    with nullcontext() if is_main else redirect_stdout(io.StringIO()):
        yield is_main
