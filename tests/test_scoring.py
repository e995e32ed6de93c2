import json
import re
import shutil

import numpy as np
import pytest
import sacrebleu
from eval_study import TEST_FILES, build_study, read_lines, result_paths, write_lines, write_notes

from data_preprocess.command import InputError
from data_preprocess.provenance import fingerprint
from eval_hh import scoring
from eval_hh.cells import load_cell, pooled
from eval_hh.run_paths import Names
from training import main as training

NAMES = ["--index", "trial", "--stage", "2"]
# scores x 100 whose means are easy to see: 10, 20, 30 and 60 over 5 rows each
SCORES = dict(zip(TEST_FILES, (0.1, 0.2, 0.3, 0.6), strict=True))


@pytest.fixture
def study(tmp_path, tiny_causal_lm_dir):
    """A study whose generation and rewarding are done, with known texts and scores."""
    build_study(tmp_path, tiny_causal_lm_dir("opt"))
    for name in TEST_FILES:
        rows = read_lines(tmp_path / "data" / "hh_test" / f"{name}.json")
        for number, row in enumerate(rows):
            text = row["suffix"][0] if number == 0 else "Turn the water on."
            row["infer"] = {"t": text}
        evaluate(tmp_path, name, rows)
    return tmp_path


def evaluate(root, name, rows, key="trial_2_best_checkpoint", max_new_tokens=9):
    """Writes what generation.py and rewarding.py would: rows with texts, rows with scores, and a note beside each."""
    generated, made = result_paths(root, name, key)
    write_lines(generated, rows)
    for number, row in enumerate(rows):
        row["infer"]["score"] = SCORES[name] + 0.02 * (number - 2)
    write_lines(made, rows)
    write_notes(root, name, key, max_new_tokens)


def rows_with(root, name, text):
    rows = read_lines(root / "data" / "hh_test" / f"{name}.json")
    return [{**row, "infer": {"t": text}} for row in rows]


def scored(root, name="harmless_base"):
    return root / "eval_hh" / "inference_res" / f"infer_main_trial_2_best_checkpoint_{name}.json"


def cell_of(root):
    return load_cell(root / "eval_hh" / "results" / "trial_2.json")


def scored_as_trained_on(study, folder: str) -> dict:
    """The cell of a run whose configuration names this folder under data/."""
    run = study / "checkpoints/index_trial/stage_2/run.json"
    made = json.loads(run.read_text())
    made["config"]["train_file_path"] = str(study / "data" / folder)
    run.write_text(json.dumps(made))
    scoring.main(NAMES)
    return cell_of(study)


def test_the_rows_get_bleu_and_line_index(study):
    before = read_lines(scored(study))
    scoring.main(NAMES)
    after = read_lines(scored(study))
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        expected = sacrebleu.sentence_bleu(old["infer"]["t"], [old["suffix"][0]]).score
        assert new == {**old, "infer": {**old["infer"], "bleu": expected}, "line_index": number}
    assert after[0]["infer"]["bleu"] == pytest.approx(100)


def test_scoring_twice_changes_nothing(study):
    scoring.main(NAMES)
    files = [scored(study, name) for name in TEST_FILES] + [study / "eval_hh" / "results" / "trial_2.json"]
    first = [path.read_bytes() for path in files]
    scoring.main(NAMES)
    assert [path.read_bytes() for path in files] == first


def test_the_cell_says_what_was_run(study):
    record = {"400": {"2": {"#filtered_ngrams": 30, "#all_ngrams": 60, "#samples": 400, "diversity": 10.0}}}
    (study / "data" / "record_hh_train.json").write_text(json.dumps(record))
    scoring.main([*NAMES, "--profile", "toy"])
    cell = cell_of(study)
    expected = {
        "profile": "toy", "algorithm": "PRO", "ranking_len": 3, "stage": 2, "num_prompts": 400, "seed": 43,
        "exp": "trial", "data": "hh_train_len3_400", "selection": "random", "world": None,
        "reward_source": "tiny-rm", "git": "abc", "versions": {"torch": "2"}, "launch": None, "data_sha256": None,
    }  # fmt: skip
    assert {key: cell[key] for key in expected} == expected
    assert cell["config"]["train_file_path"] == "data/hh_train_len3_400"
    assert cell["evaluation"] == {
        "checkpoint": "best_checkpoint",
        "generation": {
            "model": "checkpoints/index_trial/stage_2/step_7", "max_new_tokens": 9, "mixed_precision": "bf16",
        },
        "rewarding": {"reward_model": "tiny-rm", "mixed_precision": "no"},
    }  # fmt: skip
    diversity = {"score": 10.0, "unique": 30, "total": 60, "samples": 400}
    assert {key: cell["diversity"][key] for key in diversity} == diversity


def test_the_cells_numbers(study):
    scoring.main(NAMES)
    cell = cell_of(study)
    assert cell["diversity"] is None
    entry = cell["files"]["helpful_base"]
    assert entry["reward"] == pytest.approx([0.16, 0.18, 0.20, 0.22, 0.24])
    assert entry["mean"]["reward"] == pytest.approx(0.2)
    assert entry["bleu"][0] == pytest.approx(100) and entry["bleu"][1] < 80
    assert len(set(entry["row_id"])) == 5
    assert pooled(cell["files"], "Helpful").mean() == pytest.approx((20 + 30 + 60) / 300)
    assert pooled(cell["files"], "Global").mean() == pytest.approx((10 + 20 + 30 + 60) / 400)


def test_the_table(study, capsys):
    scoring.main(NAMES)
    lines = capsys.readouterr().out.splitlines()
    shown = {line.split()[0]: line.split() for line in lines[2:8]}
    assert list(shown) == ["Harmless", "helpful_base", "helpful_online", "helpful_rejection", "Helpful", "Global"]
    assert [shown[name][1] for name in shown] == ["5", "5", "5", "5", "15", "20"]
    means = [shown[name][2] for name in shown]
    assert means == ["10.00", "20.00", "30.00", "60.00", "36.67", "30.00"]
    rewards = 100 * np.array([0.06, 0.08, 0.10, 0.12, 0.14])
    low, high = float(shown["Harmless"][3].strip("[,")), float(shown["Harmless"][4].strip("]"))
    assert rewards.min() < low < 9 < 11 < high < rewards.max()


def test_row_ids_tell_other_test_rows_apart(study):
    scoring.main(NAMES)
    first = cell_of(study)["files"]["harmless_base"]["row_id"]
    test = study / "data" / "hh_test" / "harmless_base.json"
    rows = read_lines(test)
    rows[3]["prefix"] = [["<|prompter|>Another question", "<|assistant|>"]] * 2
    write_lines(test, rows)
    evaluate(study, "harmless_base", rows_with(study, "harmless_base", "Turn the water on."))
    scoring.main(NAMES)
    second = cell_of(study)["files"]["harmless_base"]["row_id"]
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, True, True, False, True]


def test_shape_of_a_training_set_without_a_published_name(study):
    run = study / "checkpoints/index_trial/stage_2/run.json"
    record = json.loads(run.read_text())
    data = study / "data" / "my_rankings"
    turns = ["<|prompter|>Hi", "<|assistant|>"]
    row = {"prefix": [turns] * 4, "suffix": list("abcd"), "reward": [4, 3, 2, 1], "meta": {}}
    write_lines(data / "train.json", [row] * 6)
    record["config"]["train_file_path"] = str(data / "train.json")
    run.write_text(json.dumps(record))
    scoring.main(NAMES)
    cell = cell_of(study)
    assert (cell["data"], cell["ranking_len"], cell["num_prompts"]) == ("my_rankings", 4, 6)
    assert "draw" not in cell


@pytest.mark.parametrize(
    "folder, expected",
    [
        ("hh_train_len4_120_max_d_matched", (4, 120, "max_d_matched", 7.5)),
        ("hh_train_len4_120_low_d", (4, 120, "low_d", None)),  # known, and not in the record
        ("hh_train_len4_120", (4, 120, "random", 6.5)),
        ("hh_train_len4_120_mine", (3, 5, "random", None)),  # a user's own: K and M are its rows'
        ("hh_train_len4_120_random", (3, 5, "random", None)),
    ],
)
def test_the_folder_tells_the_selection(study, folder, expected):
    entry = {"#filtered_ngrams": 30, "#all_ngrams": 60, "#samples": 120}
    record = {"120": {"2": {**entry, "diversity": 6.5}}, "120_max_d_matched": {"2": {**entry, "diversity": 7.5}}}
    (study / "data" / "record_hh_train.json").write_text(json.dumps(record))
    tokenizers = {"120": "plain", "120_max_d_matched": "matched"}
    (study / "data" / "record_hh_train_tokenizers.json").write_text(json.dumps(tokenizers))
    row = {"prefix": [["<|prompter|>Hi", "<|assistant|>"]] * 3, "suffix": list("abc"), "reward": [3, 2, 1], "meta": {}}
    write_lines(study / "data" / folder / "train.json", [row] * 5)
    cell = scored_as_trained_on(study, folder)
    diversity = cell["diversity"] or {"score": None, "tokenizer": None}
    assert (cell["ranking_len"], cell["num_prompts"], cell["selection"], diversity["score"]) == expected
    assert (cell["data"], diversity["tokenizer"]) == (folder, {7.5: "matched", 6.5: "plain"}.get(expected[3]))


@pytest.mark.parametrize("folder", ["hh_train_len3_5", "my_rankings"])
def test_data_that_changed_after_training_give_no_d(study, capsys, folder):
    """The record is of the subset that is there now; K and M of a user's own data would be of other rows."""
    run, file = study / "checkpoints/index_trial/stage_2/run.json", study / "data" / folder / "train.json"
    turns = ["<|prompter|>Hi", "<|assistant|>"]
    row = {"prefix": [turns] * 3, "suffix": list("abc"), "reward": [3, 2, 1], "meta": {}}
    recorded_responses(study / "data", "len3_5")
    write_lines(file, [row] * 5)
    run.write_text(json.dumps(json.loads(run.read_text()) | {"data_sha256": {"train": fingerprint({}, file)}}))
    is_named = folder != "my_rankings"
    assert bool(scored_as_trained_on(study, folder)["diversity"]) == is_named and not capsys.readouterr().err
    write_lines(file, [row] * 6)
    changed = f"{file}: has changed since the run was trained on it"
    if is_named:
        assert scored_as_trained_on(study, folder)["diversity"] is None
        assert f"warning: {changed}: the result has no D" in capsys.readouterr().err
    else:
        with pytest.raises(InputError, match=re.escape(changed)):
            scored_as_trained_on(study, folder)


def recorded_responses(folder, name, tokenizer="mine"):
    """Writes records of `name`, of K = 3 and M = 5: 15 responses and 5 best ones."""
    entry = {"#filtered_ngrams": 30, "#all_ngrams": 60, "#samples": 5, "diversity": 1.1}
    counts = {"all": {"unique": 9, "total": 18, "samples": 15, "score": 1.9},
              "best": {"unique": 7, "total": 8, "samples": 5, "score": 2.0}}  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "record_hh_train.json").write_text(json.dumps({"5": {"2": entry}}))
    (folder / "record_hh_train_tokenizers.json").write_text(json.dumps({"5": "mine"}))
    (folder / "record_hh_train_responses.json").write_text(json.dumps({name: {**counts, "tokenizer": tokenizer}}))
    return counts


def move_run(study, stage):
    for name in TEST_FILES:
        evaluate(study, name, rows_with(study, name, "Yes."), f"trial_{stage}_best_checkpoint")
    (study / "checkpoints/index_trial/stage_2").rename(study / f"checkpoints/index_trial/stage_{stage}")
    run = study / f"checkpoints/index_trial/stage_{stage}/run.json"
    made = json.loads(run.read_text())
    made["config"]["train_file_path"] = str(study / "data" / "draw43" / "hh_train_len3_5")
    run.write_text(json.dumps(made))
    scoring.main(["--index", "trial", "--stage", str(stage)])
    return load_cell(study / "eval_hh" / "results" / f"trial_{stage}.json")


@pytest.mark.parametrize("stage, kind", [(3, "all"), (1, "best")])
def test_a_cell_of_another_draw_has_the_responses_that_it_trained_on(study, stage, kind):
    counts = recorded_responses(study / "data" / "draw43", "len3_5")
    recorded_responses(study / "data", "len3_5", "another")  # that of draw 42 is not read
    cell = move_run(study, stage)
    assert (cell["draw"], cell["data"], cell["seed"]) == (43, "draw43/hh_train_len3_5", 43)
    assert (cell["ranking_len"], cell["num_prompts"], cell["selection"]) == (3, 5, "random")
    assert cell["diversity"] == {
        "score": 1.1, "unique": 30, "total": 60, "samples": 5, "tokenizer": "mine", "responses": counts[kind],
    }  # fmt: skip


def test_a_trained_run_says_its_draw(tmp_path, tiny_causal_lm_dir):
    """From the settings that main.py itself saves."""
    row = {"prefix": [["<|prompter|>Hi", "<|assistant|>"]] * 3, "suffix": list("abc"), "reward": [3, 2, 1], "meta": {}}
    data = tmp_path / "data" / "draw43" / "hh_train_len3_5_max_d_matched_kind_half"
    write_lines(data / "train.json", [row] * 5)
    training.main([
        "--do_train", "--index", "pro_draw43_seed43", "--model_name_or_path", str(tiny_causal_lm_dir("opt")),
        "--train_file_path", str(data), "--training_stage_num", "3", "--max_train_steps", "1",
        "--global_batch_size", "2", "--seed", "43", "--checkpointing_step", "1",
    ])  # fmt: skip
    cell = scoring.describe_run(Names("pro_draw43_seed43", 3), None)
    assert (cell["draw"], cell["seed"], cell["selection"]) == (43, 43, "max_d_matched_kind_half")
    assert (cell["ranking_len"], cell["num_prompts"]) == (3, 5)
    assert cell["config"]["train_file_path"] == f"data/{cell['data']}"


@pytest.mark.parametrize("name, tokenizer", [("len2_5", "mine"), ("len3_5", "another")])
def test_responses_that_were_not_counted_alike_are_left_out(study, name, tokenizer):
    recorded_responses(study / "data" / "draw43", name, tokenizer)
    assert "responses" not in move_run(study, 3)["diversity"]


def test_a_run_on_some_of_the_responses_has_no_diversity_of_them(study):
    recorded_responses(study / "data", "len3_5")
    cell = scored_as_trained_on(study, "hh_train_len3_5")  # stage 2
    assert cell["draw"] == 42 and cell["diversity"]["score"] == 1.1 and "responses" not in cell["diversity"]


def test_a_record_of_impossible_responses_is_named(study):
    recorded_responses(study / "data" / "draw43", "len3_5")
    path = study / "data" / "draw43" / "record_hh_train_responses.json"
    for text, message in (
        (path.read_text().replace('"samples": 15', '"samples": 14'), "diversity.responses.samples: 14 responses"),
        ('{"len3_5": 3}', "expected a JSON object, found int"),
        ('{"len3_5": {"all": 3, "tokenizer": "mine"}}', "all: expected dict"),
        ("[]", "expected a JSON object, found list"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=f"record_hh_train_responses.json.*{message}"):
            move_run(study, 3)
        (study / "checkpoints/index_trial/stage_3").rename(study / "checkpoints/index_trial/stage_2")


def test_an_enlarged_subset_tells_what_it_was_made_of(study):
    folder = "hh_train_len3_5_augment_diverse"
    row = {"prefix": [["<|prompter|>Hi", "<|assistant|>"]] * 3, "suffix": list("abc"), "reward": [3, 2, 1]}
    origins = ["base", "base", "pool", "pool", "pool"]
    write_lines(study / "data" / folder / "train.json", [{**row, "meta": {"origin": origin}} for origin in origins])
    entry = {"#filtered_ngrams": 30, "#all_ngrams": 60, "#samples": 5, "diversity": 1.5}
    record = {"5_augment_diverse": {}, "len2_5_augment_diverse": {}, "len3_5_augment_diverse": {"2": entry}}
    (study / "data" / "record_hh_train.json").write_text(json.dumps(record))
    (study / "data" / "record_hh_train_tokenizers.json").write_text(json.dumps({"len3_5_augment_diverse": "mine"}))
    cell = scored_as_trained_on(study, folder)
    assert (cell["selection"], cell["num_prompts"], cell["base_prompts"]) == ("augment_diverse", 5, 2)
    assert (cell["diversity"]["score"], cell["diversity"]["tokenizer"]) == (1.5, "mine")


def test_sft_is_stage_one(study):
    for name in TEST_FILES:
        evaluate(study, name, rows_with(study, name, "Yes."), "trial_1_best_checkpoint")
    (study / "checkpoints/index_trial/stage_2").rename(study / "checkpoints/index_trial/stage_1")
    scoring.main(["--index", "trial", "--stage", "1"])
    cell = load_cell(study / "eval_hh" / "results" / "trial_1.json")
    assert (cell["algorithm"], cell["ranking_len"]) == ("SFT", 3)


def test_the_embedded_world_is_scored_by_its_gold_reward(study, monkeypatch, capsys):
    (study / "data" / "toy").mkdir()
    (study / "data" / "toy" / "world.json").write_text(json.dumps({"hash": "w0", "config": {}}))
    texts = []

    class Gold:
        def score(self, turns_list, suffixes):
            texts.extend(suffixes)
            return [0.75 if turns[-1] == "<|assistant|>" else 0.0 for turns in turns_list]

    monkeypatch.setattr("eval_hh.scoring.GoldReward", Gold)
    scoring.main(NAMES)
    cell = cell_of(study)
    assert (cell["world"], cell["reward_source"]) == ("w0", "gold")
    assert cell["files"]["harmless_base"]["reward"] == [0.75] * 5
    assert pooled(cell["files"], "Global", "reward_model").mean() == pytest.approx(0.3)
    assert texts[:2] == ["Turn the water off first. 0", "Turn the water on."]
    header, harmless = capsys.readouterr().out.splitlines()[1:3]
    assert header.split()[-1] == "reward_model"
    assert harmless.split()[2] == "75.00" and harmless.split()[-1] == "10.00"


def test_prompts_of_another_world_are_refused(study):
    (study / "data" / "toy").mkdir()
    (study / "data" / "toy" / "world.json").write_text(json.dumps({"hash": "w0", "config": {}}))
    with pytest.raises(InputError, match="harmless_base.json: .*embedded world"):
        scoring.main(NAMES)


def test_what_is_missing_is_named(study):
    scored(study, "helpful_online").unlink()
    with pytest.raises(InputError, match="helpful_online.json: no such file.*python rewarding.py --index trial"):
        scoring.main(NAMES)
    assert not (study / "eval_hh" / "results").exists()


def test_a_row_without_a_score_is_named(study):
    rows = read_lines(scored(study))
    del rows[2]["infer"]["score"]
    write_lines(scored(study), rows)
    with pytest.raises(InputError, match=r"harmless_base.json:3: infer.score is missing"):
        scoring.main(NAMES)


def test_a_run_without_its_configuration(study):
    (study / "checkpoints/index_trial/stage_2/run.json").unlink()
    for flags in ([], ["--check"]):
        with pytest.raises(InputError, match="run.json: no such file .*a model of no run can be tested"):
            scoring.main([*NAMES, *flags])


def test_check_only_looks(study):
    shutil.rmtree(study / "eval_hh")
    scoring.main([*NAMES, "--check"])
    assert not (study / "eval_hh").exists()


def test_launch_and_data_are_those_of_the_run(study):
    path = study / "checkpoints/index_trial/stage_2/run.json"
    record = json.loads(path.read_text())
    record |= {"launch": {"num_processes": 8}, "data_sha256": {"train": "ab", "dev": "cd"}}
    record["config"] |= {"dev_reward_model": "/elsewhere/rm", "model_name_or_path": "facebook/opt-1.3b"}
    path.write_text(json.dumps(record))
    scoring.main(NAMES)
    cell = cell_of(study)
    assert (cell["launch"], cell["data_sha256"]) == ({"num_processes": 8}, {"train": "ab", "dev": "cd"})
    assert cell["config"]["dev_reward_model"] == "/elsewhere/rm"
    assert cell["config"]["model_name_or_path"] == "facebook/opt-1.3b"


def test_another_checkpoint_has_a_result_of_its_own(study):
    scoring.main(NAMES)
    best = (study / "eval_hh" / "results" / "trial_2.json").read_bytes()
    for name in TEST_FILES:
        evaluate(study, name, rows_with(study, name, "Yes."), "trial_2_step_500")
    scoring.main([*NAMES, "--checkpoint", "step_500"])
    assert (study / "eval_hh" / "results" / "trial_2.json").read_bytes() == best
    cell = load_cell(study / "eval_hh" / "results" / "trial_2_step_500.json")
    assert cell["evaluation"]["checkpoint"] == "step_500"
    assert set(cell["files"]["harmless_base"]["bleu"]) != set(json.loads(best)["files"]["harmless_base"]["bleu"])
    with pytest.raises(InputError, match="--checkpoint 'step_500/'"):
        scoring.main([*NAMES, "--checkpoint", "step_500/"])


def test_some_test_files_make_a_table_and_no_result(study, capsys):
    for name in ("helpful_base", "helpful_rejection"):
        scored(study, name).unlink()
    scoring.main([*NAMES, "--test_files", "helpful_online", "harmless_base"])
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in printed[2:4]] == [["Harmless", "5", "10.00"], ["helpful_online", "5", "30.00"]]
    assert printed[4].startswith("no result file written") and len(printed) == 5
    assert printed[4].endswith("missing: helpful_base, helpful_rejection")
    assert not (study / "eval_hh" / "results").exists()


def test_the_last_of_the_test_files_completes_the_result(study, capsys):
    scoring.main([*NAMES, "--test_files", "helpful_online"])
    assert {name: entry["n"] for name, entry in cell_of(study)["files"].items()} == dict.fromkeys(TEST_FILES, 5)
    assert "Global" in capsys.readouterr().out


def test_files_of_other_settings_are_not_mixed(study, capsys):
    """One file generated with more tokens: no result of all four, but a table of that one."""
    name = "helpful_base"
    evaluate(study, name, rows_with(study, name, "Yes."), max_new_tokens=128)
    with pytest.raises(InputError, match="helpful_base.json: made with other settings than .*harmless_base.json"):
        scoring.main(NAMES)
    scoring.main([*NAMES, "--test_files", name])
    assert "missing: harmless_base, helpful_online, helpful_rejection" in capsys.readouterr().out
    assert not (study / "eval_hh" / "results").exists()


def test_scores_of_earlier_texts_are_refused(study):
    cache = study / "eval_hh/inference_res/cache/infer_generate_main_trial_2_best_checkpoint_harmless_base.json"
    write_lines(cache, rows_with(study, "harmless_base", "A newer text."))
    with pytest.raises(
        InputError, match="its scores do not match the texts in.*python rewarding.py --index trial --stage 2"
    ):
        scoring.main(NAMES)
