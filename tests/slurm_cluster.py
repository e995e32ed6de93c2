"""A Slurm cluster of two nodes on this machine, for tests: Debian's slurm-wlm and munge, as root, without systemd.

Run: python tests/slurm_cluster.py    starts one, prints how to use it, and stops it at Ctrl-C

Jobs of the partition `low` are preempted by those of `high`, and get GRACE seconds to save.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

NODES, CPUS, GRACE = 2, 2, 60
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
{line}
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
MinJobAge=3600
KillWait=5
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs={cpus}
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime={grace}
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""


def why_not() -> str:
    """Returns why no cluster can be had here; nothing where one can."""
    missing = [program for program in NEEDED if not shutil.which(program, path=path())]
    if missing:
        return f"{', '.join(missing)}: not installed (apt-get install slurm-wlm munge)"
    return "" if os.geteuid() == 0 else "slurmctld and slurmd need root"


def path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin"


def free_ports(number: int) -> int:
    """Returns the first of so many free ports in a row."""
    for first in range(23000 + os.getpid() % 5000, 32000, number):
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            for port in range(first, first + number):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise OSError("no free ports")


class Cluster:
    """A running cluster; to be called with one of Slurm's commands, whose output it returns."""

    def __init__(self, folder: Path):
        self.folder, self.port, self.daemons = folder, free_ports(NODES + 1), []
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        self.environment = {**kept, "PATH": path(), "SLURM_CONF": str(folder / "slurm.conf")}

    def __call__(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> None:
        for name in ("state", *(f"spool-n{number + 1}" for number in range(NODES))):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(1024))
        self._configure("")
        files = {"key-file": "key", "socket": "socket", "log-file": "log", "pid-file": "pid", "seed-file": "seed"}
        self._daemon("munged", "-F", "-f", *(f"--{flag}={self.folder}/munge.{name}" for flag, name in files.items()))
        wait_for("munged", lambda: (self.folder / "munge.socket").exists())
        self._daemon("slurmctld", "-D")
        for number in range(NODES):
            self._daemon("slurmd", "-D", "-N", f"n{number + 1}")
        wait_for(
            "idle nodes",
            lambda: self("sinfo", "-h", "-N", "-p", "low", "-o", "%T", check=False).split() == ["idle"] * NODES,
        )

    def reconfigure(self, line: str) -> None:
        """Adds a line to slurm.conf in place of the one before."""
        self._configure(line)
        self("scontrol", "reconfigure")

    def stop(self) -> None:
        self("scancel", "--user=root", check=False)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _configure(self, line: str) -> None:
        made = CONF.format(
            host=socket.gethostname(), port=self.port, folder=self.folder, line=line, nodes=NODES,
            first=self.port + 1, last=self.port + NODES, cpus=CPUS, grace=GRACE,
        )  # fmt: skip
        (self.folder / "slurm.conf").write_text(made)

    def _daemon(self, *command: str) -> None:
        with open(self.folder / f"{command[0]}.out", "ab") as log:
            self.daemons.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log))


def wait_for(what: str, is_there: Callable[[], object], seconds: float = 60) -> None:
    """Waits until `is_there` returns something true; AssertionError after so many seconds."""
    end = time.monotonic() + seconds
    while not is_there():
        assert time.monotonic() < end, f"no {what} after {seconds:g} s"
        time.sleep(0.1)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Starts a cluster whose files lie in the folder, and stops it at the end."""
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as cluster:
        print(
            f"export SLURM_CONF={cluster.environment['SLURM_CONF']}   # partitions low and high; Ctrl-C stops it",
            flush=True,
        )
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    if why_not():
        sys.exit(f"error: {why_not()}")
    main()
