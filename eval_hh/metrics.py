"""BLEU of a generation.

Library.
"""

from sacrebleu.metrics import BLEU


def sentence_bleu(hypotheses: list[str], references: list[str]) -> list[float]:
    """BLEU (0 to 100) of each hypothesis against its one reference, on words (sacrebleu's 13a tokens).

    Orders that a short hypothesis has no n-gram of are left out (effective order), as sacrebleu advises for
    single sentences.
    """
    bleu = BLEU(effective_order=True)
    pairs = zip(hypotheses, references, strict=True)
    return [bleu.sentence_score(hypothesis, [reference]).score for hypothesis, reference in pairs]
