"""launched_study.py: the paper's grids as commands, as an array job, and run on models that take seconds."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

import reproduce
from data_preprocess.command import InputError, Stopped, StopRequest
from eval_hh.cells import BEST_RESPONSES, WORST_RESPONSES, load_cell, write_cell
from study.grid import Cell, Grid
from study.running.commands import Call
from study.running.launched_study import LaunchedStudy, machine_shares
from tests.made_up import row_of
from tests.test_commands import REPOSITORY, fingerprints, rankings, type_in

RAW = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")


def printed(capsys, *flags: str) -> list[str]:
    reproduce.main(list(flags))
    return capsys.readouterr().out.splitlines()


def test_a_dry_run_prints_the_published_commands(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("LLaMA_path", raising=False)
    lines = printed(capsys, "--profile", "opt-1.3b", "--dry_run")
    assert lines[:2] == [
        "(cd data_preprocess && python split.py)",
        "(cd data_preprocess && python sample.py 4 3 2 --sizes 36000 24000 16000 12000 6000 3000 2000 1500)",
    ]
    assert len(lines) == 2 + 2 * 144
    trained = "opt-1.3b_pro_len3_2000_seed43 hh_train_len3_2000 3 43"
    at = lines.index(f"(cd training && sh train_hh_pro_1b3.sh facebook/opt-1.3b {trained})")
    assert lines[at + 1] == "(cd eval_hh && PROFILE=opt-1.3b sh eval.sh opt-1.3b_pro_len3_2000_seed43 3)"
    lines = printed(capsys, "--profile", "llama-7b", "--dry_run", "--only", "sft_len4_1500_seed44")
    trained = "llama-7b_sft_len4_1500_seed44 hh_train_len4_1500 44"
    assert lines[-2:] == [
        f"(cd training && sh train_hh_sft_7b.sh huggyllama/llama-7b {trained})",
        "(cd eval_hh && PROFILE=llama-7b sh eval.sh llama-7b_sft_len4_1500_seed44 1)",
    ]
    assert not list(tmp_path.iterdir())


def test_other_sizes_models_and_flags_on_request(capsys, monkeypatch):
    monkeypatch.setenv("LLaMA_path", "/models/llama")
    only = ["--only", "pro_len2_6000_seed7", "--seeds", "7", "--sizes", "6000", "--dry_run"]
    lines = printed(capsys, "--profile", "llama-7b", *only, "--", "--max_train_steps", "20")
    assert " llama-7b_pro_len2_6000_seed7 hh_train_len2_6000 2 7 --max_train_steps 20)" in lines[-2]
    assert "train_hh_pro_7b.sh /models/llama " in lines[-2]
    lines = printed(capsys, "--profile", "llama-7b", *only, "--model", "mine", "--tokenizer", "a b")
    assert "train_hh_pro_7b.sh mine " in lines[-2]
    assert lines[1] == "(cd data_preprocess && python sample.py 2 --sizes 6000 --tokenizer 'a b')"


def test_low_and_high_d_are_sampled_by_length(capsys):
    lines = printed(capsys, "--profile", "opt-1.3b", "--dry_run", "--fixed_size", "--seeds", "42")
    for strategy in ("low_d", "max_d"):
        flags = f"--select {strategy} --match_length --half"
        assert f"(cd data_preprocess && python sample.py 4 2 --sizes 3000 {flags})" in lines
    assert len(lines) == 4 + 2 * (48 + 8)


def test_a_replicate_has_its_own_draw_and_seed(capsys, tmp_path):
    flags = ["--profile", "llama-7b", "--replicates", "2", "--only", "pro_len4_1500_*"]
    lines = printed(capsys, *flags, "--dry_run")
    assert lines[:3] == [
        f"(cd data_preprocess && python {words})"
        for words in ("split.py", "sample.py 4 --sizes 1500", "sample.py 4 --sizes 1500 --draw 43")
    ]
    assert len(lines) == 3 + 2 * 2
    trained = "llama-7b_pro_len4_1500_draw43_seed43 draw43/hh_train_len4_1500 4 43"
    assert lines[-2].endswith(f"{trained})") and lines[-1].endswith("llama-7b_pro_len4_1500_draw43_seed43 4)")
    job = tmp_path / "job.sh"
    reproduce.main([*flags[:4], "--only", "pro_len4_1500_draw43_*", "--slurm", str(job)])
    assert "--profile llama-7b --replicates 2 --only 'pro_len4_1500_draw43_*' --model " in job.read_text()
    assert "    pro_len4_1500_draw43_seed43\n" in job.read_text()


def test_strategies_are_sampled_from_a_half_and_freely_in_length(capsys, tmp_path):
    lines = printed(capsys, "--profile", "opt-1.3b", "--dry_run", "--strategies", "--seeds", "42")
    for strategy in ("coverage", "per_token", "max_d", "facility", "k_center"):
        assert f"(cd data_preprocess && python sample.py 4 2 --sizes 3000 --select {strategy} --half)" in lines
    assert len(lines) == 7 + 2 * (48 + 20)
    flags = ["--profile", "opt-1.3b", "--seeds", "42", "--strategies", "--only", "pro_len4_3000_max_d_half_*"]
    reproduce.main([*flags, "--slurm", str(tmp_path / "job.sh")])
    assert "--seeds 42 --strategies --only" in (tmp_path / "job.sh").read_text()  # a task finds its cell
    with pytest.raises(InputError, match="--augment: not a flag of --profile llama-7b"):
        reproduce.parse_args(["--profile", "llama-7b", "--augment"])


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A PATH whose sbatch, srun and scontrol say how they were called, and whose python says what it is given."""
    stubs = {
        "sbatch": 'echo "sbatch $*" >> "$SAID"; wc -l < "$SAID"',  # the job's number: 1, 2, 3
        "srun": 'echo "srun $*" >> "$SAID"; while [ "$1" != bash ]; do shift; done; SLURM_PROCID=1 exec "$@"',
        "scontrol": "echo node1; echo node2",
        "reproduce": 'echo "$PWD $STUDY_ROOT $PORT $NUM_MACHINES $MACHINE_RANK $MAIN_PROCESS_IP $IT $*" >> "$SAID"',
    }
    for name, body in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SAID", str(tmp_path / "said"))
    return tmp_path


def said(cluster, script, *task: str, **environment: str) -> list[str]:
    text = script.read_text().replace("study=(python reproduce.py", "study=(reproduce")
    script.write_text(text)
    subprocess.run(["bash", script, *task], env={**os.environ, **environment}, check=True)
    lines = (cluster / "said").read_text().splitlines()
    (cluster / "said").unlink()
    return lines


def test_a_papers_grid_is_three_jobs(cluster):
    script = cluster / "a folder" / "job.sh"
    flags = ["--profile", "opt-1.3b", "--seeds", "42", "--only", "pro_len4_3000_*", "sft_len2_1500_*"]
    reproduce.main([*flags, "--no_locks", "--slurm", str(script), "--", "--max_train_steps", "20"])
    every = "--requeue --signal=B:USR1@600 --open-mode=append --time=1440"
    logs = f"{cluster}/logs/slurm/%x"
    assert said(cluster, script) == [
        f"sbatch --parsable --job-name=opt-1.3b-data {every} --output={logs}-%j.log --nodes=1 {script} data",
        f"sbatch --parsable --job-name=opt-1.3b {every} --output={logs}-%A_%a.log --dependency=afterok:1 "
        f"--kill-on-invalid-dep=yes --array=0-1 --nodes=1 --gpus-per-node=8 {script} cell",
        f"sbatch --parsable --job-name=opt-1.3b-report {every} --output={logs}-%j.log --dependency=afterany:2 "
        f"--nodes=1 {script} report",
    ]
    job = {"SLURM_JOB_ID": "12345678", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "node[1-2]"}
    srun, ran = said(cluster, script, "cell", **job, SLURM_ARRAY_TASK_ID="1")
    assert srun.startswith("srun --ntasks=1 --ntasks-per-node=1 --kill-on-bad-exit=0 --wait=0 bash -c ")
    assert ran.startswith(f"{REPOSITORY} {cluster} 25678 1 1 node1  --profile opt-1.3b --seeds 42 --only ")
    assert ran.endswith(" --no_locks --part cells --only sft_len2_1500_seed42 -- --max_train_steps 20")
    words = ran.split("node1  ")[1].split()
    config, study = reproduce.parse_args(words)
    assert (config.profile, config.seeds, config.only) == ("opt-1.3b", (42,), ("sft_len2_1500_seed42",))
    assert study.train_flags == ("--max_train_steps", "20")
    for part in ("data", "report"):
        assert said(cluster, script, part, **job)[1].endswith(f" --part {part} -- --max_train_steps 20")
    (cluster / "sbatch").write_text('#!/bin/bash\necho "$*" >> "$SAID"; exit 1\n')
    assert subprocess.run(["bash", script]).returncode == 1
    assert (cluster / "said").read_text().count("\n") == 1  # after a refusal nothing else is submitted


def test_limits_come_from_the_study_file(cluster, monkeypatch):
    path = cluster / "study.yaml"
    made = {"machine": "{num_processes: 8}", "annotate": "{source: a/b, candidates: c/d, reward_model: e/f}"}
    limits = """{nodes: 2, cpus: 32, memory: 200G, hours: 1.5, at_once: 3, save_seconds: 90, partition: gpu,
  account: me, options: [--constraint=a100], scratch: $HOME/x, setup: "export IT=set"}"""
    lines = ["name: s", "model: m", "grid: {sizes: [8], ranking_lens: [2], algorithms: [PRO]}", f"cluster: {limits}"]
    path.write_text("\n".join([*lines, *(f"{key}: {value}" for key, value in made.items())]))
    script = cluster / "job.sh"
    reproduce.main(["--study", str(path), "--slurm", str(script)])
    data, cells, report = said(cluster, script)
    every = "--time=90 --partition=gpu --account=me --constraint=a100"
    node = "--cpus-per-task=32 --mem=200G"
    assert all(every in line and node in line and "USR1@90" in line for line in (data, cells, report))
    assert "--nodes=1 " in data and "--nodes=1 " in report and " --nodes=2 " in cells and "--array=0-1%3 " in cells
    assert "--gpus-per-node=4" in data and "--gpus-per-node=4" in cells and "gpus" not in report
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "n", "SLURM_CPUS_PER_TASK": "32"}
    home = cluster / "home"
    srun, ran, gone = said(cluster, script, "cell", **job, SLURM_ARRAY_TASK_ID="0", HOME=str(home))
    assert "--ntasks=2 " in srun and " --cpus-per-task=32 bash" in srun
    assert " 20007 2 1 node1 set --study " in ran and ran.endswith("--part cells --only pro_len2_8_seed42")
    assert f"--study {path} --model m --tokenizer m --part" in ran
    rows = said(cluster, script, "cell", **job, SLURM_ARRAY_TASK_ID="1", HOME=str(home))[1]
    assert rows.endswith(" --part rows")
    assert gone.endswith('rm -rf -- "$HOME/x/study-$SLURM_JOB_ID"') and not list((home / "x").iterdir())
    path.write_text(path.read_text().replace("nodes: 2", "nodes: 3"))
    with pytest.raises(InputError, match=r"^cluster\.nodes 3: expected to divide the 8 processes of a cell$"):
        reproduce.main(["--study", str(path), "--slurm", str(script)])


def test_a_saved_job_comes_back_even_if_its_scratch_cannot_be_cleared(cluster):
    limits = "{scratch: $HOME/x, setup: '# of comments alone'}"
    path, script = cluster / "study.yaml", cluster / "job.sh"
    path.write_text(
        f"name: s\nmodel: m\ngrid: {{sizes: [8], ranking_lens: [2], algorithms: [PRO]}}\ncluster: {limits}\n"
    )
    reproduce.main(["--study", str(path), "--slurm", str(script)])
    stubs = {"srun": 'case "$*" in *"rm -rf"*) exit 1 ;; esac; exit 138', "squeue": "echo RUNNING",
             "scontrol": 'echo "scontrol $*" >> "$SAID"; echo n'}  # fmt: skip
    for name, body in stubs.items():
        (cluster / name).write_text(f"#!/bin/bash\n{body}\n")
        (cluster / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "n"}
    done = subprocess.run(["bash", script, "report"], env={**os.environ, **job}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (138, "saved; queued again\nn\n"), done.stderr
    assert (cluster / "said").read_text().endswith("scontrol requeue 7\n")


def test_the_small_study_is_one_job(cluster):
    script = cluster / "job.sh"
    reproduce.main(["--profile", "toy", "--replicates", "2", "--slurm", str(script)])
    (line,) = said(cluster, script)
    assert " --job-name=toy --requeue " in line and line.endswith(f" --nodes=1 {script} study")
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "n"}
    assert said(cluster, script, "study", **job)[1].endswith(" --profile toy --replicates 2")


def test_parts_are_made_one_by_one(tmp_path, capsys, monkeypatch):
    """As the jobs of a cluster make them: what another part makes is not made."""
    made = []
    for name in ("make_data", "run_cells", "make_rows", "check_made"):
        monkeypatch.setattr(LaunchedStudy, name, lambda self, *more, name=name: made.append(name) or [])
    for part in reproduce.PARTS[:3]:
        reproduce.main(["--profile", "opt-1.3b", "--only", "pro_len4_3000_seed42", "--part", part])
    assert made == ["check_made", "make_data", "check_made", "make_rows", "check_made", "run_cells"]
    with pytest.raises(OSError, match=r"^1 of 1 cells have no result, the first is opt-1\.3b_pro_len4_3000_seed42 "):
        reproduce.main(["--profile", "opt-1.3b", "--only", "pro_len4_3000_seed42", "--part", "report"])


def test_each_machine_of_a_cell_has_its_log(tmp_path, monkeypatch):
    study = LaunchedStudy(name="s", title="", model="m", grid=Grid((8,), (2,)), replicates=())
    assert study.log("a") == tmp_path / "logs" / "cells" / "a.log"
    monkeypatch.setenv("MACHINE_RANK", "1")
    assert study.log("a") == tmp_path / "logs" / "cells" / "a.machine1.log"


@pytest.mark.parametrize(
    ("responses", "expected"),
    [
        (None, ["base", "floor", "ceiling"]),  # the plan of a study whose data are not made
        ([["a", "b"], ["a"]], ["base", "floor", "ceiling"]),
        ([["a"], ["b"]], ["base", "ceiling"]),
        ([["a", "b"], [""]], ["base"]),
        ([["a", "b"], ["a", " "]], ["base"]),
    ],
)
@pytest.mark.parametrize("is_ranked", [True, False])
def test_rows_of_the_test_data_s_own_responses_need_them(responses, expected, is_ranked, tmp_path, capsys):
    """A study on other test data ends with a report, where eval.sh would refuse them after its last cell."""
    if not is_ranked and responses and any(len(each) > 1 for each in responses):
        expected = ["base"]
    study = LaunchedStudy(name="s", title="", model="m", grid=Grid((8,), (2,)), replicates=(), folder="runs/s")
    (tmp_path / "runs/s/data/hh_test").mkdir(parents=True)
    if responses:
        turns = ["<|prompter|>Hi", "<|assistant|>"]
        rows = [{"prefix": [turns] * len(each), "suffix": each, "meta": {}} for each in responses]
        order = -1 if is_ranked else 1
        lines = [json.dumps(row | {"reward": list(range(len(row["suffix"])))[::order]}) + "\n" for row in rows]
        (tmp_path / "runs/s/data/hh_test/test.json").write_text("".join(lines))
    assert [path.stem for path in study.rows()] == expected
    with pytest.raises(OSError, match=f"^no result of {', '.join(expected)} "):
        study.check_done([])
    for path in study.rows():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    study.make_rows(StopRequest())
    assert ("no floor and no ceiling: " in capsys.readouterr().err) == (expected == ["base"])


def test_a_reward_that_cannot_judge_is_told_before_the_cells(capsys):
    study = LaunchedStudy(name="s", title="", model="m", grid=Grid((8,), (2,)), replicates=(), folder="runs/s")
    texts = {"base": ("a folder", 0.3), "floor": (WORST_RESPONSES, 0.4), "ceiling": (BEST_RESPONSES, 0.4)}
    for seed, path in enumerate(study.rows()):
        source, reward = texts[path.stem]
        write_cell(path, row_of(path.stem, reward, source, seed))
    study.make_rows(StopRequest())
    assert "warning: The reward is not shown to score the test data's best responses" in capsys.readouterr().err
    write_cell(path, row_of("ceiling", 0.5, BEST_RESPONSES))
    study.make_rows(StopRequest())
    assert "warning" not in capsys.readouterr().err


def test_what_cannot_be_tested_ends_before_a_cell_is_trained(monkeypatch):
    """A reward model that scores nothing would end the first cell's test, perhaps after a day of training."""
    trained = []
    monkeypatch.setattr(LaunchedStudy, "make_data", lambda *_: None)
    monkeypatch.setattr(LaunchedStudy, "run_cells", lambda *_: trained.append(1) or [])
    monkeypatch.setattr(LaunchedStudy, "rows", lambda _: {Path("no/base.json"): Call(".", ("sh", "-c", "exit 2"))})
    with pytest.raises(InputError, match="exit status 2"):
        reproduce.main(["--profile", "opt-1.3b", "--only", "pro_len4_3000_seed42"])
    assert not trained


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"pair_accuracy": 0.75, "pairs": 8}', "The dev reward model orders 75.0% of 8 pairs of held-out rankings as"),
        ('{"files": {"a": {"pair_accuracy": 1, "pairs": 3}}}', "The dev reward model orders 100.0% of 3 pairs of a as"),
        ('{"eval_accuracy": 0.7}', ""),  # other programs' and damaged ones
        ("[1]", ""),
        ('{"pair_accuracy": null, "pairs": 0}', ""),
        ('{"files": [1]}', ""),
        ('{"files": {"a": 1}}', ""),
        ("{", ""),
    ],
)
def test_the_accuracy_of_a_reward_model_is_told_where_train_reward_measured_it(content, expected, tmp_path):
    (tmp_path / "metrics.json").write_text(content)
    study = LaunchedStudy(name="s", title="", model="m", grid=Grid((8,), (2,)), replicates=(),
                          train_environment={"DEV_REWARD_MODEL": str(tmp_path)})  # fmt: skip
    assert [note.startswith(expected) for note in study.reward_notes()] == [True] * bool(expected)


class Scripted(LaunchedStudy):
    """A study whose cells are shell commands."""

    commands = {2: "echo trained", 3: "echo gone >&2; exit 1", 4: "echo no such flag >&2; exit 2"}

    def calls(self, cell: Cell) -> list[Call]:
        done = f"mkdir -p {self.result(cell).parent} && touch {self.result(cell)}"
        return [Call("training", ("sh", "-c", f"({self.commands[cell.ranking_len]}) && {done}"))]


def test_a_failed_cell_does_not_stop_the_others_and_a_wrong_call_does(tmp_path, capsys):
    study = Scripted(name="opt-1.3b", title="", model="m", grid=Grid((8,), (2, 3)), replicates=((42, 42),))
    fails, works, wrong = (Cell("PRO", k, 8, seed=42) for k in (3, 2, 4))
    failures = study.run_cells([fails, works], StopRequest())
    assert len(failures) == 1 and "exit status 1: gone (output in " in failures[0]
    assert study.result(works).is_file() and "0 of 2 cells are done already" in capsys.readouterr().err
    assert len(study.run_cells([fails, works], StopRequest())) == 1
    assert "1 of 2 cells are done already" in capsys.readouterr().err
    log = tmp_path / "logs" / "cells" / "pro_len2_8_seed42.log"
    assert re.search(r"\ntrained\ntook: [\d.]+ s\n$", log.read_text())
    assert log.read_text().count("trained") == 2  # its call, and once run
    with pytest.raises(InputError, match="exit status 2: no such flag"):
        study.run_cells([wrong, works], StopRequest())


def test_a_killed_command_is_named_by_its_signal_unless_the_launcher_did(tmp_path, monkeypatch):
    """In place of the log's last line, which then is a piece of a progress bar."""
    study = Scripted(name="opt-1.3b", title="", model="m", grid=Grid((8,), (2, 3)), replicates=((42, 42),))
    launcher = "error: process 0 was ended by SIGKILL (out of memory?)"
    monkeypatch.setattr(Scripted, "commands", {2: "echo 10%; kill -9 $$", 3: f"echo '{launcher}'; exit 137"})
    killed, ended = study.run_cells([Cell("PRO", k, 8, seed=42) for k in (2, 3)], StopRequest())
    assert "exit status 137: killed by SIGKILL (out of memory?) (output in " in killed
    assert f"exit status 137: {launcher} (output in " in ended


def test_the_bar_does_not_count_cells_that_were_stopped(capsys):
    study = Scripted(name="opt-1.3b", title="", model="m", grid=Grid((8,), (2, 3)), replicates=((42, 42),))
    request = StopRequest()
    request.receive(signal.SIGTERM, None)
    with pytest.raises(Stopped):
        study.run_cells([Cell("PRO", k, 8, seed=42) for k in (2, 3)], request)
    shown = capsys.readouterr().err
    assert "| 0/2 [" in shown and "1/2" not in shown and "2/2" not in shown


def test_cells_run_side_by_side_with_shares_of_their_own(tmp_path, monkeypatch):
    """Each waits for the other's mark, so that one after another they would never end."""
    marks = "touch $STUDY_ROOT/$PORT; while [ $(ls $STUDY_ROOT | grep -c '^2950') -lt 2 ]; do sleep 0.1; done"
    study = Scripted(name="opt-1.3b", title="", model="m", grid=Grid((8,), (2, 3)), replicates=((42, 42),))
    monkeypatch.setenv("STUDY_ROOT", str(tmp_path))
    monkeypatch.setattr(Scripted, "commands", {2: marks, 3: marks})
    cells = [Cell("PRO", k, 8, seed=42) for k in (2, 3)]
    assert study.run_cells(cells, StopRequest(), workers=2) == []
    assert all(study.result(cell).is_file() for cell in cells)


def test_a_wrong_call_stops_the_cells_beside_it(tmp_path, monkeypatch):
    study = Scripted(name="opt-1.3b", title="", model="m", grid=Grid((8,), (2, 4)), replicates=((42, 42),))
    begun = tmp_path / "begun"
    monkeypatch.setattr(Scripted, "commands", {
        2: f"touch {begun}; exec sleep 60", 4: f"while ! [ -e {begun} ]; do sleep 0.1; done; echo no such flag; exit 2",
    })  # fmt: skip
    long, wrong, last = Cell("PRO", 2, 8, seed=42), Cell("PRO", 4, 8, seed=42), Cell("PRO", 2, 8, seed=43)
    began = time.monotonic()
    with pytest.raises(InputError, match="exit status 2: no such flag"):
        study.run_cells([long, wrong, last], StopRequest(), workers=2)
    assert time.monotonic() - began < 30 and not study.log(last.exp).exists()


@pytest.mark.parametrize(
    ("visible", "processes", "expected"),
    [(None, 1, [None, None, None]), ("0,1,2,3", 2, ["0,1", "2,3", "0,1"]), ("4,6,7", 1, ["4", "6", "7"]),
     ("5", 1, [None, None, None]), ("0,1", 8, [None, None, None])],
)  # fmt: skip
def test_workers_share_the_gpus(monkeypatch, visible, processes, expected):
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("PORT", "4000")
    shares = machine_shares(3, processes)
    assert [share.get("CUDA_VISIBLE_DEVICES") for share in shares] == expected
    assert [share["PORT"] for share in shares] == ["4000", "4001", "4002"]
    assert machine_shares(1, processes) == [{}]


@pytest.mark.parametrize(("has_gpu", "given", "expected"), [(False, "", "4"), (False, "3", None), (True, "", None)])
def test_workers_share_the_cores_where_no_gpu_is(monkeypatch, has_gpu, given, expected):
    """Eight cores for two workers, unless OMP_NUM_THREADS is set."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr("data_preprocess.command.available_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert [share.get("OMP_NUM_THREADS") for share in machine_shares(2, 1)] == [expected] * 2
    assert {share.get("OMP_NUM_THREADS") for share in machine_shares(16, 1)} == {expected and "1"}


def test_a_port_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("PORT", "http")
    with pytest.raises(InputError, match="^PORT http: expected a whole number"):
        machine_shares(2, 1)


def test_without_rankings_of_four_nothing_can_be_cut(tmp_path):
    with pytest.raises(InputError, match=r"data/original/hh_train_len4/train\.json: no such file"):
        reproduce.main(["--profile", "opt-1.3b", "--only", "pro_len4_3000_seed42"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_cells_of_a_papers_grid_from_rankings_to_report(tmp_path, tiny_causal_lm_dir, tiny_reward_dir):
    root = tmp_path / "a study"
    rankings(root / "data" / "original" / "hh_train_len4" / "train.json", 40)
    for source in RAW:
        folder = root / "raw" / source
        folder.mkdir(parents=True)
        shutil.copy(REPOSITORY / "tests" / "fixtures" / "raw_pairs.jsonl", folder / "test.jsonl")
    model = str(tiny_causal_lm_dir("opt"))
    more = {"NUM_PROCESSES": "1", "ZERO_STAGE": "0", "MIXED_PRECISION": "no", "BATCH_SIZE": "4", "LLaMA_path": model}
    more |= {"DEV_REWARD_MODEL": str(tiny_reward_dir), "TEST_REWARD_MODEL": str(tiny_reward_dir), "MODEL": model}
    prepare = 'cd data_preprocess; python prepare.py --raw "$STUDY_ROOT/raw" --dev_from test --dev_rows 3'
    type_in("bash", prepare, root, **more)
    command = """python reproduce.py --profile opt-1.3b --model "$MODEL" --sizes 16 8 --fixed_size 8 --seeds 42 \
        --only 'sft_len2_8_*' 'pro_len2_16_*' -- \
        --global_batch_size 4 --max_train_steps 2 --checkpointing_step 1 --max_new_tokens 4"""
    first = type_in("bash", command, root, **more)
    results = sorted(path.name for path in (root / "eval_hh" / "results").iterdir())
    assert results == [
        f"opt-1.3b_{name}.json"
        for name in (
            "pro_len2_16_seed42_2",
            *(f"sft_len2_8_{end}_d_matched_half_seed42_1" for end in ("low", "max")),
            "sft_len2_8_seed42_1",
        )
    ]
    for name in results:
        cell = load_cell(root / "eval_hh" / "results" / name)
        assert cell["profile"] == "opt-1.3b" and cell["diversity"]["samples"] == cell["num_prompts"]
        assert cell["selection"] in name or cell["selection"] == "random"
        assert len(cell["files"]["helpful_base"]["interval"]) == 2 and cell["git"] and cell["versions"]["torch"]
    report = (root / "runs" / "opt-1.3b" / "report.md").read_text()
    assert report in first.stdout and "- 2 of 4 cells present" in report
    assert (root / "runs" / "opt-1.3b" / "table1.tex").is_file()

    weights = fingerprints(root / "checkpoints")
    again = type_in("bash", command, root, **more)
    assert "4 of 4 cells are done already" in again.stderr and fingerprints(root / "checkpoints") == weights
    (root / "eval_hh" / "results" / results[0]).unlink()
    again = type_in("bash", command.replace("--seeds 42", "--seeds 42 --prune"), root, **more)
    run = root / "checkpoints" / "index_opt-1.3b_pro_len2_16_seed42" / "stage_2"
    assert not list(run.glob("state_*")) and (run / "best_checkpoint" / "model.safetensors").is_file()
    assert {path.name for path in run.glob("step_*")} == {"step_2", (run / "best_checkpoint").resolve().name}
    assert "3 of 4 cells are done already" in again.stderr
    assert re.search(r"pro_len2_16_seed42: output in ", again.stderr)
    json.loads((root / "eval_hh" / "results" / results[0]).read_text())
