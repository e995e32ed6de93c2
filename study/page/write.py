"""Writes the page of a study: one HTML file with verdicts, tables, figures, training curves and sample answers.

The file is self-contained and has no scripts. The same study gives the same bytes, except for the footer.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from data_preprocess.files import atomic_write
from eval_hh.markup import DIFFERENCE, REWARD
from pics.style import NARROW, page_environment
from study.page.inline_svg import inline_svg
from study.page.markdown_to_html import split_report, to_part
from study.page.sample_answers import Samples


@dataclass(frozen=True)
class Picture:
    """A figure of the page: an SVG, with a variant for narrow windows beside it."""

    path: Path  # of the variant for wide windows
    title: str
    alt: str  # alternative text
    caption: str = ""


@dataclass(frozen=True)
class Made:
    """How a study was made, for the page's footer."""

    command: str
    date: str  # of the page
    took: str  # how long, in words
    versions: dict[str, str]  # of the repository ("commit") and of libraries, for the cells
    notes: Sequence[str] = ()  # further sentences


def write_page(
    path: Path,
    title: str,
    report: str,
    pictures: Sequence[Picture],
    curves: Sequence[Picture],
    samples: Samples,
    made: Made | None = None,
    warnings: Sequence[str] = (),
) -> None:
    """Writes a study's page.

    Args:
        path: the HTML file.
        title: its heading.
        report: the text of report.md; its section of verdicts goes to the top.
        pictures: the study's figures.
        curves: one figure of training curves per algorithm.
        samples: what `gather_samples` returned.
        made: shown in the page's footer.
        warnings: a line for each missing curve or sample.

    Raises:
        InputError: a figure is not an SVG of pics/. OSError if one cannot be read.
    """
    verdicts, rest = split_report(report)
    page = (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            made=made,
            warnings=warnings,
            verdicts=to_part(verdicts, "verdicts", "Verdicts") if verdicts else None,
            results=to_part(rest, "results", "Results"),
            pictures=[_embed(picture) for picture in pictures],
            curves=[_embed(picture) for picture in curves],
            rule=samples.rule,
            samples={file: list(items) for file, items in groupby(samples.items, key=lambda sample: sample.file)},
        )
    )
    with atomic_write(path) as file:
        file.write(page)


def _environment() -> Environment:
    environment = page_environment(Path(__file__).parent)
    environment.filters["html"] = Markup  # HTML of markdown_to_html.py and inline_svg.py
    environment.filters["points"] = lambda reward: f"{100 * reward:{REWARD}}"
    environment.filters["signed_points"] = lambda reward: f"{100 * reward:{DIFFERENCE}}"
    environment.filters["slug"] = lambda text: re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return environment


def _embed(picture: Picture) -> dict[str, Any]:
    """Returns a figure's fields with its two SVGs as HTML, as the template needs them."""
    narrow = picture.path.with_stem(picture.path.stem + NARROW)
    svgs = {"wide": picture.path, "narrow": narrow}
    return {**vars(picture), "svgs": {width: inline_svg(path, path.stem) for width, path in svgs.items()}}
