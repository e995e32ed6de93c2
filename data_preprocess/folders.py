"""Folders that a command makes as a whole: whose files are in one, and how a new one takes an old one's place.

A new folder is written beside its place as .NAME.PID.tmp; the one it replaces is moved to .NAME.PID.old before and
removed after, so that a kill at any time leaves one of the two whole. The next run of the command clears what a dead
process left.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from data_preprocess.command import InputError

IsOurs = Callable[[str], bool]  # whether a path, relative to a folder, is of the command that makes the folder


def other_file(folder: Path, is_ours: IsOurs) -> str | None:
    """The first path in a folder, relative to it, that is not the command's own; None where all is.

    A link counts as a file, wherever it leads, and an empty folder by its name with a slash.
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
    """InputError, which begins with `where`, if a folder holds a file of somebody else."""
    first = other_file(folder, is_ours) if folder.is_dir() else None
    if first is not None:
        raise InputError(f"{where}: holds other files (first: {first}); nothing is deleted")


def temporary_folder(target: Path) -> Path:
    """Where this process writes what is to become `target`."""
    return _beside(target, "tmp")


def replace_folder(new: Path, target: Path) -> None:
    """Gives a complete folder the name `target`; an older folder of that name is removed."""
    old = _beside(target, "old")
    for path in new.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
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
    """Removes what dead processes left beside `target`, if nothing in it is of somebody else.

    Where a kill came between the two renames of `replace_folder`, the older folder gets its name back.
    """
    name = re.compile(rf"\.{re.escape(target.name)}\.(\d+)\.(tmp|old)")
    for path in sorted(target.parent.iterdir()) if target.parent.is_dir() else []:
        found = name.fullmatch(path.name)
        if not found or path.is_symlink() or not path.is_dir() or _is_alive(int(found[1])):
            continue
        if other_file(path, is_ours) is not None:
            continue
        if found[2] == "old" and not target.exists():
            path.replace(target)
        else:
            shutil.rmtree(path)


def _beside(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.{kind}")


def _is_alive(pid: int) -> bool:
    """Whether another process has this number; ours cannot have left anything before it began."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
