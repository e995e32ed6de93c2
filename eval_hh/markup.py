"""How reports, tables and figures write numbers, and escape text from others (names of models or files)."""

import re

from eval_hh.estimates import Estimate

# Inline markup of CommonMark, GitHub and the page's Markdown. "_" counts only at a word boundary, and "://" turns the
# text around it into a link.
SPECIAL = re.compile(r"[\\`*\[\]<>&|~$#{}]|(?<!\w)_|_(?!\w)|:(?=//)")
# Rewards x 100 have two decimals in text, tables and figures, as in the paper's Table 1.
REWARD = ".2f"
DIFFERENCE = "+.2f"


def difference_texts(one: Estimate) -> tuple[str, str]:
    """Formats a difference of rewards x 100 and its interval."""
    return f"{100 * one.value:{DIFFERENCE}}", f"{100 * one.low:{DIFFERENCE}} to {100 * one.high:{DIFFERENCE}}"


def one_line(value: object) -> str:
    """Returns a value's text in one line, without control and other invisible characters."""
    return "".join(char for char in " ".join(str(value).split()) if char.isprintable())


def markdown_text(value: object) -> str:
    """Returns a value's text as one line of Markdown, special characters as entities; not for the start of a line."""
    return SPECIAL.sub(lambda found: f"&#{ord(found[0])};", one_line(value))
