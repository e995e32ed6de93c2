"""study/running/made_before.py: a finished cell is reused only if the study would train and test it alike today.

What a cell's run is made of is taken from the launcher itself, whose Python records the flags that main.py is given.
"""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

import reproduce
from data_preprocess import prepare
from data_preprocess.command import InputError, parse_settings
from data_preprocess.provenance import fingerprint
from eval_hh.cells import write_cell
from study.running.made_before import check_data
from study.study_file import read_study
from tests.made_up import make_cell, row_of
from tests.test_commands import REPOSITORY, rankings
from training.config import TrainConfig

STUDY = """\
name: s
model: ./model
grid: {sizes: [8], ranking_lens: [2]}
rewards: {dev: ./rm, test: ./rm}
training: {max_train_steps: 4, learning_rate: 1e-4}
generation: {max_new_tokens: 48}
machine: {num_processes: 1, batch_size: 4}
"""
MODELS = ("model", "model2", "rm", "rm2")
LAUNCH = {"num_processes": 1, "mixed_precision": "no", "distributed_type": "NO"}


def read(tmp_path, *changes: tuple[str, str]):
    text = STUDY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8")
    config, study = reproduce.parse_args(["--study", str(path)])
    return study, config.every_cell(study)


@pytest.fixture(scope="module")
def of_launchers(tmp_path_factory):
    """{cell: the settings that its launcher gives main.py}, with {root} for the folder of the study file."""
    root = tmp_path_factory.mktemp("study")
    for name in MODELS:
        (root / name).mkdir()
    keep = f'import json, sys; json.dump(sys.argv[1:], open("{root}/words.json", "w"))'
    (root / "python").write_text(f"#!/bin/sh\nexec {sys.executable} -c '{keep}' \"$@\"\n")
    (root / "python").chmod(0o755)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_ROOT", str(root))
        patch.setenv("PYTHON", str(root / "python"))
        study, cells = read(root)
        for cell in cells:
            call = study.calls(cell)[0]
            subprocess.run(
                call.words, cwd=REPOSITORY / call.folder, env=os.environ | dict(call.environment), check=True
            )
            words = json.loads((root / "words.json").read_text())
            words = words[words.index(str(REPOSITORY / "training" / "main.py")) + 1 :]
            config = parse_settings(TrainConfig, [*words, "--validation_file_path", f"{study.root}/data/hh_dev"], "")
            found[cell] = json.dumps(dataclasses.asdict(config)).replace(str(root), "{root}")
    return found


@pytest.fixture
def finished(tmp_path, of_launchers):
    """The folder of a study file whose cells (PRO and SFT) and base row are finished."""
    for name in MODELS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    study, cells = read(tmp_path)
    for name in ("hh_train_len2_8/train.json", "hh_dev/sampled_dev.json"):
        rankings(study.root / "data" / name, 8)
    for cell in cells:
        # What lies under the study's root is named from there (eval_hh/scoring.py).
        text = of_launchers[cell].replace("{root}/runs/s/", "").replace("{root}", str(tmp_path))
        data = {"train": fingerprint({}, study.root / "data/hh_train_len2_8/train.json")}
        more = {"exp": cell.exp, "config": json.loads(text), "launch": LAUNCH, "data_sha256": data}
        write_cell(study.result(cell), {**make_cell(cell.algorithm, 2, 8, 42, 0.5), "diversity": None, **more})
    write_cell(study.root / "eval_hh/results/models/base.json", row_of("base", 0.4, model="model"))
    return tmp_path


def check(root, *changes):
    study, cells = read(root, *changes)
    reproduce.check_before(study, reproduce.PARTS, cells)


SAME = [
    (),
    (("batch_size: 4", "batch_size: 3"),),  # prompts per pass
    (("num_processes: 1", "num_processes: 2"),),
    (("learning_rate: 1e-4", "learning_rate: 0.0001, report_to: [none], per_device_eval_batch_size: 2"),),
    (("learning_rate: 1e-4", "learning_rate: 1e-4, gradient_checkpointing: true, keep_states: 1"),),
]


@pytest.mark.parametrize("changes", SAME)
def test_what_changes_no_result_may_differ(finished, changes):
    check(finished, *changes)


def test_models_may_be_moved(finished):
    for name in ("model", "rm"):
        (finished / "moved" / name).mkdir(parents=True)
        (finished / "moved" / name / "config.json").write_text("{}")
    check(finished, ("./model", "./moved/model"), ("dev: ./rm, test: ./rm", "dev: ./moved/rm, test: ./moved/rm"))


def test_a_report_alone_warns_of_cells_made_in_another_way(finished, capsys):
    """It may be made on another machine, but the cells may be those of an earlier study file."""
    study, cells = read(finished, ("learning_rate: 1e-4", "learning_rate: 1e-3"))
    reproduce.warn_of_changed(study, cells)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("warning: ") and "0.0001, is 0.001" in line for line in lines)
    reproduce.warn_of_changed(*read(finished))
    assert capsys.readouterr().err == ""


OTHER = [
    (("learning_rate: 1e-4", "learning_rate: 1e-3"), "learning_rate was 0.0001, is 0.001"),
    ((", learning_rate: 1e-4", ""), "learning_rate was 0.0001, is 2e-05"),
    (("max_train_steps: 4", "max_train_steps: 8"), "max_train_steps was 4, is 8"),
    (("num_processes: 1", "num_processes: 1, mixed_precision: bf16"), "mixed_precision was 'no', is 'bf16'"),
    (("dev: ./rm", "dev: ./rm2"), "dev_reward_model was "),
    (("learning_rate: 1e-4", "learning_rate: 1e-4, lora_r: 4"), "lora_r was 0, is 4"),
]


@pytest.mark.parametrize(("change", "said"), OTHER)
def test_another_training_is_refused(finished, change, said):
    with pytest.raises(InputError) as caught:
        check(finished, change)
    text = str(caught.value)
    assert text.startswith(f"{finished}/runs/s/eval_hh/results/pro_len2_8_seed42_2.json: pro_len2_8_seed42 was ")
    assert said in text and "a study of another name; to make it anew, delete this file and " in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("test: ./rm", "test: ./rm2"), "reward_model was 'rm', is 'rm2'"),
        (("max_new_tokens: 48", "max_new_tokens: 9"), "max_new_tokens was 48, is 9"),
        (("model: ./model", "model: ./model2"), "model was 'model', is 'model2'"),
    ],
)
def test_another_test_is_refused(finished, change, said):
    with pytest.raises(InputError, match="models/base.json: base was made with other settings: ") as caught:
        check(finished, change)
    assert said in str(caught.value)
    (finished / "runs/s/eval_hh/results/models/base.json").unlink()
    with pytest.raises(InputError, match="pro_len2_8_seed42 was made with other settings: ") as caught:
        check(finished, change)
    assert said.split(" was")[0] in str(caught.value)
    trained = not change[0].startswith("test:")  # else the training is kept: only the result has to go
    assert str(caught.value).endswith("delete it)") == (not trained)


def test_other_data_are_refused_and_a_damaged_result_is_left_to_the_report(finished):
    with open(finished / "runs/s/data/hh_train_len2_8/train.json", "a") as file:
        file.write("\n")
    with pytest.raises(InputError, match="train was "):
        check(finished)
    for path in (finished / "runs/s/eval_hh/results").glob("*.json"):
        path.write_text("{}")
    check(finished)


def test_an_unfinished_run_is_refused_before_the_others_are_trained(finished):
    """It may be extended, as main.py allows it."""
    study, cells = read(finished)
    for cell in cells:
        made = json.loads(study.result(cell).read_text())
        run = study.names(cell).run_folder
        run.mkdir(parents=True)
        (run / "run.json").write_text(json.dumps({name: made[name] for name in (*RECORDED, "git", "versions")}))
        study.result(cell).unlink()
    check(finished, ("max_train_steps: 4", "max_train_steps: 8"))
    with pytest.raises(InputError, match=r"index_pro_len2_8_seed42/stage_2/run\.json: .*learning_rate was 0\.0001"):
        check(finished, ("learning_rate: 1e-4", "learning_rate: 1e-3"))
    (run / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"index_sft_len2_8_seed42/stage_1/run\.json:1: not valid JSON"):
        check(finished)


RECORDED = ("config", "launch", "data_sha256")


def test_the_prompt_format_that_counts_is_the_last(tmp_path):
    (tmp_path / "s.yaml").write_text("name: s\nmodel: a/b\ngrid: {sizes: [8]}\ntraining: {prompt_format: chat}\n")
    study = read_study(tmp_path / "s.yaml", ())
    assert study.prompt_flags == ("--prompt_format", "chat")
    later = dataclasses.replace(study, train_flags=(*study.train_flags, "--prompt_format=hh"))
    assert later.prompt_flags == ()


def test_data_of_another_command_are_refused(tmp_path, monkeypatch):
    """The card that prepare.py writes names its command."""
    rankings(tmp_path / "raw" / "source.jsonl", 40)
    for name in ("model", "rm"):
        (tmp_path / name).mkdir()
    text = STUDY.replace("machine:", "prepare: {source: raw/source.jsonl, dev_rows: 4}\nmachine:")
    (tmp_path / "s.yaml").write_text(text)
    study = read_study(tmp_path / "s.yaml", ())
    call = study.data_calls([])[0]
    with monkeypatch.context() as patch:
        patch.setenv("STUDY_ROOT", str(study.root))
        prepare.main(list(call.words[2:]))
    check_data(study)
    for old, new, said in (
        ("dev_rows: 4", "dev_rows: 5", "dev_rows was 4, is 5"),
        ("raw/source.jsonl", "s.yaml", "source was 'source.jsonl', is 's.yaml'"),
        ("dev_rows: 4", "dev_rows: 4, decontaminate: true", "decontaminate was False, is True"),
    ):
        (tmp_path / "s.yaml").write_text(text.replace(old, new))
        with pytest.raises(InputError, match=r"data/README\.md: the data was made with other ") as caught:
            check_data(read_study(tmp_path / "s.yaml", ()))
        assert said in str(caught.value)
    (study.root / "data/README.md").write_text("# Data card\n\nWritten by:\n\n    python prepare.py --gone 'x\n")
    check_data(read_study(tmp_path / "s.yaml", ()))
