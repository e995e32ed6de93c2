"""Settings of prepare.py: its flags, and what contradicts what.

Library.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from data_preprocess.command import InputError, check_flags, check_seed, check_text, count, within
from data_preprocess.preparing.row_formats import Mapping

SEED = 42
DEV_ROWS = 280
# How responses are sampled, see `add_sampling_flags`.
SAMPLING_CHECKS = {
    "temperature": within(above=0), "top_p": within(above=0, at_most=1), "max_new_tokens": count(),
    "batch_size": count(), "seed": check_seed,
}  # fmt: skip
NUMBER_CHECKS = {
    **SAMPLING_CHECKS, "max_rows": count(), "train_rows": count(), "num_per_model": count(),
    "ranking_len": count(at_least=2, at_most=1000),
}  # fmt: skip
TEXT_CHECKS = dict.fromkeys(
    ("raw", "source", "split", "prompt_from", "responses_from", "rewards_from", "id_from", "join", "candidates",
     "reward_model", "tokenizer"), check_text
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """One preparation of data."""

    raw: str | None = None  # folder of raw HH-RLHF, or its name on the hub
    source: str | None = None  # any other data: JSONL, Parquet, a folder, a name on the hub
    split: str = "train"  # split of a --source that has several
    published_parsing: bool = False  # the published parsing rule
    max_rows: int | None = None  # rows kept per test file
    train_rows: int | None = None  # training prompts kept, a seeded sample
    dev_from: str = "train"  # split of --raw that dev rows are drawn from
    dev_rows: int | None = None  # 280; of a --source at most a tenth of the prompts
    decontaminate: bool = False  # drop training prompts that are near dev or test prompts
    prompt_from: tuple[str, ...] | None = None  # fields of --source, see formats.Mapping
    responses_from: tuple[str, ...] | None = None
    rewards_from: tuple[str, ...] | None = None
    ranks: bool = False
    id_from: str | None = None
    ignore: tuple[str, ...] = ()
    drop_unrated: bool = False
    merge_prompts: bool = False  # rows of one prompt become one ranking
    join: tuple[str, ...] | None = None  # files of answers and judgements
    candidates: tuple[str, ...] = ()  # models that sample further responses
    num_per_model: int = 1
    temperature: float = 1.0
    top_p: float = 0.95
    max_new_tokens: int = 128
    reward_model: str | None = None
    batch_size: int = 16
    mixed_precision: str = "bf16"  # of candidate models on a GPU; rewards are always float32
    ranking_len: int | None = None  # K; the number of responses that most prompts have
    seed: int = SEED
    tokenizer: str | None = None  # counts the data card's tokens
    export: str | None = None
    form: str = "conversational"
    output: Path | None = None

    def __post_init__(self) -> None:
        if bool(self.raw) == bool(self.source):
            raise InputError("--raw or --source: give one of them (raw HH-RLHF, or any other data)")
        check_flags(vars(self), {**TEXT_CHECKS, **NUMBER_CHECKS, "dev_rows": count(at_least=1 if self.raw else 0)})
        of_source = ("prompt_from", "responses_from", "rewards_from", "ranks", "id_from", "ignore", "drop_unrated",
                     "merge_prompts", "join", "export")  # fmt: skip
        for flag in of_source:
            if self.raw and getattr(self, flag):
                raise InputError(f"--{flag} is about --source, and --raw is given")
        for flag in ("published_parsing", "max_rows"):
            if self.source and getattr(self, flag):
                raise InputError(f"--{flag} is about --raw, and --source is given")
        if self.source and self.dev_from != "train":
            raise InputError("--dev_from test is about --raw, and --source is given")
        if self.candidates and not self.reward_model:
            raise InputError("--candidates needs --reward_model: sampled responses have no rewards yet")
        most = 2 + len(self.candidates) * self.num_per_model
        if self.raw and (self.ranking_len or 0) > most:
            raise InputError(f"--ranking_len: {self.ranking_len} (a pair and --candidates make at most {most})")
        for flag in ("rewards_from", "join"):
            if self.reward_model and getattr(self, flag):
                raise InputError(f"--{flag} and --reward_model both give the rewards (expected one of them)")
        if self.join and self.merge_prompts:
            raise InputError("--join and --merge_prompts (expected one of them: --join takes each prompt once)")
        if bool(self.export) != bool(self.output):
            raise InputError("--export and --output: give both, or neither")

    def mapping(self) -> Mapping:
        return Mapping(
            self.prompt_from, self.responses_from, self.rewards_from, self.ranks, self.id_from, self.ignore,
            self.drop_unrated,
        )  # fmt: skip


def parse_args(argv: list[str] | None, description: str) -> Config:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    _add_input_flags(parser)
    _add_model_flags(parser)
    _add_output_flags(parser)
    parser.set_defaults(**{field.name: field.default for field in fields(Config)})
    args = vars(parser.parse_args(argv))
    lists = {name: tuple(value) for name, value in args.items() if isinstance(value, list)}
    return Config(**{**args, **lists})


def _add_input_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("input").add_argument
    add("--raw", metavar="DIR", help="folder of raw HH-RLHF, or Anthropic/hh-rlhf (the hub)")
    add("--source", metavar="DATA", help="any other data: JSONL, JSON array, Parquet, folder, or name on the hub")
    add("--split", help="split of a --source that has several (train)")
    add("--published_parsing", action="store_true",
        help="drop paragraphs without a role tag, as the published data does")  # fmt: skip
    add("--prompt_from", nargs="+", metavar="FIELD",
        help="field of the prompt (prompt, instruction, question), or several whose texts make it")  # fmt: skip
    add("--responses_from", nargs="+", metavar="FIELD", help="field of the list of responses, or a field each")
    add("--rewards_from", nargs="+", metavar="FIELD", help="field of scores, ranks or votes, or a field each")
    add("--ranks", action="store_true", help="the numbers of --rewards_from are ranks: the lowest is the best")
    add("--id_from", metavar="FIELD", help="field of the prompt's id (id, prompt_id, else made of its words)")
    add("--ignore", nargs="+", metavar="FIELD", help="fields with text that are knowingly not read")
    add("--drop_unrated", action="store_true", help="leave out responses whose reward is not given (N/A, null)")
    add("--merge_prompts", action="store_true", help="put rows of one prompt together into one ranking")
    add("--join", nargs="+", metavar="FILE", help="answers and judgements, by id, to the prompts of --source")


def _add_model_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("models (alone or under training/launch.py)").add_argument
    add("--candidates", nargs="+", metavar="MODEL", help="causal LMs that sample further responses")
    add("--num_per_model", type=int, metavar="N", help="responses that each one samples per prompt (1)")
    add("--reward_model", metavar="MODEL", help="scores every training response, raw logits")
    add_sampling_flags(add)


def add_sampling_flags(add: Callable[..., Any]) -> None:
    """How responses are sampled; `add` is a parser's or a group's add_argument."""
    add("--temperature", type=float, default=Config.temperature, help="of sampling (1.0)")
    add("--top_p", type=float, default=Config.top_p, help="of sampling (0.95)")
    add("--max_new_tokens", type=int, default=Config.max_new_tokens, help="tokens per sampled response (128)")
    add("--batch_size", type=int, default=Config.batch_size, help="responses per batch and process (16)")
    add("--mixed_precision", choices=("bf16", "fp16", "no"), default=Config.mixed_precision,
        help="of the models that sample, on a GPU (bf16)")  # fmt: skip


def _add_output_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("output").add_argument
    add("--ranking_len", type=int, metavar="K", help="responses per ranking (as many as most prompts have)")
    add("--max_rows", type=int, metavar="N", help="keep the first N rows of each test file")
    add("--train_rows", type=int, metavar="N", help="keep a sample of N training prompts")
    add("--dev_from", choices=("train", "test"),
        help="split of --raw that dev rows are drawn from (test: the published leak)")  # fmt: skip
    add("--dev_rows", type=int, help=f"number of dev rows ({DEV_ROWS}; of --source at most a tenth)")
    add("--decontaminate", action="store_true", help="drop training prompts near dev or test prompts")
    add("--seed", type=int, help=f"of every draw ({SEED})")
    add("--tokenizer", metavar="PATH_OR_NAME",
        help="counts the data card's tokens ($LLaMA_path, else the reward model's, else words)")  # fmt: skip
    add("--export", choices=("trl", "prompts"), help="only write --source for TRL, or its prompts with ids")
    add("--form", choices=("conversational", "standard"), help="TRL's form of --export trl (conversational)")
    add("--output", type=Path, metavar="FILE", help="file of --export")
