"""eval_hh/cells.py: one result file is checked field by field, and a folder is never mixed silently."""

import copy
import json
import lzma
import re
from pathlib import Path
from random import Random

import numpy as np
import pytest
from made_up import evaluation, results_of
from made_up import make_cell as made_up_cell

from data_preprocess.command import InputError
from eval_hh.analysis.results import load_results
from eval_hh.cells import TEST_FILES, file_scores, load_cell, pooled, pools_of, validate_cell, write_cell
from eval_hh.reporting.findings import analyse
from eval_hh.reporting.sections import make_report

# Rewards by hand, a different number of rows per file: harmless 1, helpful 2 + 1 + 3.
REWARDS = {
    "harmless_base": [0.9],
    "helpful_base": [0.1, 0.2],
    "helpful_online": [0.6],
    "helpful_rejection": [0.3, 0.4, 0.5],
}

RESPONSES = {"score": 4.0, "unique": 226, "total": 800, "samples": 200}  # of 100 prompts with two each


def make_cell(**changes) -> dict:
    cell = {
        "schema": 2,
        "profile": "toy",
        "algorithm": "PRO",
        "ranking_len": 2,
        "stage": 2,
        "num_prompts": 100,
        "seed": 42,
        "exp": "toy_pro",
        "data": "hh_train_len2_100",
        "diversity": {"score": 5.0, "unique": 50, "total": 100, "samples": 100, "tokenizer": "toy"},
        "selection": "random",
        "reward_source": "gold",
        "world": "abc",
        "config": {"seed": changes.get("seed", 42)},
        "git": None,
        "versions": {"python": "3"},
        "evaluation": evaluation(),
        "launch": {"num_processes": 1},
        "data_sha256": None,
        "files": {
            file: file_scores(list(range(len(values))), values, [10.0] * len(values))
            for file, values in REWARDS.items()
        },
    }
    if changes.get("num_prompts"):
        cell["diversity"]["samples"] = changes["num_prompts"]
    return {**cell, **changes}


def test_a_written_cell_is_read_back_unchanged(tmp_path):
    cell = make_cell()
    write_cell(tmp_path / "a.json", cell)
    assert load_cell(tmp_path / "a.json") == cell
    assert cell["files"]["helpful_base"]["mean"] == {"reward": pytest.approx(0.15), "bleu": 10.0}
    # Two rows, 0.1 and 0.2: a draw of two is either one twice with chance 1/4 each, so the interval is the whole range.
    assert cell["files"]["helpful_base"]["interval"] == [0.1, 0.2]


def test_a_cell_may_say_its_draw_and_the_diversity_of_its_responses(tmp_path):
    cell = make_cell(draw=0)
    cell["diversity"]["responses"] = RESPONSES
    write_cell(tmp_path / "a.json", cell)
    assert load_cell(tmp_path / "a.json") == cell
    best = {**cell, "algorithm": "SFT", "stage": 1}  # trains on one per prompt
    with pytest.raises(InputError, match="diversity.responses.samples: 200 responses .expected 100"):
        write_cell(tmp_path / "b.json", best)


def test_pools_are_means_over_samples_not_over_files():
    cell = make_cell()
    assert pooled(cell["files"], "Harmless").tolist() == [0.9]
    assert pooled(cell["files"], "Helpful").tolist() == [0.1, 0.2, 0.6, 0.3, 0.4, 0.5]
    assert pooled(cell["files"], "Helpful").mean() == pytest.approx(2.1 / 6)  # a mean of file means would be 0.3833
    assert pooled(cell["files"], "Global").mean() == pytest.approx(3.0 / 7)
    assert pooled(cell["files"], "Global", "bleu").tolist() == [10.0] * 7


def test_pooled_rows_come_in_row_id_order_whatever_the_files_order():
    cell = make_cell()
    entry = cell["files"]["helpful_rejection"]
    entry.update(row_id=[7, 3, 5], reward=[0.7, 0.3, 0.5], extra={"reward_model": [0.07, 0.03, 0.05]})
    assert pooled(cell["files"], "Helpful")[3:].tolist() == [0.3, 0.5, 0.7]
    for file in TEST_FILES[:3]:
        cell["files"][file]["extra"] = {"reward_model": cell["files"][file]["reward"]}
    assert pooled(cell["files"], "Global", "reward_model")[4:].tolist() == [0.03, 0.05, 0.07]


def set_at(cell: dict, path: str, value: object) -> None:
    *parents, last = path.split(".")
    for part in parents:
        cell = cell[part]
    if value is KeyError:
        del cell[last]
    else:
        cell[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("seed", KeyError, "seed: missing"),
        ("sede", 1, "sede: not a field"),
        ("base_prompts", "48", "base_prompts: expected int"),
        ("schema", 1, "schema: expected 2"),
        ("seed", True, "seed: expected int"),
        ("seed", "42", "seed: expected int"),
        ("algorithm", "DPO", "algorithm: expected PRO or SFT"),
        ("num_prompts", 0, "num_prompts: expected a positive"),
        ("diversity.samples", 99, "diversity.samples: 99 prompts"),
        ("diversity.score", float("nan"), "diversity.score: expected a finite"),
        ("diversity.score", 10**400, "diversity.score: expected int or float"),
        ("diversity.score", 11.0, "diversity.score: expected a finite"),  # 10 is the most for 100 prompts
        ("diversity.unique", KeyError, "diversity.unique: missing"),
        ("diversity.unique", 101, "diversity.unique: expected 0 to total"),
        ("draw", "43", "draw: expected int"),
        ("draw", -1, "draw: expected a seed, 0 or more, found -1"),
        ("diversity.responses", None, "diversity.responses: expected dict"),
        ("diversity.responses", {**RESPONSES, "tokenizer": "toy"}, "diversity.responses.tokenizer: not a field"),
        (
            "diversity.responses",
            {**RESPONSES, "samples": 100},
            "diversity.responses.samples: 100 responses .expected 200",
        ),
        ("diversity.responses", {**RESPONSES, "score": 14.2}, "diversity.responses.score: expected a finite"),
        ("diversity.responses", {**RESPONSES, "unique": 801}, "diversity.responses.unique: expected 0 to total, 800"),
        ("config", {}, "config: expected the run's settings"),
        ("config", {"seed": 7}, "config: expected the run's settings, with seed 42"),
        ("num_prompts", 10**400, "num_prompts: expected int up to 2"),
        ("evaluation", KeyError, "evaluation: missing"),
        ("evaluation.checkpoint", None, "evaluation.checkpoint: expected str"),
        ("evaluation.generation.max_new_tokens", "48", "evaluation.generation.max_new_tokens: expected int"),
        ("evaluation.rewarding.reward_model", KeyError, "evaluation.rewarding.reward_model: missing"),
        ("evaluation.rewarding.batch_size", 2, "evaluation.rewarding.batch_size: not a field"),
        ("launch", "one", "launch: expected dict or null"),
        ("data_sha256", KeyError, "data_sha256: missing"),
        ("files.helpful_online", KeyError, "files.helpful_online: missing"),
        ("files.test", {}, "files.test: not a field"),
        ("files.helpful_base.n", 3, "files.helpful_base.n: 3, but row_id has 2"),
        ("files.helpful_base.row_id", [0, 0], "files.helpful_base.row_id: duplicate row id"),
        ("files.helpful_base.row_id", [0, "1"], "files.helpful_base.row_id: expected whole"),
        ("files.helpful_base.row_id", [], "files.helpful_base.row_id: no rows"),
        ("files.helpful_base.reward", [0.1], "files.helpful_base.reward: 1 values for 2 rows"),
        ("files.helpful_base.reward", [0.1, 1.5], r"files.helpful_base.reward\[1\]: expected a number in"),
        ("files.helpful_base.reward", [-0.1, 0.5], r"files.helpful_base.reward\[0\]: expected a number in"),
        ("files.helpful_base.reward", [0.1, float("nan")], r"files.helpful_base.reward\[1\]: expected a num"),
        ("files.helpful_base.reward", [0.1, None], "files.helpful_base.reward: expected numbers only"),
        ("files.helpful_base.reward", [0.1, True], "files.helpful_base.reward: expected numbers only"),
        ("files.helpful_base.bleu", [0.0, 101.0], r"files.helpful_base.bleu\[1\]: expected .* 0..100"),
        ("files.helpful_base.reward", [0.1, 10**400], r"files.helpful_base.reward\[1\]: expected a num"),
        ("files.helpful_base.reward", [-(10**400), 0.1], r"files.helpful_base.reward\[0\]: expected a num"),
        ("files.helpful_base.extra", {"rm": [0.1]}, "files.helpful_base.extra.rm: 1 values for 2 rows"),
        ("files.helpful_base.extra", {"rm": [0.1, 0.2]}, "files.helpful_base.extra.rm: has no mean"),
        ("files.helpful_base.extra", {"bleu": [0.1, 0.2]}, "files.helpful_base.extra: bleu is a reserved name"),
        ("files.helpful_base.mean.rm", 0.5, "files.helpful_base.mean.rm: not a column"),
        ("files.helpful_base.mean.bleu", 11.0, "files.helpful_base.mean.bleu: not the mean"),
        ("files.helpful_base.mean.reward", 0.2, "files.helpful_base.mean.reward: not the mean"),
        ("files.helpful_base.mean.bleu", KeyError, "files.helpful_base.mean.bleu: expected a finite"),
        ("files.helpful_base.interval", KeyError, "files.helpful_base.interval: missing"),
        ("files.helpful_base.interval", [0.1], "files.helpful_base.interval: 1 values for 2 rows"),
        ("files.helpful_base.interval", [0.2, 0.1], r"files.helpful_base.interval: expected \[low, high\]"),
    ],
)
def test_a_wrong_field_is_refused_by_name_and_nothing_is_written(tmp_path, path, value, message):
    cell = copy.deepcopy(make_cell())
    set_at(cell, path, value)
    with pytest.raises(InputError, match=rf"a\.json: {message}"):
        write_cell(tmp_path / "a.json", cell)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.json").write_text(json.dumps(cell))
    with pytest.raises(InputError, match=message):
        load_cell(tmp_path / "a.json")


def test_an_extra_reward_must_be_in_every_file():
    cell = make_cell()
    entry = cell["files"]["helpful_base"]
    cell["files"]["helpful_base"] = file_scores(
        entry["row_id"], entry["reward"], entry["bleu"], {"reward_model": [0.0, 1.0]}
    )
    assert cell["files"]["helpful_base"]["mean"]["reward_model"] == 0.5
    with pytest.raises(InputError, match="names of their extra rewards"):
        write_cell("never.json", cell)


def test_results_are_sorted_and_what_does_not_belong_is_left_out_and_named(tmp_path):
    write_cell(tmp_path / "a.json", make_cell(num_prompts=200))
    write_cell(tmp_path / "b.json", make_cell())
    write_cell(tmp_path / "c.json", make_cell(exp="again"))
    write_cell(tmp_path / "d.json", make_cell(profile="opt-1.3b", seed=43))
    write_cell(tmp_path / "e.json", make_cell(reward_source="other", seed=44))
    shorter = make_cell(seed=45)
    shorter["files"]["helpful_base"] = file_scores([0], [0.1], [1.0])
    write_cell(tmp_path / "f.json", shorter)
    (tmp_path / "g.json").write_text("{")
    results = load_results(tmp_path)
    cells, warnings = results.cells, results.warnings
    assert [cell.setting.num_prompts for cell in cells] == [100, 200]
    assert cells[0].exp == "toy_pro"
    assert [warning.split("left out ")[1].split(": ")[0] for warning in warnings] == [
        f"{tmp_path / 'g.json'}:1",
        *(str(tmp_path / f"{name}.json") for name in "defc"),
    ]
    assert "profile: opt-1.3b" in warnings[1] and "reward_source: other" in warnings[2]
    assert "test rows: 1+1+1+3 rows" in warnings[3] and "b.json" in warnings[4]
    assert [cell.profile for cell in load_results(tmp_path, profile="opt-1.3b").cells] == ["opt-1.3b"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"max_new_tokens": 128}, "best_checkpoint, 128 new tokens (bf16), scored by rm (no)"),
        ({"reward_model": "larger"}, "best_checkpoint, 48 new tokens (bf16), scored by larger (no)"),
        ({"checkpoint": "step_500"}, "step_500, 48 new tokens (bf16), scored by rm (no)"),
    ],
)
def test_cells_that_were_evaluated_otherwise_are_left_out(other, message, tmp_path):
    write_cell(tmp_path / "a.json", make_cell(evaluation=evaluation(**other)))
    for seed in (43, 44):
        write_cell(tmp_path / f"{seed}.json", make_cell(seed=seed))
    results = load_results(tmp_path)
    cells, warnings = results.cells, results.warnings
    assert [cell.replicate.seed for cell in cells] == [43, 44]
    assert len(warnings) == 1 and f"a.json: evaluation: {message}, but this report is about best" in warnings[0]


def test_only_the_model_itself_may_differ_between_evaluations(tmp_path):
    moved = evaluation()
    moved["generation"]["model"] = "step_9"
    half = evaluation()
    half["rewarding"]["mixed_precision"] = "bf16"
    for seed, made in ((42, evaluation()), (43, moved), (44, half)):
        write_cell(tmp_path / f"{seed}.json", make_cell(seed=seed, evaluation=made))
    results = load_results(tmp_path)
    cells, warnings = results.cells, results.warnings
    assert [cell.replicate.seed for cell in cells] == [42, 43]
    assert "44.json: evaluation: " in warnings[0] and "scored by rm (bf16)" in warnings[0]


def test_pro_on_a_part_of_the_responses_is_no_cell_of_the_table(tmp_path):
    """RANKING_LEN 3 on hh_train_len4_100 learns from three responses, so it is neither K = 4 nor a subset's K = 3."""
    for name, stage in (("a", 3), ("b", 3), ("c", 4)):
        write_cell(tmp_path / f"{name}.json", make_cell(ranking_len=4, stage=stage, seed=40 + stage))
    write_cell(tmp_path / "d.json", make_cell(algorithm="SFT", ranking_len=4, stage=1))
    results = load_results(tmp_path)
    cells, warnings = results.cells, results.warnings
    assert [(cell.setting.algorithm, cell.stage) for cell in cells] == [("PRO", 4), ("SFT", 1)]
    assert [Path(warning.split(": ")[0]).name for warning in warnings] == ["a.json", "b.json"]
    assert "responses used: the first 3 of 4, but this report is about all" in warnings[0]


def test_row_order_and_rewards_do_not_make_two_cells_differ_in_test_rows(tmp_path):
    turned = make_cell(seed=43)
    turned["files"]["helpful_base"] = file_scores([1, 0], [0.5, 0.6], [1.0, 2.0])
    write_cell(tmp_path / "a.json", make_cell())
    write_cell(tmp_path / "b.json", turned)
    results = load_results(tmp_path)
    cells, warnings = results.cells, results.warnings
    assert len(cells) == 2 and warnings == []
    np.testing.assert_array_equal(cells[1].values("Helpful")[:2], [0.6, 0.5])


def test_a_study_file_reads_as_its_result_files_do(tmp_path):
    """cells.jsonl.xz has a cell per line; what is wrong with one is said with the line's number."""
    cells = [make_cell(), make_cell(seed=43), make_cell(seed=44, algorithm="DPO"), make_cell(exp="again")]
    for number, cell in enumerate(cells):
        (tmp_path / f"{number}.json").write_text(json.dumps(cell))
    apart = load_results(tmp_path)
    study = tmp_path / "study" / "cells.jsonl.xz"
    study.parent.mkdir()
    study.write_bytes(lzma.compress("".join(json.dumps(cell) + "\n" for cell in cells).encode()))
    for source in (study, study.parent, [study]):
        together = load_results(source)
        assert together.cells == apart.cells and len(apart.cells) == 2
        assert together.warnings == [
            f"left out {study}:3: algorithm: expected PRO or SFT, found 'DPO'",
            f"left out {study}:4: the same cell as {study}:1 (PRO K=2 M=100 draw=42 seed=42 selection=random)",
        ]
    study.write_bytes(study.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"cells.jsonl.xz:\d+: damaged or truncated xz file"):
        load_results(study)


def test_a_missing_folder_is_an_error_and_an_empty_one_has_no_cells(tmp_path):
    with pytest.raises(InputError, match="no such file or folder of results"):
        load_results(tmp_path / "nothing")
    empty = load_results(tmp_path)
    assert (empty.cells, empty.warnings) == ((), [])


ODD = (
    None, True, False, 0, 1, -1, 2, 0.5, 1.5, -0.5, 1e300, 10**19, 10**400, -(10**400), float("nan"), float("inf"), "",
    "x", "0.5", "$\\foo$", "\ud800", "| a\n# b", [], [1], [0.5], {}, {"a": 1}, [[0.5]], KeyError,
)  # fmt: skip


def places(value: object, path: tuple = ()) -> list[tuple]:
    """Where something stands in a JSON value, at any depth."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, one in inner for place in places(one, (*path, key))]


def test_any_single_change_of_a_result_file_is_harmless_or_named(tmp_path):
    """A file beside a good one: either it is left out, and its path and the field are said, or the report is made."""
    other = make_cell(num_prompts=64)
    other["config"] |= {"learning_rate": 5e-4, "list": [1, 2]}
    other["files"] = {
        file: file_scores(list(range(len(values))), values, [10.0] * len(values), {"rm": values})
        for file, values in REWARDS.items()
    }
    good = {**other, "num_prompts": 100, "diversity": {**other["diversity"], "samples": 100}}
    write_cell(tmp_path / "good.json", good)
    random = Random(0)
    all_places = places(other)
    for number in range(400):
        cell, path, value = copy.deepcopy(other), random.choice(all_places), random.choice(ODD)
        parent = cell
        for key in path[:-1]:
            parent = parent[key]
        if value is KeyError:
            del parent[path[-1]]
        else:
            parent[path[-1]] = value
        (tmp_path / "changed.json").write_text(json.dumps(cell))
        results = load_results(tmp_path)
        left_out = [warning for warning in results.warnings if warning.startswith(f"left out {tmp_path}")]
        assert len(results.cells) + len(left_out) == 2, (number, path, value)
        others = set(results.warnings) - set(left_out)
        known = ("fits on D", "code versions", "trained in different ways")
        assert all(any(words in one for words in known) for one in others), (number, path, value)
        text = make_report(analyse(results))
        table = text.partition("## Table 1")[2].partition("\n## ")[0]
        assert text.encode("utf-8") and not re.search(r"\b(nan|inf|True|None)\b", table), (number, path, value)


def test_other_test_files_are_pools_of_their_own(tmp_path):
    """Means by hand: 3 rows of one file and 1 of another; the report and its table name them."""
    cells = [
        made_up_cell("PRO", k, size, 42, 0.5, rows={"mine": 3, "other": 1}) for k in (2, 4) for size in (1500, 3000)
    ]
    write_cell(tmp_path / "one.json", cells[0])
    files = load_cell(tmp_path / "one.json")["files"]
    assert list(pools_of(files)) == ["mine", "other", "Global"] and list(pools_of(["mine"])) == ["Global"]
    by_hand = (3 * files["mine"]["mean"]["reward"] + files["other"]["mean"]["reward"]) / 4
    assert pooled(files, "Global").mean() == pytest.approx(by_hand)
    report = make_report(analyse(results_of(cells)))
    assert "Test prompts: mine 3, other 1. Global is all of them" in report and "Harmless" not in report
    assert "PRO mine" in report and "PRO Global" in report


def test_hhs_files_come_all_or_none():
    cell = made_up_cell("PRO", 2, 1500, 42, 0.5)
    del cell["files"]["helpful_online"]
    with pytest.raises(InputError, match=r"files\.helpful_online: missing"):
        validate_cell(cell, "cell")
    with pytest.raises(InputError, match=r"files\.harmless_base: missing"):
        validate_cell({**cell, "files": {}}, "cell")
