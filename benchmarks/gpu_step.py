"""PRO step on one GPU: shared prompts, packed, against K separate padded passes with all logits. Part of gpu.sh.

    python benchmarks/run.py gpu_step [--quick] [--models NAME ...]

Models have the shapes of OPT-125M, OPT-1.3B and LLaMA-7B and random weights; forward, loss and backward are timed,
without the optimiser's update. The naive way takes the largest batch of NAIVE that fits into memory. Without a GPU it
runs on the CPU, to try the code with --quick.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.side_by_side import Row, Settings, in_turns, same, sized
from data_preprocess.command import setting

OURS = 14  # rankings per pass, the launchers' default
NAIVE = (14, 7, 4, 2)
TOLERANCE = {"float32": 1e-3, "bf16 autocast": 0.03, "bf16 weights": 0.03}  # of losses, relative
# What is measured of each model: precision, K, and the share of a step's rankings (float32 is slow).
PLAN = {
    "opt-1.3b": [("bf16 autocast", k, 1.0) for k in (4, 2, 3)] + [("bf16 weights", 4, 1.0), ("float32", 4, 0.125)],
    "llama-7b": [("bf16 weights", 4, 0.25)],
    "opt-125m": [(name, k, 1.0) for name in ("bf16 autocast", "float32") for k in (2, 3, 4)],
}


@dataclass(frozen=True)
class Sizes(Settings):
    models: tuple[str, ...] = setting("models (with --quick: opt-125m)", choices=tuple(PLAN), default=())
    rankings: int = sized("rankings per step, a multiple of 56 unless below 14", 56, 4)
    rounds: int = sized("timed rounds", 2, 1)
    layers: int = sized("maximum layers of a model", 99, 1)
    matrix: int = sized("size of the matrices whose product is timed", 8192, 512)


def ways(model: Any, rankings: list, precision: str) -> tuple[Callable[[int], Any], Callable[[], Any]]:
    """Returns the published way, for a batch size, and ours; both run only the forward pass under autocast."""
    from benchmarks.on_device import Watched, autocast
    from benchmarks.training_ways import packed, separate_passes
    from training.losses import response_logps

    class Forward:
        """The model as accelerate prepares it."""

        device = model.device

        def __call__(self, **inputs: Any) -> Any:
            with autocast(precision):
                return model(**inputs)

    def logps(model: Any, batch: dict) -> Any:
        with autocast(precision):
            return response_logps(model, batch)

    def naive(batch_size: int) -> Watched:
        return Watched(partial(separate_passes, Forward(), rankings, batch_size))

    return naive, Watched(partial(packed, model, rankings, min(OURS, len(rankings)), logps))


def that_fits(model: Any, naive: Callable[[int], Any]) -> tuple[int, Any]:
    """Returns the largest batch size that fits into memory, and the naive way with it, warmed up."""
    import torch

    for size in NAIVE:
        way = naive(size)
        try:
            way()
            return size, way
        except torch.OutOfMemoryError:
            pass
        model.zero_grad()
        torch.cuda.empty_cache()
    raise SystemExit(f"error: separate passes do not fit into memory in batches of {NAIVE[-1]}")


def compare(
    name: str, model: Any, rankings: list, precision: str, rates: dict[str, float], sizes: Sizes
) -> Iterator[Row]:
    """Measures one model, precision and K both ways; `rates` are operations per second by what they are a share of."""
    from benchmarks.flops import SHAPES
    from training.flops import shared_flops

    shape = SHAPES[name]
    naive_of, ours = ways(model, rankings, precision)
    ours()
    model.zero_grad()
    batch_size, naive = that_fits(model, naive_of)
    seconds, losses = in_turns(naive, ours, sizes.rounds, before=lambda _: model.zero_grad())
    model.zero_grad()
    what = f"{name}, {precision}, K = {len(rankings[0].segments)}"
    off = same(f"loss, {what}", losses[:1], losses[1:], TOLERANCE[precision])
    note = f"naive in batches of {batch_size}, ours {min(OURS, len(rankings))} a pass; losses differ by {off:.0e}"
    yield Row(f"{what}: step of {len(rankings)} rankings", *seconds, "s", note=note)
    if ours.peak == ours.peak:
        yield Row(f"{what}: peak memory", naive.peak, ours.peak, "MiB")
    tokens = sum(map(len, rankings))
    yield Row(f"{what}: tokens a second, ours", None, tokens / seconds[1], "", note=f"{tokens:,} tokens a step")
    flops = sum(shared_flops(shape, len(r.prompt), [len(s) for s in r.segments]) for r in rankings)
    if model.config.num_hidden_layers == shape.layers:
        for of, rate in rates.items():
            yield Row(f"{what}: share of {of}, ours", None, flops / seconds[1] / rate, "")


def measure(sizes: Sizes) -> Iterator[Row]:
    import torch

    from benchmarks import flops
    from benchmarks.on_device import PRECISIONS, data_sheet_peak, device
    from benchmarks.stand_in_models import causal_lm, llama_tokenizer
    from benchmarks.training_ways import encoded_rankings

    own = {dtype: flops.matmul_rate(sizes.matrix, 20, device(), dtype) for dtype in (torch.bfloat16, torch.float32)}
    for dtype, rate in own.items():
        yield Row(f"matrix product of {sizes.matrix}, {str(dtype)[6:]}", None, rate / 1e12, "TFLOP/s")
    for name in sizes.models or (("opt-125m",) if sizes.quick else PLAN):
        shape = flops.SHAPES[name]
        encoder = llama_tokenizer() if shape.gated else None
        for precision in dict.fromkeys(precision for precision, *_ in PLAN[name]):
            dtype = torch.float32 if precision == "float32" else torch.bfloat16
            rates = {"the matrix-multiply rate": own[dtype]}
            if dtype == torch.bfloat16 and data_sheet_peak():
                rates["the data sheet's peak"] = data_sheet_peak()
            layers = min(sizes.layers, shape.layers)
            model = causal_lm(shape, device(), PRECISIONS[precision][0], layers).train()
            for _, ranking_len, share in (plan for plan in PLAN[name] if plan[0] == precision):
                count = max(round(sizes.rankings * share), 1)
                rankings = encoded_rankings(count, ranking_len, encoder)
                yield from compare(name, model, rankings, precision, rates, sizes)
            del model
            if device().type == "cuda":
                torch.cuda.empty_cache()
