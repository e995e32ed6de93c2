"""Python scripts run in forks of a process that has the heavy imports, which cost four seconds in each new Python.

A fork stands for `python SCRIPT ...` or `python -c CODE ...`: it has its own environment, streams and limits, and its
exit status. The forked process is that of the tests that kill a command at its events (kill_events.py), too.
"""

import multiprocessing
import os
import resource
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
# Imported once, by the process that is forked.
PRELOADED = [
    "kill_events", "study_for_bad_input", "torch.utils.tensorboard", "transformers", "accelerate", "datasets",
    "safetensors.torch", "scipy.stats", "matplotlib.pyplot", "pyarrow.parquet", "sacrebleu", "deepspeed",
    "training.trainer", "training.reward.trainer", "eval_hh.inference.decoding", "eval_hh.reward_model",
]  # fmt: skip
# With which it starts; one thread, so that results are equal bit for bit.
STARTED_WITH = {
    "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false", "DS_ACCELERATOR": "cpu",
}  # fmt: skip


def forks() -> ForkServerContext:
    """Returns what starts forks; the process that is forked is started by the first call."""
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in STARTED_WITH.items():
            patch.setenv(name, value)
        forkserver.ensure_running()
    return context


def free_port() -> int:
    """Returns a port that nothing listens at: tests may run side by side."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Warm:
    """A running `python WORDS...`, like subprocess.Popen with text in pipes.

    Args:
        words: the script or -c and code, and its arguments.
        env: its whole environment.
        size_limit: the most bytes of a file that it writes.
    """

    def __init__(self, words: Sequence[object], env: Mapping[str, str], size_limit: int | None = None):
        self.words = list(map(str, words))
        self.folder = tempfile.TemporaryDirectory()
        self.process = forks().Process(target=_become, args=(self.words, dict(env), self.folder.name, size_limit))
        self.process.start()

    def finish(self, timeout: float = 600) -> subprocess.CompletedProcess:
        """Waits for its end; AssertionError if it does not come in time."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, f"{self.words}: still running after {timeout:g} s"
        out, err = (Path(self.folder.name, name).read_text() for name in ("out", "err"))
        self.folder.cleanup()
        return subprocess.CompletedProcess(self.words, self.process.exitcode, out, err)


def _become(words: list[str], env: dict[str, str], folder: str, size_limit: int | None) -> None:
    """In the fork: runs the script."""
    os.environ.clear()
    os.environ.update(env)
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT), descriptor)
    if size_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_limit, size_limit))
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name="__main__")
