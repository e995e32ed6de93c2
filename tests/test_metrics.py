import pytest
import sacrebleu

from eval_hh.metrics import sentence_bleu


def test_bleu_is_sacrebleu_on_words():
    hypotheses = ["the cat sat on the mat.", "a dog", "", "Turn the water off first, then change the washer."]
    references = ["the cat sat on a mat.", "a dog barks", "something", "Turn the water off, then change the washer."]
    expected = [
        sacrebleu.sentence_bleu(hypothesis, [reference], tokenize="13a").score
        for hypothesis, reference in zip(hypotheses, references, strict=True)
    ]
    assert sentence_bleu(hypotheses, references) == pytest.approx(expected)
    assert 0 < expected[0] < 100 and expected[2] == 0


def test_bleu_by_hand():
    """Unigrams 3 of 4 and bigrams 1 of 3 match, of 3 and 4 words none (smoothed to 1/(2*2) and 1/(4*1)).

    "exp" smoothing halves each further order without a match; lengths are equal, so there is no brevity penalty.
    """
    expected = 100 * (3 / 4 * 1 / 3 * 1 / 4 * 1 / 4) ** (1 / 4)
    assert sentence_bleu(["the cat sat down"], ["the dog sat down"]) == pytest.approx([expected])


def test_bleu_counts_words_not_characters():
    """A word with one letter off shares all but one character and not one word."""
    assert sentence_bleu(["extraordinary"], ["extraordinarx"]) == [0.0]
    assert sentence_bleu(["two words"], ["two words"]) == pytest.approx([100.0])


@pytest.mark.parametrize(
    ("hypothesis", "reference"),
    [
        ("琥珀是古代树木的树脂变成的", "琥珀是古代树木的树脂形成的"),
        ("琥珀は古い木の樹脂が固まったものです", "琥珀は古い木の樹脂が固くなったものです"),
        ("อำพันคือยางไม้โบราณที่แข็งตัว", "อำพันคือยางไม้เก่าที่แข็งตัว"),
    ],
)
def test_scripts_without_blanks_are_compared_by_characters(hypothesis, reference):
    expected = sacrebleu.sentence_bleu(hypothesis, [reference], tokenize="char").score
    assert 50 < expected < 100
    assert sentence_bleu([hypothesis], [reference]) == pytest.approx([expected])


def test_words_stay_words_beside_characters():
    """Five tokens each: two words and three characters."""
    spelt = sacrebleu.sentence_bleu("amber is 琥 珀 石", ["amber was 琥 珀 石"], tokenize="none").score
    assert sentence_bleu(["amber is 琥珀石"], ["amber was 琥珀石"]) == pytest.approx([spelt])
