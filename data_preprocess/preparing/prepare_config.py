"""Settings of prepare.py, most of them shared with labelling/annotate.py: flags, and which ones exclude each other."""

from dataclasses import dataclass, replace
from pathlib import Path

from data_preprocess.command import (
    InputError,
    check_number,
    check_one_given,
    check_seed,
    check_settings,
    count,
    setting,
    within,
)
from data_preprocess.preparing.row_formats import Mapping
from data_preprocess.ranking import SEED

DEV_ROWS = 280


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which data to read, and how to split it into train, dev and test files."""

    raw: str | None = setting("folder of raw HH-RLHF, or Anthropic/hh-rlhf (the hub)", metavar="DIR", default=None)
    source: str | None = setting(
        "any other data: JSONL, JSON array, Parquet, folder, or name on the hub", metavar="DATA", default=None
    )
    split: str = setting("split of --source to read, if it has several", default="train")
    published_parsing: bool = setting("drop paragraphs without a role tag, as in the published data", default=False)
    prompt_from: tuple[str, ...] | None = setting(
        "field of the prompt (default: prompt, instruction or question), or several fields to join",
        metavar="FIELD",
        default=None,
    )
    responses_from: tuple[str, ...] | None = setting(
        "field of the list of responses, or one field per response", metavar="FIELD", default=None
    )
    id_from: str | None = setting(
        "field of the prompt's id (default: id or prompt_id, else a hash of its words)", metavar="FIELD", default=None
    )
    ignore: tuple[str, ...] = setting("fields with text to ignore", metavar="FIELD", default=())
    drop_unrated: bool = setting("drop responses without a reward (N/A, null)", default=False)
    merge_prompts: bool = setting("merge rows that share a prompt into one ranking", default=False)
    ranking_len: int | None = setting(
        "responses per ranking (default: the most frequent number)",
        count(at_least=2, at_most=1000),
        metavar="K",
        default=None,
    )
    max_rows: int | None = setting("keep the first N rows of each test file", metavar="N", default=None)
    train_rows: int | None = setting("keep a random sample of N training prompts", metavar="N", default=None)
    dev_from: str = setting(
        "split of --raw from which dev rows are drawn (test: as published, a leak)",
        choices=("train", "test"),
        default="train",
    )
    dev_rows: int | None = setting(
        f"number of dev rows (default: {DEV_ROWS}; of --source at most a tenth)", within(), metavar="N", default=None
    )
    test_rows: int = setting(
        "number of prompts of --source to hold out as data/hh_test/test.json", count(at_least=0), metavar="N", default=0
    )
    decontaminate: bool = setting("drop near-duplicates of dev or test prompts from train", default=False)
    seed: int = setting("random seed", check_seed, default=SEED)
    tokenizer: str | None = setting(
        "for token counts in the data card (default: $LLaMA_path, else that of a model used, else words are counted)",
        metavar="PATH_OR_NAME",
        default=None,
    )

    def __post_init__(self) -> None:
        check_one_given(self, "raw", "source", "raw HH-RLHF, or any other data")
        check_settings(self)
        if self.dev_rows is not None:
            check_number("dev_rows", self.dev_rows, at_least=1 if self.raw else 0)
        self.refuse_with_raw("prompt_from", "responses_from", "id_from", "ignore", "drop_unrated", "merge_prompts")
        if self.raw and self.test_rows:
            raise InputError("--test_rows applies to --source, and --raw is given")
        for flag in ("published_parsing", "max_rows"):
            if self.source and getattr(self, flag):
                raise InputError(f"--{flag} applies to --raw, and --source is given")
        if self.source and self.dev_from != "train":
            raise InputError("--dev_from test applies to --raw, and --source is given")
        most = 2 + self.n_sampled
        if self.raw and (self.ranking_len or 0) > most:
            added = f" and {self.n_sampled} sampled responses" if self.n_sampled else ""
            raise InputError(f"--ranking_len: {self.ranking_len} (expected at most {most}: a pair{added})")

    def refuse_with_raw(self, *flags: str) -> None:
        """Raises InputError if --raw is combined with a flag for reading --source."""
        for flag in flags:
            if self.raw and getattr(self, flag):
                raise InputError(f"--{flag} applies to --source, and --raw is given")

    @property
    def n_sampled(self) -> int:
        """Number of responses that models add to each prompt."""
        return 0

    def mapping(self) -> Mapping:
        """Returns which fields of --source hold what."""
        return Mapping(
            prompt=self.prompt_from, responses=self.responses_from, id=self.id_from, ignore=self.ignore,
            drop_unrated=self.drop_unrated,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(DataConfig):
    """Preparation of data whose rewards are given, in the data or by labellers."""

    rewards_from: tuple[str, ...] | None = setting(
        "field of scores, ranks or votes, or one field per response", metavar="FIELD", default=None
    )
    ranks: bool = setting("the numbers of --rewards_from are ranks: the lowest is the best", default=False)
    join: tuple[str, ...] | None = setting(
        "files of answers and judgements for the prompts of --source, by id", metavar="FILE", default=None
    )
    export: str | None = setting(
        "only export --source: as TRL preference pairs, or its prompts with ids",
        choices=("trl", "prompts"),
        default=None,
    )
    form: str = setting("TRL format of --export trl", choices=("conversational", "standard"), default="conversational")
    output: Path | None = setting("output file of --export", metavar="FILE", default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_with_raw("rewards_from", "ranks", "join", "export")
        if self.join and self.merge_prompts:
            raise InputError("--join and --merge_prompts (expected one of them: --join takes each prompt once)")
        if bool(self.export) != bool(self.output):
            raise InputError("--export and --output: give both, or neither")

    def mapping(self) -> Mapping:
        return replace(super().mapping(), rewards=self.rewards_from, ranks=self.ranks)
