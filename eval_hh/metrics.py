"""BLEU of a generation, and the interval of a mean.

Library.
"""

import numpy as np
from sacrebleu.metrics import BLEU

CHUNK = 1 << 22  # resampled values held at a time: bounds the memory of a bootstrap to some 100 MB


def sentence_bleu(hypotheses: list[str], references: list[str]) -> list[float]:
    """BLEU (0 to 100) of each hypothesis against its one reference, on words (sacrebleu's 13a tokens).

    Orders that a short hypothesis has no n-gram of are left out (effective order), as sacrebleu advises for
    single sentences.
    """
    bleu = BLEU(effective_order=True)
    pairs = zip(hypotheses, references, strict=True)
    return [bleu.sentence_score(hypothesis, [reference]).score for hypothesis, reference in pairs]


def bootstrap_interval(
    values: np.ndarray | list[float], level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of `values` [n].

    Args:
        values: one number per test prompt.
        level: the share of resampled means that lies inside.
        n_resamples: how many times the n values are drawn anew, with replacement.
        seed: of the draws.
    """
    values = np.asarray(values, dtype=float)
    generator = np.random.default_rng(seed)
    means = np.empty(n_resamples)
    step = max(1, CHUNK // len(values))
    for start in range(0, n_resamples, step):
        size = min(step, n_resamples - start)
        means[start : start + size] = values[generator.integers(0, len(values), (size, len(values)))].mean(
            axis=1
        )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
