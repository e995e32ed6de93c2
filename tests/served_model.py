"""A model behind `transformers serve`, in a process of its own, for the tests of endpoints."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

START = 600  # seconds that a server may take to load on a machine that has much else to do


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class ServedModel:
    """`with ServedModel(folder) as server`: server.url; kill() and start() as a machine would fail and come back."""

    def __init__(self, folder: Path, log: Path):
        self.folder, self.log, self.port = folder, log, free_port()
        self.process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/v1"

    @property
    def flags(self) -> list[str]:
        return ["--endpoint", self.url, "--endpoint_model", str(self.folder)]

    def start(self, wait: bool = True) -> None:
        script = Path(sys.executable).with_name("transformers")
        words = [script, "serve", self.folder, "--device", "cpu", "--dtype", "float32", "--port", str(self.port)]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
        if wait:
            self.wait()

    def wait(self) -> None:
        """Waits until the server answers."""
        end = time.monotonic() + START
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(f"http://localhost:{self.port}/health", timeout=5).close()
                return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.2)
        raise TimeoutError(self.log.read_text())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> "ServedModel":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.kill()
