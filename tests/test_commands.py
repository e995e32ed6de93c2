"""The documented commands, as a user types them: from their own folders, under dash and bash, with python on PATH."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_preprocess.records import load_records
from eval_hh.cells import TEST_FILES, load_cell

REPOSITORY = Path(__file__).resolve().parents[1]
SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]
SIZES = (16, 8)
RAW_SOURCES = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")
SHORT = "--global_batch_size 4 --max_train_steps 2 --checkpointing_step 1 --max_new_tokens 4"


def environment(root: Path, **more: str) -> dict[str, str]:
    """What a user has who activated the virtual environment, with one process on a CPU."""
    ours = ("NUM_PROCESSES", "BATCH_SIZE", "ZERO_STAGE", "MIXED_PRECISION", "PYTHON", "LLaMA_path")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "PATH": path, "STUDY_ROOT": str(root), "OMP_NUM_THREADS": "1", **more}


def type_in(shell: str, commands: str, root: Path, expect: int = 0, **more: str) -> subprocess.CompletedProcess:
    """Runs the lines in one shell that starts in the repository and stops at the first that fails."""
    result = subprocess.run(
        [shell, "-eu", "-c", commands], cwd=REPOSITORY, env=environment(root, **more), capture_output=True, text=True
    )
    assert result.returncode == expect, result.stdout[-2000:] + result.stderr[-3000:]
    return result


def fingerprints(folder: Path) -> dict[str, str]:
    """Content of every file under a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rankings(path: Path, rows: int) -> None:
    """A file of rankings of 4 with different prompts."""
    path.parent.mkdir(parents=True)
    things = "amber resin water forest whales taps washers songs".split()
    with open(path, "w", encoding="utf-8") as file:
        for i in range(rows):
            turns = [f"<|prompter|>What is {things[i % 8]} number {i} made of?", "<|assistant|>"]
            suffix = [f"It is made of {things[(i + j) % 8]}." + " Perhaps." * j for j in range(4)]
            row = {"prefix": [turns] * 4, "suffix": suffix, "reward": [1.5, 0.5, 0.5, -1.0], "meta": {"id": i}}
            file.write(json.dumps(row) + "\n")


@pytest.fixture
def root(tmp_path):
    """A study root with 20 rankings of 4 and a raw HH-RLHF of four pairs per file."""
    study = tmp_path / "a study"  # a blank, as in many a home folder
    rankings(study / "data" / "original" / "hh_train_len4" / "train.json", 20)
    for source in RAW_SOURCES:
        folder = study / "raw" / source
        folder.mkdir(parents=True)
        shutil.copy(REPOSITORY / "tests" / "fixtures" / "raw_pairs.jsonl", folder / "test.jsonl")
    return study


@pytest.mark.parametrize("shell", SHELLS)
def test_data_preparation(shell, root, tiny_causal_lm_dir):
    commands = "cd data_preprocess; python split.py; sh sample.sh"
    tokenizer = str(tiny_causal_lm_dir("opt"))
    type_in(shell, f"{commands} --sizes 16 8", root, LLaMA_path=tokenizer)
    for ranking_len in (2, 3, 4):
        parent = load_records(root / "data" / "original" / f"hh_train_len{ranking_len}")
        assert len(parent) == 20 and {len(record.suffix) for record in parent} == {ranking_len}
        large, small = (load_records(root / "data" / f"hh_train_len{ranking_len}_{size}") for size in SIZES)
        assert large[:8] == small and len(large) == 16
        assert all(record in parent for record in large)
    record = json.loads((root / "data" / "record_hh_train.json").read_text())
    assert {size: entry["2"]["#samples"] for size, entry in record.items()} == {"16": 16, "8": 8}

    made = fingerprints(root / "data")
    type_in(shell, f"{commands} --sizes 16 8", root, LLaMA_path=tokenizer)
    assert fingerprints(root / "data") == made
    # The published command word for word asks for the paper's sizes: too many of these rows, so nothing is written.
    failed = type_in(shell, commands, root, expect=2, LLaMA_path=tokenizer)
    assert re.fullmatch(
        r"error: --sizes: 36000 rows of 4 responses requested, only 20 available \(.*\)\n", failed.stderr
    )
    assert fingerprints(root / "data") == made


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS[:1])
def test_the_whole_study(shell, root, tiny_causal_lm_dir, tiny_reward_dir):
    opt, llama, reward_model = str(tiny_causal_lm_dir("opt")), str(tiny_causal_lm_dir("llama")), str(tiny_reward_dir)
    limits = {"NUM_PROCESSES": "1", "ZERO_STAGE": "0", "MIXED_PRECISION": "no", "BATCH_SIZE": "4"}
    models = {"DEV_REWARD_MODEL": reward_model, "TEST_REWARD_MODEL": reward_model, "LLaMA_path": llama}
    more = {**limits, **models, "OPT": opt}
    type_in(
        shell,
        """
        cd data_preprocess; python split.py; sh sample.sh --sizes 16 8
        python prepare.py --raw "$STUDY_ROOT/raw" --dev_from test --dev_rows 3
        """,
        root,
        **more,
    )
    training = f"""
        cd training
        sh train_hh_pro_1b3.sh "$OPT" opt hh_train_len4_16 4 42 {SHORT}
        sh train_hh_pro_7b.sh "$LLaMA_path" llama hh_train_len3_8 3 43 {SHORT}
        sh train_hh_sft_1b3.sh "$OPT" opt hh_train_len2_8 44 {SHORT}
        sh train_hh_sft_7b.sh "$LLaMA_path" llama hh_train_len4_8 42 {SHORT}
    """
    trained = type_in(shell, training, root, **more)
    assert trained.stdout.count("2 steps: SFT loss ") == 4
    runs = [("opt", 4), ("llama", 3), ("opt", 1), ("llama", 1)]
    for exp, stage in runs:
        check_run(root, exp, stage)
    evaluation = "cd eval_hh\n" + "".join(f"sh eval.sh {exp} {stage} --max_new_tokens 4\n" for exp, stage in runs)
    evaluated = type_in(shell, evaluation, root, **more)
    assert evaluated.stdout.count("4 of 4 test files newly generated") == 4
    for exp, stage in runs:
        check_evaluation(root, exp, stage)

    weights, results = fingerprints(root / "checkpoints"), fingerprints(root / "eval_hh")
    again = type_in(shell, training, root, **more).stdout
    again += type_in(shell, evaluation, root, **more).stdout
    assert again.count("0 of 4 test files newly generated") == again.count("0 of 4 test files newly scored") == 4
    assert fingerprints(root / "checkpoints") == weights
    assert fingerprints(root / "eval_hh") == results
    for exp, stage in runs:
        check_run(root, exp, stage)  # metrics.jsonl too: nothing is counted twice


def check_run(root: Path, exp: str, stage: int) -> None:
    """The published places of a run of two steps."""
    run = root / "checkpoints" / f"index_{exp}" / f"stage_{stage}"
    best = run / "best_checkpoint"
    assert best.is_symlink() and best.resolve() in (run / "step_1", run / "step_2")
    for step in (1, 2):
        assert (run / f"step_{step}" / "model.safetensors").is_file()
    rows = [json.loads(line) for line in (root / "logs" / exp / str(stage) / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]


def check_evaluation(root: Path, exp: str, stage: int) -> None:
    """The published places of an evaluation: test rows with what was made of them, and the result file."""
    folder = root / "eval_hh" / "inference_res"
    for name in TEST_FILES:
        file = f"main_{exp}_{stage}_best_checkpoint_{name}.json"
        tests = (root / "data" / "hh_test" / f"{name}.json").read_text().splitlines()
        generated = (folder / "cache" / f"infer_generate_{file}").read_text().splitlines()
        scored = (folder / f"infer_{file}").read_text().splitlines()
        for index, lines in enumerate(zip(tests, generated, scored, strict=True)):
            test, text, score = map(json.loads, lines)
            assert text == {**test, "infer": {"t": text["infer"]["t"]}}
            assert set(score) == {*test, "infer", "line_index"} and score["line_index"] == index
            assert score["infer"]["t"] == text["infer"]["t"] and 0 <= score["infer"]["score"] <= 1
            assert set(score["infer"]) == {"t", "score", "bleu"}
    cell = load_cell(root / "eval_hh" / "results" / f"{exp}_{stage}.json")
    assert cell["algorithm"] == ("SFT" if stage == 1 else "PRO") and cell["diversity"]["samples"] == cell["num_prompts"]
