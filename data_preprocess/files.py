"""Reading and writing files: whole or not at all, and with errors that name the file and the line.

Library. Holds atomic writers, checked readers, and what a result file says about its making (fingerprint, git_hash,
versions).
"""

import errno
import gzip
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from data_preprocess.command import REPOSITORY, InputError
from data_preprocess.quick_json import object_in, quick_object

# What torch.save says of a write that failed; it does not say why, which nearly always is a full disk.
FAILED_WRITES = ("No space left on device", "file write failed", "unexpected pos", "iostream error")
SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")  # so do messages of safetensors and tokenizers end
BLOCK = 1 << 20  # bytes read or written at a time
WRITERS = 2  # threads
VERSIONED_PACKAGES = ("torch", "transformers", "accelerate", "deepspeed", "numpy")


@contextmanager
def hold_lock(folder: str | Path) -> Iterator[None]:
    """Holds a folder's lock: two runs at once would write into each other's files. A killed run's lock is free.

    Raises:
        InputError: another process holds it.
    """
    import fcntl

    Path(folder).mkdir(parents=True, exist_ok=True)
    with open(Path(folder) / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: another run is at work there (wait for it, or end it)") from None
        yield


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a temporary file beside `path` that takes its name if the block ends well; else nothing is left.

    Makes parent folders. Text is UTF-8 with "\n" line ends. An OSError without a file name (a full disk) is
    given the target's.
    """
    path = Path(path)
    with _temporary_file(path, mode) as file:
        yield file
    _rename([path])


def write_files(outputs: dict[Path, Iterable[str | bytes]]) -> None:
    """Writes several text files from pieces of text, or of its UTF-8; none takes its name before all are complete.

    Files are written in threads, since a disk is waited for. Of several that fail the first one's error is raised.
    """

    def write(path: Path) -> None:
        with _temporary_file(path, "wb") as file:
            file.writelines(piece if isinstance(piece, bytes) else piece.encode("utf-8") for piece in outputs[path])

    try:
        with ThreadPoolExecutor(WRITERS) as threads:
            list(threads.map(write, outputs))
    except BaseException:
        for path in outputs:
            with suppress(OSError):  # its folder may not be one
                _temporary(path).unlink(missing_ok=True)
        raise
    _rename(list(outputs))


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextmanager
def _temporary_file(path: Path, mode: str) -> Iterator[IO[Any]]:
    """Opens the temporary file of `path`: on disk in full when the block ends well, else gone."""
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, mode, BLOCK, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        with suppress(OSError):  # where its folder is a file, there is nothing to remove
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _rename(paths: list[Path]) -> None:
    """Gives complete temporary files their names; where one cannot have it, those not yet renamed go."""
    for index, path in enumerate(paths):
        try:
            os.replace(_temporary(path), path)
        except BaseException as error:
            for rest in paths[index:]:
                _temporary(rest).unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror, str(path)) from error
            raise


@contextmanager
def disk_full_as_oserror(target: Path) -> Iterator[None]:
    """Inside, what safetensors, torch and others raise where a write fails becomes an OSError that names a file.

    Args:
        target: what is written, named where the error itself names no file.
    """
    try:
        yield
    except OSError as error:
        if error.errno and not error.filename:
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise
    except Exception as error:
        system_error = SYSTEM_ERROR.search(str(error))
        number = int(system_error.group(1)) if system_error else errno.ENOSPC
        if system_error or any(sign in str(error) for sign in FAILED_WRITES):
            raise OSError(number, os.strerror(number), str(target)) from error
        raise


def write_json(path: str | Path, obj: Any, indent: int | None = None) -> None:
    """Writes one JSON value and a newline, atomically."""
    with atomic_write(path) as file:
        file.write(json.dumps(obj, ensure_ascii=False, indent=indent) + "\n")


def json_lines(rows: Iterable[dict]) -> Iterator[str]:
    """One line of JSON per row, as every file of rows here is written."""
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_jsonl(path: str | Path, rows: Iterable[dict]) -> None:
    """Writes one JSON object per line, atomically."""
    write_files({Path(path): json_lines(rows)})


def read_json(path: str | Path) -> Any:
    """Reads one JSON value; InputError "path:line: ..." where it is malformed, missing or not UTF-8."""
    path = Path(path)
    _check_is_file(path)
    raw = path.read_bytes()
    try:
        return json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(f"{path}:{line}: not UTF-8 ({error.reason})") from None
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}"
        raise InputError(f"{where}: not valid JSON ({error.msg}, column {error.colno})") from None


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yields (1-based line number, text without its line end) of a UTF-8 file, gzipped where it ends in .gz.

    Raises InputError for a missing file, a damaged or truncated gzip file, and bytes that are not UTF-8.
    """
    for number, raw in _raw_lines(Path(path)):
        yield number, _decoded(raw, f"{path}:{number}")


def _raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    _check_is_file(path)
    number = 0
    with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb", BLOCK) as file:
        lines = iter(file)
        while True:
            number += 1
            try:
                raw = next(lines)
            except StopIteration:
                return
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise InputError(f"{path}:{number}: damaged or truncated gzip file ({error})") from None
            yield number, raw


def _decoded(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 ({error.reason} at byte {error.start})") from None


def read_jsonl(
    path: str | Path, quick: Callable[[bytes], dict | None] = quick_object
) -> Iterator[tuple[int, dict]]:
    """Yields (1-based line number, object); InputError "path:line: ..." for a line that is no JSON object.

    Args:
        path: a JSONL file, gzipped where it ends in .gz.
        quick: reads a line as json does, or gives None and leaves it to json.
    """
    for number, raw in _raw_lines(Path(path)):
        row = quick(raw)
        if row is None:
            where = f"{path}:{number}"
            text = _decoded(raw, where)
            try:
                row = object_in(text)
            except ValueError as error:
                raise InputError(f"{where}: {error}") from None
        yield number, row


def _check_is_file(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: is a folder (expected a file)")


def fingerprint(settings: dict, *inputs: str | Path) -> str:
    """sha256 over settings (JSON values) and the bytes of the input files: equal only for the same work."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in inputs:
        with open(path, "rb") as file:
            inner = hashlib.sha256()
            while block := file.read(1 << 20):
                inner.update(block)
            digest.update(inner.digest())
    return digest.hexdigest()


def git_hash() -> str | None:
    """The repository's commit, or None where it is no git checkout."""
    if not (REPOSITORY / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    """Versions of Python and the packages that numbers depend on; one that is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in VERSIONED_PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """The processor and its cores, as a report names them."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}"
