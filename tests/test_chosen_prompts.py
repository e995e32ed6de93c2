"""eval_hh/analysis/: made-up cells whose effects are known get the differences that were put in."""

import math

import pytest

from data_preprocess.subsets import AUGMENT_DIVERSE, AUGMENT_RANDOM, AUGMENTATIONS, RANDOM
from eval_hh.analysis.chosen_prompts import augmentation_contrasts, guides, strategy_contrasts
from eval_hh.analysis.d_at_fixed_size import CONTROL, TREATED, fixed_size_tests
from eval_hh.analysis.rules import NO_VERDICT, UNDECIDED
from eval_hh.analysis.verdicts import NOT_TESTED, verdicts
from eval_hh.cells import Setting
from eval_hh.estimates import estimate, row_draws, seed_weights
from pics.draw_chosen_prompts import draw_chosen
from tests.made_up import make_cell, make_report, results_of

MATCHED = AUGMENTATIONS[-1]
SEEDS = (42, 43, 44)


def cell(selection, size, reward, seed=42, d=5.0, algorithm="PRO", k=2, noise=0.02):
    """A cell with noise of its own, which make_cell draws from the numbers that it is given."""
    made = make_cell(algorithm, k, size, seed, reward, noise + 1e-4 * len(selection))
    record = {"score": d, "unique": 1, "total": 10 * size, "samples": size, "tokenizer": "toy"}
    made |= {"selection": selection, "diversity": record}
    return made | ({"base_prompts": 48} if selection in AUGMENTATIONS else {})


def enlarged_cells(diverse=0.55, control=0.52, base=0.5, seeds=SEEDS, selection=MATCHED, **more):
    return [
        one
        for seed in seeds
        for one in (
            cell(RANDOM, 48, base, seed, 4.0, **more),
            cell(AUGMENT_RANDOM, 120, control, seed, 5.0, **more),
            cell(selection, 120, diverse, seed, 6.0, **more),
        )
    ]


def test_an_enlarged_subset_against_its_control_and_its_base():
    found = augmentation_contrasts(results_of(enlarged_cells()))
    pairs = [(one.first.selection, one.second.selection, one.second.num_prompts) for one in found]
    assert pairs[0] == (MATCHED, AUGMENT_RANDOM, 120)
    assert set(pairs[1:]) == {(MATCHED, RANDOM, 48), (AUGMENT_RANDOM, RANDOM, 48)}
    values = {pair[:2]: one.difference.value for pair, one in zip(pairs, found, strict=True)}
    assert values[MATCHED, AUGMENT_RANDOM] == pytest.approx(0.03)
    assert values[MATCHED, RANDOM] == pytest.approx(0.05) and values[AUGMENT_RANDOM, RANDOM] == pytest.approx(0.02)
    first = found[0].first
    assert (first.num_prompts, first.diversity, first.length) == (120, 6.0, 10)
    assert first.reward == pytest.approx(0.55) and first.spread == pytest.approx(0, abs=1e-9)
    assert [guides(one) for one in found] == [True, False, False]


def test_the_interval_is_that_of_a_paired_bootstrap():
    cells = enlarged_cells()
    (one, *_) = augmentation_contrasts(results_of(cells))
    settings = [Setting("PRO", 2, 120, name) for name in (MATCHED, AUGMENT_RANDOM)]
    first, second = (results_of(cells).rewards(setting, SEEDS) for setting in settings)
    alone = estimate((first - second).mean(), (row_draws(first - second) * seed_weights(3)).sum(axis=1))
    for field in ("value", "low", "high"):
        assert getattr(one.difference, field) == pytest.approx(getattr(alone, field), abs=2e-4)


def test_holm_over_the_whole_table():
    cells = enlarged_cells(diverse=0.5205) + enlarged_cells(algorithm="SFT")
    found = augmentation_contrasts(results_of(cells))
    p = sorted((one.difference.p, index) for index, one in enumerate(found))
    expected, largest = {}, 0.0
    for rank, (value, index) in enumerate(p):  # by the definition
        largest = max(largest, min(1.0, (6 - rank) * value))
        expected[index] = largest
    assert [one.holm_p for one in found] == [expected[index] for index in range(6)]
    assert [one.algorithm for one in found] == ["PRO"] * 3 + ["SFT"] * 3


@pytest.mark.parametrize("diverse", [0.55, 0.52, 0.49])
def test_claim_three_shows_diverse_minus_random_and_one_draw_does_not_decide_it(diverse):
    cells = enlarged_cells(diverse=diverse) + enlarged_cells(algorithm="SFT")
    claim = verdicts([], [], [], augmentation_contrasts(results_of(cells)))[2]
    assert claim.claim == "D can guide data augmentation" and claim.verdict == UNDECIDED
    assert "drawn once" in claim.details[0]
    assert claim.details[2].startswith(f"SFT, K=2 M=120 ({MATCHED}), D 5.00 to 6.00: difference +3.00, 95%")
    few = augmentation_contrasts(results_of([one for one in cells if one["seed"] != 44]))
    assert verdicts([], [], [], few)[2].verdict == NO_VERDICT
    without = [one for one in cells if one["selection"] != AUGMENT_RANDOM]
    assert (
        verdicts([], [], [], augmentation_contrasts(results_of(without)))[2].verdict
        == NOT_TESTED
        == verdicts([], [])[2].verdict
    )


def test_additions_that_were_free_in_length_have_the_same_control():
    found = augmentation_contrasts(results_of(enlarged_cells(selection=AUGMENT_DIVERSE)))
    assert guides(found[0]) and found[0].first.selection == AUGMENT_DIVERSE


def test_what_does_not_belong_together_is_not_compared():
    cells = enlarged_cells()
    other_base = [{**one, "base_prompts": 60} if one["selection"] == AUGMENT_RANDOM else one for one in cells]
    found = augmentation_contrasts(results_of(other_base))  # 60 + 60 against 48 + 72, and no random 60 there
    assert [(one.first.selection, one.second.num_prompts) for one in found] == [(MATCHED, 48)]
    other_seeds = [one for one in cells if (one["selection"] == MATCHED) == (one["seed"] == 44)]
    assert {one.first.selection for one in augmentation_contrasts(results_of(other_seeds))} == {AUGMENT_RANDOM}
    assert augmentation_contrasts(results_of([])) == [] == augmentation_contrasts(results_of(cells[:1]))
    one_seed = augmentation_contrasts(results_of([one for one in cells if one["seed"] == 42]))
    assert len(one_seed) == 3 and all(one.n_seeds == 1 and math.isnan(one.first.spread) for one in one_seed)


def strategy_cells():
    rewards = {RANDOM: 0.5, "coverage": 0.53, "max_d": 0.46, "k_center": 0.5}
    return [cell(name, 120, reward, seed, 5.0) for name, reward in rewards.items() for seed in SEEDS]


def test_each_strategy_against_random():
    found = {one.first.selection: one for one in strategy_contrasts(results_of(strategy_cells()))}
    differences = {name: round(one.difference.value, 6) for name, one in found.items()}
    assert differences == {"coverage": 0.03, "max_d": -0.04, "k_center": 0.0}
    assert all(one.second.selection == RANDOM and one.n_seeds == 3 for one in found.values())
    without_d = [{**one, "diversity": None} if one["selection"] == "max_d" else one for one in strategy_cells()]
    assert {one.first.selection for one in strategy_contrasts(results_of(without_d))} == {"coverage", "k_center"}


def test_the_experiments_leave_one_another_and_the_papers_claims_alone():
    low, high = (CONTROL, 120, 0.5), (TREATED, 120, 0.51)
    varied = [cell(*one, seed, d) for one, d in ((low, 4.5), (high, 5.5)) for seed in SEEDS]
    random = [cell(RANDOM, 240, 0.6, seed, 7.0) for seed in SEEDS]
    cells = varied + random + strategy_cells()
    (alone,) = fixed_size_tests(
        results_of(varied + random + [one for one in strategy_cells() if one["selection"] == RANDOM])
    )
    assert fixed_size_tests(results_of(cells + enlarged_cells()[1:3])) == [
        alone
    ]  # D beside log M, too, is of these subsets alone
    assert {one.first.selection for one in strategy_contrasts(results_of(cells))} == {"coverage", "max_d", "k_center"}
    assert results_of(cells + enlarged_cells()).random == [Setting("PRO", 2, size) for size in (48, 120, 240)]


def test_the_report_has_a_section_for_each_experiment(tmp_path):
    cells = strategy_cells() + enlarged_cells()
    text = make_report(cells, [])
    assert "## Prompts chosen by a strategy, at equal budget" in text and "## Subsets enlarged by models" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| PRO") and "coverage M=120" in line]
    assert "53.00 ± 0.00 / 50.00 ± 0.00" in row and " +3.00 " in row and row.rstrip(" |").endswith(" 3")
    plain = make_report([one for one in cells if one["selection"] == RANDOM], [])
    assert "chosen by a strategy" not in plain and "enlarged by models" not in plain
    for number in range(2):
        draw_chosen(augmentation_contrasts(results_of(cells)), "a title", tmp_path / f"{number}.png")
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()
    with pytest.raises(ValueError, match="no prompts chosen by strategies"):
        draw_chosen([], "a title", tmp_path / "none.png")
