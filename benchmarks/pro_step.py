"""PRO step of OPT-125M's shape: shared prompts, packed, against K separate padded passes with all logits.

Run: python benchmarks/pro_step.py [--quick]
Forward, loss and backward on the CPU in float32; the losses of both ways must agree to 1e-4. Then peak memory, and the
share of the machine's own matrix-multiply rate that our step reaches.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.side_by_side import Comparison, Measure, Row, in_turns, parser, peak_memory, report, same
from data_preprocess.command import run

TARGETS = {2: 3.0, 3: 4.5, 4: 6.0}
OURS = 2  # rankings per pass of ours: the fastest here, see pro_choices.py
SHARE = "share of the matrix-multiply rate, ours, K = {}"


def one_step(way: str, ranking_len: int, n_rankings: int, batch_size: int, layers: int, threads: int) -> None:
    """One step in a process of its own, for its peak memory."""
    import torch

    from benchmarks import training_ways
    from benchmarks.stand_in_models import opt_125m

    torch.set_num_threads(threads)
    rankings = training_ways.encoded_rankings(n_rankings, ranking_len)
    getattr(training_ways, way)(opt_125m(layers).train(), rankings, batch_size)


def measure(ranking_len: int, batch_sizes: list[int], args) -> list[Row]:
    """The rows of one K: against the published way at each of its batch sizes, and our share of the machine's rate."""
    from benchmarks.flops import OPT_125M, matmul_rate, shared_flops
    from benchmarks.stand_in_models import opt_125m
    from benchmarks.training_ways import encoded_rankings, packed, separate_passes

    model, rankings = opt_125m(args.layers).train(), encoded_rankings(args.rankings, ranking_len)
    separate_passes(model, rankings[:1], 1), packed(model, rankings[:OURS], OURS)  # warm both up
    rows: list[Row] = []
    for batch_size in batch_sizes:
        losses: dict[str, float] = {}

        def naive(batch_size: int = batch_size, losses: dict = losses) -> None:
            model.zero_grad()
            losses["naive"] = separate_passes(model, rankings, batch_size)

        def ours(losses: dict = losses) -> None:
            model.zero_grad()
            losses["ours"] = packed(model, rankings, OURS)

        seconds = in_turns(naive, ours, args.rounds, warm_up=False)
        off = same(f"loss, K = {ranking_len}", [losses["naive"]], [losses["ours"]], 1e-4)
        what = f"PRO step, K = {ranking_len}, {args.rankings} rankings, naive in batches of {batch_size}"
        rows.append(Comparison(what, *seconds, "s", TARGETS[ranking_len], f"losses differ by {off:.0e}"))
    if args.layers == OPT_125M.layers:
        flops = sum(shared_flops(OPT_125M, len(r.prompt), [len(s) for s in r.segments]) for r in rankings)
        share = flops / seconds[1] / matmul_rate()
        rows.append(Measure(SHARE.format(ranking_len), share, "", "at least 0.7", f"{flops / 1e12:.2f} TFLOP"))
    return rows


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("--rankings", type=int, help="rankings per step, a multiple of 2 (default: 16, quick 4)")
    made.add_argument("--ranking_len", type=int, nargs="+", choices=TARGETS, help="K (default: 2 3 4, quick 2 4)")
    made.add_argument("--rounds", type=int, default=1, help="timed rounds (default: 1; a step is long)")
    made.add_argument("--layers", type=int, help="of the model (default: OPT-125M's 12, quick 2)")
    args = made.parse_args(argv)
    args.layers = args.layers or (2 if args.quick else 12)
    args.rankings = args.rankings or (4 if args.quick else 16)
    import torch

    torch.set_num_threads(args.threads)
    rows: list[Row] = []
    for ranking_len in args.ranking_len or ([2, 4] if args.quick else [2, 3, 4]):
        rows += measure(ranking_len, [4, 8] if ranking_len == 4 and not args.quick else [4], args)
    top = max(args.ranking_len or [4])
    naive = peak_memory(one_step, "separate_passes", top, 4, 4, args.layers, args.threads)
    ours = peak_memory(one_step, "packed", top, 4, OURS, args.layers, args.threads)
    rows.append(Comparison(f"peak memory of a step, K = {top}, whole process", naive, ours, "MiB", 2.0))
    report(rows, args.json)


if __name__ == "__main__":
    run(main)
