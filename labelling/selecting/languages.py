"""The language of a prompt, by py3langid, which works offline (BSD-3-Clause, 140 languages)."""

from collections.abc import Callable
from functools import cache

from data_preprocess.command import InputError
from labelling.selecting.embeddings import REQUIREMENTS

UNKNOWN = "unknown"  # of a text about which the library is not sure, such as a short one
LEAST_CONFIDENCE = 0.5  # on real English questions of five to ten words, wrong guesses had at most 0.32
Detect = Callable[[str], str]


@cache
def detector() -> tuple[Detect, frozenset[str]]:
    """Returns (function from a text to its ISO 639 code or UNKNOWN, all codes); InputError without the library."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise InputError(f"--languages needs py3langid, which is not installed ({REQUIREMENTS})") from None
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def detect(text: str) -> str:
        code, confidence = identifier.classify(text)
        return str(code) if confidence >= LEAST_CONFIDENCE else UNKNOWN

    return detect, frozenset(map(str, identifier.labels))
