import math

import pytest
import torch
from scipy.stats import chisquare, kstest
from transformers import TopPLogitsWarper

from data_preprocess.command import InputError
from data_preprocess.hub import load_tokenizer
from eval_hh.inference.decoding import Decoder, generate, most_likely
from eval_hh.inference.models import load_causal_lm
from eval_hh.inference.seeded_sampling import TOLERANCE, Sampler, draw, gumbel_noise, response_seeds

PROMPTS = [
    ["<|prompter|>How do I fix a leaking tap?", "<|assistant|>"],
    ["<|prompter|>Hi", "<|assistant|>"],
    ["<|prompter|>Tell me about whales.", "<|assistant|>They sing.", "<|prompter|>Where?", "<|assistant|>"],
]


def draw_by_hand(logits, noise, temperature, top_p):
    """The contract in scalars: nucleus of tokens whose strict betters sum to less than top_p, largest noisy logit."""
    scaled = [value / temperature for value in logits]
    weights = [math.exp(value - max(scaled)) for value in scaled]
    probabilities = [weight / math.fsum(weights) for weight in weights]
    noisy = {
        token: scaled[token] + noise[token]
        for token, own in enumerate(probabilities)
        if math.fsum(p for p in probabilities if p > own) < top_p
    }
    return max(noisy, key=noisy.get)


def generators(count, seed=0):
    return [torch.Generator().manual_seed(own) for own in response_seeds([["<|assistant|>"]], count, seed)[0]]


def noise_of(logits):
    """Noise of as many generators as there are rows."""
    return gumbel_noise(generators(len(logits)), logits.shape[1])


def test_noise_is_of_each_rows_own_generator():
    for row, generator in zip(gumbel_noise(generators(3), 500), generators(3), strict=True):
        uniform = torch.rand(500, dtype=torch.float64, generator=generator).tolist()
        assert row.tolist() == pytest.approx([-math.log(-math.log(u)) for u in uniform], rel=1e-12)


def test_noise_is_gumbel_and_independent_over_rows_and_steps():
    rows = generators(30)
    noise = torch.stack([gumbel_noise(rows, 300) for _ in range(30)])
    assert kstest(noise.flatten().numpy(), "gumbel_r").pvalue > 0.01
    for dim in range(3):
        left, right = noise.narrow(dim, 0, noise.shape[dim] - 1), noise.narrow(dim, 1, noise.shape[dim] - 1)
        assert abs(torch.corrcoef(torch.stack([left.flatten(), right.flatten()]))[0, 1]) < 0.01


def test_seeds_belong_to_seed_prompt_and_sample():
    seeds = response_seeds(PROMPTS, 3, 5)
    assert len({one for group in seeds for one in group}) == 9
    assert response_seeds(PROMPTS[::-1], 3, 5) == seeds[::-1], "the order of prompts does not count"
    assert response_seeds(PROMPTS, 5, 5)[1][:3] == seeds[1], "more samples leave the first ones"
    assert not {one for group in response_seeds(PROMPTS, 3, 6) for one in group} & {one for g in seeds for one in g}
    twice = response_seeds([PROMPTS[0], PROMPTS[1], PROMPTS[0]], 3, 5)
    assert twice[:2] == seeds[:2] and not set(twice[2]) & set(seeds[0]), "a repeated prompt is sampled anew"


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
    tokens, _ = draw(logits.repeat(count, 1), gumbel_noise(generators(count), 4), temperature, top_p, TOLERANCE)
    counts = torch.bincount(tokens, minlength=4)[order].tolist()
    drawn = [(found, count * p) for found, p in zip(counts, expected, strict=True) if p]
    assert sum(found for found, _ in drawn) == count, "a token outside the nucleus was drawn"
    assert chisquare(*zip(*drawn, strict=True)).pvalue > 0.01


@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.95, 1.0])
def test_a_wide_vocabulary_against_scalars_and_against_transformers_nucleus(top_p):
    """12000 tokens, about as likely."""
    logits = torch.randn(3, 12000, generator=torch.Generator().manual_seed(3))
    noise = noise_of(logits)
    tokens, _ = draw(logits, noise, 1.3, top_p, TOLERANCE)
    rows = zip(logits.tolist(), noise.tolist(), strict=True)
    assert tokens.tolist() == [draw_sorted_by_hand(*row, 1.3, top_p) for row in rows]
    kept = TopPLogitsWarper(top_p)(None, logits / 1.3) if top_p < 1 else logits
    assert torch.isfinite(kept.gather(1, tokens.unsqueeze(1))).all()


def draw_sorted_by_hand(logits, noise, temperature, top_p):
    """draw_by_hand with a sort in place of its double loop, for a wide vocabulary without ties."""
    order = sorted(range(len(logits)), key=lambda token: -logits[token])
    total = math.fsum(math.exp(value / temperature) for value in logits)
    best, chosen, mass = -math.inf, None, 0.0
    for token in order:
        if mass >= top_p * (1 + 1e-12):
            break
        best, chosen = max((best, chosen), (logits[token] / temperature + noise[token], token))
        mass += math.exp(logits[token] / temperature) / total
    return chosen


def test_small_rows_against_scalars():
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(60, 9, generator=generator)
    logits[::3, 4] = logits[::3, 2]  # equal ones are in or out together
    noise = noise_of(logits)
    for temperature, top_p in ((1.0, 0.5), (0.7, 0.8), (1.5, 0.999), (1.0, 1e-9)):
        tokens, _ = draw(logits, noise, temperature, top_p, TOLERANCE)
        rows = zip(logits.tolist(), noise.tolist(), strict=True)
        assert tokens.tolist() == [draw_by_hand(*row, temperature, top_p) for row in rows]


@pytest.mark.parametrize("top_p", [1e-6, 0.4, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_a_sure_draw_survives_every_error_of_logits_within_a_quarter_of_the_tolerance(temperature, top_p):
    """A coarse tolerance makes the unsure common; in half of the rows each token has a near tie."""
    generator = torch.Generator().manual_seed(2)
    tolerance, count = 0.02, 1500
    logits = 3 * torch.randn(count, 12, generator=generator)
    logits[::2, 6:] = logits[::2, :6] + 0.01 * torch.randn(count // 2, 6, generator=generator)
    noise = noise_of(logits)
    tokens, sure = draw(logits, noise, temperature, top_p, tolerance)
    changed = torch.zeros(count, dtype=torch.bool)
    for _ in range(40):
        error = (2 * torch.rand(logits.shape, generator=generator) - 1) * tolerance / 4
        changed |= draw(logits + error, noise, temperature, top_p, 0.0)[0] != tokens
    assert not (changed & sure).any()
    assert changed.any() and sure.float().mean() > 0.4, "the trial tests nothing"


def test_at_the_real_tolerance_few_draws_are_unsure():
    logits = 3 * torch.randn(400, 3000, generator=torch.Generator().manual_seed(5))
    for temperature, top_p in ((1.0, 0.9), (0.7, 0.95), (1.0, 1.0)):
        _, sure = draw(logits, noise_of(logits), temperature, top_p, TOLERANCE)
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
        draw(logits, noise_of(logits), 1.0, 0.9, TOLERANCE)


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
def test_a_gpu_draws_the_same_in_batches_of_every_size(tiny_causal_lm_dir):
    logits = 3 * torch.randn(200, 3000, generator=torch.Generator().manual_seed(6))
    here, _ = draw(logits, noise_of(logits), 0.8, 0.9, TOLERANCE)
    there, sure = draw(logits.cuda(), noise_of(logits).cuda(), 0.8, 0.9, TOLERANCE)
    assert (here == there.cpu())[sure.cpu()].all() and sure.sum() > 190

    folder = tiny_causal_lm_dir("opt")
    decoder = Decoder(load_causal_lm(folder).to("cuda"), load_tokenizer(folder), 16)
    ids = [decoder.encode(turns) for turns in PROMPTS]
    texts = [decoder.decode(ids, size, Sampler(decoder.model, [1, 2, 3], 1.0, 0.9)) for size in (1, 2, 3)]
    assert texts[0] == texts[1] == texts[2]
