"""Writes the page of a study: one HTML file with verdicts, tables, figures, training curves and sample answers.

The file is self-contained and has no scripts. The same study gives the same bytes.
"""

import base64
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from data_preprocess.command import InputError
from data_preprocess.files import atomic_write
from study.page.markdown_to_html import split_report, to_part
from study.page.sample_answers import Samples

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """A PNG of the page."""

    path: Path
    title: str
    alt: str  # alternative text
    caption: str = ""


def write_page(
    path: Path,
    title: str,
    report: str,
    pictures: Sequence[Picture],
    curves: Sequence[Picture],
    samples: Samples,
    note: str = "",
    warnings: Sequence[str] = (),
) -> None:
    """Writes a study's page.

    Args:
        path: of the HTML file.
        title: its heading.
        report: report.md's text; its section of verdicts goes to the top.
        pictures: the study's figures.
        curves: one picture of training curves per algorithm.
        samples: what `gather_samples` found.
        note: a paragraph under the heading, for example how the study was made.
        warnings: a line for each missing curve or sample.

    Raises:
        InputError: a picture is no PNG. OSError where one cannot be read.
    """
    verdicts, rest = split_report(report)
    page = _environment().get_template("page.html").render(
        title=title,
        note=note,
        warnings=warnings,
        verdicts=to_part(verdicts, "verdicts", "Verdicts") if verdicts else None,
        results=to_part(rest, "results", "Results"),
        pictures=[_embed(picture) for picture in pictures],
        curves=[_embed(picture) for picture in curves],
        rule=samples.rule,
        samples={file: list(items) for file, items in groupby(samples.items, key=lambda sample: sample.file)},
    )
    with atomic_write(path) as file:
        file.write(page)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # a response can be any text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["html"] = Markup  # HTML of markdown_to_html.py
    environment.filters["slug"] = lambda text: re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return environment


def _embed(picture: Picture) -> dict[str, Any]:
    """A picture's fields with its width and height in pixels and its bytes in base64, as the template needs them."""
    data = picture.path.read_bytes()
    if data[: len(PNG)] != PNG or len(data) < 24:
        raise InputError(f"{picture.path}: expected a PNG")
    width, height = struct.unpack(">II", data[16:24])  # of its first chunk, IHDR
    return {**vars(picture), "width": width, "height": height, "data": base64.b64encode(data).decode("ascii")}
