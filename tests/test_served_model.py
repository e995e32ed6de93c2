"""Texts and verdicts of a real server, `transformers serve`, end to end."""

import json
import multiprocessing
import random
import shutil
import time

import pytest
from eval_study import TEST_FILES, build_study, read_lines
from served_model import ServedModel

from data_preprocess.files import read_json
from eval_hh import generation, judge, rewarding, scoring
from eval_hh.analysis.judgements import summarised
from eval_hh.judging import rubric as rubrics

pytest.importorskip("openai", reason="transformers serve needs it (tests/requirements.txt)")
NAMES = ["--index", "trial", "--stage", "2"]
TOKENS = ["--max_new_tokens", "8"]
ROWS = 10  # of each of the four test files: 40 pairs
KILLS = 10
CHAT = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_causal_lm_dir):
    """A tiny model with a chat template, so that the server takes messages too."""
    folder = tmp_path_factory.mktemp("served") / "model"
    shutil.copytree(tiny_causal_lm_dir("llama"), folder)
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": CHAT}))
    return folder


@pytest.fixture(scope="module")
def server(model, tmp_path_factory):
    with ServedModel(model, tmp_path_factory.mktemp("log") / "serve.log") as running:
        yield running


@pytest.fixture
def study(tmp_path, model, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "localhost")
    build_study(tmp_path, model, n_rows=ROWS)
    return tmp_path


def texts(root):
    cache = root / "eval_hh" / "inference_res" / "cache"
    return {
        name: [
            row["infer"]["t"] for row in read_lines(cache / f"infer_generate_main_trial_2_best_checkpoint_{name}.json")
        ]
        for name in TEST_FILES
    }


@pytest.mark.slow
@pytest.mark.parametrize("prompt_format", ["hh", "chat"])
def test_a_served_model_says_what_it_says_here(study, server, prompt_format, capsys):
    record = study / "checkpoints" / "index_trial" / "stage_2" / "run.json"
    run = read_json(record)
    record.write_text(json.dumps({**run, "config": {**run["config"], "prompt_format": prompt_format}}))
    generation.main([*NAMES, *TOKENS])
    here = texts(study)
    generation.main([*NAMES, *TOKENS, "--batch_size", "4", *server.flags])
    out = capsys.readouterr().out
    assert texts(study) == here and len({text for its in here.values() for text in its}) > 10
    for name in TEST_FILES:
        assert f"{name}: {server.folder}: prompts sent as text; 0 of {ROWS} read as other tokens" in out


@pytest.mark.slow
def test_forty_pairs_are_judged_end_to_end(study, server, tiny_reward_dir, monkeypatch, capsys):
    """A tiny random model names no winner: what counts as a verdict here is the parity of its answer's length."""
    for flags in (NAMES, ["--name", "other"]):
        is_run = flags is NAMES
        generation.main([*flags, *TOKENS, *([] if is_run else ["--best_responses"])])
        rewarding.main([*flags, "--reward_model", str(tiny_reward_dir)])
        scoring.main(flags)
    monkeypatch.setattr(rubrics.Rubric, "verdict", lambda self, answer: [0.0, 1.0][len(answer) % 2])
    pair = ["trial_2", "other", "--name", "found", "--judge_tokens", "4", "--batch_size", "4", *server.flags]
    judge.main(pair)
    found = read_json(study / "eval_hh" / "results" / "judged" / "found.json")
    one = summarised(found)
    assert one.n_prompts == 4 * ROWS and found["tokens"]["prompt"] > 10_000 and found["tokens"]["completion"] > 80
    assert one.win_rate.low <= one.win_rate.difference <= one.win_rate.high
    capsys.readouterr()
    judge.main(pair)
    assert read_json(study / "eval_hh" / "results" / "judged" / "found.json")["pairs"] == found["pairs"]


@pytest.mark.slow
def test_kills_of_client_and_server_change_no_text(study, model, tmp_path_factory):
    generation.main([*NAMES, *TOKENS])
    here = texts(study)
    shutil.rmtree(study / "eval_hh")
    rng = random.Random(0)
    server = ServedModel(model, tmp_path_factory.mktemp("log") / "serve.log")
    flags = [*NAMES, *TOKENS, "--batch_size", "2", *server.flags]
    fork = multiprocessing.get_context("fork")  # a client that need not load everything anew

    def start():
        client = fork.Process(target=generation.main, args=(flags,))
        client.start()
        return client

    def kept():
        return sum(len(path.read_bytes().splitlines()) for path in (study / "eval_hh").rglob("*.part-*.jsonl"))

    with server:
        client = start()
        for number in range(KILLS):
            before, end = kept(), time.monotonic() + 120
            while client.is_alive() and kept() <= before and time.monotonic() < end:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.05))
            if number % 4 == 2:  # twice the server, which takes long to start again
                server.kill()
                server.start()
            else:
                client.kill()
                client.join()
            if not client.is_alive():
                client = start()
        client.join()
        assert client.exitcode == 0
    assert texts(study) == here
