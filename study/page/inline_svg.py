"""Inlines the SVGs of pics/ into the page, where they take the page's colours, light or dark."""

import re
from pathlib import Path
from xml.etree import ElementTree

from data_preprocess.command import InputError
from pics.style import COLOURS, GREY, GRID

# The tags that figures of pics/ use. Anything else, such as a script or a link, is refused.
TAGS = {"svg", "defs", "g", "path", "use", "clipPath", "rect"}
# A figure's colours -> the page's, as named in page.css; "white" fills hollow markers.
PAGE_COLOURS = {"#000000": "ink", "#ffffff": "paper", GREY: "soft", GRID: "line"}
PAGE_COLOURS |= {colour: f"k{ranking_len}" for ranking_len, colour in COLOURS.items()}
VARIABLES = {colour.lower(): f"var(--{name})" for colour, name in PAGE_COLOURS.items()}
REFERENCE = re.compile(r"(#|url\(#)([\w-]+\)?)")  # to an id in the SVG: "#name", "url(#name)"


def inline_svg(path: Path, prefix: str) -> str:
    """Returns an SVG as HTML, to stand inside an element that says what it shows.

    Args:
        path: an SVG that matplotlib wrote for pics/.
        prefix: of its ids, which makes them unique on the page.

    Raises:
        InputError: it is not such an SVG. OSError if it cannot be read.
    """
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: expected an SVG ({error})") from error
    for element in root.iter():
        for child in list(element):
            if _name(child.tag) in ("metadata", "style"):  # page.css has the style
                element.remove(child)
    for element in root.iter():
        element.tag = _name(element.tag)
        if element.tag not in TAGS:
            raise InputError(f"{path}: expected an SVG of pics/, found <{element.tag}>")
        element.text = element.tail = None
        given = {_name(name): " ".join(value.split()) for name, value in element.attrib.items()}
        element.attrib = {name: _value(path, name, value, prefix) for name, value in given.items()}
    root.attrib = {"viewBox": root.attrib["viewBox"], "width": root.attrib["width"], "aria-hidden": "true"}
    return ElementTree.tostring(root, encoding="unicode")


def _name(name: str) -> str:
    """Returns a tag's or attribute's name without its namespace, as HTML has it."""
    return name.rpartition("}")[2]


def _value(path: Path, name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name in ("href", "clip-path"):
        found = REFERENCE.fullmatch(value)
        if not found:
            raise InputError(f"{path}: {name}: expected a name within the SVG, found {value!r:.40}")
        return f"{found[1]}{prefix}-{found[2]}"
    if name.startswith("on") or "://" in value:
        raise InputError(f"{path}: expected an SVG of pics/, found {name}={value!r:.40}")
    return re.sub("#[0-9a-f]{6}", lambda found: VARIABLES.get(found[0], found[0]), value) if name == "style" else value
