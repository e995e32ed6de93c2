"""What a command may overwrite: a file it was told to write and its own folders, nothing else.

A new folder is written next to its final place as .NAME.PID.tmp; the folder it replaces is first renamed to
.NAME.PID.old and then removed, so a kill at any time leaves one of the two complete. The next run clears the leftovers.
"""

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from data_preprocess.command import MAX_NAME, InputError
from data_preprocess.files import is_alive, sync

NAME_MAX = 255  # bytes of a file's name, on all file systems that we know

IsOurs = Callable[[str], bool]  # whether a path relative to a command's folder was written by that command


def check_output_file(flag: str, path: str | Path, inputs: Mapping[str, Sequence[str | Path | None]]) -> None:
    """Raises InputError, before any work, unless a file may be written or overwritten at `path`.

    Args:
        flag: the flag that gave the path.
        path: must not be a folder, a device or an input of the same command.
        inputs: files and folders that are read, by flag, as in `check_no_input`.
    """
    where = f"--{flag} {path}"
    if not str(path).strip():
        raise InputError(f"--{flag} {str(path)!r}: expected a file's name")
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"{where}: is {'a folder' if os.path.isdir(path) else 'not a regular file'} (expected a file)")
    check_place(where, Path(path))
    check_no_input(where, path, inputs)


def is_same_file(path: str | Path, other: str | Path) -> bool:
    """Returns whether two paths, of files that need not exist, lead to one place."""
    return os.path.realpath(path) == os.path.realpath(other)


def check_no_input(where: str, path: str | Path, inputs: Mapping[str, Sequence[str | Path | None]]) -> None:
    """Raises InputError, starting with `where`, if a file to be written is one that the command reads.

    `inputs` are by flag; None means not given, and a folder stands for every file in it.
    """
    if not os.path.exists(path):
        return
    real = Path(os.path.realpath(path))
    for flag, sources in inputs.items():
        for source in sources:
            if source is not None and Path(os.path.realpath(source)) in (real, *real.parents):
                raise InputError(f"{where}: is read as --{flag} {source} (expected another file)")


def check_place(where: str, path: Path) -> None:
    """Raises InputError, starting with `where`, if no file or folder can be created at `path`."""
    limits = {part: NAME_MAX for part in path.absolute().parts} | {path.name: MAX_NAME}
    for part, limit in limits.items():
        if len(os.fsencode(part)) > limit:
            raise InputError(f"{where}: {part[:20]}... is too long (expected a name of at most {limit} bytes)")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise InputError(f"{where}: {above} is a file (expected a folder)")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{where}: {above} cannot be written")


def check_opening(path: Path, opening: str | bytes) -> None:
    """Raises InputError if the file to be written exists but does not start with `opening`: it is not the command's."""
    start = opening.encode() if isinstance(opening, str) else opening
    if path.is_file() and not path.read_bytes().startswith(start):
        raise InputError(f"{path}: was not written by this command and is not overwritten (move it away)")


def other_file(folder: Path, is_ours: IsOurs) -> str | None:
    """Returns the first path in a folder, relative to it, that is not the command's own; None if there is none.

    A link counts as a file, wherever it points; an empty folder is returned with a trailing slash.
    """

    def fail(error: OSError) -> None:
        raise error

    found = []
    for root, folders, files in os.walk(folder, onerror=fail):
        links = [name for name in folders if os.path.islink(os.path.join(root, name))]
        found += [os.path.relpath(os.path.join(root, name), folder) for name in files + links]
        if not folders and not files and root != str(folder):
            found.append(os.path.relpath(root, folder) + "/")
    return next((name for name in sorted(found) if not is_ours(name)), None)


def check_only_ours(where: str, folder: Path, is_ours: IsOurs) -> None:
    """Raises InputError, starting with `where`, if a folder contains a file that the command did not write."""
    first = other_file(folder, is_ours) if folder.is_dir() else None
    if first is not None:
        raise InputError(f"{where}: contains files not written by this command (first: {first}); nothing was deleted")


def temporary_folder(target: Path) -> Path:
    """Returns the folder in which this process writes the future `target`."""
    return _beside(target, "tmp")


def replace_folder(new: Path, target: Path) -> None:
    """Renames a complete folder to `target` and removes an older folder of that name."""
    old = _beside(target, "old")
    for path in new.rglob("*"):
        if path.is_file():
            sync(path)
    if target.exists():
        target.replace(old)
    try:
        new.replace(target)
    except BaseException:
        if old.exists():
            old.replace(target)
        raise
    if old.exists():
        shutil.rmtree(old)


def clear_leftovers(target: Path, is_ours: IsOurs) -> None:
    """Removes folders that dead processes left beside `target`, unless they contain somebody else's files.

    If a kill came between the two renames of `replace_folder`, the older folder gets its name back.
    """
    name = re.compile(rf"\.{re.escape(target.name)}\.(\d+)\.(tmp|old)")
    for path in sorted(target.parent.iterdir()) if target.parent.is_dir() else []:
        found = name.fullmatch(path.name)
        if not found or path.is_symlink() or not path.is_dir() or _is_at_work(int(found[1])):
            continue
        if other_file(path, is_ours) is not None:
            continue
        if found[2] == "old" and not target.exists():
            path.replace(target)
        else:
            shutil.rmtree(path)


def _beside(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.{kind}")


def _is_at_work(process: int) -> bool:
    """Returns whether another process has this number; a leftover with our own number is from an earlier process."""
    return process != os.getpid() and is_alive(process)
