"""The format of a ranking on disk, and its reader, whose errors name the file and line.

A row is {"prefix": K copies of the prompt's turns, "suffix": K texts, "reward": K numbers, "meta": {...}} and
optionally "sft_index", the response that the SFT term trains on.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_preprocess.command import InputError
from data_preprocess.dialogue import ASSISTANT, PROMPTER, has_text, with_system
from data_preprocess.files import read_jsonl

REQUIRED_KEYS = ("prefix", "suffix", "reward", "meta")
REQUIRED = set(REQUIRED_KEYS)
NUMBER = (int, float)
KIND = "kind"  # in meta: what kind of prompt it is, for selections that keep each kind's share
ALLOWED_KEYS = (*REQUIRED_KEYS, "sft_index")
FLOAT32_MAX = (2 - 2.0**-23) * 2.0**127  # training and scoring compute in float32


@dataclass(frozen=True)
class Record:
    """One prompt with K responses."""

    prefix: list[str]  # the prompt's turns, the last one a bare tag (one copy)
    suffix: list[str]  # K responses; best first in a training file
    reward: list[float]  # K rewards, raw scale; never increasing in a training file
    meta: dict[str, Any] = field(default_factory=dict)
    sft_index: int = 0  # which response the SFT term trains on

    @property
    def turns(self) -> list[str]:
        """The prompt's turns after its system message, if it has one."""
        return with_system(self.prefix, self.meta)


def load_records(path: str | Path, training: bool = True) -> list[Record]:
    """Reads and checks a file of rankings (or a folder's train.json).

    Args:
        path: a JSONL file, gzipped or not, or a folder that contains train.json.
        training: rewards must never increase, responses must not be empty, and the prompt must end in the assistant's
            bare tag. False (dev and test files) allows unsorted rewards, empty responses and either bare tag. Rewards
            are always finite; in a training file they and their differences also fit float32.

    Raises:
        InputError: a ValueError, "path:line: what is wrong (what was expected)".
    """
    return [to_record(row) for _, row in numbered_rows(path, training)]


def read_rows(path: str | Path, training: bool = True) -> list[dict]:
    """Reads and checks the same rows as load_records, but returns the JSON objects, in file order."""
    return [row for _, row in numbered_rows(path, training)]


def read_rankings(path: str | Path, ranking_len: int, with_kind: bool = False) -> Iterator[dict]:
    """Yields the rows of a training file, as read_rows; InputError for a row without `ranking_len` responses.

    `with_kind` also demands the kind of each prompt, a text in meta.
    """
    path = data_file(path)
    for number, row in numbered_rows(path):
        if len(row["suffix"]) != ranking_len:
            raise InputError(f"{path}:{number}: {len(row['suffix'])} responses (expected {ranking_len})")
        if with_kind and not (isinstance(row["meta"].get(KIND), str) and row["meta"][KIND]):
            found = f"is {row['meta'][KIND]!r:.40}" if KIND in row["meta"] else "is missing"
            raise InputError(f"{path}:{number}: meta.{KIND} {found} (expected a text, the kind of the prompt)")
        yield row


def numbered_rows(path: str | Path, training: bool = True) -> Iterator[tuple[int, dict]]:
    """Yields (1-based line number, checked row). InputError as for load_records, and for an empty file."""
    path = str(data_file(path))
    empty = True
    for number, row in read_jsonl(path):
        empty = False
        check_row(row, f"{path}:{number}", training)
        row["prefix"] = row["prefix"][:1] * len(row["prefix"])  # K references to one copy, to free memory
        yield number, row
    if empty:
        raise InputError(f"{path}:1: the file is empty (expected one ranking per line)")


def why_unranked(row: dict) -> str:
    """Returns why the first response of a checked row is not its best or the last not its worst; empty if they are."""
    rewards = row["reward"]
    if rewards[0] < max(rewards) or rewards[-1] > min(rewards):
        return "the responses are not ranked by their rewards (expected best first)"
    if not all(text.strip() for text in (row["suffix"][0], row["suffix"][-1])):
        return "a response without text (expected the test data's own responses)"
    return ""


def data_file(path: str | Path) -> Path:
    """Returns the file that `path` refers to: itself, or train.json if it is (or is named like) a folder."""
    path = Path(path)
    names_folder = path.is_dir() or not (path.suffix or path.exists())
    return path / "train.json" if names_folder else path


def check_row(row: dict, where: str, training: bool) -> None:
    """Raises InputError, starting with `where`, if a row is not a valid ranking (see load_records)."""
    _check_keys(row, where)
    _check_prefix(row["prefix"], where, training)
    _check_suffix(row["suffix"], where, training)
    _check_reward(row["reward"], where, training)
    if not len(row["prefix"]) == len(row["suffix"]) == len(row["reward"]):
        found = ", ".join(f"{key} {len(row[key])}" for key in ("prefix", "suffix", "reward"))
        raise InputError(f"{where}: lengths differ: {found} (expected the same number in each)")
    if not isinstance(row["meta"], dict):
        raise InputError(f"{where}: meta is {_kind(row['meta'])} (expected an object)")
    index = row.get("sft_index", 0)
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(row["suffix"]):
        raise InputError(f"{where}: sft_index is {index!r} (expected 0 to {len(row['suffix']) - 1})")


def to_record(row: dict) -> Record:
    reward = [float(value) for value in row["reward"]]
    return Record(row["prefix"][0], row["suffix"], reward, row["meta"], row.get("sft_index", 0))


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _check_keys(row: dict, where: str) -> None:
    if row.keys() == REQUIRED:
        return
    missing = [key for key in REQUIRED_KEYS if key not in row]
    unknown = [key for key in row if key not in ALLOWED_KEYS]
    if missing:
        raise InputError(f"{where}: missing {', '.join(missing)} (expected {', '.join(REQUIRED_KEYS)})")
    if unknown:
        found = ", ".join(map(repr, unknown))
        raise InputError(f"{where}: unknown key {found} (expected {', '.join(ALLOWED_KEYS)})")


def _check_prefix(prefix: Any, where: str, training: bool) -> None:
    if not isinstance(prefix, list) or not prefix:
        found = "an empty list" if prefix == [] else _kind(prefix)
        raise InputError(f"{where}: prefix is {found} (expected one copy of the prompt's turns per response)")
    turns = prefix[0]
    if not isinstance(turns, list) or not turns:
        found = "an empty list" if turns == [] else _kind(turns)
        raise InputError(f"{where}: prefix[0] is {found} (expected the prompt's turns)")
    for index, turn in enumerate(turns):
        if not isinstance(turn, str) or not turn.startswith((PROMPTER, ASSISTANT)):
            found = repr(turn[:30]) if isinstance(turn, str) else _kind(turn)
            expected = f"a string that starts with {PROMPTER} or {ASSISTANT}"
            raise InputError(f"{where}: turn {index} of the prefix is {found} (expected {expected})")
    last_tags = (ASSISTANT,) if training else (ASSISTANT, PROMPTER)
    if turns[-1] not in last_tags:
        expected = " or ".join(last_tags)
        raise InputError(f"{where}: the prefix ends in {turns[-1][:40]!r} (expected the bare tag {expected})")
    if not has_text(turns):
        raise InputError(f"{where}: a prompt without text")
    for index, copy in enumerate(prefix):
        if copy != turns:
            raise InputError(f"{where}: prefix[{index}] differs from prefix[0] (a ranking shares one prompt)")


def _check_suffix(suffix: Any, where: str, training: bool) -> None:
    if not isinstance(suffix, list):
        raise InputError(f"{where}: suffix is {_kind(suffix)} (expected a list of texts)")
    for index, text in enumerate(suffix):
        if not isinstance(text, str):
            raise InputError(f"{where}: suffix[{index}] is {_kind(text)} (expected a text)")
        if training and (not text or text.isspace()):
            raise InputError(f"{where}: suffix[{index}] is empty (a training response needs text)")


def _check_reward(reward: Any, where: str, training: bool) -> None:
    if not isinstance(reward, list):
        raise InputError(f"{where}: reward is {_kind(reward)} (expected a list of numbers)")
    for index, value in enumerate(reward):
        if isinstance(value, bool) or not isinstance(value, NUMBER):
            raise InputError(f"{where}: reward[{index}] is {_kind(value)} (expected a number)")
        if not abs(value) <= sys.float_info.max:  # false for NaN, and safe for an integer beyond any float
            raise InputError(f"{where}: reward[{index}] is {value!r:.20} (expected a finite number)")
        if training and index and value > reward[index - 1]:
            order = f"{reward[index - 1]} to {value} at reward[{index}]"
            raise InputError(f"{where}: rewards increase, {order} (expected best first)")
    if training:
        _check_float32(reward, where)


def _check_float32(reward: list[float], where: str) -> None:
    """Checks the range of float32, in which training uses the rewards (best first) and their differences."""
    largest = max(reward[0], -reward[-1], reward[0] - reward[-1]) if reward else 0.0
    if largest <= FLOAT32_MAX:
        return
    limit = f"{FLOAT32_MAX:.4g}, of float32"
    for index, value in enumerate(reward):
        if abs(value) > FLOAT32_MAX:
            raise InputError(f"{where}: reward[{index}] is {value!r:.20} (expected at most {limit})")
    span = f"{reward[0]!r:.20} to {reward[-1]!r:.20}"
    raise InputError(f"{where}: rewards from {span} (expected differences of at most {limit})")
