"""Reads and writes Excel workbooks as rows of texts: the first sheet, with a header. Needs openpyxl."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_preprocess.command import InputError
from data_preprocess.files import atomic_write
from data_preprocess.preparing.csv_rows import without_blank_end

REQUIREMENTS = "pip install -r data_preprocess/requirements-xlsx.txt"
MAX_CELL = 32_767  # characters, Excel's own limit
MAX_WHOLE = 2**53  # up to which a float holds every whole number
NO_CHARACTERS = {"\ufffe", "\uffff"}  # by Unicode; XML has no place for them
WIDE, NARROW = 60, 14  # characters


def is_xlsx(path: str | Path) -> bool:
    return Path(path).suffix.lower() == ".xlsx"


def _openpyxl() -> Any:
    try:
        import openpyxl
    except ImportError:
        raise InputError(f".xlsx needs openpyxl, which is not installed ({REQUIREMENTS})") from None
    return openpyxl


def read_xlsx(path: str, check_header: Callable[[str, list[str]], None]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields ("path:row", texts by column) of each record after the header; arguments as for `csv_rows.read_csv`.

    Numbers that are whole are written without a point; an empty cell is an empty text. A warning names further sheets;
    InputError for one with the first sheet's header, whose rows would be lost, and for a workbook that cannot be read.
    """
    openpyxl = _openpyxl()
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        first, *others = book.worksheets
    except Exception as error:  # zipfile, xml and openpyxl raise many kinds for a damaged file
        raise InputError(f"{path}: not an Excel workbook that can be read ({type(error).__name__})") from None
    rows = _rows(first, path)
    names = _header(next(rows, []))
    check_header(f"{path}:1", names)
    if len(set(names)) < len(names):
        raise InputError(f"{path}:1: two columns of one name (expected each name once)")
    _check_other_sheets(path, names, others)
    for number, texts in enumerate(rows, start=2):
        if any(map(str.strip, texts[len(names) :])):
            raise InputError(f"{path}:{number}: more values than the {len(names)} columns")
        if any(map(str.strip, texts)):
            missing = [""] * (len(names) - len(texts))
            yield f"{path}:{number}", dict(zip(names, texts + missing, strict=False))


def _rows(sheet: Any, path: str) -> Iterator[list[str]]:
    """Yields the texts of each row, to its last cell; InputError, naming the row, where a sheet cannot be read."""
    sheet.reset_dimensions()  # what a file says of its size may be wrong, and openpyxl would stop there
    rows, number = sheet.iter_rows(values_only=True), 0
    while True:
        number += 1
        try:
            values = next(rows, None)
        except Exception as error:  # as for the workbook: a sheet is parsed while it is read
            raise InputError(f"{path}:{number}: sheet {sheet.title} is damaged ({type(error).__name__})") from None
        if values is None:
            return
        yield list(map(_text, values))


def _header(texts: list[str]) -> list[str]:
    return without_blank_end([text.strip() for text in texts])


def _check_other_sheets(path: str, names: list[str], sheets: list[Any]) -> None:
    """Warns of sheets with content, none of which is read; InputError for one with rows of the same columns."""
    for sheet in sheets:
        rows = _rows(sheet, path)
        header = _header(next(rows, []))
        has_rows = any(text.strip() for texts in rows for text in texts)
        if has_rows and set(header) == set(names):
            expected = "all rows in the first sheet, or a file for each sheet"
            raise InputError(f"{path}: sheet {sheet.title} has the columns of the first one (expected {expected})")
        if any(header) or has_rows:
            print(f"warning: {path}: sheet {sheet.title} is not read (only the first one is)", file=sys.stderr)


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value)


def write_xlsx(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes one sheet, atomically. Every text is stored as a text: one that begins with "=" is no formula.

    So is a whole number that a float cannot hold, as which Excel stores numbers. InputError for a text that Excel
    cannot hold: over MAX_CELL characters, with control characters, or with U+FFFE or U+FFFF.
    """
    openpyxl = _openpyxl()
    from openpyxl.styles import Alignment, Font
    from openpyxl.utils.exceptions import IllegalCharacterError

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.freeze_panes = "A2"
    for number, values in enumerate([names, *rows], start=1):
        for column, value in enumerate(values, start=1):
            value = str(value) if isinstance(value, int) and abs(value) > MAX_WHOLE else value
            if isinstance(value, str) and len(value) > MAX_CELL:
                raise InputError(
                    f"{path}:{number}: a text of {len(value):,} characters (a cell holds {MAX_CELL:,}; use .csv)"
                )
            try:
                cell = sheet.cell(number, column, value)
                if isinstance(value, str) and NO_CHARACTERS & set(value):
                    raise IllegalCharacterError
            except IllegalCharacterError:
                raise InputError(f"{path}:{number}: {value!r:.40} has control characters (use .csv)") from None
            if isinstance(value, str):
                cell.data_type = "s"
                cell.alignment = Alignment(wrap_text=True, vertical="top")
            if number == 1:
                cell.font = Font(bold=True)
                sheet.column_dimensions[cell.column_letter].width = WIDE if value in ("prompt", "response") else NARROW
    with atomic_write(path, "wb") as file:
        book.save(file)
