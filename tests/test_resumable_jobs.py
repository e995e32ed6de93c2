"""Resumable jobs: one maker per output, stops by signal, part files and what kills leave of them, and what a later step
accepts."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from eval_study import read_lines
from warm_python import free_port

from data_preprocess.command import FAILURE_FILE, InputError, RunError, Stopped, stop_requests
from data_preprocess.files import try_lock
from eval_hh.inference.resumable_jobs import (
    Job,
    Parts,
    compute_parts,
    done_note,
    processes,
    run_job,
    waiting_jobs,
)
from eval_hh.run_paths import check_made_of

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPT = Path(__file__).with_name("sharded_job.py")
ROWS = [{"row": number} for number in range(6)]
BATCHES = [[0, 1], [2, 3], [4, 5]]


@pytest.fixture
def job(tmp_path):
    return Job("working", tmp_path / "out.json", None, {"step": "test"})


def part(job):
    return job.output.with_name(job.output.name + ".part-0.jsonl")


def texts(batch):
    return [f"text {row}" for row in batch]


def made_of(job, rows=6):
    return [{"row": number, "infer": {"t": f"text {number}"}} for number in range(rows)] == read_lines(job.output)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_ends_the_work_behind_the_batch_and_the_same_call_goes_on(job, number):
    computed = []

    def compute(batch):
        computed.append(batch)
        if batch == [2, 3] and computed.count(batch) == 1:
            os.kill(os.getpid(), number)
        return texts(batch)

    with pytest.raises(Stopped, match="working: 4 of 6 rows are done; run the same command") as stopped:
        run_job(job, ROWS, BATCHES, compute, "t", processes())
    assert stopped.value.signal_number == number and not job.output.exists()
    assert run_job(job, ROWS, BATCHES, compute, "t", processes())
    assert computed == BATCHES and made_of(job)
    assert sorted(os.listdir(job.output.parent)) == ["out.json", "out.json.done.json"]


def test_a_signal_in_the_last_batch_lets_the_work_be_finished(job):
    def compute(batch):
        if batch == [4, 5]:
            os.kill(os.getpid(), signal.SIGTERM)
        return texts(batch)

    assert run_job(job, ROWS, BATCHES, compute, "t", processes()) and made_of(job)


def test_a_block_of_stop_requests_inside_another_has_its_request():
    with stop_requests() as outer:
        os.kill(os.getpid(), signal.SIGTERM)
        with stop_requests() as inner:
            assert inner is outer and inner.number == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == outer.receive
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


DAMAGED = (
    "5", "[1]", "null", '{"t": "x"}', '{"index": "0", "t": "x"}', '{"index": true, "t": "x"}', '{"index": 6, "t": "x"}',
    '{"index": -1, "t": "x"}', '{"index": 0}', '{"index": 0, "t": 5}', '{"index": 0, "t": null}', "[" * 5000,
    '{"index": 0.0, "t": "x"}', '{"index": 0, "t": "\\ud800"}', "\udcff",
)  # fmt: skip


@pytest.mark.parametrize("line", DAMAGED)
def test_a_damaged_part_is_used_up_to_its_damage(job, line):
    header = json.dumps({"fingerprint": job.fingerprint()})
    good = [json.dumps({"index": row, "t": f"text {row}"}) for row in (2, 3)]
    wrong = json.dumps({"index": 4, "t": "behind the damage"})
    text = "".join(each + "\n" for each in (header, *good, line, wrong))
    part(job).write_bytes(text.encode("utf-8", "surrogateescape"))
    computed = []
    run_job(job, ROWS, BATCHES, lambda batch: computed.append(batch) or texts(batch), "t", processes())
    assert computed == [[0, 1], [4, 5]] and made_of(job)


@pytest.mark.parametrize("score", ["NaN", "1e400", "Infinity", '"0.5"', "true", "null"])
def test_a_damaged_score_of_a_part_is_computed_anew(job, score):
    header = json.dumps({"fingerprint": job.fingerprint()})
    part(job).write_text(f'{header}\n{{"index": 0, "score": {score}}}\n{{"index": 1, "score": 0.25}}\n')
    run_job(job, ROWS, BATCHES, lambda batch: [0.5] * len(batch), "score", processes())
    assert [row["infer"]["score"] for row in read_lines(job.output)] == [0.5] * 6


@pytest.mark.parametrize("note", ["{}", "[]", "5", '{"fingerprint": 5, "settings": {}}', "", "{", '{"settings": {}}'])
def test_an_output_with_a_damaged_note_is_made_anew(job, note):
    run_job(job, ROWS, BATCHES, texts, "t", processes())
    assert job.is_done()
    done_note(job.output).write_text(note)
    assert waiting_jobs([job], processes()) == [job]
    job.output.write_text("old\n")
    assert run_job(job, ROWS, BATCHES, texts, "t", processes()) and made_of(job) and job.is_done()


def test_parts_beside_a_finished_output_are_removed_by_the_next_run(job):
    run_job(job, ROWS, BATCHES, texts, "t", processes())
    part(job).write_text("left by a kill\n")
    for name in (f".{job.output.name}.99999999.tmp", f".{done_note(job.output).name}.99999999.tmp"):
        job.output.with_name(name).write_text("left by a kill\n")
    other = job.output.with_name("other.json.part-0.jsonl")
    other.write_text("another's\n")
    assert waiting_jobs([job], processes()) == []
    assert sorted(os.listdir(job.output.parent)) == ["other.json.part-0.jsonl", "out.json", "out.json.done.json"]
    assert made_of(job)


def test_an_older_note_never_stands_beside_a_newer_output(job, monkeypatch):
    """A kill between an output and its note must not leave the note of what was there before."""
    run_job(job, ROWS, BATCHES, texts, "t", processes())
    newer = Job("working", job.output, None, {"step": "other"})

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("eval_hh.inference.resumable_jobs.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            run_job(newer, ROWS, BATCHES, lambda batch: ["new"] * len(batch), "t", processes())
    assert read_lines(job.output)[0]["infer"]["t"] == "new"
    assert not job.is_done() and not newer.is_done()


def test_what_is_missing_in_the_end_is_one_line(job):
    parts = compute_parts(job, BATCHES[:2], texts, "t", processes())
    with pytest.raises(RunError, match="out.json: 2 of 6 rows are missing, the first is 4"):
        parts.merge(6)


def test_a_lock_is_of_one_holder_and_leaves_nothing(tmp_path):
    with try_lock(tmp_path / "a") as first, try_lock(tmp_path / "a") as second, try_lock(tmp_path / "b") as other:
        assert (first, second, other) == (True, False, True)
    assert os.listdir(tmp_path) == []
    with try_lock(tmp_path / "a") as again:
        assert again


def start(output, *arguments, rank=None, port=None):
    """Starts the job's script; with `rank`, as one of two processes."""
    launched = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment = os.environ | ({name: str(value) for name, value in launched.items()} if rank is not None else {})
    command = [sys.executable, str(SCRIPT), str(output), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_of_two_commands_on_one_output_one_works_and_the_other_waits(tmp_path):
    one, other = (start(tmp_path / "out.json", 0.3) for _ in range(2))
    ends = [process.communicate(timeout=120) for process in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], ends
    assert sorted(out.split()[-1] for out, _ in ends) == ["0", "1"]
    assert sum(out.count("batch") for out, _ in ends) == 6
    assert len(read_lines(tmp_path / "out.json")) == 12
    assert sorted(os.listdir(tmp_path)) == ["out.json", "out.json.done.json"]


def test_a_command_that_waits_can_be_stopped(tmp_path):
    with try_lock(tmp_path / "out.json"):
        waiting = start(tmp_path / "out.json", 0)
        assert waiting.stderr.readline().startswith("waiting: another command is making ")
        waiting.send_signal(signal.SIGINT)
        _, errors = waiting.communicate(timeout=60)
    assert waiting.returncode == 130 and errors == "stopped: working: not started; run the same command again\n"


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_of_two_processes_stops_both(tmp_path, monkeypatch, rank):
    monkeypatch.setenv(FAILURE_FILE, str(tmp_path / "status"))  # as a launcher does
    port = free_port()
    ranks = [start(tmp_path / "out.json", 0.5, rank=number, port=port) for number in range(2)]
    assert ranks[0].stdout.readline() == ranks[1].stdout.readline() == "batch\n"
    ranks[rank].send_signal(signal.SIGTERM)
    ends = [process.communicate(timeout=60) for process in ranks]
    assert [process.returncode for process in ranks] == [143, 143], ends
    status, line = json.loads((tmp_path / "status").read_text())
    assert status == 143 and re.fullmatch("stopped: working: .* rows are done; run the same command to resume", line)
    assert not any("stopped" in error or "Traceback" in error for _, error in ends)
    kept = sum(out.count("batch") for out, _ in ends) + 2
    again = start(tmp_path / "out.json", 0)
    out, _ = again.communicate(timeout=60)
    assert out.count("batch") == 6 - kept and len(read_lines(tmp_path / "out.json")) == 12


@pytest.mark.slow
def test_a_failure_in_one_of_two_processes_ends_both_with_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv(FAILURE_FILE, str(tmp_path / "status"))  # as a launcher does
    began, port = time.monotonic(), free_port()
    ranks = [start(tmp_path / "out.json", 0.1, 6, rank=number, port=port) for number in range(2)]  # row 6 is rank 1's
    ends = [process.communicate(timeout=60) for process in ranks]
    assert [process.returncode for process in ranks] == [1, 1] and time.monotonic() - began < 50
    assert json.loads((tmp_path / "status").read_text()) == [1, "error: row 6 cannot be computed"]
    assert not any("error" in error or "Traceback" in error for _, error in ends)


def test_rows_are_compared_with_their_source():
    rows = [{"prefix": [["<|prompter|>a"]], "infer": {"t": "x"}}, {"prefix": [["<|prompter|>b"]], "infer": {"t": "y"}}]
    source = [{"prefix": row["prefix"]} for row in rows]
    check_made_of(rows, Path("made"), source, Path("test"), "again")
    check_made_of([{**row, "line_index": 1} for row in rows], Path("made"), rows, Path("test"), "again")
    for wrong, message in (
        (rows[:1], "made: 1 rows, but test has 2 .again"),
        ([*rows, rows[0]], "made: 3 rows, but test has 2"),
        (rows[::-1], "made:1: does not match test:1 "),
        ([rows[0], {**rows[1], "infer": {"t": "z"}}], "made:2: does not match test:2 "),
    ):
        with pytest.raises(InputError, match=message):
            check_made_of(wrong, Path("made"), rows, Path("test"), "again")


def rows_of(*indices):
    return [{"index": index, "text": f"t{index}", "score": index / 3} for index in indices]


def test_parts_merge_in_order_from_all_ranks(tmp_path):
    ranks = [Parts(tmp_path / "out.json", "work", rank) for rank in range(2)]
    ranks[0].append(rows_of(3, 0))
    ranks[1].append(rows_of(2))
    ranks[0].append(rows_of(1))
    assert ranks[1].merge(4) == rows_of(0, 1, 2, 3)
    assert sorted(ranks[1].done()) == [0, 1, 2, 3]
    with pytest.raises(RuntimeError, match="1 of 5 rows are missing, the first is 4"):
        ranks[0].merge(5)
    ranks[0].remove()
    assert os.listdir(tmp_path) == []


def test_a_torn_line_is_dropped_at_every_byte(tmp_path):
    parts = Parts(tmp_path / "out.json", "work")
    parts.append(rows_of(0))
    first = parts.path.stat().st_size
    parts.append(rows_of(1))
    whole = parts.path.read_bytes()
    for length in range(len(whole)):
        parts.path.write_bytes(whole[:length])
        again = Parts(tmp_path / "out.json", "work")
        assert sorted(again.done()) == ([0] if length >= first else [])
        again.append(rows_of(0, 1))
        assert Parts(tmp_path / "out.json", "work").merge(2) == rows_of(0, 1)


def test_parts_of_other_work_are_never_mixed_in(tmp_path):
    Parts(tmp_path / "out.json", "old", 0).append(rows_of(0, 1))
    Parts(tmp_path / "out.json", "old", 1).append(rows_of(2))
    new = Parts(tmp_path / "out.json", "new", 0)
    assert new.done() == {}
    new.append(rows_of(1))
    assert sorted(new.done()) == [1]
    assert sorted(Parts(tmp_path / "out.json", "old").done()) == [2]
    new.remove()
    assert os.listdir(tmp_path) == []


def test_parts_of_another_file_with_a_like_name_are_left_alone(tmp_path):
    Parts(tmp_path / "out.json", "work").append(rows_of(0))
    other = Parts(tmp_path / "out", "work")
    assert other.done() == {}
    other.remove()
    assert len(os.listdir(tmp_path)) == 1


def test_parts_outlive_sigkill(tmp_path):
    """A process killed while it appends loses at most the batch it was writing."""
    code = (
        "import sys; from eval_hh.inference.resumable_jobs import Parts\n"
        "parts = Parts(sys.argv[1], 'work')\n"
        "for i in range(10**6): parts.append([{'index': i, 'text': 'x' * 1000}])"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], cwd=REPOSITORY)
    parts = Parts(tmp_path / "out", "work")
    deadline = time.monotonic() + 20
    while not (parts.path.exists() and parts.path.stat().st_size > 100_000):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = parts.done()
    assert len(done) > 50 and sorted(done) == list(range(len(done)))
    parts.append([{"index": len(done)}])
    assert len(Parts(tmp_path / "out", "work").merge(len(done) + 1)) == len(done) + 1
