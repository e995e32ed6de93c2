"""One progress bar for a whole run: the share done, the estimated time left, and the steps of the running tasks.

Progress within a task is read from the bars in its log; a task without one counts when it ends.
"""

import re
import sys
import time
from pathlib import Path

from tqdm import tqdm

STEPS = re.compile(rb"(\d+)/(\d+) \[")  # tqdm's output: steps done, total steps, then the times
TAIL = 2000  # bytes read from the end of a log
FORMAT = "{desc} {percentage:3.0f}%|{bar}| {elapsed} passed, about {remaining} left{postfix}"


class RunBar:
    """The bar of a run with several stages, each of several tasks.

    Args:
        expected: {task: its share of the run's work} in any unit; a task that is not listed counts 1.
    """

    def __init__(self, expected: dict[str, float]):
        self.expected = dict(expected)
        self.title = ""
        self.at_work: dict[str, tuple[Path, int]] = {}  # running task -> (its log, offset at which this run starts)
        self.n_tasks = 0
        self.by_steps = False
        self.done = 0.0
        self.shown = 0.0
        self.bar: tqdm | None = None  # until the first stage begins

    def begin(self, title: str, logs: dict[str, Path], by_steps: bool) -> None:
        """Starts a stage of {task: its log}. `by_steps`: each task shows one bar; its steps are the task's progress."""
        self.expected = dict.fromkeys(logs, 1.0) | self.expected
        if self.bar is None:
            # With smoothing 0 the time left is estimated from the speed of the whole run.
            total = sum(self.expected.values())
            self.bar = tqdm(total=total, smoothing=0, bar_format=FORMAT, dynamic_ncols=True)
        self.title, self.n_tasks, self.by_steps = title, len(logs), by_steps
        self.at_work = {name: (log, log.stat().st_size if log.exists() else 0) for name, log in logs.items()}
        self.show(now=True)

    def end(self, name: str) -> None:
        """Marks a task of the stage as finished."""
        del self.at_work[name]
        self.done += self.expected[name]
        self.show(now=True)

    def show(self, now: bool = False) -> None:
        """Redraws the bar: once per second (every ten seconds in a log file), or immediately if `now`."""
        if not now and time.monotonic() < self.shown + (1 if sys.stderr.isatty() else 10):
            return
        self.shown = time.monotonic()
        steps = {name: found for name, place in self.at_work.items() if (found := last_steps(*place))}
        begun = sum(self.expected[name] * done / number for name, (done, number) in steps.items())
        self.bar.total = max(self.bar.total, self.done + sum(self.expected[name] for name in self.at_work))
        self.bar.n = self.done + begun * self.by_steps
        self.bar.set_description_str(f"{self.title}, {self.n_tasks - len(self.at_work)} of {self.n_tasks}:", False)
        self.bar.set_postfix_str("; ".join(f"{name} {done}/{number}" for name, (done, number) in steps.items()))

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def last_steps(log: Path, begin: int) -> tuple[int, int] | None:
    """Returns (steps done, total steps) of the last bar in a log after offset `begin`; None if there is none."""
    try:
        with open(log, "rb") as file:
            file.seek(max(begin, log.stat().st_size - TAIL))
            found = STEPS.findall(file.read())
    except OSError:
        return None
    done, number = map(int, found[-1]) if found else (0, 0)
    return (min(done, number), number) if number else None
