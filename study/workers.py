"""Processes that run named tasks for reproduce.py: their logs, what they took, on which machine.

Nothing here knows of the study.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from types import FrameType

from data_preprocess.command import STOP_SIGNALS, InputError, Stopped, StopRequest, end_with_parent
from data_preprocess.files import read_json, write_json
from data_preprocess.provenance import machine
from study.run_bar import RunBar

POLL = 0.2  # seconds between two looks at whether there is a request


class AskedWorker:
    """What a worker knows of the request to stop: it ends the task at work, and none is begun after it."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.at_work = False

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Signal handler, where the task has none of its own: tasks write whole files, so they may end anywhere."""
        self.number = self.number or number
        if self.at_work:
            self.at_work = False
            raise KeyboardInterrupt

    def run(self, task: Callable, arguments: tuple) -> None:
        """Runs a task; Stopped where it was asked to stop, before or meanwhile."""
        try:
            self.at_work = True
            if self.number is None:
                task(*arguments)
            self.at_work = False
        except KeyboardInterrupt:
            pass
        except BaseException as error:
            self.at_work = False
            if isinstance(error, Stopped):  # the task has listened itself
                self.number = error.signal_number
            raise
        if self.number is not None:
            raise Stopped(self.number, "before it was done")


asked = AskedWorker()


def start_worker(root: Path) -> None:
    """What each worker does first: its study root, one torch thread, and an end when the parent ends."""
    os.environ["STUDY_ROOT"] = str(root)
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    end_with_parent()
    for number in STOP_SIGNALS:
        signal.signal(number, asked.receive)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """Inside, signals wait, also for processes that are started there: until they are ready for them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def work(task: Callable, arguments: tuple, log: Path) -> float:
    """Runs one task with its output, and the traceback if it fails, in `log`; returns its seconds."""
    began = time.perf_counter()
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8", buffering=1) as file:
        with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            try:
                asked.run(task, arguments)
            except Stopped as error:
                print(f"stopped: {error}", file=sys.stderr)
                raise
            except BaseException:
                traceback.print_exc()
                raise
    return time.perf_counter() - began


class Workers:
    """Processes that run named tasks, shown as one progress bar; with them it is known what a task took.

    They end with the block that it opens.

    Args:
        root: the study's folder, where logs and clock lie.
        number: how many tasks run at a time.
        request: is looked at all the time; then the tasks at work are asked to stop, and none is begun.
        expected: {task: its share of the work of the whole run}, by which the time left is estimated.
    """

    def __init__(self, root: Path, number: int, request: StopRequest, expected: dict[str, float] | None = None):
        self.root = root
        self.number = number
        self.request = request
        self.clock = root / "seconds.json"
        self.bar = RunBar(expected or {})
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(number, context, start_worker, (root,))

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        """Returns when every worker has ended."""
        self.bar.close()
        self.pool.shutdown(wait=False)
        for worker in multiprocessing.active_children():
            worker.join()

    def run(self, title: str, tasks: dict[str, tuple], by_steps: bool = False) -> None:
        """Runs {name: (function, *arguments)}; the first failure ends the run and names the task and its log.

        `by_steps`: each task shows one bar in its log, whose steps are the task's progress.

        Raises Stopped, once every task at work has ended, where it was requested.
        """
        began = time.perf_counter()
        logs = {name: self.root / "logs" / "tasks" / f"{name}.log" for name in tasks}
        self.bar.begin(title, logs, by_steps)
        with signals_held_back():
            waiting = {
                self.pool.submit(work, task, arguments, logs[name]): name for name, (task, *arguments) in tasks.items()
            }
        try:
            for future in self._ended(set(waiting)):
                name = waiting[future]
                seconds = self._seconds(future, name, logs[name])
                if seconds is not None:
                    now = time.perf_counter()
                    self._count(name, seconds, now - began)
                    began = now
                    self.bar.end(name)
        except BaseException:
            self._ask(signal.SIGTERM)
            raise
        if self.request.number is not None:
            raise Stopped(self.request.number, f"at {title} (what is done is kept; the same command goes on)")

    def _ended(self, waiting: set[Future]) -> Iterator[Future]:
        """Each task that ends, until all have; asks those at work to stop as soon as that is requested."""
        told = False
        while waiting:
            ended, waiting = wait(waiting, POLL, FIRST_COMPLETED)
            self.bar.show()
            yield from ended
            waiting = {future for future in waiting if not future.cancelled()}
            if self.request.number is not None and not told:
                told = True
                self._ask(self.request.number)

    def _seconds(self, future: Future, name: str, log: Path) -> float | None:
        """How long a task took; None for one that was stopped. Its failure ends the run."""
        try:
            return future.result()
        except Stopped as error:
            self.request.number = self.request.number or error.signal_number  # a worker alone was signalled
            return None
        except (Exception, SystemExit) as error:
            message = f"{name}: {error} (its output is in {log})"
            kind = InputError if isinstance(error, InputError) else OSError  # status 2, status 1
            raise kind(message) from error

    def _ask(self, number: int) -> None:
        """Asks the tasks at work to stop at their next safe point; what waits is not begun."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, number)

    def _count(self, name: str, seconds: float, wall: float) -> None:
        """Keeps what each task and the whole run took, over all the times that the run was started."""
        clock = self.seconds()
        clock["tasks"][name] = round(clock["tasks"].get(name, 0.0) + seconds, 1)
        clock["wall"] = round(clock["wall"] + wall, 1)
        write_json(self.clock, clock | {"workers": self.number}, indent=1)

    def seconds(self) -> dict:
        return read_json(self.clock) if self.clock.exists() else {"tasks": {}, "wall": 0.0}

    def took(self) -> str:
        """How long the tasks took, over all times that the run was started, on what."""
        clock = self.seconds()
        number = clock.get("workers", self.number)
        return f"{duration(clock['wall'])} with {number} worker{'s' * (number > 1)} on {machine()}"


def duration(seconds: float) -> str:
    """In words: seconds, from two minutes on minutes, from two hours on hours."""
    for size, name in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"
