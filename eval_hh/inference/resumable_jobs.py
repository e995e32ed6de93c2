"""Work on numbered rows, divided over processes and resumable batch by batch.

Used by generation.py, rewarding.py and annotate.py. All batches are planned before any is run, so neither a kill nor
the number of processes changes which rows are computed together. Finished batches are kept in part files until every
process is done; then the main process writes the output and, beside it, OUTPUT.done.json, a note on what made it. An
output whose note matches is not made again. Of several commands that make the same output, one works and the others
wait. A signal stops all processes of a command after their current batch, with one line on how to resume.
"""

import glob
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from data_preprocess.command import (
    InputError,
    RunError,
    Stopped,
    StopRequest,
    stop_requests,
)
from data_preprocess.dialogue import HH
from data_preprocess.files import (
    disk_full_as_oserror,
    json_lines,
    read_json,
    remove_leftovers,
    try_lock,
    write_json,
    write_jsonl,
)
from data_preprocess.hub import ADAPTER_FILE, base_model, source_options
from data_preprocess.provenance import fingerprint
from eval_hh.run_paths import is_value

if TYPE_CHECKING:
    from accelerate import PartialState

Compute = Callable[[list[int]], list[Any]]
# fill(job, batches, compute, key, state) -> part files that then hold every row: `compute_parts`, or `ask_parts` of
# served_texts.py.
Fill = Callable[[Any, list[list[int]], Any, str, "PartialState"], Any]
# How long a process waits for the slowest one; the default of ten minutes is too short for many batches.
WAIT = timedelta(days=1)
LOOK_AGAIN = 0.2  # seconds between checks whether another command is done


def processes() -> "PartialState":
    """Returns this process's place among those that the launcher started (one without a launcher)."""
    import torch
    from accelerate import PartialState

    # Without `cpu`, accelerate treats each of several processes without a GPU as the only one.
    return PartialState(cpu=not torch.cuda.is_available(), timeout=WAIT)


def is_main_process() -> bool:
    """Returns whether this is the process that writes and prints (torch is loaded only under a launcher)."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or processes().is_main_process


def folder_identity(path: str | Path) -> dict[str, Any]:
    """Returns what identifies a model's folder: its resolved path, and its files' names, sizes and times.

    A hub name identifies itself; an adapter's folder has its base model's identity, too.
    """
    folder = Path(path)
    if not folder.is_dir():
        return {"name": str(path)}
    files = sorted(file for file in folder.iterdir() if file.is_file())
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    identity = {"name": str(folder.resolve()), "files": [list(stat) for stat in stats]}
    base = base_model(folder, source_options(folder)) if (folder / ADAPTER_FILE).is_file() else None
    return identity if base is None else {**identity, "base_model": folder_identity(base)}


def format_setting(format_name: str) -> dict[str, str]:
    """Returns the prompt format as a setting of a job; none for the published text, as when there was no other."""
    return {} if format_name == HH else {"prompt_format": format_name}


def done_note(output: Path) -> Path:
    """Returns the path of the note beside a finished output on what made it, {"fingerprint", "settings"}."""
    return output.with_name(output.name + ".done.json")


def read_note(output: Path) -> dict[str, Any]:
    """Reads the note beside an output. Raises InputError if it is invalid."""
    note = read_json(done_note(output))
    types = {"fingerprint": str, "settings": dict}
    if not isinstance(note, dict) or not all(isinstance(note.get(key), kind) for key, kind in types.items()):
        hint = f"delete it to regenerate {output.name}"
        raise InputError(f"{done_note(output)}: expected an object with fingerprint and settings ({hint})")
    return note


@dataclass(frozen=True)
class Job:
    """One output file, its input and its settings."""

    label: str  # of the progress bar
    output: Path
    source: Path | None  # the input, a JSONL file of rows; None if the settings describe it
    settings: dict[str, Any]  # everything else that the output depends on, as JSON values
    measured: dict[str, Any] = field(default_factory=dict)  # for the note; nothing depends on it

    def fingerprint(self) -> str:
        return fingerprint(self.settings, *([self.source] if self.source else []))

    def is_done(self) -> bool:
        """Returns whether the output exists and its note matches this job; with a damaged note it is made again."""
        if not self.output.is_file():
            return False
        try:
            return read_note(self.output)["fingerprint"] == self.fingerprint()
        except InputError:
            return False


def has_index(row: dict[str, Any]) -> bool:
    """Returns whether a row has its index."""
    return type(row.get("index")) is int


class Parts:
    """Append-only part files of a job on numbered rows: OUTPUT.part-<rank>.jsonl, one per process.

    A part starts with its job's fingerprint, so rows from other inputs or settings are never mixed in. Rows are
    {"index": i, ...}. An incomplete or invalid line is ignored with everything after it, and cut off before the next
    append.

    Args:
        output: the job's output.
        fingerprint: of the job.
        rank: of this process.
        is_row: whether a JSON object can be a row of this job.
    """

    def __init__(self, output: str | Path, fingerprint: str, rank: int = 0, is_row: Callable[[dict], bool] = has_index):
        self.output = Path(output)
        self.is_row = is_row
        self.fingerprint = fingerprint
        self.path = self.output.with_name(f"{self.output.name}.part-{rank}.jsonl")
        self._length: int | None = None  # bytes of complete lines in this rank's part, once known

    def done(self) -> dict[int, dict]:
        """Returns finished rows by index, from the parts of all ranks with this fingerprint."""
        return {row["index"]: row for path in self._all() for row in self._read(path)[0]}

    def append(self, rows: list[dict]) -> None:
        """Appends a finished batch to this rank's part; the operating system has it when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._length is None:
            self._length = self._read(self.path)[1] if self.path.exists() else 0
        header = [] if self._length else [{"fingerprint": self.fingerprint}]
        data = "".join(json_lines([*header, *rows])).encode()
        with disk_full_as_oserror(self.path), open(self.path, "r+b" if self.path.exists() else "wb") as file:
            file.truncate(self._length)
            file.seek(self._length)
            file.write(data)
        self._length += len(data)

    def merge(self, n_rows: int) -> list[dict]:
        """Returns rows 0 to n_rows-1 in order, once every rank has finished. Raises RunError if one is missing."""
        rows = self.done()
        missing = [index for index in range(n_rows) if index not in rows]
        if missing:
            found = f"{len(missing)} of {n_rows} rows are missing, the first is {missing[0]}"
            raise RunError(f"{self.output}: {found} (run the same command again)")
        return [rows[index] for index in range(n_rows)]

    def remove(self) -> None:
        """Deletes the parts of all ranks, including those of other settings."""
        self._length = None
        for path in self._all():
            path.unlink(missing_ok=True)

    def _all(self) -> list[Path]:
        return sorted(self.output.parent.glob(f"{glob.escape(self.output.name)}.part-*.jsonl"))

    def _read(self, path: Path) -> tuple[list[dict], int]:
        """Returns (rows, number of bytes up to the end of the last complete line); nothing if the header differs."""
        rows, length = [], 0
        with open(path, "rb") as file:
            for line in file:
                try:
                    row = json.loads(line) if line.endswith(b"\n") else None
                except (ValueError, RecursionError):
                    break
                if length and isinstance(row, dict) and self.is_row(row):
                    rows.append(row)
                elif length or row != {"fingerprint": self.fingerprint}:
                    break
                length += len(line)
        return rows, length


def waiting_jobs(jobs: Sequence[Job], state: "PartialState") -> list[Job]:
    """Returns the unfinished jobs, the same in every process; removes what a kill left beside the other outputs."""
    from accelerate.utils import broadcast_object_list

    waiting = broadcast_object_list([not job.is_done() for job in jobs])
    for job, is_waiting in zip(jobs, waiting, strict=True):
        if not is_waiting and state.is_main_process:
            with suppress(OSError), try_lock(job.output) as held:  # their folder may be read-only
                if held:
                    Parts(job.output, job.fingerprint()).remove()
                    for path in (job.output, done_note(job.output)):
                        remove_leftovers(path)
    return [job for job, is_waiting in zip(jobs, waiting, strict=True) if is_waiting]


def run_step(jobs: dict[str, Job], make: Callable[[dict[str, Job], "PartialState"], int], did: str) -> None:
    """Runs a step's unfinished jobs and prints how many outputs were made.

    Args:
        jobs: of all files, by test file.
        make: runs the given jobs, at least one, in this process; returns how many it made.
        did: what was done to the files, for the printed line.
    """
    with stop_requests():
        state = processes()
        waiting = waiting_jobs(list(jobs.values()), state)
        todo = {name: job for name, job in jobs.items() if job in waiting}
        made = make(todo, state) if todo else 0
    if state.is_main_process:
        print(f"{made} of {len(jobs)} test files {did}")


@contextmanager
def sole_maker(job: Job, state: "PartialState") -> Iterator[None]:
    """Waits until no other command works on the job's output and keeps others out. All processes enter together."""
    announced = False
    with stop_requests() as request:
        while True:
            with try_lock(job.output) if state.is_main_process else nullcontext(False) as held:
                if _most(int(held)):
                    yield
                    return
            if state.is_main_process and not announced:
                print(f"waiting: another command is making {job.output}", file=sys.stderr, flush=True)
                announced = True
            stop_if_asked(request, state, lambda: f"{job.label}: not started; run the same command again")
            time.sleep(LOOK_AGAIN)


def run_job(
    job: Job, rows: list[dict], batches: list[list[int]], compute: Any, key: str, state: "PartialState",
    fill: "Fill | None" = None,
) -> bool:  # fmt: skip
    """Like `make_rows`; writes the source's `rows`, each with its value as row["infer"][key]."""

    def with_values(values: list[Any]) -> list[dict]:
        pairs = zip(rows, values, strict=True)
        return [{**row, "infer": {**row.get("infer", {}), key: value}} for row, value in pairs]

    return make_rows(job, batches, compute, key, state, with_values, fill)


def make_rows(
    job: Job, batches: list[list[int]], compute: Any, key: str, state: "PartialState",
    as_rows: Callable[[list[Any]], list[dict]], fill: "Fill | None" = None,
) -> bool:  # fmt: skip
    """Computes one value per row and writes the job's output, which holds `as_rows` of all values, in order.

    Returns False if another command made the output while this one waited.

    Args:
        job: what is made; part files of an earlier, killed run are used.
        batches: row numbers from 0, each in one batch; the same in every process.
        compute: row numbers of a batch -> their values (JSON values).
        key: the name of the value, which says what it can be (`run_paths.is_value`).
        state: this process among all.
        as_rows: the values of all rows -> the rows of the output.
        fill: how the part files are filled, `compute_parts` unless given; it says what `compute` is.
    """
    with sole_maker(job, state):
        if job.is_done():
            return False
        parts = (fill or compute_parts)(job, batches, compute, key, state)
        if state.is_main_process:
            finish(job, parts, as_rows([row[key] for row in parts.merge(sum(map(len, batches)))]))
    return True


def compute_parts(job: Job, batches: list[list[int]], compute: Compute, key: str, state: "PartialState") -> Parts:
    """Computes this process's share of the rows missing in the part files, {"index": row, key: value}; waits for all.

    Arguments as in `make_rows`; call it inside `sole_maker`. Returns the part files, which then hold every row.

    Raises:
        Stopped: a signal was received; computed rows are kept.
        InputError, RunError, OSError: from `compute`, or a part cannot be written; all processes end.
    """
    from eval_hh.inference.together import agreed

    parts, n_rows = open_parts(job, batches, key, state), sum(map(len, batches))
    done = parts.done()
    mine = batches[state.process_index :: state.num_processes]
    waiting = [batch for batch in mine if any(row not in done for row in batch)]
    with progress_bar(job, waiting, state) as bar, stop_requests() as request:
        for number in range(_most(len(waiting))):
            stop_if_asked(request, state, kept(job, parts, n_rows))
            with agreed(state):
                for batch in waiting[number : number + 1]:
                    values = compute(batch)
                    parts.append([{"index": row, key: value} for row, value in zip(batch, values, strict=True)])
                    bar.update(len(batch))
    state.wait_for_everyone()
    return parts


def open_parts(job: Job, batches: list[list[int]], key: str, state: "PartialState") -> Parts:
    """Returns the part files of a job on numbered rows, {"index": row, key: value}, as this process writes them."""
    n_rows = sum(map(len, batches))

    def is_row(row: dict[str, Any]) -> bool:
        return has_index(row) and 0 <= row["index"] < n_rows and is_value(key, row.get(key))

    return Parts(job.output, job.fingerprint(), state.process_index, is_row)


def progress_bar(job: Job, waiting: list[list[int]], state: "PartialState") -> tqdm:
    """Returns the bar of the rows that this process has to make; only the main process shows its own."""
    return tqdm(total=sum(map(len, waiting)), desc=job.label, unit="row", disable=not state.is_main_process)


def kept(job: Job, parts: Parts, n_rows: int) -> Callable[[], str]:
    """Returns the line on how much of a stopped job is kept."""
    return lambda: f"{job.label}: {len(parts.done())} of {n_rows} rows are done; run the same command to resume"


def _most(number: int) -> int:
    """Returns the maximum of a number over all processes; every process has to call it."""
    from accelerate.utils import gather_object

    return max(gather_object([number]))


def stop_if_asked(request: StopRequest, state: "PartialState", message: Callable[[], str]) -> None:
    """Raises Stopped with the message in every process if any received a signal."""
    from eval_hh.inference.together import end_all

    if number := _most(request.number or 0):
        end_all(state, Stopped(number, message()))


def finish(job: Job, parts: Parts, rows: list[dict]) -> None:
    """Writes the output and its note; for the main process, once every part is complete."""
    # First delete an older output's note, which does not describe the new one; delete the parts last: a kill in between
    # costs a merge, not the work.
    done_note(job.output).unlink(missing_ok=True)
    write_jsonl(job.output, rows)
    note = {"fingerprint": parts.fingerprint, "settings": job.settings, **job.measured}
    write_json(done_note(job.output), note, indent=4)
    parts.remove()
