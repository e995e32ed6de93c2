"""No verdict by a reward that does not put the test data's best responses above its worst; margins to its scale."""

import re

import numpy as np
import pytest
from scipy import stats

from eval_hh.analysis.contrasts import comparisons
from eval_hh.analysis.equal_budget import budget_pairs
from eval_hh.analysis.reward_scale import ModelRow, RewardScale, reward_scale
from eval_hh.analysis.rules import DID_NOT_HOLD, HELD, MARGIN, NO_VERDICT, UNDECIDED, decide
from eval_hh.analysis.verdicts import NOT_TESTED, verdicts
from eval_hh.cells import BEST_RESPONSES, WORST_RESPONSES
from eval_hh.estimates import over_replicates
from eval_hh.reporting import sections
from eval_hh.reporting.findings import analyse, as_json
from tests.made_up import ROWS, make_grid, make_row, results_of

REPLICATES = (42, 43, 44, 45)
POOLS = ("Harmless", "Helpful", "Global")


def grid(difference: float, jitter: float = 0.001) -> list[dict]:
    """K=4 minus K=2 at equal budget is `difference`, and a little else in each replicate."""
    return make_grid(
        lambda a, k, m, seed: 0.5 + difference * (k - 3) / 2 + jitter * (seed - 43.5) * (k - 3),
        seeds=REPLICATES,
        draws=True,
    )


def rows(span: float, over_floor: float | None = None, **options) -> list:
    """A base model, perhaps a floor, and a ceiling that lies so far above them."""
    floor = [] if over_floor is None else [make_row("floor", 0.4 + span - over_floor, WORST_RESPONSES, 10, **options)]
    ceiling = make_row("ceiling", 0.4 + span, BEST_RESPONSES, 9, **options)
    return [make_row("base", 0.4, seed=8, **options), *floor, ceiling]


def words(cells: list[dict], models=()) -> list[str]:
    results = results_of(cells, models=models)
    found = [one.verdict for one in verdicts(results)]
    return [found[0], *(one.verdict for one in comparisons(results, budget_pairs(results), POOLS))]


def test_the_span_is_paired_by_test_prompt():
    base, ceiling = rows(0.2)
    for pool in POOLS:
        values = ceiling.values(pool), base.values(pool)
        span = reward_scale([base, ceiling], pool).spans["base"]
        tested = stats.ttest_rel(*values)
        low, high = tested.confidence_interval()
        assert (span.difference, span.low, span.high) == pytest.approx((np.mean(values[0] - values[1]), low, high))
        assert span.p == pytest.approx(tested.pvalue) and span.n_replicates == len(values[0])


def test_the_floor_decides_where_it_is():
    """A right reward may put a base model above the test data, and one that sees but style may put it below."""
    models = rows(-0.1, over_floor=0.2)
    results = results_of(grid(0.05), models=models)
    scale = results.scale()
    assert scale.spans["base"].high < 0 < scale.spans["floor"].low and scale.can_judge
    assert words(grid(0.05), models) == words(grid(0.05)) and not results.warnings
    for span in (0.2, -0.1):
        scale = results_of(grid(0.05), models=rows(span, over_floor=0.0)).scale()
        assert not scale.can_judge and scale.spans["base"].difference == pytest.approx(span, abs=0.01)
        assert "best responses above its worst ones: ceiling minus floor is " in scale.note


def test_a_floor_of_single_responses_is_none():
    base, ceiling = rows(0.2)
    floor = ModelRow("floor", WORST_RESPONSES, ceiling.files)
    assert reward_scale([base, floor, ceiling], "Global") == reward_scale([base, ceiling], "Global")
    assert reward_scale([floor, ceiling], "Global") == RewardScale()


def test_a_single_prompt_shows_nothing_of_the_reward():
    one = {"test": 1}
    models = rows(0.2, over_floor=0.2, rows=one)
    scale = reward_scale(models, "Global")
    assert not scale.can_judge and "single test prompt" in scale.note and not scale.spans
    cells = make_grid(lambda a, k, m, seed: 0.5 + 0.05 * k + 0.001 * seed, seeds=REPLICATES, draws=True, rows=one)
    assert {one.verdict for one in verdicts(results_of(cells, models=models))[:1]} == {NO_VERDICT}
    assert {one.verdict for one in verdicts(results_of(cells))[:1]} == {HELD}


@pytest.mark.parametrize("missing", ["base", "ceiling", "both"])
def test_without_both_rows_nothing_is_known_and_nothing_changes(missing):
    models = [one for one in rows(-0.2) if one.name != missing and missing != "both"]
    models.append(make_row("another model", 0.9))
    assert reward_scale(models, "Global") == RewardScale()
    assert RewardScale().can_judge and RewardScale().margin == MARGIN and RewardScale().note == ""
    assert words(grid(0.05), models) == words(grid(0.05)) and HELD in words(grid(0.05))


@pytest.mark.parametrize("difference", [0.05, -0.05, 0.0])
@pytest.mark.parametrize("span", [-0.2, 0.0])
def test_no_word_by_a_reward_that_cannot_judge(difference, span):
    models = rows(span)
    assert set(words(grid(difference))) <= {HELD, DID_NOT_HOLD, UNDECIDED}
    assert set(words(grid(difference), models)) == {NO_VERDICT}
    results = results_of(grid(difference), models=models)
    found = verdicts(results)
    assert [one.verdict for one in found] == [NO_VERDICT, NO_VERDICT, NOT_TESTED, NOT_TESTED]
    note = results.scale().note
    assert note in results.warnings and all(note in one.details for one in found[:2])
    assert f"{100 * results.scale().spans['base'].difference:+.2f} points" in note and "120 test prompts" in note
    report = sections.make_report(analyse(results))
    why = "the reward is not shown to tell good responses from bad there"
    assert f"No verdict on Harmless, Helpful, Global: {why}" in report
    assert "**held**" not in report and "**did not hold**" not in report


def test_each_pool_is_judged_by_its_own_rows():
    models = rows(0.2)
    for entry in (models[0].files["harmless_base"], models[1].files["harmless_base"]):
        entry["reward"] = [0.5] * ROWS["harmless_base"]
    results = results_of(grid(0.05), models=models)
    found = comparisons(results, budget_pairs(results), POOLS)
    assert {one.pool for one in found if one.verdict == NO_VERDICT} == {"Harmless"}
    assert verdicts(results)[0].verdict == HELD and not results.warnings
    assert "No verdict on Harmless: the reward" in sections.make_report(analyse(results))


def test_too_small_to_matter_is_less_where_the_scale_is_small():
    cells = grid(0.0, jitter=0.003)  # its interval is about half a point to either side
    assert words(cells)[0] == DID_NOT_HOLD == words(cells, rows(0.5))[0]
    narrow = rows(0.03, noise=0.001)
    results = results_of(cells, models=narrow)
    assert results.scale().margin == pytest.approx(0.1 * results.scale().lead.low) and results.scale().margin < 0.003
    claim, line = verdicts(results)[:2]
    assert (
        claim.verdict == UNDECIDED
        and "A difference within 0.3 points is too small to matter here: 10%" in claim.details[1]
    )
    assert "within 2 points of zero" in verdicts(results_of(cells))[0].details[-1]
    assert line.verdict == verdicts(results_of(cells, models=rows(0.5)))[1].verdict == DID_NOT_HOLD  # flat to the digit


def test_a_reward_without_signal_rarely_passes():
    """It scores ceiling and floor alike up to noise; the share of 4,000 studies, within four standard errors."""
    rng = np.random.default_rng(0)
    passed = np.mean([RewardScale({"floor": over_replicates(rng.normal(0, 0.2, 60))}).can_judge for _ in range(4000)])
    assert 0.0125 < passed < 0.025 + 4 * (0.025 * 0.975 / 4000) ** 0.5


def test_a_small_true_effect_is_rarely_called_too_small():
    """At a true difference of just the margin, "did not hold" comes by chance in at most 2.5% of studies."""
    rng, scale = np.random.default_rng(1), RewardScale({"base": over_replicates([0.03, 0.031, 0.029, 0.03])})
    found = [decide(over_replicates(rng.normal(scale.margin, scale.margin, 8)), scale.margin) for _ in range(4000)]
    assert np.mean([word == DID_NOT_HOLD for word in found]) < 0.035


def test_the_spans_are_shown_and_in_the_json():
    results = results_of(grid(0.05), models=rows(0.2))
    found = analyse(results)
    line = next(one for one in sections.make_report(found).splitlines() if one.startswith("| ceiling minus base"))
    shown = [cell.strip() for cell in line.strip("|").split("|")][1:]
    for pool, text in zip(POOLS, shown, strict=True):
        span = results.scale(pool).spans["base"]
        assert text == f"{100 * span.difference:+.2f} ({100 * span.low:+.2f} to {100 * span.high:+.2f})"
        assert as_json(found)["spans"][pool]["base"]["low"] == span.low


def test_a_pool_of_one_prompt_has_no_span():
    few = {**ROWS, "harmless_base": 1}
    results = results_of(
        make_grid(
            lambda a, k, m, seed: 0.5 + 0.03 * (k - 3) + 0.001 * (seed - 43.5), seeds=REPLICATES, draws=True, rows=few
        ),
        models=rows(0.2, over_floor=0.1, rows=few),
    )
    assert results.scale("Harmless") == RewardScale(one_prompt=True) and len(results.scale().spans) == 2
    shown = sections.make_report(analyse(results))
    assert re.search(r"^\| ceiling minus floor +\| - +\| \+", shown, re.MULTILINE)
