"""Error handling over several processes: if one of them fails, all of them end with the same error.

A process that ends alone leaves the others in a collective that it never joins.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object

from data_preprocess.command import InputError, RunError, Stopped

kept_groups: list[Any] = []  # see keep_group


@contextmanager
def agreed(processes: Accelerator | PartialState) -> Iterator[None]:
    """Ends all processes at the end of the block if any of them raised an InputError, RunError or OSError inside.

    The block must not contain a collective after something that may fail.
    """
    found = []
    try:
        yield
    except (InputError, RunError, OSError) as error:
        found = [error]
    found = gather_object(found)
    if found:
        end_all(processes, found[0])


def in_first(processes: Accelerator | PartialState, act: Callable, *args: Any) -> None:
    """Calls a function in the main process only; if it fails, all processes end."""
    with agreed(processes):
        if processes.is_main_process:
            act(*args)


def end_all(processes: Accelerator | PartialState, error: InputError | RunError | OSError | Stopped) -> NoReturn:
    """Raises the error; every process must call this at the same place."""
    state = processes.state if isinstance(processes, Accelerator) else processes
    keep_group()
    state.destroy_process_group()
    raise error


def keep_group() -> None:
    """Keeps the memory of torch's process group until this process ends; to be called before the group is destroyed.

    A DDP model must not have the last reference to it: torch then waits for gloo's thread while it holds Python's
    global lock, for which that thread may wait, and a run that is done would hang.
    """
    if torch.distributed.is_initialized():
        kept_groups.append(torch.distributed.group.WORLD)
