"""A prompt with the responses to rank: their origins, which ones are kept, and the output row.

All sources are read into this form.
"""

import hashlib
import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from data_preprocess.command import InputError
from data_preprocess.dialogue import ASSISTANT, SYSTEM_TAG, is_blank, render_prompt, split_system, with_system
from data_preprocess.ranking import RESPONSE_FROM, values_of
from data_preprocess.words import count_words

FROM_DATA = "data"  # origin of a response that was not sampled by a model here
COLUMNS = "columns"  # in meta: the other fields of the prompt's row
PLAIN = str | int | float | bool  # values of a column
ID_LENGTH = 16  # hex digits: the chance of a collision among 10 million prompts is 3e-6


@dataclass(frozen=True)
class Candidates:
    """One prompt and its unranked responses."""

    prefix: list[str]  # the prompt's turns, the last one a bare tag
    responses: list[str]
    rewards: list[float] | None  # one per response, unsorted; None if not judged (single ones: drop_unjudged)
    meta: dict[str, Any] = field(default_factory=dict)
    origins: list[str] = field(default_factory=list)  # FROM_DATA or a model, per response; empty: all FROM_DATA
    are_scores: bool = False  # the data gives the rewards as numbers, so 1 and 0 are no choice between two responses

    @property
    def turns(self) -> list[str]:
        """The prompt's turns after its system message, if it has one: what tells prompts apart."""
        return with_system(self.prefix, self.meta)

    @property
    def where(self) -> str:
        """The source and line of the prompt's row, or its text where it is in none."""
        if "line" in self.meta:
            return f"{self.meta['source']}:{self.meta['line']}"
        return f"prompt {render_prompt(self.prefix)!r:.60}"

    def columns(self) -> dict[str, Any]:
        """Returns the other fields of the prompt's row, where they were kept (`Mapping.keep`)."""
        return self.meta.get(COLUMNS, {})

    def response_from(self) -> list[str]:
        return self.origins or [FROM_DATA] * len(self.responses)


def plain_fields(row: dict, apart: Collection[str]) -> dict[str, Any]:
    """Returns the texts, numbers and truth values of a row, but for the fields `apart`.

    A table may have NaN for what is missing; JSON has neither it nor infinity.
    """
    own = {name: value for name, value in row.items() if name not in apart and isinstance(value, PLAIN)}
    return {name: value for name, value in own.items() if not isinstance(value, float) or math.isfinite(value)}


def prompt_id(turns: list[str]) -> str:
    """Returns an id that depends only on the prompt's text, so it survives reordering, filtering and reruns.

    Args:
        turns: the prompt, after its system message if it has one (`with_system`).
    """
    system, prefix = split_system(turns)
    text = (SYSTEM_TAG + system if system else "") + render_prompt(prefix)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:ID_LENGTH]


def responses_digest(responses: list[str]) -> str:
    """Returns a short hash of a prompt's responses, in order: a ranking says by it what it is a ranking of."""
    return hashlib.sha256("\0".join(responses).encode("utf-8")).hexdigest()[:ID_LENGTH]


def add_responses(candidates: Candidates, responses: list[str], origin: str | list[str]) -> Candidates:
    """Returns the candidates with further responses of one origin, or one each, without rewards."""
    number, origins = len(candidates.responses), [origin] * len(responses) if isinstance(origin, str) else origin
    return replace(
        candidates,
        responses=[*candidates.responses, *responses],
        origins=[*candidates.response_from(), *origins],
        rewards=None,
        meta=values_of(candidates.meta, number, [*range(number), *[None] * len(responses)]),
    )


def keep_responses(candidates: Candidates, indices: list[int]) -> Candidates:
    """Returns the candidates with only these responses, in this order."""
    origins, rewards = candidates.response_from(), candidates.rewards
    return replace(
        candidates,
        responses=[candidates.responses[i] for i in indices],
        origins=[origins[i] for i in indices],
        rewards=None if rewards is None else [rewards[i] for i in indices],
        meta=values_of(candidates.meta, len(candidates.responses), indices),
    )


def drop_unjudged(pool: list[Candidates]) -> tuple[list[Candidates], int]:
    """Drops responses whose own reward is None; returns the prompts and the number of dropped responses."""
    kept, dropped = [], 0
    for candidates in pool:
        judged = [i for i, reward in enumerate(candidates.rewards or []) if reward is not None]
        if candidates.rewards is not None and len(judged) < len(candidates.responses):
            dropped += len(candidates.responses) - len(judged)
            candidates = keep_responses(candidates, judged)
        kept.append(candidates)
    return kept, dropped


def forget_partial(pool: list[Candidates]) -> list[Candidates]:
    """Returns the prompts without rewards where a response has none: for those who judge them all."""
    return [replace(one, rewards=None) if one.rewards and None in one.rewards else one for one in pool]


def average_equal(pool: list[Candidates]) -> tuple[list[Candidates], list[str]]:
    """Gives responses equal up to surrounding white space, of which one is kept, the mean of their rewards.

    Returns:
        The prompts, and a note on how many of them have such responses with different rewards, if any has.
    """
    averaged = [_average_equal(candidates) for candidates in pool]
    changed = sum(one is not other for one, other in zip(pool, averaged, strict=True))
    note = f"{changed} prompts have equal responses with different rewards, which get the mean of these"
    return averaged, [note] if changed else []


def _average_equal(candidates: Candidates) -> Candidates:
    if not candidates.rewards:
        return candidates
    texts = [response.strip() for response in candidates.responses]
    given: dict[str, list[float]] = {}
    for text, reward in zip(texts, candidates.rewards, strict=True):
        given.setdefault(text, []).append(reward)
    if all(len(set(rewards)) == 1 for rewards in given.values()):
        return candidates
    return replace(candidates, rewards=[fmean(given[text]) for text in texts])


def distinct(candidates: Candidates) -> Candidates:
    """Drops empty responses and, of responses equal up to surrounding white space, all but the first."""
    first: dict[str, int] = {}
    for index, response in enumerate(candidates.responses):
        if not is_blank(response):
            first.setdefault(response.strip(), index)
    return keep_responses(candidates, list(first.values()))


def drop_long(pool: list[Candidates], max_words: int | None, where: str) -> tuple[list[Candidates], list[str]]:
    """Drops rows whose prompt, with its role tags, or one of whose responses has over `max_words` words.

    Returns:
        The rows, all of them if `max_words` is None; and a note on how many were dropped, if there is a limit.

    Raises:
        InputError: no row is left of those of `where`.
    """
    if max_words is None:
        return pool, []
    kept = [one for one in pool if max(map(count_words, [render_prompt(one.prefix), *one.responses])) <= max_words]
    if not kept:
        raise InputError(f"--max_words {max_words}: all {len(pool)} rows of {where} have a longer text")
    dropped = f"{len(pool) - len(kept)} of {len(pool)} rows dropped"
    return kept, [f"{where}: {dropped}: a text of more than {max_words} words"]


def commonest_len(pool: list[Candidates]) -> int:
    """Returns the most frequent number of distinct responses, at least 2 (ties go to the smaller number)."""
    counts = Counter(len(distinct(candidates).responses) for candidates in pool)
    counts = Counter({length: count for length, count in counts.items() if length >= 2})
    return min(counts, key=lambda length: (-counts[length], length), default=2)


def at_random(candidates: Candidates, ranking_len: int, rng: random.Random) -> Sequence[int]:
    """Returns the indices of random responses."""
    return rng.sample(range(len(candidates.responses)), ranking_len)


def choose(
    pool: list[Candidates],
    ranking_len: int,
    seed: int,
    pick: Callable[[Candidates, int, random.Random], Sequence[int]] = at_random,
) -> tuple[list[Candidates], dict[str, int]]:
    """Returns the prompts that can become rankings of `ranking_len`, and the number dropped by reason.

    If a prompt has more distinct responses, `pick` selects them, given a random stream seeded by the seed and the
    prompt's id, so neither the order of the data nor other prompts matter.
    """
    kept, dropped = [], Counter()
    for candidates in pool:
        if candidates.prefix[-1] != ASSISTANT:
            dropped["the prompt does not end where the assistant speaks"] += 1
            continue
        left = distinct(candidates)
        if len(left.responses) < ranking_len:
            dropped[f"fewer than {ranking_len} distinct non-empty responses"] += 1
            continue
        if len(left.responses) > ranking_len:
            rng = random.Random(f"{seed} {candidates.meta['id']}")
            left = keep_responses(left, sorted(pick(left, ranking_len, rng)))
        kept.append(left)
    return kept, dict(dropped)


def best_first(candidates: Candidates) -> Candidates:
    """Returns the responses by reward, the best first; with equal rewards, or none, in the order of the data."""
    rewards = candidates.rewards or [0.0] * len(candidates.responses)
    return keep_responses(candidates, sorted(range(len(rewards)), key=lambda i: -rewards[i]))


def training_row(candidates: Candidates) -> dict:
    """Returns the ranking, best first."""
    ranked = best_first(candidates)
    return {**plain_row(ranked), "meta": {**ranked.meta, RESPONSE_FROM: ranked.response_from()}}


def plain_row(candidates: Candidates) -> dict:
    """Returns a dev or test row: responses in data order, or one empty response; rewards are 0 if there are none."""
    responses = candidates.responses or [""]
    return {
        "prefix": [candidates.prefix] * len(responses),
        "suffix": responses,
        "reward": candidates.rewards or [0.0] * len(responses),
        "meta": candidates.meta,
    }
