"""What all commands of this project share: exit status, output folder and checks of flag values.

A command's `main(argv)` raises InputError for what the user can fix, RunError for a run that failed by itself and
Stopped for a run that was asked to stop; `run` turns each into one line on stderr and an exit status. When
training/launch.py starts several processes, the launcher prints the line of the first that fails.
"""

import argparse
import atexit
import errno
import json
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, field, fields
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

REPOSITORY = Path(__file__).resolve().parents[1]
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
# Ctrl-C reaches a worker twice, from the terminal and from its launcher: signals this close together count as one.
SAME_REQUEST = 2.0  # seconds
# Names the file in which the first process of a launch to fail writes [exit status, line] (training/launch.py).
FAILURE_FILE = "LAUNCH_FAILURE_FILE"
# gloo's messages for another process that died; that process or the launcher reports why.
LOST_PROCESS_SIGNS = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
# What torch's RuntimeErrors say where memory is lacking, or the size of a tensor is beyond any.
OUT_OF_MEMORY = (
    "DefaultCPUAllocator", "CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
    "Storage size calculation overflowed", "integer multiplication overflow",
)  # fmt: skip
MAX_SEED = 2**32 - 1  # the largest that both numpy and torch accept
MAX_NAME = 200  # bytes; file systems allow 255, and suffixes are added
MAX_COUNT = 10**9  # rows, tokens or steps: more than any run needs, and safe in every library
MAX_RATE = 1e36  # learning rate: AdamW multiplies it by ten, which must fit float32
MAX_SHOWN = 40  # characters of a value in a message

Check = Callable[[str, Any], None]  # check(flag, value) raises InputError for a value that is not allowed


class InputError(ValueError):
    """Invalid user input, in one line: "path:line: what is wrong (what was expected)"."""


class RunError(RuntimeError):
    """A run failed by itself (for example, the loss is not finite), in one line that says where."""


class Stopped(Exception):
    """A signal stopped the run at a point from which the same command resumes.

    Args:
        signal_number: the signal; the exit status is 128 + this number.
        message: one line on what is kept and how to resume.
    """

    def __init__(self, signal_number: int, message: str):
        super().__init__(signal_number, message)  # both, so that it can be pickled for another process
        self.signal_number = signal_number
        self.message = message

    def __str__(self) -> str:
        return self.message


def run(main: Callable[[], None]) -> None:
    """Calls an entry's main and turns its errors into one line on stderr and an exit status.

    Exit status: 2 for InputError and a file name that is too long; 1 for RunError, OSError (unwritable, disk full) and
    too little memory; 128 + the signal's number for Stopped and Ctrl-C. Any other exception is a bug and keeps its
    traceback. In a launch of several processes only the first to fail is reported, and none outlives the launcher.
    """
    if FAILURE_FILE in os.environ:
        end_with_parent()
    # accelerate imports bitsandbytes where it is installed, which then warns of a kernel that only decoding could use.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with _kept_exit_status():
        _run(main)


@contextmanager
def _kept_exit_status() -> Iterator[None]:
    """Makes the block's exit status that of the process, in a launch of several processes.

    Tearing down a process group after another process has died can abort the interpreter's exit and lose the status.
    The handler is registered first and so runs last: it skips only that part of the exit.
    """
    status = 1  # for an exception that is a bug; the interpreter has printed its traceback by then

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    if os.environ.get("WORLD_SIZE", "1") != "1":
        atexit.register(leave)
    try:
        yield
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        raise


def _run(main: Callable[[], None]) -> None:
    try:
        main()
    except InputError as error:
        _fail(str(error), 2)
    except RunError as error:
        _fail(str(error), 1)
    except Stopped as error:
        _fail(str(error), 128 + error.signal_number, "stopped: ")
    except BrokenPipeError:
        # The reader of our output (`| head`) has closed the pipe: do not fail again when stdout is flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        # The names of files come from the user, alone or as a part.
        _fail(f"{where}{error.strerror or error}", 2 if error.errno == errno.ENAMETOOLONG else 1)
    except KeyboardInterrupt:
        _fail("interrupted", 128 + signal.SIGINT)
    except Exception as error:
        if lack := lack_of_memory(error):
            _fail(f"out of memory ({lack}); smaller batches, shorter texts or a smaller model need less", 1)
        lost = any(sign in str(error) for sign in LOST_PROCESS_SIGNS)
        if FAILURE_FILE in os.environ and (lost or not _is_first_to_fail(1)):
            raise SystemExit(1) from None
        raise


def lack_of_memory(error: BaseException) -> str | None:
    """Returns what an error says about memory that could not be allocated, in one line; None for another error."""
    text = str(error)
    if isinstance(error, MemoryError):
        return one_line(text) or type(error).__name__
    found = [text.index(sign) for sign in OUT_OF_MEMORY if isinstance(error, RuntimeError) and sign in text]
    sentences = text[min(found, default=0) :].partition("\n")[0].split(". ")
    return one_line(". ".join(sentences[:3])).rstrip(".") if found else None  # what follows is advice


def _fail(message: str, status: int, kind: str = "error: ") -> None:
    line = kind + one_line(message)
    if FAILURE_FILE in os.environ:
        _is_first_to_fail(status, line)  # the launcher prints it once no process draws a progress bar
    else:
        say(line)
    raise SystemExit(status)


def say(line: str) -> None:
    """Writes a line to stderr, on a terminal after a line break: a progress bar leaves the cursor in its own line."""
    print("\n" + line if sys.stderr.isatty() else line, file=sys.stderr, flush=True)


def one_line(text: str) -> str:
    """Joins the text's words with single spaces and escapes characters that a terminal would interpret."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in " ".join(text.split()))


def _is_first_to_fail(status: int, line: str = "") -> bool:
    """Returns whether no process of this launch failed before, and if so stores status and line for the launcher."""
    try:
        with open(os.environ[FAILURE_FILE], "x", encoding="utf-8") as file:
            file.write(json.dumps([status, line]))
    except FileExistsError:
        return False
    except OSError:  # a full disk
        say(line)
    return True


def signal_name(number: int) -> str:
    """Returns the name of the signal that ended a process, and for SIGKILL a guess: the kernel sends it, too."""
    return signal.Signals(number).name + " (out of memory?)" * (number == signal.SIGKILL)


def end_with_parent() -> None:
    """Exits soon after the parent does: an orphan would write into files from which the next run resumes."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class StopRequest:
    """The signal that asked a process to stop at its next safe point; `number` is None before any signal."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.when = -math.inf
        self.commands: list[subprocess.Popen] = []  # child processes, which get the signal too

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: stores the first signal; a second one ends the process at once, as without a handler."""
        now = time.monotonic()
        if self.number is not None and now - self.when <= SAME_REQUEST:
            return
        for command in self.commands:
            command.send_signal(number)
        if self.number is None:
            self.number, self.when = number, now
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Inside the block, SIGTERM, SIGUSR1 and Ctrl-C do not end the process but are recorded for the work to check.

    A nested block gets the outer block's request. A signal that came too late for the work to react is passed on to the
    previous handler, if any. Outside the main thread, where Python allows no handlers, nothing is recorded.
    """
    outer = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if isinstance(outer, StopRequest):
        yield outer
        return
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.receive) for number in STOP_SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: a handler that was not set from Python
    outside = before.get(request.number)
    if callable(outside) and outside is not signal.default_int_handler:
        outside(request.number, None)


def study_root() -> Path:
    """Returns the folder that holds data/, checkpoints/, logs/ and results: $STUDY_ROOT, else the repository."""
    return Path(os.environ.get("STUDY_ROOT") or REPOSITORY).resolve()


def check_number(flag: str, value: float, at_least: float = -math.inf, at_most: float = math.inf,
                 above: float = -math.inf, below: float = math.inf) -> None:  # fmt: skip
    """Raises InputError, naming the flag, unless `value` is finite and within the bounds."""
    # Compare without converting: an integer may be larger than any float.
    if abs(value) < math.inf and at_least <= value <= at_most and above < value < below:
        return
    limits = [(at_least, "at least"), (above, "above"), (at_most, "at most"), (below, "below")]
    bounds = " and ".join(f"{words} {_number(limit)}" for limit, words in limits if abs(limit) < math.inf)
    expected = f"number {'of ' if bounds.startswith('at') else ''}{bounds}" if bounds else "finite number"
    raise InputError(f"--{flag} {_shown(value)}: expected a {expected}")


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def check_seed(flag: str, value: int) -> None:
    """Raises InputError, naming the flag, unless both numpy and torch accept `value` as a seed."""
    if not 0 <= value <= MAX_SEED:
        raise InputError(f"--{flag} {_shown(value)}: expected a whole number from 0 to {MAX_SEED}")


def check_text(flag: str, value: str) -> None:
    """Raises InputError, naming the flag, for blank text, as of an unset variable, or bytes that are not UTF-8."""
    if not value.strip():
        raise InputError(f"--{flag} {value!r}: expected non-empty text")
    if any("\ud800" <= char <= "\udfff" for char in value):  # Python's stand-ins for bytes that are not UTF-8
        raise InputError(f"--{flag} {_shown(ascii(value))}: expected UTF-8, as in the files that name it")


def check_name(flag: str, name: str) -> None:
    """Raises InputError, naming the flag, unless `name` can be one part of a path and fits in a line of text."""
    printable = name.isprintable() and name == name.strip()
    if not name or not printable or name in (".", "..") or name.startswith("-") or "/" in name or "\\" in name:
        raise InputError(
            f"--{flag} {name!r:.60}: expected a name, without a slash, control characters, a leading hyphen or leading "
            "or trailing spaces, and not . or .."
        )
    if len(os.fsencode(name)) > MAX_NAME:
        raise InputError(f"--{flag} {name[:20]!r}...: expected a name of at most {MAX_NAME} bytes")


def within(**bounds: float) -> Check:
    """Returns check_number with these bounds, for `check_flags`."""
    return partial(check_number, **bounds)


def count(at_least: int = 1, at_most: int = MAX_COUNT) -> Check:
    """Returns the check of an integer count, for `check_flags`."""
    return within(at_least=at_least, at_most=at_most)


CHECKS: dict[type, Check] = {str: check_text, int: count()}  # of a `setting` without one


def check_flags(values: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    """Raises InputError for the first flag with a value, or list element, that its check rejects.

    Args:
        values: by flag; None means not given and passes.
        checks: by flag; every flag is in `values`.
    """
    for flag, check in checks.items():
        value = values[flag]
        for one in value if isinstance(value, list | tuple) else [value]:
            if one is not None:
                check(flag, one)


def environment_count(name: str, default: int | None, at_least: int = 1) -> int | None:
    """Reads a count from an environment variable; returns `default` if it is unset or empty."""
    text = os.environ.get(name)
    if not text:
        return default
    if not text.isdecimal() or not at_least <= int(text[:20]) <= MAX_COUNT:
        raise InputError(f"{name} {_shown(text)}: expected a whole number from {at_least} to {MAX_COUNT}")
    return int(text)


def available_cores() -> int:
    """Returns the cores that this process may use: those of its Slurm job or of its CPU set, else the machine's."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, environment_count("SLURM_CPUS_PER_TASK", allowed))


def cores_each(processes: int) -> int:
    """Returns the share of the available cores of each of several processes, one at least."""
    return max(1, available_cores() // processes)


def check_one_given(settings: Any, one: str, other: str, meaning: str) -> None:
    """Raises InputError unless exactly one of two flags is given; `meaning` briefly says what each is."""
    if bool(getattr(settings, one)) == bool(getattr(settings, other)):
        raise InputError(f"--{one} or --{other}: give one of them ({meaning})")


def check_unused(settings: Any, mode: str, flags: Iterable[str]) -> None:
    """Raises InputError for the first of `flags` that is given, which is to say not its default, beside a mode.

    Args:
        settings: a dataclass of `setting` fields.
        mode: what does without these flags: a flag, perhaps with a word on what it does.
        flags: their names.
    """
    defaults = {each.name: _default(each) for each in fields(settings)}
    for flag in flags:
        if getattr(settings, flag) != defaults[flag]:
            raise InputError(f"--{flag}: does not apply to {mode}")


def setting(help: str, check: Check | None = None, choices: Sequence[str] | None = None, metavar: str | None = None,
            positional: bool = False, bare: Any = None, **default: Any) -> Any:  # fmt: skip
    """Declares a dataclass field that is a command-line flag.

    Args:
        help: its help text.
        check: the check of its value, or of each element of a list; by default a text must not be blank, and a whole
            number is a `count`.
        choices: the allowed values.
        metavar: its placeholder in the help text.
        positional: whether it is a positional argument.
        bare: its value where the flag is given without one; None: a value is required.
        **default: `default=` or `default_factory=`, if it has one.
    """
    argument = {"choices": choices, "metavar": metavar, "const": bare}
    return field(metadata={"help": help, "check": check, "positional": positional, "argument": argument}, **default)


def check_settings(settings: Any) -> None:
    """Raises InputError for the first `setting` field whose check rejects its value; its default always passes."""
    for each in fields(settings):
        value, check = getattr(settings, each.name), each.metadata["check"] or CHECKS.get(type_of_one(each))
        if check and value != each.default:
            check_flags({each.name: value}, {each.name: check})


class OneLineParser(argparse.ArgumentParser):
    """Reports a wrong command line in one line, like every other error; --help shows the flags."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {one_line(message)}\n")


def parse_settings(kind: type, argv: list[str] | None, description: str) -> Any:
    """Parses a command line into a dataclass of `setting` fields; a field without a default is a required flag.

    The type decides what is parsed: T or T | None is one value, list[T] and tuple[T, ...] are one or more values, bool
    is a switch with --no_NAME as its opposite.
    """
    parser = OneLineParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for each in fields(kind):
        _add_argument(parser, each)
    values = vars(parser.parse_args(argv))
    kinds = {each.name: typing.get_origin(without_none(each.type)) for each in fields(kind)}
    return kind(**{name: tuple(value) if kinds[name] is tuple and value else value for name, value in values.items()})


def flags_in(kind: type, argv: Sequence[str]) -> set[str]:
    """Returns the names of the flags of `kind` that a command line gives, also by their beginnings; required or not."""
    parser = OneLineParser()
    for each in fields(kind):
        if not each.metadata["positional"]:
            _add_argument(parser, each, default=argparse.SUPPRESS, required=False)
    return set(vars(parser.parse_args(argv)))


def _add_argument(parser: argparse.ArgumentParser, each: Field, **other: Any) -> None:
    """Adds the argument that a field declares, with `other` options than those that follow from the field."""
    name = each.name if each.metadata["positional"] else f"--{each.name}"
    parser.add_argument(name, **_argument(each) | other)
    if each.type is bool:
        no = {"dest": each.name, "action": "store_false", "help": argparse.SUPPRESS}
        parser.add_argument(f"--no_{each.name}", **no | other)


def words_of(settings: Any) -> list[str]:
    """Returns the command line that `parse_settings` makes these settings from; positional ones are left out."""
    words = []
    for each in fields(settings):
        value = getattr(settings, each.name)
        if value == _default(each) or value is None or each.metadata["positional"]:
            continue
        if each.type is bool:
            words.append(f"--{each.name}" if value else f"--no_{each.name}")
        else:
            words += [f"--{each.name}", *map(str, value if isinstance(value, list | tuple) else [value])]
    return words


def _default(each: Field) -> Any:
    return each.default if each.default_factory is MISSING else each.default_factory()


def _argument(each: Field) -> dict[str, Any]:
    """Returns the keyword arguments of argparse's add_argument for a `setting` field."""
    text, plain = each.metadata["help"].replace("%", "%%"), without_none(each.type)
    default = _default(each)
    if plain is bool:
        text += f" (default; --no_{each.name} turns it off)" if default else ""
        return {"action": "store_true", "default": default, "help": text}
    more = {name: value for name, value in each.metadata["argument"].items() if value is not None}
    if "const" in more:
        more["nargs"] = "?"
    if typing.get_origin(plain) in (list, tuple):
        more["nargs"] = "+"
    if default is not MISSING:
        more["default"] = default
        text += f" (default: {default})" if default not in (None, "", ()) else ""
    elif not each.metadata["positional"]:
        more["required"] = True
    return {"type": type_of_one(each), "help": text, **more}


def type_of_one(each: Field) -> Any:
    """Returns the type of a field's value or, for a list or tuple, of its elements."""
    plain = without_none(each.type)
    return typing.get_args(plain)[0] if typing.get_origin(plain) in (list, tuple) else plain


def without_none(plain: Any) -> Any:
    """Returns T of a field's type T | None."""
    return typing.get_args(plain)[0] if isinstance(plain, types.UnionType) else plain
