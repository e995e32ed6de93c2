"""Agreement of several annotators: Krippendorff's alpha, and each annotator against the others.

Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011). The intervals are over prompts, the independent
units: that of alpha by a jackknife of whole prompts, those of an annotator by Student's t.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.sparse import csr_array

MAX_VALUES = 100  # distinct values of one scale; more are rounded to as many steps
GROUPS = 200  # of prompts, at most; each is left out once for the interval of alpha
CONFIDENCE = 0.95
FEWEST = 20  # prompts below which no interval is given: at 10 that of alpha covers only 89 to 94%


def name_key(name: str) -> str:
    """Returns what two spellings of one name have in common: letters in upper or lower case, accents apart or not."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


@dataclass(frozen=True)
class Judged:
    """All judgements of one prompt, by annotator: a value per answer, or a preference (-1 to 1) per pair of answers."""

    values: dict[str, dict[str, float]]
    pairs: dict[str, dict[tuple[str, str], float]]

    def units(self) -> list[list[float]]:
        """Returns the values that different annotators gave to the same answer or pair, where there are two or more."""
        units: dict[object, list[float]] = defaultdict(list)
        for given in [*self.values.values(), *self.pairs.values()]:
            for name, value in given.items():
                units[name].append(value)
        return [unit for unit in units.values() if len(unit) > 1]

    def preferences(self, annotator: str) -> dict[tuple[str, str], float]:
        """Returns an annotator's preference for the first answer of each pair: 1, 0 or -1."""
        values = self.values.get(annotator, {})
        implied = {pair: float(np.sign(values[pair[0]] - values[pair[1]])) for pair in combinations(sorted(values), 2)}
        return implied | self.pairs.get(annotator, {})


def krippendorff_alpha(units: Sequence[Sequence[float]], metric: str) -> float:
    """Returns alpha = 1 - observed / expected disagreement; nan where all values are equal or no unit has two.

    Args:
        units: the values that each unit was given, in any order; units with one value do not count.
        metric: squared difference of two values, "nominal", "ordinal" or "interval".
    """
    values, coincidences = _coincidences([units], metric)
    return float(_alphas(coincidences.sum(axis=0)[None], values, metric)[0])


def alpha_interval(prompts: Sequence[Sequence[Sequence[float]]], metric: str) -> tuple[float, float]:
    """Returns the 95% interval of alpha: Student's, with the jackknife's standard error over prompts.

    Each prompt, or each of GROUPS groups of prompts, is left out in turn (Efron and Tibshirani 1993, chapter 11). nan
    where alpha is not defined without one of them.

    Args:
        prompts: at least two, each a list of units as in `krippendorff_alpha`.
        metric: as there.
    """
    from scipy.stats import t

    values, coincidences = _coincidences(prompts, metric)
    count = min(GROUPS, len(prompts))
    places = np.arange(len(prompts))
    parts = csr_array((np.ones(len(prompts)), (places % count, places))) @ coincidences
    parts, total = parts.toarray(), coincidences.sum(axis=0)
    alpha, without = _alphas(total[None], values, metric)[0], _alphas(total - parts, values, metric)
    error = np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum())
    half = t.ppf((1 + CONFIDENCE) / 2, count - 1) * error
    return float(alpha - half), float(min(alpha + half, 1))


def _coincidences(prompts: Sequence[Sequence[Sequence[float]]], metric: str) -> tuple[np.ndarray, csr_array]:
    """Returns (the V distinct values, ascending; each prompt's coincidence matrix, flat: [prompts, V * V])."""
    every = np.array([value for units in prompts for unit in units if len(unit) > 1 for value in unit])
    values = np.unique(every)
    if len(values) > MAX_VALUES and metric == "interval":
        values = np.linspace(values[0], values[-1], MAX_VALUES)
    rows, columns, counts = [], [], []
    for prompt, units in enumerate(prompts):
        for unit in units:
            if len(unit) < 2:
                continue
            places = _nearest(values, unit)
            first, second = (part.ravel() for part in np.meshgrid(places, places))
            different = ~np.eye(len(unit), dtype=bool).ravel()
            columns += (first * len(values) + second)[different].tolist()
            counts += [1 / (len(unit) - 1)] * int(different.sum())
            rows += [prompt] * int(different.sum())
    return values, csr_array((counts, (rows, columns)), shape=(len(prompts), len(values) ** 2))


def _nearest(values: np.ndarray, unit: Sequence[float]) -> np.ndarray:
    """Returns the place of the value nearest to each of a unit's."""
    right = np.clip(np.searchsorted(values, unit), 1, max(len(values) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(values) - 1)
    return np.where(np.abs(values[right] - unit) < np.abs(values[left] - unit), right, left)


def _alphas(coincidences: np.ndarray, values: np.ndarray, metric: str) -> np.ndarray:
    """Returns alpha of each flat coincidence matrix, [rows, V * V]: [rows]."""
    alphas = []
    for row in coincidences:
        table = row.reshape(len(values), len(values))
        totals = table.sum(axis=0)
        distance = _distances(values, totals, metric)
        expected = float(totals @ distance @ totals)
        observed = float((table * distance).sum())
        alphas.append(1 - (totals.sum() - 1) * observed / expected if expected > 0 else np.nan)
    return np.array(alphas)


def _distances(values: np.ndarray, totals: np.ndarray, metric: str) -> np.ndarray:
    """Returns the squared difference of every two values: [V, V]."""
    if metric == "ordinal":  # (number of values from one to the other, half of the two themselves)^2
        values = np.cumsum(totals) - totals / 2
    elif metric == "nominal":
        return 1.0 - np.eye(len(values))
    return (values[:, None] - values) ** 2


def agreement_lines(prompts: Sequence[Judged], metric: str) -> list[str]:
    """Returns lines on alpha and on each annotator against the others, with warnings about those who disagree."""
    names = sorted({name for one in prompts for name in [*one.values, *one.pairs]})
    shared = [units for one in prompts if (units := one.units())]
    if len(names) < 2 or not shared:
        return [f"annotators: {len(names)}; no answer was judged by two of them, so agreement is not known"]
    alpha = krippendorff_alpha([unit for units in shared for unit in units], metric)
    between = (
        _interval_text(*alpha_interval(shared, metric)) if len(shared) >= FEWEST else "too few prompts for an interval"
    )
    head = f"annotators: {len(names)}; Krippendorff's alpha ({metric}) {alpha:.2f} ({between}; {len(shared)} prompts)"
    return [head, *(line for name in names for line in _against_others(prompts, name, names))]


def _interval_text(low: float, high: float) -> str:
    return f"95% interval {low:.2f} to {high:.2f}"


def concordances(prompts: Sequence[Judged], name: str, names: Sequence[str]) -> list[float]:
    """Returns, for each prompt that an annotator and others judged, the mean over pairs of answers of the product of
    the annotator's preference and the others' mean preference, from -1 to 1; 0 is expected by chance."""
    found = []
    for one in prompts:
        own = one.preferences(name)
        others = [one.preferences(other) for other in names if other != name]
        products = []
        for pair, preferred in own.items():
            theirs = [other[pair] for other in others if pair in other]
            if theirs:
                products.append(preferred * float(np.mean(theirs)))
        if products:
            found.append(float(np.mean(products)))
    return found


def _against_others(prompts: Sequence[Judged], name: str, names: Sequence[str]) -> list[str]:
    from scipy.stats import t

    found = concordances(prompts, name, names)
    if len(found) < FEWEST:
        return [f"annotator {name}: {len(found)} prompts shared with others, too few to compare"]
    mean = float(np.mean(found))
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(found) - 1) * np.std(found, ddof=1) / np.sqrt(len(found)))
    low, high = mean - half, mean + half
    text = (
        f"annotator {name}: agreement with the others {mean:+.2f} ({_interval_text(low, high)}; {len(found)} prompts)"
    )
    if high < 0:
        return [f"warning: {text}: orders against them (is the scale reversed?)"]
    return [f"warning: {text}: no better than chance" if low <= 0 else text]
