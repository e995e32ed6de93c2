"""study/grid.py: the declared grids, the cells' names, and which cells a pattern chooses."""

import pytest

from data_preprocess.command import InputError
from data_preprocess.sample import SIZES
from eval_hh.estimates import budgets
from study.grid import Cell, Grid, answering_cell, cells_of, chosen
from study.paper_profiles import PROFILES, SEEDS
from study.toy_profile import TOY


def test_the_toy_grid_holds_the_equal_budget_cells_and_one_small_size():
    sizes = TOY.grid.sizes
    (budget,) = budgets(sizes)
    assert budget == {2: max(sizes), 3: 2 * max(sizes) // 3, 4: max(sizes) // 2}
    assert min(sizes) < budget[4] and len(sizes) == 4
    cells = cells_of(TOY.grid, [42])
    assert len(cells) == len(set(cells)) == 2 * 3 * 4
    assert len({cell.exp for cell in cells_of(TOY.grid, [42, 43])}) == 48


def test_the_papers_grids_are_the_papers():
    """8 sizes for OPT-1.3B, 6 for LLaMA-7B, K = 2, 3, 4, PRO and SFT, seeds 42 to 44 (paper.md, Settings)."""
    assert PROFILES["opt-1.3b"].grid.sizes == SIZES
    assert set(PROFILES["llama-7b"].grid.sizes) == {3000, 2000, 1500, 24000, 16000, 12000}
    counts = {name: len(cells_of(profile.grid, SEEDS)) for name, profile in PROFILES.items()}
    assert counts == {"opt-1.3b": 144, "llama-7b": 108}
    names = {cell.exp for profile in PROFILES.values() for cell in cells_of(profile.grid, SEEDS)}
    assert len(names) == 252  # both may lie under one root


def test_a_cells_names():
    cell = Cell("SFT", 3, 160, seed=43)
    assert (cell.stage, cell.data, cell.exp) == (1, "hh_train_len3_160", "sft_len3_160_seed43")
    pro = Cell("PRO", 3, 160, seed=43)
    assert (pro.stage, pro.result) == (3, "pro_len3_160_seed43_3.json")
    with_model = Cell("PRO", 3, 160, seed=43, model="opt-1.3b")
    assert (with_model.exp, with_model.name) == ("opt-1.3b_pro_len3_160_seed43", "pro_len3_160_seed43")
    chosen_cell = Cell("PRO", 4, 120, "max_d_matched", seed=42)
    assert chosen_cell.data == "hh_train_len4_120_max_d_matched"
    assert chosen_cell.exp == "pro_len4_120_max_d_matched_seed42"


def test_low_and_high_d_are_added_at_one_size_with_its_random_cells():
    grid = Grid(sizes=(8, 4), ranking_lens=(2, 3), algorithms=("SFT",), fixed_size=6, chosen_ranking_lens=(2,))
    plain = cells_of(grid, [1])
    added = [cell for cell in cells_of(grid, [1], fixed_size=True) if cell not in plain]
    assert [(cell.ranking_len, cell.num_prompts, cell.selection) for cell in added] == [
        (2, 6, "low_d_matched"), (2, 6, "random"), (2, 6, "max_d_matched"),
    ]  # fmt: skip
    twice = cells_of(Grid(sizes=(6,), ranking_lens=(2,), fixed_size=6, chosen_ranking_lens=(2,)), [1], fixed_size=True)
    assert len(twice) == len(set(twice)) == 2 * 3


def test_strategies_and_enlarged_subsets_are_added_with_what_they_are_compared_with():
    sizes = {"fixed_size": 6, "augmented": (4, 3), "chosen_ranking_lens": (2,)}
    grid = Grid(sizes=(8,), ranking_lens=(3,), algorithms=("PRO",), **sizes)
    names = {cell.name for cell in cells_of(grid, [1], strategies=True)}
    assert names == {"pro_len3_8_seed1", "pro_len2_6_seed1"} | {
        f"pro_len2_6_{name}_seed1" for name in ("coverage", "per_token", "max_d", "facility", "k_center")
    }
    cells = cells_of(grid, [1], augment=True)
    added = ["augment_random", "augment_diverse_matched"]
    assert [cell.name for cell in cells] == [
        "pro_len3_8_seed1", "pro_len2_4_seed1", *(f"pro_len2_7_{name}_seed1" for name in added),
    ]  # fmt: skip
    assert [cell.selection for cell in cells if cell.is_augmented] == added
    answering = answering_cell(grid, cells[-1])  # whatever the algorithm and the seed
    assert (answering.name, answering.stage) == ("sft_len2_4_seed42", 1)
    assert TOY.grid.augmented == (48, 72)  # up to the fixed size


def test_patterns_choose_cells_by_name():
    cells = cells_of(TOY.grid, [42, 43])
    assert chosen(cells, []) == cells
    found = chosen(cells, ["pro_len4_48_*", "sft_len?_240_seed43"])
    assert {cell.exp for cell in found} == {
        "pro_len4_48_seed42", "pro_len4_48_seed43", "sft_len2_240_seed43", "sft_len3_240_seed43", "sft_len4_240_seed43",
    }  # fmt: skip
    with pytest.raises(
        InputError, match=r"--only pro_len5_\*: matches no cell \(expected names like pro_len4_240_seed42"
    ):
        chosen(cells, ["pro_*", "pro_len5_*"])
