"""Temperature and top-p sampling whose draws depend on a response's own seed and not on how rows are batched.

Each response has its own random generator. A row's logits still differ between batches by float error, which could
flip a near-tie: such a draw, one in thousands, is made from the row computed alone.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from data_preprocess.command import InputError
from eval_hh.inference.decoding import Row

# Float error may swap two tokens whose logits differ by less than this. Float32 logits computed in batches of different
# sizes differed by 6e-6 (OPT, 8 layers of 768) and 1.5e-5 (LLaMA, 16 layers of 512, logits up to 25); an error of a
# quarter of the tolerance is safe.
TOLERANCE = 2e-4


def response_seeds(prompts: list[list[str]], num_per_prompt: int, seed: int) -> list[list[int]]:
    """Returns the seed of each response's generator, num_per_prompt for each prompt.

    It depends on `seed`, the prompt's turns and the sample's number, but not on the prompt's position: a longer or
    reordered list keeps the samples of its prompts, and more samples keep the first ones. Only a repeated prompt has
    other seeds than its first occurrence.
    """
    seen: dict[str, int] = {}
    seeds = []
    for turns in prompts:
        text = json.dumps(turns)
        occurrence = seen[text] = seen.get(text, -1) + 1
        words = (json.dumps([seed, occurrence, sample]) + text for sample in range(num_per_prompt))
        digests = (hashlib.blake2b(word.encode(), digest_size=8).digest() for word in words)
        seeds.append([int.from_bytes(digest, "little", signed=True) for digest in digests])
    return seeds


def gumbel_noise(generators: list[torch.Generator], size: int) -> torch.Tensor:
    """Returns standard Gumbel noise, float64 [B, size], row i from generator i."""
    uniform = torch.empty(len(generators), size, dtype=torch.float64, device=generators[0].device)
    for row, generator in zip(uniform, generators, strict=True):
        row.uniform_(generator=generator)
    return -torch.log(-torch.log(uniform))


def draw(
    logits: torch.Tensor, noise: torch.Tensor, temperature: float, top_p: float, tolerance: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws one token per row from softmax(logits / temperature), restricted to its nucleus and renormalised.

    The nucleus holds each token for which the strictly more likely tokens sum to less than `top_p`, so tokens of equal
    probability are in or out together. Draws the token of the nucleus with the largest logit / temperature + noise (the
    Gumbel-max trick), which has exactly the renormalised probability.

    Args:
        logits: [B, V].
        noise: standard Gumbel [B, V].
        temperature: above 0.
        top_p: above 0, at most 1.
        tolerance: two logits may be off by this much relative to each other without changing a sure draw.

    Returns:
        (tokens int64 [B], sure bool [B]: no logits within the tolerance would have given another token).

    Raises:
        InputError: a row's largest logit is not finite.
    """
    scaled, slack = logits.double() / temperature, tolerance / temperature
    norm = scaled.logsumexp(dim=1, keepdim=True)
    if not torch.isfinite(norm).all():
        raise InputError("the model gives logits that are not finite (its numbers overflow, or its weights are broken)")
    probabilities = (scaled - norm).exp()

    def mass_above(bound: torch.Tensor) -> torch.Tensor:
        return torch.where(scaled > bound, probabilities, 0.0).sum(dim=1, keepdim=True)

    noisy = scaled + noise
    while True:
        best, places = noisy.topk(2, dim=1)
        winner = places[:, :1]
        logit = scaled.gather(1, winner)
        outside = mass_above(logit + slack) * (1 - slack) >= top_p  # of the nucleus, whatever the error
        if not outside.any():
            break
        # Tokens below one that is outside are outside too, so a few rounds suffice.
        noisy = torch.where(outside & (scaled <= logit), -torch.inf, noisy)
    inside = (mass_above(logit - slack) - probabilities.gather(1, winner)) * (1 + slack) < top_p
    return winner.squeeze(1), inside.squeeze(1) & (best[:, 0] - best[:, 1] > slack)


class Sampler:
    """Draws the next tokens of rows that are decoded together, each at its own position."""

    def __init__(self, model: PreTrainedModel, seeds: list[int], temperature: float, top_p: float):
        """`seeds` holds one per prompt, by its index in the list of prompts."""
        self.model = model
        self.generators = [torch.Generator(model.device).manual_seed(seed) for seed in seeds]
        self.temperature = temperature
        self.top_p = top_p
        # In half precision near-ties are everywhere: the noise is reproducible there, the logits are not.
        self.tolerance = TOLERANCE if model.dtype == torch.float32 else 0.0

    def __call__(self, logits: torch.Tensor, rows: list[Row]) -> torch.Tensor:
        """Returns the tokens int64 [B] of `rows` from their logits [B, V]."""
        noise = gumbel_noise([self.generators[row.number] for row in rows], logits.shape[1])
        tokens, sure = draw(logits, noise, self.temperature, self.top_p, self.tolerance)
        if self.tolerance:
            for index in (~sure).nonzero().flatten().tolist():
                alone = self._logits_alone(rows[index])
                tokens[index] = draw(alone, noise[index : index + 1], self.temperature, self.top_p, 0.0)[0][0]
        return tokens

    def _logits_alone(self, row: Row) -> torch.Tensor:
        """Returns the logits [1, V] of the row's next token, computed from this row alone."""
        ids = torch.tensor([row.prompt + row.response], device=self.model.device)
        with _one_thread():  # the number of threads, which the launcher sets, changes float sums too
            return self.model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1]


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
