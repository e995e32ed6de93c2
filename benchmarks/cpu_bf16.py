"""bfloat16 against float32 on this CPU, with OPT-125M's shape: a PRO step, also the published way's, and generation.

Run: python benchmarks/run.py cpu_bf16 [--quick]
A step runs under autocast from float32 weights, as MIXED_PRECISION=bf16 trains; generation has bfloat16 weights, as it
decodes. The losses of a step must agree to 1%; texts may differ, and the number of equal ones is printed. On a CPU
without instructions for bfloat16 it does not run.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks import hh_like
from benchmarks.side_by_side import Row, Settings, in_turns, same, sized


@dataclass(frozen=True)
class Sizes(Settings):
    rankings: int = sized("rankings per step, a multiple of 2", 8, 2)
    ranking_len: int = sized("K", 4, 2)
    prompts: int = sized("prompts to generate for", 64, 16)
    batch_size: int = sized("batch size of generation", 16)
    max_new_tokens: int = sized("maximum tokens of a reply, as in the paper", 128, 32)
    rounds: int = sized("timed rounds of the step", 2, 1)
    layers: int = sized("layers of the model", 12, 2)
    width: int = sized("hidden size of the model, a multiple of 12", 768)


def pro_steps(sizes: Sizes) -> Iterator[Row]:
    """Times forward, loss and backward in both precisions, ours and the published way, from float32 weights."""
    import torch

    from benchmarks.stand_in_models import opt_125m
    from benchmarks.training_ways import encoded_rankings, packed, separate_passes

    model, rankings = opt_125m(sizes.layers, sizes.width).train(), encoded_rankings(sizes.rankings, sizes.ranking_len)

    def step(way: Callable, half: bool, count: int = sizes.rankings) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            return way(model, rankings[:count], 2)

    ours = partial(step, packed, True)
    compared = {
        "float32 (as naive)": (partial(step, packed, False), "2x"),
        "the published way in float32 (as naive)": (partial(step, separate_passes, False), "10x"),
        "the published way in bfloat16 (as naive)": (partial(step, separate_passes, True), "5x"),
    }
    for what, (naive, target) in compared.items():
        naive(2), ours(2)  # warm both up
        seconds, losses = in_turns(naive, ours, sizes.rounds, before=lambda _: model.zero_grad())
        off = same("loss", losses[:1], losses[1:], 0.01)
        what = f"PRO step, K = {sizes.ranking_len}, {sizes.rankings} rankings: {what}, bfloat16 autocast (ours)"
        yield Row(what, *seconds, "s", target, f"losses differ by {off:.0e}")


def generation(sizes: Sizes) -> Row:
    """Times the decoding of the same prompts, with the same lengths of replies, by models of both precisions."""
    import torch

    from benchmarks.padded_decoding import Ends, generate_in_slots
    from benchmarks.stand_in_models import opt_125m, tokenizer
    from eval_hh.inference.decoding import Decoder

    dtypes = torch.float32, torch.bfloat16
    decoders = [
        Decoder(opt_125m(sizes.layers, sizes.width).to(dtype), tokenizer(), sizes.max_new_tokens) for dtype in dtypes
    ]
    prompts = [decoders[0].encode(turns) for turns in hh_like.prompts(sizes.prompts)]
    replies = decoders[0].tokenizer(hh_like.replies(sizes.prompts), add_special_tokens=False)["input_ids"]
    ends = Ends([len(ids) + 1 for ids in replies], decoders[0].tokenizer.eos_token_id)
    for decoder in decoders:  # warm up
        generate_in_slots(decoder, prompts[:2], ends, 2)
    ways = [partial(generate_in_slots, decoder, prompts, ends, sizes.batch_size) for decoder in decoders]
    seconds, found = in_turns(*ways)
    equal = sum(one[0] == other[0] for one, other in zip(*found, strict=True))
    kinds = "float32 (as naive), bfloat16 weights (ours)"
    what = f"generation of {sizes.prompts} replies, batch {sizes.batch_size}: {kinds}"
    return Row(what, *seconds, "s", note=f"{equal} of {sizes.prompts} texts are equal")


def measure(sizes: Sizes) -> Iterator[Row]:
    from eval_hh.inference.models import check_cpu_precision

    check_cpu_precision("bf16", "cpu_bf16")
    yield from pro_steps(sizes)
    yield generation(sizes)
