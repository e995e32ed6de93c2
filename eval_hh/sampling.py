"""Sampling by temperature and top-p whose every draw is fixed by the seed, not by how rows are batched.

Library, used by annotate.py. Two things make it so. First, a row has a stream of random numbers of its own: a
number belongs to (stream, step, token), so nothing depends on which rows are computed together, or on which
device. Second, logits differ between batches by float error, which would turn a draw that is nearly a tie. Such a
draw, one in thousands, is made again from the row computed alone.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from data_preprocess.command import InputError
from eval_hh.decoding import Row

# Two tokens nearer than this, in logits, may change places by float error. Float32 logits computed in batches of
# different sizes were seen to differ by 6e-6 (OPT, 8 layers of 768) and 1.5e-5 (LLaMA, 16 layers of 512, logits up
# to 25); an error of a quarter of the tolerance is safe.
TOLERANCE = 2e-4
CANDIDATES = (1024, 8192)  # how many of the most likely tokens are looked at before all of them are sorted


def _signed(value: int) -> int:
    """The lowest 64 bits of a number as the signed number that torch.int64 holds."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value


# SplitMix64 (Steele, Lea and Flood 2014): its increment and the two multipliers of its finaliser.
INCREMENT, FIRST, SECOND = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def stream_keys(prompts: list[list[str]], num_per_prompt: int, seed: int) -> list[list[int]]:
    """Per prompt and sample the key of its random stream, a signed 64-bit number.

    A key hangs on the seed, the prompt's turns and the sample's number, not on the prompt's place in the list:
    the same prompt in a longer or reordered list keeps its samples, and more samples leave the first ones as
    they are. Only a prompt that occurs again gets other streams than at its first place.
    """
    seen: dict[str, int] = {}
    keys = []
    for turns in prompts:
        text = json.dumps(turns)
        occurrence = seen[text] = seen.get(text, -1) + 1
        words = (json.dumps([seed, occurrence, sample]) + text for sample in range(num_per_prompt))
        digests = (hashlib.blake2b(word.encode(), digest_size=8).digest() for word in words)
        keys.append([int.from_bytes(digest, "little", signed=True) for digest in digests])
    return keys


def _mix(state: torch.Tensor) -> torch.Tensor:
    """SplitMix64's output for a state; int64 arithmetic wraps, and shifts are made logical by a mask."""
    state = (state ^ (state >> 30 & (1 << 34) - 1)) * FIRST
    state = (state ^ (state >> 27 & (1 << 37) - 1)) * SECOND
    return state ^ (state >> 31 & (1 << 33) - 1)


def uniform(streams: torch.Tensor, steps: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Numbers in (0, 1), float64 [B, N], of `streams` and decoding `steps`, int64 [B], for `tokens` int64 [B, N]."""
    rows = _mix(streams + (steps + 1) * INCREMENT).unsqueeze(1)
    states = rows + (tokens + 1) * INCREMENT
    # 52 bits and a half: neither 0 nor 1 can come out, whatever the rounding.
    return ((_mix(states) >> 12 & (1 << 52) - 1).double() + 0.5) * 2.0**-52


def draw(
    logits: torch.Tensor,
    streams: torch.Tensor,
    steps: torch.Tensor,
    temperature: float,
    top_p: float,
    tolerance: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws one token per row from softmax(logits / temperature), cut to its nucleus and renormalised.

    The nucleus holds each token for which the tokens that are strictly more likely sum to less than `top_p`
    (so tokens of equal probability are in or out together). The draw is the largest of logit / temperature
    plus Gumbel noise, which has exactly the nucleus's renormalised probabilities. Where inverting the
    cumulative distribution breaks a tie by float error at each of its steps, here only the two best can.

    Args:
        logits: [B, V].
        streams: int64 [B], a key per row (see `stream_keys`).
        steps: int64 [B], each token's number in its response, from 0.
        temperature: above 0.
        top_p: above 0, at most 1.
        tolerance: an error of logits, of which two may differ by this much without changing a sure draw.

    Returns:
        (tokens int64 [B], sure bool [B]: no logits within the tolerance would have given another token).

    Raises:
        InputError: a row's largest logit is not finite.
    """
    scaled = logits.double() / temperature
    slack = tolerance / temperature
    top, tokens, mass = _nucleus_candidates(scaled, top_p, slack)
    # Too wide by the tolerance rather than too narrow; whether the winner is surely inside is asked below.
    inside = _mass_above(top, mass, top + slack) * (1 - slack) < top_p
    noise = -torch.log(-torch.log(uniform(streams, steps, tokens)))
    best, places = torch.where(inside, top + noise, -torch.inf).topk(2, dim=1)
    winner = places[:, :1]
    score = top.gather(1, winner)
    own = mass.gather(1, winner + 1) - mass.gather(1, winner) if slack else 0.0
    above = _mass_above(top, mass, score - slack) - own
    sure = (best[:, 0] - best[:, 1] > slack) & ((above * (1 + slack)).squeeze(1) < top_p)
    return tokens.gather(1, winner).squeeze(1), sure


def _nucleus_candidates(
    scaled: torch.Tensor, top_p: float, slack: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The most likely tokens, enough of them to hold every row's nucleus, also where logits err by `slack`.

    Returns:
        (logits [B, N] falling, token ids [B, N], mass [B, N + 1]: the probability of the first 0, 1, ... N).
    """
    norm = scaled.logsumexp(dim=1, keepdim=True)
    if not torch.isfinite(norm).all():
        raise InputError("the model gives logits that are not finite (its numbers overflow, or its weights are broken)")
    size = scaled.shape[1]
    for count in (*CANDIDATES, size):
        top, tokens = scaled.topk(min(count, size), dim=1)
        mass = torch.nn.functional.pad((top - norm).exp().cumsum(dim=1), (1, 0))
        last = _mass_above(top, mass, top[:, -1:] + slack) * (1 - slack)
        if (last >= top_p).all():
            break
    return top, tokens, mass


def _mass_above(top: torch.Tensor, mass: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """The probability [B, N] of the tokens whose logit, of `top` [B, M] falling, is above `bounds` [B, N]."""
    counts = torch.searchsorted(-top, (-bounds).contiguous())
    return mass.gather(1, counts)


class Sampler:
    """Draws the next token of rows that are decoded together, wherever each of them is in its response."""

    def __init__(self, model: PreTrainedModel, streams: list[int], temperature: float, top_p: float):
        """`streams` holds a key for each prompt that is decoded, by its number in the list of prompts."""
        self.model = model
        self.streams = streams
        self.temperature = temperature
        self.top_p = top_p
        # In half precision near ties are everywhere: there the draws are the same, the logits are not.
        self.tolerance = TOLERANCE if model.dtype == torch.float32 else 0.0

    def __call__(self, logits: torch.Tensor, rows: list[Row]) -> torch.Tensor:
        """Tokens int64 [B] for `rows`, from their logits [B, V]."""
        tokens, sure = self._draw(logits, rows, self.tolerance)
        if self.tolerance:
            for index in (~sure).nonzero().flatten().tolist():
                tokens[index] = self._draw_alone(rows[index])
        return tokens

    def _draw(self, logits: torch.Tensor, rows: list[Row], tolerance: float) -> tuple[torch.Tensor, torch.Tensor]:
        keys = [(self.streams[row.number], len(row.response)) for row in rows]
        streams, steps = torch.tensor(keys, device=logits.device).unbind(dim=1)
        return draw(logits, streams, steps, self.temperature, self.top_p, tolerance)

    def _draw_alone(self, row: Row) -> torch.Tensor:
        """The row's draw, of one token, from logits that depend on its own tokens alone."""
        ids = torch.tensor([row.prompt + row.response], device=self.model.device)
        with _one_thread():  # the number of threads, which the launcher sets, changes float sums as well
            logits = self.model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1]
        return self._draw(logits, [row], 0.0)[0][0]


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
