"""Splits a text into words: at spaces, and by character in scripts without spaces between words."""

import re
import unicodedata
from functools import cache

# Thai, Lao, Tibetan, Myanmar, Khmer, Tai Le to Tai Tham; kana and Han (Chinese, Japanese). Korean uses spaces.
UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\ua9e0-\ua9ff\uaa60-\uaadf"
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
CHARACTER = re.compile(f"[{UNSPACED}]")
WORDS = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
CHUNKS = re.compile(rf"[{UNSPACED}][^\w\s]*|[^\s{UNSPACED}]+")
JOINERS = "\u200c\u200d"  # belong to a word where letters follow, as in Persian and Bengali
LAST_MARK = 0x1F000  # beyond: only variation selectors
HOW_COUNTED = "words are counted between blanks, and by characters where a script has no blanks between words"


def words(text: str) -> list[str]:
    """Returns the runs of letters and digits in a text, and each character of a script without spaces.

    A mark on a letter belongs to its word; an accent may be a character of its own or one with its letter.
    """
    if text.isascii():
        return WORDS.findall(text)
    return _words_with_marks().findall(unicodedata.normalize("NFC", text))


@cache
def _words_with_marks() -> re.Pattern[str]:
    """Returns WORDS with the combining marks on letters, such as the vowel signs of Indic scripts, and JOINERS.

    Without the marks that choose a character's form (variation selectors, as of an emoji), which are no part of a word.
    """
    codes = (chr(code) for code in range(LAST_MARK) if not 0xFE00 <= code <= 0xFE0F)
    marks = "".join(mark for mark in codes if unicodedata.category(mark) in ("Mn", "Mc") and not is_unspaced(mark))
    letter = rf"[^\W{UNSPACED}]"
    return re.compile(rf"[{UNSPACED}]|{letter}(?:{letter}|[{marks}]|[{JOINERS}](?={letter}))*")


def count_words(text: str) -> int:
    """Counts words including adjacent punctuation: len(text.split()) for scripts with spaces."""
    return len(text.split()) if text.isascii() else len(CHUNKS.findall(text))


def with_blanks(text: str) -> str:
    """Puts spaces around each character of a script without spaces, for tools that split at spaces."""
    return CHARACTER.sub(r" \g<0> ", text)


def is_unspaced(text: str) -> bool:
    """Returns whether any character belongs to a script without spaces."""
    return CHARACTER.search(text) is not None
