"""Whether what an earlier start of a study made has the settings that the study has now; otherwise it is not reused.

A finished cell is not trained again. A changed study file would leave it as it is, and the report would compare cells
that were trained in different ways.
"""

import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

from data_preprocess.command import InputError, parse_settings
from data_preprocess.dialogue import HH
from data_preprocess.preparing.prepare_config import PrepareConfig
from data_preprocess.provenance import fingerprint
from eval_hh.cells import BASE, load_cell
from eval_hh.inference.prompt_format import resolved_format
from eval_hh.run_paths import TEST_REWARD_MODEL, ModelNames, below_root, last_part
from labelling.sampling import AnnotateConfig
from study.grid import Cell
from study.running.launched_study import LEARNING_RATES, LaunchedStudy
from training.config import DEV_REWARD_MODEL, TrainConfig
from training.saving.checkpoints import RunFolder, changed_settings, default_settings
from training.saving.manifest import folder_checksum

# Limits of the machine, where a model is served, and the largest K, from which smaller ones are cut.
FREE_FOR_DATA = {"batch_size", "endpoint", "ranking_len"}
MODELS = ("model_name_or_path", "dev_reward_model")  # known by the last part of their path, since folders are moved


def changed_cells(study: LaunchedStudy, cells: Sequence[Cell]) -> Iterator[str]:
    """Yields a line for each cell that was trained or tested with other settings than the study has now.

    What does not affect results may differ, as on resuming; an unfinished run may also become longer. An invalid result
    file is left to the report, which names it.
    """
    for cell in cells:
        result, run = study.result(cell), RunFolder(study.names(cell).run_folder)
        if made := valid_result(result):
            trained, tested = changed_run(study, cell, made, is_finished=True), changed_test(study, made)
            yield from _line(result, [*trained, *tested], cell.name, f"this file and {run.path}" if trained else "it")
        elif not result.is_file() and run.record.is_file():
            trained = changed_run(study, cell, run.read_record(), is_finished=False)
            yield from _line(run.record, trained, cell.name, run.path)


def changed_rows(study: LaunchedStudy) -> Iterator[str]:
    """Yields a line for each result of no cell (base model, floor, ceiling) that was tested in another way."""
    for path in study.rows():
        if made := valid_result(path):
            texts = ModelNames(path.stem, study.root).generated("").parent
            yield from _line(path, changed_test(study, made), path.stem, f"this file and {texts}")


def check_data(study: LaunchedStudy) -> None:
    """Raises InputError if the study's data are there but were made in another way, as their card says.

    A card whose command cannot be read, perhaps another version's, says nothing. Paths are compared by their last part,
    since a study may be moved.
    """
    card = study.root / "data" / "README.md"
    made = made_by(card) if study.data_command and study.rankings.is_file() else None
    ours = data_settings(study.data_calls([])[0].words) if made else None
    if made and ours and made["command"] == ours["command"]:  # else the card is of data that were made apart
        names = [name for name in {**made, **ours} if name not in FREE_FOR_DATA and made.get(name) != ours.get(name)]
        changes = [f"{name} was {made.get(name)!r}, is {ours.get(name)!r}" for name in names]
        for line in _line(card, changes, "the data", study.root / "data"):
            raise InputError(line)


def made_by(card: Path) -> dict[str, Any] | None:
    """Returns the settings of the command that a data card names; None if there is none that can be read."""
    try:
        lines = card.read_text(encoding="utf-8").splitlines()
        return data_settings(shlex.split(lines[lines.index("Written by:") + 2]))
    except (OSError, ValueError, IndexError):
        return None


def data_settings(words: Sequence[str]) -> dict[str, Any] | None:
    """Returns the command's name and settings of a call of prepare.py or annotate.py; None if it is not one."""
    kind = {"prepare.py": PrepareConfig, "annotate.py": AnnotateConfig}.get(words[1])
    if kind is None:
        return None
    try:
        with redirect_stderr(StringIO()):
            settings = dataclasses.asdict(parse_settings(kind, list(words[2:]), ""))
    except (InputError, SystemExit):
        return None
    return {"command": words[1], **{name: last_part(value) for name, value in settings.items()}}


def _line(path: Path, changes: list[str], name: str, made: object) -> Iterator[str]:
    """Yields a line if a file tells of changes in a cell, a row or data; `made` is what would have to be deleted."""
    if changes:
        hint = f"expected the same, or a study of another name; to make it anew, delete {made}"
        yield f"{path}: {name} was made with other settings: {'; '.join(changes)} ({hint})"


def valid_result(path: Path) -> dict[str, Any] | None:
    """Returns the content of a result file; None if it is missing or invalid."""
    try:
        return load_cell(path)
    except InputError:
        return None


def changed_run(study: LaunchedStudy, cell: Cell, made: dict[str, Any], is_finished: bool) -> list[str]:
    """Describes how a run differs from the one that the study would make now, in what its record or result has of it.

    Of what the launcher decides, it is the precision.
    """
    config = run_config(study, cell)
    data = {"train": Path(config.train_file_path) / "train.json", "dev": config.dev_file}
    recorded = made["data_sha256"] or {}
    hashes = {name: file_hash(path) for name, path in data.items() if name in recorded and path.is_file()}
    if "base_model" in recorded:
        hashes["base_model"] = model_hash(study.model)
    launch = {"mixed_precision": study.variable("MIXED_PRECISION")}
    ours = {
        "config": _below(dataclasses.asdict(config), study.root),
        "launch": launch if made["launch"] else {},
        "data_sha256": hashes,
    }
    theirs = {
        "config": _below(default_settings(TrainConfig) | made["config"], study.root),
        "launch": made["launch"] or {},
        "data_sha256": recorded,
    }
    return changed_settings(ours, theirs, is_finished)


def _below(config: dict[str, Any], root: Path) -> dict[str, Any]:
    """Returns settings as a result file has them, whose paths under the root are relative to it."""
    return {name: last_part(value) if name in MODELS else below_root(value, root) for name, value in config.items()}


def run_config(study: LaunchedStudy, cell: Cell) -> TrainConfig:
    """Returns the settings of a run of the cell, as its launcher would give them to main.py."""
    data = study.root / "data"
    given = {
        "index": cell.exp, "model_name_or_path": study.model, "train_file_path": data / cell.data,
        "training_stage_num": cell.stage, "seed": cell.seed, "validation_file_path": data / "hh_dev",
        "dev_reward_model": study.variable("DEV_REWARD_MODEL", DEV_REWARD_MODEL),
        "learning_rate": LEARNING_RATES[study.launcher],
    }  # fmt: skip
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    config = parse_settings(TrainConfig, ["--do_train", "--do_validation", *words, *study.train_flags], "")
    return dataclasses.replace(config, prompt_format=format_of(config.prompt_format, study.model))


def changed_test(study: LaunchedStudy, made: dict[str, Any]) -> list[str]:
    """Describes how a result was tested otherwise than it would be now."""
    generation, rewarding = made["evaluation"]["generation"], made["evaluation"]["rewarding"]
    both = {"reward_model": (rewarding["reward_model"], study.variable("TEST_REWARD_MODEL", TEST_REWARD_MODEL))}
    if made.get("name", BASE) == BASE:  # a cell's or the base model's: texts that a model generated
        both["max_new_tokens"] = (generation["max_new_tokens"], study.max_new_tokens)
    if made.get("name") == BASE:
        asked = format_of((study.prompt_flags or (HH,))[-1], study.model)
        both["model"] = (generation["model"], study.model)
        both["prompt_format"] = (generation.get("prompt_format", HH), asked)
    both = {name: tuple(map(last_part, values)) for name, values in both.items()}
    return [f"{name} was {old!r}, is {new!r}" for name, (old, new) in both.items() if old != new]


@cache
def format_of(asked: str, model: str) -> str:
    return resolved_format(asked, model)


@cache
def file_hash(path: Path) -> str:
    return fingerprint({}, path)


@cache
def model_hash(name: str) -> str:
    return folder_checksum(name)
