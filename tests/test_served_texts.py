"""Texts of a served model, asked of a server of our own that does what the protocol allows, and what it does not."""

import os
import signal
from collections import Counter

import pytest
from eval_study import QUESTIONS, TEST_FILES, build_study, read_lines, write_lines
from fault_server import CUT, FaultServer, chat, completion

from data_preprocess.command import InputError, RunError, Stopped
from data_preprocess.dialogue import render_prompt
from data_preprocess.hub import load_tokenizer
from eval_hh import generation
from eval_hh.inference import endpoint
from eval_hh.inference.models import prompt_ids
from eval_hh.inference.served_texts import TokenPrompts
from labelling.model_labels import sample_responses
from labelling.sampling import Sampling

NAMES = ["--index", "trial", "--stage", "2", "--max_new_tokens", "9", "--batch_size", "3"]
PROMPTS = [[f"<|prompter|>{text}", "<|assistant|>"] for text in QUESTIONS]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(endpoint, "FIRST_PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "localhost")


@pytest.fixture
def study(tmp_path, tiny_causal_lm_dir):
    build_study(tmp_path, tiny_causal_lm_dir("opt"))
    return tmp_path


def generate(server, *flags):
    generation.main([*NAMES, *flags, "--endpoint", server.url, "--endpoint_model", "served"])


def made(root, name="harmless_base"):
    path = root / "eval_hh" / "inference_res" / "cache" / f"infer_generate_main_trial_2_best_checkpoint_{name}.json"
    return [row["infer"]["t"] for row in read_lines(path)]


def rows(root):
    return [row for name in TEST_FILES for row in read_lines(root / "data" / "hh_test" / f"{name}.json")]


def asked(server):
    """The bodies of requests for texts; the first request of each file only finds out whether ids are taken."""
    return [body for body in server.bodies if body["max_tokens"] > 1]


def test_prompts_are_sent_as_the_ids_of_local_decoding(study, tiny_causal_lm_dir, capsys):
    with FaultServer(lambda path, body, number: completion(f" said {len(body['prompt'])} ")) as server:
        generate(server)
    tokenizer = load_tokenizer(tiny_causal_lm_dir("opt"))
    expected = [prompt_ids(tokenizer, render_prompt(row["prefix"][0])) for row in rows(study)]
    assert Counter(map(str, expected)) == Counter(str(body["prompt"]) for body in asked(server))
    body = asked(server)[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("served", 0.0, 9)
    assert body["stop"] == ["Human:", "human:", "Assistant:", "assistant:"]
    assert made(study) == [f"said {len(ids)}" for ids in expected[:5]]
    out = capsys.readouterr().out
    assert "harmless_base: served: prompts sent as token ids; 0 of 5 read as other tokens" in out


def only_text(path, body, number):
    if not isinstance(body["prompt"], str):
        return 400, {"detail": "prompt must be a string."}, {}
    return completion("a text")


def test_a_server_that_takes_no_ids_gets_a_text_that_tokenises_to_them(study, tiny_causal_lm_dir, capsys):
    test = study / "data" / "hh_test" / "harmless_base.json"
    changed = read_lines(test)
    changed[1]["prefix"] = [["<|prompter|>What does </s> mean?", "<|assistant|>"]] * 2
    write_lines(test, changed)
    with FaultServer(only_text) as server:
        generate(server)
    tokenizer = load_tokenizer(tiny_causal_lm_dir("opt"))
    sent = {str(tokenizer(body["prompt"])["input_ids"]) for body in asked(server) if isinstance(body["prompt"], str)}
    expected = [str(prompt_ids(tokenizer, render_prompt(row["prefix"][0]))) for row in rows(study)]
    assert [ids in sent for ids in expected] == [row != 1 for row in range(len(expected))]
    out = capsys.readouterr().out
    assert "harmless_base: served: prompts sent as text; 1 of 5 read as other tokens" in out
    assert "helpful_base: served: prompts sent as text; 0 of 5" in out


def test_bos_is_left_to_a_tokenizer_that_puts_it_in(shared):
    prompts = TokenPrompts(load_tokenizer(shared / "data" / "llama_tokenizer"))
    ids = prompts.encode(PROMPTS[0])
    text = prompts.as_text(ids)
    assert ids[0] == 1 and not text.startswith("<s>") and prompts.tokenizer(text)["input_ids"] == ids


def test_what_the_server_counts_is_compared(study, capsys):
    def miscounting(path, body, number):
        return completion("a", prompt_tokens=len(body["prompt"]) + (number in (2, 4, 5)))

    with FaultServer(miscounting) as server:
        generate(server, "--test_files", "harmless_base")
    assert " 3 of 5 read as other tokens" in capsys.readouterr().out


def test_a_server_that_ignores_stop_strings_changes_nothing(study):
    with FaultServer(lambda path, body, number: completion(" Fine.\n\nHuman: And \n\nAssistant: so")) as server:
        generate(server)
    assert set(made(study)) == {"Fine."}


def test_a_model_that_only_the_server_knows_gets_messages(study):
    with FaultServer(lambda path, body, number: chat(f" {len(body['messages'])} ")) as server:
        flags = ["--name", "far", "--test_files", "harmless_base", "--max_new_tokens", "9"]
        generation.main([*flags, "--endpoint", server.url, "--endpoint_model", "far/model"])
    path = study / "eval_hh" / "inference_res" / "models" / "far" / "cache" / "infer_generate_main_harmless_base.json"
    assert [row["infer"]["t"] for row in read_lines(path)] == ["1", "3", "1", "3", "1"]
    assert server.bodies[1]["messages"][-1]["role"] == "user"


def test_no_answer_is_lost_or_asked_for_twice_when_the_server_goes_down(study, tiny_causal_lm_dir, monkeypatch):
    monkeypatch.setattr(endpoint, "PATIENCE", 0.3)
    answered = []

    def dying(path, body, number):
        if body["max_tokens"] > 1 and len(answered) == 7:
            return CUT
        answered.extend([str(body["prompt"])] * (body["max_tokens"] > 1))
        return completion(f"to {sum(body['prompt'])}")

    with FaultServer(dying) as server:
        with pytest.raises(RunError, match=r"RemoteProtocolError.*run the same command to resume"):
            generate(server)
    monkeypatch.setattr(endpoint, "PATIENCE", 100)
    with FaultServer(lambda path, body, number: completion(f"to {sum(body['prompt'])}")) as server:
        generate(server)
        answered += [str(body["prompt"]) for body in asked(server)]
    tokenizer = load_tokenizer(tiny_causal_lm_dir("opt"))
    expected = [str(prompt_ids(tokenizer, render_prompt(row["prefix"][0]))) for row in rows(study)]
    assert Counter(answered) == Counter(expected)
    resumed = [made(study, name) for name in TEST_FILES]
    for path in (study / "eval_hh").rglob("*.json"):
        path.unlink()
    with FaultServer(lambda path, body, number: completion(f"to {sum(body['prompt'])}")) as server:
        generate(server)
    assert [made(study, name) for name in TEST_FILES] == resumed


def test_a_signal_keeps_what_was_answered(study):
    def answer(path, body, number):
        if number == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return completion("a")

    with FaultServer(answer) as server:
        with pytest.raises(Stopped, match=r"generating harmless_base: \d of 5 rows are done; run the same command"):
            generate(server)
        before = len(asked(server))
        generate(server)
        assert len(asked(server)) == 20 and before < 20


def test_a_refused_prompt_is_named(study):
    with FaultServer(lambda path, body, number: (422, {"detail": "Unexpected fields"}, {})) as server:
        with pytest.raises(InputError, match=r"prompt [1-3]: .*answers 422: .*Unexpected fields"):
            generate(server)


@pytest.mark.parametrize("n_given", [3, 2, 1])
def test_samples_come_in_one_request_where_the_server_can(n_given, tmp_path, tiny_causal_lm_dir):
    def answer(path, body, number):
        return completion(*(f"{body.get('seed')}/{i}" for i in range(min(n_given, body.get("n", 1)))))

    with FaultServer(answer) as server:
        sampling = Sampling(
            endpoint=server.url, endpoint_model=("served",), endpoint_tokenizer=str(tiny_causal_lm_dir("opt")), seed=7,
            temperature=0.8, top_p=0.9, max_new_tokens=12, batch_size=1,
        )  # fmt: skip
        found = sample_responses(PROMPTS, "served", 3, tmp_path / "responses.jsonl", sampling, served=True)
    texts = [text for group in found for text in group]
    assert len(texts) == len(set(texts)) == 15, "no sample is another's copy"
    first = asked(server)[0]
    assert (first["n"], first["temperature"], first["top_p"]) == (3, 0.8, 0.9)
    assert 0 <= first["seed"] < 2**31
    assert len(asked(server)) == {3: 5, 2: 14, 1: 15}[n_given]


def test_an_endpoint_s_flags_are_checked(study):
    for flags, message in {
        ("--endpoint", "http://localhost:1/v1"): "--endpoint and --endpoint_model: give both",
        ("--endpoint_model", "m"): "--endpoint and --endpoint_model: give both",
        ("--endpoint", "localhost:1", "--endpoint_model", "m"): "--endpoint 'localhost:1': expected an address",
        (
            "--endpoint",
            "http://localhost:1/v1",
            "--endpoint_model",
            "m",
            "--mixed_precision",
            "bf16",
        ): "--endpoint: its",
    }.items():
        with pytest.raises(InputError, match=message):
            generation.main([*NAMES, *flags])
