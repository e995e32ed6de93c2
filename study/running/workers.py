"""Worker processes that run named tasks for reproduce.py, with their logs, times and machine.

Nothing here depends on the study.
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
from study.running.run_bar import RunBar

POLL = 0.2  # seconds between checks for a stop request


class AskedWorker:
    """A worker's stop request: it ends the running task, and no further task starts."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.at_work = False

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Signal handler for tasks without their own; tasks write whole files, so they may end anywhere."""
        self.number = self.number or number
        if self.at_work:
            self.at_work = False
            raise KeyboardInterrupt

    def run(self, task: Callable, arguments: tuple) -> None:
        """Runs a task. Raises Stopped if a stop was requested before or during it."""
        try:
            self.at_work = True
            if self.number is None:
                task(*arguments)
            self.at_work = False
        except KeyboardInterrupt:
            pass
        except BaseException as error:
            self.at_work = False
            if isinstance(error, Stopped):  # the task handled the signal itself
                self.number = error.signal_number
            raise
        if self.number is not None:
            raise Stopped(self.number, "before it was done")


asked = AskedWorker()


def start_worker(root: Path) -> None:
    """Initialises a worker: its study root, one torch thread, signal handlers, and an end when the parent ends."""
    os.environ["STUDY_ROOT"] = str(root)
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    end_with_parent()
    for number in STOP_SIGNALS:
        signal.signal(number, asked.receive)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """Blocks stop signals inside, also for processes started there until they are ready for them."""
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
    """Processes that run named tasks, shown as one progress bar, and a record of how long each task took.

    They end when the context ends.

    Args:
        root: the study's folder, with logs and times.
        number: how many tasks run at a time.
        request: polled; on a stop request the running tasks are asked to stop, and no further one starts.
        expected: {task: its share of the work of the whole run}, from which the time left is estimated.
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
        """Waits until every worker has ended."""
        self.bar.close()
        self.pool.shutdown(wait=False)
        for worker in multiprocessing.active_children():
            worker.join()

    def run(self, title: str, tasks: dict[str, tuple], by_steps: bool = False) -> None:
        """Runs {name: (function, *arguments)}; the first failure ends the run and names the task and its log.

        `by_steps`: each task shows one bar in its log, whose steps are the task's progress.

        Raises Stopped after a stop request, once every running task has ended.
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
            raise Stopped(self.request.number, f"at {title} (finished work is kept; run the same command to resume)")

    def _ended(self, waiting: set[Future]) -> Iterator[Future]:
        """Yields each task as it ends; asks the running ones to stop as soon as that is requested."""
        asked_to_stop = False
        while waiting:
            ended, waiting = wait(waiting, POLL, FIRST_COMPLETED)
            self.bar.show()
            yield from ended
            waiting = {future for future in waiting if not future.cancelled()}
            if self.request.number is not None and not asked_to_stop:
                asked_to_stop = True
                self._ask(self.request.number)

    def _seconds(self, future: Future, name: str, log: Path) -> float | None:
        """Returns how long a task took, or None if it was stopped. Raises its failure."""
        try:
            return future.result()
        except Stopped as error:
            self.request.number = self.request.number or error.signal_number  # only a worker got the signal
            return None
        except (Exception, SystemExit) as error:
            message = f"{name}: {error} (output in {log})"
            kind = InputError if isinstance(error, InputError) else OSError  # status 2, status 1
            raise kind(message) from error

    def _ask(self, number: int) -> None:
        """Asks the running tasks to stop at their next safe point and cancels the waiting ones."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, number)

    def _count(self, name: str, seconds: float, wall: float) -> None:
        """Adds the time of a task and of the run to the record, which covers every start of the run."""
        clock = self.seconds()
        clock["tasks"][name] = round(clock["tasks"].get(name, 0.0) + seconds, 1)
        clock["wall"] = round(clock["wall"] + wall, 1)
        write_json(self.clock, clock | {"workers": self.number}, indent=1)

    def seconds(self) -> dict:
        return read_json(self.clock) if self.clock.exists() else {"tasks": {}, "wall": 0.0}

    def took(self) -> str:
        """Returns how long the run took, over all its starts, and on which machine."""
        clock = self.seconds()
        number = clock.get("workers", self.number)
        return f"{duration(clock['wall'])} with {number} worker{'s' * (number > 1)} on {machine()}"


def duration(seconds: float) -> str:
    """Returns a duration in words: seconds, from two minutes on minutes, from two hours on hours."""
    for size, name in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"
