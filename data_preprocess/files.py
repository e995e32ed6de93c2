"""Reading and writing files: writes are all or nothing, and errors name the file and line."""

import codecs
import errno
import gzip
import json
import lzma
import math
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from data_preprocess.command import InputError

# torch.save's messages for a failed write. They give no reason; it is nearly always a full disk.
FAILED_WRITES = ("No space left on device", "file write failed", "unexpected pos", "iostream error")
SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")  # at the end of messages of safetensors and tokenizers
BLOCK = 1 << 20  # bytes read or written at a time
LINE_LIMIT = 64 << 20  # bytes per line: a longer line is a mistake or a decompression bomb
TOO_LONG = f"more than {LINE_LIMIT >> 20} MiB in one row (expected at most that)"
BOM = codecs.BOM_UTF8  # some editors write it at the start of a file
MAX_DEPTH = 100  # of nested lists and objects; json cannot write values nested several times deeper
EXPECTED = "expected one JSON object per line"
compact_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps creates an encoder for every call
BLANKS = re.compile(r"[ \t\r\n]*")  # between JSON values
PACKED = {".gz": gzip.open, ".xz": lzma.open}  # by a file's suffix
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)  # what these raise
CANNOT_SYNC_FOLDERS = (errno.EINVAL, errno.ENOTSUP)  # errors of some network file systems
WRITERS = 2  # threads
LOCKS = "FILE_LOCKS"  # environment variable; "no" for a file system that refuses locks


@contextmanager
def hold_lock(folder: str | Path) -> Iterator[None]:
    """Holds a folder's lock, so that two runs do not write into each other's files. A killed process releases its lock.

    Raises:
        InputError: another process holds it.
    """
    with _locked(Path(folder) / "lock") as held:
        if not held:
            raise InputError(f"{folder}: locked by another run (wait for it or stop it)")
        yield


@contextmanager
def try_lock(path: str | Path) -> Iterator[bool]:
    """Holds the lock of one file (.NAME.lock beside it); yields False if another process holds it or just released it.

    A killed process releases its lock. The holder removes the lock file at the end.
    """
    name = Path(path).with_name(f".{Path(path).name}.lock")
    with _locked(name) as held:
        try:
            yield held
        finally:
            if held:
                name.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Yields whether this process got the lock file at once; if so it is held inside the block.

    With FILE_LOCKS=no every process gets it, and none is taken.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    if os.environ.get(LOCKS) == "no":
        yield True
        return
    lock = FileLock(path, blocking=False, fallback_to_soft=False)  # a soft lock would outlive a killed process
    try:
        lock.acquire()
    except Timeout:
        pass
    except OSError as error:
        if error.filename:
            raise
        hint = f"its file system refuses locks; {LOCKS}=no takes none: then never start the same work twice at a time"
        raise OSError(error.errno, f"{error.strerror} ({hint})", str(path)) from error
    try:
        yield lock.is_locked
    finally:
        lock.release()


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a temporary file beside `path` that is renamed to it if the block succeeds and removed otherwise.

    Creates parent folders and removes what killed processes left of the same file. Text is UTF-8 with "\n" line ends.
    An OSError without a file name (a full disk) gets the target's.
    """
    path = Path(path)
    with _renamed_at_the_end([path]), _temporary_file(path, mode) as file:
        yield file


def write_files(outputs: dict[Path, Iterable[str | bytes]]) -> None:
    """Writes several text files from pieces of str or UTF-8 bytes; none gets its name before all are complete.

    Files are written in threads to overlap disk waits. If several fail, the first one's error is raised.
    """

    def write(path: Path) -> None:
        with _temporary_file(path, "wb") as file:
            file.writelines(piece if isinstance(piece, bytes) else piece.encode("utf-8") for piece in outputs[path])

    with _renamed_at_the_end(list(outputs)), ThreadPoolExecutor(WRITERS) as threads:
        list(threads.map(write, outputs))


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_leftovers(path: str | Path) -> None:
    """Removes temporary files of `path` whose writing processes are dead."""
    path = Path(path)
    leftover = re.compile(re.escape(f".{path.name}.") + r"(\d+)\.tmp")
    for name in os.listdir(path.parent):
        made_by = leftover.fullmatch(name)
        if made_by and not is_alive(int(made_by[1])):
            path.with_name(name).unlink(missing_ok=True)


def is_alive(process: int) -> bool:
    """Returns whether a process with this number exists, possibly another user's."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's
    return True


def sync(path: str | Path) -> None:
    """Flushes a file's content or a folder's entries to disk, so that a power cut cannot undo them."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:
        return  # a folder can be writable but not readable
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in CANNOT_SYNC_FOLDERS:
            raise
    finally:
        os.close(handle)


@contextmanager
def _temporary_file(path: Path, mode: str) -> Iterator[IO[Any]]:
    """Opens the temporary file of `path`, which is fully on disk if the block succeeds."""
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    with disk_full_as_oserror(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        with open(_temporary(path), mode, BLOCK, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def _renamed_at_the_end(paths: list[Path]) -> Iterator[None]:
    """Gives temporary files their final names, durably, if the block succeeds; on failure removes those without one."""
    check_are_files(paths)
    try:
        yield
        for path in paths:
            with disk_full_as_oserror(path):
                os.replace(_temporary(path), path)
    except BaseException:
        for path in paths:
            with suppress(OSError):  # if its parent is a file, there is nothing to remove
                _temporary(path).unlink(missing_ok=True)
        raise
    for folder in dict.fromkeys(path.parent for path in paths):
        sync(folder)


def check_are_files(paths: Iterable[Path]) -> None:
    """Raises IsADirectoryError if a folder is where a file is to be written: a run would write only those before it."""
    for path in paths:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


@contextmanager
def disk_full_as_oserror(target: Path) -> Iterator[None]:
    """Turns what safetensors, torch and others raise for a failed write into an OSError that names a file.

    Args:
        target: what is written, named if the error itself names no file, or the temporary one.
    """
    try:
        yield
    except OSError as error:
        if error.errno and error.filename in (None, "", str(_temporary(target))):
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise
    except Exception as error:
        system_error = SYSTEM_ERROR.search(str(error))
        number = int(system_error.group(1)) if system_error else errno.ENOSPC
        if system_error or any(sign in str(error) for sign in FAILED_WRITES):
            raise OSError(number, os.strerror(number), str(target)) from error
        raise


def without_nan(value: Any) -> Any:
    """Returns a JSON value with None for each number that is not finite, which JSON does not have."""
    if isinstance(value, dict):
        return {name: without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: str | Path, obj: Any, indent: int | None = None) -> None:
    """Writes one JSON value and a newline, atomically."""
    with atomic_write(path) as file:
        file.write(json.dumps(obj, ensure_ascii=False, indent=indent) + "\n")


def json_lines(rows: Iterable[dict]) -> Iterator[str]:
    """Yields one line of JSON per row, the format of every JSONL file written here."""
    return map(json_line, rows)


def json_line(row: dict) -> str:
    return compact_json(row) + "\n"


def write_jsonl(path: str | Path, rows: Iterable[dict]) -> None:
    """Writes one JSON object per line, atomically."""
    write_files({Path(path): json_lines(rows)})


def read_json(path: str | Path) -> Any:
    """Reads one JSON value; InputError "path:line: ..." if it is malformed, missing or not UTF-8."""
    path = Path(path)
    _check_is_file(path)
    raw = path.read_bytes().removeprefix(BOM)
    try:
        text = raw.decode("utf-8")
        value = json.loads(text)
        _check_unicode(text, value)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(f"{path}:{line}: not UTF-8 ({error.reason})") from None
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}"
        raise InputError(f"{where}: not valid JSON ({error.msg}, column {error.colno})") from None
    except (ValueError, RecursionError) as error:  # a number of over 4300 digits; nested too deep
        raise InputError(f"{path}: not JSON that can be read ({error})") from None
    return value


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yields (1-based line number, text with its line end) of a UTF-8 file, packed if its name ends in .gz or .xz.

    A byte-order mark at the start is skipped. Raises InputError for a missing file, a damaged or truncated packed file,
    bytes that are not UTF-8, and a line of over LINE_LIMIT bytes, which is not read to its end.
    """
    with _opened(Path(path)) as file:
        for number, raw in _raw_lines(file, path):
            yield number, _decoded(raw, f"{path}:{number}")


def _opened(path: Path) -> IO[bytes]:
    _check_is_file(path)
    return PACKED[path.suffix](path, "rb") if path.suffix in PACKED else open(path, "rb", BLOCK)


def _damaged(path: str | Path, line: int, error: Exception) -> InputError:
    kind = {".gz": "gzip", ".xz": "xz"}[Path(path).suffix]
    return InputError(f"{path}:{line}: damaged or truncated {kind} file ({error})")


def _raw_lines(file: IO[bytes], path: str | Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    while True:
        number += 1
        try:
            raw = file.readline(LINE_LIMIT + 1)
        except DAMAGED as error:
            raise _damaged(path, number, error) from None
        if len(raw) > LINE_LIMIT:
            raise InputError(f"{path}:{number}: {TOO_LONG}")
        if number == 1:
            raw = raw.removeprefix(BOM)
        if not raw:
            return
        yield number, raw


def _decoded(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 ({error.reason} at byte {error.start})") from None


@contextmanager
def at_line(path: str | Path, number: int) -> Iterator[None]:
    """Lets an InputError of the block begin with the place of the row that it is about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}:{number}: {error}") from error


class Element(int):
    """The 1-based number of a row in a JSON array, shown as "rows.json:element 3" because it is not a line number."""

    def __str__(self) -> str:
        return f"element {int(self)}"


def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict]]:
    """Yields (1-based line number, object); InputError "path:line: ..." for a line that is not a JSON object.

    Blank lines at the end are skipped. A file that starts with "[" is read as one JSON array; its rows are numbered by
    `Element`. A file whose name ends in .gz or .xz is packed.
    """
    with _opened(Path(path)) as file:
        rows = _raw_elements(file, path) if _opens_an_array(file, path) else _raw_lines(file, path)
        for number, raw in _without_blank_end(rows):
            where = f"{path}:{number}"
            text = _decoded(raw.rstrip(b"\r\n"), where)
            try:
                row = _object_in(text)
            except ValueError as error:
                raise InputError(f"{where}: {error}") from None
            yield number, row


def _object_in(text: str) -> dict:
    """Returns the JSON object in a line of text; a ValueError says why there is none."""
    if not text.strip():
        raise ValueError(f"blank line ({EXPECTED})")
    try:
        row = parse_json(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON ({error.msg}, column {error.colno}; {EXPECTED})") from None
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, found {type(row).__name__}")
    return row


def parse_json(text: str) -> Any:
    """Returns the JSON value in a text.

    Raises:
        ValueError: says why there is none that we can use (json.JSONDecodeError if it is not JSON): a number of over
            4300 digits, nested too deep, one key twice in an object, or an unpaired surrogate.
    """
    try:
        value = json.loads(text, object_pairs_hook=_with_each_key_once)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON that can be read ({error})") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(value, MAX_DEPTH):
        raise ValueError(f"lists or objects more than {MAX_DEPTH} deep in one another")
    _check_unicode(text, value)
    return value


def _with_each_key_once(pairs: list[tuple[str, Any]]) -> dict:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"duplicate key {repeated!r:.40} in one object")
    return row


def _is_deep(value: Any, depth: int) -> bool:
    """Returns whether a value's lists and objects are nested more than `depth` deep."""
    if not isinstance(value, dict | list):
        return False
    items = value.values() if isinstance(value, dict) else value
    return not depth or any(_is_deep(item, depth - 1) for item in items)


def _check_unicode(text: str, value: Any) -> None:
    """Raises ValueError if a value parsed from JSON text contains an unpaired surrogate, which UTF-8 cannot encode."""
    if "\\ud" in text or "\\uD" in text:
        try:
            compact_json(value).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("holds an unpaired surrogate escape (not valid Unicode)") from None


def _without_blank_end(rows: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    blank: list[tuple[int, bytes]] = []
    for number, raw in rows:
        if raw.isspace():
            blank.append((number, raw))
        else:
            yield from blank
            blank.clear()
            yield number, raw


def _opens_an_array(file: IO[bytes], path: str | Path) -> bool:
    """Returns whether a file's first character opens a JSON array, without consuming it."""
    try:
        start = file.peek(BLOCK)
    except DAMAGED as error:
        raise _damaged(path, 1, error) from None
    return start.removeprefix(BOM).lstrip().startswith(b"[")


def _raw_elements(file: IO[bytes], path: str | Path) -> Iterator[tuple[int, bytes]]:
    """Yields the elements of a JSON array in a file, each as its text, holding only part of the file in memory."""
    decode = codecs.getincrementaldecoder("utf-8-sig")().decode
    text, place, line, number = "", 0, 1, 0  # text starts on `line`; everything before `place` is consumed
    while True:
        try:
            element, place = _next_element(text, place, "," if number else "[")
        except json.JSONDecodeError as error:  # invalid, or cut off at the end of the text
            where = f"{path}:{line + error.lineno - 1}"
            line += text.count("\n", 0, place)
            text, place = text[place:], 0
            if len(text) > LINE_LIMIT:
                raise InputError(f"{path}:{line}: {TOO_LONG}") from None
            more = _decoded_piece(file, max(BLOCK, len(text)), decode, path, line + text.count("\n"))
            if not more:
                raise InputError(f"{where}: not valid JSON ({error.msg}, column {error.colno})") from None
            text += more
        except (ValueError, RecursionError) as error:
            line += text.count("\n", 0, place)
            raise InputError(f"{path}:{line}: not JSON that can be read ({error})") from None
        else:
            if not element:
                break
            number += 1
            yield Element(number), element.encode("utf-8")
    if (text[place:] + _decoded_piece(file, BLOCK, decode, path, line + text.count("\n"))).strip():
        line += text.count("\n", 0, place)
        raise InputError(
            f"{path}:{line}: text after the end of the JSON array (expected one JSON array, or one object per line)"
        )


def _next_element(text: str, place: int, before: str) -> tuple[str, int]:
    """Returns (text of the array's next element, its end); the text is empty at the end of the array.

    `before` is the character before the element: "[" or ",". JSONDecodeError if the text is invalid or ends too early.
    """
    place = BLANKS.match(text, place).end()
    if before == "," and text.startswith("]", place):
        return "", place + 1
    if not text.startswith(before, place):
        raise json.JSONDecodeError(f"Expecting {before!r}", text, place)
    place = BLANKS.match(text, place + 1).end()
    if before == "[" and text.startswith("]", place):
        return "", place + 1
    _, end = json.JSONDecoder().raw_decode(text, place)
    return text[place:end], end


def _decoded_piece(file: IO[bytes], size: int, decode: Callable[[bytes], str], path: str | Path, line: int) -> str:
    """Returns more text of a file, starting on `line`; empty at its end."""
    try:
        raw = file.read(size)
        return decode(raw)
    except DAMAGED as error:
        raise _damaged(path, line, error) from None
    except UnicodeDecodeError as error:
        line += error.object[: error.start].count(b"\n")
        raise InputError(f"{path}:{line}: not UTF-8 ({error.reason})") from None


def _check_is_file(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: is a folder (expected a file)")
