"""BLEU of a generation."""

from sacrebleu.metrics import BLEU

from data_preprocess.words import with_blanks


def sentence_bleu(hypotheses: list[str], references: list[str]) -> list[float]:
    """BLEU (0 to 100) of each hypothesis against its one reference, on words (sacrebleu's 13a tokens).

    In scripts that are written without blanks every character is a token, as with sacrebleu's "char". Orders that a
    short hypothesis has no n-gram of are left out (effective order), as sacrebleu advises for single sentences.
    """
    bleu = BLEU(effective_order=True)
    pairs = zip(map(with_blanks, hypotheses), map(with_blanks, references), strict=True)
    return [bleu.sentence_score(hypothesis, [reference]).score for hypothesis, reference in pairs]
