"""What a training pass does on one GPU: how it grows with its rankings, what it dispatches, what takes its time.

    python benchmarks/run.py gpu_passes [--quick]

A pass is forward, loss and backward of rankings of 4 responses in one packed row, by an OPT of OPT-1.3B's shape under
autocast to bfloat16. Without a GPU it runs on the CPU, to try the code with --quick.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.side_by_side import Row, Settings, in_turns, sized

K = 4
PRECISION = "bf16 autocast"
TOP = 10  # operations that are listed


@dataclass(frozen=True)
class Sizes(Settings):
    rankings: int = sized("rankings of a pass, also measured with twice and four times as many", 14, 1)
    layers: int = sized("layers of the model", 24, 2)
    width: int = sized("hidden size of the model, a multiple of 64", 2048, 128)
    rounds: int = sized("timed rounds", 5, 1)


def one_pass(model: Any, rankings: list, batch_size: int, one_call: bool = True) -> float:
    """Runs passes of `batch_size` rankings; returns the loss. Without `one_call`, attention is computed per ranking."""
    from unittest.mock import patch

    from benchmarks.on_device import autocast
    from benchmarks.training_ways import packed
    from eval_hh.inference import shared_prompt
    from training.losses import response_logps

    def logps(model: Any, batch: dict) -> Any:
        with autocast(PRECISION):
            return response_logps(model, batch)

    usable = shared_prompt.usable
    with patch.object(shared_prompt, "usable", lambda *given: one_call and usable(*given)):
        return packed(model, rankings, batch_size, logps)


def growth(model: Any, sizes: Sizes) -> list[Row]:
    """Two passes of n rankings against one of 2n on the same rankings: a ratio of 1 where time is linear."""
    from benchmarks.on_device import Watched
    from benchmarks.training_ways import encoded_rankings

    rows: list[Row] = []
    for count in (sizes.rankings, 2 * sizes.rankings):
        rankings = encoded_rankings(2 * count, K)
        halves, whole = (Watched(partial(one_pass, model, rankings, size)) for size in (count, 2 * count))
        halves(), whole()  # warm both up
        seconds, _ = in_turns(halves, whole, sizes.rounds, before=lambda _: model.zero_grad())
        what = f"{2 * count} rankings: two passes of {count} (as naive), one of {2 * count} (ours)"
        rows.append(Row(what, *seconds, "s"))
        if whole.peak == whole.peak:
            rows.append(Row(f"{what}, peak memory", halves.peak, whole.peak, "MiB"))
    return rows


def new_lengths(model: Any, sizes: Sizes) -> list[Row]:
    """A pass of lengths that have not been seen, as every pass of a run, with cuDNN's attention and without.

    Both compute attention per ranking, as in float32 or with windows.
    """
    import torch

    from benchmarks.on_device import Watched
    from benchmarks.side_by_side import timed
    from benchmarks.training_ways import encoded_rankings
    from eval_hh.inference.models import without_plans

    rankings, count = encoded_rankings(3 * sizes.rankings, K), sizes.rankings
    parts = [rankings[start : start + count] for start in range(0, len(rankings), count)]
    without, cudnn, warm_up = (Watched(partial(one_pass, model, part, count, one_call=False)) for part in parts)
    warm_up()  # on other lengths
    seconds = timed(without)
    torch.backends.cuda.enable_cudnn_sdp(True)  # torch's default
    planned = timed(cudnn)
    without_plans()
    what = f"a pass of {count} rankings of new lengths, with cuDNN's attention (as naive), without (ours)"
    rows: list[Row] = [Row(what, planned, seconds, "s")]
    ways = [Watched(partial(one_pass, model, parts[0], count, each)) for each in (False, True)]
    ways[1]()
    seconds, losses = in_turns(*ways, sizes.rounds, before=lambda _: model.zero_grad())
    what = f"a pass of {count} rankings: attention per ranking (as naive), in one call where it can be (ours)"
    rows.append(Row(what, *seconds, "s", note=f"losses {losses[0]:.6g} and {losses[1]:.6g}"))
    return rows


def dispatched(sizes: Sizes) -> list[Row]:
    """Operations that are no views, per layer of a forward pass: the difference between models of 2 layers and of 1."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from benchmarks.flops import Shape
    from benchmarks.on_device import device
    from benchmarks.stand_in_models import causal_lm
    from benchmarks.training_ways import encoded_rankings
    from training.collator import collate
    from training.losses import response_logps

    class Counter(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            views = any(a.alias_info and not a.alias_info.is_write for a in func._schema.returns)
            self.count += not views
            return func(*args, **(kwargs or {}))

    rankings = encoded_rankings(sizes.rankings, K)
    batch = {name: tensor.to(device()) for name, tensor in collate(rankings).items()}
    text, rows = batch["input_ids"][:, :64], []
    for dtype in (torch.float32, torch.bfloat16):
        counts: dict[str, list[int]] = {"plain pass": [], f"packed pass of {len(rankings)} rankings": []}
        for layers in (1, 2):
            model = causal_lm(Shape(layers, 128, 512, 50272), device(), dtype)
            forwards = partial(model, input_ids=text, use_cache=False), partial(response_logps, model, batch)
            for forward, found in zip(forwards, counts.values(), strict=True):
                with torch.no_grad():
                    forward()  # the model is checked at its first pass
                    with Counter() as counter:
                        forward()
                found.append(counter.count)
        kind = str(dtype)[6:]
        rows += [Row(f"forward operations per layer, {kind}, {name}", None, two - one, "", note="views left out")
                 for name, (one, two) in counts.items()]  # fmt: skip
    return rows


def profile(model: Any, sizes: Sizes) -> list[Row]:
    """The share of a pass's time in which the device computes, and the operations that take most of it."""
    import torch
    from torch.profiler import ProfilerActivity

    from benchmarks.on_device import Watched, device
    from benchmarks.side_by_side import timed
    from benchmarks.training_ways import encoded_rankings

    rankings = encoded_rankings(sizes.rankings, K)
    way = Watched(partial(one_pass, model, rankings, sizes.rankings))
    way()
    seconds = min(timed(way) for _ in range(3))
    cuda = device().type == "cuda"
    with torch.profiler.profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as found:
        way()
    name = "self_device_time_total" if cuda else "self_cpu_time_total"
    times = {event.key: getattr(event, name) / 1e6 for event in found.key_averages() if event.key.startswith("aten::")}
    calls = {event.key: event.count for event in found.key_averages()}
    busy = sum(times.values())
    rows: list[Row] = [
        Row(f"a pass of {len(rankings)} rankings", None, seconds, "s"),
        Row("share of its time in which the device computes", None, busy / seconds, "", note="by operation, profiled"),
        Row("operations dispatched, views included", None, sum(calls[key] for key in times), ""),
    ]
    for key in sorted(times, key=times.__getitem__, reverse=True)[:TOP]:
        rows.append(Row(f"of the device's time: {key}", None, times[key] / busy, "", note=f"{calls[key]} calls"))
    return rows


def measure(sizes: Sizes) -> Iterator[Row]:
    import torch

    from benchmarks.flops import Shape
    from benchmarks.on_device import PRECISIONS, device
    from benchmarks.stand_in_models import causal_lm

    yield from dispatched(sizes)
    shape = Shape(sizes.layers, sizes.width, 4 * sizes.width, 50272)
    model = causal_lm(shape, device(), PRECISIONS[PRECISION][0]).train()
    yield from profile(model, sizes)
    model.zero_grad()
    if device().type == "cuda":
        torch.cuda.empty_cache()
    yield from new_lengths(model, sizes)
    yield from growth(model, sizes)
