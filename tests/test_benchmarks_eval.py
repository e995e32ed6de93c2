"""The benchmarks of generation and reward scoring: tiny sizes give their rows, and a way that differs is caught."""

import json
from types import SimpleNamespace

import pytest
import torch

from benchmarks import hh_like, padded_decoding, reward_scoring, side_by_side, stand_in_models
from benchmarks.padded_decoding import Ends, is_near_tie
from benchmarks.side_by_side import benchmark
from data_preprocess.command import InputError
from data_preprocess.hub import load_tokenizer
from eval_hh.inference.decoding import Decoder
from eval_hh.inference.models import load_causal_lm
from eval_hh.reward_model import RewardModel
from tests.fault_server import FaultServer, completion
from tests.test_trainer import needs_bf16

GENERATION = ["--prompts", "7", "--batch_size", "3", "--layers", "1", "--width", "24", "--max_new_tokens", "6",
              "--large_batch", "5", "--sampled_prompts", "3", "--samples", "2"]  # fmt: skip
SCORING = ["--dialogues", "14", "--rankings", "3", "--layers", "1", "--width", "24", "--rounds", "1"]


@pytest.fixture(autouse=True)
def _without_shared(monkeypatch, tmp_path):
    """As on a machine without ../shared: made-up words, and the tokenizer trained on them. One thread, as ever."""
    monkeypatch.setenv("HH_RLHF", str(tmp_path / "nowhere"))
    monkeypatch.setattr(stand_in_models, "OPT_FOLDER", tmp_path / "nowhere")
    monkeypatch.setattr(side_by_side, "use_threads", lambda _: None)
    for made in (hh_like.corpus, stand_in_models.tokenizer):
        made.cache_clear()
    yield
    for made in (hh_like.corpus, stand_in_models.tokenizer):
        made.cache_clear()


def rows_of(name, flags, tmp_path):
    benchmark(name, [*flags, "--json", str(tmp_path / "rows.json")])
    return json.loads((tmp_path / "rows.json").read_text())


def test_generation_gives_a_ratio(tmp_path):
    speed, large, *samples = rows_of("generation_speed", GENERATION, tmp_path)
    assert [row["target"] for row in (speed, large, *samples)] == ["3x", "1.4x", "1.3x", "1.7x"]
    assert all(min(row["naive"], row["ours"]) > 0 for row in (speed, large, *samples))
    assert "7 replies" in speed["what"] and "0 of 7 texts part" in speed["note"] and "made-up words" in speed["note"]
    assert "batch 5, against ours in batches of 3" in large["what"] and "0 of 7 texts part" in large["note"]
    assert all("all 6 texts are equal" in row["note"] for row in samples)


def test_samples_that_differ_stop_the_benchmark(monkeypatch):
    sample = padded_decoding.sample_in_slots
    monkeypatch.setattr(padded_decoding, "sample_in_slots", lambda *given, shared: [*sample(*given, shared), shared])
    with pytest.raises(SystemExit, match="error: prompts that are read once give other samples"):
        benchmark("generation_speed", GENERATION)


def test_generation_stops_where_one_text_differs(monkeypatch):
    decode = Decoder.decode

    def wrong(self, prompts, batch_size, *choose):
        first, *others = decode(self, prompts, batch_size, *choose)
        return [first + " indeed", *others]

    monkeypatch.setattr(Decoder, "decode", wrong)
    with pytest.raises(SystemExit, match="error: prompt 0: the two ways give different texts"):
        benchmark("generation_speed", GENERATION)


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_served_model_is_timed_beside_its_own_texts(wrong, tmp_path, tiny_causal_lm_dir):
    """The server here decodes as the local way does, but for its first prompt if `wrong`."""
    folder = tiny_causal_lm_dir("opt")
    model, tokenizer = load_causal_lm(folder), load_tokenizer(folder)
    decoder, first = Decoder(model, tokenizer, 6), []

    def answer(path, body, number):
        first[:] = first or [body["prompt"]]
        [text] = decoder.decode([body["prompt"]], 1)
        return completion(text + " indeed" * (wrong and body["prompt"] == first[0]))

    with FaultServer(answer) as server:
        flags = ["--model", str(folder), "--endpoint", server.url, "--endpoint_model", "m", "--prompts", "5",
                 "--max_new_tokens", "6", "--rounds", "1"]  # fmt: skip
        (row,) = rows_of("served_generation", flags, tmp_path)
    assert min(row["naive"], row["ours"]) > 0 and f"{5 - wrong} of 5 texts are equal" in row["note"]


def test_a_served_model_must_be_named():
    with pytest.raises(InputError, match="--endpoint: missing"):
        benchmark("served_generation", ["--model", "m"])


def test_both_ways_end_at_the_drawn_lengths():
    """Three tokens, one token, and one that the limit cuts off; EOS itself is not part of a reply."""
    decoder = Decoder(stand_in_models.opt_125m(layers=1, width=24), stand_in_models.tokenizer(), 5)
    prompts, ends = [[2, 7, 8], [2, 9], [2, 9, 9, 9]], Ends([4, 1, 9], 2)
    naive = [tokens for _, tokens in padded_decoding.generate_padded(decoder, prompts, ends, 2)]
    assert [len(reply) for reply in naive] == [3, 0, 5] and not any(2 in reply for reply in naive)
    ours = [tokens for _, tokens in padded_decoding.generate_in_slots(decoder, prompts, ends, 2)]
    assert ours == [[*naive[0], 2], [2], naive[2]]


def test_a_near_tie_is_one_of_the_models_logits():
    """A model that gives token 5 a logit of 1, token 6 nearly as much, and 7 less."""
    logits = torch.zeros(1, 1, 9)
    logits[..., 5], logits[..., 6], logits[..., 7] = 1.0, 1.0 + padded_decoding.TIE / 2, 1.0 - padded_decoding.TIE * 2

    class Model:
        device = "cpu"

        def __call__(self, ids):
            assert ids.tolist() == [[2, 3, 4]], "read up to where the replies part"
            return SimpleNamespace(logits=logits)

    model = Model()
    assert is_near_tie(model, [2, 3], [4, 5, 8], [4, 6, 8])
    assert not is_near_tie(model, [2, 3], [4, 5, 8], [4, 7, 8])
    assert not is_near_tie(model, [2, 3], [4, 5], [4, 5])


def test_scoring_gives_a_ratio_and_the_largest_difference(tmp_path):
    speed, worst, *several = rows_of("reward_scoring", SCORING, tmp_path)
    assert speed["target"] == "2x" and min(speed["naive"], speed["ours"]) > 0
    assert "14 dialogues" in speed["what"] and "made-up words" in speed["note"]
    assert worst["naive"] is None and 0 <= worst["ours"] <= 1e-5
    assert [row["target"] for row in several] == ["3x", "3x"]
    assert all("3 prompts with 4 replies" in row["what"] and row["ours"] > 0 for row in several)


def test_bfloat16_on_the_cpu_gives_ratios_of_steps_and_of_decoding(tmp_path):
    needs_bf16()
    sizes = ["--rankings", "2", "--ranking_len", "2", "--prompts", "4", "--batch_size", "2", "--max_new_tokens", "4"]
    *steps, generation = rows_of("cpu_bf16", [*sizes, "--layers", "1", "--width", "24", "--rounds", "1"], tmp_path)
    assert min(row[way] for row in (*steps, generation) for way in ("naive", "ours")) > 0
    assert [row["target"] for row in steps] == ["2x", "10x", "5x"]
    assert all("losses differ by" in row["note"] for row in steps) and "of 4 texts are equal" in generation["note"]


@pytest.mark.parametrize("size", [1, 12, 64])
def test_scoring_stops_where_a_score_differs_at_one_batch_size(size, monkeypatch):
    score = RewardModel.score

    def wrong(self, turns_list, suffixes, batch_size=16):
        return [value + 2e-5 * (batch_size == size) for value in score(self, turns_list, suffixes, batch_size)]

    monkeypatch.setattr(RewardModel, "score", wrong)
    with pytest.raises(SystemExit, match=f"error: batches of {size}: scores differ by 2"):
        benchmark("reward_scoring", SCORING)


def test_the_naive_scores_are_those_of_each_dialogue_alone():
    model, dialogues = stand_in_models.reward_model(1, 24), (hh_like.prompts(14), hh_like.replies(14))
    encoded = [model.encode(turns, reply) for turns, reply in zip(*dialogues, strict=True)]
    alone = [reward_scoring.score_padded(model, [ids])[0] for ids in encoded]
    assert reward_scoring.score_naively(model, *dialogues) == pytest.approx(alone, abs=1e-6)
    assert max(alone) - min(alone) > 1e-3
