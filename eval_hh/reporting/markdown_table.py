"""Tables in Markdown."""

from __future__ import annotations


def markdown(header: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table with its columns padded, so that it also reads as plain text."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in [header, ["-" * width for width in widths], *rows]
    ]
    return [*lines, ""]
