"""BLEU of generated responses."""

from sacrebleu.metrics import BLEU

from data_preprocess.words import with_blanks


def sentence_bleu(hypotheses: list[str], references: list[str]) -> list[float]:
    """Returns BLEU (0 to 100) of each hypothesis against its one reference, on words (sacrebleu's 13a tokens).

    In scripts without spaces between words, each character is a token, as with sacrebleu's "char". N-gram orders that a
    short hypothesis lacks are left out (effective order), as sacrebleu recommends for single sentences.
    """
    bleu = BLEU(effective_order=True)
    pairs = zip(map(with_blanks, hypotheses), map(with_blanks, references), strict=True)
    return [bleu.sentence_score(hypothesis, [reference]).score for hypothesis, reference in pairs]
