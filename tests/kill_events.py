"""Runs one command in a fork of a process that has the heavy imports, and kills it at its n-th file-write event.

An event is an open for writing, a rename, an unlink, a folder made or removed, a link, an fsync, and each file that
safetensors or torch writes by itself: whatever changes what lies under the study root. A process that kills itself at
an event meets every moment of a run without a race. Half of the kills at a file that is written leave half of it.
"""

import builtins
import io
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from warm_python import forks

CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.truncate", "shutil.rmtree")


@dataclass
class Kill:
    """At which event a run is killed, and whether half of what is written there is left."""

    number: int = 0  # from 1; 0 is never
    half: bool = False


def end() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class HalfWritten:
    """A file that ends the process once half of the first piece is written."""

    def __init__(self, file: Any):
        self.file = file

    def write(self, piece: Any) -> NoReturn:
        self.file.write(piece[: len(piece) // 2])
        self.file.flush()
        end()

    def writelines(self, pieces: Any) -> None:
        for piece in pieces:
            self.write(piece)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> "HalfWritten":
        return self

    def __exit__(self, *error: Any) -> None:
        self.file.close()


class Events:
    """Counts the events under a root, and kills the process at one of them."""

    def __init__(self, root: Path, kill: Kill):
        self.root = str(root)
        self.kill = kill
        self.number = 0

    def meets(self, path: Any) -> bool:
        """Counts an event; ends the process before the chosen one, or says that it is to end half-way through it."""
        if not isinstance(path, str | os.PathLike) or "tfevents" in str(path):
            return False
        if not os.path.abspath(path).startswith(self.root):
            return False
        self.number += 1
        if self.number == self.kill.number and not self.kill.half:
            end()
        return self.number == self.kill.number

    def install(self) -> None:
        import safetensors.torch
        import torch

        sys.addaudithook(self._audit)
        original = builtins.open
        builtins.open = io.open = lambda file, mode="r", *args, **kwargs: self._open(original, file, mode, args, kwargs)
        fsync = os.fsync
        os.fsync = lambda descriptor: (self.meets(self.root), fsync(descriptor))[1]
        safetensors.torch.serialize_file = self._whole(safetensors.torch.serialize_file)
        torch.save = self._whole(torch.save)

    def _audit(self, event: str, arguments: tuple) -> None:
        if event in CHANGES and self.meets(arguments[0]):
            end()

    def _open(self, original: Callable, file: Any, mode: str, args: tuple, kwargs: dict) -> Any:
        writes = any(letter in mode for letter in "wax+")
        half = writes and self.meets(file)
        opened = original(file, mode, *args, **kwargs)
        return HalfWritten(opened) if half else opened

    def _whole(self, save: Callable) -> Callable:
        """A function that writes the file which its second argument names."""

        def saving(content: Any, file: Any, *args: Any, **kwargs: Any) -> Any:
            half = self.meets(file)
            result = save(content, file, *args, **kwargs)
            if half:
                os.truncate(file, os.path.getsize(file) // 2)
                end()
            return result

        return saving


def run_command(command: str, root: Path, kill: Kill, log: Path) -> None:
    """In the fork: runs one command; its output and, last, the number of its events are in `log`."""
    import study_for_bad_input

    from data_preprocess.command import run

    os.environ["STUDY_ROOT"] = str(root)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    events = Events(root, kill)
    events.install()
    try:
        run(lambda: study_for_bad_input.run_entry(command))
    finally:
        sys.stderr.flush()
        os.write(output, f"\nevents {events.number}\n".encode())


def run_in_fork(command: str, root: Path, log: Path, kill: Kill | None = None) -> tuple[int, int]:
    """(exit status, number of events) of a run; a killed one has status -9 and -1 events."""
    process = forks().Process(target=run_command, args=(command, root, kill or Kill(), log))
    process.start()
    process.join()
    last = log.read_text(errors="replace").splitlines()[-1:]
    return process.exitcode, int(last[0].removeprefix("events ")) if process.exitcode == 0 else -1
