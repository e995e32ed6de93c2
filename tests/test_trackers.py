"""--report_to: what each tracker keeps, read back from its own files, is what metrics.jsonl has."""

import json
import sys
import time
from types import ModuleType

import pytest
from reward_rankings import arguments, write_rankings
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data_preprocess.command import InputError
from tests.test_going_on import names, train  # noqa: F401
from tests.test_trainer import metrics, study  # noqa: F401
from training import train_reward
from training.tracking.trackers import TRACKERS, check_report_to, chosen_trackers

SHORT = ("--no_do_validation", "--max_train_steps", "2", "--checkpointing_step", "100")
SHOWN = ("loss", "sft_loss_per_token", "score_margin", "ranking_accuracy", "kendall_tau", "learning_rate", "grad_norm")


def logged(train, exp="run"):  # noqa: F811
    return [{name: row[name] for name in SHOWN} for row in metrics(train.root, exp)]


def log_folder(train, exp="run"):  # noqa: F811
    return train.root / "logs" / exp / "4"


def leveldb_records(data):
    """Records of a log in LevelDB's format behind a header of 7 bytes, as wandb writes: blocks of 32 KiB with chunks of
    checksum (4 bytes), length (2) and kind (1: whole, 2: first, 3: middle, 4: last).
    """
    place, parts = 7, []
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):
            yield b"".join(parts)
            parts = []


def in_wandb(folder):
    """Rows of the one offline run below a folder, and its configuration."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    rows, config = [], {}
    for data in leveldb_records(path.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        items = record.history.item
        if items:
            rows.append({item.key or item.nested_key[0]: json.loads(item.value_json) for item in items})
        for update in (*record.run.config.update, *record.config.update):
            config[update.key or update.nested_key[0]] = json.loads(update.value_json)
    return rows, config


def test_wandb_offline(train, monkeypatch):  # noqa: F811
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert train("run", *SHORT, "--report_to", "wandb")[0] == 0
    end = time.monotonic() + 60
    rows, config = in_wandb(log_folder(train))
    while len(rows) < 2 and time.monotonic() < end:  # wandb's own process writes them, later on a busy machine
        time.sleep(0.5)
        rows, config = in_wandb(log_folder(train))
    assert [{name: row[name] for name in SHOWN} for row in rows] == logged(train)
    assert [row["_step"] for row in rows] == [1, 2]
    assert config["learning_rate"] == "0.01" and config["index"] == "run"
    assert not (log_folder(train) / "tensorboard").exists()


def test_mlflow_in_files(train, monkeypatch):  # noqa: F811
    from mlflow import MlflowClient

    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE"):  # restored afterwards, as the run sets them
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    assert train("run", *SHORT, "--report_to", "mlflow")[0] == 0, train.error
    client = MlflowClient((log_folder(train) / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("data-diversity")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "run stage 4" and run.data.params["learning_rate"] == "0.01"
    for name in SHOWN:
        history = client.get_metric_history(run.info.run_id, name)
        assert [(found.step, found.value) for found in history] == [
            (step, row[name]) for step, row in enumerate(logged(train), 1)
        ]


def test_trackio_gets_what_it_takes(train, monkeypatch):  # noqa: F811
    """Its package wants an older pillow than is pinned, so a stand-in takes its four calls."""
    calls = []
    package = ModuleType("trackio")
    package.config = {}
    package.init = lambda **named: calls.append(named) or package
    package.log = lambda values, **named: calls.append((values, named))
    package.finish = lambda: calls.append("finish")
    monkeypatch.setitem(sys.modules, "trackio", package)
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: ["trackio"])

    class Config(dict):
        def update(self, values, allow_val_change=False):
            super().update(values)

    package.config = Config()
    assert train("run", *SHORT, "--report_to", "trackio")[0] == 0, train.error
    assert calls[0] == {"project": "data-diversity", "name": "run stage 4"} and calls[-1] == "finish"
    assert [{name: values[name] for name in SHOWN} for values, _ in calls[1:-1]] == logged(train)
    assert package.config["index"] == "run"


def test_tensorboard_is_the_default_and_none_is_none(train):  # noqa: F811
    train("run", *SHORT)
    train("run", *SHORT[:2], "3", *SHORT[3:])  # goes on, in the same curve
    curves = EventAccumulator(str(log_folder(train) / "tensorboard"))
    curves.Reload()
    for name in SHOWN:
        found = [(event.step, event.value) for event in curves.Scalars(name)]
        assert found == [(step, pytest.approx(row[name])) for step, row in enumerate(logged(train), 1)]
    assert train("none", *SHORT, "--report_to", "none")[0] == 0
    assert sorted(path.name for path in log_folder(train, "none").iterdir()) == ["lock", "metrics.jsonl", "train.log"]


def test_a_tracker_that_does_not_start_is_one_line(train, monkeypatch):  # noqa: F811
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (train.root / "elsewhere").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "false")
    status, line = train("run", *SHORT, "--report_to", "mlflow")
    assert status == 2 and line.startswith("error: --report_to mlflow: does not start (MlflowException: ")
    assert not (train.root / "checkpoints").exists() and not (train.root / "logs").exists()
    assert train("run", *SHORT[:2], "1", *SHORT[3:], "--seed", "7")[0] == 0  # nothing holds it to those settings
    before = names(train.root)
    assert train("run", *SHORT, "--seed", "7", "--report_to", "mlflow")[0] == 2
    assert names(train.root) == before and (log_folder(train) / "metrics.jsonl").read_text().count("\n") == 1


def test_a_reward_model_s_tracker_that_does_not_start_is_one_line(tmp_path, tiny_reward_dir, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "elsewhere").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "false")
    argv = arguments(write_rankings(tmp_path), tiny_reward_dir, tmp_path / "model", "--report_to", "mlflow")
    with pytest.raises(InputError, match=r"--report_to mlflow: does not start \(MlflowException: "):
        train_reward.main(argv)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.json", "train.json", "two.json"]


def test_trackers_are_checked_before_a_run(train, monkeypatch):  # noqa: F811
    with pytest.raises(InputError, match="--report_to none wandb: expected trackers, or none alone"):
        check_report_to(["none", "wandb"])
    assert chosen_trackers(["none"]) == [] and chosen_trackers(["mlflow", "tensorboard", "mlflow"]) == [
        "tensorboard", "mlflow"
    ]  # fmt: skip
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    for name, package in TRACKERS.items():
        with pytest.raises(InputError, match=rf"^--report_to {name}: is not installed \(pip install {package}\)$"):
            chosen_trackers([name])
    status, line = train("run", *SHORT, "--report_to", "mlflow")
    assert (status, line) == (2, "error: --report_to mlflow: is not installed (pip install mlflow-skinny)")
    assert not (train.root / "checkpoints").exists()
