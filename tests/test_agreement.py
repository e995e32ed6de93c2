"""Krippendorff's alpha against his published example, intervals against simulation, and annotators who disagree."""

import math

import numpy as np
import pytest

from data_preprocess.preparing.agreement import (
    Judged,
    agreement_lines,
    alpha_interval,
    concordances,
    krippendorff_alpha,
)
from data_preprocess.preparing.votes import bradley_terry

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section D: four observers, twelve units.
OBSERVERS = [
    "1 2 3 3 2 1 4 1 2 . . .".split(),
    "1 2 3 3 2 2 4 1 2 5 . 3".split(),
    ". 3 3 3 2 3 4 2 2 5 1 .".split(),
    "1 2 3 3 2 4 4 1 2 5 1 .".split(),
]
UNITS = [[float(value) for value in unit if value != "."] for unit in zip(*OBSERVERS, strict=True)]


@pytest.mark.parametrize("metric, alpha", [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_the_published_example(metric, alpha):
    assert krippendorff_alpha(UNITS, metric) == pytest.approx(alpha, abs=0.0006)


def test_alpha_of_an_interval_scale_by_definition():
    """Observed disagreement within units over the expected one between all values, in a slow double loop."""
    values = [value for unit in UNITS if len(unit) > 1 for value in unit]
    within = sum((a - b) ** 2 / (len(unit) - 1) for unit in UNITS if len(unit) > 1 for a in unit for b in unit)
    between = sum((a - b) ** 2 for a in values for b in values)
    expected = 1 - within / len(values) / (between / (len(values) * (len(values) - 1)))
    assert krippendorff_alpha(UNITS, "interval") == pytest.approx(expected)
    assert krippendorff_alpha([[1, 1], [2, 2]], "ordinal") == 1
    assert math.isnan(krippendorff_alpha([[1, 1], [1, 1]], "ordinal"))


def test_many_values_are_rounded_with_little_loss():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=400)
    units = (truth[:, None] + rng.normal(size=(400, 3))).tolist()
    mean_square = np.var(units, axis=1, ddof=1).mean()
    assert krippendorff_alpha(units, "interval") == pytest.approx(1 - mean_square / np.var(units, ddof=1), abs=2e-3)


def ranks_of(rng: np.random.Generator, n_prompts: int, n_judges: int, noise: float) -> list[list[list[float]]]:
    quality = rng.normal(size=(n_prompts, 1, 4))
    seen = quality + noise * rng.normal(size=(n_prompts, n_judges, 4))
    return (seen.argsort(axis=2).argsort(axis=2) + 1.0).transpose(0, 2, 1).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("n_prompts", [20, 60])
@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_the_interval_covers_alpha(noise, n_prompts):
    """95% nominal, of 200 sets ranked by three people; 93% to 96% were measured on 600, and the band is 3 errors."""
    rng = np.random.default_rng(1)
    truth = krippendorff_alpha([unit for units in ranks_of(rng, 5000, 3, noise) for unit in units], "ordinal")
    intervals = [alpha_interval(ranks_of(rng, n_prompts, 3, noise), "ordinal") for _ in range(200)]
    assert 0.89 <= np.mean([low <= truth <= high for low, high in intervals]) <= 0.99


def judged(rng: np.random.Generator, n_prompts: int, noises: dict[str, float], signs: dict[str, float]) -> list[Judged]:
    prompts = []
    for _ in range(n_prompts):
        quality = rng.normal(size=4)
        seen = {name: signs[name] * quality + noise * rng.normal(size=4) for name, noise in noises.items()}
        prompts.append(
            Judged({name: dict(zip("abcd", map(float, row), strict=True)) for name, row in seen.items()}, {})
        )
    return prompts


def test_annotators_who_disagree_are_named():
    noises = dict.fromkeys(("ann", "bob", "cat", "dan", "eve"), 0.3) | {"max": 50.0}
    signs = dict.fromkeys(noises, 1) | {"eve": -1}
    lines = agreement_lines(judged(np.random.default_rng(5), 60, noises, signs), "ordinal")
    assert lines[0].startswith("annotators: 6; Krippendorff's alpha (ordinal) ") and "60 prompts" in lines[0]
    assert [line.split(":")[0] for line in lines[1:]] == [f"annotator {name}" for name in list(noises)[:4]] + [
        "warning"
    ] * 2
    assert lines[5].startswith("warning: annotator eve: ") and lines[5].endswith("is the scale reversed?)")
    assert lines[6].startswith("warning: annotator max: ") and lines[6].endswith("no better than chance")


def test_who_answers_at_random_is_called_reversed_rarely():
    """At most 2.5% of annotators without any agreement lie below zero, the error rate of that warning."""
    rng, called = np.random.default_rng(3), 0
    for _ in range(200):
        prompts = judged(rng, 20, {"ann": 0.3, "max": 1.0}, {"ann": 1, "max": 0})
        called += any("reversed" in line for line in agreement_lines(prompts, "ordinal") if "annotator max" in line)
    assert called <= 12  # 5 expected; three standard errors above


def test_concordance_by_hand():
    one = Judged({"ann": {"a": 3, "b": 2, "c": 1}, "bob": {"a": 3, "b": 1, "c": 2}, "eve": {"a": 1, "b": 2}}, {})
    # ab: ann 1, others (1 - 1) / 2; ac: 1 and 1; bc: 1 and -1.
    assert concordances([one], "ann", ["ann", "bob", "eve"]) == [0.0]
    assert agreement_lines([one], "ordinal")[1] == "annotator ann: 1 prompts shared with others, too few to compare"
    assert agreement_lines([Judged({"ann": {"a": 1}}, {})], "ordinal") == [
        "annotators: 1; no answer was judged by two of them, so agreement is not known"
    ]


def test_bradley_terry_solves_its_equations():
    """At the mode, each answer's expected wins plus the prior's pull equal its wins, in scalar math."""
    votes = [(0, 1, 1.0), (0, 1, 1.0), (0, 1, -1.0), (1, 2, 1.0), (2, 0, 0.0)]
    strengths = bradley_terry(3, votes)
    for one in range(3):
        pull = 0.1 * strengths[one]
        for a, b, vote in votes:
            if one in (a, b):
                other, won = (b, (1 + vote) / 2) if one == a else (a, (1 - vote) / 2)
                pull += 1 / (1 + math.exp(strengths[other] - strengths[one])) - won
        assert pull == pytest.approx(0, abs=1e-5)
    assert bradley_terry(2, [(0, 1, 1.0)] * 50)[0] > bradley_terry(2, [(0, 1, 1.0)])[0] > 0
