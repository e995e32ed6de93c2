"""Folders that all processes of a run write or read together: full states, and the weights of checkpoints.

They are synced to disk with a manifest (training/saving/manifest.py) before they get their final names.
"""

import logging
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import (
    OPTIMIZER_NAME,
    SAFE_WEIGHTS_NAME,
    DistributedType,
    broadcast_object_list,
    gather_object,
    save,
)
from safetensors import SafetensorError, safe_open

from data_preprocess.command import InputError
from data_preprocess.files import disk_full_as_oserror, sync
from eval_hh.inference.together import agreed, end_all, in_first
from training.saving.checkpoints import TEMPORARY, RunFolder, remove
from training.saving.manifest import damage, file_names, synced_entry, write_manifest

WRAPPED = "module."  # prefix of weight names saved by several processes
# What damaged files raise, also those that hold another object than a state.
UNREADABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, EOFError, UnpicklingError,
    SafetensorError,
)  # fmt: skip


def write_folder(target: Path, write: Callable[[Path], None], accelerator: Accelerator) -> None:
    """Lets every process `write` into a temporary folder, syncs it, adds a manifest and renames it to `target`.

    Args:
        target: the final name; an intact folder of that name is kept, a damaged one is rewritten.
        write: called in every process with the temporary folder. Its collectives must come before what may fail.
        accelerator: its first process makes and renames the folder, and decides whether there is one already, as other
            processes may not see it yet on a network file system.

    Raises:
        OSError: the disk is full, in any process; the temporary folder is removed.
    """
    main = accelerator.is_main_process
    if broadcast_object_list([main and target.is_dir() and damage(target) is None])[0]:
        return
    try:
        with agreed(accelerator):
            if main:
                _make(target)
        temporary = _temporary(target)
        with agreed(accelerator), disk_full_as_oserror(target):
            write(temporary)
        _add_manifest(temporary, accelerator)
        in_first(accelerator, _publish, target)
    except BaseException:
        if main:
            shutil.rmtree(_temporary(target), ignore_errors=True)
        raise


def write_alone(target: Path, write: Callable[[Path], None]) -> None:
    """Like `write_folder`, by this process alone and without waiting for others."""
    if target.is_dir() and damage(target) is None:
        return
    temporary = _temporary(target)
    try:
        _make(target)
        with disk_full_as_oserror(target):
            write(temporary)
        write_manifest(temporary, [synced_entry(temporary, name) for name in file_names(temporary)])
        _publish(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _temporary(target: Path) -> Path:
    return target.with_name(target.name + TEMPORARY)


def _make(target: Path) -> None:
    """Makes the temporary folder of `target`, which is removed if it exists, since it is damaged."""
    if target.is_dir():
        remove(target)
    shutil.rmtree(_temporary(target), ignore_errors=True)
    _temporary(target).mkdir(parents=True)


def _publish(target: Path) -> None:
    _temporary(target).replace(target)
    sync(target.parent)


def _add_manifest(folder: Path, accelerator: Accelerator) -> None:
    names = broadcast_object_list([file_names(folder) if accelerator.is_main_process else None])[0]
    entries = []
    with agreed(accelerator):
        for name in names[accelerator.process_index :: accelerator.num_processes]:
            entries.append(synced_entry(folder, name))
    entries = gather_object(entries)
    in_first(accelerator, write_manifest, folder, entries)


def damage_in_shares(folder: Path, accelerator: Accelerator) -> str | None:
    """Like `damage`, for all processes together: each reads its share of the files."""
    found = gather_object([damage(folder, accelerator.process_index, accelerator.num_processes)])
    return next(filter(None, found), None)


def newest_whole(run: RunFolder, accelerator: Accelerator, tell: Callable[[str], None]) -> int:
    """Returns the step of a run's newest intact state, or 0 if there is no state; `tell` reports damaged ones.

    Raises:
        InputError: all states are damaged.
    """
    faults = []
    for step in broadcast_object_list([run.states()])[0]:
        fault = damage_in_shares(run.state_folder(step), accelerator)
        if fault is None:
            for passed in faults if accelerator.is_main_process else []:
                tell(f"skipped damaged state: {passed}")
            return step
        faults.append(fault)
    if faults:
        hint = f"no intact state to resume from (remove {run.path} to start over)"
        end_all(accelerator, InputError(f"{faults[0]}; {hint}"))
    return 0


def write_state(folder: Path, accelerator: Accelerator, write: Callable[[Path], None] | None = None) -> None:
    """Writes a full state with `write`, by default what DeepSpeed saves, but for frozen weights."""

    def everything(path: Path) -> None:
        accelerator.save_state(str(path), save_latest=False, exclude_frozen_parameters=True)  # loading passes the tag

    def write_all(path: Path) -> None:
        zero = accelerator.distributed_type == DistributedType.DEEPSPEED
        with _errors_at_the_end(accelerator.deepspeed_engine_wrapped.engine) if zero else nullcontext():
            (write or everything)(path)

    write_folder(folder, write_all, accelerator)


def save_plain_state(state: dict[str, dict[str, Any]], folder: Path) -> None:
    """Writes the full state of a run without DeepSpeed as accelerate does, but for random states: a step seeds its own.

    Args:
        state: "weights", the module's state dict without frozen ones, and "optimizer", the optimizer's.
        folder: exists.
    """
    # It says at each save that tied weights are stored once, as they should be.
    logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)
    save(OrderedDict(state["weights"]), folder / SAFE_WEIGHTS_NAME, safe_serialization=True)
    save(state["optimizer"], folder / f"{OPTIMIZER_NAME}.bin")


@contextmanager
def _errors_at_the_end(engine: torch.nn.Module) -> Iterator[None]:
    """Delays OSErrors: DeepSpeed's processes wait for each other after writing, also for one whose disk is full."""
    errors: list[OSError] = []

    def held(function: Callable) -> Callable:
        def call(*arguments: Any, **named: Any) -> None:
            path = [*arguments, *named.values()][-1]
            try:
                with disk_full_as_oserror(Path(path)):
                    function(*arguments, **named)
            except OSError as error:
                errors.append(error)

        return call

    writers = ((engine.checkpoint_engine, "save"), (engine, "_copy_recovery_script"))
    for owner, name in writers:
        setattr(owner, name, held(getattr(owner, name)))
    try:
        yield
    finally:
        for owner, name in writers:
            delattr(owner, name)
    if errors:
        raise errors[0]


def load_state(folder: Path, accelerator: Accelerator) -> None:
    """Loads a full state into the prepared objects, whatever number of processes saved it (not under ZeRO).

    Raises:
        InputError: the state cannot be read, or is of another model.
    """
    zero = accelerator.distributed_type == DistributedType.DEEPSPEED
    # A state lacks frozen weights, which the model already has.
    frozen = any(map(_frozen, accelerator._models))
    more = {"load_module_strict" if zero else "strict": False} if frozen else {}
    hook = accelerator.register_load_state_pre_hook(_as_saved)
    with agreed(accelerator):
        try:
            with readable(folder):
                accelerator.load_state(str(folder), **more)
        finally:
            hook.remove()
    accelerator.step = 0  # counts forward passes, whose number per step may have changed


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turns what damaged files of a state raise into an InputError that names the folder."""
    try:
        yield
    except UNREADABLE as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"{folder}: the state cannot be loaded ({reason})") from error


def without_frozen(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Returns the state dict of a module without its frozen weights."""
    frozen = _frozen(model)
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def _frozen(model: torch.nn.Module) -> set[str]:
    return {name for name, each in model.named_parameters(remove_duplicate=False) if not each.requires_grad}


def _as_saved(models: list[torch.nn.Module], folder: str) -> None:
    """Renames the modules' weights as in the file: one process and several save them under different names.

    Raises:
        ValueError: a file without frozen weights has others than the model trains.
    """
    if not models:  # DeepSpeed loads its own files
        return
    with safe_open(Path(folder) / SAFE_WEIGHTS_NAME, framework="numpy") as file:
        names = set(file.keys())
    inner = models[0].module if isinstance(models[0], torch.nn.parallel.DistributedDataParallel) else models[0]
    models[0] = inner
    if all(name.startswith(WRAPPED) for name in names):
        models[0] = torch.nn.ModuleDict({WRAPPED[:-1]: inner})
    if frozen := _frozen(models[0]):  # otherwise accelerate compares the names
        expected = models[0].state_dict().keys() - frozen
        if wrong := sorted(names ^ expected):
            raise ValueError(f"{len(wrong)} weights differ in name, first {wrong[0]}")
