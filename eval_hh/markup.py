"""Text that others wrote (names of models, profiles, selections, files) as text in Markdown, never as markup."""

import re

# What CommonMark, GitHub and the page's Markdown read as markup inside a line. "_" counts only at a word's border, and
# "://" makes a link of what stands around it.
SPECIAL = re.compile(r"[\\`*\[\]<>&|~$#{}]|(?<!\w)_|_(?!\w)|:(?=//)")


def one_line(value: object) -> str:
    """Its text in one line, without control characters and others that do not show."""
    return "".join(char for char in " ".join(str(value).split()) if char.isprintable())


def markdown_text(value: object) -> str:
    """Its text in one line of Markdown, for any place but a line's start: special characters become entities."""
    return SPECIAL.sub(lambda found: f"&#{ord(found[0])};", one_line(value))
