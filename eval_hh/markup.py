"""How reports, tables and figures write numbers, and escape text from others (names of models or files)."""

import re

from eval_hh.estimates import LEVEL, Contrast

# Inline markup of CommonMark, GitHub and the page's Markdown. "_" counts only at a word boundary, and "://" turns the
# text around it into a link.
SPECIAL = re.compile(r"[\\`*\[\]<>&|~$#{}]|(?<!\w)_|_(?!\w)|:(?=//)")
LATEX = str.maketrans({char: f"\\{char}" for char in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"})  # fmt: skip
# Rewards x 100 have two decimals in text, tables and figures, as in the paper's Table 1.
REWARD = ".2f"
DIFFERENCE = "+.2f"


def interval_text(one: Contrast) -> str:
    """Formats the interval of a difference of rewards x 100; "-" where there is none."""
    if one.low != one.low:
        return "-"
    return f"{100 * one.low:{DIFFERENCE}} to {100 * one.high:{DIFFERENCE}}"


def contrast_text(one: Contrast, units: str = "replicates") -> str:
    """Formats a difference of rewards x 100 with its interval and the number of units that it is over."""
    value = f"{100 * one.difference:{DIFFERENCE}} points"
    if one.n_replicates == 1:
        return f"{value} (1 replicate: no interval)"
    return f"{value} (95% interval {interval_text(one)}, {one.n_replicates} {units})"


def points_text(reward: float) -> str:
    """Formats a small reward x 100 with two significant digits."""
    return f"{100 * reward:.2g}"


def p_text(p: float) -> str:
    """Formats a p-value; "-" where there is none."""
    return "-" if p != p else f"{p:.4f}" if p >= 0.0001 else "<0.0001"


def verdict_word(contrast: Contrast, p: float) -> str:
    """Returns whether the first of two is better or worse, or whether that is undecided."""
    if p >= LEVEL:
        return "undecided"
    return "better" if contrast.difference > 0 else "worse"


def printable_line(value: object) -> str:
    """Returns a value's text in one line, without control and other invisible characters."""
    return "".join(char for char in " ".join(str(value).split()) if char.isprintable())


def markdown_text(value: object) -> str:
    """Returns a value's text as one line of Markdown, special characters as entities; not for the start of a line."""
    return SPECIAL.sub(lambda found: f"&#{ord(found[0])};", printable_line(value))


def latex_text(value: object) -> str:
    """Returns a value's text as one line of LaTeX, special characters escaped."""
    return printable_line(value).translate(LATEX)
