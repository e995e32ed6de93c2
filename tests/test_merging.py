"""Rows of one prompt become one ranking, by hand."""

import json
from dataclasses import replace

import pytest

from data_preprocess.command import InputError
from data_preprocess.prepare import main
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.preparing.merging import by_prompt, merge_rows
from data_preprocess.records import load_records

PLUM, PEAR = (["<|prompter|>" + text, "<|assistant|>"] for text in ("Plum?", "Pear?"))


def row(prompt, rewards, line=1, **meta):
    """A row whose responses and rewards are the keys and values of a dict."""
    values = None if None in rewards.values() else list(rewards.values())
    return Candidates(prompt, list(rewards), values, {"source": "s", "line": line, **meta})


def rewards_of(candidates):
    return dict(zip(candidates.responses, candidates.rewards, strict=True))


def test_a_response_per_row_becomes_a_ranking_with_the_mean_of_equal_ones():
    pool = [row(PLUM, {"Blue.": 4.0}), row(PEAR, {"Green.": 2.0}), row(PLUM, {"Red.": 1.0}), row(PLUM, {" Blue.": 2.0})]
    merged, line = merge_rows(pool)
    assert [rewards_of(one) for one in merged] == [{"Blue.": 3.0, "Red.": 1.0}, {"Green.": 2.0}]
    assert merged[0].prefix == PLUM and merged[0].meta["line"] == 1
    assert line == "4 rows merged into 2 prompts"


def test_pairs_become_copeland_counts():
    """b beats a by two rows to one, and c; c beats a: b wins 2, c wins 1 and loses 1, a loses 2."""
    pairs = [("b", "a"), ("a", "b"), ("b", "a"), ("b", "c"), ("c", "a")]
    pairs = [{better: 1.0, worse: 0.0} for better, worse in pairs[:4]] + [{"a": 0.0, "c": 1.0}]
    merged, line = merge_rows([row(PLUM, pair) for pair in pairs] + [row(PEAR, {"x": 1.0, "y": 0.0})])
    assert rewards_of(merged[0]) == {"a": -2.0, "b": 2.0, "c": 0.0}
    assert rewards_of(merged[1]) == {"x": 1.0, "y": 0.0}
    assert line == "6 rows merged into 2 prompts, 1 of them with pairs that contradict one another"


def test_tied_pairs_are_votes_for_neither():
    """a beats b and ties with c; b and c tie. A row of scores among them makes all of them scores."""
    pairs = [{"a": 1.0, "b": 0.0}, {"a": 0.5, "c": 0.5}, {"b": 0.5, "c": 0.5}]
    merged, line = merge_rows([row(PLUM, pair) for pair in pairs])
    assert rewards_of(merged[0]) == {"a": 1.0, "b": -1.0, "c": 0.0}
    assert line == "3 rows merged into 1 prompts"
    scored, _ = merge_rows([row(PLUM, pair) for pair in [*pairs, {"c": 0.25}]])
    assert rewards_of(scored[0]) == {"a": 0.75, "b": 0.25, "c": pytest.approx((0.5 + 0.5 + 0.25) / 3)}


def test_scores_of_1_and_0_are_no_votes():
    """The mean of each: C is scored 1, A 1, 0 and 1; as votes C would beat A, and A both B and D."""
    pairs = [{"A": 1.0, "B": 0.0}, {"A": 0.0, "C": 1.0}, {"A": 1.0, "D": 0.0}]
    merged, line = merge_rows([replace(row(PLUM, pair), are_scores=True) for pair in pairs])
    assert rewards_of(merged[0]) == {"A": pytest.approx(2 / 3), "B": 0.0, "C": 1.0, "D": 0.0}
    assert line == "3 rows merged into 1 prompts"


def test_rows_without_rewards_stay_without_and_cannot_be_mixed():
    merged, _ = merge_rows([row(PLUM, {"a": None}), row(PLUM, {"b": None}), row(PLUM, {})])
    assert merged[0].responses == ["a", "b"] and merged[0].rewards is None
    with pytest.raises(InputError, match="s:7: no rewards, and another row of its prompt has some"):
        merge_rows([row(PLUM, {"a": 1.0}), row(PLUM, {"b": None}, line=7)])


def test_system_messages_tell_prompts_apart():
    assert len(by_prompt([row(PLUM, {}, system="Be brief."), row(PLUM, {}), row(PLUM, {})])) == 2


def written(tmp_path, rows, *flags):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    main(["--source", str(path), "--dev_rows", "0", *flags])
    [file] = (tmp_path / "data" / "original").glob("*/train.json")
    return load_records(file)


def test_the_flag_makes_rankings_of_both_kinds(tmp_path, capsys):
    texts = [("Blue.", 4), ("A number.", 1), ("Red.", 2)]
    rows = [{"prompt": p, "response": t, "help": h} for p in ("Plum?", "Pear?") for t, h in texts]
    flags = ["--responses_from", "response", "--rewards_from", "help"]
    with pytest.raises(InputError, match="rows.jsonl: .* each row holds one response .expected --merge_prompts"):
        written(tmp_path, rows, *flags)
    assert not (tmp_path / "data").exists()
    records = written(tmp_path, rows, *flags, "--merge_prompts")
    assert [(r.suffix, r.reward) for r in records] == [(["Blue.", "Red.", "A number."], [4.0, 2.0, 1.0])] * 2
    assert "6 rows merged into 2 prompts" in (tmp_path / "data" / "README.md").read_text()


COLUMNS = ["--responses_from", "a", "b", "--rewards_from", "sa", "sb"]


@pytest.mark.parametrize("flags", [COLUMNS, []])
def test_scores_in_columns_are_no_votes(tmp_path, flags):
    given = [("B", 1, 0), ("C", 0, 1), ("D", 1, 0)]
    rows = [{"prompt": "x", "completions": ["A", other], "scores": scores} for other, *scores in given]
    if flags:
        rows = [{"prompt": "x", "a": "A", "b": other, "sa": own, "sb": others} for other, own, others in given]
    [record] = written(tmp_path, rows, *flags, "--merge_prompts")
    assert (record.suffix, record.reward) == (["C", "A", "B", "D"], [1.0, pytest.approx(2 / 3), 0.0, 0.0])


def test_pairs_that_repeat_a_prompt_are_said_or_put_together(tmp_path, capsys):
    rows = [{"prompt": "Plum?", "chosen": "Blue.", "rejected": text} for text in ("Square.", "No.")]
    assert [r.suffix for r in written(tmp_path, rows)] == [["Blue.", "Square."], ["Blue.", "No."]]
    assert "1 rows repeat the prompt of a row before them (--merge_prompts" in capsys.readouterr().out
    (tmp_path / "data" / "original" / "hh_train_len2" / "train.json").unlink()
    [record] = written(tmp_path, rows, "--merge_prompts")
    assert (record.suffix, record.reward) == (["Blue.", "Square.", "No."], [2.0, -1.0, -1.0])
