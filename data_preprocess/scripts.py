"""Scripts without blanks between words: in these, characters and not words are what texts are compared by."""

import re

# Thai, Lao, Tibetan, Myanmar, Khmer, Tai Le to Tai Tham, kana, Han and their marks.
UNSPACED = re.compile("[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u3005-\u3007"
                      "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uaa60-\uaadf\uf900-\ufaff\uff66-\uff9f"
                      "\U0001b000-\U0001b16f\U00020000-\U0003ffff]")  # fmt: skip


def spaced(text: str) -> str:
    """The text with blanks about every character of such a script; any other text as it is."""
    return UNSPACED.sub(lambda found: f" {found[0]} ", text)


def is_unspaced(text: str) -> bool:
    """Whether a text is, in part, of such a script."""
    return UNSPACED.search(text) is not None
