"""The result file of one cell: what one trained model scored on the test files.

A cell is one (algorithm, ranking_len K, num_prompts M, selection, draw, seed) of the study's grid. Its file holds the
reward and BLEU of every test prompt and the configuration that produced them, so that every table, figure and test is a
pure function of these files. An invalid or mismatched file is reported, never averaged in. A model of no run (the base
model, one from elsewhere, the data's own best or worst responses) has a row instead, with a name and no place in the
grid.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson

from data_preprocess.command import InputError
from data_preprocess.files import read_json, read_jsonl, write_json
from data_preprocess.ranking import SEED
from data_preprocess.subsets import RANDOM
from eval_hh.estimates import bootstrap_interval

SCHEMA = 2
ALGORITHMS = ("PRO", "SFT")
MODEL_ROWS = "models"  # folder, beside the cells', of the result files of models of no run
# Such rows of a study: of its base model, and of the test data's worst and best responses.
BASE, FLOOR, CEILING = "base", "floor", "ceiling"
# The "models" of a ceiling and of a floor.
BEST_RESPONSES, WORST_RESPONSES = "the first responses of the test rows", "the last responses of the test rows"
STUDY_FILE = "cells.jsonl.xz"  # all cells of a published study, one per line
TEST_FILES = ("harmless_base", "helpful_base", "helpful_online", "helpful_rejection")
POOLS = {"Harmless": TEST_FILES[:1], "Helpful": TEST_FILES[1:], "Global": TEST_FILES}


def pools_of(files: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Returns {pool: test files}: HH-RLHF's pools whose files are all there, else each of several files, and Global."""
    names = tuple(files)
    if set(names) >= set(TEST_FILES):
        return POOLS
    if set(names) & set(TEST_FILES):
        return {pool: its for pool, its in POOLS.items() if set(its) <= set(names)}
    return {**{name: (name,) for name in names if len(names) > 1}, "Global": names}


@dataclass(frozen=True, order=True)
class Setting:
    """What a cell is trained on and how. Cells of one setting differ in their seed."""

    algorithm: str  # PRO or SFT
    ranking_len: int  # K, responses per prompt of its data
    num_prompts: int  # M
    selection: str = RANDOM  # how its prompts were chosen

    @classmethod
    def of(cls, cell: dict) -> Setting:
        """Returns that of the content of a valid result file."""
        return cls(cell["algorithm"], cell["ranking_len"], cell["num_prompts"], cell["selection"])

    def __str__(self) -> str:
        return f"{self.algorithm} K={self.ranking_len} M={self.num_prompts}"


class Replicate(NamedTuple):
    """One run of a setting: the draw of its subset and the seed of its training."""

    draw: int
    seed: int

    @classmethod
    def of(cls, cell: dict) -> Replicate:
        """Returns that of the content of a valid result file; one without a draw is of the published draw."""
        return cls(cell.get("draw", SEED), cell["seed"])


# Field -> its allowed types. bool, an int in Python, is refused separately.
Fields = dict[str, tuple[type, ...]]
CELL_FIELDS: Fields = {
    "schema": (int,),
    "profile": (str, type(None)),
    "algorithm": (str,),
    "ranking_len": (int,),
    "stage": (int,),
    "num_prompts": (int,),
    "seed": (int,),
    "exp": (str,),
    "data": (str,),
    "diversity": (dict, type(None)),
    "selection": (str,),
    "reward_source": (str,),
    "world": (str, type(None)),
    "config": (dict,),
    "git": (str, type(None)),
    "versions": (dict,),
    "evaluation": (dict,),
    "launch": (dict, type(None)),
    "data_sha256": (dict, type(None)),
    "files": (dict,),
}
SHARED = ("profile", "reward_source", "world", "git", "versions", "evaluation", "files")  # fields of cells and rows
ROW_FIELDS: Fields = {"schema": (int,), "name": (str,), **{name: CELL_FIELDS[name] for name in SHARED}}
MAX_EXACT = 2**53  # up to here floats represent every integer
OPTIONAL: Fields = {
    "base_prompts": (int,),  # M of an enlarged subset's base subset
    "draw": (int,),  # seed of the draw of its subset; absent: the published one, or data of one's own
}
# The settings of generation.py and of rewarding.py.
EVALUATION_FIELDS: Fields = {"checkpoint": (str,), "generation": (dict,), "rewarding": (dict,)}
GENERATION_FIELDS: Fields = {"model": (str,), "max_new_tokens": (int,), "mixed_precision": (str,)}
# Absent: the published text, and a model that was loaded here.
GENERATION_OPTIONAL: Fields = {"prompt_format": (str,), "endpoint_model": (str,)}
SERVED = "served"  # the precision of a model behind an endpoint, which only its server knows
REWARDING_FIELDS: Fields = {"reward_model": (str,), "mixed_precision": (str,)}
RESPONSES = "responses"  # in a cell's diversity: that of the responses that the run trains on
COUNT_FIELDS: Fields = {"score": (int, float), "unique": (int,), "total": (int,), "samples": (int,)}
DIVERSITY_FIELDS: Fields = {**COUNT_FIELDS, "tokenizer": (str,)}
FILE_FIELDS: Fields = {
    "row_id": (list,), "reward": (list,), "bleu": (list,), "n": (int,), "mean": (dict,), "interval": (list,)
}  # fmt: skip


def file_scores(
    row_id: list, reward: list[float], bleu: list[float], extra: dict[str, list[float]] | None = None
) -> dict:
    """Returns one test file's entry of a cell: per-row values (rewards in 0..1), their count, their means and the
    bootstrap 95% interval of the mean reward.

    `extra` holds further rewards of the same rows by name, for example {"reward_model": [...]}.
    """
    entry: dict = {"row_id": row_id, "reward": reward, "bleu": bleu, "n": len(row_id)}
    values = {"reward": reward, "bleu": bleu, **(extra or {})}
    if extra:
        entry["extra"] = extra
    entry["mean"] = {name: float(np.mean(numbers)) for name, numbers in values.items()} if row_id else {}
    entry["interval"] = list(bootstrap_interval(reward)) if row_id else []
    return entry


def write_cell(path: str | Path, cell: dict) -> None:
    """Validates `cell` and writes it atomically. Raises InputError and writes nothing if it is invalid."""
    validate_cell(cell, str(path))
    write_json(Path(path), cell)


def load_cell(path: str | Path) -> dict:
    """Reads and validates one result file. Raises InputError that names the file and the field."""
    try:
        # A result file at paper scale holds 8,500 rows; orjson reads it four times as fast as json.
        cell = orjson.loads(Path(path).read_bytes())
    except (orjson.JSONDecodeError, OSError) as error:
        cell = read_json(path)  # for its message; it accepts nan and huge numbers, most of which fail validation
        validate_cell(cell, str(path))
        raise InputError(f"{path}: not valid JSON ({error})") from None
    validate_cell(cell, str(path))
    return cell


def load_cells(path: str | Path, warnings: list[str]) -> Iterator[tuple[str, dict]]:
    """Yields (path, cell) of a result file, or (path:line, cell) of each line of a study's .jsonl.xz file.

    Invalid cells are left out with a warning. Raises InputError for a study's file that is damaged or not JSON.
    """
    is_study = Path(path).name.endswith(".jsonl.xz")
    for line, cell in read_jsonl(path) if is_study else [(0, None)]:
        name = f"{path}:{line}" if is_study else str(path)
        try:
            if is_study:
                validate_cell(cell, name)
            yield name, cell if is_study else load_cell(path)
        except InputError as error:
            warnings.append(f"left out {error}")


def validate_cell(cell: object, name: str) -> None:
    """Raises InputError "name: field: what is wrong" unless `cell` follows the schema exactly."""
    if not isinstance(cell, dict):
        raise InputError(f"{name}: expected a JSON object, found {type(cell).__name__}")
    expected = CELL_FIELDS | {field: OPTIONAL[field] for field in OPTIONAL if field in cell}
    check_fields(cell, ROW_FIELDS if is_row(cell) else expected, name, "")
    if cell["schema"] != SCHEMA:
        raise InputError(f"{name}: schema: expected {SCHEMA}, found {cell['schema']}")
    if not is_row(cell):
        _check_run(cell, name)
    check_fields(cell["evaluation"], EVALUATION_FIELDS, name, "evaluation.")
    generation = cell["evaluation"]["generation"]
    optional = {field: GENERATION_OPTIONAL[field] for field in GENERATION_OPTIONAL if field in generation}
    check_fields(generation, GENERATION_FIELDS | optional, name, "evaluation.generation.")
    check_fields(cell["evaluation"]["rewarding"], REWARDING_FIELDS, name, "evaluation.rewarding.")
    files = cell["files"] if cell["files"] and not set(cell["files"]) & set(TEST_FILES) else TEST_FILES
    check_fields(cell["files"], dict.fromkeys(files, (dict,)), name, "files.")
    for file in files:
        _check_file(cell["files"][file], name, f"files.{file}.")
    if len({tuple(sorted(cell["files"][file].get("extra", {}))) for file in files}) > 1:
        raise InputError(f"{name}: files: the test files differ in the names of their extra rewards")


def is_row(cell: dict) -> bool:
    """Returns whether a result is of a model of no run."""
    return "name" in cell and "exp" not in cell


def _check_run(cell: dict, name: str) -> None:
    if cell["algorithm"] not in ALGORITHMS:
        raise InputError(f"{name}: algorithm: expected {' or '.join(ALGORITHMS)}, found {cell['algorithm']!r}")
    for field in ("ranking_len", "stage", "num_prompts"):
        if cell[field] < 1:
            raise InputError(f"{name}: {field}: expected a positive number, found {cell[field]}")
    if cell["config"].get("seed", cell["seed"]) != cell["seed"] or not cell["config"]:
        raise InputError(f"{name}: config: expected the run's settings, with seed {cell['seed']}")
    if cell.get("draw", 0) < 0:
        raise InputError(f"{name}: draw: expected a seed, 0 or more, found {cell['draw']}")
    if cell["diversity"] is not None:
        check_diversity(cell["diversity"], cell["num_prompts"], cell["stage"], name)


def check_fields(found: dict, expected: Fields, name: str, prefix: str, optional: Iterable[str] = ()) -> None:
    """Raises InputError "name: prefix+field: ..." unless `found` has exactly the expected fields, of their types.

    Fields in `optional` may be present, with any value. Integers are at most MAX_EXACT.
    """
    for field in expected:
        if field not in found:
            raise InputError(f"{name}: {prefix}{field}: missing")
    for field in found:
        if field not in expected and field not in optional:
            raise InputError(f"{name}: {prefix}{field}: not a field of a result file")
    for field, types in expected.items():
        check_type(found[field], types, f"{name}: {prefix}{field}")


def check_type(value: object, types: tuple[type, ...], where: str) -> None:
    """Raises InputError "where: expected ..., found ..." unless `value` has one of the types, within MAX_EXACT."""
    wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in types)
    if not isinstance(value, types) or isinstance(value, bool):
        raise InputError(f"{where}: expected {wanted}, found {value!r:.60}")
    if isinstance(value, int) and abs(value) > MAX_EXACT:
        raise InputError(f"{where}: expected {wanted} up to 2**53, found {value!r:.20}")


def check_diversity(diversity: dict, num_prompts: int, stage: int, name: str) -> None:
    """Raises InputError "name: diversity.field: ..." unless this is a possible diversity of `num_prompts` prompts.

    The optional "responses" are those that the run trains on: `stage` per prompt, the best one for SFT.
    """
    prompts = {field: value for field, value in diversity.items() if field != RESPONSES}
    check_fields(prompts, DIVERSITY_FIELDS, name, "diversity.")
    _check_counts(prompts, num_prompts, "prompts", f"{name}: diversity.")
    if RESPONSES in diversity:
        where = f"diversity.{RESPONSES}"
        check_type(diversity[RESPONSES], (dict,), f"{name}: {where}")
        check_fields(diversity[RESPONSES], COUNT_FIELDS, name, f"{where}.")
        _check_counts(diversity[RESPONSES], num_prompts * stage, "responses", f"{name}: {where}.")


def _check_counts(counts: dict, samples: int, what: str, where: str) -> None:
    largest = math.sqrt(samples) * (1 + 1e-9)  # D = sqrt(M) U / T, and U is at most T
    if not 0 <= counts["score"] <= largest:
        found = f"found {counts['score']} ({largest:.2f} is the square root of {samples} {what})"
        raise InputError(f"{where}score: expected a finite number, 0 to {largest:.2f}, {found}")
    if not 0 <= counts["unique"] <= counts["total"]:
        raise InputError(f"{where}unique: expected 0 to total, {counts['total']}, found {counts['unique']}")
    if counts["samples"] != samples:
        raise InputError(f"{where}samples: {counts['samples']} {what} (expected {samples})")


def _check_file(entry: dict, name: str, prefix: str) -> None:
    check_fields(entry, FILE_FIELDS, name, prefix, optional=("extra",))
    ids = entry["row_id"]
    if not ids:
        raise InputError(f"{name}: {prefix}row_id: no rows")
    if {type(row) for row in ids} not in ({int}, {str}):
        raise InputError(f"{name}: {prefix}row_id: expected whole numbers or strings, all of one type")
    if len(set(ids)) != len(ids):
        raise InputError(f"{name}: {prefix}row_id: duplicate row id")
    if entry["n"] != len(ids):
        raise InputError(f"{name}: {prefix}n: {entry['n']}, but row_id has {len(ids)} rows")
    extra = entry.get("extra", {})
    if not isinstance(extra, dict):
        raise InputError(f"{name}: {prefix}extra: expected dict, found {extra!r:.60}")
    columns = {"reward": entry["reward"], "bleu": entry["bleu"]}
    if columns.keys() & extra.keys():
        raise InputError(f"{name}: {prefix}extra: {', '.join(columns.keys() & extra.keys())} is a reserved name")
    for field, values in {**columns, **{f"extra.{key}": value for key, value in extra.items()}}.items():
        upper = 100.0 if field == "bleu" else 1.0
        _check_numbers(values, len(ids), upper, f"{name}: {prefix}{field}")
    _check_means(entry, {**columns, **extra}, name, prefix)
    _check_numbers(entry["interval"], 2, 1.0, f"{name}: {prefix}interval")
    if entry["interval"][0] > entry["interval"][1]:
        raise InputError(f"{name}: {prefix}interval: expected [low, high], found {entry['interval']}")


def _check_means(entry: dict, columns: dict[str, list[float]], name: str, prefix: str) -> None:
    for field in entry["mean"]:
        if field not in columns:
            raise InputError(f"{name}: {prefix}mean.{field}: not a column of this file")
    for field, values in columns.items():
        mean = entry["mean"].get(field)
        if mean is None and field in entry.get("extra", {}):
            raise InputError(f"{name}: {prefix}extra.{field}: has no mean (expected mean.{field} beside it)")
        if type(mean) not in (int, float) or not abs(mean) <= sys.float_info.max:
            raise InputError(f"{name}: {prefix}mean.{field}: expected a finite number, found {mean!r:.60}")
        if abs(mean - np.mean(values)) > 1e-6:
            raise InputError(f"{name}: {prefix}mean.{field}: not the mean of {prefix}{field}")


def _check_numbers(values: object, length: int, upper: float, where: str) -> None:
    if not isinstance(values, list):
        raise InputError(f"{where}: expected list, found {values!r:.60}")
    if len(values) != length:
        raise InputError(f"{where}: {len(values)} values for {length} rows")
    if not {type(value) for value in values} <= {int, float}:
        raise InputError(f"{where}: expected numbers only")
    try:
        numbers = np.asarray(values, dtype=float)
    except OverflowError:
        numbers = np.array([value if abs(value) <= sys.float_info.max else math.inf for value in values])
    # The comparison is also False for nan; sacrebleu's 100 is sometimes 100.00000000000004.
    wrong = ~((numbers >= 0) & (numbers <= upper * (1 + 1e-9)))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise InputError(f"{where}[{first}]: expected a number in 0..{upper:g}, found {values[first]!r:.40}")


def pooled(files: dict, pool: str, field: str = "reward") -> np.ndarray:
    """Returns the per-prompt values [rows] of a pool, or a test file, in a cell's "files": file by file, by row id.

    `field` is "reward", "bleu" or the name of an extra reward; the mean of the result is the mean over all rows.
    """
    parts = []
    for file in pools_of(files).get(pool, (pool,)):
        entry = files[file]
        values = entry[field] if field in ("reward", "bleu") else entry["extra"][field]
        ids, column = entry["row_id"], np.asarray(values, dtype=float)
        # Files are nearly always sorted already, which Python's sort detects in one pass.
        in_order = ids == sorted(ids)
        parts.append(column if in_order else column[sorted(range(len(ids)), key=ids.__getitem__)])
    return np.concatenate(parts)
