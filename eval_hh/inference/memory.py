"""How much memory a process may take: a GPU's, or its part of the machine's and of its control groups' (Slurm, docker).

Processes on the CPU share the machine equally. Groups of version 1 are not read.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

CPU = torch.device("cpu")
CGROUPS, OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def free_memory(where: torch.device = CPU, alone: bool = False) -> float:
    """Returns the bytes of a device's memory that this process may still take.

    `alone`: on the CPU, all that is free, since no other process takes any at this moment.
    """
    if where.type == "cuda":
        return torch.cuda.mem_get_info(where)[0]
    free = min([psutil.virtual_memory().available, *(most - used for most, used in _groups())])
    return free if alone else free / _sharers()


def whole_memory(where: torch.device = CPU) -> float:
    """Returns the bytes of a device's memory that this process may take, those included that are in use.

    So a run that goes on decides by it as it did when it began.
    """
    if where.type == "cuda":
        return torch.cuda.mem_get_info(where)[1]
    return min([psutil.virtual_memory().total, *(most for most, _ in _groups())]) / _sharers()


def _sharers() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _groups() -> Iterator[tuple[int, int]]:
    """Yields (limit, bytes in use) of this process's control groups that have a limit.

    What a group holds only as a cache of files counts as free.
    """
    with contextlib.suppress(OSError, ValueError, StopIteration):
        own = next(line[3:] for line in OWN_GROUP.read_text().splitlines() if line.startswith("0::"))
        group = CGROUPS / own.strip("/")
        for folder in (group, *group.parents):
            limit = folder / "memory.max"
            if not limit.exists() or (most := limit.read_text().strip()) == "max":
                continue
            cache = re.search(r"^inactive_file (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
            yield int(most), int((folder / "memory.current").read_text()) - int(cache[1] if cache else 0)
