"""Markdown tables."""

from __future__ import annotations


def markdown(header: list[str], rows: list[list[str]]) -> list[str]:
    """Returns a Markdown table with padded columns, so that it also reads as plain text."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in [header, ["-" * width for width in widths], *rows]
    ]
    return [*lines, ""]
