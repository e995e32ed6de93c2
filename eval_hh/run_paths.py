"""Paths of an evaluated run and its results, the flags that name them, and the rows passed from step to step."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_preprocess.command import InputError, check_name, check_one_given, check_settings, count, setting, study_root
from data_preprocess.dialogue import CHAT, HH, with_system
from data_preprocess.files import at_line, read_json, read_jsonl
from data_preprocess.records import check_row
from eval_hh.cells import MODEL_ROWS, TEST_FILES

BEST_CHECKPOINT = "best_checkpoint"  # checkpoint folder that the trainer chose on the dev set
TEST_REWARD_MODEL = "OpenAssistant/oasst-rm-2-pythia-6.9b-epoch-1"  # the paper's
MAX_NEW_TOKENS = 128  # of a tested response, the paper's
PRECISIONS = ("bf16", "fp16", "no")  # of the weights; a CPU has bf16 or no, and float32 unless asked
GIVEN = "instead_of_the_run"  # in the note of texts that are named like a run's but are another model's


class ResultPaths:
    """What the paths of every evaluation have in common."""

    root: Path  # of the study

    def test_file(self, name: str) -> Path:
        return self.root / "data" / "hh_test" / f"{name}.json"

    def _results(self) -> Path:
        return self.root / "eval_hh" / "inference_res"


@dataclass(frozen=True)
class ModelNames(ResultPaths):
    """Paths of the evaluation of a model that has a row of its own: a base model, an outside one, ceiling or floor."""

    name: str
    root: Path = field(default_factory=study_root)

    def __str__(self) -> str:
        return self.name

    @property
    def flags(self) -> str:
        """The flags that name what is tested, for messages."""
        return f"--name {self.name}"

    def generated(self, name: str) -> Path:
        return self._results() / "models" / self.name / "cache" / f"infer_generate_main_{name}.json"

    def scored(self, name: str) -> Path:
        return self._results() / "models" / self.name / f"infer_main_{name}.json"

    def cell(self) -> Path:
        """Returns the path of the result file."""
        return self.root / "eval_hh" / "results" / MODEL_ROWS / f"{self.name}.json"


@dataclass(frozen=True)
class Names(ResultPaths):
    """Paths of the evaluation of one checkpoint under a study's root (the published names)."""

    index: str  # name of the experiment
    stage: int  # ranking length trained on
    checkpoint: str = BEST_CHECKPOINT
    root: Path = field(default_factory=study_root)

    def __str__(self) -> str:
        return f"{self.index}, stage {self.stage}"

    @property
    def flags(self) -> str:
        """The flags that name this checkpoint, for messages."""
        other = "" if self.checkpoint == BEST_CHECKPOINT else f" --checkpoint {self.checkpoint}"
        return f"--index {self.index} --stage {self.stage}{other}"

    @property
    def run_folder(self) -> Path:
        return self.root / "checkpoints" / f"index_{self.index}" / f"stage_{self.stage}"

    @property
    def metrics_file(self) -> Path:
        return self.root / "logs" / self.index / str(self.stage) / "metrics.jsonl"

    @property
    def run_record(self) -> Path:
        return self.run_folder / "run.json"

    def trained_format(self) -> str | None:
        """Returns the prompt format that the run was trained in, or None if there is no record of the run."""
        if not self.run_record.is_file():
            return None
        record = read_json(self.run_record)
        config = record.get("config") if isinstance(record, dict) else None
        if not isinstance(config, dict):
            raise InputError(f"{self.run_record}: config: missing (expected the run's settings)")
        name = config.get("prompt_format", HH)  # older runs knew no other
        if name not in (HH, CHAT):
            raise InputError(f"{self.run_record}: config: prompt_format is {name!r:.40} (expected {HH} or {CHAT})")
        return name

    def generated(self, name: str) -> Path:
        return self._results() / "cache" / f"infer_generate_main_{self._key()}_{name}.json"

    def scored(self, name: str) -> Path:
        return self._results() / f"infer_main_{self._key()}_{name}.json"

    def cell(self) -> Path:
        """Returns the path of the result file; a checkpoint other than the best one has its own."""
        other = "" if self.checkpoint == BEST_CHECKPOINT else f"_{self.checkpoint}"
        return self.root / "eval_hh" / "results" / f"{self.index}_{self.stage}{other}.json"

    def _key(self) -> str:
        return f"{self.index}_{self.stage}_{self.checkpoint}"


AnyNames = Names | ModelNames


def all_test_files() -> tuple[str, ...]:
    """Returns the names of the study's test files: HH-RLHF's four if one of them is there, else all that are."""
    found = sorted(path.stem for path in (study_root() / "data" / "hh_test").glob("*.json"))
    return tuple(found) if found and not set(found) & set(TEST_FILES) else TEST_FILES


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The flags that all evaluation steps share."""

    index: str | None = setting("name of the experiment", check_name, default=None)
    stage: int | None = setting("ranking length trained on (1 for SFT)", count(at_most=1000), default=None)
    name: str | None = setting("instead of both: name of a row of its own, for a model of no run", check_name,
                               default=None)  # fmt: skip
    checkpoint: str = setting("checkpoint folder of the run to test", check_name, default=BEST_CHECKPOINT)
    test_files: tuple[str, ...] = setting(
        "names under data/hh_test, without .json", check_name, default_factory=all_test_files
    )
    check: bool = setting("only check that all inputs exist and are well-formed", default=False)

    def __post_init__(self) -> None:
        check_settings(self)
        check_one_given(self, "index", "name", "a run, with its --stage, or a row of its own")
        if self.name and (self.stage or self.checkpoint != BEST_CHECKPOINT):
            raise InputError(f"--name {self.name}: --stage and --checkpoint are of a run (expected neither beside it)")
        if self.index and not self.stage:
            raise InputError(f"--index {self.index}: expected its --stage beside it")

    @property
    def names(self) -> AnyNames:
        """The paths of what is tested."""
        return ModelNames(self.name) if self.name else Names(self.index, self.stage, self.checkpoint)


def below_root(value: Any, root: Path | None = None) -> Any:
    """Returns a path under a root (default: STUDY_ROOT) relative to it; any other value of a setting unchanged."""
    root = root or study_root()
    if isinstance(value, str) and Path(value).is_relative_to(root):
        return Path(value).relative_to(root).as_posix()
    return value


def last_part(value: Any) -> Any:
    """Returns the last part of a path or hub name, by which a moved model is known, also in a list; else the value."""
    if isinstance(value, list | tuple):
        return [last_part(one) for one in value]
    return Path(value).name if isinstance(value, str | Path) else value


def model_name(identity: dict[str, Any]) -> str:
    """Returns the name of a model's `folder_identity`: its path under STUDY_ROOT, else its folder or hub name."""
    name = below_root(identity["name"])
    return last_part(name) if Path(name).is_absolute() else name


def check_same_model(path: Path, identity: dict[str, Any]) -> None:
    """Raises InputError if a result file is there and of another model than this; a damaged one is written anew."""
    try:
        theirs = read_json(path)["evaluation"]["generation"]["model"]
    except (InputError, KeyError, TypeError):
        return
    if theirs != model_name(identity):
        hint = f"the new one gets a row of its own by: sh eval.sh --model {identity['name']} NAME"
        raise InputError(f"{path}: is the result of {theirs}, which {identity['name']} would overwrite ({hint})")


def recorded_precision(asked: str | None, default: str) -> str:
    """Returns the precision of weights as results record it, for `weights_dtype`.

    Args:
        asked: of --mixed_precision; None if it was not given, which on the CPU means float32.
        default: of a GPU. It is recorded on the CPU too, as it always was, so that earlier results stay valid.

    Raises:
        InputError: this process computes on a CPU that does not have it.
    """
    if asked in (None, "no"):
        return asked or default
    from eval_hh.inference.models import CPU_BF16, check_cpu_precision, device

    check_cpu_precision(asked)
    return CPU_BF16 if device().type == "cpu" else asked


def read_results(path: Path, *keys: str) -> list[dict]:
    """Reads the rows of an earlier step's output, each with infer[key] for every key.

    Raises:
        InputError: names file and line of a row that is not a test row with these results.
    """
    rows = []
    for number, row in read_jsonl(path):
        _check_result(row, keys, f"{path}:{number}")
        rows.append(row)
    return rows


def encode_rows(encode: Callable[..., Any], rows: list[dict], path: Path, *keys: str) -> list:
    """Returns encode(prompt's turns, infer[key] of every key) of a file's rows; InputError names a bad one's line."""
    encoded = []
    for number, row in enumerate(rows, 1):
        with at_line(path, number):
            encoded.append(encode(with_system(row["prefix"][0], row["meta"]), *(row["infer"][key] for key in keys)))
    return encoded


def check_made_of(rows: list[dict], path: Path, source_rows: list[dict], source: Path, hint: str) -> None:
    """Raises InputError unless an output's rows match its source's, in order, including the texts in "infer".

    Args:
        rows: of `path`.
        path: the output.
        source_rows: of `source`.
        source: what the output was made from.
        hint: what to do, for the message.
    """
    if len(rows) != len(source_rows):
        raise InputError(f"{path}: {len(rows)} rows, but {source} has {len(source_rows)} ({hint})")
    for number, (row, its) in enumerate(zip(rows, source_rows, strict=True), 1):
        text = its.get("infer", {}).get("t", row["infer"]["t"])
        if _test_row(row) != _test_row(its) or row["infer"]["t"] != text:
            raise InputError(f"{path}:{number}: does not match {source}:{number} ({hint})")


def _test_row(row: dict) -> dict:
    return {name: value for name, value in row.items() if name not in ("infer", "line_index")}


def is_value(key: str, value: Any) -> bool:
    """Returns whether `value` can be infer[key]: a text for "t", a judge's for "answer", else a finite number."""
    if key == "t":
        return isinstance(value, str)
    if key == "answer":
        counts = ("prompt_tokens", "completion_tokens")
        is_whole = isinstance(value, dict) and all(type(value.get(name)) is int for name in counts)
        return is_whole and isinstance(value.get("text"), str)
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _check_result(row: dict, keys: tuple[str, ...], where: str) -> None:
    infer = row.get("infer")
    for key in keys:
        if not isinstance(infer, dict) or key not in infer:
            raise InputError(f"{where}: infer.{key} is missing (expected the output of the previous step)")
        value = infer[key]
        if not is_value(key, value):
            expected = "a text" if key == "t" else "a finite number"
            raise InputError(f"{where}: infer.{key} is {value!r:.40} (expected {expected})")
        if key == "score" and not 0 <= value <= 1:
            raise InputError(f"{where}: infer.score is {value} (expected 0 to 1, what rewarding.py writes)")
    check_row(_test_row(row), where, training=False)
