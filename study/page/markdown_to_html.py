"""Converts a report's Markdown to HTML.

A report may contain the name of any file, model or world, so HTML and links in it are shown as text.
"""

import html
import re
from dataclasses import dataclass

from markdown import Markdown
from markdown.extensions import Extension
from markdown.extensions.toc import TocExtension, slugify

from eval_hh.analysis.rules import DID_NOT_HOLD, HELD, NO_VERDICT, UNDECIDED

VERDICT_LINE = re.compile(r"^\d+\. .+: \*\*[a-z ]+\*\*\.$", re.MULTILINE)  # as in report.md: "1. Claim: **held**."
CLASSES = {HELD: "held", DID_NOT_HOLD: "failed"}  # CSS class by verdict; any other is open
RAW_HTML = "html_block", "html"
LINKS = ("link", "image_link", "reference", "image_reference", "short_reference", "short_image_ref")
ADDRESSES = "autolink", "automail"


@dataclass(frozen=True)
class Heading:
    """An entry of the table of contents."""

    id: str
    title: str
    below: tuple["Heading", ...] = ()


@dataclass(frozen=True)
class Part:
    """A part of the page: its heading and the HTML below it."""

    heading: Heading
    html: str


class Plain(Extension):
    """Markdown without raw HTML, links and images, which stay plain text."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 (Markdown's own name)
        md.preprocessors.deregister(RAW_HTML[0])
        md.inlinePatterns.deregister(RAW_HTML[1])
        for name in LINKS + ADDRESSES:
            md.inlinePatterns.deregister(name)
        md.parser.blockprocessors.deregister("reference")


def split_report(report: str) -> tuple[str | None, str]:
    """Returns (section with the verdicts or None, everything else), both Markdown; "## " starts a section."""
    sections = re.split(r"^(?=## )", report, flags=re.MULTILINE)
    verdicts = next((text for text in sections if VERDICT_LINE.search(text)), None)
    return verdicts, "".join(text for text in sections if text is not verdicts)


def to_part(text: str, prefix: str, title: str) -> Part:
    """Converts Markdown to a part of the page, under a second-level heading.

    Args:
        text: its first line may be the part's heading; headings below it become third-level ones and so on.
        prefix: of the ids, which makes them unique on the page.
        title: the heading of a text without one.
    """
    own = re.match(r"(#+) +(.+)\n?", text)
    level = len(own[1]) if own else 1
    toc = TocExtension(baselevel=3 - level, slugify=lambda value, separator: f"{prefix}-{slugify(value, separator)}")
    # report.py indents nested list items by three spaces.
    converter = Markdown(extensions=["tables", "sane_lists", toc, Plain()], tab_length=3)
    body = converter.convert(text[own.end() :] if own else text)
    below = tuple(_heading(token) for token in converter.toc_tokens)
    title = html.unescape(own[2]) if own else title  # the report writes special characters as entities
    return Part(Heading(prefix, title, below), _with_scrolling_tables(_with_badges(body)))


def _heading(token: dict) -> Heading:
    return Heading(token["id"], token["name"], tuple(map(_heading, token["children"])))


def _with_badges(text: str) -> str:
    """Marks up verdicts that stand alone in bold or in a table cell, equal-budget entries, and warnings."""

    def badge(found: re.Match) -> str:
        kind = CLASSES.get(found[2], "open")
        mark = f'<span class="verdict {kind}">{found[2]}</span>'
        return f"<td>{mark}</td>" if found[1] == "td" else mark

    words = "|".join((HELD, DID_NOT_HOLD, UNDECIDED, NO_VERDICT))
    text = re.sub(rf"<(td)>({words})</td>", badge, text)
    text = re.sub(rf"<(strong)>({words}|not tested[a-z ]*)</strong>\.?", badge, text)  # a badge ends its sentence
    text = re.sub(r"<td>(?=[^<]*\d[*†‡§])", '<td class="equal">', text)
    return text.replace("<li>Warning: ", '<li class="warning">Warning: ')


def _with_scrolling_tables(text: str) -> str:
    """Lets wide tables scroll sideways; each can be focused by keyboard, so it needs a label."""
    numbers = iter(range(1, text.count("<table>") + 1))
    frame = '<div class="scroll" role="region" tabindex="0" aria-label="Table {}, may scroll sideways"><table>'
    text = re.sub("<table>", lambda _: frame.format(next(numbers)), text)
    return text.replace("</table>", "</table></div>")
