"""Compares two ways of doing the same: timed in turns in one process, with memory measured in a fresh process each.

A ratio is naive / ours, so higher is better; seconds and bytes hold for this machine only.
"""

import importlib
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from data_preprocess.command import MAX_COUNT, check_settings, parse_settings, setting, within
from data_preprocess.files import write_json
from data_preprocess.ngrams import new_ngrams, sparse_rows

CORES = os.cpu_count() or 1
ABOVE_ZERO = within(above=0, at_most=MAX_COUNT)


@dataclass(frozen=True)
class Row:
    """One row of the results; without a naive side, a share, a point of a curve, an efficiency."""

    what: str  # a short description with sizes
    naive: float | None
    ours: float
    unit: str = ""  # of both
    target: str = ""  # the smallest ratio, "3x", or in words: "at least 0.7"
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.naive / self.ours


def sized(help: str, full: Any, quick: Any = None, **more: Any) -> Any:
    """A field of `Settings` with numbers above 0: default `full`, with --quick `quick`; `more` goes to `setting`."""
    if quick is None:
        return setting(help, ABOVE_ZERO, default=full, **more)
    made = setting(f"{help} (default: {full}, with --quick {quick})", ABOVE_ZERO, **more)
    return field(default=None, metadata=made.metadata | {"sizes": (full, quick)})


@dataclass(frozen=True)
class Settings:
    """The flags of every benchmark; subclasses add their sizes with `sized`."""

    quick: bool = setting("reduced sizes, about a minute", default=False)
    threads: int = setting("threads of each way", ABOVE_ZERO, default=CORES)
    json: str | None = setting("also write the rows to this file", metavar="FILE", default=None)

    def __post_init__(self) -> None:
        for each in fields(self):
            if "sizes" in each.metadata and getattr(self, each.name) is None:
                object.__setattr__(self, each.name, each.metadata["sizes"][self.quick])
        check_settings(self)


def benchmark(name: str, argv: list[str]) -> None:
    """Runs one benchmark: parses its flags, measures, prints each row and adds it to the file of --json.

    Its module benchmarks/NAME.py has `Sizes`, the dataclass of its flags, and `measure`, which returns or yields rows.
    """
    module = importlib.import_module(f"benchmarks.{name}")
    sizes = parse_settings(module.Sizes, argv, module.__doc__)
    use_threads(sizes.threads)
    rows = []
    for row in module.measure(sizes):
        print(line(row), flush=True)
        rows.append(asdict(row))
        if sizes.json:
            write_json(sizes.json, rows, indent=1)


def use_threads(number: int) -> None:
    """Sets the threads of torch and the tokenizers, which read this once at their start, and of n-gram counting."""
    os.environ["OMP_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = str(number)
    new_ngrams.THREADS = sparse_rows.THREADS = number


class Turns(NamedTuple):
    """Result of `in_turns`, for the naive way and ours."""

    seconds: tuple[float, float]  # medians
    results: tuple[Any, Any]  # of the last round


def in_turns(
    naive: Callable[[], Any],
    ours: Callable[[], Any],
    rounds: int = 1,
    before: Callable[[Callable[[], Any]], Any] = lambda way: None,
) -> Turns:
    """Times both ways `rounds` times; `before` is called with each way before it runs, untimed.

    The order alternates between rounds, so that neither way always has the warmer caches.
    """
    seconds: dict[Callable, list[float]] = {naive: [], ours: []}
    results: dict[Callable, Any] = {}
    for number in tqdm(range(rounds), desc="rounds", leave=False):
        for way in (naive, ours) if number % 2 == 0 else (ours, naive):
            before(way)
            began = time.perf_counter()
            results[way] = way()
            seconds[way].append(time.perf_counter() - began)
    medians = statistics.median(seconds[naive]), statistics.median(seconds[ours])
    return Turns(medians, (results[naive], results[ours]))


def timed(way: Callable[[], Any]) -> float:
    """Returns the seconds of one call."""
    began = time.perf_counter()
    way()
    return time.perf_counter() - began


def in_fresh_process(threads: int, way: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Returns (result of `way`, peak MiB of its process); `way` must be a top-level function of a module."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, use_threads, (threads,)) as pool:
        return pool.apply(_with_peak, (way, arguments))


def _with_peak(way: Callable[..., Any], arguments: tuple) -> tuple[Any, float]:
    result = way(*arguments)
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would include the parent's memory, held before exec
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return result, int(peak.split()[1]) / 1024
    import resource

    return result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


def same(what: str, naive: Sequence[float], ours: Sequence[float], tolerance: float) -> float:
    """Returns the largest relative difference of two results; exits if it is too large."""
    differences = [abs(a - b) / max(abs(a), abs(b), 1e-30) for a, b in zip(naive, ours, strict=True)]
    worst = max(differences)
    if not all(difference <= tolerance for difference in differences):  # false for NaN, which max may miss
        sys.exit(f"error: {what}: the two ways differ by {worst:.2g} relative (expected at most {tolerance:.0e})")
    return worst


def line(row: Row) -> str:
    """Returns one row as text."""
    target, note = f", target {row.target}" if row.target else "", f"  ({row.note})" if row.note else ""
    if row.naive is None:
        return f"{row.what}: {row.ours:.4g} {row.unit}{target}{note}"
    return f"{row.what}: naive {row.naive:.4g} {row.unit}, ours {row.ours:.4g}, {row.ratio:.2f}x{target}{note}"
