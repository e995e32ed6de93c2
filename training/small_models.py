"""What pretrain.py and train_reward.py share: order of batches, learning-rate schedule, and a folder that is
written whole and reused when nothing that it was made from has changed.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from data_preprocess.files import disk_full_as_oserror, read_json, write_json

if TYPE_CHECKING:
    import torch

SETTINGS_FILE = "training_settings.json"
METRICS_FILE = "metrics.json"


def finished(folder: Path, settings: dict[str, Any], inputs: Sequence[Path]) -> bool:
    """True if `folder` holds a model made with these settings from inputs with these contents."""
    path = folder / SETTINGS_FILE
    return path.is_file() and read_json(path) == record(settings, inputs)


def save_folder(
    folder: Path,
    model: Any,
    tokenizer: Any,
    settings: dict[str, Any],
    inputs: Sequence[Path],
    metrics: dict[str, Any] | None = None,
) -> None:
    """Saves model (safetensors), tokenizer, settings and metrics.json beside `folder`, then gives them its name.

    An older model under that name is replaced.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        with disk_full_as_oserror(folder):
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            if metrics is not None:
                write_json(temporary / METRICS_FILE, metrics, indent=4)
            write_json(temporary / SETTINGS_FILE, record(settings, inputs), indent=4)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def record(settings: dict[str, Any], inputs: Sequence[Path]) -> dict[str, Any]:
    """What tells a model from others: its settings, where it lies apart, and the contents of its inputs.

    An input goes by its file name, or by its path where two have one name.
    """
    names = [path.name for path in inputs]
    hashes = {
        path.name if names.count(path.name) == 1 else str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in inputs
    }
    kept = {name: value for name, value in settings.items() if name != "output_dir"}
    return {"settings": kept, "inputs": hashes}


def batch_order(lengths: Sequence[int], batch_size: int, n_batches: int, seed: int) -> list[list[int]]:
    """`n_batches` batches of indices: each pass is a new shuffle, cut into batches of like length in random order.

    A batch's members are neighbours by length within a pool of eight batches, so that little is padded. A last
    batch that is not full is left out, unless the data do not fill one.
    """
    rng = Random(seed)
    batches: list[list[int]] = []
    while len(batches) < n_batches:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        one_pass = []
        for start in range(0, len(order), 8 * batch_size):
            pool = sorted(order[start : start + 8 * batch_size], key=lambda i: lengths[i])
            one_pass += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
        full = [batch for batch in one_pass if len(batch) == batch_size] or one_pass
        rng.shuffle(full)
        batches += full
    return batches[:n_batches]


def padded(rows: Sequence[list[int]], pad: int, device: "torch.device") -> "tuple[torch.Tensor, torch.Tensor]":
    """(input_ids, attention_mask), both [B, L] with L the longest row's length, padded on the right."""
    import torch

    length = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (length - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    return ids.to(device), mask.to(device)


def linear_schedule(optimizer: Any, n_steps: int) -> Any:
    """Warm-up over the first tenth of the steps, then a straight line down to 0."""
    from torch.optim.lr_scheduler import LambdaLR

    warmup = max(1, n_steps // 10)
    return LambdaLR(optimizer, lambda step: min((step + 1) / warmup, (n_steps - step) / max(1, n_steps - warmup)))
