"""D beside distinct-n, compression ratio, self-BLEU, Vendi score and Jaccard, for prompts and for responses per prompt.

For diversity.py --compare. MEASURES defines each measure; data_preprocess/README.md explains how to read them.
"""

import gzip
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from transformers import PreTrainedTokenizerBase

from data_preprocess.ngrams.sparse_rows import ngram_counts, ngram_counts_of, tfidf_vectors
from data_preprocess.ngrams.strategies import NGRAM
from data_preprocess.ngrams.token_ids import TokenIds, encode_prompts, packed
from data_preprocess.ranking import SEED
from data_preprocess.words import with_blanks

N_DRAWS = 200  # random halves per interval
LEVEL = 0.05
BLEU_SAMPLE = 100  # prompts, each compared with all others
PAIR_SAMPLE = 300  # prompts, compared in all pairs
RESPONSE_SAMPLE = 500  # prompts whose responses are compared
DISTINCT_N = (1, 2, 3, 4)
# Name -> whether higher values mean more diverse texts.
MEASURES = {
    "D": True,  # sqrt(M) U / T of bigrams, as in the paper
    **{f"distinct-{n}": True for n in DISTINCT_N},  # U / T of n-grams (Li et al. 2016 divide U by the number of tokens)
    "n-gram diversity": True,  # sum of distinct-1 to distinct-4 (as in Shaib et al. 2024)
    "compression ratio": False,  # bytes over gzipped bytes (Shaib et al. 2024)
    "self-BLEU": False,  # mean BLEU of each text against the others (Zhu et al. 2018), 0 to 100
    "Vendi score": True,  # effective number of different texts (Friedman and Dieng 2023), TF-IDF cosine similarity
    "Jaccard": False,  # shared over all distinct bigrams, mean over pairs of texts
}


@dataclass(frozen=True)
class Measure:
    """One measure of one set of texts, with its 95% interval (nan if there are too few texts)."""

    name: str  # of MEASURES
    value: float
    low: float
    high: float
    texts: int  # prompts it was computed on; fewer than all if it uses a sample


def compare_prompts(prompts: Sequence[str], token_ids: Sequence[Sequence[int]]) -> list[Measure]:
    """Returns every measure of the prompts, given as rendered texts and as token ids.

    D, the n-gram ratios and compression use all prompts; the pairwise measures use samples drawn with SEED. Intervals
    come from random halves of the prompts (`half_sample_interval`), for self-BLEU of its hypotheses with all their
    references.
    """
    ids, rng = packed(token_ids), np.random.default_rng(SEED)
    halves = random_halves(len(prompts), rng)
    values, drawn, everything = {}, {}, np.arange(len(prompts))
    for n, counts in zip(DISTINCT_N, ngram_counts_of(ids, DISTINCT_N), strict=True):
        value, *draws = distinct_ratios(counts, [everything, *halves])
        values[f"distinct-{n}"], drawn[f"distinct-{n}"] = value, np.array(draws)
    paper = f"distinct-{NGRAM}"
    values["D"], drawn["D"] = math.sqrt(len(prompts)) * values[paper], drawn[paper]
    orders = [f"distinct-{n}" for n in DISTINCT_N]
    values["n-gram diversity"], drawn["n-gram diversity"] = (sum(of[name] for name in orders) for of in (values, drawn))
    raw, packed_bytes = compressed_sizes(prompts)
    values["compression ratio"] = compression_ratio(prompts)
    drawn["compression ratio"] = np.array([raw[half].sum() / packed_bytes[half].sum() for half in halves])
    found = [_measure(name, values[name], drawn[name], len(prompts)) for name in MEASURES if name in values]
    return found + _of_samples(prompts, ids, rng)


def _of_samples(prompts: Sequence[str], ids: TokenIds, rng: np.random.Generator) -> list[Measure]:
    sample = rng.permutation(len(prompts))[:BLEU_SAMPLE]
    scores = self_bleu_scores([prompts[index] for index in sample])
    halves = random_halves(len(sample), rng)
    found = [_measure("self-BLEU", _mean(scores), [_mean(scores[half]) for half in halves], len(sample))]
    sample = rng.permutation(len(prompts))[:PAIR_SAMPLE]
    sampled, halves = [ids[index] for index in sample], random_halves(len(sample), rng)
    cosines, overlaps = cosine_matrix(tfidf_vectors(sampled)), jaccard_matrix(ngram_counts(sampled, NGRAM))
    for name, matrix, statistic in (("Vendi score", cosines, vendi_score), ("Jaccard", overlaps, mean_of_pairs)):
        draws = [statistic(matrix[np.ix_(half, half)]) for half in halves]
        found.append(_measure(name, statistic(matrix), draws, len(sample)))
    return found


def compare_responses(rankings: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase) -> list[Measure]:
    """Returns every measure of the responses to a prompt, averaged over prompts.

    Args:
        rankings: two or more responses per prompt; a sample of RESPONSE_SAMPLE prompts is drawn with SEED.
        tokenizer: splits the responses into tokens; BOS is dropped.

    Document frequencies are those of the sample's responses. Intervals come from random halves of its prompts.
    """
    rng = np.random.default_rng(SEED)
    sample = [rankings[index] for index in rng.permutation(len(rankings))[:RESPONSE_SAMPLE]]
    n_bos = int(tokenizer.bos_token_id is not None)
    flat = [ids[n_bos:] for ids in encode_prompts(tokenizer, [text for texts in sample for text in texts])]
    vectors, starts, rows = tfidf_vectors(flat), np.cumsum([0, *map(len, sample)]), []
    for start, texts in zip(starts[:-1], sample, strict=True):
        own = slice(start, start + len(texts))
        ids = flat[own]
        texts_of_all = [np.arange(len(ids))]
        counted = zip(DISTINCT_N, ngram_counts_of(ids, DISTINCT_N), strict=True)
        ratios = {n: float(distinct_ratios(counts, texts_of_all)[0]) for n, counts in counted}
        rows.append([
            math.sqrt(len(ids)) * ratios[NGRAM],
            *ratios.values(),
            sum(ratios.values()),
            compression_ratio(texts),
            _mean(self_bleu_scores(texts)),
            vendi_score(cosine_matrix(vectors[own])),
            mean_of_pairs(jaccard_matrix(ngram_counts(ids, NGRAM))),
        ])  # fmt: skip
    halves = random_halves(len(rows), rng)
    columns = zip(MEASURES, np.array(rows).T, strict=True)
    return [_measure(name, _mean(one), [_mean(one[half]) for half in halves], len(rows)) for name, one in columns]


def _measure(name: str, value: float, draws: Sequence[float], texts: int) -> Measure:
    return Measure(name, float(value), *half_sample_interval(value, draws), texts)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def random_halves(count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Returns N_DRAWS random halves of 0 .. count - 1, each in ascending order; none for count below 2."""
    return [np.sort(rng.permutation(count)[: count // 2]) for _ in range(N_DRAWS)] if count > 1 else []


def half_sample_interval(value: float, draws: Sequence[float]) -> tuple[float, float]:
    """Returns the 95% interval of a statistic from its values on random halves of the data, without replacement.

    The spread over halves of n items equals that of a statistic of n items (Shao and Wu 1989, the delete-d jackknife
    with d = n / 2). The usual bootstrap draws with replacement, and a text drawn twice looks like a lack of diversity:
    it made the interval of D about twice too wide on 500 prompts of HH-RLHF, and that of the Vendi score seven times
    too wide on 300. A half also differs in level (it has fewer n-grams), so the draws are scaled to have the mean
    `value`. These intervals are slightly too narrow: over 26 samples of 300 prompts they contained the samples' mean in
    85% to 96% of cases, for the Vendi score in 73%.
    """
    if not len(draws) or not np.mean(draws):
        return float("nan"), float("nan")
    low, high = np.quantile(draws, [LEVEL / 2, 1 - LEVEL / 2]) * value / np.mean(draws)
    return float(low), float(high)


def distinct_ratios(counts: csr_array, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Returns distinct-n (distinct over all n-grams) of parts of the texts: [parts]; 0 if a part has no n-gram.

    Args:
        counts: n-gram counts of all texts, [N, G].
        parts: arrays of text indices.
    """
    lengths = counts.sum(axis=1)
    holders = np.bincount(counts.indices, minlength=counts.shape[1])
    # Most n-grams occur in one text only: count these by text, once for all parts.
    own = counts.copy()
    own.data = (holders[counts.indices] == 1).astype(np.int32)
    singles, shared = own.sum(axis=1), counts[:, holders > 1]
    ratios = []
    for part in parts:
        seen = np.zeros(shared.shape[1], dtype=bool)
        seen[shared[part].indices] = True
        ratios.append((singles[part].sum() + seen.sum()) / max(lengths[part].sum(), 1))
    return np.array(ratios)


def compression_ratio(texts: Sequence[str]) -> float:
    """Returns the bytes of the newline-joined texts over their gzipped bytes."""
    raw = "\n".join(texts).encode("utf-8")
    return len(raw) / len(gzip.compress(raw, mtime=0))


def compressed_sizes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns (bytes of each text, compressed bytes it adds after the texts before it), [N] each.

    The compressor is flushed after every text, which costs some bytes: use this for intervals, not for values.
    """
    packer = zlib.compressobj(9)
    raw = [text.encode("utf-8") + b"\n" for text in texts]
    added = [len(packer.compress(one) + packer.flush(zlib.Z_SYNC_FLUSH)) for one in raw]
    return np.array([len(one) for one in raw]), np.array(added)


def self_bleu_scores(texts: Sequence[str]) -> np.ndarray:
    """Returns BLEU (0 to 100, sacrebleu) of each text with all others as references: [N]; empty for a single text.

    Tokens are those of 13a, and single characters in scripts without spaces, as in sacrebleu's Chinese tokenizer.
    """
    from sacrebleu.metrics import BLEU

    if len(texts) < 2:
        return np.array([])
    words = [BLEU().tokenizer(with_blanks(text).rstrip()) for text in texts]
    bleu = BLEU(tokenize="none", force=True, effective_order=True)
    return np.array([bleu.sentence_score(one, words[:i] + words[i + 1 :]).score for i, one in enumerate(words)])


def cosine_matrix(vectors: csr_array) -> np.ndarray:
    """Returns cosines of unit or zero vectors [N, terms]: [N, N]. Two zero vectors have a similarity of 1."""
    cosines = (vectors @ vectors.T).toarray()
    zero = vectors.power(2).sum(axis=1) == 0
    cosines[np.ix_(zero, zero)] = 1.0
    np.fill_diagonal(cosines, 1.0)  # removes rounding errors
    return cosines


def vendi_score(similarities: np.ndarray) -> float:
    """Returns exp of the entropy of the eigenvalues of similarities / N, [N, N] with ones on the diagonal: 1 to N.

    Friedman and Dieng (2023), definition 3.1. N copies of one text score 1, N texts with nothing in common score N.
    """
    values = np.linalg.eigvalsh(similarities / len(similarities))
    values = values[values > 1e-12]  # x ln x is 0 at 0; rounding leaves tiny values around it
    return float(np.exp(-(values * np.log(values)).sum()))


def jaccard_matrix(counts: csr_array) -> np.ndarray:
    """Returns shared over all distinct n-grams of each pair of texts, from counts [N, G]: [N, N]; 1 without n-grams."""
    held = (counts > 0).astype(np.float64)
    sizes = held.sum(axis=1)
    shared = (held @ held.T).toarray()
    either = sizes[:, None] + sizes - shared
    return np.where(either > 0, shared / np.where(either > 0, either, 1), 1.0)


def mean_of_pairs(matrix: np.ndarray) -> float:
    """Returns the off-diagonal mean of a symmetric matrix [N, N]; nan for a single text."""
    count = len(matrix)
    return float((matrix.sum() - np.trace(matrix)) / (count * (count - 1))) if count > 1 else float("nan")


def format_measures(measures: Sequence[Measure]) -> str:
    """Formats one line per measure: value, interval, number of prompts, and the direction of diversity."""
    lines = [f"{'measure':<18}{'value':>10}  {'95% interval':<22}{'prompts':>8}  more diverse is"]
    for one in measures:
        interval = "-" if math.isnan(one.low) else f"{one.low:.4f} to {one.high:.4f}"
        side = "higher" if MEASURES[one.name] else "lower"
        lines.append(f"{one.name:<18}{one.value:>10.4f}  {interval:<22}{one.texts:>8,}  {side}")
    return "\n".join(lines)
