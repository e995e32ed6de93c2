"""How much memory a process may still take."""

import contextlib
import re
from pathlib import Path

import psutil

CGROUPS, OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def free_memory() -> float:
    """Returns the bytes that this process may still take: of the machine's and of its control groups' (Slurm, docker).

    What a group holds only as a cache of files is free. Groups of version 1 are not read.
    """
    free = float(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):
        own = next(line[3:] for line in OWN_GROUP.read_text().splitlines() if line.startswith("0::"))
        group = CGROUPS / own.strip("/")
        for folder in (group, *group.parents):
            limit = folder / "memory.max"
            if not limit.exists() or (most := limit.read_text().strip()) == "max":
                continue
            cache = re.search(r"^inactive_file (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
            used = int((folder / "memory.current").read_text()) - int(cache[1] if cache else 0)
            free = min(free, int(most) - used)
    return free
