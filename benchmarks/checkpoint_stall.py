"""How long training stands still at a checkpoint: it is written in the background, against waiting until it is written.

Run: python benchmarks/run.py checkpoint_stall [--quick]
OPT-125M's shape in float32 with AdamW's state, in one process, on the disk of the temporary folder. What is written is
the same. The background takes its share of the processor from the steps beside it; that is not counted here.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from benchmarks.side_by_side import Row, Settings, in_turns, sized


@dataclass(frozen=True)
class Sizes(Settings):
    rounds: int = sized("timed checkpoints of each way", 3, 1)
    layers: int = sized("layers of the model", 12, 1)


def measure(sizes: Sizes) -> Iterator[Row]:
    import torch
    from accelerate import Accelerator

    from benchmarks.stand_in_models import opt_125m, tokenizer
    from training.losses import ResponseLogps
    from training.saving.checkpoint_writer import CheckpointWriter, tensors_in
    from training.saving.checkpoints import RunFolder

    accelerator, model = Accelerator(cpu=True), ResponseLogps(opt_125m(sizes.layers))
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    steps, background = count(1), []
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        writer = CheckpointWriter(accelerator, model, optimizer, tokenizer(), run, keep_states=1, is_lora=False)

        def begin() -> None:
            step = next(steps)
            writer.save_weights(step, writer.save_state(step))

        def wait() -> None:
            begin()
            writer.finish()

        def settle(way: object) -> None:
            began = time.perf_counter()
            writer.finish()
            background.append(time.perf_counter() - began)

        with writer.at_work():
            wait()  # warms both up
            (waiting, stall), _ = in_turns(wait, begin, sizes.rounds, before=settle)
            settle(begin)
        size = sum(tensor.nbytes for tensor in tensors_in([model.state_dict(), optimizer.state_dict()])) / 1e9
    what = f"stall of training at a checkpoint of {size:.2f} GB, waiting (as naive) and not (ours)"
    yield Row(what, waiting, stall, "s", note=f"{max(background):.3g} s more in the background")
