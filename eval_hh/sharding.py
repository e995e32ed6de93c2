"""Work on numbered rows, divided over processes and resumable batch by batch.

Library, used by generation.py, rewarding.py and annotate.py. All batches are planned before any is run, so that
neither a kill nor the number of processes changes which rows are computed together. Finished batches lie in
part files until every process is done; then the first process writes the output, and beside it
OUTPUT.done.json, which says what made it: an output whose note says the same is not made again.
"""

import argparse
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from data_preprocess.command import InputError, check_flags, check_name, count, study_root
from data_preprocess.files import fingerprint, read_json, read_jsonl, write_json, write_jsonl
from data_preprocess.parts import Parts
from data_preprocess.records import check_row
from eval_hh.cells import TEST_FILES

if TYPE_CHECKING:
    from accelerate import PartialState

# How long a process waits for the slowest one; the default of ten minutes is shorter than a long batch queue.
WAIT = timedelta(days=1)
BEST_CHECKPOINT = "best_checkpoint"  # folder of a run that the trainer chose on the dev set
# What the flags of `names_parser` may be: each of them becomes a part of paths.
NAME_CHECKS = {"index": check_name, "stage": count(at_most=1000), "checkpoint": check_name, "test_files": check_name}


def processes() -> "PartialState":
    """This process's place among those that the launcher started (one where there was no launcher)."""
    import torch
    from accelerate import PartialState

    # Unless it is told of the CPU, accelerate takes each of several processes without a GPU for the only one.
    return PartialState(cpu=not torch.cuda.is_available(), timeout=WAIT)


def is_main_process() -> bool:
    """True in the one process that writes and prints (torch is loaded only under a launcher)."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or processes().is_main_process


@dataclass(frozen=True)
class Names:
    """Where the evaluation of one checkpoint lies under a study's root (the published names)."""

    index: str  # name of the experiment
    stage: int  # ranking length that was trained on
    checkpoint: str = BEST_CHECKPOINT
    root: Path = field(default_factory=study_root)

    def __post_init__(self) -> None:
        check_flags({**vars(self), "test_files": None}, NAME_CHECKS)

    @property
    def flags(self) -> str:
        """The flags that name this checkpoint, for messages."""
        other = "" if self.checkpoint == BEST_CHECKPOINT else f" --checkpoint {self.checkpoint}"
        return f"--index {self.index} --stage {self.stage}{other}"

    @property
    def run_folder(self) -> Path:
        return self.root / "checkpoints" / f"index_{self.index}" / f"stage_{self.stage}"

    def test_file(self, name: str) -> Path:
        return self.root / "data" / "hh_test" / f"{name}.json"

    def generated(self, name: str) -> Path:
        return self._results() / "cache" / f"infer_generate_main_{self._key()}_{name}.json"

    def scored(self, name: str) -> Path:
        return self._results() / f"infer_main_{self._key()}_{name}.json"

    def cell(self) -> Path:
        """The result file; another checkpoint than the best one has one of its own."""
        other = "" if self.checkpoint == BEST_CHECKPOINT else f"_{self.checkpoint}"
        return self.root / "eval_hh" / "results" / f"{self.index}_{self.stage}{other}.json"

    def _results(self) -> Path:
        return self.root / "eval_hh" / "inference_res"

    def _key(self) -> str:
        return f"{self.index}_{self.stage}_{self.checkpoint}"


def names_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the flags that every step of an evaluation has, to be checked by NAME_CHECKS."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--index", required=True, help="name of the experiment")
    parser.add_argument("--stage", type=int, required=True, help="ranking length trained on (1 for SFT)")
    parser.add_argument("--checkpoint", default=BEST_CHECKPOINT, help="folder of the run that is tested")
    parser.add_argument("--test_files", nargs="+", default=TEST_FILES, help="names under data/hh_test")
    return parser


def folder_identity(path: str | Path) -> dict[str, Any]:
    """What tells a model's folder from another one: where it really lies, its files' names, sizes and times.

    A hub name stands for itself.
    """
    folder = Path(path)
    if not folder.is_dir():
        return {"name": str(path)}
    files = sorted(file for file in folder.iterdir() if file.is_file())
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return {"name": str(folder.resolve()), "files": [list(stat) for stat in stats]}


def done_note(output: Path) -> Path:
    """Beside a finished output: what made it, {"fingerprint", "settings"}."""
    return output.with_name(output.name + ".done.json")


@dataclass(frozen=True)
class Job:
    """One output file, what it is made of, and how."""

    label: str  # of the progress bar
    output: Path
    source: Path | None  # the input, a JSONL file of rows; None where the settings tell the input
    settings: dict[str, Any]  # everything else that the output depends on, as JSON values

    def fingerprint(self) -> str:
        return fingerprint(self.settings, *([self.source] if self.source else []))

    def is_done(self) -> bool:
        note = done_note(self.output)
        return (
            self.output.is_file() and note.is_file() and read_json(note)["fingerprint"] == self.fingerprint()
        )


def run_job(
    job: Job,
    rows: list[dict],
    batches: list[list[int]],
    compute: Callable[[list[int]], list[Any]],
    key: str,
    state: "PartialState",
) -> None:
    """Computes one value per row and writes the rows with it as row["infer"][key], in the rows' order.

    Args:
        job: what is made; its part files of an earlier, killed run are used.
        rows: the source's rows.
        batches: row numbers, each in one batch; the same in every process.
        compute: row numbers of a batch -> their values (JSON values).
        key: the name of the value.
        state: this process among all.
    """
    parts = compute_parts(job, batches, compute, key, state)
    if state.is_main_process:
        made = parts.merge(len(rows))
        finish(job, parts, [_with_value(row, key, made[i][key]) for i, row in enumerate(rows)])


def compute_parts(
    job: Job,
    batches: list[list[int]],
    compute: Callable[[list[int]], list[Any]],
    key: str,
    state: "PartialState",
) -> Parts:
    """Computes this process's share of what the part files lack, {"index": row, key: value}, and waits for all.

    Arguments as `run_job`. Returns the part files, which hold every row by then.
    """
    parts = Parts(job.output, job.fingerprint(), state.process_index)
    done = parts.done()
    mine = batches[state.process_index :: state.num_processes]
    waiting = [batch for batch in mine if any(row not in done for row in batch)]
    bar = tqdm(total=sum(map(len, waiting)), desc=job.label, unit="row", disable=not state.is_main_process)
    with bar:
        for batch in waiting:
            values = compute(batch)
            parts.append([{"index": row, key: value} for row, value in zip(batch, values, strict=True)])
            bar.update(len(batch))
    state.wait_for_everyone()
    return parts


def finish(job: Job, parts: Parts, rows: list[dict]) -> None:
    """Writes the output and what made it; for the first process, once every part is complete."""
    # First the output, then its note, then the parts go: a kill in between costs a merge, not the work.
    write_jsonl(job.output, rows)
    write_json(done_note(job.output), {"fingerprint": parts.fingerprint, "settings": job.settings}, indent=4)
    parts.remove()


def read_results(path: Path, *keys: str) -> list[dict]:
    """The rows of an earlier step's output, each with infer[key] for every key.

    Raises:
        InputError: names file and line of a row that is no test row with such results.
    """
    rows = []
    for number, row in read_jsonl(path):
        _check_result(row, keys, f"{path}:{number}")
        rows.append(row)
    return rows


def _check_result(row: dict, keys: tuple[str, ...], where: str) -> None:
    infer = row.get("infer")
    for key in keys:
        if not isinstance(infer, dict) or key not in infer:
            raise InputError(f"{where}: infer.{key} is missing (expected what the step before writes)")
        value = infer[key]
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not (isinstance(value, str) if key == "t" else number):
            expected = "a text" if key == "t" else "a finite number"
            raise InputError(f"{where}: infer.{key} is {value!r:.40} (expected {expected})")
    test_row = {name: value for name, value in row.items() if name not in ("infer", "line_index")}
    check_row(test_row, where, training=False)


def _with_value(row: dict, key: str, value: Any) -> dict:
    return {**row, "infer": {**row.get("infer", {}), key: value}}
