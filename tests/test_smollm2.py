"""The real study: its profile in a fresh clone, and its script from raw pairs to the page, with a tiny model."""

import gzip
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from chat_templates import chat_tokenizer

import reproduce
from data_preprocess.command import InputError
from data_preprocess.preparing.raw_hh import SOURCES
from data_preprocess.records import read_rows
from study.study_file import PROFILES, built_in

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPT = REPOSITORY / "study" / "smollm2.sh"
PROFILE = PROFILES / "smollm2.yaml"


@pytest.mark.parametrize("study", ["smollm2", "smollm2-gpu"])
def test_the_script_splits_as_the_profile_does(study, tmp_path):
    """Else pairs on which a reward model was trained would be among the prompts."""
    script = SCRIPT.read_text(encoding="utf-8")
    [split] = re.findall(rf"^{study}\)\n    split='(.*)'$", script, flags=re.MULTILINE)
    words = shlex.join(built_in(study).data_command)
    assert f" {split} " in words and words.startswith(f"annotate.py --raw {tmp_path}/runs/{study}/hh_rlhf ")
    flags = "--train_from --max_words --max_rows --dev_rows --reward_rows --seed --published_parsing".split()
    assert {*flags} & {*words.split()} == {*flags} & {*split.split()}


def test_a_fresh_clone_prints_the_plan_and_names_what_is_missing(tmp_path, capsys):
    reproduce.main(["--profile", "smollm2", "--dry_run"])
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert len(lines) == 2 + 4 + 2 * 16 + 3 and said.err.startswith("plan: 16 cells; cost not known")
    assert all(str(tmp_path / "runs" / "smollm2") in line for line in lines)
    with pytest.raises(InputError, match=r"runs/smollm2/model: no such file or folder \(--profile smollm2: the first"):
        reproduce.main(["--profile", "smollm2"])
    (tmp_path / "runs" / "smollm2" / "model").mkdir(parents=True)
    with pytest.raises(InputError, match=r"runs/smollm2/reward_dev: no such file or folder"):
        reproduce.main(["--profile", "smollm2"])
    for name in ("reward_dev", "reward_test"):
        (tmp_path / "runs" / "smollm2" / name).mkdir()
    with pytest.raises(InputError, match=r"runs/smollm2/hh_rlhf: no such file or folder"):
        reproduce.main(["--profile", "smollm2"])


def test_the_script_needs_its_data(tmp_path):
    failed = subprocess.run(["sh", str(SCRIPT)], capture_output=True, text=True)
    assert failed.returncode == 2 and failed.stderr.startswith("usage: sh study/smollm2.sh HH_RLHF OASST")
    failed = subprocess.run(["sh", str(SCRIPT), str(tmp_path / "none"), "x"], capture_output=True, text=True)
    assert failed.returncode == 2 and "none" in failed.stderr
    other = {**os.environ, "STUDY": "other"}
    failed = subprocess.run(["sh", str(SCRIPT), str(tmp_path), "x"], capture_output=True, text=True, env=other)
    assert failed.returncode == 2 and failed.stderr == "error: STUDY other: expected smollm2 or smollm2-gpu\n"


def tiny_model(folder: Path) -> None:
    """A random two-layer llama with SmolLM2's kind of template."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    tokenizer = chat_tokenizer("smollm2")
    config = AutoConfig.for_model(
        "llama", vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tiny_profile(path: Path) -> None:
    """The profile with small numbers."""
    text = PROFILE.read_text(encoding="utf-8")
    for old, new in (
        ("[128, 64]", "[8, 4]"), ("replicates: 4", "replicates: 1"), ("max_rows: 40", "max_rows: 2"),
        ("dev_rows: 40", "dev_rows: 2"), ("[700, 700]", "[6, 6]"), ("train_rows: 320", "train_rows: 12"),
        ("max_words: 80", "max_words: 200"), ("max_new_tokens: 48", "max_new_tokens: 8"),
        ("max_new_tokens: 32", "max_new_tokens: 4"), ("global_batch_size: 16", "global_batch_size: 4"),
        ("max_train_steps: 8", "max_train_steps: 2"), ("checkpointing_step: 4", "checkpointing_step: 1"),
        ("batch_size: 8, zero_stage", "batch_size: 4, zero_stage"),
    ):  # fmt: skip
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_script_from_raw_pairs_to_the_page(tmp_path, shared):
    raw, root = tmp_path / "raw", tmp_path / "root" / "runs" / "smollm2"
    for source in SOURCES:
        (raw / source).mkdir(parents=True)
        with gzip.open(shared / "data" / "hh_rlhf" / source / "test.jsonl.gz", "rt", encoding="utf-8") as file:
            (raw / source / "test.jsonl").write_text("".join(next(file) for _ in range(15)), encoding="utf-8")
    rankings = (shared / "data" / "oasst1_ranked" / "train.json").read_text(encoding="utf-8").splitlines()
    (tmp_path / "oasst.jsonl").write_text("\n".join(rankings[:120]) + "\n", encoding="utf-8")
    tiny_model(root / "model")
    tiny_profile(tmp_path / "tiny.yaml")
    command = ["sh", str(SCRIPT), str(raw), str(tmp_path / "oasst.jsonl"), "--study", str(tmp_path / "tiny.yaml")]
    environment = {
        **os.environ, "STUDY_ROOT": str(tmp_path / "root"), "PYTHON": sys.executable, "OMP_NUM_THREADS": "1",
        "SPLIT": "--train_from test --max_words 200 --max_rows 2 --dev_rows 2 --reward_rows 6 6",
        "REWARD": "--max_steps 2 --lora_r 2",
    }  # fmt: skip

    def run() -> subprocess.CompletedProcess:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done

    run()
    data = root / "data"
    turns = {path.relative_to(data).as_posix(): {row["prefix"][0][0] for row in read_rows(path, training=False)}
             for path in [*data.glob("hh_*/*.json"), *data.glob("reward/*"), data / "original/hh_train_len4/train.json"]
             if "train_len4_" not in str(path) and "train_len2_" not in str(path)}  # fmt: skip
    assert sum(map(len, turns.values())) == len(set().union(*turns.values()))  # also of prepare.py and annotate.py
    assert len(turns) == 4 + 1 + 3 + 1
    for name in ("label", "dev", "test"):
        metrics = json.loads((root / f"reward_{name}" / "metrics.json").read_text(encoding="utf-8"))
        assert metrics["pairs"] > 0
    report = (root / "report.md").read_text(encoding="utf-8")
    assert "- 4 of 4 cells present" in report
    assert re.search(r"^\| base +\| .*\n\| floor +\| .*\n\| ceiling +\| ", report, flags=re.MULTILINE)
    assert (root / "report.html").is_file()

    stamps = {path: path.stat().st_mtime_ns for path in root.rglob("*.safetensors")}
    again = run()
    assert "4 of 4 cells are done already" in again.stderr and "already trained" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.safetensors")} == stamps
