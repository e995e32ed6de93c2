import math

import pytest
import torch
from scipy.stats import chisquare, kstest
from transformers import TopPLogitsWarper

from data_preprocess.command import InputError
from eval_hh.decoding import Decoder, generate, most_likely
from eval_hh.models import load_causal_lm, load_tokenizer
from eval_hh.sampling import TOLERANCE, Sampler, draw, stream_keys, uniform

WORD = (1 << 64) - 1
PROMPTS = [
    ["<|prompter|>How do I fix a leaking tap?", "<|assistant|>"],
    ["<|prompter|>Hi", "<|assistant|>"],
    ["<|prompter|>Tell me about whales.", "<|assistant|>They sing.", "<|prompter|>Where?", "<|assistant|>"],
]


def splitmix64(seed, number):
    """Output `number` (from 1) of SplitMix64 in plain integers."""
    z = (seed + number * 0x9E3779B97F4A7C15) & WORD
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & WORD
    return z ^ z >> 31


def uniform_by_hand(stream, step, token):
    return ((splitmix64(splitmix64(stream & WORD, step + 1), token + 1) >> 12) + 0.5) / 2**52


def draw_by_hand(logits, stream, step, temperature, top_p):
    """The contract in scalars: nucleus of tokens whose strict betters sum to less than top_p, largest noisy logit."""
    scaled = [value / temperature for value in logits]
    weights = [math.exp(value - max(scaled)) for value in scaled]
    probabilities = [weight / math.fsum(weights) for weight in weights]
    noisy = {}
    for token, own in enumerate(probabilities):
        if math.fsum(p for p in probabilities if p > own) < top_p:
            noisy[token] = scaled[token] - math.log(-math.log(uniform_by_hand(stream, step, token)))
    return max(noisy, key=noisy.get)


def streams(count, seed=0):
    return torch.tensor(stream_keys([["<|assistant|>"]], count, seed)[0])


def steps(count, step):
    """All rows at one step."""
    return torch.full((count,), step)


def test_the_generator_is_splitmix64():
    """The first outputs for seed 0 as its authors' code gives them; then our tensors against plain integers."""
    assert [splitmix64(0, n) for n in (1, 2, 3)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    keys, tokens = [0, 1, -1, 2**63 - 1, -(2**63), 123456789], [0, 1, 399, 50271]
    for places in ([0] * 6, [1, 0, 127, 5, 2, 1]):
        found = uniform(torch.tensor(keys), torch.tensor(places), torch.tensor([tokens] * len(keys)))
        by_hand = [[uniform_by_hand(*row, token) for token in tokens] for row in zip(keys, places, strict=True)]
        assert found.tolist() == by_hand


def test_numbers_are_uniform_and_independent_over_streams_steps_and_tokens():
    tokens = torch.arange(300).repeat(30, 1)
    values = torch.stack([uniform(streams(30), steps(30, step), tokens) for step in range(30)])
    assert kstest(values.flatten().numpy(), "uniform").pvalue > 0.01
    assert values.unique().numel() == values.numel()
    for dim in range(3):
        left, right = values.narrow(dim, 0, values.shape[dim] - 1), values.narrow(dim, 1, values.shape[dim] - 1)
        assert abs(torch.corrcoef(torch.stack([left.flatten(), right.flatten()]))[0, 1]) < 0.01


def test_streams_belong_to_seed_prompt_and_sample():
    keys = stream_keys(PROMPTS, 3, 5)
    assert len({key for group in keys for key in group}) == 9
    assert stream_keys(PROMPTS[::-1], 3, 5) == keys[::-1], "the order of prompts does not count"
    assert stream_keys(PROMPTS, 5, 5)[1][:3] == keys[1], "more samples leave the first ones"
    assert not {key for group in stream_keys(PROMPTS, 3, 6) for key in group} & {k for g in keys for k in g}
    twice = stream_keys([PROMPTS[0], PROMPTS[1], PROMPTS[0]], 3, 5)
    assert twice[:2] == keys[:2] and not set(twice[2]) & set(keys[0]), "a repeated prompt is sampled anew"


@pytest.mark.parametrize(
    ("temperature", "top_p", "expected"),
    [
        (1.0, 1.0, [0.5, 0.3, 0.15, 0.05]),
        (1.0, 0.7, [5 / 8, 3 / 8, 0, 0]),  # 0.5 is short of 0.7, 0.8 is not
        (1.0, 0.9, [50 / 95, 30 / 95, 15 / 95, 0]),
        # At temperature 1/2 probabilities are squared: 2500, 900, 225, 25 of 3650, so 0.685, 0.932, 0.993, 1.
        (0.5, 1.0, [2500 / 3650, 900 / 3650, 225 / 3650, 25 / 3650]),
        (0.5, 0.9, [25 / 34, 9 / 34, 0, 0]),
        # At temperature 2 their roots: 0.7071, 0.5477, 0.3873, 0.2236 of 1.8657.
        (2.0, 0.6, [0.7071068 / 1.2548294, 0.5477226 / 1.2548294, 0, 0]),
    ],
)
def test_frequencies_are_those_of_the_renormalised_nucleus(temperature, top_p, expected):
    """4000 draws against probabilities worked out by hand; the token order is mixed, so ids are not ranks."""
    order, count = [2, 0, 3, 1], 4000
    logits = torch.empty(4)
    logits[order] = torch.tensor([0.5, 0.3, 0.15, 0.05]).log() + 3.0
    tokens, _ = draw(logits.repeat(count, 1), streams(count), steps(count, 4), temperature, top_p, TOLERANCE)
    counts = torch.bincount(tokens, minlength=4)[order].tolist()
    drawn = [(found, count * p) for found, p in zip(counts, expected, strict=True) if p]
    assert sum(found for found, _ in drawn) == count, "a token outside the nucleus was drawn"
    assert chisquare(*zip(*drawn, strict=True)).pvalue > 0.01


@pytest.mark.parametrize("top_p", [0.3, 0.95, 1.0])
def test_a_wide_vocabulary_against_scalars_and_against_transformers_nucleus(top_p):
    """12000 tokens, about as likely: all three numbers of candidates are needed."""
    logits = torch.randn(3, 12000, generator=torch.Generator().manual_seed(3))
    keys = streams(3)
    tokens, _ = draw(logits, keys, steps(3, 9), 1.3, top_p, TOLERANCE)
    rows = zip(logits.tolist(), keys.tolist(), strict=True)
    expected = [draw_sorted_by_hand(row, key, 9, 1.3, top_p) for row, key in rows]
    assert tokens.tolist() == expected
    kept = TopPLogitsWarper(top_p)(None, logits / 1.3) if top_p < 1 else logits
    assert torch.isfinite(kept.gather(1, tokens.unsqueeze(1))).all()


def draw_sorted_by_hand(logits, stream, step, temperature, top_p):
    """draw_by_hand with a sort in place of its double loop, for a wide vocabulary without ties."""
    order = sorted(range(len(logits)), key=lambda token: -logits[token])
    total = math.fsum(math.exp(value / temperature) for value in logits)
    best, chosen, mass = -math.inf, None, 0.0
    for token in order:
        if mass >= top_p * (1 + 1e-12):
            break
        noisy = logits[token] / temperature - math.log(-math.log(uniform_by_hand(stream, step, token)))
        best, chosen = max((best, chosen), (noisy, token))
        mass += math.exp(logits[token] / temperature) / total
    return chosen


def test_small_rows_against_scalars():
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(60, 9, generator=generator)
    logits[::3, 4] = logits[::3, 2]  # equal ones are in or out together
    keys = streams(60)
    for temperature, top_p in ((1.0, 0.5), (0.7, 0.8), (1.5, 0.999), (1.0, 1e-9)):
        places = torch.arange(60) % 7
        tokens, _ = draw(logits, keys, places, temperature, top_p, TOLERANCE)
        rows = zip(logits.tolist(), keys.tolist(), places.tolist(), strict=True)
        assert tokens.tolist() == [draw_by_hand(*row, temperature, top_p) for row in rows]


@pytest.mark.parametrize("top_p", [1e-6, 0.4, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_a_sure_draw_survives_every_error_of_logits_within_a_quarter_of_the_tolerance(temperature, top_p):
    """A coarse tolerance makes the unsure common; in half of the rows each token has a near tie."""
    generator = torch.Generator().manual_seed(2)
    tolerance, count = 0.02, 1500
    logits = 3 * torch.randn(count, 12, generator=generator)
    logits[::2, 6:] = logits[::2, :6] + 0.01 * torch.randn(count // 2, 6, generator=generator)
    keys = streams(count)
    tokens, sure = draw(logits, keys, steps(count, 0), temperature, top_p, tolerance)
    changed = torch.zeros(count, dtype=torch.bool)
    for _ in range(40):
        error = (2 * torch.rand(logits.shape, generator=generator) - 1) * tolerance / 4
        changed |= draw(logits + error, keys, steps(count, 0), temperature, top_p, 0.0)[0] != tokens
    assert not (changed & sure).any()
    assert changed.any() and sure.float().mean() > 0.4, "the trial tests nothing"


def test_at_the_real_tolerance_few_draws_are_unsure():
    logits = 3 * torch.randn(400, 3000, generator=torch.Generator().manual_seed(5))
    for temperature, top_p in ((1.0, 0.9), (0.7, 0.95), (1.0, 1.0)):
        _, sure = draw(logits, streams(400), steps(400, 0), temperature, top_p, TOLERANCE)
        assert (~sure).sum() <= 4


class LogitsAlone:
    """Takes the largest difference between rows' logits and those of each row alone, without cache or padding."""

    def __init__(self, model):
        self.model, self.worst = model, 0.0

    def __call__(self, logits, rows):
        for row, own in zip(rows, logits, strict=True):
            alone = self.model(torch.tensor([row.prompt + row.response]), use_cache=False).logits[0, -1]
            self.worst = max(self.worst, float((alone - own).abs().max()))
        return most_likely(logits, rows)


@pytest.mark.parametrize("family", ["opt", "gpt_neox", "llama", "gpt2", "qwen2"])
def test_float_error_stays_within_a_quarter_of_the_tolerance(family, tiny_causal_lm_dir):
    folder = tiny_causal_lm_dir(family)
    decoder = Decoder(load_causal_lm(folder), load_tokenizer(folder), 12)
    measured = LogitsAlone(decoder.model)
    decoder.decode([decoder.encode(turns) for turns in PROMPTS * 2], 4, measured)
    assert 0 < measured.worst < TOLERANCE / 4


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_broken_logits_are_named(value):
    logits = torch.zeros(2, 5)
    logits[1, 3] = value
    with pytest.raises(InputError, match="logits that are not finite"):
        draw(logits, streams(2), steps(2, 0), 1.0, 0.9, TOLERANCE)


@pytest.mark.parametrize("family", ["opt", "llama"])
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1e-9), (1e-6, 1.0)])
def test_a_tiny_nucleus_or_temperature_is_greedy_decoding(family, temperature, top_p, tiny_causal_lm_dir):
    folder = tiny_causal_lm_dir(family)
    model, tokenizer = load_causal_lm(folder), load_tokenizer(folder)
    decoder = Decoder(model, tokenizer, 16)
    encoded = [decoder.encode(turns) for turns in PROMPTS]
    sampler = Sampler(model, [1, 2, 3], temperature, top_p)
    assert decoder.decode(encoded, 2, sampler) == generate(model, tokenizer, PROMPTS, max_new_tokens=16)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same(tiny_causal_lm_dir):
    logits, keys = 3 * torch.randn(200, 3000, generator=torch.Generator().manual_seed(6)), streams(200)
    here, _ = draw(logits, keys, steps(200, 5), 0.8, 0.9, TOLERANCE)
    there, sure = draw(logits.cuda(), keys.cuda(), steps(200, 5).cuda(), 0.8, 0.9, TOLERANCE)
    assert (here == there.cpu())[sure.cpu()].all() and sure.sum() > 190

    folder, texts = tiny_causal_lm_dir("opt"), []
    for place in ("cpu", "cuda"):
        decoder = Decoder(load_causal_lm(folder).to(place), load_tokenizer(folder), 16)
        ids = [decoder.encode(turns) for turns in PROMPTS]
        texts.append(decoder.decode(ids, 2, Sampler(decoder.model, [1, 2, 3], 1.0, 0.9)))
    assert texts[0] == texts[1]
