import itertools

import numpy as np
import pytest
import sacrebleu
import scipy.stats

from eval_hh.metrics import bootstrap_interval, sentence_bleu


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


def test_bootstrap_of_equal_values_is_that_value():
    assert bootstrap_interval([0.25] * 7) == (0.25, 0.25)
    assert bootstrap_interval([3.0]) == (3.0, 3.0)


def test_bootstrap_of_two_values_by_hand():
    """The mean of two draws from {0, 1} is 0, 1/2, 1/2 or 1 with chance 1/4 each."""
    assert bootstrap_interval([0.0, 1.0], level=0.95) == (0.0, 1.0)
    assert bootstrap_interval([0.0, 1.0], level=0.4) == (0.5, 0.5)


def test_bootstrap_against_every_possible_resample():
    values = [0.1, 0.5, 0.2, 0.9, 0.4]
    means = [sum(draw) / 5 for draw in itertools.product(values, repeat=5)]
    exact = np.quantile(means, [0.025, 0.975])
    assert bootstrap_interval(values, n_resamples=20000) == pytest.approx(tuple(exact), abs=0.01)


def test_bootstrap_against_scipy():
    values = np.random.default_rng(5).beta(2, 3, size=300)
    expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=5000, method="percentile", rng=1)
    found = bootstrap_interval(values, n_resamples=5000)
    width = expected.confidence_interval.high - expected.confidence_interval.low
    assert found == pytest.approx(tuple(expected.confidence_interval), abs=0.04 * width)
    assert bootstrap_interval(values) == bootstrap_interval(list(values)), "seeded, so always the same"


def test_bootstrap_in_chunks_has_the_same_spread(monkeypatch):
    values = np.random.default_rng(5).beta(2, 3, size=300)
    whole = bootstrap_interval(values)
    monkeypatch.setattr("eval_hh.metrics.CHUNK", 1000)
    assert bootstrap_interval(values) == pytest.approx(whole, abs=0.01)
