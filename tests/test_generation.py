import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from eval_study import TEST_FILES, build_study, read_lines, write_lines
from warm_python import free_port

from data_preprocess.command import InputError
from data_preprocess.dialogue import render_prompt
from data_preprocess.hub import load_tokenizer
from eval_hh import generation
from eval_hh.inference.decoding import Decoder
from eval_hh.inference.models import load_causal_lm, prompt_ids

REPOSITORY = Path(__file__).resolve().parents[1]
NAMES = ["--index", "trial", "--stage", "2"]


@pytest.fixture
def study(tmp_path, tiny_causal_lm_dir):
    build_study(tmp_path, tiny_causal_lm_dir("opt"))
    return tmp_path


def output(root, name="harmless_base"):
    cache = root / "eval_hh" / "inference_res" / "cache"
    return cache / f"infer_generate_main_trial_2_best_checkpoint_{name}.json"


@pytest.mark.parametrize("size", [["--batch_size", "2"], []])
def test_every_row_gets_its_greedy_text(size, study, tiny_causal_lm_dir, capsys):
    generation.main([*NAMES, "--max_new_tokens", "12", *size])
    assert ("generating harmless_base: 16 rows at a time" in capsys.readouterr().out) == (not size)
    folder = tiny_causal_lm_dir("opt")
    model, tokenizer = load_causal_lm(folder), load_tokenizer(folder)
    for name in TEST_FILES:
        source = read_lines(study / "data" / "hh_test" / f"{name}.json")
        made = read_lines(output(study, name))
        assert [{key: row[key] for key in source[0]} for row in made] == source
        for row in made:
            ids = prompt_ids(tokenizer, render_prompt(row["prefix"][0]))
            whole = model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0].tolist()
            text = tokenizer.decode(whole[len(ids) :], skip_special_tokens=True)
            assert row["infer"] == {"t": text.strip()}
    left = {path.name for path in output(study).parent.iterdir()}
    assert left == {output(study, n).name + end for n in TEST_FILES for end in ("", ".done.json")}, "parts are gone"


def test_a_finished_file_is_not_made_again_unless_something_changed(study, capsys):
    flags = [*NAMES, "--max_new_tokens", "3", "--test_files", "harmless_base"]
    generation.main(flags)
    stamp = output(study).stat().st_mtime_ns
    generation.main([*flags, "--batch_size", "3"])
    assert output(study).stat().st_mtime_ns == stamp
    assert "0 of 1 test files newly generated" in capsys.readouterr().out

    generation.main([*NAMES, "--max_new_tokens", "4", "--test_files", "harmless_base"])
    assert output(study).stat().st_mtime_ns > stamp

    source = study / "data" / "hh_test" / "harmless_base.json"
    write_lines(source, read_lines(source)[:2])
    generation.main(flags)
    assert len(read_lines(output(study))) == 2


def test_another_checkpoint_is_another_work(study, tiny_causal_lm_dir):
    flags = [*NAMES, "--max_new_tokens", "8", "--test_files", "harmless_base"]
    generation.main(flags)
    first = read_lines(output(study))
    link = study / "checkpoints" / "index_trial" / "stage_2" / "best_checkpoint"
    link.unlink()
    link.symlink_to(tiny_causal_lm_dir("llama"))
    generation.main(flags)
    assert [row["infer"] for row in read_lines(output(study))] != [row["infer"] for row in first]


def test_what_is_missing_is_named(study, capsys):
    with pytest.raises(InputError, match="index_other/stage_2/best_checkpoint: no such checkpoint.*train experiment"):
        generation.main(["--index", "other", "--stage", "2"])
    (study / "data" / "hh_test" / "helpful_online.json").unlink()
    with pytest.raises(InputError, match="helpful_online.json: no such test file"):
        generation.main(NAMES)
    with pytest.raises(InputError, match="--batch_size 0"):
        generation.main([*NAMES, "--batch_size", "0"])


def test_check_only_looks(study):
    generation.main([*NAMES, "--check"])
    assert not (study / "eval_hh").exists()
    bad = study / "data" / "hh_test" / "helpful_base.json"
    bad.write_text(bad.read_text() + "{\n")
    with pytest.raises(InputError, match=r"helpful_base.json:6: "):
        generation.main([*NAMES, "--check"])


def command(root, *flags, processes=1):
    python = [sys.executable]
    if processes > 1:
        python += ["-m", "accelerate.commands.launch", "--config_file", "dp_config.yaml"]
        python += ["--num_processes", str(processes), "--main_process_port", str(free_port())]
    environment = os.environ | {"STUDY_ROOT": str(root), "OMP_NUM_THREADS": "1"}
    words = [*python, "generation.py", *NAMES, *flags]
    return {"args": words, "cwd": REPOSITORY / "eval_hh", "env": environment}


@pytest.mark.slow
def test_two_processes_make_what_one_makes(tmp_path, tiny_causal_lm_dir):
    """Of 20 rows in units of 8 the first process has 12, the second 8."""
    flags = ["--max_new_tokens", "6", "--batch_size", "1"]
    build_study(tmp_path, tiny_causal_lm_dir("opt"), n_rows=20)
    generation.main([*NAMES, *flags])
    alone = {name: output(tmp_path, name).read_bytes() for name in TEST_FILES}
    shutil.rmtree(tmp_path / "eval_hh")
    subprocess.run(**command(tmp_path, *flags, processes=2), check=True, capture_output=True)
    assert {name: output(tmp_path, name).read_bytes() for name in TEST_FILES} == alone


def run_until_lines(root, flags, lines):
    """Starts generation and kills it as soon as the part of harmless_base has `lines` lines."""
    part = output(root).with_name(output(root).name + ".part-0.jsonl")
    process = subprocess.Popen(**command(root, *flags), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end and process.poll() is None:
            if part.exists() and part.read_bytes().count(b"\n") >= lines:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    finally:
        process.wait()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    return part


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 18, 40])
def test_killed_and_started_again_it_makes_the_same_file(lines, tmp_path, tiny_causal_lm_dir):
    flags = ["--max_new_tokens", "40", "--batch_size", "2", "--test_files", "harmless_base"]
    build_study(tmp_path, tiny_causal_lm_dir("opt"), n_rows=60)
    generation.main([*NAMES, *flags])
    whole = output(tmp_path).read_bytes()
    shutil.rmtree(tmp_path / "eval_hh")

    part = run_until_lines(tmp_path, flags, lines)
    assert not output(tmp_path).exists()
    with open(part, "ab") as file:
        file.write(b'{"index": 3, "t": "half a li')  # a kill in the middle of a write
    done = part.read_bytes().count(b"\n") - 1
    assert lines - 1 <= done < 60
    decoded = []
    original = Decoder.decode

    def counting(self, prompts, batch_size):
        decoded.extend(prompts)
        return original(self, prompts, batch_size)

    Decoder.decode = counting
    try:
        generation.main([*NAMES, *flags])
    finally:
        Decoder.decode = original
    assert output(tmp_path).read_bytes() == whole
    assert len(decoded) == 60 - done + done % 16, "only units of 8 batches that were not finished are decoded"


def test_parts_of_other_settings_are_not_mixed_in(study):
    flags = ["--test_files", "harmless_base", "--max_new_tokens"]
    generation.main([*NAMES, *flags, "5"])
    expected = output(study).read_bytes()
    shutil.rmtree(study / "eval_hh")
    part = output(study).with_name(output(study).name + ".part-0.jsonl")
    write_lines(part, [{"fingerprint": "of other settings"}, *({"index": i, "t": "wrong"} for i in range(5))])
    generation.main([*NAMES, *flags, "5"])
    assert output(study).read_bytes() == expected


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_keeps_what_is_made_and_says_how_to_go_on(number, tmp_path, tiny_causal_lm_dir):
    flags = ["--max_new_tokens", "40", "--batch_size", "2", "--test_files", "harmless_base"]
    build_study(tmp_path, tiny_causal_lm_dir("opt"), n_rows=120)
    generation.main([*NAMES, *flags])
    whole = output(tmp_path).read_bytes()
    shutil.rmtree(tmp_path / "eval_hh")
    part = output(tmp_path).with_name(output(tmp_path).name + ".part-0.jsonl")
    process = subprocess.Popen(**command(tmp_path, *flags), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (part.exists() and part.read_bytes().count(b"\n") > 1):
        time.sleep(0.01)
    process.send_signal(number)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number and "Traceback" not in errors
    line = errors.replace("\r", "\n").rstrip("\n").rpartition("\n")[2]
    assert re.fullmatch(r"stopped: generating harmless_base: \d+ of 120 rows are done; run the same command .*", line)
    assert part.exists() and not output(tmp_path).exists()
    generation.main([*NAMES, *flags])
    assert output(tmp_path).read_bytes() == whole
