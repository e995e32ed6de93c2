"""The device that the GPU benchmarks run on: precisions, waiting for it, its memory and its peak."""

import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from eval_hh.inference.models import device

MIB = 2**20
# Dense bfloat16 operations per second of NVIDIA's data sheets, by a part of the card's name.
PEAKS = {"H100 80GB HBM3": 989e12, "H200": 989e12, "A100": 312e12}
# Of weights, and whether the forward pass runs under autocast to bfloat16, as accelerate's does.
PRECISIONS = {
    "float32": (torch.float32, False),
    "bf16 autocast": (torch.float32, True),  # without DeepSpeed
    "bf16 weights": (torch.bfloat16, False),  # under DeepSpeed
}


def autocast(precision: str) -> AbstractContextManager:
    """Returns the context, also usable as a decorator, that a forward pass of a precision runs in."""
    return torch.autocast(device().type, torch.bfloat16, enabled=PRECISIONS[precision][1])


class Watched:
    """A way that waits for the device at its end and notes the peak MiB of memory that it took there."""

    def __init__(self, way: Callable[[], Any]):
        self.way = way
        self.peak = float("nan")  # on the CPU

    def __call__(self) -> Any:
        if device().type == "cpu":
            return self.way()
        torch.cuda.reset_peak_memory_stats()
        result = self.way()
        torch.cuda.synchronize()
        self.peak = torch.cuda.max_memory_allocated() / MIB
        return result


def card() -> str:
    """Returns the card's name with its driver and CUDA, or the CPU."""
    if device().type == "cpu":
        return "the CPU"
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split("\n")[0]
    except (OSError, subprocess.CalledProcessError):
        driver = "unknown"
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    return f"{torch.cuda.get_device_name()}, {memory:.0f} GiB, driver {driver}, CUDA {torch.version.cuda}"


def data_sheet_peak() -> float | None:
    """Returns the card's dense bfloat16 operations per second by its data sheet, or None if it is not in PEAKS."""
    name = "" if device().type == "cpu" else torch.cuda.get_device_name()
    return next((peak for part, peak in PEAKS.items() if part in name), None)
