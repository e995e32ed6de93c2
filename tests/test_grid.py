"""study/grid.py: the declared grids, the cells' names, and which cells a pattern chooses."""

from dataclasses import replace

import pytest

from data_preprocess.command import InputError
from data_preprocess.sample import SIZES
from eval_hh.estimates import budgets
from study.grid import Cell, Grid, answering_cell, augment_flags, cells_of, chosen, fresh_replicates, sample_flags
from study.study_file import built_in

TOY = built_in("toy")
PROFILES = {name: built_in(name) for name in ("opt-1.3b", "llama-7b")}


def test_the_toy_grid_holds_the_equal_budget_cells_a_smaller_and_a_larger_size():
    sizes = TOY.grid.sizes
    (budget,) = budgets(sizes)
    assert budget == {2: 240, 3: 160, 4: 120}
    assert min(sizes) < budget[4] and max(sizes) > budget[2] and len(sizes) == 5
    cells = cells_of(TOY.grid, [(42, 42)])
    assert len(cells) == len(set(cells)) == 2 * 3 * 5
    assert len({cell.exp for cell in cells_of(TOY.grid, [(42, 42), (42, 43)])}) == 60


def test_the_papers_grids_are_the_papers():
    """8 sizes for OPT-1.3B, 6 for LLaMA-7B, K = 2, 3, 4, PRO and SFT, seeds 42 to 44 (paper.md, Settings)."""
    assert PROFILES["opt-1.3b"].grid.sizes == SIZES
    assert set(PROFILES["llama-7b"].grid.sizes) == {3000, 2000, 1500, 24000, 16000, 12000}
    counts = {name: len(cells_of(profile.grid, profile.replicates)) for name, profile in PROFILES.items()}
    assert counts == {"opt-1.3b": 144, "llama-7b": 108}
    names = {cell.exp for profile in PROFILES.values() for cell in cells_of(profile.grid, profile.replicates)}
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
    other_draw = Cell("PRO", 4, 120, "max_d_half", draw=43, seed=44)
    assert other_draw.data == "draw43/hh_train_len4_120_max_d_half"
    assert other_draw.result == "pro_len4_120_max_d_half_draw43_seed44_4.json"


def test_replicates_share_neither_draw_nor_seed_and_come_whole():
    """One after another, so that a run stopped at any cell has all cells of the replicates before."""
    assert fresh_replicates(3) == [(42, 42), (43, 43), (44, 44)]
    cells = cells_of(TOY.grid, fresh_replicates(3), fixed_size=True, strategies=True, augment=True)
    once = cells_of(TOY.grid, fresh_replicates(1), fixed_size=True, strategies=True, augment=True)
    assert [(cell.draw, cell.seed) for cell in cells] == [(n, n) for n in (42, 43, 44) for _ in once]
    assert len({cell.exp for cell in cells}) == len({cell.result for cell in cells}) == 3 * len(once)
    assert not {cell.data for cell in cells if cell.draw == 43} & {cell.data for cell in cells if cell.draw == 44}


def test_a_worlds_cells_cost_the_same():
    cells = cells_of(replace(TOY.grid, equal_budget=True), fresh_replicates(2))
    assert len(cells) == 2 * 2 * 3 and {cell.ranking_len * cell.num_prompts for cell in cells} == {480}


def test_the_calls_that_make_the_subsets_of_several_draws():
    cells = [Cell("PRO", k, size, seed=1, draw=draw) for draw in (43, 42) for size in (8, 12) for k in (2, 3)]
    cells += [Cell("SFT", 2, 8, "low_d_matched_kind_half", seed=1, draw=43), Cell("SFT", 2, 8, "max_d_half", seed=9)]
    assert [" ".join(flags) for flags in sample_flags(cells)] == [
        "3 2 --sizes 12 8",
        "2 --sizes 8 --select max_d --half",
        "3 2 --sizes 12 8 --draw 43",
        "2 --sizes 8 --select low_d --match_length --match_kind --half --draw 43",
    ]
    added = Cell("PRO", 2, 8, "augment_diverse_matched", seed=7, draw=43), Cell("SFT", 2, 8, "augment_overlap", seed=42)
    assert [" ".join(augment_flags(cell)) for cell in added] == [
        "--by diverse --match_length --seed 43", "--by overlap --seed 42",
    ]  # fmt: skip


def test_low_and_high_d_are_added_at_one_size_with_its_random_cells():
    grid = Grid(sizes=(8, 4), ranking_lens=(2, 3), algorithms=("SFT",), fixed_size=6, chosen_ranking_lens=(2,))
    for match_kind, how in ((True, "matched_kind_half"), (False, "matched_half")):
        grid = replace(grid, match_kind=match_kind)
        plain = cells_of(grid, [(42, 1)])
        added = [cell for cell in cells_of(grid, [(42, 1)], fixed_size=True) if cell not in plain]
        assert [(cell.ranking_len, cell.num_prompts, cell.selection) for cell in added] == [
            (2, 6, f"low_d_{how}"), (2, 6, "random"), (2, 6, f"max_d_{how}"),
        ]  # fmt: skip
    grid = Grid(sizes=(6,), ranking_lens=(2,), fixed_size=6, chosen_ranking_lens=(2,))
    twice = cells_of(grid, [(42, 1)], fixed_size=True)
    assert len(twice) == len(set(twice)) == 2 * 3
    assert TOY.grid.match_kind and not any(profile.grid.match_kind for profile in PROFILES.values())


def test_strategies_and_enlarged_subsets_are_added_with_what_they_are_compared_with():
    sizes = {"fixed_size": 6, "augmented": (4, 3), "chosen_ranking_lens": (2,)}
    grid = Grid(sizes=(8,), ranking_lens=(3,), algorithms=("PRO",), **sizes)
    names = {cell.name for cell in cells_of(grid, [(42, 1)], strategies=True)}
    assert names == {"pro_len3_8_seed1", "pro_len2_6_seed1"} | {
        f"pro_len2_6_{name}_half_seed1" for name in ("coverage", "per_token", "max_d", "facility", "k_center")
    }
    cells = cells_of(grid, [(43, 1)], augment=True)
    added = ["augment_random", "augment_diverse_matched", "augment_overlap"]
    assert [cell.name for cell in cells] == [
        f"pro_{name}_draw43_seed1" for name in ("len3_8", "len2_4", *(f"len2_7_{name}" for name in added))
    ]
    assert [cell.selection for cell in cells if cell.is_augmented] == added
    answering = answering_cell(grid, cells[-1])  # of its draw, whatever the algorithm and the seed
    assert (answering.name, answering.stage) == ("sft_len2_4_draw43_seed43", 1)
    assert TOY.grid.augmented == (48, 72)  # up to the fixed size


def test_patterns_choose_cells_by_name():
    cells = cells_of(TOY.grid, [(42, 42), (42, 43)])
    assert chosen(cells, []) == cells
    found = chosen(cells, ["pro_len4_48_*", "sft_len?_240_seed43"])
    assert {cell.exp for cell in found} == {
        "pro_len4_48_seed42", "pro_len4_48_seed43", "sft_len2_240_seed43", "sft_len3_240_seed43", "sft_len4_240_seed43",
    }  # fmt: skip
    with pytest.raises(
        InputError, match=r"--only pro_len5_\*: matches no cell \(expected names like pro_len4_960_seed42"
    ):
        chosen(cells, ["pro_*", "pro_len5_*"])
