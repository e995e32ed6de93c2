"""Words of a text: between blanks, and each character of its own in scripts that put no blanks between words."""

import re

# Thai, Lao, Tibetan, Myanmar, Khmer, Tai Le to Tai Tham; kana and Han (Chinese, Japanese). Korean has blanks.
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
    """The runs of letters and digits in a text, and each character of a script without blanks."""
    return WORDS.findall(text)


def count_words(text: str) -> int:
    """How many words a text has, each with the signs that touch it: len(text.split()) where words have blanks."""
    return len(text.split()) if text.isascii() else len(CHUNKS.findall(text))


def with_blanks(text: str) -> str:
    """A text with blanks around each character of a script that has none, for tools that split at blanks."""
    return CHARACTER.sub(r" \g<0> ", text)


def is_unspaced(text: str) -> bool:
    """Whether a text is, in part, of a script without blanks."""
    return CHARACTER.search(text) is not None
