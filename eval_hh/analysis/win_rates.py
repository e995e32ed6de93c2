"""Win rates of pairwise judgements, raw and length-controlled, with intervals over replicates or over prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from eval_hh.estimates import LEVEL, Contrast, over_replicates, t_half_width

TIE = 0.5  # the preference for neither
# Keeps the fit finite where one side wins everywhere; with 40 prompts it moves a win rate of 0.7 by less than 0.001.
RIDGE = 0.02
MAX_STEPS = 100
FEWEST_PROMPTS = 20  # judged in each pair: with 5 or 10 the regression's 95% interval may cover the truth in 88% only


def length_term(length_difference: Sequence[float]) -> np.ndarray:
    """Returns tanh(difference / its standard deviation) [n], AlpacaEval 2's; zeros where all differences are equal."""
    difference = np.asarray(length_difference, dtype=float)
    spread = difference.std()
    return np.tanh(difference / spread) if spread > 0 else np.zeros_like(difference)


def fit_logistic(preference: Sequence[float], term: np.ndarray) -> tuple[float, float]:
    """Returns (level, its standard error) of logit P(first wins) = level + slope * term, by Newton's method.

    The term is that of lengths in Dubois et al. (2024, arXiv 2404.04475), whose third term, a difficulty of each
    prompt, takes many models and is left out. A tie counts as half a win. The error is the sandwich's (White, 1982,
    Econometrica 50), which needs no variance of ties.

    Args:
        preference: 1 where the first wins, 0 where the second does, 0.5 for a tie [n].
        term: [n].
    """
    y, design = np.asarray(preference, dtype=float), np.stack([np.ones(len(term)), term], axis=1)
    coefficients = np.zeros(2)
    for _ in range(MAX_STEPS):
        p = 1 / (1 + np.exp(-design @ coefficients))
        gradient = design.T @ (y - p) - RIDGE * coefficients
        curvature = (design * (p * (1 - p))[:, None]).T @ design + RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        coefficients += np.clip(step, -2, 2)  # a full step may overshoot where one side wins nearly everywhere
        if np.abs(step).max() < 1e-10:
            break
    scores = design * (y - p)[:, None]
    bread = np.linalg.inv(curvature)
    variance = bread @ (scores.T @ scores) @ bread * len(y) / max(1, len(y) - 2)
    return float(coefficients[0]), float(variance[0, 0]) ** 0.5


def controlled_win_rate(preference: Sequence[float], length_difference: Sequence[float]) -> float:
    """Returns the win rate of the first at equal lengths, from 0 to 1; arguments as for `win_contrasts`."""
    level, _ = fit_logistic(preference, length_term(length_difference))
    return _sigmoid(level)


def win_contrasts(
    preferences: Sequence[Sequence[float]], length_differences: Sequence[Sequence[float]]
) -> tuple[Contrast, Contrast]:
    """Returns (win rate, length-controlled win rate) of the first over the second, each minus one half.

    With two or more pairs of models, replicates, the unit is the pair: new draws and seeds, these prompts. With one, it
    is the prompt: these two models, new prompts; `n_replicates` then counts prompts. Win rates of few prompts may be
    equal in all pairs by chance, which leaves no variance: then both intervals hold all the pairs' own. The interval at
    equal length holds every rate where a pair has fewer than FEWEST_PROMPTS, unless all prompts agree.

    Args:
        preferences: for each pair, one number a prompt: 1 the first wins, 0 the second, 0.5 a tie.
        length_differences: for each pair, the first's length minus the second's, in characters.

    Raises:
        ValueError: no pair, or a pair without prompts.
    """
    if not preferences or min(map(len, preferences)) < 1:
        raise ValueError("no judged pair, or one without prompts")
    judged = [
        (np.asarray(one, dtype=float), lengths) for one, lengths in zip(preferences, length_differences, strict=True)
    ]
    raw, controlled = _over_pairs(judged) if len(judged) > 1 else _over_prompts(*judged[0])
    is_enough = min(len(one) for one, _ in judged) >= FEWEST_PROMPTS
    is_enough |= _is_unanimous(np.concatenate([one for one, _ in judged]))
    return raw, controlled if is_enough else replace(controlled, low=-TIE, high=1 - TIE, p=1.0)


def _over_pairs(judged: Sequence[tuple[np.ndarray, Sequence[float]]]) -> tuple[Contrast, Contrast]:
    """Returns both contrasts of several pairs, with intervals over pairs."""
    raw = over_replicates([one.mean() - TIE for one, _ in judged])
    controlled = over_replicates([controlled_win_rate(*pair) - TIE for pair in judged])
    if raw.low < raw.high:
        return raw, controlled
    pairs = [_over_prompts(*pair) for pair in judged]
    return _around(raw, [one for one, _ in pairs]), _around(controlled, [one for _, one in pairs])


def _around(mean: Contrast, pairs: Sequence[Contrast]) -> Contrast:
    """Returns the mean of pairs with the interval that holds each pair's own, over prompts."""
    low, high = min(one.low for one in pairs), max(one.high for one in pairs)
    return replace(mean, low=low, high=high, p=max(one.p for one in pairs))


def _over_prompts(preference: np.ndarray, length_difference: Sequence[float]) -> tuple[Contrast, Contrast]:
    """Returns both contrasts of one pair, with intervals over prompts."""
    if _is_unanimous(preference):
        raw = _unanimous(len(preference), preference[0])
        return raw, raw
    return over_replicates(preference - TIE), _controlled_over_prompts(preference, length_difference)


def _is_unanimous(preference: np.ndarray) -> bool:
    """Returns whether all prompts have one preference."""
    return np.ptp(preference) == 0


def _unanimous(n: int, preference: float) -> Contrast:
    """Returns the win rate, minus one half, of a side that every one of n prompts prefers equally, from 0 to 1.

    Prompts that all agree have no variance to make an interval from. Of Clopper and Pearson (1934, Biometrika 26),
    (0.05 / 2)^(1 / n) is an exact lower bound of the share of such prompts; the others may all go either way. p is the
    sign test's where one side wins them all, else 1.
    """
    bound = (LEVEL / 2) ** (1 / n)
    low, high = bound * preference, 1 - bound * (1 - preference)
    p = min(1.0, 2 * 0.5**n) if preference in (0, 1) else 1.0
    return Contrast(preference - TIE, low - TIE, high - TIE, p, max(1, n - 1), n)


def _controlled_over_prompts(preference: np.ndarray, length_difference: Sequence[float]) -> Contrast:
    from scipy.special import stdtr

    level, error = fit_logistic(preference, length_term(length_difference))
    n, df = len(preference), max(1, len(preference) - 2)
    half = t_half_width(error, df)
    low, high = _sigmoid(level - half) - TIE, _sigmoid(level + half) - TIE
    return Contrast(_sigmoid(level) - TIE, low, high, float(2 * stdtr(df, -abs(level) / error)), df, n)


def _sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))
