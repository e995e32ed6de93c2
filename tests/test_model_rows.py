"""Rows for models of no run: eval.sh --model MODEL NAME and --best_responses NAME; none overwrites another's result."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from eval_study import TEST_FILES, build_study, read_lines
from made_up import evaluation, make_cell, make_grid, row_of
from test_eval_sh import SHELLS, calls, evaluate, fakes  # noqa: F401
from test_table1 import rising, rows_of_latex

from data_preprocess.command import InputError
from eval_hh import generation, report, rewarding, scoring
from eval_hh.analysis.results import load_results
from eval_hh.cells import BEST_RESPONSES, POOLS, WORST_RESPONSES, load_cell, pooled, write_cell
from eval_hh.reporting.findings import analyse, as_json
from eval_hh.reporting.table1 import latex, markdown_lines

RUN = ["--index", "trial", "--stage", "2"]
SHORT = ["--max_new_tokens", "4"]


@pytest.fixture
def study(tmp_path, tiny_causal_lm_dir):
    """A run whose checkpoint is the tiny OPT, and another model, `base`."""
    build_study(tmp_path, tiny_causal_lm_dir("opt"))
    shutil.copytree(tiny_causal_lm_dir("llama"), tmp_path / "base")
    return tmp_path


def all_steps(names, reward_model, *what):
    generation.main([*names, *SHORT, *what])
    rewarding.main([*names, "--reward_model", str(reward_model)])
    scoring.main(names)


def result(root: Path, name: str) -> Path:
    return root / "eval_hh" / "results" / name


# eval.sh


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--model", "a model", "my base"], "--model_path a model"),
        (["--best_responses", "my base"], "--best_responses"),
        (["--worst_responses", "my base"], "--worst_responses"),
    ],
)
def test_a_row_is_named_to_every_step(shell, words, what, fakes):  # noqa: F811
    done = evaluate(shell, *words, "--max_new_tokens", "9", fakes=fakes, NUM_PROCESSES="1", PROFILE="toy")
    assert (done.returncode, done.stderr) == (0, "")
    for start, check in ((0, "--check "), (3, "")):
        assert calls(fakes)[start : start + 3] == [
            f"python generation.py {check}--name my base --max_new_tokens 9 {what}",
            f"python rewarding.py {check}--name my base",
            f"python scoring.py {check}--name my base --profile toy",
        ]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("words", [
    ["--model", "x"], ["--model"], ["--best_responses"], ["--worst_responses"], ["--model", "x", "--max_new_tokens"],
    ["--model", "x", "y", "z"],
])  # fmt: skip
def test_half_a_row_is_refused(shell, words, fakes):  # noqa: F811
    done = evaluate(shell, *words, fakes=fakes)
    assert done.returncode == 2 and done.stderr.startswith("usage: sh eval.sh")
    assert not (fakes / "calls.txt").exists()


@pytest.mark.slow
def test_the_documented_commands_make_rows(study, tiny_reward_dir):
    environment = {"NUM_PROCESSES": "1", "STUDY_ROOT": str(study), "OMP_NUM_THREADS": "1", "BATCH_SIZE": "2",
                   "TEST_REWARD_MODEL": str(tiny_reward_dir)}  # fmt: skip
    for words in (["--model", str(study / "base"), "base"], ["--best_responses", "ceiling"]):
        done = evaluate("sh", *words, *SHORT, **environment)
        assert done.returncode == 0, done.stderr
    assert load_cell(result(study, "models/base.json"))["evaluation"]["generation"]["model"] == "base"
    assert load_cell(result(study, "models/ceiling.json"))["evaluation"]["generation"]["model"] == BEST_RESPONSES


# The steps


def test_a_row_holds_what_its_model_says_and_not_the_run(study, tiny_reward_dir, tiny_causal_lm_dir):
    """Against a run whose checkpoint is the same model; the run's own result is as it is without the row."""
    all_steps(RUN, tiny_reward_dir)
    before = result(study, "trial_2.json").read_bytes()
    all_steps(["--name", "base"], tiny_reward_dir, "--model_path", str(study / "base"))
    assert result(study, "trial_2.json").read_bytes() == before
    row, cell = load_cell(result(study, "models/base.json")), load_cell(result(study, "trial_2.json"))
    assert row["name"] == "base" and row["evaluation"]["generation"]["model"] == "base"
    assert {"algorithm", "seed", "data", "exp"}.isdisjoint(row)
    link = study / "checkpoints/index_trial/stage_2/best_checkpoint"
    link.unlink()
    link.symlink_to(tiny_causal_lm_dir("llama"))
    all_steps(RUN, tiny_reward_dir)
    same = load_cell(result(study, "trial_2.json"))
    assert same["files"] == row["files"] != cell["files"]


def test_the_ceiling_is_the_score_of_the_test_data_s_own_responses(study, tiny_reward_dir):
    from eval_hh.reward_model import load_reward_model

    all_steps(["--name", "ceiling"], tiny_reward_dir, "--best_responses")
    cell = load_cell(result(study, "models/ceiling.json"))
    for name in TEST_FILES:
        rows = read_lines(study / "data" / "hh_test" / f"{name}.json")
        best = [row["suffix"][0] for row in rows]
        logits = load_reward_model(tiny_reward_dir).score([row["prefix"][0] for row in rows], best)
        assert cell["files"][name]["reward"] == pytest.approx([1 / (1 + np.exp(-logit)) for logit in logits])
        assert cell["files"][name]["bleu"] == pytest.approx([100.0] * len(rows))


def test_a_note_that_names_no_model_does_not_keep_its_texts(study):
    flags = ["--name", "ceiling", "--best_responses", "--test_files", TEST_FILES[0]]
    generation.main(flags)
    (note,) = (study / "eval_hh/inference_res/models/ceiling/cache").glob("*.done.json")
    made = json.loads(note.read_text())
    for model in ("s", None, [1]):
        note.write_text(json.dumps({"fingerprint": "x", "settings": {"model": model}}))
        generation.main(flags)
        assert json.loads(note.read_text()) == made


def test_the_floor_is_the_score_of_their_last_responses(study, tiny_reward_dir):
    from eval_hh.reward_model import load_reward_model

    name = TEST_FILES[0]
    path = study / "data" / "hh_test" / f"{name}.json"
    rows = read_lines(path)
    single = {field: rows[0][field][:1] for field in ("prefix", "suffix", "reward")}
    path.write_text("".join(json.dumps(row) + "\n" for row in [rows[0] | single, *rows[1:]]))
    all_steps(["--name", "floor"], tiny_reward_dir, "--worst_responses")
    cell = load_cell(result(study, "models/floor.json"))
    worst = [rows[0]["suffix"][0], *(row["suffix"][-1] for row in rows[1:])]
    assert worst[1:] != [row["suffix"][0] for row in rows[1:]]
    logits = load_reward_model(tiny_reward_dir).score([row["prefix"][0] for row in rows], worst)
    assert cell["files"][name]["reward"] == pytest.approx([1 / (1 + np.exp(-logit)) for logit in logits])
    assert cell["evaluation"]["generation"]["model"] == WORST_RESPONSES
    message = refused(study, ["--name", "floor"], "--best_responses")
    assert "the first responses of the test rows would" in message and "sh eval.sh --best_responses NAME" in message


@pytest.mark.parametrize("own", ["--best_responses", "--worst_responses"])
@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"reward": [0.0, 1.0]}, "the responses are not ranked by their rewards (expected best first)"),
        ({"suffix": ["  ", "No."]}, "a response without text"),
        ({"prefix": 1, "suffix": [""], "reward": [0.0]}, "a response without text"),
    ],
)
def test_test_rows_that_are_no_rankings_have_no_ceiling_and_no_floor(own, change, what, study):
    path = study / "data" / "hh_test" / f"{TEST_FILES[0]}.json"
    first, *rest = read_lines(path)
    changed = first | change | ({"prefix": first["prefix"][:1]} if change.get("prefix") else {})
    path.write_text("".join(json.dumps(row) + "\n" for row in [changed, *rest]))
    message = refused(study, ["--name", "x"], own)
    assert message.startswith(f"{path}:1: ") and what in message


@pytest.mark.parametrize(
    ("command", "message", "flags"),
    [
        (generation, "--index or --name: give one of them", ""),
        (generation, "--name x: --stage and --checkpoint are of a run", "--name x --stage 2"),
        (rewarding, "--name x: --stage and --checkpoint are of a run", "--name x --checkpoint step_2"),
        (scoring, "--index trial: expected its --stage", "--index trial"),
        (generation, "--model_path or --best_responses: give one", "--name x"),
        (generation, "--model_path or --best_responses: give one", "--name x --best_responses --model_path y"),
        (generation, "--best_responses: is no run's", "--index trial --stage 2 --best_responses"),
        (generation, "--worst_responses: is no run's", "--index trial --stage 2 --worst_responses"),
        (generation, "--best_responses or --worst_responses: give one", "--name x --best_responses --worst_responses"),
        (generation, "--model_path or --worst_responses: give one", "--name x --worst_responses --model_path y"),
        (generation, "--name 'a/b'", "--name a/b --best_responses"),
        (generation, "/nothing: no such folder", "--name x --model_path /nothing"),
    ],
)
def test_flags_that_cannot_be_are_one_line(command, message, flags, study):
    with pytest.raises(InputError) as error:
        command.main([*flags.split(), "--check"])
    assert str(error.value).startswith(message) and not (study / "eval_hh").exists()


# Nothing of one model is overwritten by another's.


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in (root / "eval_hh").rglob("*") if path.is_file()}


def refused(root, names, *what):
    """The message of a refusal that comes at the check, and changes nothing."""
    before, messages = contents(root), []
    for flags in (["--check"], []):
        with pytest.raises(InputError) as error:
            generation.main([*names, *SHORT, *what, *flags])
        messages.append(str(error.value))
    assert messages[0] == messages[1] and contents(root) == before
    return messages[0]


def test_a_name_is_of_one_model(study, tiny_reward_dir, tiny_causal_lm_dir):
    names = ["--name", "base"]
    all_steps(names, tiny_reward_dir, "--model_path", str(study / "base"))
    other = str(tiny_causal_lm_dir("gpt2"))
    assert f"was generated by {study}/base, which {other} would overwrite" in refused(
        study, names, "--model_path", other
    )
    assert "the first responses of the test rows would overwrite" in refused(study, names, "--best_responses")
    shutil.rmtree(study / "eval_hh" / "inference_res")  # the result file alone says whose it is
    message = refused(study, names, "--model_path", other)
    assert message.startswith(f"{result(study, 'models/base.json')}: is the result of base, which {other} would overw")
    all_steps(names, tiny_reward_dir, "--model_path", str(study / "base"))  # its own model may, as when it was changed


def test_a_run_s_result_is_not_replaced_by_a_base_model_s(study, tiny_reward_dir):
    all_steps(RUN, tiny_reward_dir)
    message = refused(study, RUN, "--model_path", str(study / "base"))
    assert "sh eval.sh --model" in message and "\n" not in message
    shutil.rmtree(study / "eval_hh" / "inference_res")
    assert "trial_2.json: is the result of " in refused(study, RUN, "--model_path", str(study / "base"))


def test_a_base_model_s_result_under_a_run_s_name_is_not_replaced_by_the_run_s(study, tiny_reward_dir):
    all_steps(RUN, tiny_reward_dir, "--model_path", str(study / "base"))
    assert f"was generated by {study}/base" in refused(study, RUN)


def test_two_names_of_one_file_do_not_overwrite_each_other(study, tiny_reward_dir):
    """Run trial_2_step, stage 1, and checkpoint step_1 of run trial, stage 2, would have one result file."""
    all_steps(RUN, tiny_reward_dir)
    path = result(study, "trial_2.json")
    cell = load_cell(path)
    cell["exp"], cell["stage"] = "trial_2", 1
    write_cell(path, cell)
    with pytest.raises(InputError, match="is the result of --index trial_2 --stage 1, which --index trial --stage 2"):
        scoring.main(RUN)
    assert load_cell(path) == cell


# The report


@pytest.fixture
def results(tmp_path):
    """A grid, the base model, and a ceiling with other settings of generation, as nothing of it was generated."""
    for number, cell in enumerate(make_grid(rising, seeds=(42, 43), draws=True)):
        write_cell(tmp_path / f"{number}.json", cell)
    ceiling = row_of("the ceiling", 0.9, BEST_RESPONSES)
    ceiling["evaluation"]["generation"] |= {"max_new_tokens": 7, "mixed_precision": "no"}
    write_cell(tmp_path / "models" / "a_ceiling.json", ceiling)
    write_cell(tmp_path / "models" / "base_model.json", row_of("base_model", 0.25))
    return tmp_path


def test_the_report_shows_base_and_ceiling(results, capsys):
    loaded = load_results(results)
    assert [row.name for row in loaded.models] == ["base_model", "the ceiling"] and loaded.warnings == []
    found = analyse(loaded)
    lines = markdown_lines(found.table)
    title = "Models that were not trained on these subsets, 100 x mean reward ± the 95% interval over test prompts:"
    below = [line for line in lines[lines.index(title) :] if line.startswith("|")]
    shown = [[cell.strip() for cell in line.strip("|").split("|")] for line in below[2:]]
    assert [row[0] for row in shown] == ["base_model", "the ceiling"]
    for row, name in zip(shown, ("base_model", "a_ceiling"), strict=True):
        files = load_cell(results / "models" / f"{name}.json")["files"]
        for text, pool in zip(row[1:], POOLS, strict=True):
            values = [100 * value for value in pooled(files, pool)]
            mean = sum(values) / len(values)
            sd = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
            assert text == f"{mean:.2f} ± {1.96 * sd / len(values) ** 0.5:.2f}"
    tex = latex(found.table)
    assert [row[0] for row in rows_of_latex(tex)][-6:] == [
        f"{name} {pool}" for name in (r"base\_model", "the ceiling") for pool in POOLS
    ]
    assert tex.count("{") == tex.count("}") and "models that were not trained" in tex
    report.main(["--results", str(results), "--output", str(results / "report")])
    assert "| the ceiling |" in (results / "report" / "report.md").read_text()
    assert as_json(found)["models"]["base_model"]["Global"]["mean"] == pytest.approx(0.25, abs=1e-6)


def test_rows_change_nothing_else_in_a_report(results):
    with_rows = analyse(load_results(results))
    shutil.rmtree(results / "models")
    without = analyse(load_results(results))
    ours, theirs = as_json(with_rows), as_json(without)
    assert ours.pop("models") and theirs.pop("models") == {} and ours == theirs
    assert markdown_lines(with_rows.table)[: len(markdown_lines(without.table))] == markdown_lines(without.table)
    assert "not trained" not in latex(without.table)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"profile": "opt-1.3b"}, "profile: opt-1.3b, but this report is about toy"),
        ({"reward_source": "other"}, "reward_source: other, but this report is about gold"),
        ({"world": "other"}, "world: other, but this report is about abc"),
        ({"evaluation": evaluation(max_new_tokens=9)}, "evaluation: 9 new tokens (bf16), scored by rm (no), but"),
        ({"evaluation": evaluation(reward_model="larger")}, "evaluation: 48 new tokens (bf16), scored by larger (no)"),
        (
            {"files": make_cell("PRO", 2, 1500, 42, 0.5, rows=dict.fromkeys(TEST_FILES, 3))["files"]},
            "test rows: 3+3+3+3",
        ),
    ],
)
def test_a_row_that_cannot_be_compared_is_left_out_and_named(more, message, results):
    write_cell(results / "models" / "x.json", row_of("x", 0.5, **more))
    loaded = load_results(results)
    assert [row.name for row in loaded.models] == ["base_model", "the ceiling"]
    assert len(loaded.warnings) == 1 and f"left out {results}/models/x.json: {message}" in loaded.warnings[0]


def test_a_row_with_a_wrong_field_is_no_row(results):
    spoilt = row_of("x", 0.5) | {"seed": 42}
    (results / "models" / "x.json").write_text(json.dumps(spoilt))
    assert load_results(results).warnings == [f"left out {results}/models/x.json: seed: not a field of a result file"]
