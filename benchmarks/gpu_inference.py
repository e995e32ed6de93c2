"""Generation and reward scoring on one GPU, each against padded batches in file order. Part of gpu.sh.

    python benchmarks/run.py gpu_inference [--quick]

Generation: OPT-1.3B's shape in bfloat16 at several batch sizes, and in float32 at the first of them, where both ways
must give the same texts but for near ties. Scoring: pythia-1.4b's shape with OpenAssistant's head in float32 and
bfloat16, and how far the two are apart. Weights are random. Without a GPU it runs on the CPU, to try the code with
--quick.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks import hh_like
from benchmarks.side_by_side import Row, Settings, in_turns, sized

BATCHES = 4  # of each batch size are generated, so that slots are refilled


@dataclass(frozen=True)
class Sizes(Settings):
    batch_size: tuple[int, ...] = sized("batch sizes of generation", (16, 64, 256), (4,))
    layers: int = sized("layers of the models", 24, 1)
    width: int = sized("hidden size of the models, a multiple of 128", 2048, 128)
    dialogues: int = sized("dialogues to score", 240, 16)
    max_new_tokens: int = sized("maximum tokens of a reply, as in the paper", 128, 8)


def generation(sizes: Sizes, batch_size: int, dtype: Any) -> list[Row]:
    """Decodes BATCHES batches of prompts both ways; texts are compared in float32 only."""
    import torch

    from benchmarks.flops import Shape
    from benchmarks.generation_speed import near_ties
    from benchmarks.on_device import Watched, device
    from benchmarks.padded_decoding import Ends, generate_in_slots, generate_padded
    from benchmarks.stand_in_models import causal_lm, tokenizer
    from eval_hh.inference.decoding import Decoder

    model = causal_lm(Shape(sizes.layers, sizes.width, 4 * sizes.width, 50272), device(), dtype)
    decoder = Decoder(model, tokenizer(), sizes.max_new_tokens)
    count = BATCHES * batch_size
    prompts = [decoder.encode(turns) for turns in hh_like.prompts(count)]
    replies = decoder.tokenizer(hh_like.replies(count), add_special_tokens=False)["input_ids"]
    ends = Ends([len(ids) + 1 for ids in replies], decoder.tokenizer.eos_token_id)
    ways = [Watched(partial(way, decoder, prompts, ends, batch_size)) for way in (generate_padded, generate_in_slots)]
    for way in (generate_padded, generate_in_slots):  # warm up
        way(decoder, prompts[:batch_size], Ends([2] * count, ends.eos), batch_size)
    (naive, ours), found = in_turns(*ways)
    tokens = sum(len(reply) for _, reply in found[1])
    kind = str(dtype)[6:]
    if dtype == torch.float32:
        note = f"{near_ties(model, prompts, *found)} texts part at a near tie"
    else:
        note = f"{sum(a[0] == b[0] for a, b in zip(*found, strict=True))} texts are equal"
    what = f"generation, OPT of {sizes.layers} layers of {sizes.width}, {kind}, batch {batch_size}"
    rows: list[Row] = [Row(f"{what}: {count} replies", naive, ours, "s", note=note)]
    rows.append(Row(f"{what}: new tokens a second, ours", None, tokens / ours, "", note=f"{tokens:,} tokens"))
    return rows


def scoring(sizes: Sizes) -> list[Row]:
    """Scores the same dialogues both ways, in float32 and then in bfloat16."""
    import torch

    from benchmarks.on_device import Watched, device
    from benchmarks.reward_scoring import score_naively
    from benchmarks.stand_in_models import reward_model

    model = reward_model(sizes.layers, sizes.width, sizes.width // 128)
    dialogues = hh_like.prompts(sizes.dialogues), hh_like.replies(sizes.dialogues)
    rows: list[Row] = []
    scores = {}
    for dtype in (torch.float32, torch.bfloat16):
        model.model.to(device(), dtype)
        model.try_packing()
        ways = [Watched(partial(way, *dialogues)) for way in (partial(score_naively, model), model.score)]
        for way in (partial(score_naively, model), model.score):  # warm up
            way(*(texts[:32] for texts in dialogues))
        (naive, ours), (one, other) = in_turns(*ways)
        apart = max(abs(a - b) for a, b in zip(one, other, strict=True))
        scores[dtype] = other
        what = f"scoring of {sizes.dialogues} dialogues, GPT-NeoX of {sizes.layers} layers of {sizes.width}"
        note = f"{sizes.dialogues / ours:.0f} dialogues a second; scores at most {apart:.0e} apart"
        rows.append(Row(f"{what}, {str(dtype)[6:]}", naive, ours, "s", note=note))
    full, half = scores.values()
    spread = torch.tensor(full).std().item()
    worst = max(abs(a - b) for a, b in zip(full, half, strict=True))
    rows.append(
        Row("largest difference of bfloat16 scores from float32", None, worst, "", note=f"their sd {spread:.2g}")
    )
    return rows


def measure(sizes: Sizes) -> Iterator[Row]:
    import torch

    from benchmarks.on_device import device

    yield from scoring(sizes)
    for dtype, batch_sizes in ((torch.float32, sizes.batch_size[:1]), (torch.bfloat16, sizes.batch_size)):
        for batch_size in batch_sizes:
            yield from generation(sizes, batch_size, dtype)
            if device().type == "cuda":
                torch.cuda.empty_cache()
