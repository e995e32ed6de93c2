import json
import math
import shutil

import pytest
import torch
from eval_study import TEST_FILES, build_study, read_lines, write_lines

from data_preprocess.command import InputError, parse_settings, run
from data_preprocess.hub import load_tokenizer
from eval_hh import rewarding
from eval_hh.reward_model import RewardModel, load_reward_model
from tests.test_trainer import needs_bf16

NAMES = ["--index", "trial", "--stage", "2"]
TEXTS = ["Turn it off.", "", "They sing, and they sing, and then they sing again.", "I do not know.", "Amber."]


@pytest.fixture
def study(tmp_path, tiny_causal_lm_dir):
    """A study whose generation step is done."""
    build_study(tmp_path, tiny_causal_lm_dir("opt"))
    for name in TEST_FILES:
        rows = read_lines(tmp_path / "data" / "hh_test" / f"{name}.json")
        made = [{**row, "infer": {"t": text}} for row, text in zip(rows, TEXTS, strict=True)]
        write_lines(generated(tmp_path, name), made)
    return tmp_path


def generated(root, name):
    cache = root / "eval_hh" / "inference_res" / "cache"
    return cache / f"infer_generate_main_trial_2_best_checkpoint_{name}.json"


def scored(root, name="harmless_base"):
    return root / "eval_hh" / "inference_res" / f"infer_main_trial_2_best_checkpoint_{name}.json"


def test_sigmoid():
    assert rewarding.sigmoid(0.0) == 0.5
    assert rewarding.sigmoid(math.log(3)) == pytest.approx(0.75)
    assert rewarding.sigmoid(-math.log(3)) == pytest.approx(0.25)
    assert rewarding.sigmoid(1000.0) == 1.0
    assert rewarding.sigmoid(-1000.0) == 0.0


def test_the_score_is_the_sigmoid_of_the_logit(study, tiny_reward_dir):
    rewarding.main([*NAMES, "--reward_model", str(tiny_reward_dir), "--batch_size", "2"])
    model = load_reward_model(tiny_reward_dir)
    for name in TEST_FILES:
        source, made = read_lines(generated(study, name)), read_lines(scored(study, name))
        assert len({row["infer"]["score"] for row in made}) == 5
        for before, after in zip(source, made, strict=True):
            (logit,) = model.score([before["prefix"][0]], [before["infer"]["t"]])
            score = after["infer"].pop("score")
            assert score == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-6)
            assert after == before


def test_a_scored_file_is_scored_again_only_for_other_texts_or_another_model(study, tiny_reward_dir, tmp_path):
    flags = [*NAMES, "--test_files", "harmless_base", "--reward_model"]
    rewarding.main([*flags, str(tiny_reward_dir)])
    stamp = scored(study).stat().st_mtime_ns
    rewarding.main([*flags, str(tiny_reward_dir)])
    assert scored(study).stat().st_mtime_ns == stamp

    other = shutil.copytree(tiny_reward_dir, tmp_path / "other")
    rewarding.main([*flags, str(other)])
    assert scored(study).stat().st_mtime_ns > stamp

    before = read_lines(scored(study))
    rows = read_lines(generated(study, "harmless_base"))
    rows[2]["infer"]["t"] = "A new text."
    write_lines(generated(study, "harmless_base"), rows)
    rewarding.main([*flags, str(other)])
    after = [row["infer"]["score"] for row in read_lines(scored(study))]
    same = [new == pytest.approx(old["infer"]["score"], abs=1e-6) for new, old in zip(after, before, strict=True)]
    assert same == [True, True, False, True, True]


def test_what_is_missing_is_named(study, tiny_reward_dir):
    generated(study, "helpful_base").unlink()
    with pytest.raises(InputError, match="helpful_base.json: no such file.*python generation.py --index trial"):
        rewarding.main([*NAMES, "--reward_model", str(tiny_reward_dir)])
    with pytest.raises(InputError, match="nowhere/model: no such folder"):
        rewarding.main([*NAMES, "--check", "--reward_model", "/nowhere/model"])


def test_the_environment_names_the_reward_model(monkeypatch):
    monkeypatch.delenv("TEST_REWARD_MODEL", raising=False)
    assert parse_settings(rewarding.Rewarding, NAMES, "").reward_model == "OpenAssistant/oasst-rm-2-pythia-6.9b-epoch-1"
    monkeypatch.setenv("TEST_REWARD_MODEL", "/models/mine")
    monkeypatch.setenv("BATCH_SIZE", "7")
    config = parse_settings(rewarding.Rewarding, NAMES, "")
    assert (config.reward_model, config.batch_size) == ("/models/mine", 7)


def test_a_score_that_is_not_finite_ends_the_run_and_names_file_and_lines(study, tiny_reward_dir, capsys, monkeypatch):
    def scores(self, encoded, prompts):
        return [0.5, math.nan, 0.5, math.inf, 0.5][: len(encoded)]  # the longest dialogue is first

    monkeypatch.setattr(RewardModel, "score_batch", scores)
    with pytest.raises(SystemExit) as ended:
        run(lambda: rewarding.main([*NAMES, "--reward_model", str(tiny_reward_dir), "--batch_size", "5"]))
    line = capsys.readouterr().err.replace("\r", "\n").rstrip("\n").rpartition("\n")[2]
    assert ended.value.code == 1
    model = load_reward_model(tiny_reward_dir)
    rows = read_lines(generated(study, "harmless_base"))
    order = sorted(range(5), key=lambda row: -len(model.encode(rows[row]["prefix"][0], rows[row]["infer"]["t"])))
    lines = ", ".join(map(str, sorted((order[1] + 1, order[3] + 1))))
    assert line == f"error: {generated(study, 'harmless_base')}:{lines}: the reward model's score is not finite"
    assert sorted(path.name for path in scored(study).parent.iterdir()) == ["cache"]


def test_half_precision_is_measured_before_it_is_used(study, tiny_reward_dir, capsys):
    """The note beside each result has how far the logits of all files' rows move, against both models loaded here."""
    needs_bf16()
    rewarding.main([*NAMES, "--reward_model", str(tiny_reward_dir), "--mixed_precision", "bf16"])
    rows = [row for name in TEST_FILES for row in read_lines(generated(study, name))]
    dialogues = [row["prefix"][0] for row in rows], [row["infer"]["t"] for row in rows]
    half, exact = (
        load_reward_model(tiny_reward_dir, dtype).score(*dialogues) for dtype in (torch.bfloat16, torch.float32)
    )
    gaps = [abs(a - b) for a, b in zip(half, exact, strict=True)]
    for name in TEST_FILES:
        note = json.loads(scored(study, name).with_name(scored(study, name).name + ".done.json").read_text())
        found = note["half_precision"]
        assert (found["dtype"], found["dialogues"]) == ("bfloat16", 5 * len(TEST_FILES))
        assert found["largest"] == pytest.approx(max(gaps), rel=0.5) and 0 < found["root_mean_square"] < max(gaps)
    assert "logits in bfloat16 differ from float32 by at most" in capsys.readouterr().out
    rewarding.main([*NAMES, "--reward_model", str(tiny_reward_dir), "--mixed_precision", "bf16"])
    assert "0 of" in capsys.readouterr().out  # what is measured is no reason to score again


def test_turns_of_one_role_in_a_row_are_scored_as_one_where_roles_must_alternate(study, tiny_reward_dir):
    folder = shutil.copytree(tiny_reward_dir, study / "rm")
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('no') }}"
        "{% endif %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}"
    )
    tokenizer.save_pretrained(folder)
    test = study / "data" / "hh_test" / "harmless_base.json"
    scores = []
    for turns in (["<|prompter|>Hi", "<|prompter|>there"], ["<|prompter|>Hi\nthere"]):
        rows = [{**row, "prefix": [[*turns, "<|assistant|>"]] * 2} for row in read_lines(test)]
        write_lines(test, rows)
        made = [{**row, "infer": {"t": text}} for row, text in zip(rows, TEXTS, strict=True)]
        write_lines(generated(study, "harmless_base"), made)
        rewarding.main([*NAMES, "--reward_model", str(folder), "--test_files", "harmless_base"])
        scores.append([row["infer"]["score"] for row in read_lines(scored(study))])
    assert scores[0] == scores[1] and len(set(scores[0])) == 5
