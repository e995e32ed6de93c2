"""Measures of diversity against values worked out by hand, loops, and intervals whose truth is known."""

import gzip
import json
import math

import numpy as np
import pytest
from scipy.sparse import csr_array

from data_preprocess import diversity
from data_preprocess.command import InputError
from data_preprocess.diversity import prompt_diversity
from data_preprocess.ngrams import other_measures
from data_preprocess.ngrams.other_measures import (
    MEASURES,
    compare_prompts,
    compare_responses,
    compressed_sizes,
    compression_ratio,
    cosine_matrix,
    distinct_ratios,
    half_sample_interval,
    jaccard_matrix,
    mean_of_pairs,
    random_halves,
    self_bleu_scores,
    vendi_score,
)
from data_preprocess.ngrams.sparse_rows import ngram_counts
from data_preprocess.ngrams.token_ids import encode_prompts


def test_distinct_n_by_hand():
    pool = [[1, 2, 1, 2], [1, 2, 3]]  # bigrams 12 21 12 | 12 23; trigrams 121 212 | 123; one 4-gram
    everything = [np.arange(2)]
    ratios = [distinct_ratios(ngram_counts(pool, n), everything)[0] for n in (1, 2, 3, 4, 5)]
    assert ratios == [3 / 7, 3 / 5, 1.0, 1.0, 0.0]
    texts = ["a", "b"]
    found = {one.name: one for one in compare_prompts(texts, pool)}
    assert found["distinct-2"].value == 0.6 and found["D"].value == pytest.approx(math.sqrt(2) * 0.6)
    assert found["n-gram diversity"].value == pytest.approx(3 / 7 + 3 / 5 + 2)


def test_self_bleu_by_hand():
    """Of "a b c d" 3 words, 2 pairs, 1 triple are in "a b c e", and no 4-gram, which counts as 1/2."""
    expected = 100 * (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** (1 / 4)
    assert self_bleu_scores(["a b c d", "a b c e"]) == pytest.approx([expected, expected])
    # Each of two texts that a third repeats is found in it whole; the third's words come from both.
    assert self_bleu_scores(["a b c d", "e f g h", "a b c d"]) == pytest.approx([100, 0, 100], abs=1e-9)
    assert len(self_bleu_scores(["a b c d"])) == 0


def test_vendi_score_by_hand():
    assert vendi_score(np.ones((4, 4))) == pytest.approx(1)
    assert vendi_score(np.eye(5)) == pytest.approx(5)
    shares = [(1 + 0.6) / 2, (1 - 0.6) / 2]  # the eigenvalues of [[1, .6], [.6, 1]] / 2
    assert vendi_score(np.array([[1, 0.6], [0.6, 1]])) == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))
    groups = np.kron(np.eye(2), np.ones((3, 3)))  # two kinds, three copies of each
    assert vendi_score(groups) == pytest.approx(2)


def test_cosines_of_texts_without_terms():
    matrix = cosine_matrix(csr_array(np.array([[0.6, 0.8], [1.0, 0], [0, 0], [0, 0]])))
    assert matrix == pytest.approx(np.array([[1, 0.6, 0, 0], [0.6, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]))


def test_jaccard_by_hand():
    pool = [[1, 2, 3], [2, 3, 4, 5], [9], [], [1, 2, 1, 2]]  # 12 23 | 23 34 45 | - | - | 12 21
    expected = np.eye(5)
    for one, other, value in ((0, 1, 1 / 4), (0, 4, 1 / 3), (2, 3, 1.0)):
        expected[one, other] = expected[other, one] = value
    matrix = jaccard_matrix(ngram_counts(pool, 2))
    assert matrix == pytest.approx(expected)
    assert mean_of_pairs(matrix) == pytest.approx((1 / 4 + 1 / 3 + 1) / 10)
    assert math.isnan(mean_of_pairs(np.eye(1)))


def test_compression_against_gzip():
    texts = ["What is amber made of? " * 3, "Wer weiß?", ""]
    raw = "\n".join(texts).encode()
    assert gzip.decompress(gzip.compress(raw, mtime=0)) == raw
    assert compression_ratio(texts) == len(raw) / len(gzip.compress(raw, mtime=0))
    sizes, added = compressed_sizes(["amber " * 200] * 3)
    assert sizes.tolist() == [1201] * 3 and added[0] > added[1]  # a copy adds less than the first


def test_ngram_ratios_of_parts_equal_a_loop():
    rng = np.random.default_rng(0)
    pool = [rng.integers(0, 6, rng.integers(0, 9)).tolist() for _ in range(30)]
    parts = [np.sort(rng.permutation(30)[:15]) for _ in range(10)]
    for n in (1, 2, 3):
        ngrams = [[tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)] for ids in pool]
        expected = []
        for part in parts:
            found = [ngram for index in part for ngram in ngrams[index]]
            expected.append(len(set(found)) / len(found))
        assert distinct_ratios(ngram_counts(pool, n), parts) == pytest.approx(expected)


def test_intervals_of_a_mean_are_as_wide_as_theory_has_them():
    """The mean of n normal values has the standard error s / sqrt(n); the half-width is 1.96 of them."""
    rng = np.random.default_rng(1)
    widths = []
    for _ in range(20):
        values = rng.normal(5, 2, 200)
        low, high = half_sample_interval(values.mean(), [values[half].mean() for half in random_halves(200, rng)])
        widths.append((high - low) / 2 / (1.96 * values.std(ddof=1) / math.sqrt(200)))
    assert np.mean(widths) == pytest.approx(1, abs=0.04)
    assert half_sample_interval(6.0, [2.0, 2.0]) == (6.0, 6.0)
    assert all(math.isnan(end) for end in half_sample_interval(6.0, []))


def made_up_texts(count, seed=2, words=60):
    rng = np.random.default_rng(seed)
    return [" ".join(f"w{word}" for word in rng.integers(0, words, rng.integers(5, 20))) for _ in range(count)]


def test_every_measure_of_prompts(byte_tokenizer, monkeypatch):
    texts = made_up_texts(40)
    ids = encode_prompts(byte_tokenizer, texts)
    monkeypatch.setattr(other_measures, "BLEU_SAMPLE", 10)
    found = compare_prompts(texts, ids)
    assert [one.name for one in found] == list(MEASURES)
    assert [one.texts for one in found] == [40] * 7 + [10] + [40] * 2
    assert all(one.low < one.value < one.high for one in found)
    assert found[0].value == pytest.approx(prompt_diversity(ids))
    assert compare_prompts(texts, ids) == found  # seeded


def test_copies_are_less_diverse_by_every_measure(byte_tokenizer):
    varied, copied = made_up_texts(20), made_up_texts(10) * 2
    found = [compare_prompts(texts, encode_prompts(byte_tokenizer, texts)) for texts in (varied, copied)]
    for one, other in zip(*found, strict=True):
        assert (one.value > other.value) == MEASURES[one.name], one.name


def test_responses_are_measured_prompt_by_prompt(byte_tokenizer):
    rankings = [["a b c d", "a b c d"], ["a b c d", "e f g h", "i j k l"]]
    found = {one.name: one for one in compare_responses(rankings, byte_tokenizer)}
    assert list(found) == list(MEASURES) and {one.texts for one in found.values()} == {2}
    assert found["self-BLEU"].value == pytest.approx(100 / 2)
    ids = [[byte_tokenizer.encode(text) for text in texts] for texts in rankings]
    per_prompt = [prompt_diversity(one) / math.sqrt(len(one)) for one in ids]
    assert found["distinct-2"].value == pytest.approx(np.mean(per_prompt))
    assert found["D"].value == pytest.approx((2**0.5 * per_prompt[0] + 3**0.5 * per_prompt[1]) / 2)
    ratios = [compression_ratio(texts) for texts in rankings]
    assert found["compression ratio"].value == pytest.approx(np.mean(ratios))
    alone = {one.name: one for one in compare_responses([["a b c"] * 3], byte_tokenizer)}
    assert (alone["Vendi score"].value, alone["Jaccard"].value) == pytest.approx((1, 1))
    assert math.isnan(alone["D"].low)


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_command_prints_prompts_and_responses(tmp_path, tiny_causal_lm_dir, capsys):
    texts = made_up_texts(12)
    rows = [
        {"prefix": [[f"<|prompter|>{text}", "<|assistant|>"]] * 2, "suffix": texts[:2], "reward": [1, 0], "meta": {}}
        for text in texts
    ]
    source, tokenizer = write_rows(tmp_path / "rankings.jsonl", rows), str(tiny_causal_lm_dir("opt"))
    diversity.main([source, "--compare", "--tokenizer", tokenizer, "--json", str(tmp_path / "out.json")])
    printed = capsys.readouterr().out
    assert printed.count("95% interval") == 2 and "\nresponses to a prompt, in the mean over prompts:\n" in printed
    written = json.loads((tmp_path / "out.json").read_text())
    assert [row["name"] for row in written["compare"]["responses"]] == list(MEASURES)
    bigrams = next(row for row in written["diversity"] if row["n"] == 2)
    assert written["compare"]["prompts"][0]["value"] == pytest.approx(bigrams["score"])

    prompts = write_rows(tmp_path / "prompts.jsonl", [{"prompt": text} for text in texts])
    diversity.main([prompts, "--compare", "--tokenizer", tokenizer])
    assert capsys.readouterr().out.count("95% interval") == 1


def test_compare_refuses_sizes_and_a_single_prompt(tmp_path, tiny_causal_lm_dir):
    source = write_rows(tmp_path / "one.jsonl", [{"prompt": "What is amber?"}])
    with pytest.raises(InputError, match="--compare and --sizes"):
        diversity.main([source, "--compare", "--sizes", "1"])
    with pytest.raises(InputError, match="one.jsonl holds one prompt .expected two or more."):
        diversity.main([source, "--compare", "--tokenizer", str(tiny_causal_lm_dir("opt"))])
