"""Part files: what a process has finished of a long job, so that a killed job goes on where it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_preprocess.command import RunError


def has_index(row: dict[str, Any]) -> bool:
    """Whether a row says which one it is."""
    return type(row.get("index")) is int


class Parts:
    """Append-only part files of resumable work on numbered rows: OUTPUT.part-<rank>.jsonl, one per process.

    A part opens with its work's fingerprint, so rows made from other inputs or settings are never mixed in.
    Rows are {"index": i, ...}. A line that a kill cut short, or that is no such row, is ignored with all behind it, and
    cut off before the next append.

    Args:
        output: what the parts are of.
        fingerprint: of the work.
        rank: of this process.
        is_row: whether a JSON object can be a row of this work.
    """

    def __init__(
        self, output: str | Path, fingerprint: str, rank: int = 0, is_row: Callable[[dict], bool] = has_index
    ):
        self.output = Path(output)
        self.is_row = is_row
        self.fingerprint = fingerprint
        self.path = self.output.with_name(f"{self.output.name}.part-{rank}.jsonl")
        self._length: int | None = None  # bytes of whole lines in this rank's part, once known

    def done(self) -> dict[int, dict]:
        """Finished rows by index, from the parts of all ranks that carry this fingerprint."""
        rows: dict[int, dict] = {}
        for path in self._all():
            for row in self._read(path)[0]:
                rows[row["index"]] = row
        return rows

    def append(self, rows: list[dict]) -> None:
        """Adds a finished batch to this rank's part; it is with the operating system when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._length is None:
            self._length = self._read(self.path)[1] if self.path.exists() else 0
        lines = [] if self._length else [json.dumps({"fingerprint": self.fingerprint})]
        lines += [json.dumps(row, ensure_ascii=False) for row in rows]
        data = "".join(line + "\n" for line in lines).encode("utf-8")
        try:
            with open(self.path, "r+b" if self.path.exists() else "wb") as file:
                file.truncate(self._length)
                file.seek(self._length)
                file.write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._length += len(data)

    def merge(self, n_rows: int) -> list[dict]:
        """Rows 0 to n_rows-1 in order, once every rank has finished; RunError where one is missing."""
        rows = self.done()
        missing = [index for index in range(n_rows) if index not in rows]
        if missing:
            found = f"{len(missing)} of {n_rows} rows are missing, the first is {missing[0]}"
            raise RunError(f"{self.output}: {found} (the same command makes them)")
        return [rows[index] for index in range(n_rows)]

    def remove(self) -> None:
        """Deletes the parts of all ranks, those of other settings too."""
        self._length = None
        for path in self._all():
            path.unlink(missing_ok=True)

    def _all(self) -> list[Path]:
        prefix = f"{self.output.name}.part-"
        if not self.output.parent.is_dir():
            return []
        names = sorted(path.name for path in self.output.parent.iterdir())
        return [self.output.with_name(n) for n in names if n.startswith(prefix) and n.endswith(".jsonl")]

    def _read(self, path: Path) -> tuple[list[dict], int]:
        """(rows, number of bytes up to the end of the last whole line); nothing where the header differs."""
        rows: list[dict] = []
        length = 0
        with open(path, "rb") as file:
            for line in file:
                try:
                    row = json.loads(line) if line.endswith(b"\n") else None
                except (ValueError, RecursionError):
                    row = None
                if length == 0 and row != {"fingerprint": self.fingerprint}:
                    break
                if length:
                    if not isinstance(row, dict) or not self.is_row(row):
                        break
                    rows.append(row)
                length += len(line)
        return rows, length
