"""What tests/test_launched.py launches: a worker that works until it is asked to stop, or fails in some way.

python launched_worker.py WAY FOLDER [SECONDS_OF_SAVING]
"""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import InputError, Stopped, run, stop_requests
from eval_hh.inference.resumable_jobs import processes


def work(way: str, folder: Path, seconds: float) -> None:
    state = processes()
    rank = state.process_index
    if way == "all":
        raise InputError("train.json:2: reward is 'x' (expected a number)")
    if way == "last" and rank == state.num_processes - 1:
        time.sleep(0.2)
        raise OSError(28, "No space left on device", "state_2")
    if way == "bug" and rank == 0:
        raise KeyError("a bug of ours")
    with stop_requests() as request:
        (folder / f"started-{rank}").write_text(str(os.getpid()))
        while request.number is None or way == "deaf":
            time.sleep(0.05)
            if way in ("last", "bug", "killed"):
                state.wait_for_everyone()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.05)
        (folder / f"saved-{rank}").touch()
        raise Stopped(request.number, "state of step 2 is saved (run the same command to resume)")


if __name__ == "__main__":
    run(lambda: work(sys.argv[1], Path(sys.argv[2]), float((sys.argv[3:] or [0])[0])))
