"""Reads rows from JSONL files, JSON arrays, and data sets on disk or on the hub."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from data_preprocess.files import read_jsonl
from data_preprocess.hub import load_data_set


def source_rows(source: str, split: str) -> Iterator[tuple[str, dict]]:
    """Yields ("source:line", row) of a JSONL file, a JSON array, a folder with train.json, or a data set."""
    path = Path(source)
    if (path / "train.json").is_file():
        path = path / "train.json"
    if path.is_file() and path.suffix != ".parquet":
        numbered: Iterable[tuple[int, dict]] = read_jsonl(path)
    else:
        numbered = enumerate(load_data_set(source, split), start=1)
    for number, row in numbered:
        yield f"{path}:{number}", row


def row_number(where: str) -> int:
    """Returns the number of a row from source_rows' name for it: "source:3", or "source:element 3" in a JSON array."""
    return int(where.rpartition(":")[2].split()[-1])
