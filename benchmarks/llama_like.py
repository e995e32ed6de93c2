"""LLaMA's tokenizer or, where ../shared is absent, one of its kind, trained on hh_like's text.

Library of the benchmarks.
"""

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from benchmarks import hh_like
from data_preprocess.ngrams.piecewise_bpe import BYTE_TOKENS, MARK, PIECE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FOLDER = hh_like.SHARED / "data" / "llama_tokenizer"
SPECIAL_TOKENS = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
BPE_SIZE = 8000  # about what words that are made up can fill


@cache
def tokenizer() -> "PreTrainedTokenizerBase":
    """LLaMA's, or the one trained here; either has 32000 ids at most."""
    if FOLDER.is_dir():
        from data_preprocess.hub import load_tokenizer

        return load_tokenizer(FOLDER)
    return trained(hh_like.rendered(hh_like.corpus()[0]), BPE_SIZE)


def trained(texts: Iterable[str], size: int) -> "PreTrainedTokenizerBase":
    """A BPE of `size` tokens that falls back to bytes, marks blanks and has no pre-tokenizer, as LLaMA's."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    learning = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    learning.normalizer = normalizers.Sequence([normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)])
    learning.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE.pattern), "isolated")
    reserved = [*SPECIAL_TOKENS.values(), *sorted(BYTE_TOKENS)]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=reserved, show_progress=False)
    learning.train_from_iterator(texts, trainer)
    learnt = Tokenizer(learning.model)  # without the byte tokens among those that are looked for in a text
    learnt.normalizer = learning.normalizer
    return PreTrainedTokenizerFast(tokenizer_object=learnt, **SPECIAL_TOKENS)
