"""Runs training/main.py in two processes, each of which can be told apart from the other."""

import os
from pathlib import Path

from warm_python import Warm, free_port

MAIN = Path(__file__).resolve().parents[1] / "training" / "main.py"


def environment(root, zero_stage, rank, processes, port):
    """What accelerate's launcher gives a process; without it, each process's own exit status can be seen."""
    made = {
        **os.environ, "STUDY_ROOT": str(root), "OMP_NUM_THREADS": "1", "RANK": str(rank), "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "ACCELERATE_MIXED_PRECISION": "no", "DS_ACCELERATOR": "cpu",
    }  # fmt: skip
    if zero_stage:
        made |= {
            "ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(zero_stage),
            "ACCELERATE_DEEPSPEED_ZERO3_INIT": "false", "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "true",
            "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "none",
            "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "none",
        }  # fmt: skip
    return made


def together(root, zero_stage, flags, *starts, limits=(None, None), **more):
    """Runs main.py in two processes; returns each one's exit status and the lines of its stderr that are messages.

    Args:
        starts: of each process, what comes before the flags instead of main.py.
        limits: of each process, the most bytes of a file that it writes.
    """
    running, port = [], free_port()
    for rank, limit in enumerate(limits):
        words = [*(starts[rank] if starts else [MAIN]), *flags]
        running.append(Warm(words, {**environment(root, zero_stage, rank, 2, port), **more}, limit))
    found = []
    for process in running:
        ended = process.finish()
        error = ended.stderr
        print(error)  # which pytest shows where the test fails
        assert "Traceback" not in error, error
        said = [line for line in error.replace("\r", "\n").splitlines() if line.startswith(("error: ", "stopped: "))]
        found.append((ended.returncode, said))
    return found
