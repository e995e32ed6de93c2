"""Hostile input: every entry that reads rows ends in one line with file and line number, and writes nothing."""

import json

import pytest
from eval_study import TEST_FILES, build_study, result_paths, write_notes
from made_up import make_cell

import data_preprocess.diversity
import data_preprocess.prepare
import data_preprocess.sample
import data_preprocess.split
import eval_hh.generation
import eval_hh.report
import eval_hh.rewarding
import eval_hh.scoring
import pics.figures
import training.main
import training.pretrain
import training.train_reward
from data_preprocess.command import run

TURNS = ["<|prompter|>What is amber?", "<|assistant|>"]
ROW = {"prefix": [TURNS] * 4, "suffix": ["a", "b", "c", "d"], "reward": [2.0, 1.0, 1.0, -1.0], "meta": {}}


def changed(**fields) -> bytes:
    return json.dumps({**ROW, **fields}).encode()


def without(key: str) -> bytes:
    return json.dumps({name: value for name, value in ROW.items() if name != key}).encode()


ALWAYS = {  # what no reader takes: the line, and what the message says of it
    "cut short": (b'{"prefix": [["<|prompter|>Wh', "not valid JSON"),
    "no object": (b"[1, 2]", "expected a JSON object"),
    "blank": (b"", "blank line"),
    "latin-1": (json.dumps(ROW, ensure_ascii=False).replace("amber", "caf\xe9").encode("latin-1"), "not UTF-8"),
}
RANKING = ALWAYS | {  # what no ranking may be
    "missing key": (without("reward"), "missing reward"),
    "extra key": (changed(score=1), "unknown key 'score'"),
    "lengths": (changed(reward=[2.0, 1.0, 1.0]), "lengths differ"),
    "nan": (changed(reward=[2.0, 1.0, float("nan"), -1.0]), "expected a finite number"),
    "forged turn": (changed(prefix=[["What is amber?", "<|assistant|>"]] * 4), "turn 0 of the prefix"),
    "two prompts": (changed(prefix=[TURNS] * 3 + [["<|prompter|>Hi", "<|assistant|>"]]), "differs from prefix[0]"),
}
TRAINING = RANKING | {
    "unsorted": (changed(reward=[2.0, 1.0, 1.5, -1.0]), "rewards increase"),
    "empty suffix": (changed(suffix=["a", " ", "c", "d"]), "suffix[1] is empty"),
}
PAIR = json.dumps({"chosen": "\n\nHuman: Hi\n\nAssistant: Yes", "rejected": "\n\nHuman: Hi\n\nAssistant: No"})
TESTED = {**ROW, "prefix": [TURNS] * 2, "suffix": ["a", ""], "reward": [0.0, 1.0], "infer": {"t": "b", "score": 0.5}}


@pytest.fixture
def refused(tmp_path, capsys):
    """refused(main, argv): the message of the one line in which an entry ends, after a look that nothing is new."""

    def call(main, argv: list, status: int = 2) -> str:
        before = listing(tmp_path)
        capsys.readouterr()  # what building the models printed
        with pytest.raises(SystemExit) as ended:
            run(lambda: main([str(word) for word in argv]))
        error = capsys.readouterr().err
        assert ended.value.code == status, error
        assert error.startswith("error: ") and error.count("\n") == 1, error
        assert listing(tmp_path) == before
        return error

    return call


def listing(root):
    return {path: path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


def write(path, bad: bytes, good: str = json.dumps(ROW)):
    """A file of three lines, the second of them bad."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(good.encode() + b"\n" + bad + b"\n" + good.encode() + b"\n")
    return path


@pytest.mark.parametrize("defect", TRAINING)
@pytest.mark.parametrize("entry", ["split", "sample", "main.py", "train_reward"])
def test_training_rankings(entry, defect, refused, tmp_path, tiny_causal_lm_dir):
    bad, message = TRAINING[defect]
    path = write(tmp_path / "data" / "original" / "hh_train_len4" / "train.json", bad)
    good = write(tmp_path / "good.json", json.dumps(ROW).encode())
    tokenizer, output = tiny_causal_lm_dir("opt"), tmp_path / "output"
    reward = ["--tokenizer", tokenizer, "--output_dir", output]
    main, argv = {
        "split": (data_preprocess.split.main, []),
        "sample": (data_preprocess.sample.main, ["4", "--sizes", "2", "--tokenizer", tokenizer]),
        "main.py": (training.main.main, ["--do_train", "--index", "e", "--model_name_or_path", tokenizer,
                                         "--train_file_path", path.parent, "--training_stage_num", "4"]),
        "train_reward": (training.train_reward.main, ["--train_file", path, "--heldout_file", good, *reward]),
    }[entry]  # fmt: skip
    error = refused(main, argv)
    assert f"{path}:2: " in error and message in error


@pytest.mark.parametrize("defect", RANKING)
@pytest.mark.parametrize("entry", ["generation", "diversity", "main.py's dev file", "train_reward heldout"])
def test_rankings_that_are_not_trained_on(entry, defect, refused, tmp_path, tiny_causal_lm_dir):
    bad, message = RANKING[defect]
    model = tiny_causal_lm_dir("opt")
    if entry == "diversity":
        path = write(tmp_path / "prompts.jsonl", bad)
        error = refused(data_preprocess.diversity.main, [path, "--tokenizer", model])
    elif entry == "main.py's dev file":
        path = write(tmp_path / "data" / "hh_dev" / "sampled_dev.json", bad)
        train = write(tmp_path / "data" / "hh_train_len4_3" / "train.json", json.dumps(ROW).encode())
        argv = ["--do_train", "--do_validation", "--index", "e", "--model_name_or_path", model,
                "--dev_reward_model", model, "--train_file_path", train, "--training_stage_num", "4"]  # fmt: skip
        error = refused(training.main.main, argv)
    elif entry == "train_reward heldout":
        path, good = write(tmp_path / "heldout.json", bad), write(tmp_path / "train.json", json.dumps(ROW).encode())
        argv = ["--train_file", good, "--heldout_file", path, "--tokenizer", model, "--output_dir", tmp_path / "output"]
        error = refused(training.train_reward.main, argv)
    else:
        build_study(tmp_path, model)
        path = write(tmp_path / "data" / "hh_test" / "helpful_online.json", bad)
        error = refused(eval_hh.generation.main, ["--index", "trial", "--stage", "2"])
    if (entry, defect) != ("diversity", "missing key"):  # its rows need no more than a prompt
        assert message in error
    assert f"{path}:2: " in error


@pytest.mark.parametrize("defect", [*ALWAYS, "no infer", "infer no object", "no text", "text", "score", "lengths"])
@pytest.mark.parametrize("entry", ["rewarding", "scoring"])
def test_results_of_the_step_before(entry, defect, refused, tmp_path, tiny_causal_lm_dir, tiny_reward_dir):
    bad, message = {
        **ALWAYS,
        "no infer": (json.dumps({**ROW, "reward": [2, 1, 1, 0]}).encode(), "infer"),
        "infer no object": (json.dumps({**TESTED, "infer": "b"}).encode(), "infer"),
        "no text": (json.dumps({**TESTED, "infer": {"score": 0.5}}).encode(), "infer.t "),
        "text": (json.dumps({**TESTED, "infer": {"t": 5, "score": 0.5}}).encode(), "infer.t "),
        "score": (json.dumps({**TESTED, "infer": {"t": "b", "score": float("nan")}}).encode(), "infer.score "),
        "lengths": (json.dumps({**TESTED, "reward": [1.0]}).encode(), "lengths differ"),
    }[defect]
    if (entry, defect) == ("rewarding", "score"):
        pytest.skip("rewarding makes the scores")
    build_study(tmp_path, tiny_causal_lm_dir("opt"))
    for name in TEST_FILES:
        for path in result_paths(tmp_path, name):
            write(path, json.dumps(TESTED).encode(), json.dumps(TESTED))
        write_notes(tmp_path, name)
    generated, scored = result_paths(tmp_path, "harmless_base")
    path = write(scored if entry == "scoring" else generated, bad, json.dumps(TESTED))
    names = ["--index", "trial", "--stage", "2"]
    if entry == "scoring":
        error = refused(eval_hh.scoring.main, names)
    else:
        error = refused(eval_hh.rewarding.main, [*names, "--reward_model", tiny_reward_dir])
    assert f"{path}:2: " in error and message in error


@pytest.mark.parametrize("defect", [*ALWAYS, "no text"])
def test_corpus(defect, refused, tmp_path, tiny_causal_lm_dir):
    bad, message = (ALWAYS | {"no text": (b'{"txt": "a"}', "no text")})[defect]
    path = write(tmp_path / "corpus.jsonl", bad, '{"text": "Whales are mammals."}')
    argv = ["--corpus", path, "--tokenizer", tiny_causal_lm_dir("opt"), "--output_dir", tmp_path / "output"]
    error = refused(training.pretrain.main, argv)
    assert f"{path}:2: " in error and message in error


@pytest.mark.parametrize("defect", [*ALWAYS, "no rejected"])
def test_raw_pairs(defect, refused, tmp_path):
    bad, message = (ALWAYS | {"no rejected": (b'{"chosen": "a"}', "rejected is not a text")})[defect]
    for source in ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled"):
        write(tmp_path / "raw" / source / "test.jsonl", PAIR.encode(), PAIR)
    path = write(tmp_path / "raw" / "helpful-base" / "test.jsonl", bad, PAIR)
    error = refused(
        data_preprocess.prepare.main, ["--raw", tmp_path / "raw", "--dev_from", "test", "--dev_rows", "2"]
    )
    assert f"{path}:2: " in error and message in error


@pytest.mark.parametrize("defect", ["cut short", "missing", "extra", "nan", "lengths"])
@pytest.mark.parametrize("entry", ["report", "figures"])
def test_result_files(entry, defect, refused, tmp_path):
    """A result file stands on one line, so the field takes the line number's place."""
    cell = make_cell("PRO", 4, 1500, 42, 0.5)
    path = tmp_path / "results" / "cell.json"
    path.parent.mkdir()
    text = json.dumps(cell)
    if defect == "cut short":
        text = text[:200]
    elif defect == "missing":
        text = json.dumps({key: value for key, value in cell.items() if key != "seed"})
    elif defect == "extra":
        text = json.dumps({**cell, "sede": 1})
    elif defect == "nan":
        cell["files"]["helpful_base"]["reward"][3] = float("nan")
        text = json.dumps(cell)
    else:
        cell["files"]["helpful_base"]["reward"].pop()
        text = json.dumps(cell)
    path.write_text(text)
    main = eval_hh.report.main if entry == "report" else pics.figures.main
    error = refused(main, ["--results", path.parent, "--output", tmp_path / "output.png"])
    expected = {"cut short": "not valid JSON", "missing": "seed: missing", "extra": "sede: not a field"}
    assert str(path) in error and expected.get(defect, "files.helpful_base.reward") in error
