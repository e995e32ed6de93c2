"""Two ways of doing one thing, side by side: timed in turns in one process, their memory taken in a fresh one each.

Library of the benchmarks. A ratio is naive / ours, so more is better; seconds and bytes are this machine's alone.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_preprocess.command import MAX_COUNT, check_flags, within
from data_preprocess.files import write_json


@dataclass(frozen=True)
class Comparison:
    """One row of the results: what was measured both ways."""

    what: str  # in a few words, sizes named
    naive: float
    ours: float
    unit: str  # of both: "s" or "MiB"
    target: float | None = None  # the least ratio to reach; None where none was set
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.naive / self.ours


@dataclass(frozen=True)
class Measure:
    """One row of the results that has no naive side: a share, a curve's point, an efficiency."""

    what: str
    value: float
    unit: str
    target: str = ""  # in words: "at least 0.7"
    note: str = ""


Row = Comparison | Measure


def in_turns(
    naive: Callable[[], Any],
    ours: Callable[[], Any],
    rounds: int,
    warm_up: bool = True,
    before: Callable[[Callable[[], Any]], Any] = lambda way: None,
) -> tuple[float, float]:
    """Median seconds of each way over `rounds` rounds.

    Who goes first changes from round to round, so that neither is always the one with the warmer caches.

    Args:
        naive, ours: called without arguments; what they return is dropped.
        rounds: at least 1.
        warm_up: call each once beforehand, untimed.
        before: called with a way, untimed, before that way is timed.
    """
    if warm_up:
        naive()
        ours()
    seconds: dict[Callable, list[float]] = {naive: [], ours: []}
    for number in tqdm(range(rounds), desc="rounds", leave=False):
        for way in (naive, ours) if number % 2 == 0 else (ours, naive):
            before(way)
            seconds[way].append(timed(way))
    return statistics.median(seconds[naive]), statistics.median(seconds[ours])


def timed(way: Callable[[], Any]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    way()
    return time.perf_counter() - began


def peak_memory(way: Callable[..., Any], *arguments: Any) -> float:
    """MiB that a fresh process holds at most while it runs `way`, a function of a module's top level."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak_of, (way, arguments))


def _peak_of(way: Callable[..., Any], arguments: tuple) -> float:
    way(*arguments)
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent's memory too, which a process holds before it is itself
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


def same(what: str, naive: Sequence[float], ours: Sequence[float], tolerance: float) -> float:
    """The largest difference of two results, relative to the larger; ends the benchmark where it is too large."""
    differences = [abs(a - b) / max(abs(a), abs(b), 1e-30) for a, b in zip(naive, ours, strict=True)]
    worst = max(differences)
    if not all(difference <= tolerance for difference in differences):  # false for NaN, which max passes over
        sys.exit(f"error: {what}: the two ways differ by {worst:.2g} relative (expected at most {tolerance:.0e})")
    return worst


class Parser(argparse.ArgumentParser):
    """A parser that refuses numbers which are not above 0: every number of a benchmark is one of things or a speed."""

    def parse_args(self, *args: Any, **more: Any) -> argparse.Namespace:
        found = super().parse_args(*args, **more)
        numbers = {flag: value for flag, value in vars(found).items() if _is_number(value)}
        check_flags(numbers, dict.fromkeys(numbers, within(above=0, at_most=MAX_COUNT)))
        return found


def _is_number(value: Any) -> bool:
    one = value[0] if isinstance(value, list) and value else value
    return isinstance(one, int | float) and not isinstance(one, bool)


def parser(description: str) -> Parser:
    """A parser with the flags that every benchmark has."""
    made = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="reduced sizes, a minute or so")
    made.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each way (default: one a core)")
    made.add_argument("--json", metavar="FILE", help="also write the rows to FILE")
    return made


def add_sizes(flags: argparse.ArgumentParser, full: Any, quick: Any) -> None:
    """A flag for every field of two sets of sizes, instances of one dataclass of whole numbers."""
    for name, value in asdict(full).items():
        flags.add_argument(f"--{name}", type=int, help=f"{value}, with --quick {getattr(quick, name)}")


def chosen_sizes(args: argparse.Namespace, full: Any, quick: Any) -> Any:
    """The sizes of `add_sizes` that the flags ask for."""
    default = quick if args.quick else full
    return replace(default, **{name: getattr(args, name) or value for name, value in asdict(default).items()})


def report(rows: Sequence[Row], json_file: str | None) -> None:
    """Prints the rows and, where it is asked for, writes them for run.py."""
    print("\n".join(line(row) for row in rows))
    if json_file:
        write_json(json_file, [{"kind": type(row).__name__, **asdict(row)} for row in rows], indent=1)


def line(row: Row) -> str:
    """One row in words."""
    note = f"  ({row.note})" if row.note else ""
    if isinstance(row, Measure):
        target = f", target {row.target}" if row.target else ""
        return f"{row.what}: {row.value:.4g} {row.unit}{target}{note}"
    target = f", target {row.target:g}x" if row.target else ""
    return f"{row.what}: naive {row.naive:.4g} {row.unit}, ours {row.ours:.4g}, {row.ratio:.2f}x{target}{note}"
