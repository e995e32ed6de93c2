"""eval_hh/analysis/chosen_prompts.py: which experiments on prompt selection are compared with what."""

from dataclasses import replace

import pytest

from data_preprocess.command import InputError
from data_preprocess.subsets import AUGMENT_DIVERSE, AUGMENT_RANDOM, AUGMENTATIONS, RANDOM
from eval_hh.analysis.chosen_prompts import (
    HIGH_D,
    LOW_D,
    addition_pairs,
    enlarged_pairs,
    fixed_size_pairs,
    guided_pairs,
    strategy_pairs,
)
from eval_hh.analysis.contrasts import comparisons
from eval_hh.cells import Setting
from pics.draw_chosen_prompts import draw_chosen
from tests.made_up import make_cell, make_report, results_of

REPLICATES = (42, 43, 44)
MATCHED = AUGMENT_DIVERSE + "_matched"


def cell(selection, size, reward, seed=42, d=5.0, k=2):
    made = make_cell("PRO", k, size, seed, reward, draw=seed)
    record = {"score": d, "unique": 1, "total": 10 * size, "samples": size, "tokenizer": "toy"}
    made |= {"selection": selection, "diversity": record}
    return made | ({"base_prompts": 48} if selection in AUGMENTATIONS else {})


def enlarged_cells(selection=MATCHED):
    shapes = ((RANDOM, 48, 0.5, 4.0), (AUGMENT_RANDOM, 120, 0.52, 5.0), (selection, 120, 0.55, 6.0))
    return [cell(name, size, reward, seed, d) for seed in REPLICATES for name, size, reward, d in shapes]


def strategy_cells():
    rewards = {RANDOM: 0.5, "coverage": 0.53, "max_d": 0.46, "k_center_half": 0.5}
    return [cell(name, 120, reward, seed, 5.0) for name, reward in rewards.items() for seed in REPLICATES]


@pytest.mark.parametrize("selection", [MATCHED, AUGMENT_DIVERSE])
def test_an_enlarged_subset_against_its_control_and_its_base(selection):
    results = results_of(enlarged_cells(selection))
    diverse, control, base = (
        Setting("PRO", 2, 120, selection),
        Setting("PRO", 2, 120, AUGMENT_RANDOM),
        Setting("PRO", 2, 48),
    )
    assert addition_pairs(results) == guided_pairs(results) == [(diverse, control)]
    assert set(enlarged_pairs(results)) == {(diverse, base), (control, base)}
    found = comparisons(results, [*addition_pairs(results), *enlarged_pairs(results)])
    differences = {(one.first.setting, one.second.setting): one.difference.difference for one in found}
    assert differences[diverse, control] == pytest.approx(0.03)
    assert differences[diverse, base] == pytest.approx(0.05) and differences[control, base] == pytest.approx(0.02)
    first = found[0].first
    assert (first.diversity, first.length, first.reward) == (6.0, 10, pytest.approx(0.55))


def test_what_does_not_belong_together_is_not_compared():
    cells = enlarged_cells()
    other_base = results_of(
        [{**one, "base_prompts": 60} if one["selection"] == AUGMENT_RANDOM else one for one in cells]
    )
    assert addition_pairs(other_base) == []  # 60 + 60 against 48 + 72, and no random 60 there
    assert enlarged_pairs(other_base) == [(Setting("PRO", 2, 120, MATCHED), Setting("PRO", 2, 48))]
    other_replicates = results_of([one for one in cells if (one["selection"] == MATCHED) == (one["seed"] == 44)])
    assert addition_pairs(other_replicates) == []
    assert addition_pairs(results_of([])) == [] == enlarged_pairs(results_of(cells[:1]))


def test_each_strategy_against_random():
    results = results_of(strategy_cells())
    pairs = strategy_pairs(results)
    assert {first.selection for first, _ in pairs} == {"coverage", "max_d", "k_center_half"}
    assert all(second == replace(first, selection=RANDOM) for first, second in pairs)
    found = {one.first.setting.selection: one.difference.difference for one in comparisons(results, pairs)}
    assert found == pytest.approx({"coverage": 0.03, "max_d": -0.04, "k_center_half": 0.0}, abs=1e-12)


@pytest.mark.parametrize("ending", ["", "_kind", "_kind_half", "_half"])
def test_high_and_low_d_of_the_same_matching_are_a_pair(ending):
    cells = [cell(name + ending, 120, 0.5, seed) for name in (LOW_D, HIGH_D) for seed in REPLICATES]
    other = [cell(LOW_D + "_other", 120, 0.5)]
    results = results_of(cells + other + strategy_cells())
    assert fixed_size_pairs(results) == [
        (Setting("PRO", 2, 120, HIGH_D + ending), Setting("PRO", 2, 120, LOW_D + ending))
    ]
    assert {first.selection for first, _ in strategy_pairs(results)} == {"coverage", "max_d", "k_center_half"}


def test_the_report_has_a_section_for_each_experiment(tmp_path):
    cells = strategy_cells() + enlarged_cells() + [cell(name, 120, 0.5, 42) for name in (LOW_D, HIGH_D)]
    text = make_report(cells, [])
    assert all(
        f"## {title}" in text for title in ("Prompts chosen by a strategy", "Subsets enlarged", "D varied at one")
    )
    (row,) = [line for line in text.splitlines() if line.startswith("| ") and "coverage K=2 M=120" in line]
    assert "53.00 ± 0.00 / 50.00 ± 0.00" in row and " +3.00 " in row and "held" in row
    plain = make_report([one for one in cells if one["selection"] == RANDOM], [])
    assert "chosen by a strategy" not in plain and "enlarged by models" not in plain
    found = comparisons(results_of(cells), addition_pairs(results_of(cells)))
    for number in range(2):
        draw_chosen(found, "a title", tmp_path / f"{number}.png")
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()
    with pytest.raises(InputError, match="no such comparison"):
        draw_chosen([], "a title", tmp_path / "none.png")
