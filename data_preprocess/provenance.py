"""Provenance of a result: a fingerprint of its inputs, the git commit, package versions, the machine."""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections import Counter
from pathlib import Path

from data_preprocess.command import REPOSITORY

VERSIONED_PACKAGES = ("torch", "transformers", "accelerate", "deepspeed", "numpy")


def fingerprint(settings: dict, *inputs: str | Path) -> str:
    """Returns the sha256 of settings (JSON values) and input file contents: equal only for the same work."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in inputs:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def git_hash() -> str | None:
    """Returns the repository's commit, or None outside a git checkout."""
    if not (REPOSITORY / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that affect results; missing packages are omitted."""
    found = {"python": platform.python_version()}
    for name in VERSIONED_PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """Returns the number of cores and the processor name, for reports."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}"


def machine_with_gpus() -> str:
    """Returns `machine()` with the names of the GPUs that torch sees."""
    import torch

    names = Counter(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return " and ".join([*(f"{count} {name}" for name, count in names.items()), machine()])
