"""A prompt with the responses that may be ranked: where they come from, which are kept, and the row they end as.

Every source is read into this shape, whatever its own format.
"""

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from data_preprocess.dialogue import ASSISTANT, render_prompt
from data_preprocess.ranking import RESPONSE_FROM

FROM_DATA = "data"  # where a response comes from that no model here has sampled
ID_LENGTH = 16  # hex digits: among 10 million prompts two different ones share an id with a chance of 3e-6


@dataclass(frozen=True)
class Candidates:
    """One prompt and its responses, before they are ranked."""

    prefix: list[str]  # the prompt's turns, the last of them a bare tag
    responses: list[str]
    rewards: list[float] | None  # one per response, in no order; None: not judged yet (drop_unjudged: one of them)
    meta: dict[str, Any] = field(default_factory=dict)
    origins: list[str] = field(default_factory=list)  # per response FROM_DATA or a model; empty: all from the data

    def response_from(self) -> list[str]:
        return self.origins or [FROM_DATA] * len(self.responses)


def prompt_id(prefix: list[str]) -> str:
    """A prompt's id made of its words alone, so that it outlives reordering, filtering and another run."""
    return hashlib.sha256(render_prompt(prefix).encode("utf-8")).hexdigest()[:ID_LENGTH]


def add_responses(candidates: Candidates, responses: list[str], origin: str) -> Candidates:
    """The candidates with further responses, which have no reward yet."""
    return replace(
        candidates,
        responses=[*candidates.responses, *responses],
        origins=[*candidates.response_from(), *[origin] * len(responses)],
        rewards=None,
    )


def keep_responses(candidates: Candidates, indices: list[int]) -> Candidates:
    """The candidates with these responses only, in this order."""
    origins, rewards = candidates.response_from(), candidates.rewards
    return replace(
        candidates,
        responses=[candidates.responses[i] for i in indices],
        origins=[origins[i] for i in indices],
        rewards=None if rewards is None else [rewards[i] for i in indices],
    )


def drop_unjudged(pool: list[Candidates]) -> tuple[list[Candidates], int]:
    """The prompts without the responses whose own reward is None, and the number of those responses."""
    kept, dropped = [], 0
    for candidates in pool:
        judged = [i for i, reward in enumerate(candidates.rewards or []) if reward is not None]
        if candidates.rewards is not None and len(judged) < len(candidates.responses):
            dropped += len(candidates.responses) - len(judged)
            candidates = keep_responses(candidates, judged)
        kept.append(candidates)
    return kept, dropped


def distinct(candidates: Candidates) -> Candidates:
    """Without empty responses, and of equal ones (but for white space around them) only the first."""
    first: dict[str, int] = {}
    for index, response in enumerate(candidates.responses):
        first.setdefault(response.strip(), index)
    first.pop("", None)
    return keep_responses(candidates, list(first.values()))


def commonest_len(pool: list[Candidates]) -> int:
    """The number of distinct responses, at least 2, that most prompts have (the smaller of two as frequent)."""
    counts = Counter(len(distinct(candidates).responses) for candidates in pool)
    counts = Counter({length: count for length, count in counts.items() if length >= 2})
    return min(counts, key=lambda length: (-counts[length], length), default=2)


def choose(pool: list[Candidates], ranking_len: int, seed: int) -> tuple[list[Candidates], dict[str, int]]:
    """Those prompts that can become rankings of `ranking_len`, and the number dropped by reason.

    Where a prompt has more distinct responses, which ones are kept is drawn, by the seed and the prompt's id, so
    that neither the order of the data nor other prompts decide it.
    """
    kept, dropped = [], Counter()
    for candidates in pool:
        if candidates.prefix[-1] != ASSISTANT:
            dropped["the prompt does not end where the assistant speaks"] += 1
            continue
        left = distinct(candidates)
        if len(left.responses) < ranking_len:
            dropped[f"fewer than {ranking_len} distinct responses that are not empty"] += 1
            continue
        if len(left.responses) > ranking_len:
            rng = random.Random(f"{seed} {candidates.meta['id']}")
            left = keep_responses(left, sorted(rng.sample(range(len(left.responses)), ranking_len)))
        kept.append(left)
    return kept, dict(dropped)


def training_row(candidates: Candidates) -> dict:
    """The ranking, best first; responses whose rewards tie stay in the order of the data."""
    order = sorted(range(len(candidates.responses)), key=lambda i: -candidates.rewards[i])
    ranked = keep_responses(candidates, order)
    return {**plain_row(ranked), "meta": {**ranked.meta, RESPONSE_FROM: ranked.response_from()}}


def plain_row(candidates: Candidates) -> dict:
    """A dev or test row: responses as they come, without rewards all 0; a prompt alone has one empty response."""
    responses = candidates.responses or [""]
    return {
        "prefix": [candidates.prefix] * len(responses),
        "suffix": responses,
        "reward": candidates.rewards or [0.0] * len(responses),
        "meta": candidates.meta,
    }
