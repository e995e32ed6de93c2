import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from eval_study import TEST_FILES, build_study

from eval_hh.cells import load_cell

FOLDER = Path(__file__).resolve().parents[1] / "eval_hh"
SHELLS = [shell for shell in ("sh", "dash", "bash") if shutil.which(shell)]


@pytest.fixture
def fake_python(tmp_path):
    """Writes its arguments to calls.txt; fails with the status in $FAIL_STATUS where an argument is $FAIL_AT."""
    path = tmp_path / "python"
    path.write_text(
        "#!/bin/sh\n"
        f'echo "$*" >> {tmp_path}/calls.txt\n'
        'for word in "$@"; do [ "$word" = "${FAIL_AT:-}" ] && exit "$FAIL_STATUS"; done\n'
        "exit 0\n"
    )
    path.chmod(0o755)
    return path


def evaluate(shell, python, *words, **environment):
    kept = {key: value for key, value in os.environ.items() if key not in ("BATCH_SIZE", "MIXED_PRECISION", "PORT")}
    return subprocess.run(
        [shell, "eval.sh", *words],
        cwd=FOLDER,
        env=kept | {"PYTHON": str(python)} | environment,
        capture_output=True,
        text=True,
    )


def calls(python):
    return (python.parent / "calls.txt").read_text().splitlines()


@pytest.mark.parametrize("shell", SHELLS)
def test_one_process_runs_the_entries_directly(shell, fake_python):
    done = evaluate(shell, fake_python, "my exp", "4", NUM_PROCESSES="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert calls(fake_python) == [
        "generation.py --check --index my exp --stage 4",
        "rewarding.py --check --index my exp --stage 4",
        "generation.py --index my exp --stage 4",
        "rewarding.py --index my exp --stage 4",
        "scoring.py --index my exp --stage 4",
    ]


@pytest.mark.parametrize("shell", SHELLS)
def test_eight_processes_are_the_default(shell, fake_python):
    done = evaluate(shell, fake_python, "trial", "1", "--max_new_tokens", "9", MIXED_PRECISION="fp16", PORT="4000")
    assert done.returncode == 0
    launch = "-m accelerate.commands.launch --config_file dp_config.yaml --num_processes 8 --main_process_port 4000"
    names = "--index trial --stage 1 --mixed_precision fp16"
    assert calls(fake_python)[2:] == [
        f"{launch} generation.py {names} --max_new_tokens 9",
        f"{launch} rewarding.py {names}",
        "scoring.py --index trial --stage 1",
    ]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("step", ["generation.py", "rewarding.py", "scoring.py"])
def test_the_first_failure_ends_it_with_its_status(shell, step, fake_python):
    done = evaluate(shell, fake_python, "trial", "2", NUM_PROCESSES="1", FAIL_AT=step, FAIL_STATUS="3")
    assert done.returncode == 3
    assert calls(fake_python)[-1].startswith(step)


@pytest.mark.parametrize("shell", SHELLS)
def test_usage(shell, fake_python):
    done = evaluate(shell, fake_python, "trial")
    assert done.returncode == 2 and "usage: sh eval.sh EXP RANKING_LEN" in done.stderr
    assert not (fake_python.parent / "calls.txt").exists()


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
    done = evaluate("sh", sys.executable, "nothing", "2", STUDY_ROOT=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
    assert "index_nothing/stage_2/best_checkpoint: no such checkpoint" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
def test_the_documented_command_makes_the_result_file(processes, tmp_path, tiny_causal_lm_dir, tiny_reward_dir):
    build_study(tmp_path, tiny_causal_lm_dir("opt"))
    done = evaluate(
        "sh", sys.executable, "trial", "2", "--max_new_tokens", "8",
        NUM_PROCESSES=processes, PORT="29711", STUDY_ROOT=str(tmp_path), OMP_NUM_THREADS="1",
        TEST_REWARD_MODEL=str(tiny_reward_dir), BATCH_SIZE="2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Global" in done.stdout
    cell = load_cell(tmp_path / "eval_hh" / "results" / "trial_2.json")
    assert {name: cell["files"][name]["n"] for name in TEST_FILES} == dict.fromkeys(TEST_FILES, 5)
