"""What several processes do as one: where one of them fails, all of them end, by the same error.

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
    """An InputError, RunError or OSError of any process inside ends all of them at the end of the block.

    The block holds no collective that comes behind what may fail.
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
    """Calls a function in the first process alone; where it fails, all end."""
    with agreed(processes):
        if processes.is_main_process:
            act(*args)


def end_all(processes: Accelerator | PartialState, error: InputError | RunError | OSError | Stopped) -> NoReturn:
    """Raises the error, which every process must do at the same place."""
    state = processes.state if isinstance(processes, Accelerator) else processes
    state.destroy_process_group()
    raise error
