"""Work of 12 rows in batches of 2, as slow as told: what tests run in several processes, or two of at once.

    python sharded_job.py OUTPUT SECONDS_PER_BATCH [FAILING_ROW]

Prints `batch` once it has computed one.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import RunError, run
from eval_hh.inference.resumable_jobs import Job, processes, run_job, waiting_jobs

N_ROWS = 12


def main() -> None:
    output, seconds = Path(sys.argv[1]), float(sys.argv[2])
    failing = int(sys.argv[3]) if len(sys.argv) > 3 else None
    job, state = Job("working", output, None, {"step": "test"}), processes()

    def compute(batch: list[int]) -> list[str]:
        time.sleep(seconds)
        if failing in batch:
            raise RunError(f"row {failing} cannot be computed")
        print("batch", flush=True)
        return [f"text {row}" for row in batch]

    made = 0
    for one in waiting_jobs([job], state):
        batches = [[row, row + 1] for row in range(0, N_ROWS, 2)]
        made = run_job(one, [{"row": row} for row in range(N_ROWS)], batches, compute, "t", state)
    if state.is_main_process:
        print(f"made {int(made)}")


if __name__ == "__main__":
    run(main)
