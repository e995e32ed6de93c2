"""Processes that run named tasks for reproduce.py: their logs, what they took, on which machine.

Library, without a word about the study in it.
"""

import contextlib
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

from data_preprocess.command import InputError
from data_preprocess.files import read_json, write_json


def start_worker(root: Path) -> None:
    """What each worker does first: its study root, one torch thread, and an end when the parent ends."""
    os.environ["STUDY_ROOT"] = str(root)
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    parent = os.getppid()

    def watch() -> None:
        # A worker that outlived a killed parent would write into the folders that the next run resumes.
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def work(task: Callable, arguments: tuple, log: Path) -> float:
    """Runs one task with its output, and the traceback if it fails, in `log`; returns its seconds."""
    began = time.perf_counter()
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8", buffering=1) as file:
        with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            try:
                task(*arguments)
            except BaseException:
                traceback.print_exc()
                raise
    return time.perf_counter() - began


class Workers:
    """Processes that run named tasks, shown as one progress bar a stage; with them it is known what a task took."""

    def __init__(self, root: Path, number: int):
        self.root = root
        self.number = number
        self.clock = root / "seconds.json"
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(number, context, start_worker, (root,))

    def run(self, title: str, tasks: dict[str, tuple]) -> None:
        """Runs {name: (function, *arguments)}; the first failure ends the run and names the task and its log."""
        began = time.perf_counter()
        logs = {name: self.root / "logs" / "tasks" / f"{name}.log" for name in tasks}
        futures = {
            self.pool.submit(work, task, arguments, logs[name]): name
            for name, (task, *arguments) in tasks.items()
        }
        try:
            for future in tqdm(as_completed(futures), title, total=len(futures), unit="task"):
                name = futures[future]
                try:
                    seconds = future.result()
                except (Exception, SystemExit) as error:
                    message = f"{name}: {error} (its output is in {logs[name]})"
                    kind = InputError if isinstance(error, InputError) else OSError  # status 2, status 1
                    raise kind(message) from error
                now = time.perf_counter()
                self._count(name, seconds, now - began)
                began = now
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        """Ends all workers, tasks at work and tasks waiting, before the folder's lock goes (a failure, Ctrl-C)."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        workers = multiprocessing.active_children()
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()

    def _count(self, name: str, seconds: float, wall: float) -> None:
        """Keeps what each task and the whole run took, over all the times that the run was started."""
        clock = self.seconds()
        clock["tasks"][name] = round(clock["tasks"].get(name, 0.0) + seconds, 1)
        clock["wall"] = round(clock["wall"] + wall, 1)
        write_json(self.clock, clock | {"workers": self.number}, indent=1)

    def seconds(self) -> dict:
        return read_json(self.clock) if self.clock.exists() else {"tasks": {}, "wall": 0.0}
