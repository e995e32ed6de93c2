"""The commands of a study, to be printed, written into a job script or run."""

import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from data_preprocess.command import REPOSITORY, StopRequest


@dataclass(frozen=True)
class Call:
    """One command, as a user would type it in one of the repository's folders."""

    folder: str
    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()

    def shell(self) -> str:
        """Returns the line to type in the repository's root."""
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.environment]
        return f"(cd {self.folder} && {' '.join([*settings, shlex.join(self.words)])})"

    def run(self, log: Path, request: StopRequest) -> int:
        """Runs the command, appends its output to `log` and forwards a stop request to it; returns the exit status."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "a", encoding="utf-8") as file:
            print(self.shell(), file=file, flush=True)
            environment = {**os.environ, **dict(self.environment)}
            process = subprocess.Popen(
                self.words, cwd=REPOSITORY / self.folder, env=environment, stdout=file, stderr=subprocess.STDOUT
            )
            request.commands.append(process)
            if request.number is not None:  # the request arrived while the command was starting
                process.send_signal(request.number)
            status = process.wait()
            request.commands.remove(process)
        return status if status >= 0 else 128 - status
