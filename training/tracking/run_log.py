"""Logs of a run besides its metrics: train.log, and TensorBoard's files, which accelerate writes."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

from data_preprocess.files import disk_full_as_oserror

log = logging.getLogger("training")


class LogFile(logging.FileHandler):
    """A log file that ends the run if the disk is full, as every other file does."""

    def handleError(self, record: logging.LogRecord) -> None:
        with disk_full_as_oserror(Path(self.baseFilename)):
            raise


@contextlib.contextmanager
def train_log(folder: Path) -> Iterator[None]:
    """Writes log messages to train.log, and warnings to stderr too."""
    to_file, to_stderr = LogFile(folder / "train.log", encoding="utf-8"), logging.StreamHandler()
    to_file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    to_stderr.setLevel(logging.WARNING)
    log.addHandler(to_file)
    log.addHandler(to_stderr)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(to_stderr)
        log.removeHandler(to_file)
        with contextlib.suppress(OSError):  # already raised, and would be raised again
            to_file.close()


@contextlib.contextmanager
def quiet_tensorboard() -> Iterator[None]:
    """Silences OSErrors in TensorBoard's writer thread, which are raised again in the thread that waits for it."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not issubclass(args.exc_type, OSError):
            before(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
