"""The simulated teams: what each pays and trains, and the report's regrets and words by hand."""

import json
import os
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from data_preprocess.command import REPOSITORY, InputError, stop_requests
from data_preprocess.toy_world.world import WorldConfig
from eval_hh.estimates import over_replicates
from eval_hh.markup import verdict_word
from study.publish import RESULTS
from study.simulated_teams import KINDS, LENS, MOST_TEAMS, PROFILE, Design, Team, make_teams, simulate
from study.toy.teams_report import (
    BY_LOT,
    FIXED,
    NO_PILOT,
    OLD,
    PUBLISHED,
    STAGED,
    coverage_line,
    policies,
    report_lines,
    write_teams_report,
)
from study.toy.toy_study import ToyStudy
from tests.tiny_study import SMALL


def row(team, kind, rewards, staged):
    """A team whose fixed splits earned `rewards` at K = 2, 3, 4; every plan took its own K or 4."""
    fixed = {FIXED.format(k): {"K": k, "M": 8, "reward": reward} for k, reward in zip(LENS, rewards, strict=True)}
    rest = {NO_PILOT: fixed[FIXED.format(4)], OLD: {"K": 4, "M": 8, "reward": rewards[2] - 3}}
    foreseen = {str(k): [reward - 5, reward + 1] for k, reward in zip(LENS, rewards, strict=True)}
    return {
        "team": team,
        "kind": kind,
        "stages": 1,
        "pilot": 4,
        "foreseen": foreseen,
        "choices": {**fixed, **rest, STAGED: staged},
    }


ROWS = [
    row(0, "a", [30, 40, 50], {"K": 4, "M": 8, "reward": 50}),
    row(1, "a", [33, 39, 51], {"K": 2, "M": 6, "reward": 32}),
    row(2, "b", [60, 40, 20], {"K": 2, "M": 6, "reward": 58}),
    row(3, "b", [50, 55, 20], {"K": 2, "M": 6, "reward": 49}),
]


def test_regret_by_hand():
    """The split that did best for the other team of a kind: K = 4 for both of a; K = 3 for team 2, K = 2 for team 3."""
    found = {one.name: one for one in policies(ROWS)}
    assert 100 * found[STAGED].regret == pytest.approx([50 - 50, 51 - 32, 40 - 58, 50 - 49])
    assert 100 * found[FIXED.format(4)].regret == pytest.approx([0, 0, 40 - 20, 50 - 20])
    assert 100 * found[OLD].regret == pytest.approx([3, 3, 23, 33])
    assert 100 * found[BY_LOT].regret == pytest.approx([50 - 40, 51 - 41, 40 - 40, 50 - 125 / 3])
    assert found[STAGED].lens == {4: 1, 2: 3} and not found[BY_LOT].lens


def test_intervals_that_hold_their_kinds_mean_by_hand():
    """From 5 below to 1 above a team's own. The means: 31.5, 39.5, 50.5 of a; 55, 47.5, 20 of b.

    Team 0 misses the first, 1 none, 2 the second (55 is the end of 55 to 61), and 3 the first and the second.
    """
    assert "in 8 of 12 cases" in coverage_line(ROWS)


def test_one_team_of_a_kind_has_no_other_to_compare_with():
    with pytest.raises(InputError, match="one team of the kind b"):
        policies(ROWS[:3])


def test_the_report_says_what_the_intervals_say():
    rng = np.random.default_rng(0)
    rows = [
        row(i, "ab"[i % 2], [30 + noise, 40 + noise, 50 + noise], {"K": 4, "M": 8, "reward": 50 + noise + gain})
        for i, (noise, gain) in enumerate(rng.normal(0, 1, (12, 2)))
    ]
    text = "\n".join(report_lines(rows, "Made by a test."))
    assert "**Staged planning is better than a K drawn by lot**: +1" in text and "Made by a test." in text
    worse = [{**one, "choices": {**one["choices"], STAGED: one["choices"][FIXED.format(2)]}} for one in rows]
    assert "worse than a K drawn by lot" in report_lines(worse, "")[4]
    level = [{**one, "choices": {**one["choices"], STAGED: {"K": 3, "M": 8, "reward": 40 + i}}} for i, one in
             enumerate(rows, -6)]  # fmt: skip
    assert "not shown to be better than a K drawn by lot" in report_lines(level, "")[4]


def test_words_need_a_corrected_p():
    contrast = over_replicates([0.02, 0.03, 0.025])
    assert [verdict_word(contrast, p) for p in (0.01, 0.2)] == ["better", "undecided"]


def test_what_a_kind_pays(tmp_path):
    """By hand: prices 2, 3, 4 of 1280; 4, 9, 16 of 2560, of which the pilot is a fifth at K = 4."""
    shared = ToyStudy(tmp_path, PROFILE)
    first, second = (Team(number, Design(), tmp_path, shared) for number in (0, 1))
    assert [first.split_cell(k).num_prompts for k in LENS] == [640, 426, 320]
    assert [second.split_cell(k).num_prompts for k in LENS] == [640, 284, 160]
    assert [one.pilot_size(1) for one in (first, second)] == [64, 32]
    # After the pilot, 1024 of 1280 are left: 512, 341 and 256 prompts more; 2048 of 2560: 512, 227 and 128.
    assert [first.split_cell(k, 1).num_prompts for k in LENS] == [576, 405, 320]
    assert [second.split_cell(k, 1).num_prompts for k in LENS] == [544, 259, 160]
    assert Decimal(1280) == KINDS[0].budget


def test_no_seed_is_used_twice(tmp_path):
    shared, seeds = ToyStudy(tmp_path, PROFILE), {}
    for team in (Team(number, Design(), tmp_path, shared) for number in range(MOST_TEAMS)):
        for stage in (1, 2):
            for cell in team.pilot_cells(stage):
                assert seeds.setdefault(cell.seed, (team.number, cell.draw)) == (team.number, cell.draw)


@pytest.mark.slow
def test_teams_from_the_world_to_the_report(tmp_path, monkeypatch):
    """Four teams on a world and models so small that a cell takes seconds; a second start trains nothing."""
    monkeypatch.setenv("STUDY_ROOT", str(tmp_path))
    world = WorldConfig(train_rows=4 * 24, dev_rows=4, test_rows=4, reward_rows=20, reward_heldout_rows=8,
                        corpus_lines=100, plenty_rows=8)  # fmt: skip
    train = (*PROFILE.train, "--max_train_steps", "1", "--checkpointing_step", "1")
    profile = replace(PROFILE, world=world, train=train, train_reward=SMALL, pretrain=SMALL, max_new_tokens=4)
    kinds = tuple(replace(kind, budget=kind.budget / 32) for kind in (KINDS[0], KINDS[3]))
    root, teams = make_teams(Design(profile, kinds, pool=24, pilot_share=0.4, max_stages=1), 4)
    with stop_requests() as request:
        rows, took = simulate(root, teams, 2, request)
        text = write_teams_report(root, rows, f"Took {took}.")
        made = {path: os.stat(path).st_mtime_ns for path in root.rglob("eval_hh/results/*.json")}
        assert simulate(root, teams, 2, request)[0] == rows
    assert "# Simulated teams" in text and (root / "regret.png").is_file()
    assert [json.loads(line)["team"] for line in (root / "teams.jsonl").read_text().splitlines()] == list(range(4))
    assert {path: os.stat(path).st_mtime_ns for path in root.rglob("eval_hh/results/*.json")} == made
    assert len(made) >= 4 * (8 + 4)


def test_the_readme_says_what_the_published_rows_say():
    folder = RESULTS / PUBLISHED
    rows = [json.loads(line) for line in (folder / "teams.jsonl").read_text().splitlines()]
    report, lines = (folder / "report.md").read_text(), report_lines(rows, "")
    assert len(rows) == 20 and "\n".join(lines).split("## How it was made")[0] in report
    assert lines[4] in (REPOSITORY / "labelling" / "README.md").read_text()
