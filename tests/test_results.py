"""eval_hh/analysis/results.py: which cells belong together, and what a unit of analysis is."""

import copy

import numpy as np
import pytest

from data_preprocess.command import InputError
from eval_hh.cells import Replicate, Setting
from tests.made_up import diversity, make_cell, make_grid, results_of

FEW_ROWS = {"harmless_base": 30, "helpful_base": 20, "helpful_online": 20, "helpful_rejection": 30}
ONE, TWO = Setting("PRO", 2, 1500), Setting("PRO", 4, 1500)


def reward(algorithm, k, size, seed):
    return 0.3 + 0.01 * diversity(size) + 0.03 * k + 0.001 * (seed - 42)


def test_a_unit_is_a_draw_with_its_seeds():
    """Two seeds of draw 42 and one of draw 43 are two units; the first is their mean."""
    cells = [make_cell("PRO", 2, 1500, seed, 0.5 + 0.1 * n, draw=draw)
             for n, (draw, seed) in enumerate([(42, 42), (42, 43), (43, 43)])]  # fmt: skip
    results = results_of(cells)
    units = results.units(ONE)
    assert units.groups == ((Replicate(42, 42), Replicate(42, 43)), (Replicate(43, 43),))
    assert not units.one_draw and len(units) == 2
    assert results.mean_rewards(ONE, units) == pytest.approx([0.55, 0.7])
    np.testing.assert_allclose(results.rewards(ONE, units).mean(axis=1), [0.55, 0.7])


def test_seeds_of_one_draw_are_units_of_this_draw_only():
    results = results_of(make_grid(reward, seeds=(42, 43, 44)))
    units = results.units(ONE, TWO)
    assert units.one_draw and units.groups == tuple((Replicate(42, seed),) for seed in (42, 43, 44))
    assert not results.units(ONE, Setting("PRO", 2, 7)) and not results.units()


def test_only_common_replicates_count():
    cells = make_grid(reward, algorithms=("PRO",), seeds=(42, 43, 44), draws=True)
    kept = [cell for cell in cells if (cell["ranking_len"], cell["num_prompts"], cell["seed"]) != (4, 1500, 43)]
    assert results_of(kept).replicates(ONE, TWO) == [Replicate(42, 42), Replicate(44, 44)]


def test_settings_without_a_usable_d_are_left_out_and_named():
    cells = make_grid(reward, algorithms=("PRO",), seeds=(42, 43))
    cells[0]["diversity"] = None  # K=2 M=1500
    cells[2]["diversity"]["score"] += 1  # K=2 M=2000, one of two seeds
    cells[4]["diversity"]["tokenizer"] = cells[5]["diversity"]["tokenizer"] = "other"  # K=2 M=3000
    results = results_of(cells)
    assert len(results.diversity) == 9 and Setting("PRO", 2, 6000) in results.diversity
    assert [warning.split("; excluded")[0] for warning in results.warnings] == [
        "PRO K=2 M=1500: no D recorded",
        "PRO K=2 M=2000: D differs between seeds of one draw",
        "PRO K=2 M=3000: D computed with a tokenizer other than toy",
    ]


def test_d_of_a_setting_is_the_mean_over_its_draws():
    cells = [make_cell("PRO", 2, 1500, seed, 0.5, draw=seed) for seed in (42, 43)]
    cells[1]["diversity"]["score"] += 1
    results = results_of(cells)
    assert results.diversity[ONE] == pytest.approx(diversity(1500) + 0.5) and results.warnings == []
    assert [one["score"] for one in results.records(ONE, results.units(ONE))] == pytest.approx(
        [diversity(1500), diversity(1500) + 1]
    )


def test_chosen_subsets_take_no_part():
    cells = make_grid(reward)
    chosen = [{**copy.deepcopy(cell), "selection": "max_diversity"} for cell in cells]
    assert results_of(cells + chosen).random == results_of(cells).settings


def test_several_code_versions_are_named():
    cells = make_grid(reward)
    cells[0]["git"] = "a" * 40
    assert results_of(cells).warnings == [f"the cells were made by 2 code versions: {'a' * 40}, unknown"]


def test_what_must_not_be_mixed_is_refused():
    cells = make_grid(reward)
    with pytest.raises(InputError, match="2 different worlds: abc, def"):
        results_of([*cells, {**make_cell("PRO", 2, 1500, 43, 0.5), "world": "def"}])
    with pytest.raises(InputError, match="duplicate cell: PRO K=2 M=1500 draw=42 seed=42"):
        results_of([*cells, make_cell("PRO", 2, 1500, 42, 0.5)])
    mixed = results_of([*cells, make_cell("PRO", 2, 1500, 43, 0.5, rows=FEW_ROWS)])
    with pytest.raises(InputError, match="same test rows"):
        mixed.mean_rewards(ONE, mixed.units(ONE))
