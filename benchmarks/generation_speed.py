"""Generation: eval_hh.inference.decoding against batches in file order, padded to the longest prompt and never stopped.

    python generation_speed.py [--quick] [--prompts N] [--layers N] [--width N] [--parts]

Both ways decode the same prompts greedily with the same model, of OPT-125M's shape with random weights, in batches of
the same size; both are given the same lengths of replies (see padded_decoding.py) and must return the same texts. Two
replies may part only where the model is undecided between two tokens to float error; how many did is printed.
"""

import argparse
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.side_by_side import Comparison, Measure, Row, add_sizes, chosen_sizes, in_turns, parser, report, timed

if TYPE_CHECKING:
    from transformers import OPTForCausalLM

    from benchmarks.padded_decoding import Ends
    from eval_hh.inference.decoding import Decoder

MAX_NEW_TOKENS = 128  # the paper's setting
TARGET = 3.0


@dataclass(frozen=True)
class Sizes:
    """How much is decoded. The defaults are the full benchmark's."""

    prompts: int = 256
    batch_size: int = 16  # generation.py's default
    layers: int = 12
    width: int = 768
    max_new_tokens: int = MAX_NEW_TOKENS


QUICK = Sizes(prompts=48, layers=2)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    flags = parser(__doc__)
    add_sizes(flags, Sizes(), QUICK)
    flags.add_argument("--parts", action="store_true", help="also time what each part of ours brings by itself")
    return flags.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    import torch

    torch.set_num_threads(args.threads)
    sizes = chosen_sizes(args, Sizes(), QUICK)
    trial = Trial(sizes)
    trial.warm_up()
    naive, ours = in_turns(trial.naive, trial.ours, rounds=1, warm_up=False)
    ties = trial.check()
    rows: list[Row] = [speed(trial, naive, ours, ties)]
    if args.parts:
        rows += parts(trial, naive)
    report(rows, args.json)


@dataclass
class Trial:
    """One set of prompts, drawn lengths of replies and a model, and the ways to decode them."""

    sizes: Sizes
    replies: dict[str, list[list[int]]] = field(default_factory=dict)  # by way: each row's tokens, EOS left out
    texts: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def model(self) -> "OPTForCausalLM":
        from benchmarks.stand_in_models import opt_125m

        return opt_125m(self.sizes.layers, self.sizes.width)

    @cached_property
    def decoder(self) -> "Decoder":
        from benchmarks.stand_in_models import tokenizer
        from eval_hh.inference.decoding import Decoder

        return Decoder(self.model, tokenizer(), self.sizes.max_new_tokens)

    @cached_property
    def prompts(self) -> list[list[int]]:
        from benchmarks import hh_like

        return [self.decoder.encode(turns) for turns in hh_like.prompts(self.sizes.prompts)]

    @cached_property
    def ends(self) -> "Ends":
        from benchmarks import hh_like
        from benchmarks.padded_decoding import Ends

        tokenizer = self.decoder.tokenizer
        texts = hh_like.replies(self.sizes.prompts)
        lengths = [len(ids) + 1 for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
        return Ends(lengths, tokenizer.eos_token_id)

    def warm_up(self) -> None:
        """Both ways once on the first prompts, so that neither pays for what a process does once."""
        from benchmarks.padded_decoding import generate_padded

        self.decoder.decode(self.prompts[:2], batch_size=2)
        generate_padded(self.model, self.prompts[:2], self.ends, [[0, 1]], 0, self.sizes.max_new_tokens)

    def naive(self) -> None:
        """File order, every batch as wide as the longest prompt, 128 tokens for all, texts cut afterwards."""
        rows = range(len(self.prompts))
        batches = [list(rows[start : start + self.sizes.batch_size]) for start in rows[:: self.sizes.batch_size]]
        self._pad(batches, width=max(map(len, self.prompts)))

    def sorted_alone(self) -> None:
        """Batches of like length, each as wide as its own longest prompt, never stopped early."""
        from eval_hh.inference.decoding import plan_batches

        self._pad(plan_batches([len(ids) for ids in self.prompts], self.sizes.batch_size), width=0)

    def _pad(self, batches: list[list[int]], width: int) -> None:
        from benchmarks.padded_decoding import generate_padded
        from data_preprocess.dialogue import cut_at_stop

        found = generate_padded(self.model, self.prompts, self.ends, batches, width, self.sizes.max_new_tokens)
        whole = self.decoder.tokenizer.batch_decode(
            found, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        self.replies["naive"], self.texts["naive"] = found, [cut_at_stop(text).strip() for text in whole]

    def ours(self) -> None:
        """All prompts through one decoder, whose slots are taken anew."""
        self._decode([list(range(len(self.prompts)))])

    def in_units(self) -> None:
        """As generation.py does it: in units that a killed run need not do again."""
        from eval_hh.inference.decoding import plan_units

        self._decode(plan_units([len(ids) for ids in self.prompts], self.sizes.batch_size))

    def never_refilled(self) -> None:
        """Batches of like length whose rows leave when they end, but no row comes in before the last has ended."""
        from eval_hh.inference.decoding import plan_batches

        self._decode(plan_batches([len(ids) for ids in self.prompts], self.sizes.batch_size))

    def _decode(self, groups: list[list[int]]) -> None:
        from benchmarks.padded_decoding import Ends, Ours

        texts, replies = [""] * len(self.prompts), [[0]] * len(self.prompts)
        for group in groups:
            choose = Ours(Ends([self.ends.lengths[row] for row in group], self.ends.eos))
            made = self.decoder.decode([self.prompts[row] for row in group], self.sizes.batch_size, choose)
            for place, (row, text) in enumerate(zip(group, made, strict=True)):
                texts[row], replies[row] = text, choose.rows[place].response
        self.texts["ours"], self.replies["ours"] = texts, replies

    def check(self) -> int:
        """The number of texts that part at a near tie; ends the benchmark where texts part without one."""
        from benchmarks.padded_decoding import is_near_tie

        pairs = zip(self.texts["naive"], self.texts["ours"], strict=True)
        different = [row for row, (naive, ours) in enumerate(pairs) if naive != ours]
        for row in different:
            naive, ours = self.replies["naive"][row], self.replies["ours"][row]
            if not is_near_tie(self.model, self.prompts[row], naive, ours):
                texts = f"{self.texts['naive'][row]!r:.60} and {self.texts['ours'][row]!r:.60}"
                sys.exit(f"error: prompt {row}: the two ways give different texts, {texts}")
        return len(different)


def speed(trial: Trial, naive: float, ours: float, ties: int) -> Comparison:
    """The row of seconds per 1000 prompts, whose ratio is that of prompts per second."""
    from benchmarks import hh_like

    sizes, count = trial.sizes, trial.sizes.prompts
    shape = f"OPT of {sizes.layers} layers of {sizes.width}, batch {sizes.batch_size}"
    note = f"{count / naive:.3g} and {count / ours:.3g} prompts per second; {ties} of {count} texts part at a near tie"
    what = f"generation of {count} replies, {shape}"
    each = 1000 / count
    return Comparison(what, naive * each, ours * each, "s per 1000", TARGET, f"{note}; {hh_like.source()}")


def parts(trial: Trial, naive: float) -> list[Row]:
    """What the parts bring one on top of the other, as ratios to the naive way of this run."""
    ways = {
        "batches by length alone": trial.sorted_alone,
        "and rows leave when they end": trial.never_refilled,
        "and slots are taken anew, in generation.py's units": trial.in_units,
    }
    rows: list[Row] = []
    for what, way in ways.items():
        rows.append(Measure(what, naive / timed(way), "x the naive speed"))
        trial.check()
    return rows


if __name__ == "__main__":
    main()
