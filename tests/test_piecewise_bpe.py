"""Token ids piece by piece against the tokenizer's own, on real prompts and on texts made to trip it."""

import json

import numpy as np
import pytest

from benchmarks import hh_like, stand_in_models
from data_preprocess.ngrams import piecewise_bpe
from data_preprocess.ngrams.piecewise_bpe import PIECE, PiecewiseEncoder, can_cut, encoder, marking
from data_preprocess.ngrams.token_ids import TokenIds, encode_prompts, joined, packed

NASTY = [
    "", " ", "  ", "   a", "a   ", "a  b   c    d", " leading", "trailing ", "\n", "\n\n", " \n \n ", "\t\ttabs\t",
    "▁", "▁▁", "▁ ▁", "typed▁mark", "▁typed first", " ▁ blank and mark", "a▁▁b ▁▁ c", "\r\n", "a \n b  \n\n  c",
    "\0", "a\0b", "\x01\x7f\x80\xa0\xad", "zero\u200bwidth\u200djoiner", "\ufeffBOM", "line\u2028sep", "\ue000",
    "🙂", "a🙂b", "🙂🙂 👩‍👩‍👧‍👦", "é", "e\u0301", "naïve café", "ﬁ ² ³ ½ x² y².", "²,", "a²b", "½½", "\U0010ffff",
    "it's don't I’d “quoted” ‘so’", ".”", ",’ …", "†(†", "«x»", "—dash—", "3.14 1,000 2nd a1b2", "x_y __init__ $x^2$",
    "Ελληνικά русский 中文，句子。", "हिन्दी עברית العربية ไทย 한국어", "http://a.b/c?d=e&f#g", "((()))[]{};--==>>",
    "<0x0A> <0x", "</s>", "<s>", "<unk>", "a</s>b", "a </s> b", "<s><s>", "</s></s> x", "</ s>", "<s", "<unk>\n</s>",
    "</s>▁<s> ▁", "x" * 5000, "many words " * 900, "a " * 600 + "</s>" + " b" * 600,
]  # fmt: skip


def assert_the_tokenizers_own(tokenizer, prompts):
    """BOS and the ids that the tokenizer gives the text by itself, 512 in all."""
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    for prompt, ids in zip(prompts, encode_prompts(tokenizer, prompts), strict=True):
        own = tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"]
        assert ids.dtype == np.int32 and ids.tolist() == (bos + own)[:512], repr(prompt[:60])


def changed(tokenizer, **parts):
    """The tokenizer with other parts: `model` holds changes, the rest takes the part's place."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    parts["model"] = state["model"] | parts.get("model", {})
    backend = Tokenizer.from_str(json.dumps(state | parts))
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="module")
def small():
    """A BPE like LLaMA's of a few merges."""
    return stand_in_models.trained_like_llama(
        ["the cat sat on the mat, and  the dog ate it.", "they can't eat that!"] * 3, 330
    )


METASPACE = {"type": "Metaspace", "replacement": "▁", "split": False}
FORMS = {
    "normalizer": {},
    "metaspace first": {"normalizer": None, "pre_tokenizer": METASPACE | {"prepend_scheme": "first"}},
    "metaspace always": {"normalizer": None, "pre_tokenizer": METASPACE | {"prepend_scheme": "always"}},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_small_bpe_is_cut_and_gives_its_own_ids(small, form):
    tokenizer = changed(small, **FORMS[form])
    assert isinstance(encoder(tokenizer), PiecewiseEncoder)
    assert_the_tokenizers_own(tokenizer, [*NASTY, "the cat  sat, on▁the mat.", "they the the eat that!!  it"])


@pytest.mark.parametrize("name, is_cut", [("data/llama_tokenizer", True), ("golden/tiny_opt", False)])
def test_real_tokenizers_on_every_real_prompt(shared, name, is_cut):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared / name)
    assert isinstance(encoder(tokenizer), PiecewiseEncoder) == is_cut
    prompts = hh_like.rendered(hh_like.corpus()[0])
    assert len(prompts) > 8000
    assert_the_tokenizers_own(tokenizer, NASTY + prompts)


def test_the_class_that_transformers_has_for_llama_is_cut_too(shared):
    from transformers import LlamaTokenizer

    model = json.loads((shared / "data" / "llama_tokenizer" / "tokenizer.json").read_text())["model"]
    tokenizer = LlamaTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    assert isinstance(encoder(tokenizer), PiecewiseEncoder)
    assert_the_tokenizers_own(tokenizer, NASTY + hh_like.rendered(hh_like.prompts(500)))


def test_the_tokenizer_stays_as_it_is(small):
    before = small.backend_tokenizer.to_str()
    encode_prompts(small, NASTY)
    assert small.backend_tokenizer.to_str() == before


def test_an_added_token_is_found_as_before(small):
    """Special or not, with blanks in it, found before or after blanks are marked."""
    from tokenizers import AddedToken

    tokenizer = changed(small)
    tokenizer.add_tokens([AddedToken("big cat"), AddedToken("QQ", normalized=True), AddedToken("R", lstrip=True)])
    texts = ["a big cat", "big▁cat", "a  big  cat", "QQ", "xQQ QQ ▁QQ", "the  R dog", "no such"]
    assert_the_tokenizers_own(tokenizer, texts)


def test_what_could_differ_is_left_to_the_tokenizer(small):
    """Each refused model or normalizer gives other ids for some text than its pieces would, or could."""
    state = json.loads(small.backend_tokenizer.to_str())
    assert can_cut(state["model"]) and marking(state)
    vocabulary = state["model"]["vocab"]
    crossing = {"merges": [*state["model"]["merges"], ["t", ","]], "vocab": vocabulary | {"t,": len(vocabulary)}}
    over_a_blank = {"merges": [*state["model"]["merges"], ["t", "▁"]], "vocab": vocabulary | {"t▁": len(vocabulary)}}
    no_byte = {key: value for key, value in vocabulary.items() if key != "<0x0A>"}
    changes = [crossing, over_a_blank, {"vocab": no_byte}, {"byte_fallback": False}, {"ignore_merges": True},
               {"dropout": 0.1}, {"continuing_subword_prefix": "##"}, {"end_of_word_suffix": "</w>"},
               {"type": "Unigram"}]  # fmt: skip
    for change in changes:
        assert not can_cut(state["model"] | change), change
    assert marking(state | {"normalizer": {"type": "NFKC"}}) is None
    assert marking(state | {"pre_tokenizer": {"type": "Whitespace"}}) is None
    for scheme, is_split in (("never", False), ("first", True)):
        metaspace = METASPACE | {"prepend_scheme": scheme, "split": is_split}
        assert marking(state | {"normalizer": None, "pre_tokenizer": metaspace}) is None
    tokenizer = changed(small, model=crossing)
    assert_the_tokenizers_own(tokenizer, ["cat, mat,  t, t ,", *NASTY])
    assert encode_prompts(tokenizer, ["t,"])[0].tolist()[1:] != encode_prompts(small, ["t,"])[0].tolist()[1:]


def test_a_cut_depends_on_the_two_characters_beside_it():
    alphabet = "▁aéж.\n0’ ²"
    cut = {pair for pair in (a + b for a in alphabet for b in alphabet) if len(PIECE.findall(pair)) == 2}
    assert {"a▁", ".▁", "a.", "0a", "’a"} <= cut and not {"▁a", "▁.", "▁▁", "aé", ".\n"} & cut
    for text in ("".join(np.random.default_rng(seed).choice(list(alphabet), 40)) for seed in range(200)):
        pieces = PIECE.findall(text)
        assert "".join(pieces) == text
        expected = [place for place in range(1, len(text)) if text[place - 1 : place + 1] in cut]
        assert np.cumsum([len(piece) for piece in pieces]).tolist()[:-1] == expected


def test_few_pieces_are_kept_and_many_come_in_groups(small, monkeypatch):
    monkeypatch.setattr(piecewise_bpe, "MAX_KNOWN", 5)
    monkeypatch.setattr(piecewise_bpe, "TOGETHER", 3)
    encode = encoder(small)
    for text in (*NASTY, "the cat", "the mat sat", *NASTY):
        own = small(text, add_special_tokens=False)["input_ids"]
        assert np.frombuffer(encode([text])[0], dtype=np.int32).tolist() == own, text
    assert len(encode._known) < 300


def test_token_ids_are_a_sequence():
    ids = TokenIds(np.array([5, 6, 7], dtype=np.int32), [2, 0, 1])
    assert [row.tolist() for row in ids] == [[5, 6], [], [7]] and len(ids) == 3
    assert ids[-1].tolist() == [7] and [row.tolist() for row in ids[:2]] == [[5, 6], []]
    with pytest.raises(IndexError):
        ids[3]
    assert packed(ids) is ids
    made = packed([[1], [], [2, 3]])
    assert made.flat.tolist() == [1, 2, 3] and made.lengths.tolist() == [1, 0, 2]
    assert len(packed([[], []])) == 2 and len(packed([]).flat) == 0


def test_taken_and_joined_ids_are_those_of_the_prompts():
    lists = [[5, 6], [], [7], [1, 2, 3]]
    ids = packed(lists)
    for places in ([], [1], [3, 0, 0, 1, 2], range(4), np.array([2, 3])):
        assert [row.tolist() for row in ids.take(places)] == [lists[place] for place in places]
    both = joined(packed(lists[:2]), packed(lists[2:]))
    assert [row.tolist() for row in both] == lists
    assert [row.tolist() for row in joined(packed([]), ids)] == lists
