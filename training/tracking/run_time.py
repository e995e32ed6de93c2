"""Where the time of a run goes: into its steps, and into what stands beside them."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

STEPS, START, CHECKPOINTS, VALIDATION = "steps", "start", "checkpoints", "validation"


class RunTime:
    """Seconds since a moment, by part. What no part claims is "other": logging, progress, waiting."""

    def __init__(self, began: float):
        """began: a reading of time.perf_counter."""
        self.began = began
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the time of the block to a part."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - began

    def started(self) -> None:
        """Ends the part of the start, which began at `began`."""
        self.seconds[START] = time.perf_counter() - self.began

    def line(self) -> str:
        """Returns the time so far in words: its sum, and the share outside of steps, by part."""
        total = time.perf_counter() - self.began
        outside = {name: self.seconds[name] for name in (START, CHECKPOINTS, VALIDATION)}
        outside["other"] = total - sum(self.seconds.values())
        parts = ", ".join(f"{name} {seconds / total:.1%}" for name, seconds in outside.items())
        return f"time: {total:,.1f} s, {sum(outside.values()) / total:.1%} of it outside of steps ({parts})"
