"""Part files outlive kills, keep other work out and merge in order."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eval_hh.inference.resumable_jobs import Parts

REPOSITORY = Path(__file__).resolve().parents[1]


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
