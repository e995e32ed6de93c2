"""plan.py with a pilot: the prompts and the study that it writes, and the plan of the rest from result files."""

import json
import re
from decimal import Decimal

import numpy as np
import pytest

import reproduce
from data_preprocess.command import InputError, run, stop_requests
from eval_hh.analysis.comparable import fact_that_differs, shared_facts
from eval_hh.cells import BEST_RESPONSES, WORST_RESPONSES, write_cell
from labelling import plan
from labelling.planning import pilot
from labelling.planning.budget import Prices
from labelling.planning.pilot import Decision, Stage, decide, default_prior, paper_studies, pilot_cells, pilot_size
from labelling.planning.pilot_model import PilotCells, fit
from labelling.planning.pilot_plan import format_decision
from study.study_file import read_study
from tests.made_up import make_cell, row_of

STAGE = Stage(size=16, trained=21)  # of 32 prompts 3 are dev, 6 test, 2 spare


@pytest.fixture
def pool(tmp_path):
    path = tmp_path / "pool.jsonl"
    path.write_text(
        "".join(json.dumps({"id": f"p{i}", "prompt": f"question {i} of {i % 7}?"}) + "\n" for i in range(80))
    )
    return path


@pytest.fixture
def tokenizer(tiny_causal_lm_dir):
    return tiny_causal_lm_dir("opt")


def planned(capsys, *words):
    capsys.readouterr()
    plan.main([str(word) for word in words])
    return capsys.readouterr().out


def refusal(capsys, *words):
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run(lambda: plan.main([str(word) for word in words]))
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1, error
    return error


def test_a_pilots_size_and_cells_by_hand():
    assert pilot_size(Decimal(6000), Prices(), 4, 0.15) == 225
    # Comparisons at 2: a prompt with four responses costs 4 + 6 * 2 = 16.
    assert pilot_size(Decimal(2560), Prices(comparison=Decimal(2)), 4, 0.2) == 32
    cells = pilot_cells((2, 3, 4), 33)
    assert sorted(set(cells)) == sorted(cells) and len(cells) == 8
    assert {(k, m) for k, m, _ in cells} == {(2, 33), (2, 16), (4, 33), (4, 16)} and {d for *_, d in cells} == {42, 43}


def test_the_papers_points_as_a_prior():
    """K = 4 above K = 2 and more prompts above fewer, by the means of Figure 4's first and last columns."""
    for level, on_m, on_k, _ in paper_studies().values():
        assert 50 < level < 56 and 0.5 < on_m < 1.5 and 2 < on_k < 4
    assert (default_prior().sd > np.abs(default_prior().mean)).all()


def test_the_pilot_and_its_study(pool, tokenizer, capsys, tmp_path):
    """20% of 320 responses are 16 prompts with four; 2 are dev, 3 test, 1 spare and 10 train."""
    output, study = tmp_path / "pilot.jsonl", tmp_path / "my pilot.yaml"
    words = [pool, "--responses", 320, "--pilot", 0.2, "--output", output, "--study", study, "--model", tokenizer]
    printed = planned(capsys, *words, "--tokenizer", tokenizer, "--algorithm", "SFT")
    assert (
        "pilot:  16 prompts with 4 responses each, 64 of 320 labelled responses; 10 to train on, 2 dev, 3 test, 1 spare"
        in printed
    )
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len({row["id"] for row in rows}) == 16
    (tmp_path / "labels.csv").write_text("id,response,score\n")
    described = read_study(study, ("--study", str(study)))
    assert described.grid.sizes == (10, 5) and described.grid.ranking_lens == (4, 2)
    assert described.grid.algorithms == ("SFT",) and len(described.replicates) == 2
    assert f"--study '{study}'" in printed
    again = re.search(r"here: python plan.py (.*)", printed)[1]
    assert again.startswith(f"{pool} --responses 320 --algorithm SFT --tokenizer {tokenizer} --pilot_results ")
    assert again.endswith(f"--labelled {output}")


@pytest.mark.slow
def test_the_pilots_labels_become_its_cells_subsets(pool, tokenizer, capsys, tmp_path):
    """Up to the training: the commands that the study runs first, on labels as they come back."""
    output, study = tmp_path / "pilot.jsonl", tmp_path / "pilot.yaml"
    words = [pool, "--responses", 320, "--pilot", 0.2, "--output", output, "--study", study, "--model", tokenizer]
    planned(capsys, *words, "--tokenizer", tokenizer)
    ids = [json.loads(line)["id"] for line in output.read_text().splitlines()]
    lines = [f"{name},answer {rank} to {name},{rank}" for name in ids for rank in range(4)]
    (tmp_path / "labels.csv").write_text("\n".join(["id,response,score", *lines]) + "\n")
    config, described = reproduce.parse_args(["--study", str(study)])
    with stop_requests() as request:
        described.make_data(config.every_cell(described), request)
    for draw in ("", "draw43/"):
        for k, m in ((4, 10), (4, 5), (2, 10), (2, 5)):
            rows = (tmp_path / f"runs/pilot/data/{draw}hh_train_len{k}_{m}/train.json").read_text().splitlines()
            assert len(rows) == m and {len(json.loads(row)["suffix"]) for row in rows} == {k}


def write_results(folder, reward, cells=None, algorithm="PRO"):
    for k, m, draw in cells or pilot_cells((2, 3, 4), 16):
        cell = make_cell(algorithm, k, m, draw, reward(k, m, draw), draw=draw)
        cell["diversity"] = None  # made_up's D is for larger subsets
        write_cell(folder / f"{cell['exp']}_{draw}.json", cell)
    return folder


def changed(folder, **fields):
    for path in folder.glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


def labelled(pool, n, tmp_path):
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(line + "\n" for line in pool.read_text().splitlines()[:n]))
    return path


def test_the_plan_of_the_rest_by_its_own_parts(pool, tokenizer, capsys, tmp_path):
    """The table is that of `decide` on the cells' rewards, and the prompts written are the rest's."""
    rewards = {(k, m): 0.30 + 0.03 * np.log2(m / 11) + 0.02 * np.log2(k / 3) for k, m, _ in pilot_cells((2, 4), 16)}
    folder = write_results(tmp_path / "results", lambda k, m, draw: rewards[k, m] + 0.01 * (draw == 43))
    done, output = labelled(pool, 16, tmp_path), tmp_path / "next.jsonl"
    words = [pool, "--responses", 240, "--pilot_results", folder, "--labelled", done, "--tokenizer", tokenizer]
    printed = planned(capsys, *words, "--output", output)
    cells = pilot_cells((2, 3, 4), 16)
    found = [100 * (rewards[k, m] + 0.01 * (draw == 43)) for k, m, draw in cells]
    posterior = fit(PilotCells(*map(np.array, zip(*cells, strict=True)), np.array(found)), default_prior())
    decision = decide(posterior, Decimal(240), Prices(), (2, 3, 4), 80, 16, STAGE)
    # 176 responses are left: 88 more prompts at K = 2, of which the pool has 64; 58 at K = 3; 44 at K = 4.
    assert [(one.ranking_len, one.size) for one in decision.splits] == [(2, 80), (3, 74), (4, 60)]
    for split, one in zip(decision.splits, decision.outlooks, strict=True):
        row = re.search(rf"^{split.ranking_len} +{split.size} +{split.cost} +(.*)$", printed, re.MULTILINE)[1]
        shown = [float(number) for number in re.findall(r"[\d.]+", row)]
        assert shown == pytest.approx([one.reward, one.low, one.high, one.p_best, one.regret], abs=0.2)
    assert "K = 2: the pool's 80 prompts cost 192, and 48 of the budget is left" in printed
    assert "times the largest M of the pilot" in printed
    written = {json.loads(line)["id"] for line in output.read_text().splitlines()}
    assert not written & {f"p{i}" for i in range(16)}
    n_more = decision.stage if decision.goes_on else decision.splits[decision.best].size - 16
    assert len(written) == n_more
    planned(capsys, *words, "--output", output, "--ranking_len", 3)
    assert len(output.read_text().splitlines()) == 74 - 16


def test_a_reward_that_cannot_judge_recommends_nothing(pool, tokenizer, capsys, tmp_path):
    """Refused; with a K of the user's own choice the prompts are written, and nothing is recommended."""
    folder, done = write_results(tmp_path / "results", lambda *_: 0.3), labelled(pool, 16, tmp_path)
    output = tmp_path / "next.jsonl"
    words = [pool, "--responses", 240, "--pilot_results", folder, "--labelled", done, "--tokenizer", tokenizer]
    words += ["--output", output]
    write_cell(folder / "models" / "ceiling.json", row_of("ceiling", 0.4, BEST_RESPONSES))
    write_cell(folder / "models" / "floor.json", row_of("floor", 0.4, WORST_RESPONSES, seed=7))
    said = refusal(capsys, *words)
    assert said.startswith(f"error: --pilot_results {folder}: The reward is not shown to score")
    assert not output.exists()
    text = planned(capsys, *words, "--ranking_len", 3)
    assert "recommended: none, the reward is not shown to tell good responses from bad" in text
    assert len(output.read_text().splitlines()) == 74 - 16
    write_cell(folder / "models" / "floor.json", row_of("floor", 0.3, WORST_RESPONSES, seed=7))
    assert re.search(r"recommended: (one more stage|label the rest)", planned(capsys, *words))


def test_a_stage_is_recommended_only_where_it_gains(pool, tokenizer):
    """A gain of half a point or more: the stage first; below: label the rest. No room: the rest."""
    cells = pilot_cells((2, 3, 4), 16)
    posterior = fit(PilotCells(*map(np.array, zip(*cells, strict=True)), np.full(8, 30.0)), default_prior())
    decision = decide(posterior, Decimal(240), Prices(), (2, 3, 4), 80, 16, STAGE)
    for gain, text in ((0.6, "label them first"), (0.4, "label the rest with K ="), (float("-inf"), "no room")):
        assert text in format_decision(Decision(decision.splits, decision.outlooks, 16, gain))[-1]
    assert decide(posterior, Decimal(64), Prices(), (2, 3, 4), 80, 16, STAGE).gain == float("-inf")


def test_a_next_stage_has_a_study_of_all_prompts(pool, tokenizer, capsys, tmp_path, monkeypatch):
    """16 prompts labelled and 16 more: 32, of which 3 are dev, 6 test, 2 spare and 21 train."""
    monkeypatch.setattr(pilot, "LEAST_GAIN", -100.0)
    folder, done = write_results(tmp_path / "results", lambda *_: 0.3), labelled(pool, 16, tmp_path)
    output, study = tmp_path / "next.jsonl", tmp_path / "second.yaml"
    words = [pool, "--responses", 240, "--pilot_results", folder, "--labelled", done, "--tokenizer", tokenizer]
    printed = planned(capsys, *words, "--output", output, "--study", study, "--model", tokenizer)
    assert "label them first" in printed
    new, every = (path.read_text().splitlines() for path in (output, tmp_path / "second.prompts.jsonl"))
    assert len(new) == 16 and len(every) == 32 and set(new) < set(every)
    (tmp_path / "labels.csv").write_text("id,response,score\n")
    described = read_study(study, ("--study", str(study)))
    assert described.grid.sizes == (21, 10) and described.name == "second"
    results = tmp_path / "runs" / "second" / "eval_hh" / "results"
    assert f"--pilot_results {folder} {results} --labelled {done} {output}" in printed


@pytest.mark.parametrize(
    "words, message",
    [
        (["--pilot", 0.01], r"--pilot 0.01: buys 0 prompts with 4 responses"),
        (["--pilot", 0.6], r"--pilot 0.6: expected a number above 0 and at most 0.5"),
        (["--pilot", "--study", "{root}/a.yaml"], r"--study: needs --model and --output"),
        (["--pilot", "--model", "m"], r"--model: needs --study"),
        (["--pilot", "--ranking_lens", 4], r"--ranking_lens 4: expected two or more, each once"),
        (["--pilot", "--ranking_lens", 2, 2], r"--ranking_lens 2 2: expected two or more, each once"),
        (["--pilot", "--extrapolate"], r"--extrapolate: does not apply to --pilot"),
        (["--pilot", "--ranking_len", 3], r"--ranking_len: does not apply to --pilot"),
        (["--pilot_results", "{root}"], r"--pilot_results: needs --labelled"),
        (["--pilot_results", "{root}/none", "--labelled", "{pool}"], r"none: no such file or folder of results"),
        (
            ["--pilot_results", "{root}/none", "--labelled", "{other}"],
            r"--labelled .*: 1 of 1 prompts are not in the pool",
        ),
        (["--pilot", 0.2, "--law", "paper-pro"], r"--law and --pilot .expected one of them"),
        ([], r"--law, --results, --pilot, --pilot_results: none .expected one of them"),
    ],
)
def test_bad_flags_end_in_one_line(words, message, pool, tokenizer, capsys, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text('{"prompt": "not in the pool"}\n')
    words = [str(word).format(root=tmp_path, pool=pool, other=other) for word in words]
    assert re.search(message, refusal(capsys, pool, "--responses", 320, "--tokenizer", tokenizer, *words))


def test_bad_results_end_in_one_line(pool, tokenizer, capsys, tmp_path):
    words = [pool, "--responses", 320, "--tokenizer", tokenizer, "--labelled", labelled(pool, 16, tmp_path)]
    one_k = write_results(tmp_path / "one_k", lambda *_: 0.3, [(4, 16, 42), (4, 8, 42)])
    assert "expected two or more K and two or more M" in refusal(capsys, *words, "--pilot_results", one_k)
    both = write_results(tmp_path / "both", lambda *_: 0.3)
    write_results(both, lambda *_: 0.3, algorithm="SFT")
    assert "PRO and SFT (expected one algorithm" in refusal(capsys, *words, "--pilot_results", both)
    assert "PRO cells" in planned(capsys, *words, "--pilot_results", both, "--algorithm", "PRO")
    spent = [pool, "--responses", 60, "--tokenizer", tokenizer, "--labelled", words[-1], "--pilot_results", both]
    assert "a budget of 60 is spent already" in refusal(capsys, *spent, "--algorithm", "PRO")
    with pytest.raises(InputError, match="no prompt is left to label with K = 4"):
        flags = ["--algorithm", "PRO", "--output", tmp_path / "o.jsonl"]
        plan.main([str(word) for word in [*spent[:2], 64, *spent[3:], *flags, "--ranking_len", 4]])


def test_stages_are_of_one_study_and_each_is_given_once(pool, tokenizer, capsys, tmp_path):
    """Cells that are read twice would halve the intervals, and those of another reward would pass for more prompts."""
    words = [pool, "--responses", 320, "--tokenizer", tokenizer, "--labelled", labelled(pool, 16, tmp_path)]
    first = write_results(tmp_path / "first", lambda *_: 0.3)
    again, second = tmp_path / "link", pilot_cells((2, 4), 32)
    again.symlink_to(first)
    assert f"--pilot_results {again}: is given twice" in refusal(capsys, *words, "--pilot_results", first, again)
    copy = write_results(tmp_path / "copy", lambda *_: 0.3)
    said = refusal(capsys, *words, "--pilot_results", first, copy)
    assert f"{copy}: PRO K=2 M=8 draw=42 seed=42 selection=random: the rewards of {first}'s" in said
    other = {name: write_results(tmp_path / name, lambda *_: 0.4, second) for name in ("reward", "world", "base")}
    changed(other["reward"], reward_source="model")
    changed(other["world"], world="another")
    changed(other["base"], config={"model_name_or_path": "other"})
    for name, found in (("reward", "reward_source: model, but gold"), ("world", "world: another, but abc"),
                        ("base", "base model: other, but None")):  # fmt: skip
        assert f"{other[name]}: {found} in {first}" in refusal(capsys, *words, "--pilot_results", first, other[name])
    alike = write_results(tmp_path / "alike", lambda *_: 0.4, second)
    assert "16 PRO cells" in planned(capsys, *words, "--pilot_results", first, alike)


def test_a_renamed_base_model_is_known_by_its_checksum():
    facts = shared_facts(make_cell("PRO", 2, 16, 42, 0.3) | {"data_sha256": {"base_model": "1f"}})
    assert fact_that_differs(facts, facts | {"base model": "renamed"}) is None
    assert fact_that_differs(facts, facts | {"base model's checksum": "2e"}) == "base model's checksum"
    assert fact_that_differs(facts, facts | {"base model's checksum": None}) is None  # not known


@pytest.mark.parametrize("lens", [(2, 3), (2, 8)])
def test_the_labels_were_paid_at_the_pilots_largest_k(lens, pool, tokenizer, capsys, tmp_path):
    folder = write_results(tmp_path / "results", lambda *_: 0.3)
    words = [pool, "--responses", 320, "--tokenizer", tokenizer, "--labelled", labelled(pool, 16, tmp_path)]
    said = refusal(capsys, *words, "--pilot_results", folder, "--ranking_lens", *lens)
    assert f"--ranking_lens {lens[0]} {lens[1]}: the largest K of the pilot's cells is 4" in said


def test_cells_that_are_missing_are_named(pool, tokenizer, capsys, tmp_path):
    words = [pool, "--responses", 320, "--tokenizer", tokenizer, "--labelled", labelled(pool, 16, tmp_path)]
    folder = write_results(tmp_path / "results", lambda *_: 0.3, pilot_cells((2, 4), 16)[:5])
    warning = f"warning: {folder}: 5 of the 8 PRO cells that its K, M and draws make."
    assert warning in planned(capsys, *words, "--pilot_results", folder)
    write_results(folder, lambda *_: 0.3)
    assert "that its K, M and draws make" not in planned(capsys, *words, "--pilot_results", folder)


def test_a_stage_trains_on_the_prompts_that_do_not_test(pool, tokenizer, capsys, tmp_path, monkeypatch):
    """Its gain is that of the cells that its study would have: 21 prompts of 32, not all."""
    seen = []
    monkeypatch.setattr(pilot, "expected_gain", lambda *args: seen.append(args[-1]) or 0.0)
    folder, done = write_results(tmp_path / "results", lambda *_: 0.3), labelled(pool, 16, tmp_path)
    planned(capsys, pool, "--responses", 240, "--pilot_results", folder, "--labelled", done, "--tokenizer", tokenizer)
    assert seen == [pilot_cells((2, 3, 4), 21)]


def test_a_study_that_is_not_needed_is_named(pool, tokenizer, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(pilot, "LEAST_GAIN", 100.0)
    folder, done = write_results(tmp_path / "results", lambda *_: 0.3), labelled(pool, 16, tmp_path)
    study = tmp_path / "second.yaml"
    words = [pool, "--responses", 240, "--pilot_results", folder, "--labelled", done, "--tokenizer", tokenizer]
    printed = planned(capsys, *words, "--output", tmp_path / "o.jsonl", "--study", study, "--model", tokenizer)
    assert f"{study}: not written, since no further stage is labelled" in printed and not study.exists()


def test_a_budget_is_printed_in_plain_digits(pool, tokenizer, capsys):
    words = [pool, "--budget", "1e3", "--response_cost", "5e-1", "--pilot", 0.04, "--tokenizer", tokenizer]
    assert "40.0 of 1,000 units of money" in planned(capsys, *words)


def test_a_study_file_of_the_users_is_kept(pool, tokenizer, capsys, tmp_path):
    """The file is written again as long as it is ours alone; sections that the user added are not lost."""
    study, output = tmp_path / "pilot.yaml", tmp_path / "pilot.jsonl"
    words = [pool, "--responses", 320, "--output", output, "--study", study, "--model", tokenizer]
    words += ["--tokenizer", tokenizer, "--pilot"]
    planned(capsys, *words, 0.2)
    planned(capsys, *words, 0.3)
    mine = study.read_text() + "training: {learning_rate: 1e-4}\nmachine: {batch_size: 2}\n"
    for content, found in ((mine, "has machine, training of yours"), ("name: a\n", "was not written by this command"),
                           (study.read_text() + "a: [", "has changes of yours")):  # fmt: skip
        study.write_text(content)
        output.unlink(missing_ok=True)
        assert found in refusal(capsys, *words, 0.2)
        assert study.read_text() == content and not output.exists()


def test_the_prompts_of_all_stages_lie_over_no_other_file(pool, tokenizer, capsys, tmp_path):
    folder, study = write_results(tmp_path / "results", lambda *_: 0.3), tmp_path / "second.yaml"
    done, together = labelled(pool, 16, tmp_path), tmp_path / "second.prompts.jsonl"
    words = [pool, "--responses", 240, "--pilot_results", folder, "--tokenizer", tokenizer, "--study", study]
    words += ["--model", tokenizer, "--output"]
    said = refusal(capsys, *words, together, "--labelled", done)
    assert f"--study {together}: is --output's file too" in said
    done.rename(together)
    assert "is read as --labelled" in refusal(capsys, *words, tmp_path / "o.jsonl", "--labelled", together)
    assert len(together.read_text().splitlines()) == 16
