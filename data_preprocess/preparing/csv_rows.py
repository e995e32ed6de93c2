"""Reads CSV and TSV files with a header as rows of texts, and writes rows so that they are read as they were."""

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from data_preprocess.command import InputError
from data_preprocess.files import LINE_LIMIT, PACKED, read_lines

DELIMITERS = {".csv": ",", ".tsv": "\t"}  # by suffix, before that of a packed file


def delimiter_of(path: str) -> str | None:
    """Returns what separates the columns of a file, by its name; None if it is not a CSV or TSV file."""
    name = Path(path.lower())
    return DELIMITERS.get(Path(name.stem).suffix if name.suffix in PACKED else name.suffix)


def read_csv(
    path: str, check_header: Callable[[str, list[str]], None], allow_short: bool = False
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields ("path:line", texts by column) of each record after the header.

    Records and last columns that are blank, which spreadsheets write around what was filled in, are left out.

    Args:
        path: the file (.csv or .tsv, also packed).
        check_header: called with the header's place and column names (none in an empty file), raises InputError.
        allow_short: accept records that lack their last columns.

    Raises:
        InputError: naming file and line: two columns of one name, more or fewer values than columns, not valid CSV.
    """
    records = _records(path)
    where, header = next(records, (f"{path}:1", []))
    names = without_blank_end([name.strip() for name in header])
    check_header(where, names)
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise InputError(f"{where}: two columns are called {repeated[0]!r} (expected each name once)")
    for where, values in records:
        if not any(map(str.strip, values)):
            continue
        if any(map(str.strip, values[len(names) :])):
            raise InputError(f"{where}: more values than the {len(names)} columns")
        if len(values) < len(names) and not allow_short:
            raise InputError(f"{where}: {len(values)} values for the {len(names)} columns")
        yield where, dict(zip(names, values, strict=False))


def without_blank_end(names: list[str]) -> list[str]:
    """Returns a header without the blank names at its end, but for the first name."""
    while len(names) > 1 and not names[-1]:
        names = names[:-1]
    return names


def _records(path: str) -> Iterator[tuple[str, list[str]]]:
    """Yields ("path:line", values) of each non-blank record, with the line where it starts."""
    csv.field_size_limit(LINE_LIMIT)  # allows long answers; the default limit is 131,072 characters
    lines = (text for _, text in read_lines(path))  # with their ends: a cell may hold some
    header = next(lines, "")
    records = csv.reader(chain([header], lines), delimiter=_delimiter(path, header), strict=True)
    while True:
        where = f"{path}:{records.line_num + 1}"
        try:
            values = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{where}: not valid CSV in the record that starts here ({error})") from None
        if any("\0" in value for value in values):
            raise InputError(f"{where}: a NUL byte (expected text)")
        if values:
            yield where, values


def _delimiter(path: str, header: str) -> str:
    """Returns what separates the columns of a file whose first line is `header`.

    Where the comma is the decimal mark, spreadsheets write semicolons into a .csv file.
    """
    delimiter = delimiter_of(path) or ","
    return ";" if delimiter == "," and ";" in header and "," not in header else delimiter


def csv_text(rows: Iterable[Sequence[Any]], delimiter: str) -> str:
    """Returns rows as CSV with "\\n" after each.

    Python quotes only the characters of the line end that it writes; readers end a line at a bare "\\r" too.
    """
    lines: list[str] = []
    sink = SimpleNamespace(write=lambda line: lines.append(line.removesuffix("\r\n") + "\n"))
    csv.writer(sink, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    return "".join(lines)
