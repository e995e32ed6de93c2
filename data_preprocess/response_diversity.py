"""Diversity of the responses of a subset: of all K of every prompt, on which PRO trains, and of the best, as for SFT.

Responses are counted as prompts are: same tokenizer, BOS if it has one, at most 512 tokens. D = sqrt(N) U / T of N
responses; U / T is distinct-2.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from data_preprocess.diversity import Diversity, diversity_curve
from data_preprocess.ngrams.strategies import NGRAM
from data_preprocess.ngrams.token_ids import TokenIds, encode_prompts, joined, packed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Encode = Callable[[Sequence[str]], TokenIds]


class Responses(NamedTuple):
    """The responses to one prompt."""

    texts: list[str]  # K
    best: str  # the one that SFT trains on


class ResponseDiversity(NamedTuple):
    """Diversity of a subset's responses."""

    all: Diversity
    best: Diversity


def responses_of(row: dict) -> Responses:
    """Returns the responses of a checked ranking."""
    return Responses(row["suffix"], row["suffix"][row.get("sft_index", 0)])


def encoder_of_responses(tokenizer: "PreTrainedTokenizerBase") -> Encode:
    """Returns a function from texts to their token ids that remembers them: K = 2 and 3 have responses of K = 4."""
    places: dict[str, int] = {}
    known = packed([])

    def encode(texts: Sequence[str]) -> TokenIds:
        nonlocal known
        new = [text for text in dict.fromkeys(texts) if text not in places]
        if new:
            places.update(zip(new, range(len(places), len(places) + len(new)), strict=True))
            known = joined(known, encode_prompts(tokenizer, new))
        return known.take([places[text] for text in texts])

    return encode


def response_diversity(encode: Encode, responses: Iterable[Responses], sizes: Sequence[int]) -> list[ResponseDiversity]:
    """Returns the diversity of the responses to the first M prompts, for every M in sizes.

    Args:
        encode: from `encoder_of_responses`.
        responses: to each prompt, K for all.
        sizes: numbers of leading prompts.
    """
    texts, best = zip(*responses, strict=True)
    ranking_len = len(texts[0])
    of_all = diversity_curve(encode([text for its in texts for text in its]), [ranking_len * m for m in sizes], NGRAM)
    of_best = diversity_curve(encode(best), sizes, NGRAM)
    return [ResponseDiversity(of_all[ranking_len * size], of_best[size]) for size in sizes]
