"""Alternatives to our PRO step: padding, other batch sizes, logits in chunks, checkpointing, torch.compile.

Run: python benchmarks/pro_choices.py [--quick]
Each row compares one alternative (as naive) with what the trainer does (as ours), at K = 4, OPT-125M's shape, on the
CPU. A ratio above 1 means that ours is faster.
"""

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.side_by_side import Comparison, Row, Settings, benchmark, in_turns, same, sized
from data_preprocess.command import run

RANKING_LEN = 4
OURS = 2


@dataclass(frozen=True)
class Sizes(Settings):
    rankings: int = sized("rankings per step, a multiple of 4", 4)
    rounds: int = sized("timed rounds", 1)
    layers: int = sized("layers of the model", 12, 2)


def alternatives(model, rankings: list, compiled: bool) -> dict[str, tuple[Callable[[], float], Callable[[], float]]]:
    """Returns (the alternative, ours) by name; the first call of a compiled model compiles for over a minute."""
    import torch

    from benchmarks.training_ways import packed, padded_shared
    from training.losses import response_logps

    ours, whole = partial(packed, model, rankings, OURS), len(rankings)
    checkpointing = copy.deepcopy(model)
    checkpointing.gradient_checkpointing_enable({"use_reentrant": False})
    in_chunks = partial(response_logps, max_logits=1 << 22)
    found = {
        "one ranking a pass": (partial(packed, model, rankings, 1), ours),
        f"all {whole} rankings in one pass": (partial(packed, model, rankings, whole), ours),
        "rows padded to the longest of 2, sorted": (partial(padded_shared, model, rankings, 2), ours),
        f"rows padded to the longest of {whole}": (
            partial(padded_shared, model, rankings, whole), partial(packed, model, rankings, whole),
        ),
        "logits in chunks of 16 MiB, met twice": (partial(packed, model, rankings, OURS, in_chunks), ours),
        "gradient checkpointing": (partial(packed, checkpointing, rankings, OURS), ours),
    }  # fmt: skip
    if compiled:
        other = copy.deepcopy(model)
        other.model = torch.compile(other.model, dynamic=True)
        found["torch.compile of the body"] = (partial(packed, other, rankings, OURS), ours)
    return found


def measure(sizes: Sizes) -> list[Row]:
    from benchmarks.stand_in_models import opt_125m
    from benchmarks.training_ways import encoded_rankings

    rankings = encoded_rankings(sizes.rankings, RANKING_LEN)
    rows: list[Row] = []
    for name, (alternative, ours) in alternatives(opt_125m(sizes.layers).train(), rankings, not sizes.quick).items():
        same(name, [alternative()], [ours()], 1e-4)  # also warms both up
        rows.append(Comparison(f"PRO step, K = 4: {name}", *in_turns(alternative, ours, sizes.rounds).seconds, "s"))
    return rows


def main(argv: list[str] | None = None) -> None:
    benchmark(measure, argv, __doc__, Sizes)


if __name__ == "__main__":
    run(main)
