"""Trackers: where a run's metrics go besides its metrics file, through the classes of accelerate.

TensorBoard comes with requirements.txt, wandb and mlflow with training/requirements-trackers.txt; trackio wants an
older pillow than the pinned one, so it needs an environment of its own. A resumed run continues in
TensorBoard, where the steps that it repeats are dropped; the others show each start as a run of the same name, from its
first step on. Project: $WANDB_PROJECT, $TRACKIO_PROJECT or $MLFLOW_EXPERIMENT_NAME, by default PROJECT.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_preprocess.command import InputError
from data_preprocess.hub import describe

# By name, the package that brings it.
TRACKERS = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow-skinny",
    "trackio": "trackio",
}
PROJECT = "data-diversity"
NONE = "none"


def check_report_to(names: Sequence[str]) -> None:
    """Raises InputError if trackers are given together with none."""
    if NONE in names and set(names) != {NONE}:
        raise InputError(f"--report_to {' '.join(names)}: expected trackers, or none alone")


def chosen_trackers(names: Sequence[str]) -> list[str]:
    """Returns the trackers of --report_to, each once. Raises InputError if one is not installed."""
    from accelerate.tracking import get_available_trackers

    installed = list(map(str, get_available_trackers()))
    chosen = [name for name in TRACKERS if name in names]
    for name in chosen:
        if name not in installed:
            raise InputError(f"--report_to {name}: is not installed (pip install {TRACKERS[name]})")
    return chosen


def start_trackers(
    accelerator: Any, names: Sequence[str], folder: Path, run_name: str, settings: dict[str, Any], first_step: int
) -> None:
    """Starts the trackers, in the main process, to which `accelerator.log` then sends metrics.

    Args:
        accelerator: made without trackers.
        names: of --report_to.
        folder: for the files that they write.
        run_name: as the trackers show it.
        settings: shown with the run.
        first_step: the first that will be logged.

    Raises:
        InputError: a tracker does not start, for example without an account.
    """
    for name in chosen_trackers(names):
        tracker = _make(name, folder, run_name, first_step)
        with refused_tracker(name):
            tracker.start()
            if name != "tensorboard":  # which would show them as a run of its own
                tracker.store_init_configuration({key: str(value) for key, value in settings.items()})
        accelerator.trackers.append(tracker)


@contextmanager
def refused_tracker(name: str) -> Iterator[None]:
    """Turns what a tracker raises that does not start, but for a full disk, into an InputError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # of many kinds, from the network to an account
        raise InputError(f"--report_to {name}: does not start ({describe(error)})") from error


def _make(name: str, folder: Path, run_name: str, first_step: int) -> Any:
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, TrackioTracker, WandBTracker

    project = os.environ.get(f"{name.upper()}_PROJECT", PROJECT)
    if name == "tensorboard":
        return TensorBoardTracker(name, folder, purge_step=first_step)
    if name == "wandb":
        return WandBTracker(project, name=run_name, dir=str(folder))
    if name == "mlflow":
        if "MLFLOW_TRACKING_URI" not in os.environ:  # mlflow-skinny has no data base
            os.environ["MLFLOW_TRACKING_URI"] = (folder / "mlruns").resolve().as_uri()
            os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        return MLflowTracker(project, run_name=run_name)
    return TrackioTracker(project, name=run_name)
