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
    equal in all pairs by chance, which leaves no variance: then both intervals hold all the pairs' own.

    Args:
        preferences: for each pair, one number a prompt: 1 the first wins, 0 the second, 0.5 a tie.
        length_differences: for each pair, the first's length minus the second's, in characters.

    Raises:
        ValueError: no pair, or one pair with fewer than two prompts.
    """
    if len(preferences) > 1:
        raw = over_replicates([np.mean(one) - TIE for one in preferences])
        judged = list(zip(preferences, length_differences, strict=True))
        controlled = over_replicates([controlled_win_rate(one, lengths) - TIE for one, lengths in judged])
        if raw.low < raw.high or min(map(len, preferences)) < 2:
            return raw, controlled
        pairs = [win_contrasts([one], [lengths]) for one, lengths in judged]
        return _around(raw, [one for one, _ in pairs]), _around(controlled, [one for _, one in pairs])
    if not preferences:
        raise ValueError("no judged pair")
    values = np.asarray(preferences[0], dtype=float)
    raw = _over_prompts(values)
    return raw, raw if _is_unanimous(values) else _controlled_over_prompts(values, length_differences[0])


def _around(mean: Contrast, pairs: Sequence[Contrast]) -> Contrast:
    """Returns the mean of pairs with the interval that holds each pair's own, over prompts."""
    low, high = min(one.low for one in pairs), max(one.high for one in pairs)
    return replace(mean, low=low, high=high, p=max(one.p for one in pairs))


def _over_prompts(preference: Sequence[float]) -> Contrast:
    """Returns one pair's win rate minus one half, with an interval over prompts."""
    values = np.asarray(preference, dtype=float)
    return _unanimous(len(values), values[0]) if _is_unanimous(values) else over_replicates(values - TIE)


def _is_unanimous(preference: np.ndarray) -> bool:
    """Returns whether one side wins every one of several prompts."""
    return len(preference) > 1 and np.ptp(preference) == 0 and preference[0] != TIE


def _unanimous(n: int, preference: float) -> Contrast:
    """Returns the win rate of a side that wins (1) or loses (0) every one of n prompts, minus one half.

    Prompts that all agree have no variance to make an interval from; the exact one of Clopper and Pearson (1934,
    Biometrika 26) has one end at (0.05 / 2)^(1 / n). p is the sign test's.
    """
    bound, p = (LEVEL / 2) ** (1 / n), min(1.0, 2 * 0.5**n)
    low, high = (bound, 1.0) if preference == 1 else (0.0, 1 - bound)
    return Contrast(preference - TIE, low - TIE, high - TIE, p, n - 1, n)


def _controlled_over_prompts(preference: np.ndarray, length_difference: Sequence[float]) -> Contrast:
    from scipy.special import stdtr

    level, error = fit_logistic(preference, length_term(length_difference))
    n, df = len(preference), max(1, len(preference) - 2)
    if error == 0:  # all prompts alike
        return Contrast(_sigmoid(level) - TIE, *[_sigmoid(level) - TIE] * 2, float(level == 0), df, n)
    half = t_half_width(error, df)
    low, high = _sigmoid(level - half) - TIE, _sigmoid(level + half) - TIE
    return Contrast(_sigmoid(level) - TIE, low, high, float(2 * stdtr(df, -abs(level) / error)), df, n)


def _sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))
