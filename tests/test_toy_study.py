"""study/toy_study.py: the order of the tasks."""

import pytest

from study.grid import answering_cell, cells_of, fresh_replicates
from study.study_file import built_in
from study.toy_study import ToyStudy

TOY = built_in("toy")


@pytest.fixture
def study(tmp_path):
    return ToyStudy(tmp_path, TOY)


def test_without_enlarged_subsets_all_cells_are_one_batch_in_their_order(study):
    cells = cells_of(TOY.grid, fresh_replicates(2), fixed_size=True, strategies=True)
    (batch,) = study.batches(*study.missing(cells))
    assert list(batch) == [f"{cell.exp}_{cell.stage}" for cell in cells]


@pytest.mark.parametrize("only_augmented", [False, True])
def test_batches_make_what_the_next_ones_need_draw_by_draw(study, only_augmented):
    cells = cells_of(TOY.grid, fresh_replicates(3), augment=True)
    if only_augmented:
        cells = [cell for cell in cells if cell.is_augmented]
    batches = list(study.batches(*study.missing(cells)))
    place = {task: number for number, batch in enumerate(batches) for task in batch}
    assert len(place) == sum(map(len, batches))  # each task once
    names = {cell: f"{cell.exp}_{cell.stage}" for cell in cells}
    answering = {answering_cell(TOY.grid, cell) for cell in cells if cell.is_augmented}
    names |= {cell: f"{cell.exp}_1" for cell in answering}
    assert set(place) == {*names.values(), *(f"augmentation_draw{draw}" for draw in (42, 43, 44))}
    for cell, name in names.items():
        enlarging = place[f"augmentation_draw{cell.draw}"]
        if cell.is_augmented:
            assert place[names[answering_cell(TOY.grid, cell)]] < enlarging < place[name]
        # All of a replicate is done before the next one's cells begin, but for those that answer its prompts.
        following = [place[other] for one, other in names.items() if one.draw == cell.draw + 1 and one not in answering]
        assert not following or place[name] < min(following)


def test_what_is_done_is_not_run_again(study):
    cells = cells_of(TOY.grid, fresh_replicates(2), augment=True)
    for cell in cells:
        if cell.draw == 42:
            study.result(cell).parent.mkdir(parents=True, exist_ok=True)
            study.result(cell).write_text("{}")
    plain, enlarged = study.missing(cells)
    assert {cell.draw for cell in plain} == {cell.draw for cell in enlarged} == {43}
    assert not [task for batch in study.batches(plain, enlarged) for task in batch if "draw43" not in task]
