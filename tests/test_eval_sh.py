import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from eval_study import TEST_FILES, build_study
from warm_python import free_port

from eval_hh.cells import load_cell

FOLDER = Path(__file__).resolve().parents[1] / "eval_hh"
OWN_VARIABLES = ("BATCH_SIZE", "MIXED_PRECISION", "PORT", "PROFILE")
SHELLS = [shell for shell in ("sh", "dash", "bash") if shutil.which(shell)]


@pytest.fixture
def fakes(tmp_path):
    """A python that writes its arguments to calls.txt.

    It fails with the status in $FAIL_STATUS where an argument is the entry $FAIL_AT, and waits at $WAIT_AT for a
    signal, whose name it writes.
    """
    path = tmp_path / "python"
    path.write_text(
        "#!/bin/sh\n"
        f'echo "python $*" >> {tmp_path}/calls.txt\n'
        f"trap 'echo TERM >> {tmp_path}/calls.txt; exit 143' TERM\n"
        f"trap 'echo USR1 >> {tmp_path}/calls.txt; exit 138' USR1\n"
        'for word in "$@"; do [ "${word##*/}" = "${FAIL_AT:-}" ] && exit "$FAIL_STATUS"\n'
        '[ "${word##*/}" = "${WAIT_AT:-}" ] && { sleep 100 & touch ' + f"{tmp_path}/waiting" + "; wait $!; }\ndone\n"
        "exit 0\n"
    )
    path.chmod(0o755)
    return tmp_path


def evaluate(shell, *words, cwd=FOLDER, fakes=None, **environment):
    kept = {key: value for key, value in os.environ.items() if key not in OWN_VARIABLES}
    if fakes:
        kept |= {"PYTHON": f"{fakes}/python", "PATH": f"{fakes}:{kept['PATH']}"}
    else:
        kept |= {"PYTHON": sys.executable, "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"}
    command = [shell, os.path.relpath(FOLDER / "eval.sh", cwd), *words]
    return subprocess.run(command, cwd=cwd, env=kept | environment, capture_output=True, text=True)


def calls(fakes):
    text = (fakes / "calls.txt").read_text()
    return text.replace(f"{FOLDER}/", "").splitlines()


@pytest.mark.parametrize("shell", SHELLS)
def test_one_process_runs_the_entries_directly(shell, fakes):
    done = evaluate(shell, "my exp", "4", fakes=fakes, NUM_PROCESSES="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert calls(fakes) == [
        "python generation.py --check --index my exp --stage 4",
        "python rewarding.py --check --index my exp --stage 4",
        "python scoring.py --check --index my exp --stage 4",
        "python generation.py --index my exp --stage 4",
        "python rewarding.py --index my exp --stage 4",
        "python scoring.py --index my exp --stage 4",
    ]


@pytest.mark.parametrize("shell", SHELLS)
def test_eight_processes_are_the_default(shell, fakes):
    flags = ["--max_new_tokens", "9", "--prompt_format", "auto"]
    environment = {"MIXED_PRECISION": "fp16", "PORT": "4000", "PROFILE": "opt-1.3b"}
    done = evaluate(shell, "trial", "1", *flags, fakes=fakes, **environment)
    assert done.returncode == 0
    launch = f"python {FOLDER.parent}/training/launch.py --num_processes 8 --main_process_port 4000"
    names = "--index trial --stage 1 --mixed_precision fp16"
    # Before hours of generation, so that a name that is none is told.
    assert calls(fakes)[2] == "python scoring.py --check --index trial --stage 1 --profile opt-1.3b"
    assert calls(fakes)[3:] == [
        f"{launch} generation.py {names} --max_new_tokens 9 --prompt_format auto",
        f"{launch} rewarding.py {names}",
        "python scoring.py --index trial --stage 1 --profile opt-1.3b",
    ]


@pytest.mark.parametrize("shell", SHELLS)
def test_an_endpoint_is_asked_by_one_process_and_has_its_own_precision(shell, fakes):
    flags = ["--endpoint", "http://localhost:8000/v1", "--endpoint_model", "a b"]
    done = evaluate(shell, "trial", "1", *flags, fakes=fakes, MIXED_PRECISION="bf16")
    assert done.returncode == 0
    _, _, _, generation, rewarding, _ = calls(fakes)
    assert generation == f"python generation.py --index trial --stage 1 {' '.join(flags)}"
    assert "launch.py --num_processes 8" in rewarding and rewarding.endswith("--mixed_precision bf16")


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_tested_is_told_to_every_step(shell, fakes):
    flags = ["--test_files", "helpful_base", "mine", "--model_path", "a model", "--checkpoint", "step_500"]
    done = evaluate(shell, "trial", "4", *flags, "--max_new_tokens", "9", fakes=fakes, NUM_PROCESSES="1")
    assert done.returncode == 0
    names = "--index trial --stage 4 --checkpoint step_500 --test_files helpful_base mine"
    for start, check in ((0, "--check "), (3, "")):
        assert calls(fakes)[start : start + 3] == [
            f"python generation.py {check}{names} --max_new_tokens 9 --model_path a model",
            f"python rewarding.py {check}{names}",
            f"python scoring.py {check}{names}",
        ]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("step", ["generation.py", "rewarding.py", "scoring.py"])
def test_the_first_failure_ends_it_with_its_status(shell, step, processes, fakes):
    done = evaluate(shell, "trial", "2", fakes=fakes, NUM_PROCESSES=processes, FAIL_AT=step, FAIL_STATUS="3")
    assert done.returncode == 3
    assert step in calls(fakes)[-1]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("name", "told", "status"), [("SIGTERM", "TERM", 143), ("SIGINT", "TERM", 130), ("SIGUSR1", "USR1", 138)]
)
def test_a_signal_is_passed_on_to_the_step_and_ends_it_there(shell, name, told, status, fakes):
    environment = {**os.environ, "PYTHON": f"{fakes}/python", "NUM_PROCESSES": "1", "WAIT_AT": "rewarding.py"}
    process = subprocess.Popen(
        [shell, FOLDER / "eval.sh", "trial", "2"], env=environment,
        # a shell without a terminal starts what runs in its background deaf to Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    end = time.monotonic() + 20
    while time.monotonic() < end and not (fakes / "waiting").exists():
        time.sleep(0.02)
    process.send_signal(getattr(signal, name))
    assert process.wait(20) == status
    assert calls(fakes)[-1] == told


@pytest.mark.parametrize("shell", SHELLS)
def test_wrong_words_start_nothing(shell, fakes):
    done = evaluate(shell, "trial", fakes=fakes)
    assert done.returncode == 2 and "usage: sh eval.sh EXP RANKING_LEN" in done.stderr
    for flags in (["--batch_size", "4"], ["--checkpoint"], ["--checkpoint=step_500"], ["step_500", "x"]):
        done = evaluate(shell, "trial", "2", *flags, fakes=fakes)
        assert done.returncode == 2 and done.stderr.startswith("usage: sh eval.sh EXP RANKING_LEN [--checkpoint NAME]")
    assert not (fakes / "calls.txt").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_several_machines_share_the_processes_and_the_first_writes_the_result(shell, fakes):
    shared = {"NUM_PROCESSES": "4", "NUM_MACHINES": "2", "MAIN_PROCESS_IP": "10.0.0.1"}
    for rank in ("1", "0"):
        done = evaluate(shell, "trial", "1", fakes=fakes, MACHINE_RANK=rank, **shared)
        assert (done.returncode, done.stderr) == (0, "")
        launch = f"python {FOLDER.parent}/training/launch.py --num_processes 4 --main_process_port 29500 "
        launch += f"--num_machines 2 --machine_rank {rank} --main_process_ip 10.0.0.1"
        names = "--index trial --stage 1"
        expected = [f"{launch} generation.py {names}", f"{launch} rewarding.py {names}", f"python scoring.py {names}"]
        assert calls(fakes)[3:] == expected[: 2 if rank == "1" else 3]
        (fakes / "calls.txt").unlink()
    done = evaluate(shell, "trial", "1", fakes=fakes, **{**shared, "NUM_PROCESSES": "3"})
    assert done.returncode == 2
    assert done.stderr == "error: NUM_PROCESSES 3: expected as many on each of the NUM_MACHINES 2\n"


WHOLE = "expected a whole number"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("NUM_PROCESSES", "0", WHOLE), ("NUM_PROCESSES", "08", WHOLE), ("NUM_PROCESSES", "9" * 20, WHOLE),
        ("BATCH_SIZE", "-1", WHOLE), ("BATCH_SIZE", "four", WHOLE), ("PORT", "29500 --check", WHOLE),
        ("PORT", "65536", "from 1 to 65535"), ("PORT", "9" * 20, "from 1 to 65535"),
        ("PORT", "a\nb", WHOLE), ("BATCH_SIZE", "4\n5", "BATCH_SIZE 4 5: expected"), ("OMP_NUM_THREADS", "1.5", WHOLE),
        ("MIXED_PRECISION", "bf16 --check", "bf16, fp16 or no"),
    ],
)  # fmt: skip
def test_a_bad_variable_is_one_line_and_starts_nothing(shell, name, value, expected, fakes):
    done = evaluate(shell, "trial", "2", fakes=fakes, **{name: value})
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"error: {name} ") and expected in done.stderr
    assert not (fakes / "calls.txt").exists()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("words", [
    ["..", "2"], ["a/b", "2"], ["../x", "2"], ["a\nb", "2"], ["trial", "two"], ["trial", "-2"],
    ["trial", "2", "--checkpoint", "../x"], ["trial", "2", "--test_files", "*"],
    ["trial", "2", "--test_files", "../hh_dev/sampled_dev"],
])  # fmt: skip
def test_names_stay_within_the_study_root(shell, words, tmp_path):
    done = evaluate(shell, *words, STUDY_ROOT=str(tmp_path))
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ") and not list(tmp_path.iterdir())


def test_the_scripts_help_is_quick_and_imports_no_torch():
    for entry in ("generation.py", "rewarding.py", "scoring.py"):
        program = (
            "import runpy, sys; sys.argv = [sys.argv[1], '--help']\n"
            "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
            "except SystemExit: pass\n"
            "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
        )
        done = subprocess.run([sys.executable, "-c", program, entry], cwd=FOLDER, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "--index" in done.stdout


def test_a_missing_checkpoint_is_one_line(tmp_path):
    done = evaluate("sh", "nothing", "2", STUDY_ROOT=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
    assert "index_nothing/stage_2/best_checkpoint: no such checkpoint" in done.stderr


def test_relative_paths_are_those_of_the_callers_folder(tmp_path):
    """From the repository's root, with a relative STUDY_ROOT and reward model."""
    where = os.path.relpath(tmp_path, FOLDER.parent)
    done = evaluate("sh", "nothing", "2", cwd=FOLDER.parent, STUDY_ROOT=where)
    assert f"error: {tmp_path}/checkpoints/index_nothing" in done.stderr


def test_a_model_without_a_run_is_refused_before_it_generates(tmp_path, tiny_causal_lm_dir, tiny_reward_dir):
    model = tiny_causal_lm_dir("opt")
    (build_study(tmp_path, model) / "run.json").unlink()
    environment = {"STUDY_ROOT": str(tmp_path), "TEST_REWARD_MODEL": str(tiny_reward_dir)}
    done = evaluate("sh", "trial", "2", "--model_path", str(model), **environment)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "stage_2/run.json: no such file" in done.stderr and not (tmp_path / "eval_hh").exists()


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
def test_the_documented_command_makes_the_result_file(processes, tmp_path, tiny_causal_lm_dir, tiny_reward_dir):
    build_study(tmp_path, tiny_causal_lm_dir("opt"))
    done = evaluate(
        "sh", "trial", "2", "--max_new_tokens", "8",
        NUM_PROCESSES=processes, PORT=str(free_port()), STUDY_ROOT=str(tmp_path), OMP_NUM_THREADS="1",
        TEST_REWARD_MODEL=str(tiny_reward_dir), BATCH_SIZE="2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Global" in done.stdout
    cell = load_cell(tmp_path / "eval_hh" / "results" / "trial_2.json")
    assert {name: cell["files"][name]["n"] for name in TEST_FILES} == dict.fromkeys(TEST_FILES, 5)
