"""Two ways of doing one thing, side by side: timed in turns in one process, their memory taken in a fresh one each.

A ratio is naive / ours, so more is better; seconds and bytes are this machine's alone.
"""

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


def sized(help: str, full: Any, quick: Any = None, **more: Any) -> Any:
    """A field of `Settings`, each number of it above 0: by default `full`, and with --quick another, where it has one.

    `more` goes to `setting`.
    """
    if quick is None:
        return setting(help, ABOVE_ZERO, default=full, **more)
    made = setting(f"{help} (default: {full}, with --quick {quick})", ABOVE_ZERO, **more)
    return field(default=None, metadata=made.metadata | {"sizes": (full, quick)})


@dataclass(frozen=True)
class Settings:
    """The flags of every benchmark; one with sizes of its own adds them by `sized`."""

    quick: bool = setting("reduced sizes, a minute or so", default=False)
    threads: int = setting("threads of each way", ABOVE_ZERO, default=CORES)
    json: str | None = setting("also write the rows to FILE", metavar="FILE", default=None)

    def __post_init__(self) -> None:
        for each in fields(self):
            if "sizes" in each.metadata and getattr(self, each.name) is None:
                object.__setattr__(self, each.name, each.metadata["sizes"][self.quick])
        check_settings(self)


def benchmark(
    measure: Callable[[Any], Sequence[Row]], argv: list[str] | None, description: str, kind: type[Settings] = Settings
) -> None:
    """What a benchmark's main does: parses its flags, measures, prints the rows and writes them where --json says."""
    settings = parse_settings(kind, argv, description)
    use_threads(settings.threads)
    rows = measure(settings)
    print("\n".join(map(line, rows)))
    if settings.json:
        write_json(settings.json, [{"kind": type(row).__name__, **asdict(row)} for row in rows], indent=1)


def use_threads(number: int) -> None:
    """Threads of torch and of the tokenizers, which read this once, when they begin, and of counting n-grams."""
    os.environ["OMP_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = str(number)
    new_ngrams.THREADS = sparse_rows.THREADS = number


class Turns(NamedTuple):
    """What `in_turns` found, of the naive way and of ours."""

    seconds: tuple[float, float]  # medians
    results: tuple[Any, Any]  # what each returned in its last round


def in_turns(
    naive: Callable[[], Any],
    ours: Callable[[], Any],
    rounds: int = 1,
    before: Callable[[Callable[[], Any]], Any] = lambda way: None,
) -> Turns:
    """Times both ways `rounds` times, calling `before` with a way, untimed, before that way.

    Who goes first changes from round to round, so that neither is always the one with the warmer caches.
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
    """Seconds of one call."""
    began = time.perf_counter()
    way()
    return time.perf_counter() - began


def in_fresh_process(threads: int, way: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """(What `way` returns, the MiB that its process holds at most); `way` is a function of a module's top level."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, use_threads, (threads,)) as pool:
        return pool.apply(_with_peak, (way, arguments))


def _with_peak(way: Callable[..., Any], arguments: tuple) -> tuple[Any, float]:
    result = way(*arguments)
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent's memory too, which a process holds before it is itself
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return result, int(peak.split()[1]) / 1024
    import resource

    return result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


def same(what: str, naive: Sequence[float], ours: Sequence[float], tolerance: float) -> float:
    """The largest difference of two results, relative to the larger; ends the benchmark where it is too large."""
    differences = [abs(a - b) / max(abs(a), abs(b), 1e-30) for a, b in zip(naive, ours, strict=True)]
    worst = max(differences)
    if not all(difference <= tolerance for difference in differences):  # false for NaN, which max passes over
        sys.exit(f"error: {what}: the two ways differ by {worst:.2g} relative (expected at most {tolerance:.0e})")
    return worst


def line(row: Row) -> str:
    """One row in words."""
    note = f"  ({row.note})" if row.note else ""
    if isinstance(row, Measure):
        target = f", target {row.target}" if row.target else ""
        return f"{row.what}: {row.value:.4g} {row.unit}{target}{note}"
    target = f", target {row.target:g}x" if row.target else ""
    return f"{row.what}: naive {row.naive:.4g} {row.unit}, ours {row.ours:.4g}, {row.ratio:.2f}x{target}{note}"
