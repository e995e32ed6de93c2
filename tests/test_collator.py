"""training/collator.py on hand-written ids: layout, cuts, and boundaries that a tokenizer blurs."""

import pytest

from data_preprocess.records import Record
from training.collator import RankingCollator

TURNS = ["<|prompter|>hi", "<|assistant|>"]  # rendered: "\n\nHuman: hi\n\nAssistant:"
BOS, EOS = 1, 2


class WordTokenizer:
    """One id per piece of the table, by longest match; offsets as a fast tokenizer gives them."""

    bos_token_id, eos_token_id, is_fast = BOS, EOS, True

    def __init__(self, pieces):
        self.pieces = pieces

    def __call__(self, texts, add_special_tokens, split_special_tokens, return_offsets_mapping):
        assert not add_special_tokens and split_special_tokens and return_offsets_mapping
        encoded = [self.encode(text) for text in texts]
        return {"input_ids": [ids for ids, _ in encoded], "offset_mapping": [offsets for _, offsets in encoded]}

    def encode(self, text):
        ids, offsets, start = [], [], 0
        while start < len(text):
            piece = max((p for p in self.pieces if text.startswith(p, start)), key=len)
            ids.append(self.pieces[piece])
            offsets.append((start, start + len(piece)))
            start += len(piece)
        return ids, offsets


PIECES = {"\n\nHuman:": 10, " hi": 11, "\n\nAssistant:": 12, " yes": 20, " no": 21, " why": 22}


def test_layout_by_hand():
    """Prompt 1 10 11 12; responses "yes no" and "why", each with EOS; the second ranking is shorter by one."""
    collator = RankingCollator(WordTokenizer(PIECES), 2, block_size=16, max_prompt=8)
    batch = collator([
        Record(TURNS, ["yes no", "why"], [1.0, -1.0], {}),
        Record(TURNS, ["no", "yes", "why"], [3.0, 2.0, 1.0], {}, sft_index=1),
    ])  # fmt: skip
    first, second = [BOS, 10, 11, 12, 20, 21, EOS, 22, EOS], [BOS, 10, 11, 12, 21, EOS, 20, EOS]
    assert batch["input_ids"].tolist() == [first + second]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5, 6, 4, 5, 0, 1, 2, 3, 4, 5, 4, 5]]
    assert batch["lengths"].tolist() == [[4, 3, 2], [4, 2, 2]]
    # A first target is predicted at the prompt's end (3); the second ranking lies 9 further on.
    assert batch["source_index"].tolist() == [3, 4, 5, 3, 7, 12, 13, 12, 15]
    assert batch["target_ids"].tolist() == [20, 21, EOS, 22, EOS, 21, EOS, 20, EOS]
    assert batch["response_index"].tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert batch["rewards"].tolist() == [[1.0, -1.0], [3.0, 2.0]]
    assert batch["sft_index"].tolist() == [0, 1]


def test_prompt_is_cut_from_the_left_and_counts_bos():
    collator = RankingCollator(WordTokenizer(PIECES), 1, block_size=16, max_prompt=3)
    assert collator.encode(Record(TURNS, ["yes"], [0.0], {})).prompt == [BOS, 11, 12]


def test_response_is_cut_by_the_block_and_then_has_no_eos():
    """Block of 6 behind a prompt of 4: two tokens fit. "yes no" loses EOS, "yes" keeps it."""
    collator = RankingCollator(WordTokenizer(PIECES), 3, block_size=6, max_prompt=5)
    encoded = collator.encode(Record(TURNS, ["yes no why", "yes no", "yes"], [2.0, 1.0, 0.0], {}))
    assert encoded.segments == [[20, 21], [20, 21], [20, EOS]]


def test_without_eos():
    collator = RankingCollator(WordTokenizer(PIECES), 1, append_eos=False)
    assert collator.encode(Record(TURNS, ["yes"], [0.0], {})).segments == [[20]]


def test_a_token_over_the_boundary_is_the_responses():
    """ "Assistant: yes" is one token here: the joint text is what is learnt, and the prompt ends before it."""
    pieces = PIECES | {"\n\nAssistant: yes": 30}
    collator = RankingCollator(WordTokenizer(pieces), 2, block_size=16, max_prompt=8)
    encoded = collator.encode(Record(TURNS, ["yes", "no"], [1.0, 0.0], {}))
    assert encoded.prompt == [BOS, 10, 11]  # what both texts share
    assert encoded.segments == [[30, EOS], [12, 21, EOS]]
    assert encoded.n_targets == [2, 2]  # id 12 belongs to the prompt: it is read, not predicted
    batch = collator([Record(TURNS, ["yes", "no"], [1.0, 0.0], {})])
    assert batch["source_index"].tolist() == [2, 3, 5, 6]
    assert batch["target_ids"].tolist() == [30, EOS, 21, EOS]


def test_no_bos_token():
    tokenizer = WordTokenizer(PIECES)
    tokenizer.bos_token_id = None
    collator = RankingCollator(tokenizer, 1, block_size=8, max_prompt=2)
    assert collator.encode(Record(TURNS, ["yes"], [0.0], {})).prompt == [11, 12]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Record(TURNS, ["yes"], [0.0], {}), "1 responses"),
        (Record(TURNS, ["yes", "no", "why"], [2.0, 1.0, 0.0], {}, sft_index=2), "sft_index 2"),
    ],
)
def test_records_that_do_not_fit_are_refused(record, message):
    with pytest.raises(ValueError, match=message):
        RankingCollator(WordTokenizer(PIECES), 2).encode(record)


def test_a_typed_special_token_is_text(byte_tokenizer):
    """Somebody who types "</s>" or "<pad>" neither ends a text nor opens a gap in it."""
    record = Record(["<|prompter|>What is </s>?", "<|assistant|>"], ["It is </s> and <pad>."], [0.0], {})
    encoded = RankingCollator(byte_tokenizer, 1).encode(record)
    ids = encoded.prompt + encoded.segments[0]
    specials = (byte_tokenizer.bos_token_id, byte_tokenizer.eos_token_id, byte_tokenizer.pad_token_id)
    assert [id for id in ids if id in specials] == [ids[0], ids[-1]] == list(specials[:2])
    assert "It is </s> and <pad>." in byte_tokenizer.decode(ids[1:-1])


def test_llama_boundaries(shared):
    """LLaMA's tokenizer marks the space before a word: joint ids must be those of the whole text."""
    from transformers import AutoTokenizer

    from data_preprocess.dialogue import training_text

    tokenizer = AutoTokenizer.from_pretrained(shared / "data" / "llama_tokenizer")
    record = Record(TURNS, ["Certainly!", " two spaces", "\nnew line", "é"], [3.0, 2.0, 1.0, 0.0], {})
    encoded = RankingCollator(tokenizer, 4, append_eos=False).encode(record)
    for segment, response in zip(encoded.segments, record.suffix, strict=True):
        assert encoded.prompt + segment == tokenizer(training_text(TURNS, response))["input_ids"]
