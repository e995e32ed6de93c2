"""What every command of this project shares: how it ends, where its output goes, and what its flags may hold.

A command's `main(argv)` raises InputError for what the user can mend, RunError for a run that went wrong by itself,
and Stopped when it was asked to stop; `run` turns each into one line on stderr and the exit status.
"""

import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

REPOSITORY = Path(__file__).resolve().parents[1]
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
# Ctrl-C reaches a worker twice, from the terminal and from its launcher; so soon after one another they are one.
SAME_REQUEST = 2.0  # seconds
MAX_SEED = 2**32 - 1  # the largest that numpy and torch both take
MAX_NAME = 200  # bytes; a file system takes 255, and suffixes are added


class InputError(ValueError):
    """Something the user gave is wrong, in one line: "path:line: what is wrong (what was expected)"."""


class RunError(RuntimeError):
    """A run went wrong by itself (a loss that is not finite), in one line that says where."""


class Stopped(Exception):
    """The work was stopped by a signal, at a point from which the same command goes on.

    Args:
        signal_number: which signal it was; the exit status is 128 + this number.
        message: one line on what is kept and how to go on.
    """

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal_number = signal_number


def run(main: Callable[[], None]) -> None:
    """Calls an entry's main; what the user can mend ends the process with one line on stderr.

    Exit status: 2 for InputError, 1 for RunError and OSError (unwritable, disk full), 128 + the signal's number for
    Stopped and for Ctrl-C. Any other exception is a bug and keeps its traceback.
    """
    try:
        main()
    except InputError as error:
        _fail(str(error), 2)
    except RunError as error:
        _fail(str(error), 1)
    except Stopped as error:
        _fail(str(error), 128 + error.signal_number, "stopped: ")
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone: do not fail a second time when stdout is flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}", 1)
    except KeyboardInterrupt:
        _fail("interrupted", 128 + signal.SIGINT)


def _fail(message: str, status: int, kind: str = "error: ") -> None:
    # A progress bar leaves the cursor inside its line, so on a terminal the message starts on a new one.
    lead = "\n" if sys.stderr.isatty() else ""
    print(f"{lead}{kind}{' '.join(message.split())}", file=sys.stderr, flush=True)
    raise SystemExit(status)


class StopRequest:
    """The signal that asked a process to stop at its next safe point; `number` is None while there was none."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.when = -math.inf

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: remembers the first signal; a later one ends the process at once, as if it had no handler."""
        import time

        now = time.monotonic()
        if self.number is not None and now - self.when > SAME_REQUEST:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if self.number is None:
            self.number, self.when = number, now


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Inside, SIGTERM, SIGUSR1 and Ctrl-C do not end the process but are noted, for the work to look at.

    Outside the main thread, where Python allows no handlers, nothing is ever noted.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.receive) for number in STOP_SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def study_root() -> Path:
    """The folder under which data/, checkpoints/, logs/ and results lie: $STUDY_ROOT, else the repository."""
    return Path(os.environ.get("STUDY_ROOT") or REPOSITORY).resolve()


def check_number(flag: str, value: float, at_least: float = -math.inf, at_most: float = math.inf,
                 above: float = -math.inf, below: float = math.inf) -> None:  # fmt: skip
    """InputError that names the flag unless `value` is finite and within the bounds."""
    if math.isfinite(value) and at_least <= value <= at_most and above < value < below:
        return
    limits = [(at_least, "at least"), (above, "above"), (at_most, "at most"), (below, "below")]
    bounds = " and ".join(f"{words} {limit:g}" for limit, words in limits if math.isfinite(limit))
    raise InputError(f"--{flag} {value}: expected a {'number ' + bounds if bounds else 'finite number'}")


def check_seed(flag: str, value: int) -> None:
    """InputError that names the flag unless numpy and torch both take `value` as a seed."""
    if not 0 <= value <= MAX_SEED:
        raise InputError(f"--{flag} {value}: expected a whole number from 0 to {MAX_SEED}")


def check_name(flag: str, name: str) -> None:
    """InputError that names the flag unless `name` can stand as one part of a path and in a line of text."""
    printable = name.isprintable() and name == name.strip()
    if not name or not printable or name in (".", "..") or "/" in name or "\\" in name:
        raise InputError(f"--{flag} {name!r}: expected a name, without a slash or control characters, and not . or ..")
    if len(os.fsencode(name)) > MAX_NAME:
        raise InputError(f"--{flag} {name[:20]!r}...: expected a name of at most {MAX_NAME} bytes")
