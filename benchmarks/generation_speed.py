"""Generation: eval_hh.inference.decoding against batches in file order, padded to the longest prompt, never stopped.

    python benchmarks/run.py generation_speed [--quick] [--prompts N] [--layers N] [--width N]

Both ways decode the same prompts greedily with the same model (OPT-125M's shape, random weights), in batches of the
same size and with the same reply lengths (see padded_decoding.py), and must return the same texts. Two replies may
differ only at a near tie, where two tokens are equally likely to float error; the number of such replies is printed.
Further rows: our way in larger batches, and several sampled replies to each prompt, which is read once, against reading
it for each of them; their texts must be equal.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import hh_like
from benchmarks.side_by_side import Row, Settings, in_turns, sized

if TYPE_CHECKING:
    from benchmarks.padded_decoding import Ends
    from eval_hh.inference.decoding import Decoder


@dataclass(frozen=True)
class Sizes(Settings):
    prompts: int = sized("prompts", 256, 48)
    batch_size: int = sized("batch size", 16)
    large_batch: int = sized("batch size of the second row", 64, 16)
    sampled_prompts: int = sized("prompts to sample replies to", 32, 8)
    samples: int = sized("sampled replies to each of them", 4)
    layers: int = sized("layers of the model", 12, 2)
    width: int = sized("hidden size of the model, a multiple of 12", 768)
    max_new_tokens: int = sized("maximum tokens of a reply, as in the paper", 128)


def near_ties(model, prompts: list[list[int]], naive: list, ours: list) -> int:
    """Returns the number of texts that differ at a near tie; exits if texts differ without one."""
    from benchmarks.padded_decoding import is_near_tie

    different = [row for row in range(len(prompts)) if naive[row][0] != ours[row][0]]
    for row in different:
        if not is_near_tie(model, prompts[row], naive[row][1], ours[row][1]):
            texts = f"{naive[row][0]!r:.60} and {ours[row][0]!r:.60}"
            sys.exit(f"error: prompt {row}: the two ways give different texts, {texts}")
    return len(different)


def measure(sizes: Sizes) -> Iterator[Row]:
    from benchmarks.padded_decoding import Ends, generate_in_slots, generate_padded
    from benchmarks.stand_in_models import opt_125m, tokenizer
    from eval_hh.inference.decoding import Decoder

    decoder = Decoder(opt_125m(sizes.layers, sizes.width), tokenizer(), sizes.max_new_tokens)
    prompts = [decoder.encode(turns) for turns in hh_like.prompts(sizes.prompts)]
    n_replies = max(sizes.prompts, sizes.sampled_prompts * sizes.samples)
    replies = decoder.tokenizer(hh_like.replies(n_replies), add_special_tokens=False)["input_ids"]
    ends = Ends([len(ids) + 1 for ids in replies], decoder.tokenizer.eos_token_id)
    for way in (generate_padded, generate_in_slots):  # warm up
        way(decoder, prompts[:2], ends, 2)
    ours = partial(generate_in_slots, decoder, prompts, ends)
    padded = partial(generate_padded, decoder, prompts, ends, sizes.batch_size)
    shape = f"OPT of {sizes.layers} layers of {sizes.width}"
    for naive, batch_size, target in (
        (padded, sizes.batch_size, "3x"),
        (partial(ours, sizes.batch_size), sizes.large_batch, "1.4x"),
    ):
        seconds, found = in_turns(naive, partial(ours, batch_size))
        against = "" if naive is padded else f", against ours in batches of {sizes.batch_size}"
        what = f"generation of {len(prompts)} replies, {shape}, batch {batch_size}{against}"
        ties = near_ties(decoder.model, prompts, *found)
        speed = " and ".join(f"{len(prompts) / each:.3g}" for each in seconds)
        note = f"{speed} prompts per second; {ties} of {len(prompts)} texts part at a near tie; {hh_like.source()}"
        yield Row(what, *(each * 1000 / len(prompts) for each in seconds), "s per 1000", target, note)
    yield from measure_samples(sizes, decoder, prompts[: sizes.sampled_prompts], ends)


def measure_samples(sizes: Sizes, decoder: "Decoder", prompts: list[list[int]], ends: "Ends") -> Iterator[Row]:
    """Several samples of each prompt: read for each of them, and once at the same batch size and at twice that."""
    from benchmarks.padded_decoding import sample_in_slots

    sample = partial(sample_in_slots, decoder, prompts, ends, sizes.samples)
    for times, target in ((1, "1.3x"), (2, "1.7x")):
        once = partial(sample, times * sizes.batch_size, shared=True)
        seconds, texts = in_turns(partial(sample, sizes.batch_size, shared=False), once)
        if texts[0] != texts[1]:
            sys.exit("error: prompts that are read once give other samples")
        count = len(texts[0])
        what = f"K = {sizes.samples} samples of {len(prompts)} prompts, each prompt read once, batch {sizes.batch_size}"
        note = f"read for each sample (as naive); all {count} texts are equal"
        yield Row(what + " and twice that" * (times > 1), *(each * 1000 / count for each in seconds), "s per 1000",
                  target, note)  # fmt: skip
