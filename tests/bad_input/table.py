"""What a row of the table of bad inputs is, and the small tools that its rows are written with.

The files beside it hold the rows, by the kind of input; tests/test_bad_inputs.py runs them all. `{root}` in a command
and in an expected line is the study root: see `build_root` in tests/study_for_bad_input.py for what lies there.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Change = Callable[[Path], None]


@dataclass(frozen=True)
class BadInput:
    """One bad input, the command that meets it, and the one line that must come out."""

    name: str  # of the row, unique in its file
    command: str  # an entry's file name and its flags, as a shell would split them
    expected: tuple[str, ...]  # parts of the line, in any order; the file and line, or the flag, is one of them
    change: tuple[Change, ...] = ()  # what is done to the study root before
    status: int = 2
    keeps: tuple[str, ...] = ()  # patterns of what the command may write or change before it finds the fault


def text(name: str, content: str | bytes) -> Change:
    """Writes a file of the study root."""

    def change(root: Path) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))

    return change


def rows(name: str, *objects: Any) -> Change:
    """Writes a JSONL file of the study root."""
    return text(name, "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in objects))


def edit(name: str, function: Callable[[Any], Any]) -> Change:
    """Changes a JSON file: `function` changes the value in place, or returns another one."""

    def change(root: Path) -> None:
        value = json.loads((root / name).read_text(encoding="utf-8"))
        new = function(value)
        (root / name).write_text(json.dumps(value if new is None else new), encoding="utf-8")

    return change


def edit_line(name: str, number: int, function: Callable[[Any], Any]) -> Change:
    """Changes one line (from 1) of a JSONL file, as `edit` does."""

    def change(root: Path) -> None:
        lines = (root / name).read_text(encoding="utf-8").splitlines()
        value = json.loads(lines[number - 1])
        new = function(value)
        lines[number - 1] = json.dumps(value if new is None else new, ensure_ascii=False)
        (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")

    return change


def cut(name: str, size: int) -> Change:
    """Leaves the first `size` bytes of a file."""

    def change(root: Path) -> None:
        (root / name).write_bytes((root / name).read_bytes()[:size])

    return change
