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
from data_preprocess.hub import SOURCE_FORMS
from data_preprocess.preparing.export import PAIR_FORMS
from data_preprocess.preparing.recipes import NONE, RECIPES, Mapping, Recipe
from data_preprocess.preparing.votes import COMBINATIONS
from data_preprocess.ranking import SEED

DEV_ROWS = 280
TO_LABEL = ("prompts", "argilla", "label_studio", "table")  # exports for people; the others are for training


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which data to read, and how to split it into train, dev and test files."""

    raw: str | None = setting("folder of raw HH-RLHF, or Anthropic/hh-rlhf (the hub)", metavar="DIR", default=None)
    source: str | None = setting(f"any other data: {SOURCE_FORMS}", metavar="DATA", default=None)
    recipe: str | None = setting(
        "how to read a published data set (default: by its name or columns, if known; none: by the usual fields)",
        choices=(*(recipe.name for recipe in RECIPES), NONE),
        default=None,
    )
    split: str | None = setting("split of --source to read, if it has several (default: the recipe's, else train)",
                                default=None)  # fmt: skip
    subset: str | None = setting("subset of a data set that has several", metavar="NAME", default=None)
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
    keep_columns: bool = setting(
        "keep the other plain fields of a row in meta.columns (always with --join)", default=False
    )
    drop_unrated: bool = setting("drop responses without a reward (N/A, null)", default=False)
    skip_invalid: bool = setting("skip rows that would be refused, and count them", default=False)
    merge_prompts: bool = setting("merge rows that share a prompt into one ranking", default=False)
    ranking_len: int | None = setting(
        "responses per ranking (default: the most frequent number)",
        count(at_least=2, at_most=1000),
        metavar="K",
        default=None,
    )
    max_words: int | None = setting(
        "drop rows whose prompt, with its role tags, or one of whose responses has more than N words",
        metavar="N",
        default=None,
    )
    max_rows: int | None = setting("keep the first N rows of each test file", metavar="N", default=None)
    train_rows: int | None = setting("keep a random sample of N training prompts", metavar="N", default=None)
    train_from: str = setting(
        "release of --raw that training prompts come from; test: all parts come from the test release, with no first "
        "human turn and no near-duplicate in common",
        choices=("train", "test"),
        default="train",
    )
    reward_rows: tuple[int, ...] = setting(
        "--train_from test: pairs kept apart to train reward models, a number for each model (data/reward/)",
        count(),
        metavar="N",
        default=(),
    )
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
        self.refuse_with_raw("recipe", "split", "subset", "prompt_from", "responses_from", "id_from", "ignore",
                             "keep_columns", "drop_unrated", "skip_invalid", "merge_prompts")  # fmt: skip
        if self.raw and self.test_rows:
            raise InputError("--test_rows applies to --source, and --raw is given")
        for flag in ("published_parsing", "max_rows"):
            if self.source and getattr(self, flag):
                raise InputError(f"--{flag} applies to --raw, and --source is given")
        if self.source and self.dev_from != "train":
            raise InputError("--dev_from test applies to --raw, and --source is given")
        self.check_train_from()
        most = 2 + self.n_sampled
        if self.raw and (self.ranking_len or 0) > most:
            added = f" and {self.n_sampled} sampled responses" if self.n_sampled else ""
            raise InputError(f"--ranking_len: {self.ranking_len} (expected at most {most}: a pair{added})")

    def check_train_from(self) -> None:
        """Raises InputError if --train_from test lacks a flag, or is combined with one that contradicts it."""
        if self.train_from == "train":
            if self.reward_rows:
                raise InputError("--reward_rows needs --train_from test, of whose pairs a part is kept apart")
            return
        if self.source:
            raise InputError("--train_from test applies to --raw, and --source is given")
        if self.dev_from == "test":
            raise InputError("--dev_from and --train_from test: give one of them (the latter has dev rows of its own)")
        if not self.max_rows:
            raise InputError("--train_from test needs --max_rows, the rows of each test file")

    def refuse_with_raw(self, *flags: str) -> None:
        """Raises InputError if --raw is combined with a flag for reading --source."""
        for flag in flags:
            if self.raw and getattr(self, flag):
                raise InputError(f"--{flag} applies to --source, and --raw is given")

    @property
    def n_sampled(self) -> int:
        """Number of responses that models add to each prompt."""
        return 0

    def names_columns(self) -> bool:
        """Returns whether flags say which columns hold prompt or responses."""
        return bool(self.prompt_from or self.responses_from)

    def mapping(self, recipe: Recipe | None) -> Mapping:
        """Returns which fields of --source hold what: as flags say, else the recipe; without rewards."""
        base = recipe.mapping if recipe else Mapping()
        return Mapping(
            prompt=self.prompt_from or base.prompt,
            responses=self.responses_from or base.responses,
            id=self.id_from,
            ignore=self.ignore,
            keep=self.keep_columns,
            drop_unrated=self.drop_unrated or base.drop_unrated,
            needs_rewards=self.drop_unrated,
        )


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(DataConfig):
    """Preparation of data whose rewards are given, in the data or by labellers."""

    rewards_from: tuple[str, ...] | None = setting(
        "field of scores, ranks or votes, or one field per response", metavar="FIELD", default=None
    )
    ranks: bool = setting("the numbers of --rewards_from are ranks: the lowest is the best", default=False)
    winner_from: str | None = setting(
        "instead of --rewards_from: field that says which response is better", metavar="FIELD", default=None
    )
    winner_values: tuple[str, ...] | None = setting(
        "value of --winner_from for each response (default: 0 1 ...; negative positive: by the sign of a number)",
        metavar="VALUE",
        default=None,
    )
    join: tuple[str, ...] | None = setting(
        "files of answers and judgements for the prompts of --source, by id", metavar="FILE", default=None
    )
    combine: str | None = setting(
        "how --join makes one reward of several judgements (default: mean; of votes: copeland)",
        choices=COMBINATIONS,
        default=None,
    )
    export: str | None = setting(
        "only export --source: its pairs for training, or its prompts, with responses to rank or without, for people",
        choices=(*PAIR_FORMS, *TO_LABEL),
        default=None,
    )
    form: str = setting("TRL format of --export trl", choices=("conversational", "standard"), default="conversational")
    output: Path | None = setting("output file of --export; a folder for argilla", metavar="FILE", default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_with_raw("rewards_from", "ranks", "winner_from", "join", "export")
        for flag in ("rewards_from", "ranks"):
            if self.winner_from and getattr(self, flag):
                raise InputError(f"--{flag} and --winner_from: give one of them")
        if self.winner_values and not self.winner_from:
            raise InputError("--winner_values needs --winner_from, the field that has these values")
        if self.winner_values and len(set(self.winner_values)) < len(self.winner_values):
            raise InputError(
                f"--winner_values {' '.join(self.winner_values)}: one value twice (expected one per response)"
            )
        if self.join and self.merge_prompts:
            raise InputError("--join and --merge_prompts (expected one of them: --join takes each prompt once)")
        if self.combine and not self.join:
            raise InputError(f"--combine {self.combine} needs --join, the judgements to combine")
        if self.form == "standard" and self.export != "trl":
            raise InputError("--form standard applies to --export trl")
        if bool(self.export) != bool(self.output):
            raise InputError("--export and --output: give both, or neither")

    def names_columns(self) -> bool:
        return super().names_columns() or bool(self.rewards_from or self.winner_from)

    def mapping(self, recipe: Recipe | None) -> Mapping:
        base = recipe.mapping if recipe else Mapping()
        to_judge = bool(self.join) or self.export in TO_LABEL  # whatever rewards the data has
        needs_rewards = self.drop_unrated or bool(self.rewards_from or self.winner_from) or not to_judge
        mapping = replace(super().mapping(recipe), keep=self.keep_columns or to_judge, needs_rewards=needs_rewards)
        if self.rewards_from:
            return replace(mapping, rewards=self.rewards_from, ranks=self.ranks)
        if self.winner_from:
            return replace(mapping, winner=self.winner_from, winner_values=self.winner_values)
        rewards = {"rewards": base.rewards, "ranks": base.ranks or self.ranks}
        return replace(mapping, **rewards, winner=base.winner, winner_values=base.winner_values)
