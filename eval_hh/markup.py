"""How reports, tables and pictures write numbers, and text that others wrote (names of models or files) as text."""

import re

from eval_hh.estimates import Estimate

# What CommonMark, GitHub and the page's Markdown read as markup inside a line. "_" counts only at a word's border, and
# "://" makes a link of what stands around it.
SPECIAL = re.compile(r"[\\`*\[\]<>&|~$#{}]|(?<!\w)_|_(?!\w)|:(?=//)")
# Rewards x 100 have the two decimals of the paper's Table 1 wherever they are written, so that a value reads alike in
# text, tables and pictures.
REWARD = ".2f"
DIFFERENCE = "+.2f"


def difference_texts(one: Estimate) -> tuple[str, str]:
    """A difference of rewards x 100, and its interval."""
    return f"{100 * one.value:{DIFFERENCE}}", f"{100 * one.low:{DIFFERENCE}} to {100 * one.high:{DIFFERENCE}}"


def one_line(value: object) -> str:
    """Its text in one line, without control characters and others that do not show."""
    return "".join(char for char in " ".join(str(value).split()) if char.isprintable())


def markdown_text(value: object) -> str:
    """Its text in one line of Markdown, for any place but a line's start: special characters become entities."""
    return SPECIAL.sub(lambda found: f"&#{ord(found[0])};", one_line(value))
