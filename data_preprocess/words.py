"""Splits a text into words: at spaces, and by character in scripts without spaces between words."""

import re

# Thai, Lao, Tibetan, Myanmar, Khmer, Tai Le to Tai Tham; kana and Han (Chinese, Japanese). Korean uses spaces.
UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\ua9e0-\ua9ff\uaa60-\uaadf"
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
CHARACTER = re.compile(f"[{UNSPACED}]")
WORDS = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
CHUNKS = re.compile(rf"[{UNSPACED}][^\w\s]*|[^\s{UNSPACED}]+")
HOW_COUNTED = "words are counted between blanks, and by characters where a script has no blanks between words"


def words(text: str) -> list[str]:
    """Returns the runs of letters and digits in a text, and each character of a script without spaces."""
    return WORDS.findall(text)


def count_words(text: str) -> int:
    """Counts words including adjacent punctuation: len(text.split()) for scripts with spaces."""
    return len(text.split()) if text.isascii() else len(CHUNKS.findall(text))


def with_blanks(text: str) -> str:
    """Puts spaces around each character of a script without spaces, for tools that split at spaces."""
    return CHARACTER.sub(r" \g<0> ", text)


def is_unspaced(text: str) -> bool:
    """Returns whether any character belongs to a script without spaces."""
    return CHARACTER.search(text) is not None
