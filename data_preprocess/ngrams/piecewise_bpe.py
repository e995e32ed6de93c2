"""Fast token ids of many texts by a BPE without word splitting, such as LLaMA's: each distinct piece is merged once.

LLaMA's tokenizer writes spaces as "▁" and merges a whole text as one word, so it cannot reuse earlier merges for the
next text. Here a text is first cut into pieces (PIECE), whose ids are cached.

Why the ids are identical: whether PIECE cuts between two characters depends only on these two, and `can_cut` ensures
that no token created by a merge contains a cut. BPE starts from single characters (or their bytes) and merges
neighbours; a merge across a cut would create a token that contains the cut, so it never happens. Without such merges,
the merges on either side of a cut and their order are independent: a text's ids are the concatenated ids of its pieces.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from data_preprocess.hub import tokenized

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARK = "▁"  # replaces a space
# Letters of all scripts, roughly: ASCII letters, then everything but Latin-1 signs, general punctuation and MARK.
LETTERS = "A-Za-z\u00c0-\u1fff\u2070-\u2580\u2582-\U0010ffff"
PIECE = re.compile(f"{MARK}*(?:[{LETTERS}]+|[^{LETTERS}{MARK}]+)|{MARK}+")
MAX_KNOWN = 1 << 20  # pieces in the cache, about 200 MB
TOGETHER = 1000  # new pieces passed to the tokenizer as the words of one text
BYTE_TOKENS = {f"<0x{byte:02X}>" for byte in range(256)}
PREPEND = {"type": "Prepend", "prepend": MARK}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}


def mark_always(text: str) -> str:
    """Marks spaces as the normalizer of LLaMA's tokenizer.json does."""
    return MARK + text.replace(" ", MARK) if text else ""


def mark_once(text: str) -> str:
    """Marks spaces as the pre-tokenizer of transformers' LlamaTokenizer does: no second mark before a leading one."""
    marked = text.replace(" ", MARK)
    return marked if marked.startswith(MARK) or not text else MARK + marked


def marking(state: dict) -> Callable[[str], str] | None:
    """Returns how a tokenizer, given as its JSON, marks spaces; None if it changes a text in any other way."""
    if (state["normalizer"], state["pre_tokenizer"]) == ({"type": "Sequence", "normalizers": [PREPEND, REPLACE]}, None):
        return mark_always
    metaspace = {"type": "Metaspace", "replacement": MARK, "split": False}
    for scheme in ("first", "always"):  # equivalent for a text without added tokens
        if (state["normalizer"], state["pre_tokenizer"]) == (None, {**metaspace, "prepend_scheme": scheme}):
            return mark_once
    return None


def can_cut(model: dict) -> bool:
    """Returns whether a model, given as its JSON, encodes a text as the concatenation of its pieces.

    It must be a BPE in which no merge creates a token that contains a cut, a word's first and last token are not
    special, and every byte is known: an unknown character would be dropped or fused, joining its neighbours.
    """
    plain = {"type": "BPE", "dropout": None, "continuing_subword_prefix": None, "end_of_word_suffix": None}
    plain |= {"ignore_merges": False, "byte_fallback": True}
    if any(model.get(key) != value for key, value in plain.items()) or not model["vocab"].keys() >= BYTE_TOKENS:
        return False
    return all(PIECE.fullmatch(left + right) for left, right in model["merges"])


class PiecewiseEncoder:
    """Encodes texts to the same ids as `tokenizer`, without special tokens; the tokenizer is not modified."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", mark: Callable[[str], str]):
        from tokenizers import Tokenizer

        backend = tokenizer.backend_tokenizer
        added = [token.content.replace(" ", MARK) for token in backend.get_added_tokens_decoder().values()]
        self._holds_added = re.compile("|".join(map(re.escape, added)) or "(?!)").search
        self._whole = partial(whole_texts, tokenizer)
        self._model = Tokenizer(backend.model)  # the bare model: no normalizer, pre-tokenizer or added tokens
        self._mark = mark
        self._known: dict[str, bytes] = {}  # ids of each piece, int32

    def __call__(self, texts: list[str]) -> list[bytes]:
        """Returns the ids of each text, int32.

        A text that contains, after marking, the string of an added token (such as "</s>") goes to the tokenizer itself.
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
    """Returns token ids of texts, without special tokens, from the tokenizer itself; int32."""
    if not texts:
        return []
    flags = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
    return [np.array(ids, dtype=np.int32).tobytes() for ids in tokenized(tokenizer, texts, **flags)["input_ids"]]


def encoder(tokenizer: "PreTrainedTokenizerBase") -> Callable[[list[str]], list[bytes]]:
    """Returns the fastest exact encoder: piece by piece if that is exact for this tokenizer, else by whole texts."""
    if tokenizer.is_fast:
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        mark = marking(state)
        if mark and can_cut(state["model"]):
            return PiecewiseEncoder(tokenizer, mark)
    return partial(whole_texts, tokenizer)
