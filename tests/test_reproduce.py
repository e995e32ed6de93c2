"""reproduce.py: the declared grid, and a run that is killed again and again ends like one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import reproduce
from eval_hh.law import budgets
from reproduce import Cell

SCRIPT = Path(__file__).with_name("tiny_study.py")


def test_the_grid_holds_the_equal_budget_cells_and_one_small_size():
    sizes = reproduce.TOY.sizes
    (budget,) = budgets(sizes)
    assert budget == {2: max(sizes), 3: 2 * max(sizes) // 3, 4: max(sizes) // 2}
    assert min(sizes) < budget[4] and len(sizes) == 4
    cells = reproduce.grid(reproduce.TOY, [42])
    assert len(cells) == len(set(cells)) == 2 * 3 * 4
    assert len({cell.exp for cell in reproduce.grid(reproduce.TOY, [42, 43])}) == 48


def test_a_cells_names():
    cell = Cell("SFT", 3, 160, 43)
    assert (cell.stage, cell.data, cell.exp) == (1, "hh_train_len3_160", "sft_len3_160_seed43")
    assert Cell("PRO", 3, 160, 43).stage == 3


def test_another_world_or_setting_has_another_folder(tmp_path):
    from dataclasses import replace

    from data_preprocess.toy import WorldConfig

    root = reproduce.root_of("toy", reproduce.TOY)
    assert root.parent == tmp_path / "runs"
    assert root == reproduce.root_of("toy", replace(reproduce.TOY))
    assert root != reproduce.root_of("toy", replace(reproduce.TOY, max_new_tokens=7))
    assert root != reproduce.root_of("toy", replace(reproduce.TOY, world=WorldConfig(seed=1)))


def start(root, *flags):
    environment = {**os.environ, "STUDY_ROOT": str(root), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, SCRIPT, "--workers", "2", *flags]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(root, *flags):
    process = start(root, *flags)
    output, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors[-3000:]
    return output


def scores(root):
    """What the result files say of the cells; paths and machine aside."""
    found = {}
    for path in sorted(root.glob("runs/toy-*/eval_hh/results/*.json")):
        cell = json.loads(path.read_text())
        found[path.name] = {part: cell[part] for part in ("files", "diversity", "num_prompts", "seed", "world")}
    return found


def children_of(pid):
    tasks = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in tasks.read_text().split()] if tasks.exists() else []


def alive(pid):
    """Whether a process runs; one that has ended but was not yet collected does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


# Each is a pattern of files under the root; the run is killed as soon as so many are there.
MOMENTS = [
    ("data/original/hh_train_len3/train.json", 1),  # while the subsets are cut
    ("checkpoints/index_*/stage_*/state_2", 1),  # within the first cells' training
    ("eval_hh/inference_res/cache/*.part-0.jsonl", 1),  # while generating
    ("eval_hh/results/*.json", 5),  # between cells
]


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_like_one_that_was_not(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    output = finish(whole)
    assert "equal budget" in output.lower() and "What this run says about the paper's claims" in output
    expected = scores(whole)
    assert len(expected) == 12
    checked = finish(whole, "--check")
    assert all(name in checked for name in ("base model", "SFT on", "D of 24 prompts", "pair_accuracy"))
    assert "ceiling: the world's best responses | 100.0 | 100.0 | 100.0" in checked

    for pattern, count in MOMENTS:
        process = start(killed)
        while len(list(killed.glob(f"runs/toy-*/{pattern}"))) < count and process.poll() is None:
            time.sleep(0.002)
        workers = children_of(process.pid)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"the run ended before {pattern}"
        time.sleep(1.5)
        assert not any(alive(worker) for worker in workers)  # nobody goes on writing behind the next run's back
    finish(killed)
    assert scores(killed) == expected

    before = {path: path.stat().st_mtime_ns for path in killed.glob("runs/toy-*/eval_hh/**/*") if path.is_file()}
    finish(killed)  # once more: nothing is done again
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing_and_two_runs_at_once_are_refused(tmp_path):
    process = start(tmp_path / "two")
    while not list((tmp_path / "two").glob("runs/toy-*/lock")) and process.poll() is None:
        time.sleep(0.01)
    second = start(tmp_path / "two")
    _, errors = second.communicate(timeout=100)
    assert second.returncode == 2 and "another run is at work there" in errors
    assert process.wait(timeout=500) == 0
    finish(tmp_path / "one", "--workers", "1")
    assert scores(tmp_path / "one") == scores(tmp_path / "two") != {}


def test_bad_flags_are_one_line():
    for flags, message in ((["--workers", "0"], "--workers 0"), (["--seeds", "42", "42"], "--seeds 42 42")):
        with pytest.raises(reproduce.InputError, match=message):
            reproduce.parse_args(["--profile", "toy", *flags])
