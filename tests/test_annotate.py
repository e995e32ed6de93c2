import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from annotate_job import main as run_job
from scipy.stats import chisquare
from test_sampling import draw_sorted_by_hand
from transformers import GPT2Config, GPT2LMHeadModel
from warm_python import Warm, free_port

from data_preprocess.command import InputError, RunError
from data_preprocess.dialogue import cut_at_stop, parse_pair, render_prompt
from data_preprocess.files import read_jsonl
from data_preprocess.hub import load_tokenizer
from eval_hh.inference import seeded_sampling
from eval_hh.inference.decoding import Decoder
from eval_hh.inference.models import load_causal_lm, prompt_ids
from eval_hh.inference.resumable_jobs import Parts
from eval_hh.inference.seeded_sampling import Sampler, gumbel_noise, response_seeds
from eval_hh.reward_model import RewardModel, load_reward_model
from labelling.model_labels import sample_responses, score_rankings
from labelling.sampling import Sampling

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCES = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")
QUESTIONS = ["How do I fix a tap?", "Hi", "Where do whales live? " * 9, "What is amber?", "Hello, can you help me?"]
PROMPTS = [[f"<|prompter|>{text}", "<|assistant|>"] for text in QUESTIONS]
PROMPTS[1] = ["<|prompter|>Hi", "<|assistant|>Hello there.", "<|prompter|>Why?", "<|assistant|>"]
SETTINGS = {"seed": 7, "temperature": 0.8, "top_p": 0.9, "max_new_tokens": 12, "batch_size": 4}


def sample(prompts, model, output, count=3, **changes):
    return sample_responses(prompts, str(model), count, output, Sampling(**(SETTINGS | changes)))


def written(path):
    return [row for _, row in read_jsonl(path)]


@pytest.fixture(scope="module")
def real_prompts(shared):
    """50 from each of HH-RLHF's four test files, one in four of them of several turns or more."""
    prompts = []
    for source in SOURCES:
        pairs = (row for _, row in read_jsonl(shared / "data" / "hh_rlhf" / source / "test.jsonl.gz"))
        parsed = [pair for row in pairs if (pair := parse_pair(row["chosen"], row["rejected"]))]
        prompts += [prefix for prefix, _ in random.Random(1).sample(parsed, 50)]
    return prompts


def sample_by_hand(model, tokenizer, turns, seed, max_new_tokens, temperature, top_p):
    """One row alone, the whole sequence recomputed for every token, drawn in scalars."""
    ids, new = prompt_ids(tokenizer, render_prompt(turns)), []
    generator = torch.Generator().manual_seed(seed)
    for _ in range(max_new_tokens):
        with torch.no_grad():
            logits = model(torch.tensor([ids + new])).logits[0, -1]
        (noise,) = gumbel_noise([generator], len(logits)).tolist()
        new.append(draw_sorted_by_hand(logits.tolist(), noise, temperature, top_p))
        if new[-1] == tokenizer.eos_token_id:
            new.pop()
            break
    return cut_at_stop(tokenizer.decode(new, skip_special_tokens=True)).strip()


@pytest.mark.parametrize("family", ["opt", "gpt_neox", "llama", "gpt2", "qwen2"])
def test_responses_are_those_sampled_by_hand(family, tiny_causal_lm_dir, tmp_path):
    folder = tiny_causal_lm_dir(family)
    found = sample(PROMPTS, folder, tmp_path / "made" / "responses.jsonl")
    model, tokenizer = load_causal_lm(folder), load_tokenizer(folder)
    seeds = response_seeds(PROMPTS, 3, 7)
    expected = [
        [sample_by_hand(model, tokenizer, turns, seed, 12, 0.8, 0.9) for seed in group]
        for turns, group in zip(PROMPTS, seeds, strict=True)
    ]
    assert found == expected
    assert len({text for group in found for text in group}) > 10, "too many equal texts to test anything"
    assert written(tmp_path / "made" / "responses.jsonl") == [
        {"index": i, "responses": group} for i, group in enumerate(expected)
    ]


def test_200_real_prompts_get_the_same_tokens_in_batches_of_every_size(real_prompts, tiny_causal_lm_dir, tmp_path):
    assert len(real_prompts) == 200
    made = [
        sample(real_prompts, tiny_causal_lm_dir("opt"), tmp_path / f"{size}", 1, batch_size=size, max_new_tokens=16)
        for size in (3, 32, 200)
    ]
    assert made[0] == made[1] == made[2]
    assert len({text for (text,) in made[0]}) > 150


@pytest.mark.slow
def test_200_real_prompts_with_a_vocabulary_of_fifty_thousand(real_prompts, shared, tmp_path):
    """All tokens about as likely, which is slow, and brings as many near ties as there can be."""
    model = shared / "golden" / "tiny_opt"
    made = [
        sample(real_prompts, model, tmp_path / f"{size}", 1, batch_size=size, max_new_tokens=4, temperature=1.0)
        for size in (1, 64)
    ]
    assert made[0] == made[1]
    assert len({text for (text,) in made[0]}) == 200


def noisy(model):
    """Adds to the logits of every batch an error of its own, up to 0.01; a row alone without cache has none."""
    generator = torch.Generator().manual_seed(0)

    def add_error(_, args, kwargs, output):
        if kwargs["use_cache"]:
            output.logits += (2 * torch.rand(output.logits.shape, generator=generator) - 1) * 0.01
        return output

    model.register_forward_hook(add_error, with_kwargs=True)
    return model


def test_float_error_of_the_batch_changes_no_token(tiny_causal_lm_dir, monkeypatch):
    """Error and tolerance are a hundred times the real ones and more, so that near ties do come up."""
    folder = tiny_causal_lm_dir("llama")
    decoder = Decoder(noisy(load_causal_lm(folder)), load_tokenizer(folder), 16)
    ids = [decoder.encode(turns) for turns in PROMPTS for _ in range(20)]
    seeds = [seed for group in response_seeds(PROMPTS, 20, 3) for seed in group]

    def decode(size):
        return decoder.decode(ids, size, Sampler(decoder.model, seeds, 1.0, 0.9))

    monkeypatch.setattr(seeded_sampling, "TOLERANCE", 0.04)
    assert decode(100) == decode(25)
    monkeypatch.setattr(seeded_sampling, "TOLERANCE", 1e-9)
    assert decode(100) != decode(25), "the error is too small to test anything"


def rigged(folder, tokenizer, successors):
    """Saves a GPT-2 whose next token depends on the last alone: {token: {next token: probability}}."""
    size = len(tokenizer)
    config = GPT2Config(
        vocab_size=size, n_embd=size, n_layer=1, n_head=1, n_inner=4, n_positions=600, tie_word_embeddings=False
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in model.transformer.h.parameters():
            parameter.zero_()
        model.transformer.wpe.weight.zero_()
        model.transformer.wte.weight.copy_(torch.eye(size))
        # The last layer norm makes of a one-hot vector one of mean 0 and variance 1: undo both by the head.
        model.lm_head.weight.fill_(0)
        high = (1 - 1 / size) / (1 / size * (1 - 1 / size)) ** 0.5
        low = -(1 / size) / (1 / size * (1 - 1 / size)) ** 0.5
        for token, following in successors.items():
            scores = torch.full((size,), -30.0)
            for successor, probability in following.items():
                scores[successor] = torch.tensor(probability).log()
            model.lm_head.weight[:, token] += scores / (high - low)
        # What every other position of the input adds is the same for all rows: low * the sum over columns.
        model.transformer.ln_f.bias.fill_(-low)
        model.transformer.ln_f.weight.fill_(1.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def one_token(tokenizer, text):
    (token,) = tokenizer(text, add_special_tokens=False)["input_ids"]
    return token


def test_a_model_of_known_probabilities_is_sampled_by_them(byte_tokenizer, tmp_path):
    """The prompt ends in ":"; a, b, c, d follow with 0.5, 0.3, 0.15, 0.05, of which top-p 0.9 keeps three."""
    letters = {one_token(byte_tokenizer, x): p for x, p in zip("abcd", (0.5, 0.3, 0.15, 0.05), strict=True)}
    model = rigged(tmp_path / "model", byte_tokenizer, {one_token(byte_tokenizer, ":"): letters})
    for temperature, top_p, expected in (
        (1.0, 0.9, [50 / 95, 30 / 95, 15 / 95]),
        (0.5, 1.0, [2500 / 3650, 900 / 3650, 225 / 3650, 25 / 3650]),
    ):
        settings = {"temperature": temperature, "top_p": top_p, "max_new_tokens": 1, "batch_size": 500}
        (texts,) = sample(PROMPTS[:1], model, tmp_path / f"{top_p}", 3000, **settings)
        counts = [texts.count(letter) for letter in "abcd"[: len(expected)]]
        assert sum(counts) == 3000
        assert chisquare(counts, [3000 * p for p in expected]).pvalue > 0.01


def test_a_response_of_several_tokens_has_the_product_of_their_probabilities(byte_tokenizer, tmp_path):
    """A Markov chain of known probabilities: the 9 texts of three tokens, of which a always follows the prompt."""
    a, b, c = (one_token(byte_tokenizer, letter) for letter in "abc")
    follow = {a: {a: 0.2, b: 0.5, c: 0.3}, b: {a: 0.6, b: 0.3, c: 0.1}, c: {a: 0.1, b: 0.1, c: 0.8}}
    model = rigged(tmp_path / "model", byte_tokenizer, {one_token(byte_tokenizer, ":"): {a: 1.0}, **follow})
    settings = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 3, "batch_size": 500}
    (texts,) = sample(PROMPTS[:1], model, tmp_path / "made", 3000, **settings)
    letters = {a: "a", b: "b", c: "c"}
    expected = {f"a{letters[x]}{letters[y]}": 3000 * p * q for x, p in follow[a].items() for y, q in follow[x].items()}
    counts = [texts.count(text) for text in expected]
    assert sum(counts) == 3000
    assert chisquare(counts, list(expected.values())).pvalue > 0.01


def test_responses_end_at_eos_or_a_stop_string_and_may_be_empty(byte_tokenizer, tmp_path):
    """ ":" is followed by EOS, "Human:" or "x", which goes on for ever."""
    human = byte_tokenizer("Human:", add_special_tokens=False)["input_ids"]
    x, colon = one_token(byte_tokenizer, "x"), one_token(byte_tokenizer, ":")
    chain = dict(zip(human, [{token: 1.0} for token in human[1:]], strict=False))
    third = 1 / 3
    chain |= {colon: {byte_tokenizer.eos_token_id: third, human[0]: third, x: third}, x: {x: 0.5, human[0]: 0.5}}
    model = rigged(tmp_path / "model", byte_tokenizer, chain)
    (texts,) = sample(PROMPTS[:1], model, tmp_path / "made", 200, temperature=1.0, top_p=1.0, max_new_tokens=30)
    assert 90 < texts.count("") < 180
    assert {set(text) == {"x"} for text in texts if text} == {True}
    assert len(set(texts)) > 4


def test_a_finished_output_is_made_again_only_for_other_inputs(tiny_causal_lm_dir, tmp_path):
    folder, output = tiny_causal_lm_dir("opt"), tmp_path / "responses.jsonl"
    first = sample(PROMPTS, folder, output)
    stamp = output.stat().st_mtime_ns
    assert sample(PROMPTS, folder, output, batch_size=2) == first
    assert output.stat().st_mtime_ns == stamp
    for change in ({"seed": 8}, {"temperature": 1.5}, {"top_p": 0.5}, {"max_new_tokens": 5}, {"count": 2}):
        assert sample(PROMPTS, folder, output, **change) != first
    assert sample(PROMPTS[1:], folder, output) == first[1:]
    assert sample(PROMPTS, tiny_causal_lm_dir("llama"), output) != first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["responses.jsonl", "responses.jsonl.done.json"]


def test_settings_out_of_range_are_named(tiny_causal_lm_dir, tmp_path):
    for name, value in (
        ("temperature", 0.0), ("temperature", float("nan")), ("top_p", 0.0), ("top_p", 1.1),
        ("batch_size", 0), ("max_new_tokens", 0),
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"^--{name} {value}: "):
            sample(PROMPTS, tiny_causal_lm_dir("opt"), tmp_path / "x", **{name: value})
    with pytest.raises(InputError, match="^--num_per_prompt 0"):
        sample(PROMPTS, tiny_causal_lm_dir("opt"), tmp_path / "x", 0)
    with pytest.raises(InputError, match="nowhere/model: no such folder"):
        sample(PROMPTS, "/nowhere/model", tmp_path / "x")
    assert not list(tmp_path.iterdir())


RESPONSES = [["Turn it off.", "No.", ""], ["They sing."], [], ["Amber is resin. " * 12, "I do not know."], ["Yes."]]


def test_scores_are_the_reward_models_logits_one_by_one(tiny_reward_dir, tmp_path):
    model = load_reward_model(tiny_reward_dir)
    expected = [
        [model.score([turns], [text])[0] for text in group] for turns, group in zip(PROMPTS, RESPONSES, strict=True)
    ]
    assert len({round(value, 3) for group in expected for value in group}) == 7
    for size in (1, 3, 100):
        output = tmp_path / f"{size}.jsonl"
        found = score_rankings(PROMPTS, RESPONSES, str(tiny_reward_dir), output, size)
        assert [len(group) for group in found] == [3, 1, 0, 2, 1]
        for ours, theirs in zip(found, expected, strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5)
        assert written(output) == [{"index": i, "rewards": group} for i, group in enumerate(found)]


def test_scores_are_made_again_only_for_other_texts(tiny_reward_dir, tmp_path, monkeypatch):
    def score(responses):
        return score_rankings(PROMPTS, responses, str(tiny_reward_dir), tmp_path / "rewards.jsonl", 4)

    first = score(RESPONSES)
    other = score([["Another.", *RESPONSES[0][1:]], *RESPONSES[1:]])
    assert other[0][0] != first[0][0] and other[0][1:] == pytest.approx(first[0][1:], abs=1e-5)
    monkeypatch.setattr(RewardModel, "score_batch", None)  # nothing is computed from here on
    assert score([["Another.", *RESPONSES[0][1:]], *RESPONSES[1:]]) == other
    with pytest.raises(ValueError, match="5 prompts and 4 lists"):
        score(RESPONSES[1:])


def test_a_logit_that_is_not_finite_is_named(tiny_reward_dir, tmp_path, monkeypatch):
    def first(self, encoded, prompts):
        return [float("nan"), *[0.0] * (len(encoded) - 1)]  # the longest, which comes first

    monkeypatch.setattr(RewardModel, "score_batch", first)
    output, names = tmp_path / "rewards.jsonl", [f"pool.jsonl:{line}" for line in range(7, 7 + len(PROMPTS))]
    with pytest.raises(RunError, match="reward_model.*: prompt 4: .* not finite"):
        score_rankings(PROMPTS, RESPONSES, str(tiny_reward_dir), output, 1)
    with pytest.raises(RunError, match=r"reward_model.*: pool\.jsonl:10: .* not finite"):
        score_rankings(PROMPTS, RESPONSES, str(tiny_reward_dir), output, 1, names)
    assert not list(tmp_path.iterdir())


def job_words(prompts, model, reward_model, folder, batch_size=1, count=2, tokens=8):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prompts.json").write_text(json.dumps(prompts), encoding="utf-8")
    return [str(folder / "prompts.json"), str(model), str(reward_model), str(folder),
            str(batch_size), str(count), str(tokens)]  # fmt: skip


def files_of(folder):
    return {name: (folder / name).read_bytes() for name in ("responses.jsonl", "rewards.jsonl")}


def counted(monkeypatch):
    """Records the prompts of every row that is sampled from now on."""
    decoded = []
    original = Decoder.decode

    def counting(self, prompts, batch_size, sampler):
        decoded.extend(prompts)
        return original(self, prompts, batch_size, sampler)

    monkeypatch.setattr(Decoder, "decode", counting)
    return decoded


@pytest.mark.parametrize("appends", [0, 1, 3])
def test_a_broken_off_run_goes_on_without_repeating_rows(appends, tiny_causal_lm_dir, tmp_path, monkeypatch):
    prompts, folder = PROMPTS * 2, tiny_causal_lm_dir("opt")
    whole = sample(prompts, folder, tmp_path / "whole.jsonl", batch_size=1)  # 30 rows in units of 8
    output, append = tmp_path / "responses.jsonl", Parts.append
    left = iter(range(appends))

    def breaking(self, rows):
        append(self, rows if next(left, None) is not None else 1 / 0)

    monkeypatch.setattr(Parts, "append", breaking)
    with pytest.raises(ZeroDivisionError):
        sample(prompts, folder, output, batch_size=1)
    monkeypatch.setattr(Parts, "append", append)
    decoded = counted(monkeypatch)
    assert sample(prompts, folder, output, batch_size=1) == whole
    assert len(decoded) == 30 - 8 * appends
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_broken_off_run_goes_on_in_another_batch_size(tiny_causal_lm_dir, tmp_path, monkeypatch, capsys):
    """Begun in batches of 1, as an earlier version may have, and ended in the one that is chosen here."""
    folder, output, append = tiny_causal_lm_dir("opt"), tmp_path / "responses.jsonl", Parts.append
    whole = sample(PROMPTS * 2, folder, tmp_path / "whole.jsonl", 4, batch_size=5)
    left = iter(range(2))

    def breaking(self, rows):
        append(self, rows if next(left, None) is not None else 1 / 0)

    with monkeypatch.context() as patched:
        patched.setattr(Parts, "append", breaking)
        with pytest.raises(ZeroDivisionError):
            sample(PROMPTS * 2, folder, output, 4, batch_size=1)
    capsys.readouterr()
    assert sample(PROMPTS * 2, folder, output, 4, batch_size=None) == whole
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert f"sampling from {folder.name}: 16 rows at a time (--batch_size sets" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "number", "when", "done"),
    [
        ("eval_hh.inference.resumable_jobs.Parts.append", 2, "after", 16),  # in the middle of sampling
        ("os.replace", 1, "before", 20),  # the responses are on disk under another name
        ("os.replace", 1, "after", 20),  # they have their name, but no note says so
        ("eval_hh.inference.resumable_jobs.Parts.append", 7, "after", 20),  # in the middle of scoring
        ("os.replace", 3, "before", 20),  # the rewards likewise
    ],
)
def test_killed_and_started_again(
    function, number, when, done, tiny_causal_lm_dir, tiny_reward_dir, tmp_path, monkeypatch
):
    prompts = PROMPTS * 2
    run_job(job_words(prompts, tiny_causal_lm_dir("opt"), tiny_reward_dir, tmp_path / "whole"))
    words = job_words(prompts, tiny_causal_lm_dir("opt"), tiny_reward_dir, tmp_path / "killed")
    killer = [REPOSITORY / "tests" / "kill_at.py", "annotate_job", function, number, when, "--", *words]
    killed = Warm(killer, os.environ).finish()
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    decoded = counted(monkeypatch)
    run_job(words)
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    assert len(decoded) == 20 - done


@pytest.mark.slow
def test_two_processes_make_what_one_makes(real_prompts, tiny_causal_lm_dir, tiny_reward_dir, tmp_path):
    """200 real prompts; batches and threads differ too. Rewards agree to float error."""
    folders = tmp_path / "one", tmp_path / "two"
    model, reward_model = tiny_causal_lm_dir("opt"), tiny_reward_dir
    run_job(job_words(real_prompts, model, reward_model, folders[0], 32, 1, 16))
    words = job_words(real_prompts, model, reward_model, folders[1], 20, 1, 16)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "../eval_hh/dp_config.yaml"]
    launch += ["--num_processes", "2", "--main_process_port", str(free_port()), "annotate_job.py", *words]
    subprocess.run(launch, cwd=REPOSITORY / "tests", check=True, capture_output=True)
    one, two = files_of(folders[0]), files_of(folders[1])
    assert one["responses.jsonl"] == two["responses.jsonl"]
    for ours, theirs in zip(*[written(folder / "rewards.jsonl") for folder in folders], strict=True):
        assert ours["rewards"] == pytest.approx(theirs["rewards"], abs=1e-5)


def test_parts_of_other_settings_are_not_mixed_in(tiny_causal_lm_dir, tmp_path):
    folder, output = tiny_causal_lm_dir("opt"), tmp_path / "responses.jsonl"
    expected = sample(PROMPTS, folder, output)
    shutil.copy(output, tmp_path / "expected")
    output.unlink()
    Parts(output, "of other settings").append([{"index": i, "t": "wrong"} for i in range(15)])
    assert sample(PROMPTS, folder, output) == expected
