"""Token ids of many texts by a BPE that has no words, such as LLaMA's: each distinct piece of text is merged once.

LLaMA's tokenizer writes blanks as "▁" and then merges a whole text as if it were one word, so nothing that it
has merged before helps it with the next text. Here a text is first cut into pieces (PIECE), whose ids are kept.

Why the ids are the same. Whether PIECE cuts between two characters depends on these two alone, and `can_cut` makes sure
that no token which a merge makes holds a cut inside. BPE starts from single characters (or their bytes) and merges
neighbours; a merge over a cut would make a token that holds the cut, so none ever happens. Without merges over a cut
neither side's merges, nor their order, depend on the other side: a text's ids are its pieces' ids, one after another.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARK = "▁"  # what a blank becomes
# Letters of every script, roughly: ASCII's, then all but Latin-1's signs, the general punctuation and the mark.
LETTERS = "A-Za-z\u00c0-\u1fff\u2070-\u2580\u2582-\U0010ffff"
PIECE = re.compile(f"{MARK}*(?:[{LETTERS}]+|[^{LETTERS}{MARK}]+)|{MARK}+")
MAX_KNOWN = 1 << 20  # pieces whose ids are kept, some 200 MB, whatever the number of texts
TOGETHER = 1000  # new pieces that the tokenizer is given as one text's words
BYTE_TOKENS = {f"<0x{byte:02X}>" for byte in range(256)}
PREPEND = {"type": "Prepend", "prepend": MARK}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}


def mark_always(text: str) -> str:
    """The text as the normalizer of LLaMA's tokenizer.json leaves it."""
    return MARK + text.replace(" ", MARK) if text else ""


def mark_once(text: str) -> str:
    """The text as the pre-tokenizer of transformers' LlamaTokenizer leaves it: no second mark before a first."""
    marked = text.replace(" ", MARK)
    return marked if marked.startswith(MARK) or not text else MARK + marked


def marking(state: dict) -> Callable[[str], str] | None:
    """How a tokenizer, given as its JSON, marks blanks; None for one that does anything else to a text."""
    if (state["normalizer"], state["pre_tokenizer"]) == ({"type": "Sequence", "normalizers": [PREPEND, REPLACE]}, None):
        return mark_always
    metaspace = {"type": "Metaspace", "replacement": MARK, "split": False}
    for scheme in ("first", "always"):  # the same for a text without added tokens
        if (state["normalizer"], state["pre_tokenizer"]) == (None, {**metaspace, "prepend_scheme": scheme}):
            return mark_once
    return None


def can_cut(model: dict) -> bool:
    """Whether a model, given as its JSON, yields a text's ids piece by piece.

    It must be a BPE whose merges make no token with a cut inside, that treats a word's first and last token like any
    other, and that knows every byte: of an unknown character it would drop or fuse, and so join what stands around it.
    """
    plain = {"type": "BPE", "dropout": None, "continuing_subword_prefix": None, "end_of_word_suffix": None}
    plain |= {"ignore_merges": False, "byte_fallback": True}
    if any(model.get(key) != value for key, value in plain.items()) or not model["vocab"].keys() >= BYTE_TOKENS:
        return False
    return all(PIECE.fullmatch(left + right) for left, right in model["merges"])


class PiecewiseEncoder:
    """Token ids of texts, without special tokens, as `tokenizer` gives them (which stays as it is)."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", mark: Callable[[str], str]):
        from tokenizers import Tokenizer

        backend = tokenizer.backend_tokenizer
        added = [token.content.replace(" ", MARK) for token in backend.get_added_tokens_decoder().values()]
        self._holds_added = re.compile("|".join(map(re.escape, added)) or "(?!)").search
        self._whole = partial(whole_texts, tokenizer)
        self._model = Tokenizer(backend.model)  # merges a piece as it comes: nothing is marked or looked for
        self._mark = mark
        self._known: dict[str, bytes] = {}  # ids of each piece, int32

    def __call__(self, texts: list[str]) -> list[bytes]:
        """The ids of each text, int32.

        A text that holds, after marking, what an added token (say "</s>") reads like is left to the tokenizer.
        """
        marked = [self._mark(text) for text in texts]
        cut = [None if self._holds_added(text) else PIECE.findall(text) for text in marked]
        self._learn(set().union(*filter(None, cut)))
        rest = iter(self._whole([text for text, pieces in zip(texts, cut, strict=True) if pieces is None]))
        known = self._known.__getitem__
        return [next(rest) if pieces is None else b"".join(map(known, pieces)) for pieces in cut]

    def _learn(self, pieces: set[str]) -> None:
        if len(self._known) > MAX_KNOWN:
            self._known = {}
        new = list(pieces.difference(self._known))
        groups = [new[start : start + TOGETHER] for start in range(0, len(new), TOGETHER)]
        encoded = self._model.encode_batch(groups, is_pretokenized=True, add_special_tokens=False)
        for group, encoding in zip(groups, encoded, strict=True):
            ids = np.array(encoding.ids, dtype=np.int32)
            bounds = np.searchsorted(np.array(encoding.word_ids), range(len(group) + 1)).tolist()
            self._known.update(
                (piece, ids[start:end].tobytes()) for piece, (start, end) in zip(group, pairwise(bounds), strict=True)
            )


def whole_texts(tokenizer: "PreTrainedTokenizerBase", texts: list[str]) -> list[bytes]:
    """Token ids of texts, without special tokens, by the tokenizer itself; int32."""
    if not texts:
        return []
    flags = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
    return [np.array(ids, dtype=np.int32).tobytes() for ids in tokenizer(texts, verbose=False, **flags)["input_ids"]]


def encoder(tokenizer: "PreTrainedTokenizerBase") -> Callable[[list[str]], list[bytes]]:
    """The quickest way to the tokenizer's own ids: piece by piece where that is exact, else whole texts."""
    if tokenizer.is_fast:
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        mark = marking(state)
        if mark and can_cut(state["model"]):
            return PiecewiseEncoder(tokenizer, mark)
    return partial(whole_texts, tokenizer)
