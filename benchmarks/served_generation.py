"""Generation by a model loaded here and by the same model behind a server that is running already.

    python benchmarks/run.py served_generation --model FOLDER --endpoint URL --endpoint_model NAME [--prompts N]

Both answer the same prompts greedily, the server with as many requests at a time as a batch here has prompts. Prompts
are sent as token ids. How many texts are equal is printed: a server has its own arithmetic, perhaps its own weights.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import hh_like
from benchmarks.side_by_side import Row, Settings, in_turns, sized
from data_preprocess.command import InputError, setting

if TYPE_CHECKING:
    from eval_hh.inference.served_texts import Endpoint, TokenPrompts


@dataclass(frozen=True)
class Sizes(Settings):
    model: str | None = setting("folder of the served model, to be loaded here", metavar="FOLDER", default=None)
    endpoint: str | None = setting("address of the server", metavar="URL", default=None)
    endpoint_model: str | None = setting("name by which the server knows the model", metavar="NAME", default=None)
    precision: str = setting("of the model here", choices=("no", "bf16"), default="no")
    prompts: int = sized("prompts", 64, 16)
    batch_size: int = sized("prompts per batch here, and requests at a time", 16)
    max_new_tokens: int = sized("maximum tokens of a reply", 64, 16)
    rounds: int = sized("timed rounds", 2, 1)


def served(endpoint: "Endpoint", prompts: "TokenPrompts", encoded: list[list[int]], max_new_tokens: int) -> list[str]:
    """Returns the server's greedy responses; raises the failure of a request."""
    from eval_hh.inference.served_texts import ServedTexts, ask_all

    ask, texts = ServedTexts(endpoint, prompts, encoded, max_new_tokens), {}

    def store(rows: list[int], values: list[str]) -> None:
        texts.update(zip(rows, values, strict=True))

    failure = asyncio.run(ask_all(ask.units, ask, store, endpoint, lambda: False))
    if failure:
        raise failure
    return [texts[row] for row in range(len(encoded))]


def measure(sizes: Sizes) -> list[Row]:
    from data_preprocess.hub import load_tokenizer
    from eval_hh.inference.decoding import Decoder
    from eval_hh.inference.models import device, load_causal_lm, weights_dtype
    from eval_hh.inference.served_texts import Endpoint, TokenPrompts

    for flag in ("model", "endpoint", "endpoint_model"):
        if not getattr(sizes, flag):
            raise InputError(f"--{flag}: missing (a model's folder, and a server that has it)")
    model = load_causal_lm(sizes.model, weights_dtype(sizes.precision)).to(device())
    tokenizer = load_tokenizer(sizes.model)
    decoder, asked = Decoder(model, tokenizer, sizes.max_new_tokens), TokenPrompts(tokenizer)
    encoded = [decoder.encode(turns) for turns in hh_like.prompts(sizes.prompts)]
    endpoint = Endpoint(sizes.endpoint, sizes.endpoint_model, sizes.batch_size)
    here = partial(decoder.decode, encoded, sizes.batch_size)
    there = partial(served, endpoint, asked, encoded, sizes.max_new_tokens)
    decoder.decode(encoded[:2], 2)  # warm up
    served(endpoint, asked, encoded[:2], 2)
    seconds, texts = in_turns(here, there, sizes.rounds)
    equal = sum(one == other for one, other in zip(*texts, strict=True))
    what = f"{sizes.prompts} replies of at most {sizes.max_new_tokens} tokens, {sizes.batch_size} at a time"
    note = f"{'float32' if sizes.precision == 'no' else 'bfloat16'} here; {equal} of {sizes.prompts} texts are equal"
    return [Row(f"{what}: here (as naive), served (ours)", *seconds, "s", note=f"{note}; {hh_like.source()}")]
