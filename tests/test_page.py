"""study/page/: one file that holds everything it shows, shown as it should be in a real browser."""

import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import pytest

from data_preprocess.command import InputError
from eval_hh.markup import markdown_text
from pics.draw_intro import draw_intro
from pics.draw_rewards import draw_budgets, draw_panels
from pics.figure_data import error_note, result_facets, result_points
from pics.style import COLOURS, NARROW
from study.finish import versions
from study.page.build import build_page, figures
from study.page.inline_svg import VARIABLES, inline_svg
from study.page.markdown_to_html import split_report, to_part
from study.page.sample_answers import Samples, shown_cells
from study.page.write import Made, Picture, write_page
from tests.made_up import diversity, make_grid, make_report, results_of
from tests.made_up_runs import write_logs, write_texts

VOID = {"meta", "link", "img", "br", "hr"}
BAD_TEXT = '<script>document.title = "taken"</script><img src="https://example.org/a.png" onerror="alert(1)"> & </p>'
WIDTHS = (390, 1280)
MADE = Made("python test.py --name '<b>'", "2026-11-26", "3 minutes with 2 workers", {"commit": "abc", "torch": "2.0"})


def rising(algorithm: str, k: int, size: int, seed: int) -> float:
    return 0.3 + 0.01 * diversity(size) + 0.03 * k + 0.01 * (seed - 42)


def answer(file: str, line: int) -> str:
    return (BAD_TEXT, "", "A stool is made of wood.\nIt is " + "very " * 60 + "old.", "x" * 300)[line % 4]


@pytest.fixture(scope="module")
def cells() -> list[dict]:
    return make_grid(rising, seeds=(42, 43))


@pytest.fixture(scope="module")
def page(cells, tmp_path_factory) -> Path:
    """The page of a made-up study, with all that a page can hold."""
    root = tmp_path_factory.mktemp("study")
    results = results_of(cells)
    shown = {cell.exp for runs in shown_cells(results).values() for cell in runs}
    for cell in cells:
        if cell["exp"] in shown:
            write_texts(root, cell, answer)
    for cell in cells[:-1]:
        write_logs(root, cell)
    for ending in ("", NARROW):
        draw_panels(result_points(results), root / "pics" / f"diversity{ending}.svg", error_note(results))
        draw_budgets(result_facets(results), root / "pics" / f"quantitative{ending}.svg", error_note(results))
        draw_intro(root / "pics" / f"intro{ending}.svg")
    report = make_report(cells, [f"left out {BAD_TEXT}.json: broken"])
    path, warnings = build_page(root, root, results, report, "A made-up study & more", MADE)
    assert len(warnings) == 2 and "no training log of 1 of 48 cells" in warnings[0]
    return path


class Reader(HTMLParser):
    """Checks that tags nest, and keeps what is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list) -> None:
        assert len(attrs) == len(dict(attrs)), f"an attribute of {tag} is there twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.tags if name in attributes]


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def test_the_page_is_well_formed_and_its_anchors_are_there(page):
    reader = read(page)
    assert page.read_text().startswith("<!DOCTYPE html>\n") and dict(reader.tags)["html"] == {"lang": "en"}
    ids = reader.values("id")
    assert len(ids) == len(set(ids)) and not any(re.search(r"\s", name) for name in ids)
    links = reader.values("href")
    anchors = [link[1:] for link in links if link.startswith("#")]
    assert set(anchors) <= set(ids) and set(links) - {f"#{name}" for name in anchors} == {"data:,"}
    for name in ("verdicts", "figures", "results-table-1", "samples-helpful-base", "curves"):
        assert name in anchors
    assert set(reader.values("aria-labelledby")) <= set(ids)
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in zip(levels, levels[1:], strict=False))


def test_every_picture_is_in_the_file_twice_and_nothing_is_loaded(page):
    reader, html = read(page), page.read_text()
    pictures = [attributes for tag, attributes in reader.tags if attributes.get("role") == "img"]
    assert len(pictures) == 2 * 5  # three figures, two pictures of curves, for wide and for narrow windows
    assert [picture["class"] for picture in pictures] == ["picture wide", "picture narrow"] * 5
    assert all(len(picture["aria-label"]) > 40 for picture in pictures)
    assert [tag for tag, _ in reader.tags].count("svg") == 10
    loading = {"script", "iframe", "object", "embed", "video", "audio", "form", "img"}
    assert not {tag for tag, _ in reader.tags} & loading
    assert not reader.values("src") and all(link.startswith("#") for link in reader.values("href") if link != "data:,")
    assert not [name for tag, attributes in reader.tags for name in attributes if name.startswith("on")]
    assert "url(" not in html.replace("url(#", "") and "@import" not in html


def test_pictures_take_the_pages_colours(page):
    """A colour of its own would be a slab on the dark page, or vanish on it."""
    svgs = re.findall(r"<svg.+?</svg>", page.read_text())
    used = set(re.findall(r"var\(--(\w+)\)", "".join(svgs)))
    assert used >= {"ink", "soft", "line", "k2", "k3", "k4"}
    assert not re.search(r"#[0-9a-f]{6}|rgb\(", "".join(svgs))
    assert len(VARIABLES) == 4 + len(COLOURS)


@pytest.mark.parametrize(
    "text",
    [
        "no XML",
        '<svg viewBox="0 0 1 1" width="1"><script>1</script></svg>',
        '<svg viewBox="0 0 1 1" width="1"><a href="#b"><path d="M 0 0"/></a></svg>',
        '<svg viewBox="0 0 1 1" width="1"><use href="https://example.org/a.svg#b"/></svg>',
        '<svg viewBox="0 0 1 1" width="1"><path onclick="1" d="M 0 0"/></svg>',
        '<svg viewBox="0 0 1 1" width="1"><path style="fill: url(https://example.org/a.svg#b)"/></svg>',
    ],
)
def test_only_svgs_as_pics_draws_them_come_in(tmp_path, text):
    (tmp_path / "a.svg").write_text(text)
    with pytest.raises(InputError, match=r"a\.svg: "):
        inline_svg(tmp_path / "a.svg", "a")


def test_the_terms_are_explained_and_the_foot_says_how_the_page_was_made(page, cells):
    html = page.read_text()
    terms = re.findall(r"<dt>(\w+)</dt><dd>(.+?)</dd>", html, re.DOTALL)
    assert [name for name, _ in terms] == ["K", "M", "D", "PRO", "SFT", "Replicate", "Holm"]
    assert all(len(said) > 30 for _, said in terms)
    foot = html.partition("<footer>")[2].partition("</footer>")[0]
    assert "<code>python test.py --name &#39;&lt;b&gt;&#39;</code>, which took 3 minutes with 2 workers" in foot
    assert "2026-11-26" in foot and "commit abc, torch 2.0." in foot
    several = versions(results_of([*cells, {**cells[0], "seed": 44, "git": "b" * 40, "versions": {"torch": "1"}}]))
    assert several == {"commit": f"{'b' * 40} and unknown", "torch": "1"}


def test_tables_begin_with_the_verdict_and_scroll_by_themselves(page):
    tables = re.findall(r"<table>.+?</table>", page.read_text(), re.DOTALL)
    with_verdicts = [table for table in tables if 'class="verdict' in table]
    assert with_verdicts
    for row in re.findall(r"<tr>(.+?)</tr>", "".join(with_verdicts), re.DOTALL):
        assert row.strip().startswith(("<th>first is better", '<td><span class="verdict'))
    assert page.read_text().count('<div class="scroll" role="region" tabindex="0"') == len(tables)


def test_the_page_says_what_the_report_says(page, cells):
    text, html, report = read(page).text, page.read_text(), make_report(cells, [])
    assert "Primary effect, the mean of 2 differences: " in text
    assert '<span class="verdict open">no verdict</span>' in html and "1 draw of the subsets is too few" in text
    assert '<td class="equal">54.50 ± 0.71*</td>' in html  # 0.3 + 0.01 * 12 + 0.03 * 4, and 0.01 more
    for section in re.findall(r"^## (.+)$", report, re.MULTILINE):
        assert section in text
    n_rows = sum(line.startswith("| ") for line in report.splitlines())
    assert html.count("<tr>") == n_rows - html.count("<table>")  # Markdown has a line below each header
    places = [html.index(f'id="{name}"') for name in ("verdicts", "figures", "results", "samples", "curves")]
    assert places == sorted(places)
    assert html.count('class="sample"') == 12 and "no score" not in text and ">empty<" in html


def test_markup_in_answers_and_in_the_report_is_text(page):
    reader = read(page)
    assert BAD_TEXT in reader.text and f"left out {BAD_TEXT}.json: broken" in reader.text
    assert "<script" not in page.read_text()


def test_the_same_study_gives_the_same_bytes(page, cells):
    first = page.read_bytes()
    report = make_report(cells, [f"left out {BAD_TEXT}.json: broken"])
    build_page(page.parent, page.parent, results_of(cells), report, "A made-up study & more", MADE)
    assert page.read_bytes() == first


def test_the_section_of_verdicts_is_taken_out():
    says = "## What it says\n\n1. A claim: **held**.\n   - why\n\n"
    verdicts, rest = split_report(f"# Results\n\n- one\n\n## Table 1\n\nx\n\n{says}## How\n\ny\n")
    assert verdicts == says
    assert rest == "# Results\n\n- one\n\n## Table 1\n\nx\n\n## How\n\ny\n"
    part = to_part(verdicts, "verdicts", "Verdicts")
    assert part.heading.title == "What it says" and part.heading.below == ()
    assert part.html.count("<li>") == 2 and '<span class="verdict held">held</span>' in part.html
    part = to_part(rest, "results", "Results")
    below = [(one.id, one.title) for one in part.heading.below]
    assert part.heading.title == "Results" and below == [("results-table-1", "Table 1"), ("results-how", "How")]
    assert '<h3 id="results-how">How</h3>' in part.html
    assert split_report("## A\n\nno verdict\n") == (None, "## A\n\nno verdict\n")


def test_a_name_in_the_heading_is_shown_as_it_is():
    part = to_part(f"# Results: profile {markdown_text(BAD_TEXT)}\n\n- one\n", "results", "Results")
    assert part.heading.title == f"Results: profile {BAD_TEXT}"  # the template escapes it


def test_links_and_pictures_in_a_report_stay_text():
    html = to_part("a [b](https://c.d) ![e](f.png) <https://g.h> [i]\n\n[i]: https://j.k\n\n<b>l</b>\n", "p", "P").html
    assert not re.search(r"<(a|img|b)\b", html) and "https://c.d" in html and "https://j.k" in html


def test_a_page_of_nothing_says_so(tmp_path):
    write_page(tmp_path / "a.html", "T", "no heading\n", [], [], Samples("", ()))
    text = read(tmp_path / "a.html").text
    for words in ("No figure was drawn.", "No texts were found.", "No training log was found.", "no heading"):
        assert words in text
    (tmp_path / "fake.svg").write_text("not one")
    with pytest.raises(InputError, match=r"fake\.svg: expected an SVG"):
        write_page(tmp_path / "b.html", "T", "r", [Picture(tmp_path / "fake.svg", "t", "a")], [], Samples("", ()))
    assert not (tmp_path / "b.html").exists()


def test_figures_come_in_the_pages_order(tmp_path):
    for name in ("another_one", "intro", "quantitative"):
        for ending in (".svg", f"{NARROW}.svg", ".png"):
            (tmp_path / f"{name}{ending}").write_bytes(b"")
    assert [picture.path.stem for picture in figures(tmp_path)] == ["quantitative", "intro", "another_one"]
    assert figures(tmp_path)[2].title == "another one"


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_can_be_told_from_its_ground(page, scheme):
    style = re.findall(r":root \{(.+?)\}", page.read_text(), re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", style))
    assert len(colours) == 21
    pairs = [(ink, ground) for ink in ("ink", "soft", "link") for ground in ("paper", "panel")]
    pairs += [("ink", "equal"), *((name, f"{name}-back") for name in ("held", "failed", "open"))]
    for ink, ground in pairs:
        dark, light = sorted(luminance(colours[name]) for name in (ink, ground))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{ink} on {ground}"
    for k in COLOURS if scheme else ():  # on white they are Okabe and Ito's, told apart by their marks too
        assert (luminance(colours[f"k{k}"]) + 0.05) / (luminance(colours["paper"]) + 0.05) >= 4.5


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_browser_shows_all_of_it(page, browser, tmp_path, width, scheme):
    tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce")
    told, asked = [], []
    tab.on("console", lambda message: told.append(message.text))
    tab.on("pageerror", lambda error: told.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    assert tab.title() == "A made-up study & more"
    elements = tab.evaluate("document.querySelectorAll('*').length")
    assert elements == len(read(page).tags), "the browser had to mend the HTML"
    shown, hidden = (".wide", ".narrow") if width > 768 else (".narrow", ".wide")
    for picture in tab.locator(f"{shown} svg").all():
        box = picture.bounding_box()
        assert min(box["width"], box["height"]) > 200 and box["x"] >= 0 and box["x"] + box["width"] <= width
    assert not any(one.is_visible() for one in tab.locator(hidden).all())
    ground = tab.locator(f"{shown} svg").first.screenshot(path=tmp_path / "picture.png")
    assert ground and (matplotlib.image.imread(tmp_path / "picture.png")[..., :3].mean() < 0.3) == (scheme == "dark")
    assert tab.locator("table").count() == 4
    for name in ["table", f"{shown} svg", ".card", "h2", "h3", "footer"]:
        assert all(one.is_visible() for one in tab.locator(name).all()), f"a {name} is hidden"
    assert tab.evaluate("document.documentElement.scrollWidth") == width, "the page is wider than the window"
    for anchor in [link for link in tab.locator("nav a").all() if link.is_visible()]:
        anchor.click()
        top = tab.locator(anchor.get_attribute("href")).bounding_box()["y"]
        assert 0 <= top < 800, f"{anchor.get_attribute('href')} is out of sight"
    tab.screenshot(path=tmp_path / f"{scheme}_{width}.png", full_page=True)
    assert told == [] and {url for url in asked if not url.startswith("data:")} == {page.as_uri()}
    tab.close()
