"""What several processes do as one: where one of them fails, all of them end, and the words come once.

A process that ends alone leaves the others in a collective that it never joins.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from accelerate import Accelerator
from accelerate.utils import gather_object

from data_preprocess.command import FAILURE_FILE, InputError, RunError, Stopped, exit_status


@contextmanager
def agreed(accelerator: Accelerator) -> Iterator[None]:
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
        end_all(accelerator, found[0])


def end_all(accelerator: Accelerator, error: InputError | RunError | OSError | Stopped) -> NoReturn:
    """Ends every process with the error's status, and one with its words. All of them must call it."""
    accelerator.state.destroy_process_group()
    if accelerator.is_main_process or FAILURE_FILE in os.environ:  # launch.py lets the first of them speak
        raise error
    raise SystemExit(exit_status(error))
