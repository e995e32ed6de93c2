"""Generation: eval_hh.inference.decoding against batches in file order, padded to the longest prompt, never stopped.

    python benchmarks/run.py generation_speed [--quick] [--prompts N] [--layers N] [--width N]

Both ways decode the same prompts greedily with the same model (OPT-125M's shape, random weights), in batches of the
same size and with the same reply lengths (see padded_decoding.py), and must return the same texts. Two replies may
differ only at a near tie, where two tokens are equally likely to float error; the number of such replies is printed.
"""

import sys
from dataclasses import dataclass
from functools import partial

from benchmarks import hh_like
from benchmarks.side_by_side import Row, Settings, in_turns, sized


@dataclass(frozen=True)
class Sizes(Settings):
    prompts: int = sized("prompts", 256, 48)
    batch_size: int = sized("batch size, by default that of generation.py", 16)
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


def measure(sizes: Sizes) -> list[Row]:
    from benchmarks.padded_decoding import Ends, generate_in_slots, generate_padded
    from benchmarks.stand_in_models import opt_125m, tokenizer
    from eval_hh.inference.decoding import Decoder

    count, decoder = sizes.prompts, Decoder(opt_125m(sizes.layers, sizes.width), tokenizer(), sizes.max_new_tokens)
    prompts = [decoder.encode(turns) for turns in hh_like.prompts(count)]
    replies = decoder.tokenizer(hh_like.replies(count), add_special_tokens=False)["input_ids"]
    ends = Ends([len(ids) + 1 for ids in replies], decoder.tokenizer.eos_token_id)
    ways = generate_padded, generate_in_slots
    for way in ways:  # warm up
        way(decoder, prompts[:2], ends, 2)
    (naive, ours), found = in_turns(*(partial(way, decoder, prompts, ends, sizes.batch_size) for way in ways))
    ties = near_ties(decoder.model, prompts, *found)
    what = f"generation of {count} replies, OPT of {sizes.layers} layers of {sizes.width}, batch {sizes.batch_size}"
    note = f"{count / naive:.3g} and {count / ours:.3g} prompts per second; {ties} of {count} texts part at a near tie"
    each = 1000 / count
    return [Row(what, naive * each, ours * each, "s per 1000", "3x", f"{note}; {hh_like.source()}")]
