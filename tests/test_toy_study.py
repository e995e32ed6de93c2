"""study/toy/toy_study.py: the order of the tasks, and the judged comparison on the study's page."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from made_up import make_cell
from made_up_runs import test_row, write_lines, write_texts

from data_preprocess.command import InputError
from data_preprocess.subsets import BASE, ORIGIN
from eval_hh.analysis.results import load_results
from eval_hh.cells import TEST_FILES, write_cell
from eval_hh.inference.resumable_jobs import folder_identity
from eval_hh.reporting.findings import analyse
from eval_hh.reporting.sections import make_report
from study.grid import answering_cell, cells_of, fresh_replicates
from study.study_file import built_in
from study.toy.toy_study import ToyStudy

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


def test_a_subset_enlarged_from_another_number_of_prompts_is_named(study):
    """48 and 72 prompts have the names of 60 and 60: what is there is not taken for the other, done or not."""
    cells = cells_of(TOY.grid, fresh_replicates(1), augment=True)
    enlarged = next(cell for cell in cells if cell.is_augmented)
    rows = [{**test_row("a", number), "meta": {ORIGIN: BASE if number < 48 else "pool"}} for number in range(120)]
    write_lines(study.data(enlarged) / "train.json", rows)
    study.check_enlarged(cells)
    other = replace(TOY, grid=replace(TOY.grid, augmented=(60, 60)))
    expected = f"{study.data(enlarged)}: was made of 48 prompts and 72 added, the study says 60 and 60 (expected"
    with pytest.raises(InputError, match=re.escape(expected)):
        ToyStudy(study.root, other).run_grid(None, cells)


def test_the_page_s_report_judges_the_largest_equal_budget(study, tiny_reward_dir, monkeypatch, tmp_path):
    """As in the quickstart: other sizes in the first replicate only; scores are there, so that no model is loaded."""
    rows = dict.fromkeys(TEST_FILES, 4)
    shutil.copytree(tiny_reward_dir, study.reward_model)
    settings = {"reward_model": folder_identity(study.reward_model), "mixed_precision": "no"}
    every_cell = cells_of(TOY.grid, fresh_replicates(3), augment=True)
    for cell in every_cell:
        shape = (cell.ranking_len, cell.num_prompts)
        if cell.is_augmented or shape not in ((4, 120), (2, 240)) and (cell.draw != 42 or cell.ranking_len == 3):
            continue
        reward = 0.4 + 0.02 * cell.ranking_len
        made = make_cell(cell.algorithm, *shape, cell.seed, reward, rows=rows, draw=cell.draw)
        made = {**made, "exp": cell.exp}
        write_cell(study.result(cell), made)
        write_texts(tmp_path, made, lambda file, line, cell=cell: f"{cell.exp} {line}")
    for file in TEST_FILES:
        write_lines(tmp_path / "data" / "hh_test" / f"{file}.json", [test_row(file, line) for line in range(4)])
    for path in (tmp_path / "eval_hh" / "inference_res").glob("infer_main_*.json"):
        note = {"fingerprint": "x", "settings": settings}
        path.with_name(path.name + ".done.json").write_text(json.dumps(note))
    monkeypatch.setattr("eval_hh.reward_model.load_reward_model", None)
    calls = study.judgements(every_cell)
    names = [",".join(f"pro_len{k}_{m}{at}_{k}" for at in ("_seed42", "_draw43_seed43", "_draw44_seed44"))
             for k, m in ((4, 120), (2, 240))]  # fmt: skip
    assert list(calls[0].words[:4]) == ["python", "judge.py", *names] and len(calls) == 2
    study.judge(every_cell)
    results = tmp_path / "eval_hh" / "results"
    report = make_report(analyse(load_results(results), folder=results))
    section = report.split("## Judged comparisons")[1].split("\n## ")[0]
    judged = [line for line in section.splitlines() if line.startswith("| reward_model")]
    assert [line.split("|")[2].strip() for line in judged] == ["PRO K=4 M=120", "SFT K=4 M=120"]
    assert all("3 replicates: new draws and seeds, these prompts" in line and "% to " in line for line in judged)
