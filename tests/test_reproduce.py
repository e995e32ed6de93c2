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
from data_preprocess.records import read_rows
from data_preprocess.toy_world.world import SENSITIVITY_WORLDS, WorldConfig
from study.study_file import built_in

TOY = built_in("toy")
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
    (study,) = root.glob("runs/toy-*")
    return scores_in(study)


def scores_in(study):
    found = {}
    for path in sorted(study.glob("eval_hh/results/*.json")):
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
    assert all(name in checked for name in ("base model", "SFT on", "facts asked about", "| 24 |", "pair_accuracy"))
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
def test_a_run_stopped_by_signals_ends_like_one_that_was_not(tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    flags = ("--only", "pro_len2_*")
    finish(whole, *flags)
    for name, (pattern, count) in zip(("SIGUSR1", "SIGTERM", "SIGINT"), MOMENTS[:3], strict=True):
        process = start(stopped, *flags)
        while len(list(stopped.glob(f"runs/toy-*/{pattern}"))) < count and process.poll() is None:
            time.sleep(0.002)
        workers = children_of(process.pid)
        process.send_signal(getattr(signal, name))
        _, errors = process.communicate(timeout=300)
        last = errors.replace("\r", "\n").rstrip("\n").rpartition("\n")[2]
        assert process.returncode == 128 + getattr(signal, name), errors[-3000:]
        assert last.startswith("stopped: at ") and last.endswith("run the same command to resume)")
        time.sleep(1)  # multiprocessing's own helper ends behind the others
        assert "Traceback" not in errors and not any(map(alive, workers))
    finish(stopped, *flags)
    assert scores(stopped) == scores(whole) != {}


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing_and_two_runs_at_once_are_refused(tmp_path):
    process = start(tmp_path / "two")
    while not list((tmp_path / "two").glob("runs/toy-*/lock")) and process.poll() is None:
        time.sleep(0.01)
    second = start(tmp_path / "two")
    _, errors = second.communicate(timeout=100)
    assert second.returncode == 2 and "locked by another run" in errors
    assert process.wait(timeout=500) == 0
    finish(tmp_path / "one", "--workers", "1")
    assert scores(tmp_path / "one") == scores(tmp_path / "two") != {}

    # What is finished stays; the experiment at one size adds low and high D for K = 2 and 4, and a table.
    text = finish(tmp_path / "one", "--fixed_size")
    added = {name: cell for name, cell in scores(tmp_path / "one").items() if name not in scores(tmp_path / "two")}
    assert sorted(added) == [
        f"pro_len{k}_12_{end}_d_matched_kind_half_seed42_{k}.json" for k in (2, 4) for end in ("low", "max")
    ]
    low, high = (added[f"pro_len4_12_{end}_d_matched_kind_half_seed42_4.json"]["diversity"] for end in ("low", "max"))
    assert low["score"] < high["score"] and abs(low["total"] / high["total"] - 1) < 0.1
    assert "## D varied at one number of prompts" in text


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_replicates_with_strategies_and_enlarged_subsets_end_alike_when_killed(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    patterns = ("8_*", "12_seed*", "12_draw*", "12_max_d_*", "12_augment_*")
    flags = ("--replicates", "2", "--strategies", "--augment", "--only", *(f"pro_len2_{one}" for one in patterns))
    text = finish(whole, *flags)
    assert "## Prompts chosen by a strategy, at equal budget" in text and "## Subsets enlarged by models" in text
    expected = scores(whole)
    # Of each draw: the subset that is enlarged, the random one of 12, a strategy, three additions, and of SFT the cell
    # whose model answers.
    assert len(expected) == 2 * (1 + 1 + 1 + 3 + 1)
    (root,) = whole.glob("runs/toy-*")
    assert {path.name for path in (root / "pics").glob("*.png")} >= {"strategies.png", "augmentation.png"}
    drawn = {}
    for folder, draw in (("", 42), ("draw43/", 43)):
        base = read_rows(root / "data" / f"{folder}hh_train_len2_8")
        asked = drawn[draw] = {row["prefix"][0][0] for row in base}
        for name in ("augment_random", "augment_diverse_matched", "augment_overlap"):
            rows = read_rows(root / "data" / f"{folder}hh_train_len2_12_{name}")
            assert [row["meta"]["origin"] for row in rows] == ["base"] * 8 + ["pool"] * 4
            assert [row["suffix"] for row in rows[:8]] == [row["suffix"] for row in base]
            assert not {row["prefix"][0][0] for row in rows[8:]} & asked
            tuned = root / "checkpoints" / f"index_sft_len2_8{'_draw43' * (draw > 42)}_seed{draw}"
            assert {row["meta"]["response_from"][0] for row in rows[8:]} == {f"{tuned}/stage_1/best_checkpoint"}
    assert drawn[42] != drawn[43]

    for pattern, count in (
        ("eval_hh/results/sft_len2_8_seed42_1.json", 1),  # before anything is answered
        ("data/original/augmentation/*/answers_0.jsonl", 1),  # while the subsets are enlarged
        ("checkpoints/index_*augment*/stage_*/state_2", 1),  # while the first cell learns from one
    ):
        process = start(killed, *flags)
        while len(list(killed.glob(f"runs/toy-*/{pattern}"))) < count and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"the run ended before {pattern}"
        time.sleep(1.5)
    finish(killed, *flags)
    assert scores(killed) == expected


@pytest.mark.slow
def test_several_worlds_are_run_alike_and_compared(tmp_path):
    """Two worlds of two replicates: each has its own root, and the table the difference of the means in its files."""
    text = finish(tmp_path, "--worlds", "--replicates", "2")
    roots = {one["world"]: path for path in tmp_path.glob("runs/toy-*") for one in scores_in(path).values()}
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    assert [row[0].strip() for row in rows] == ["own", "noise"] and len(roots) == 2
    assert "annotator_noise 0.5 -> 2.0" in rows[1][1]
    for row in rows:
        cells = scores_in(roots[row[2].strip()])
        assert len(cells) == 2 * 3
        gold = {
            name: [value for file in cell["files"].values() for value in file["reward"]] for name, cell in cells.items()
        }
        means = {name: sum(values) / len(values) for name, values in gold.items()}
        each = [
            means[f"pro_len4_12_{end}_4.json"] - means[f"pro_len2_24_{end}_2.json"]
            for end in ("seed42", "draw43_seed43")
        ]
        assert row[3].strip() == f"{100 * sum(each) / 2:+.2f}" and row[-2].strip() == "2"
    assert (tmp_path / "runs" / "worlds" / "noise" / "report.md").is_file()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workers", "0"], "--workers 0"),
        (["--seeds", "42", "42"], "--seeds 42 42"),
        (["--sizes", "8", "8"], "--sizes 8 8"),
        (["--seeds", "42", "--replicates", "2"], "--replicates and --seeds: give one of them"),
        (["--replicates", "0"], "--replicates 0: expected a number of at least 1"),
        (["--worlds", "--augment"], "--worlds and --augment: give one of them"),
        (["--worlds", "--fixed_size"], "--worlds and --fixed_size: give one of them"),
        (["--profile", "llama-7b", "--worlds"], "--worlds: not a flag of --profile llama-7b"),
        (["--sizes", "5000"], "--sizes 5000: expected a number of at most 3,000"),
        (["--part", "data"], "--part: not a flag of --profile toy"),
        (["--publish", "--only", "pro_*"], "--publish: expected the whole grid"),
        (["--profile", "smollm2", "--publish", "--part", "data"], "--publish and --part data: expected all parts or"),
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
        "training/main.py", *(f"eval_hh/{step}.py" for step in 3 * ("generation", "rewarding", "scoring")),
    ]  # fmt: skip
    assert "--name base --model_path " in lines[4] and "--name ceiling --best_responses" in lines[7]
    assert "--index pro_len2_48_seed42" in lines[0] and not list(tmp_path.iterdir())


def test_a_dry_run_makes_an_enlarged_subset_of_the_cell_that_answers(capsys):
    flags = ["--replicates", "2", "--augment", "--only", "*_len4_120_augment_*_draw43_*"]
    reproduce.main(["--profile", "toy", "--dry_run", *flags])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 + 3 + 4 * 6 + 6 and "--index sft_len4_48_draw43_seed43" in lines[0]
    enlarging = [f"augment.py draw43/hh_train_len4_48 --pool {TOY.root()}/data/original" in line for line in lines]
    assert enlarging == [False] * 4 + [True] * 3 + [False] * 30
    tuned = "index_sft_len4_48_draw43_seed43/stage_1/best_checkpoint"
    assert all(tuned in line and "--add 72" in line and "--seed 43" in line for line in lines[4:7])
    assert "--by random" in lines[4] and "--by diverse --match_length" in lines[5] and "--by overlap" in lines[6]


def test_the_worlds_differ_in_their_folder_and_share_their_cells(capsys, monkeypatch):
    """All but the study's own are made small: a world's folder is named by the hash of all its texts."""
    rows = ("train_rows", "dev_rows", "test_rows", "plenty_rows", "reward_rows", "reward_heldout_rows", "corpus_lines")
    small = dict.fromkeys(rows, 40)
    worlds = {name: replace(world, **small) for name, world in SENSITIVITY_WORLDS.items()}
    monkeypatch.setattr("study.toy.worlds.SENSITIVITY_WORLDS", worlds)
    reproduce.main(["--profile", "toy", "--dry_run", "--worlds", "--replicates", "1"])
    lines = capsys.readouterr().out.splitlines()
    roots = list(dict.fromkeys(re.findall(r"STUDY_ROOT=(\S+)", "\n".join(lines))))
    assert roots[0] == str(TOY.root()) and len(roots) == 1 + len(SENSITIVITY_WORLDS) >= 5
    assert len(lines) == len(roots) * 4 * 6
    per_world = [[line.replace(root, "") for line in lines if f"={root} " in line] for root in roots]
    assert all(one == per_world[0] for one in per_world)
