"""study/toy/worlds.py: claim 1 in several worlds, and study/publish.py: a study's cells as one small file."""

import json
import lzma

import numpy as np
import pytest
from made_up import make_grid, results_of
from scipy.stats import ttest_1samp

from data_preprocess.command import InputError, StopRequest
from data_preprocess.toy_world.world import WorldConfig
from eval_hh.analysis.results import load_results
from eval_hh.cells import write_cell
from eval_hh.reporting.findings import analyse
from study import publish
from study.study_file import built_in
from study.toy import worlds

TOY = built_in("toy")
EFFECTS = {"own": (0.05, 0.06, 0.04, 0.07), "noise": (0.03, -0.02, 0.05, 0.01)}  # of K=4, by replicate


def cells_with(effects) -> list[dict]:
    def reward(algorithm, ranking_len, num_prompts, seed):
        return 0.5 + effects[seed - 42] * (ranking_len == 4)

    return make_grid(reward, sizes=(120, 160, 240), seeds=range(42, 46), draws=True)


def test_the_table_has_claim_1_in_each_world(monkeypatch):
    monkeypatch.setattr(worlds, "SENSITIVITY_WORLDS", {"noise": WorldConfig(annotator_noise=2.0)})
    found = {name: analyse(results_of(cells_with(effects))) for name, effects in EFFECTS.items()}
    lines = worlds.world_table(TOY, found)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][2:]
    assert [row[:2] for row in rows] == [["own", "the main study's world"], ["noise", "annotator_noise 0.5 -> 2.0"]]
    tests = {name: ttest_1samp(effects, 0.0) for name, effects in EFFECTS.items()}
    own, noise = tests["own"].pvalue, tests["noise"].pvalue
    assert own < noise  # so that Holm doubles the first and leaves the second
    for row, holm_p, word in zip(rows, (2 * own, noise), ("held", "undecided"), strict=True):
        interval = tests[row[0]].confidence_interval(0.95)
        assert row[3] == f"{100 * np.mean(EFFECTS[row[0]]):+.2f}"
        assert row[4] == f"{100 * interval.low:+.2f} to {100 * interval.high:+.2f}"
        assert row[5:] == [f"{tests[row[0]].pvalue:.4f}", f"{holm_p:.4f}", "4", word]


@pytest.mark.parametrize("name", ["report.md", "own/report.md", "own/table1.tex"])
def test_a_foreign_report_ends_the_worlds_before_their_work(name, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine\n")
    with pytest.raises(InputError, match=f"{name}: was not written by this command"):
        worlds.run_worlds(TOY, [], 1, StopRequest(), tmp_path)
    assert path.read_text() == "mine\n"


def test_one_replicate_has_no_interval(monkeypatch):
    monkeypatch.setattr(worlds, "SENSITIVITY_WORLDS", {})
    cells = [cell for cell in cells_with(EFFECTS["own"]) if cell["seed"] == 42]
    (row,) = [line for line in worlds.world_table(TOY, {"own": analyse(results_of(cells))}) if line.startswith("| own")]
    assert [cell.strip() for cell in row.split("|")[4:-1]] == ["+5.00", "-", "-", "-", "1", "no verdict"]


def test_published_cells_are_one_small_file_with_the_same_rewards(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "RESULTS", tmp_path / "results")
    paths = []
    for number, cell in enumerate(cells_with(EFFECTS["own"])):
        paths.append(tmp_path / "cells" / f"{number}.json")
        write_cell(paths[-1], cell)
    for name in ("report.md", "table1.tex"):
        (tmp_path / name).write_text("Text.\n")
    publish.publish_results("toy", tmp_path, paths, "Made by hand.")
    folder = tmp_path / "results" / "toy"
    assert (folder / "report.md").read_text() == "Text.\n\n## How it was made\n\nMade by hand.\n"
    before, after = load_results(paths), load_results(folder)
    assert len(after.cells) == len(paths) and not after.warnings
    for one, other in zip(before.cells, after.cells, strict=True):
        assert one.replicate == other.replicate and one.setting == other.setting
        np.testing.assert_array_equal(one.values("Global"), other.values("Global"))
        assert 0 < np.abs(one.values("Global", "bleu") - other.values("Global", "bleu")).max() <= 0.005
    text = lzma.decompress((folder / "cells.jsonl.xz").read_bytes()).decode()
    for line, path in zip(text.splitlines(), paths, strict=True):
        cell = json.loads(line)
        assert list(cell) == sorted(cell) and cell.keys() == json.loads(path.read_text()).keys()
        entry = cell["files"]["helpful_base"]
        assert entry["mean"]["bleu"] == pytest.approx(np.mean(entry["bleu"]), abs=1e-12)
    assert publish.packed(paths) == (folder / "cells.jsonl.xz").read_bytes()
