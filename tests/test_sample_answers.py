"""Sample answers on the page: rows chosen as by hand, texts only beside the scores that are theirs."""

import json

import pytest

from eval_hh.cells import TEST_FILES, Setting, file_scores
from study.page.sample_answers import chosen_rows, gather_samples, rule, shown_cells, spread_ranks
from study.toy.base_model_answers import make_base_samples
from tests.made_up import make_cell, make_grid, results_of
from tests.made_up_runs import test_row, write_lines, write_texts


def reward(*_) -> float:
    return 0.5


def answer(cell: dict):
    return lambda file, line: f"{cell['exp']} to {file} {line}"


def with_rewards(cell: dict, values: list[float]) -> dict:
    """The cell with these rewards on the first test file."""
    ids = [f"{row:05d}-aa" for row in range(len(values))]
    return {**cell, "files": {**cell["files"], TEST_FILES[0]: file_scores(ids, values, [7.0] * len(values))}}


def test_ranks_are_the_middles_of_equal_parts():
    # In order of value: indices 4 1 | 0 2 | 5 3, the two of equal value in order of index.
    assert spread_ranks([3.0, 2.0, 3.0, 9.0, 1.0, 5.0], 3) == [1, 2, 3]
    assert spread_ranks([0.0] * 9, 3) == [1, 4, 7]
    assert spread_ranks([2.0, 1.0], 3) == [1, 0] and spread_ranks([], 3) == []
    assert spread_ranks([5.0, 4.0, 3.0], 1) == [1]


def test_rows_are_chosen_by_the_difference_of_most_and_fewest_responses():
    cells = {
        ("PRO", 2): [0.5, 0.5, 0.5, 0.5, 0.5, 0.5],
        ("PRO", 4): [0.9, 0.1, 0.5, 0.7, 0.3, 0.6],  # differences .4 -.4 0 .2 -.2 .1
        ("SFT", 2): [0.5, 0.5, 0.5, 0.5, 0.5, 0.5],
        ("SFT", 4): [0.5, 0.5, 0.5, 0.5, 0.5, 0.9],  # .4 for the last: the means are .2 -.2 0 .1 -.1 .25
    }
    made = [with_rewards(make_cell(algorithm, k, 100, 42, 0.5), values) for (algorithm, k), values in cells.items()]
    shown = shown_cells(results_of(made))
    rows = chosen_rows(shown)[TEST_FILES[0]]
    assert list(rows) == [4, 3, 5]  # in order: rows 1 4 | 2 3 | 0 5
    assert list(rows.values()) == pytest.approx([-0.1, 0.1, 0.25])
    assert list(chosen_rows(shown, 1)[TEST_FILES[0]]) == [3]
    told = rule(shown)
    assert "that of K = 4, M = 100 minus that of K = 2, M = 100, for PRO and SFT; the mean of them" in told
    assert "cut into 3 equal parts" in told and "Answers are of seed 42." in told


def test_the_largest_complete_budget_is_shown_and_the_lowest_seed():
    cells = make_grid(reward, sizes=(500, 1500, 2000, 3000, 6000), seeds=(43, 42))
    chosen = {**make_cell("PRO", 4, 9000, 42, 0.5), "selection": "max_d_matched"}
    shown = shown_cells(results_of([*cells, chosen]))
    assert [(cell.setting, cell.replicate.seed) for cell in shown["PRO"]] == [
        (Setting("PRO", *shape), 42) for shape in ((2, 3000), (3, 2000), (4, 1500))
    ]
    shape = ("SFT", 3, 2000)
    shown = shown_cells(results_of([c for c in cells if (c["algorithm"], c["ranking_len"], c["num_prompts"]) != shape]))
    assert [cell.setting.num_prompts for cell in shown["SFT"]] == [6000] * 3  # no budget in full: each K's largest
    assert "4, M = 1,500 minus that of K = 2, M = 3,000, for PRO; that of K = 4, M = 6,000" in rule(shown)


def test_answers_stand_beside_their_scores(tmp_path):
    cells = make_grid(reward)
    for cell in cells:
        write_texts(tmp_path, cell, answer(cell))
    base = {TEST_FILES[1]: [{"line_index": line, "text": f"base {line}", "score": 0.1} for line in range(30)]}
    (tmp_path / "base_samples.json").write_text(json.dumps(base))
    samples, warnings = gather_samples(tmp_path, results_of(cells))
    assert warnings == []
    assert [sample.file for sample in samples.items] == [name for name in TEST_FILES for _ in range(3)]
    for sample in samples.items:
        assert sample.turns[0] == ("Human", "Hello there.") and sample.turns[1] == ("Assistant", "Hello!")
        assert len(sample.turns) == 3 and f"question {sample.line} of {sample.file}" in sample.turns[2][1]
        best, *others = sample.references
        assert (best.text, best.score) == (test_row(sample.file, 0)["suffix"][0], pytest.approx(1.0))  # gold
        expected = [("Base model", f"base {sample.line}", 0.1)] if sample.file == TEST_FILES[1] else []
        assert [(one.source, one.text, one.score) for one in others] == expected
        for algorithm, answers in sample.tuned.items():
            for one, (k, size) in zip(answers, ((2, 3000), (3, 2000), (4, 1500)), strict=True):
                cell = make_cell(algorithm, k, size, 42, 0.5)
                assert one.source == f"K = {k}, M = {size:,}"
                assert one.text == f"{cell['exp']} to {sample.file} {sample.line}"
                assert one.score == cell["files"][sample.file]["reward"][sample.line]


def test_texts_that_are_lost_or_of_another_run_are_told(tmp_path):
    cells = [cell for cell in make_grid(reward) if cell["algorithm"] == "PRO"]
    cells = [{**cell, "reward_source": "a reward model"} for cell in cells]
    names = [cell.exp for cell in shown_cells(results_of(cells))["PRO"]]
    shown = [next(cell for cell in cells if cell["exp"] == name) for name in names]
    other = {**shown[1], "files": make_cell("PRO", 3, 2000, 7, 0.9)["files"]}  # generated and scored again since
    write_texts(tmp_path, shown[0], answer(shown[0]))
    write_texts(tmp_path, other, answer(other))
    samples, warnings = gather_samples(tmp_path, results_of(cells))
    assert len(warnings) == 8 and "K=3 M=2000" in warnings[0] and "do not match the result file" in warnings[0]
    assert "no texts of PRO K=4 M=1500 draw=42 seed=42" in warnings[1] and "no such file" in warnings[1]
    texts = [[one.text is not None for one in sample.tuned["PRO"]] for sample in samples.items]
    assert texts == [[True, False, False]] * 12
    assert all(one.score is not None for sample in samples.items for one in sample.tuned["PRO"])
    assert samples.items[0].references[0].score is None  # no gold reward for real data
    nothing, warnings = gather_samples(tmp_path / "elsewhere", results_of(cells))
    assert nothing.items == () and len(warnings) == 12


def test_a_broken_file_of_base_answers_is_told(tmp_path):
    cells = make_grid(reward)
    entry = '{"harmless_base": [{"line_index": 1, "text": %s, "score": %s}]}'
    values = (('"a"', '"x"'), ('"a"', "1" + "0" * 400), ("5", "0.5"))
    broken = ('{"harmless_base": [{"line_index": 1}]}', *(entry % each for each in values))
    for text, message in (("{", "not valid JSON"), *((each, "expected {test file") for each in broken)):
        (tmp_path / "base_samples.json").write_text(text)
        assert message in gather_samples(tmp_path, results_of(cells))[1][0]


def test_the_base_model_answers_just_the_rows_shown(tmp_path, monkeypatch):
    cells = make_grid(reward)
    for file in TEST_FILES:
        rows = [test_row(file, line) for line in range(cells[0]["files"][file]["n"])]
        write_lines(tmp_path / "data" / "hh_test" / f"{file}.json", rows)
    asked = []

    def model_responses(model, max_new_tokens, batch_size):
        asked.append((model, max_new_tokens, batch_size))
        return lambda rows: [row["suffix"][0] for row in rows]

    monkeypatch.setattr("study.toy.toy_check.model_responses", model_responses)
    for cell in cells:
        write_texts(tmp_path, cell, answer(cell))
    for _ in range(2):  # the second time there is nothing to do
        made = json.loads(make_base_samples(tmp_path, results_of(cells), tmp_path / "base", 48, 100).read_text())
    assert asked == [(tmp_path / "base", 48, 100)]
    wanted = chosen_rows(shown_cells(results_of(cells)))
    assert {file: [row["line_index"] for row in rows] for file, rows in made.items()} == {
        file: sorted(rows) for file, rows in wanted.items()
    }
    assert all(row["score"] == pytest.approx(1.0) for rows in made.values() for row in rows)
    samples, warnings = gather_samples(tmp_path, results_of(cells))
    assert warnings == [] and all(len(sample.references) == 2 for sample in samples.items)
    make_base_samples(tmp_path, results_of(cells), tmp_path / "base", 48, 100, per_file=1)
    assert len(asked) == 2
