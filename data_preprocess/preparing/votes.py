"""Rewards from judgements by people or models: scores, ranks, or votes between two responses."""

import math
from collections import defaultdict
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from statistics import fmean
from typing import Any

from data_preprocess.command import InputError
from data_preprocess.records import FLOAT32_MAX

NOT_GIVEN = ("", "-", "n/a", "na", "nan", "none", "null")  # mean a missing number, in upper or lower case
BY_SIGN = ("negative", "positive")  # of a number that compares two responses, 0 for a tie
TIE = "tie"  # a preference for neither starts with it, as in "tie (both bad)"
COMBINATIONS = MEAN, COPELAND, BRADLEY_TERRY = "mean", "copeland", "bradley_terry"  # of several judgements
PRIOR = 0.1  # Bradley-Terry: precision of the strengths' normal prior, without which an unbeaten answer has no estimate
VOTE_FORMS = "[winner, loser] or [a, b, 'a' | 'b' | 'tie'], responses numbered from 0"


def copeland(n_responses: int, votes: list[tuple[int, int, float]]) -> list[float]:
    """Returns Copeland scores: pairs won minus pairs lost, each pair decided by the majority of its votes.

    Args:
        n_responses: responses of the prompt.
        votes: (a, b, preference), +1 for a, -1 for b, 0 for a tie; a pair without a majority counts for neither.
    """
    balance: dict[tuple[int, int], float] = defaultdict(float)
    for a, b, preference in votes:
        balance[min(a, b), max(a, b)] += preference if a < b else -preference
    rewards = [0.0] * n_responses
    for (a, b), votes_for_a in balance.items():
        won = (votes_for_a > 0) - (votes_for_a < 0)
        rewards[a] += won
        rewards[b] -= won
    return rewards


def bradley_terry(n_responses: int, votes: Sequence[tuple[int, int, float]]) -> list[float]:
    """Returns Bradley-Terry strengths, in logits, centred: P(a beats b) = 1 / (1 + exp(s_b - s_a)).

    Bradley and Terry (1952); a tie counts as half a win for each. The mode under a normal prior of precision PRIOR.
    Arguments as for `copeland`.
    """
    import numpy as np
    from scipy.optimize import minimize

    if not votes:
        return [0.0] * n_responses
    first, second, won = (np.array(column) for column in zip(*votes, strict=True))
    first, second, won = first.astype(int), second.astype(int), (1 + won) / 2

    def loss(strengths: np.ndarray) -> tuple[float, np.ndarray]:
        margin = strengths[first] - strengths[second]
        value = (np.logaddexp(0, -margin) * won + np.logaddexp(0, margin) * (1 - won)).sum()
        slope = 1 / (1 + np.exp(-margin)) - won
        gradient = np.bincount(first, slope, n_responses) - np.bincount(second, slope, n_responses)
        return value + PRIOR / 2 * strengths @ strengths, gradient + PRIOR * strengths

    found = minimize(loss, np.zeros(n_responses), jac=True, method="BFGS", options={"gtol": 1e-9})
    return [round(value, 9) + 0.0 for value in (found.x - found.x.mean()).tolist()]


def mean_values(names: Sequence[str], judgements: Sequence[dict[str, float]]) -> list[float]:
    """Returns the mean value of each answer over the judgements that have one."""
    return [fmean(values[name] for values in judgements if name in values) for name in names]


def values_of_ranking(ranking: Any, where: str) -> dict[str, float]:
    """Returns minus the rank of each answer of a ranking, from 1; ties share the mean of their ranks.

    Args:
        ranking: from the best on: [["b"], ["a", "c"]], ["b", "a"] or "b > a = c".
        where: names the row in errors.
    """
    listed = [group.split("=") for group in ranking.split(">")] if isinstance(ranking, str) else ranking
    groups = [group if isinstance(group, list) else [group] for group in listed] if isinstance(listed, list) else []
    names = [str(name).strip() for group in groups for name in group]
    if not names or "" in names or len(set(names)) < len(names):
        expected = "each answer once, the best first: 'b > a = c' or [['b'], ['a', 'c']]"
        raise InputError(f"{where}: ranking is {ranking!r:.60} (expected {expected})")
    values, before = {}, 0
    for group in groups:
        values |= {str(name).strip(): 0.0 - (before + (1 + len(group)) / 2) for name in group}
        before += len(group)
    return values


def is_circle(votes: Sequence[tuple[str, str, float]]) -> bool:
    """Returns whether majorities of the votes, as in `copeland`, prefer a to b, b to c and c to a, or so on."""
    balance: dict[tuple[str, str], float] = defaultdict(float)
    for a, b, preference in votes:
        balance[min(a, b), max(a, b)] += preference if a < b else -preference
    graph: dict[str, set[str]] = defaultdict(set)
    for (a, b), votes_for_a in balance.items():
        if votes_for_a:
            winner, loser = (a, b) if votes_for_a > 0 else (b, a)
            graph[loser].add(winner)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError:
        return True
    return False


def rewards_from(
    value: Any, n_responses: int, ranks: bool, where: str, drop_unrated: bool = False, may_be_votes: bool = True
) -> list[float | None]:
    """Returns one reward per response from a field of a row, None for a null value.

    Args:
        value: one number per response, or a list of votes (VOTE_FORMS).
        n_responses: responses of the row.
        ranks: the numbers are ranks, lowest is best; the reward is minus the rank.
        where: names row and field in errors.
        drop_unrated: treat texts of NOT_GIVEN and NaN as null; otherwise they are an error that names the flag.
        may_be_votes: False where `value` was put together of a value per response: a list is then no vote.
    """
    if not isinstance(value, list) or not value:
        raise InputError(f"{where} is {value!r:.40} (expected a number per response, or a list of votes)")
    if may_be_votes and all(isinstance(vote, list) for vote in value):
        return copeland(n_responses, [_vote(vote, n_responses, where) for vote in value])
    if len(value) != n_responses:
        raise InputError(f"{where}: {len(value)} values for {n_responses} responses")
    numbers = [_number_if_given(item, where, drop_unrated) for item in value]
    return [item if item is None else 0.0 - item for item in numbers] if ranks else numbers


def rewards_of_winner(value: Any, n_responses: int, names: tuple[str, ...] | None, where: str) -> list[float | None]:
    """Returns 1 for the better response and 0 for the others, 0.5 for all in a tie, and None for all without a value.

    Args:
        value: which response is better: one of the names, or a text that starts with TIE.
        n_responses: responses of the row.
        names: the value that stands for each response; BY_SIGN: the sign of a number; None: its index from 0.
        where: names row and field in errors.
    """
    names = names or tuple(map(str, range(n_responses)))
    if len(names) != n_responses:
        raise InputError(f"{where}: {n_responses} responses (expected {len(names)}: {', '.join(names)})")
    if value is None or str(value).strip().lower() in NOT_GIVEN:
        return [None] * n_responses
    if names == BY_SIGN:
        compared = number(value, where)
        name = BY_SIGN[compared > 0] if compared else TIE
    else:
        name = str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()
    if name.lower().startswith(TIE) and name not in names:
        return [0.5] * n_responses
    if name not in names:
        raise InputError(f"{where} is {value!r:.40} (expected {', '.join(names)} or {TIE})")
    return [float(name == each) for each in names]


def _number_if_given(value: Any, where: str, drop_unrated: bool) -> float | None:
    if value is None:
        return None
    not_given = value != value if isinstance(value, float) else str(value).strip().lower() in NOT_GIVEN
    if not_given and drop_unrated:
        return None
    return number(value, where, "; --drop_unrated leaves out responses whose reward is not given" if not_given else "")


def number(value: Any, where: str, hint: str = "") -> float:
    """Converts a JSON number or text to a float that fits float32; else InputError, ending in the hint."""
    try:
        result = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if not math.isfinite(result):
        raise InputError(f"{where}: {value!r:.40} (expected a finite number{hint})")
    if abs(result) > FLOAT32_MAX:
        raise InputError(f"{where}: {value!r:.40} (expected at most {FLOAT32_MAX:.4g}, of float32)")
    return result


def preference(vote: Any, where: str) -> float:
    """Returns +1 for "a", -1 for "b", 0 for "tie"."""
    if vote not in ("a", "b", "tie"):
        raise InputError(f"{where}: vote is {vote!r:.20} (expected a, b or tie)")
    return {"a": 1.0, "b": -1.0, "tie": 0.0}[vote]


def _vote(vote: list, n_responses: int, where: str) -> tuple[int, int, float]:
    a_and_b = vote[:2]
    are_indices = all(isinstance(index, int) and not isinstance(index, bool) for index in a_and_b)
    if len(vote) not in (2, 3) or not are_indices or a_and_b[0] == a_and_b[1]:
        raise InputError(f"{where}: vote {vote!r:.40} (expected {VOTE_FORMS})")
    if not all(0 <= index < n_responses for index in a_and_b):
        raise InputError(f"{where}: vote {vote!r:.40} (expected responses 0 to {n_responses - 1})")
    return a_and_b[0], a_and_b[1], preference(vote[2], where) if len(vote) == 3 else 1.0
