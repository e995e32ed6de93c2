"""Reads rows from JSONL files, JSON arrays, CSV files, and data sets on disk or on the hub."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_preprocess.command import InputError
from data_preprocess.files import read_jsonl
from data_preprocess.hub import load_data_set
from data_preprocess.preparing.csv_rows import delimiter_of, read_csv
from data_preprocess.preparing.turns import is_message

# Columns of a CSV file whose cells are lists, written as JSON. Other cells are texts, or messages written as JSON.
LIST_COLUMNS = ("messages", "conversations", "conversation", "completions", "responses", "scores", "history")


def source_rows(source: str, split: str, subset: str | None = None) -> Iterator[tuple[str, dict]]:
    """Yields ("source:line", row) of a JSONL file, a JSON array, a CSV file, a folder with train.json, or a data set.

    Args:
        source: a path, or a name on the hub.
        split: of a data set.
        subset: a configuration or folder of a data set.
    """
    path = Path(source)
    if (path / "train.json").is_file():
        path = path / "train.json"
    if path.is_file() and delimiter_of(source):
        for where, texts in read_csv(source, _check_header):
            yield where, {name: _cell(name, text, where) for name, text in texts.items()}
    elif path.is_file() and path.suffix != ".parquet":
        yield from ((f"{path}:{number}", row) for number, row in read_jsonl(path))
    else:
        rows = enumerate(load_data_set(source, split, subset=subset), start=1)
        yield from ((f"{path}:{number}", row) for number, row in rows)


def _check_header(where: str, names: list[str]) -> None:
    if not any(names):
        raise InputError(f"{where}: the file is empty (expected a header with the names of the columns)")
    if len(names) == 1 and ";" in names[0]:
        expected = "commas between columns in .csv, tabs in .tsv"
        raise InputError(f"{where}: one column, {names[0]!r:.60} (expected {expected})")


def _cell(name: str, text: str, where: str) -> Any:
    """Returns the list that a cell holds as JSON, if its column is one of LIST_COLUMNS or it is messages; else text."""
    if not text.lstrip().startswith("["):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if name not in LIST_COLUMNS:
        return value if isinstance(value, list) and value and all(map(is_message, value)) else text
    if not isinstance(value, list):
        raise InputError(f"{where}: {name} is {text!r:.40} (expected a list written as JSON)")
    return value


def row_number(where: str) -> int:
    """Returns the number of a row from source_rows' name for it: "source:3", or "source:element 3" in a JSON array."""
    return int(where.rpartition(":")[2].split()[-1])
