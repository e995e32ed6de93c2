"""PRO step with OPT-125M's shape: shared prompts, packed, against K separate padded passes with all logits.

Run: python benchmarks/run.py pro_step [--quick]
Times forward, loss and backward on the CPU in float32; the losses of both ways must agree to 1e-4. Also measures peak
memory, our step's share of the machine's own matrix-multiply rate, and whether the cost of a pass is linear in its
rankings. Long prompts are those of HH-RLHF, repeated; with K = 16 replies are drawn as with 4.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.side_by_side import (
    Row,
    Settings,
    in_fresh_process,
    in_turns,
    same,
    sized,
)

if TYPE_CHECKING:
    from training.collator import EncodedRanking

TARGETS = {2: "3x", 3: "4.5x", 4: "6x"}
OURS = 2  # our rankings per pass: the fastest here


@dataclass(frozen=True)
class Sizes(Settings):
    rankings: int = sized("rankings per step, a multiple of 2", 16, 4)
    ranking_len: tuple[int, ...] = sized("K", (2, 3, 4), (2, 4), choices=tuple(TARGETS))
    rounds: int = sized("timed rounds", 1)
    layers: int = sized("layers of the model", 12, 2)
    pass_rankings: int = sized("rankings of the smaller of two passes", 14, 2)
    long_rankings: int = sized("rankings with long prompts, and with many responses", 1)
    long_prompt: int = sized("tokens of a long prompt", 2000, 400)
    responses: int = sized("responses of a ranking with many", 16, 6)


def one_step(way: str, ranking_len: int, n_rankings: int, batch_size: int, layers: int) -> None:
    """Runs one step, to measure its peak memory."""
    from benchmarks import training_ways
    from benchmarks.stand_in_models import opt_125m

    rankings = training_ways.encoded_rankings(n_rankings, ranking_len)
    getattr(training_ways, way)(opt_125m(layers).train(), rankings, batch_size)


def measure_one(ranking_len: int, batch_sizes: list[int], sizes: Sizes) -> list[Row]:
    """Measures one K: against the published way at each of its batch sizes, and our share of the machine's rate."""
    from benchmarks.flops import OPT_125M, matmul_rate
    from benchmarks.stand_in_models import opt_125m
    from benchmarks.training_ways import encoded_rankings, packed, separate_passes
    from training.flops import shared_flops

    model, rankings = opt_125m(sizes.layers).train(), encoded_rankings(sizes.rankings, ranking_len)
    separate_passes(model, rankings[:1], 1), packed(model, rankings[:OURS], OURS)  # warm both up
    rows: list[Row] = []
    for batch_size in batch_sizes:
        naive = partial(separate_passes, model, rankings, batch_size)
        ours = partial(packed, model, rankings, OURS)
        seconds, losses = in_turns(naive, ours, sizes.rounds, before=lambda _: model.zero_grad())
        off = same(f"loss, K = {ranking_len}", losses[:1], losses[1:], 1e-4)
        what = f"PRO step, K = {ranking_len}, {sizes.rankings} rankings, naive in batches of {batch_size}"
        rows.append(Row(what, *seconds, "s", TARGETS[ranking_len], f"losses differ by {off:.0e}"))
    if sizes.layers == OPT_125M.layers:
        flops = sum(shared_flops(OPT_125M, len(r.prompt), [len(s) for s in r.segments]) for r in rankings)
        share, what = flops / seconds[1] / matmul_rate(), "share of the matrix-multiply rate, ours, K = "
        rows.append(Row(f"{what}{ranking_len}", None, share, "", "at least 0.7", f"{flops / 1e12:.2f} TFLOP"))
    return rows


def long_prompts(rankings: "Sequence[EncodedRanking]", length: int) -> "list[EncodedRanking]":
    """Returns the rankings with each prompt repeated up to `length` tokens."""
    return [replace(one, prompt=(one.prompt * (length // len(one.prompt) + 1))[:length]) for one in rankings]


def longer_rows(sizes: Sizes) -> Iterator[Row]:
    """Measures both ways on long prompts and on long rankings, with one ranking a pass."""
    from benchmarks.stand_in_models import opt_125m
    from benchmarks.training_ways import encoded_rankings, packed, separate_passes

    model, n = opt_125m(sizes.layers, positions=sizes.long_prompt + 2048).train(), sizes.long_rankings
    kinds = {
        f"prompt of {sizes.long_prompt:,} tokens, K = 4": long_prompts(encoded_rankings(n, 4), sizes.long_prompt),
        f"K = {sizes.responses}": encoded_rankings(n, sizes.responses),
    }
    for what, rankings in kinds.items():
        ways = partial(separate_passes, model, rankings, 1), partial(packed, model, rankings, 1)
        seconds, losses = in_turns(*ways, sizes.rounds, before=lambda _: model.zero_grad())
        off = same(what, losses[:1], losses[1:], 1e-4)
        yield Row(
            f"PRO step, {what}, passes of one ranking in both ways",
            *seconds,
            "s",
            note=f"losses differ by {off:.0e}",
        )


def pass_row(sizes: Sizes) -> Row:
    """Measures a pass of 14 rankings, as in the paper's settings, and one of twice as many."""
    from benchmarks.stand_in_models import opt_125m
    from benchmarks.training_ways import encoded_rankings, packed

    model = opt_125m(sizes.layers).train()
    once = encoded_rankings(sizes.pass_rankings, 2)
    packed(model, once[:1], 1)  # warms up
    ways = (partial(packed, model, rankings, len(rankings)) for rankings in ([*once, *once], once))
    seconds, _ = in_turns(*ways, sizes.rounds, before=lambda _: model.zero_grad())
    what = f"time of a pass of {2 * len(once)} rankings, K = 2, over that of {len(once)}"
    return Row(what, None, seconds[0] / seconds[1], "", "at most 2.2", f"{seconds[0]:.3g} s and {seconds[1]:.3g} s")


def measure(sizes: Sizes) -> list[Row]:
    rows: list[Row] = []
    for ranking_len in sizes.ranking_len:
        rows += measure_one(ranking_len, [4, 8] if ranking_len == 4 and not sizes.quick else [4], sizes)
    top = max(sizes.ranking_len)
    peaks = [
        in_fresh_process(sizes.threads, one_step, way, top, 4, batch_size, sizes.layers)[1]
        for way, batch_size in (("separate_passes", 4), ("packed", OURS))
    ]
    rows += [pass_row(sizes), *longer_rows(sizes)]
    return [*rows, Row(f"peak memory of a step, K = {top}, whole process", *peaks, "MiB", "2x")]
