"""reproduce.py: the declared grid, and a run that is killed again and again ends like one that was not."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import reproduce
from data_preprocess.toy import WorldConfig
from study.toy_profile import TOY

SCRIPT = Path(__file__).with_name("tiny_study.py")


def test_another_world_or_setting_has_another_folder(tmp_path):
    root = TOY.root()
    assert root.parent == tmp_path / "runs"
    assert root == replace(TOY).root()
    assert root == replace(TOY, grid=replace(TOY.grid, sizes=(8,))).root()  # another grid has cells of the same kind
    assert root != replace(TOY, max_new_tokens=7).root()
    assert root != replace(TOY, world=WorldConfig(seed=1)).root()


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

    # What is finished stays; the experiment at one size adds low and high D for K = 2 and 4, and a table.
    text = finish(tmp_path / "one", "--fixed_size")
    added = {name: cell for name, cell in scores(tmp_path / "one").items() if name not in scores(tmp_path / "two")}
    assert sorted(added) == [
        f"pro_len{k}_12_{selection}_seed42_{k}.json" for k in (2, 4) for selection in ("low_d_matched", "max_d_matched")
    ]
    low, high = (added[f"pro_len4_12_{name}_d_matched_seed42_4.json"]["diversity"] for name in ("low", "max"))
    assert low["score"] < high["score"] and abs(low["total"] / high["total"] - 1) < 0.1
    assert "## D varied at one number of prompts" in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workers", "0"], "--workers 0"),
        (["--seeds", "42", "42"], "--seeds 42 42"),
        (["--sizes", "8", "8"], "--sizes 8 8"),
        (["--slurm", "job.sh"], "--slurm: not a flag of --profile toy"),
        (["--publish", "--only", "pro_*"], "--publish: expected the whole grid"),
        (["--profile", "opt-1.3b", "--check"], "--check: not a flag of --profile opt-1.3b"),
    ],
)
def test_bad_flags_are_one_line(flags, message):
    with pytest.raises(reproduce.InputError, match=message):
        reproduce.parse_args(["--profile", "toy", *flags])


def test_a_dry_run_prints_the_commands_of_the_chosen_cells(capsys, tmp_path):
    reproduce.main(["--profile", "toy", "--dry_run", "--only", "pro_len2_48_*"])
    lines = capsys.readouterr().out.splitlines()
    scripts = [re.search(r"\(cd (\S+) && STUDY_ROOT=\S+ python (\S+) ", line).groups() for line in lines]
    assert [f"{folder}/{script}" for folder, script in scripts] == [
        "training/main.py", "eval_hh/generation.py", "eval_hh/rewarding.py", "eval_hh/scoring.py",
    ]  # fmt: skip
    assert "--index pro_len2_48_seed42" in lines[0] and not list(tmp_path.iterdir())
