"""Study files: what a study runs, in YAML. The built-in ones are in study/profiles/.

A study with `world:` runs on the embedded world (`ToyProfile`); any other runs the launchers on a model and data
(`LaunchedStudy`).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from data_preprocess.command import InputError, check_name, check_number, check_seed, count, flags_in, setting
from data_preprocess.hub import from_here
from data_preprocess.preparing.prepare_config import PrepareConfig
from data_preprocess.ranking import SEED
from data_preprocess.toy_world.world import WorldConfig
from eval_hh.run_paths import MAX_NEW_TOKENS
from labelling.sampling import AnnotateConfig
from study.grid import Grid, Study, fresh_replicates, largest_budget, seeds_of_one_draw
from study.running.launched_study import LEARNING_RATES, LaunchedStudy, train_config
from study.slurm import Cluster
from study.toy.toy_profile import ToyProfile
from study.yaml_settings import Flags, read_yaml, settings_from
from training.config import TrainConfig, micro_batches
from training.reward.config import RewardConfig

PROFILES = Path(__file__).parent / "profiles"
EXPERIMENTS = ("fixed_size", "strategies", "augment")
# Flags of a command that the study sets itself, with values that stand in for them when the others are checked.
SET_BY_STUDY = {
    "index": "study", "training_stage_num": 2, "seed": SEED, "model_name_or_path": "model", "train_file_path": "data",
    "do_train": True, "do_validation": True, "preflight": None, "output_dir": "checkpoints", "log_path": "logs",
    "validation_file_path": "data", "validation_file_name": "sampled_dev.json", "dev_reward_model": "reward_model",
}  # fmt: skip
REWARD_SET_BY_STUDY = {"train_file": "a", "heldout_file": ["b"], "output_dir": "c", "tokenizer": "d"}
WORLD_ONLY, LAUNCHED_ONLY = (
    ("train_reward",),
    (
        "model", "model_variable", "launcher", "folder", "tokenizer", "prepare", "annotate", "machine", "rewards",
        "compare_paper",
    ),
)  # fmt: skip
# Keys with a path or a hub name; a path may be relative to the study file's folder.
SOURCES = ("raw", "source", "join", "reward_model", "candidates", "tokenizer")


def flags_section(kind: type, given: dict[str, Any], help: str) -> Any:
    """Declares a section of flags of the command that `kind` configures; those `given` are set by the study."""
    declared = setting(help)
    more = {"flags_of": kind, "given": given, "sources": SOURCES}
    return field(metadata={**declared.metadata, **more}, default=Flags())


def check_train_flags(before: Sequence[str], flags: Sequence[str]) -> None:
    """Raises InputError if main.py would refuse flags for every training run, or if the study sets one itself.

    Args:
        before: flags of the study for every run, which come first.
        flags: given on the command line after `--`.
    """
    given = flags_in(TrainConfig, flags)
    for name in SET_BY_STUDY:
        if name in given:
            raise InputError(f"--{name}: is set by the study itself (expected other flags of main.py after --)")
    train_config([*before, *flags])


def other_answers(tested: int, flags: Sequence[str]) -> str:
    """Says that flags for every training run choose checkpoints by answers of another length than is tested, if so."""
    if "max_new_tokens" not in flags_in(TrainConfig, flags):
        return ""
    validated = train_config(flags).max_new_tokens
    found = f"training generates {validated} new tokens to choose a checkpoint, the test {tested}"
    return "" if validated == tested else f"{found} (generation.max_new_tokens of a study file alone is for both)"


def source(help: str) -> Any:
    """Declares an optional folder or hub name; a path may be relative to the study file's folder."""
    return field(metadata={**setting(help).metadata, "is_source": True}, default=None)


@dataclass(frozen=True, kw_only=True)
class GridSection:
    """What is varied."""

    sizes: tuple[int, ...] = setting("numbers of prompts M")
    ranking_lens: tuple[int, ...] = setting(
        "numbers of responses K", count(at_least=2, at_most=1000), default=(2, 3, 4)
    )
    algorithms: tuple[str, ...] = setting("PRO, SFT", choices=("PRO", "SFT"), default=("PRO", "SFT"))
    replicates: int | None = setting("draws of the subsets, each with a seed", count(at_most=1000), default=None)
    seeds: tuple[int, ...] = setting("instead: training seeds, all of draw 42", check_seed, default=())
    equal_budget: bool = setting("run only the cells of the largest equal budget", default=False)
    fixed_size: int | None = setting("M of equal-size subsets (default: the smallest of sizes)", default=None)
    match_kind: bool = setting("match the kinds of prompts at low and high D", default=Grid.match_kind)
    augmented: tuple[int, ...] = setting("M of a subset to enlarge, and the number of prompts added", default=())

    def __post_init__(self) -> None:
        for key in ("sizes", "ranking_lens", "algorithms", "seeds"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise InputError(f"--{key} {' '.join(map(str, values))}: expected each once")
        for key in ("sizes", "ranking_lens", "algorithms"):
            if not getattr(self, key):
                raise InputError(f"--{key}: expected at least one")
        if self.replicates and self.seeds:
            raise InputError("--seeds and --replicates: give one of them (seeds of draw 42, or fresh draws and seeds)")
        if self.equal_budget:
            largest_budget("--equal_budget", self.sizes, self.ranking_lens)
        if self.augmented and len(self.augmented) != 2:
            raise InputError("--augmented: expected two numbers, M of the subset and the prompts added")

    @property
    def draws_and_seeds(self) -> tuple[tuple[int, int], ...]:
        """(draw, seed) of each replicate."""
        return tuple(seeds_of_one_draw(self.seeds) or fresh_replicates(self.replicates or 1))

    def grid(self, model: str) -> Grid:
        """Returns the grid, whose experiments' names begin with `model`."""
        return Grid(
            self.sizes, self.ranking_lens, self.algorithms, self.fixed_size or min(self.sizes), self.match_kind,
            self.augmented or (0, 0), tuple(k for k in (2, 4) if k in self.ranking_lens), self.equal_budget, model,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Rewards:
    """The reward models: folders or hub names."""

    dev: str | None = source("selects the best checkpoint of a run")
    test: str | None = source("scores the test responses")


@dataclass(frozen=True, kw_only=True)
class Generation:
    """How the trained models answer, in validation and in the test."""

    max_new_tokens: int | None = setting("maximum tokens of a response", default=None)
    batch_size: int | None = setting("prompts per batch of a process", default=None)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a cell may use of the machine: the launchers' environment variables (training/README.md)."""

    num_processes: int = setting("processes, for a GPU each", count(at_most=99999), default=1)
    batch_size: int | None = setting("maximum prompts per pass in training", count(at_most=999999), default=None)
    zero_stage: int = setting("0: no DeepSpeed; 2 or 3: ZeRO", choices=(0, 2, 3), default=0)
    mixed_precision: str = setting("bf16 or no", choices=("bf16", "no"), default="no")

    def environment(self) -> dict[str, str]:
        """Returns the launchers' variables."""
        found = {"NUM_PROCESSES": self.num_processes, "BATCH_SIZE": self.batch_size, "ZERO_STAGE": self.zero_stage}
        found |= {"MIXED_PRECISION": self.mixed_precision}
        return {name: str(value) for name, value in found.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class StudyFile:
    """A study, as its file describes it."""

    name: str = setting("name of the study and its folder", check_name)
    title: str | None = setting("heading of its page", default=None)
    model: str | None = source("base model: folder or hub name")
    model_variable: str | None = setting("environment variable that, if set, names another base model", default=None)
    launcher: str = setting("training/train_hh_*_LAUNCHER.sh is called", choices=tuple(LEARNING_RATES), default="1b3")
    folder: str | None = setting("folder under STUDY_ROOT (default: runs/NAME)", default=None)
    tokenizer: str | None = source("tokenizer of the diversity D (default: the base model's)")
    grid: GridSection = setting("sizes, ranking_lens, algorithms, replicates")
    experiments: tuple[str, ...] = setting("further cells", choices=EXPERIMENTS, default=())
    rewards: Rewards | None = setting("dev and test reward model", default=None)
    prepare: Flags = flags_section(PrepareConfig, {"export": None, "output": None}, "flags of prepare.py")
    annotate: Flags = flags_section(AnnotateConfig, {"to_rank": None}, "flags of annotate.py")
    training: Flags = flags_section(TrainConfig, SET_BY_STUDY, "flags of main.py")
    generation: Generation = setting("how models answer", default=Generation())
    machine: Machine | None = setting("processes, batch_size, precision", default=None)
    cluster: Cluster = setting("limits of its jobs under Slurm", default=Cluster())
    world: WorldConfig | None = setting("the embedded world instead of a model and data", default=None)
    train_reward: Flags = flags_section(RewardConfig, REWARD_SET_BY_STUDY, "flags of train_reward.py, with a world")
    compare_paper: bool = setting("show the paper's values beside the study's", default=False)

    def __post_init__(self) -> None:
        given = {each.name for each in fields(self) if getattr(self, each.name) != each.default}
        for key in LAUNCHED_ONLY if self.world else WORLD_ONLY:
            if key in given:
                kind = "with world:" if self.world else "without world:"
                raise InputError(f"--{key}: not a key of a study {kind}")
        if not self.world and not self.model:
            raise InputError("--model: missing (expected a base model, or world: for the embedded world)")
        if self.prepare and self.annotate:
            raise InputError("--annotate and --prepare: give one of them (rewards by a reward model, or the data's)")
        if "augment" in self.experiments and not self.world:
            raise InputError("--experiments augment: only with world: (for another model: labelling/augment.py)")
        if "augment" in self.experiments and not self.grid.augmented:
            raise InputError("--experiments augment: expected grid.augmented too")
        if self.folder and (Path(self.folder).is_absolute() or ".." in Path(self.folder).parts):
            raise InputError(f"--folder {self.folder}: expected a folder under STUDY_ROOT")
        if self.world:
            most = self.world.train_rows
            for key, values in (("sizes", self.grid.sizes), ("fixed_size", (self.grid.fixed_size or 1,))):
                for value in values:
                    check_number(f"grid.{key}", value, at_most=most)
            check_number("grid.ranking_lens", max(self.grid.ranking_lens), at_most=self.world.ranking_len)
            if self.cluster.nodes > 1:
                raise InputError("--cluster: expected one node with world:, which runs in the workers of one machine")
        if self.machine:
            self._check_step(self.machine.num_processes)

    def _check_step(self, num_processes: int) -> None:
        """Raises InputError if the processes cannot share a step of the global batch."""
        try:
            micro_batches(train_config(self.training), num_processes)
        except InputError as error:
            raise InputError(f"--machine: {error}") from None

    def toy(self, source: tuple[str, ...]) -> ToyProfile:
        """Returns the study of the embedded world that the file describes."""
        return ToyProfile(
            name=self.name, title=self.title or self.name, grid=self.grid.grid(""),
            replicates=self.grid.draws_and_seeds, experiments=self.experiments, pretrain=(),
            train_reward=tuple(self.train_reward), train=tuple(self.training),
            max_new_tokens=self.generation.max_new_tokens or MAX_NEW_TOKENS,
            eval_batch_size=self.generation.batch_size or 16,
            world=self.world, source=source, cluster=self.cluster,
        )  # fmt: skip

    def launched(self, source: tuple[str, ...]) -> LaunchedStudy:
        """Returns the study on a model and data that the file describes."""
        folder = self.folder or f"runs/{self.name}"
        limits = self.machine.environment() if self.machine else {}
        rewards = self.rewards or Rewards()
        answers = ("--max_new_tokens", str(self.generation.max_new_tokens)) if self.generation.max_new_tokens else ()
        batch = {"BATCH_SIZE": str(self.generation.batch_size)} if self.generation.batch_size else {}
        command = ("prepare.py", *self.prepare) if self.prepare else ("annotate.py", *self.annotate)
        return LaunchedStudy(
            name=self.name, title=self.title or self.name, grid=self.grid.grid(self.name if folder == "." else ""),
            replicates=self.grid.draws_and_seeds, experiments=self.experiments, folder=folder,
            model=from_here(os.environ.get(self.model_variable or "")) or self.model, launcher=self.launcher,
            tokenizer=self.tokenizer or (None if folder == "." else self.model),
            data_command=command if len(command) > 1 else (),
            train_flags=(*answers, *self.training), eval_flags=answers,
            train_environment=limits | ({"DEV_REWARD_MODEL": rewards.dev} if rewards.dev else {}),
            eval_environment=limits | batch | ({"TEST_REWARD_MODEL": rewards.test} if rewards.test else {}),
            compare_paper=self.compare_paper, source=source, cluster=self.cluster,
        )  # fmt: skip


def read_study(path: Path, source: tuple[str, ...]) -> Study:
    """Reads and checks a study file as a whole. Raises InputError that names file, line and key.

    Args:
        path: the YAML file.
        source: the flag of reproduce.py that names it, for job scripts.
    """
    if not path.is_file():
        raise InputError(f"--study {path}: no such file")
    described: StudyFile = settings_from(StudyFile, read_yaml(path))
    return described.toy(source) if described.world else described.launched(source)


def built_in(name: str) -> Study:
    """Returns the study of study/profiles/NAME.yaml."""
    return read_study(PROFILES / f"{name}.yaml", ("--profile", name))


def profile_names() -> list[str]:
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))
