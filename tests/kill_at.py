"""Runs `module.main(argv)` and sends itself a signal when a named function is called for the n-th time.

    python kill_at.py MODULE FUNCTION N before|after -- argv...

The signal is SIGKILL, or the one that $SEND names.

FUNCTION is a dotted path, such as os.replace or training.trainer.Trainer._step. A process that kills itself at a
call meets every moment of a run without a race.
"""

import importlib
import os
import pkgutil
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import run


def kill_at(function: str, number: int, when: str, sent: signal.Signals) -> None:
    owner_name, name = function.rsplit(".", 1)
    owner = pkgutil.resolve_name(owner_name)
    original = getattr(owner, name)
    calls = 0

    def counting(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == number and when == "before":
            os.kill(os.getpid(), sent)
        result = original(*args, **kwargs)
        if calls == number and when == "after":
            os.kill(os.getpid(), sent)
        return result

    setattr(owner, name, counting)


if __name__ == "__main__":
    module, function, number, when, _, *argv = sys.argv[1:]
    entry = importlib.import_module(module)
    kill_at(function, int(number), when, signal.Signals[os.environ.get("SEND", "SIGKILL")])
    run(lambda: entry.main(argv))
