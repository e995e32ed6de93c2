"""What our PRO step was weighed against: padding, other batch sizes, logits in chunks, checkpointing, torch.compile.

Run: python benchmarks/pro_choices.py [--quick]
Every row is one alternative (as naive) beside what the trainer does (as ours), at K = 4, OPT-125M's shape, on the CPU.
A ratio above 1 says that ours is faster; one below 1, that the alternative is.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.side_by_side import Comparison, Row, in_turns, parser, report, same
from data_preprocess.command import run

RANKING_LEN = 4
OURS = 2


def alternatives(model, rankings: list) -> dict[str, tuple[Callable[[], float], Callable[[], float]]]:
    """(the alternative, ours) by name."""
    import copy

    from benchmarks.training_ways import packed, padded_shared
    from training.losses import response_logps

    ours = partial(packed, model, rankings, OURS)
    rare = copy.deepcopy(model)
    rare.gradient_checkpointing_enable({"use_reentrant": False})

    in_chunks = partial(packed, model, rankings, OURS, partial(response_logps, max_logits=1 << 22))
    whole = len(rankings)
    return {
        "one ranking a pass": (partial(packed, model, rankings, 1), ours),
        f"all {whole} rankings in one pass": (partial(packed, model, rankings, whole), ours),
        "rows padded to the longest of 2, sorted": (partial(padded_shared, model, rankings, 2), ours),
        f"rows padded to the longest of {whole}": (
            partial(padded_shared, model, rankings, whole), partial(packed, model, rankings, whole),
        ),
        "logits in chunks of 16 MiB, met twice": (in_chunks, ours),
        "gradient checkpointing": (partial(packed, rare, rankings, OURS), ours),
    }  # fmt: skip


def compiled_body(model, rankings: list) -> tuple[Callable[[], float], Callable[[], float]]:
    """(with a compiled body, ours). The first call compiles, for a minute and more."""
    import copy

    import torch

    from benchmarks.training_ways import packed

    compiled = copy.deepcopy(model)
    compiled.model = torch.compile(compiled.model, dynamic=True)
    return partial(packed, compiled, rankings, OURS), partial(packed, model, rankings, OURS)


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("--rankings", type=int, default=4, help="rankings per step, a multiple of 4")
    made.add_argument("--rounds", type=int, default=1, help="timed rounds")
    made.add_argument("--layers", type=int, help="of the model (default: OPT-125M's 12, quick 2)")
    args = made.parse_args(argv)
    import torch

    from benchmarks.stand_in_models import opt_125m
    from benchmarks.training_ways import encoded_rankings

    torch.set_num_threads(args.threads)
    encoded = encoded_rankings(args.rankings, RANKING_LEN)
    model = opt_125m(args.layers or (2 if args.quick else 12)).train()
    rows: list[Row] = []
    ways = alternatives(model, encoded)
    if not args.quick:
        ways["torch.compile of the body"] = compiled_body(model, encoded)
    for name, (alternative, ours) in ways.items():
        same(name, [alternative()], [ours()], 1e-4)  # and warms both up
        seconds = in_turns(alternative, ours, args.rounds, warm_up=False)
        rows.append(Comparison(f"PRO step, K = 4: {name}", *seconds, "s"))
    report(rows, args.json)


if __name__ == "__main__":
    run(main)
