"""Starts a script in several processes, as `accelerate launch` does, and exits with their status.

    python launch.py --num_processes 4 train_reward.py --train_file FILE ...

Flags before the script are those of `accelerate launch`; --config_file defaults to eval_hh/dp_config.yaml, and with
--zero_stage to ds_config.yaml. If processes fail, the launcher prints the error line of the first one and exits with
its status (data_preprocess/command.py).
SIGTERM, SIGUSR1 and Ctrl-C are forwarded once, and the processes get time to save what is needed to resume; a second
signal ends them at once.
"""

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import (
    FAILURE_FILE,
    REPOSITORY,
    SAME_REQUEST,
    STOP_SIGNALS,
    RunError,
    Stopped,
    cores_each,
    run,
    say,
    signal_name,
)

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

CONFIG = REPOSITORY / "eval_hh" / "dp_config.yaml"
ZERO_CONFIG = REPOSITORY / "training" / "ds_config.yaml"
# Seconds from a signal to SIGKILL: a slow disk writes 100 GB in an hour. torch's 30 s would interrupt a full state.
TIME_TO_SAVE = 3600


class Signals:
    """Raises the first signal, which torch's agent then forwards before it waits; a later one kills all workers."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.when = 0.0

    def receive(self, number: int, frame: FrameType | None) -> None:
        from torch.distributed.elastic.multiprocessing.api import SignalException

        if self.first is None:
            self.first, self.when = number, time.monotonic()
            raise SignalException(signal.Signals(number).name, signal.Signals(number))
        if time.monotonic() - self.when > SAME_REQUEST:
            end_workers()


def end_workers() -> None:
    """Sends SIGKILL to all remaining child processes."""
    import psutil

    for worker in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()


@contextlib.contextmanager
def handled(signals: Signals) -> Iterator[None]:
    """Routes signals to `signals` inside the block; afterwards no worker is left."""
    before = {number: signal.signal(number, signals.receive) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        end_workers()


def share_cores(processes: int) -> None:
    """Without a GPU that torch finds, divides this machine's cores among its processes."""
    import torch

    if not torch.cuda.is_available():  # which is true for AMD's, too
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        os.environ.setdefault("OMP_NUM_THREADS", str(cores_each(processes)))


def start(argv: Sequence[str]) -> None:
    """Runs the workers to completion, as `accelerate launch` with these flags."""
    from accelerate.commands.launch import launch_command, launch_command_parser

    # The agent would log each worker that ends and each signal that it sends.
    agent = logging.getLogger("torch.distributed.elastic")
    agent.addHandler(logging.NullHandler())
    agent.propagate = False
    args = launch_command_parser().parse_args(argv)
    args.config_file = args.config_file or str(ZERO_CONFIG if args.zero_stage else CONFIG)
    args.shutdown_timeout = TIME_TO_SAVE
    share_cores((args.num_processes or 1) // (args.num_machines or 1) or 1)
    # Handled by the agent: a closed terminal ends the workers, unless under nohup.
    ending = [name for name in ("SIGHUP", "SIGQUIT") if signal.getsignal(getattr(signal, name)) != signal.SIG_IGN]
    args.signals_to_handle = ",".join(ending)
    launch_command(args)


def first_failure(failures: "dict[int, ProcessFailure]") -> tuple[int, str]:
    """Returns (exit status, line) if no worker left a line: one was killed, or one failed on another machine.

    `failures` is by rank. Preferred is a worker that was killed, then one that failed, perhaps because it lost the
    killed one, and last one that the agent ended.
    """
    rank = min(failures, key=lambda rank: (failures[rank].exitcode == -signal.SIGTERM, failures[rank].exitcode > 0))
    code = failures[rank].exitcode
    if code < 0:
        return 128 - code, f"error: process {rank} was ended by {signal_name(-code)}"
    if code == 2:
        return code, ""  # argparse has printed why
    return code, f"error: process {rank} ended with status {code} (one on another machine may have failed first)"


def launch(argv: Sequence[str], failure_file: Path) -> None:
    """Runs the workers and exits with their status, with a line if none of them has reported why.

    Args:
        argv: flags of `accelerate launch`, the script and its flags.
        failure_file: written by the first worker that fails: [exit status, line].
    """
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    signals = Signals()
    status, line = 0, ""
    try:
        with handled(signals):
            start(argv)
    except ChildFailedError as error:
        status, line = first_failure(error.failures)
    except SignalException as error:
        signals.first = signals.first or error.sigval
    except DistError as error:
        raise RunError(f"the processes cannot be started: {str(error).partition(chr(10))[0]}") from None
    if failure_file.exists():
        status, line = json.loads(failure_file.read_text(encoding="utf-8") or f'[{status or 1}, ""]')
    elif signals.first:
        name = signal.Signals(signals.first).name
        raise Stopped(signals.first, f"by {name} (run the same command to resume)")
    if line:
        say(line)
    if status:
        raise SystemExit(status)


def main(argv: Sequence[str] | None = None) -> None:
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        usage = "launch.py [FLAGS OF accelerate launch] SCRIPT [FLAGS OF SCRIPT]"
        formatter = argparse.RawDescriptionHelpFormatter
        argparse.ArgumentParser(usage=usage, description=__doc__, formatter_class=formatter).parse_args(["--help"])
    with tempfile.TemporaryDirectory(prefix="launch-") as folder:
        os.environ[FAILURE_FILE] = str(Path(folder) / "status")
        try:
            launch(argv, Path(os.environ[FAILURE_FILE]))
        finally:
            del os.environ[FAILURE_FILE]


if __name__ == "__main__":
    run(main)
