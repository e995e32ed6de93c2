"""Reads rows from JSONL files, JSON arrays, CSV files and workbooks, and data sets on disk or on the hub."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_preprocess.command import InputError
from data_preprocess.files import PACKED, parse_json, read_json, read_jsonl
from data_preprocess.hub import load_data_set
from data_preprocess.preparing.csv_rows import delimiter_of, read_csv
from data_preprocess.preparing.turns import is_message
from data_preprocess.preparing.xlsx_rows import is_xlsx, read_xlsx

# Columns of a CSV file whose cells are lists, written as JSON. Other cells are texts, or messages written as JSON.
LIST_COLUMNS = ("messages", "conversations", "conversation", "completions", "responses", "scores", "history")

ONE_SPLIT = "state.json"  # in the folder of a data set without splits that save_to_disk wrote

# What a file is by its first bytes, and what is expected instead, for files that are read as text.
OTHER_FORMS = {
    b"PAR1": "a Parquet file (expected a name that ends in .parquet)",
    b"ARROW1": "an Arrow file (expected the folder that save_to_disk wrote, or Parquet)",
    b"PK\x03\x04": "a ZIP archive (expected JSONL, CSV, Parquet, or a workbook whose name ends in .xlsx)",
    b"\x1f\x8b": "a gzip file (expected a name that ends in .gz)",
    b"\xfd7zXZ": "an xz file (expected a name that ends in .xz)",
    b"BZh": "a bzip2 file (expected text, .gz or .xz)",
    b"\x28\xb5\x2f\xfd": "a Zstandard file (expected text, .gz or .xz)",
    b"SQLite format 3": "an SQLite database (expected JSONL, CSV or Parquet)",
    codecs.BOM_UTF16_LE: "UTF-16 (expected UTF-8)",
    codecs.BOM_UTF16_BE: "UTF-16 (expected UTF-8)",
}


def source_rows(source: str, split: str, subset: str | None = None) -> Iterator[tuple[str, dict]]:
    """Yields ("source:line", row) of a JSONL file, a JSON array, a CSV file, a workbook, a folder with train.json, or a
    data set.

    Args:
        source: a path, or a name on the hub.
        split: of a data set.
        subset: a configuration or folder of a data set.

    Raises:
        InputError: naming the line, for what cannot be read; also for a split or subset of a source without any.
    """
    path = Path(source)
    _check_parts(source, split, subset)
    if (path / "train.json").is_file():
        path = path / "train.json"
    is_table = path.is_file() and (is_xlsx(source) or bool(delimiter_of(source)))
    if path.is_file() and path.suffix != ".parquet" and not is_xlsx(source):
        _check_form(path)
    if is_table:
        read = read_xlsx if is_xlsx(source) else read_csv
        for where, texts in read(source, _check_header):
            yield where, {name: _cell(name, text, where) for name, text in texts.items()}
    elif path.is_file() and path.suffix != ".parquet":
        yield from ((f"{path}:{number}", row) for number, row in read_jsonl(path))
    else:
        rows = enumerate(load_data_set(source, split, subset=subset), start=1)
        yield from ((f"{path}:{number}", row) for number, row in rows)


def of_one_split(source: str) -> str:
    """Returns in a few words what a source is that has one split, called "train"; "" for one that may have several."""
    path = Path(source)
    if path.is_file():
        return "a file"
    if (path / "train.json").is_file():
        return "a folder with train.json"
    return "a data set saved as one split" if (path / ONE_SPLIT).is_file() else ""


def _check_parts(source: str, split: str, subset: str | None) -> None:
    found, state = of_one_split(source), Path(source) / ONE_SPLIT
    own = read_json(state) if state.is_file() else None
    if found and split not in ("train", own.get("_split") if isinstance(own, dict) else None):
        raise InputError(f"--split {split}: {source} is {found} (expected a data set with splits)")
    saved = "a data set saved by save_to_disk" if (Path(source) / "dataset_dict.json").is_file() else ""
    if subset and (found or saved):
        raise InputError(f"--subset {subset}: {source} is {found or saved} (expected a data set with subsets)")


def _check_form(path: Path) -> None:
    """Raises InputError, which says what the file is, for one in a form that is not read."""
    if path.suffix in PACKED:
        return
    with open(path, "rb") as file:
        start = file.read(max(map(len, OTHER_FORMS)))
    for magic, form in OTHER_FORMS.items():
        if start.startswith(magic):
            raise InputError(f"{path}:1: not UTF-8 text but {form}")


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
    except (ValueError, RecursionError):
        value = None
    if name not in LIST_COLUMNS and not (isinstance(value, list) and value and all(map(is_message, value))):
        return text
    if not isinstance(value, list):
        raise InputError(f"{where}: {name} is {text!r:.40} (expected a list written as JSON)")
    try:
        return parse_json(text)
    except ValueError as error:
        raise InputError(f"{where}: {name}: {error}") from None


def row_number(where: str) -> int:
    """Returns the number of a row from source_rows' name for it: "source:3", or "source:element 3" in a JSON array."""
    return int(where.rpartition(":")[2].split()[-1])
