"""Merges rows with the same prompt into one ranking: many data sets have one response, or one pair, per row."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from data_preprocess.command import InputError
from data_preprocess.preparing.candidates import Candidates, add_responses, keep_responses
from data_preprocess.preparing.votes import copeland

PAIR = [0.0, 1.0]  # sorted rewards of a pair that only says which response is better
TIED_PAIR = [0.5, 0.5]


def merge_rows(pool: Sequence[Candidates]) -> tuple[list[Candidates], str]:
    """Merges rows with the same prompt, keeping each response once; returns the prompts and a summary line.

    A response's reward is the mean over the rows that contain it. If all rows of a prompt are a PAIR or a TIED_PAIR
    that says which response is better, not scores (`Candidates.are_scores`), they are votes and rewards are Copeland
    scores: pairs won minus pairs lost, each pair decided by the majority of its rows. meta is taken from the prompt's
    first row; a prompt with a single row is unchanged.

    Raises:
        InputError: naming the line: only some rows of a prompt have rewards.
    """
    groups = by_prompt(pool)
    merged = [_merged(rows) for rows in groups]
    contradicting = sum(map(_contradict, map(_votes, groups)))
    line = f"{len(pool)} rows merged into {len(groups)} prompts"
    return merged, f"{line}, {contradicting} of them with pairs that contradict one another" if contradicting else line


def by_prompt(pool: Sequence[Candidates]) -> list[list[Candidates]]:
    """Groups rows by prompt, in the order of first rows; prompts with different system messages differ."""
    groups: dict[tuple[str, ...], list[Candidates]] = {}
    for candidates in pool:
        groups.setdefault(tuple(candidates.turns), []).append(candidates)
    return list(groups.values())


def _merged(rows: list[Candidates]) -> Candidates:
    with_responses = [row for row in rows if row.responses]
    if len(with_responses) < 2:
        return with_responses[0] if with_responses else rows[0]
    unjudged = [row for row in with_responses if row.rewards is None]
    if unjudged and len(unjudged) < len(with_responses):
        where = unjudged[0].where
        raise InputError(f"{where}: no rewards, and another row of its prompt has some (expected all or none)")
    opening, *others = with_responses
    added = [pair for row in others for pair in zip(row.responses, row.response_from(), strict=True)]
    together = add_responses(opening, *map(list, zip(*added, strict=True)))
    texts = together.responses
    first = {text.strip(): index for index, text in reversed(list(enumerate(texts)))}
    kept = keep_responses(together, sorted(first.values()))
    return kept if unjudged else replace(kept, rewards=_rewards(with_responses, kept.responses))


def _rewards(rows: list[Candidates], responses: list[str]) -> list[float]:
    places = {text.strip(): index for index, text in enumerate(responses)}
    votes = _votes(rows)
    if votes:
        return copeland(len(responses), [(places[one], places[other], vote) for one, other, vote in votes])
    given: list[list[float]] = [[] for _ in responses]
    for row in rows:
        for text, reward in zip(row.responses, row.rewards, strict=True):
            given[places[text.strip()]].append(reward)
    return list(map(fmean, given))


def _votes(rows: list[Candidates]) -> list[tuple[str, str, float]]:
    """Returns the votes of rows that are a PAIR or a TIED_PAIR, none if a row is something else, as two scores are.

    A vote is (text, other text, 1.0 if the first is better or 0.0 in a tie); rows that repeat one text have none.
    """
    pairs = [row for row in rows if row.responses]
    if not all(row.rewards and not row.are_scores and sorted(row.rewards) in (PAIR, TIED_PAIR) for row in pairs):
        return []
    votes = []
    for row in pairs:
        (one, other), (first, second) = (text.strip() for text in row.responses), row.rewards
        better, worse = (one, other) if first >= second else (other, one)
        votes.append((better, worse, float(first != second)))
    return [vote for vote in votes if vote[0] != vote[1]]


def _contradict(votes: list[tuple[str, str, float]]) -> bool:
    """Returns whether a response is better than another in one vote and worse in another."""
    return any(vote and (worse, better, vote) in votes for better, worse, vote in votes)
