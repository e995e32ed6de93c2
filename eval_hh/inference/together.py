"""Error handling over several processes: if one of them fails, all of them end with the same error.

A process that ends alone leaves the others in a collective that it never joins.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object

from data_preprocess.command import InputError, RunError, Stopped


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
    state.destroy_process_group()
    raise error
