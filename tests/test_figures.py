"""pics/figures.py and draw_rewards.py: the paper's numbers come out, and a picture shows what the cells hold."""

import itertools
import re

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from data_preprocess.command import InputError
from eval_hh.analysis.chosen_prompts import fixed_size_pairs, strategy_pairs
from eval_hh.analysis.contrasts import comparisons
from eval_hh.analysis.paper_numbers import paper_evidence
from eval_hh.cells import write_cell
from pics import figures
from pics.draw_chosen_prompts import draw_chosen
from pics.draw_intro import draw_intro
from pics.draw_rewards import draw_budgets, draw_panels
from pics.figure_data import (
    Points,
    error_note,
    line_summary,
    paper_overlay,
    paper_points,
    result_facets,
    result_points,
    scientific,
)
from pics.style import NAME_SIZE, NARROW_WIDTH, spread_out
from tests.made_up import diversity, keep_figures, make_cell, make_grid, make_report, results_of


def rising(algorithm: str, k: int, size: int, seed: int) -> float:
    return 0.3 + 0.01 * diversity(size) + 0.03 * k + 0.01 * (seed - 42)


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    return keep_figures(monkeypatch)


def test_the_papers_figure_prints_its_three_errors_and_its_lines(tmp_path, capsys):
    figures.main(["--paper", "--output", str(tmp_path / "paper.png")])
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "(a) PRO reward on M: MSE 1.2e-4",
        "    K=2: reward = 1.54e-06 M + 0.4947, R2 0.655",
        "    K=3: reward = 1.44e-06 M + 0.5139, R2 0.676",
        "    K=4: reward = 8.85e-07 M + 0.5341, R2 0.597",
        "(c) PRO reward on D: MSE 2.6e-5",
        "    K=2: reward = 0.00732 D + 0.3882, R2 0.966",
        "    K=3: reward = 0.00646 D + 0.4210, R2 0.889",
        "    K=4: reward = 0.00426 D + 0.4719, R2 0.910",
        "(d) SFT reward on D: MSE 9.3e-6",
        "    K=2: reward = 0.00465 D + 0.4348, R2 0.956",
        "    K=3: reward = 0.00452 D + 0.4524, R2 0.932",
        "    K=4: reward = 0.00536 D + 0.4497, R2 0.976",
        *paper_evidence(),
        f"Written to {tmp_path / 'paper.png'}",
    ]
    assert matplotlib.image.imread(tmp_path / "paper.png").shape[:2] == (1170, 1500)


def test_the_panels_hold_the_papers_points(tmp_path, drawn):
    draw_panels(paper_points(), tmp_path / "a.png")
    size_panel, diversity_panel, pro_panel, sft_panel = drawn[0].axes
    # Per K one set of points, then its line.
    np.testing.assert_allclose(pro_panel.lines[0].get_xydata()[0], [12.70, 47.64])
    np.testing.assert_allclose(sft_panel.lines[4].get_xydata()[-1], [20.79, 56.02])
    np.testing.assert_allclose(size_panel.lines[0].get_xydata()[:, 0], paper_points()[0].sizes)
    np.testing.assert_allclose(diversity_panel.lines[0].get_xydata()[[0, -1]], [[1500, 12.70], [36000, 20.79]])
    # The line of panel (c) for K=2 ends at .00732 D + .3882.
    np.testing.assert_allclose(
        pro_panel.lines[1].get_ydata(), 100 * (0.3882 + 0.00732 * np.array([12.7, 20.79])), atol=0.03
    )
    assert "1.2e-4" in size_panel.get_title(loc="left") and "9.3e-6" in sft_panel.get_title(loc="left")


def test_the_papers_points_lie_under_those_of_its_model(tmp_path, drawn):
    cells = [{**cell, "profile": "opt-1.3b"} for cell in make_grid(rising)]
    assert paper_overlay(results_of(cells)) == paper_points() and paper_overlay(results_of(make_grid(rising))) == []
    points = result_points(results_of(cells))
    draw_panels(points, tmp_path / "plain.png")
    draw_panels(points, tmp_path / "over.png", overlay=paper_overlay(results_of(cells)))
    plain, over = (figure.axes[2] for figure in drawn)
    added = [line for line in over.lines if line.get_alpha() == 0.45]
    assert len(added) == 2 * 3 and len(over.lines) == len(plain.lines) + 6  # points and line for each K
    np.testing.assert_allclose(added[0].get_xydata()[0], [12.70, 47.64])
    named = {text.get_text() for text in drawn[1].legends[0].get_texts()}
    assert named == {f"K = {k}{whose}" for k in (2, 3, 4) for whose in (" responses", ", paper")}


def test_points_of_cells_are_the_tables_entries():
    cells = make_grid(rising, seeds=(42, 44))
    points = result_points(results_of(cells))
    assert [(one.algorithm, one.ranking_len) for one in points] == [
        (algorithm, k) for algorithm in ("PRO", "SFT") for k in (2, 3, 4)
    ]
    one = points[1]
    assert one.sizes == (1500, 2000, 3000, 6000)
    np.testing.assert_allclose(one.diversity, [diversity(size) for size in one.sizes])
    np.testing.assert_allclose(one.reward, [0.4 + 0.01 * diversity(size) for size in one.sizes])
    np.testing.assert_allclose(one.error, 0.02 / 2**0.5)  # two seeds 0.02 apart
    assert error_note(results_of(cells)) == (
        "Bars: standard deviation over 2 training seeds of one draw of the subsets."
    )
    assert "1 replicate: nothing is known of draws and seeds" in error_note(results_of(cells[::2]))
    assert "where there is one replicate" in error_note(results_of(cells[1:]))
    drawn_anew = results_of(make_grid(rising, seeds=(42, 44), draws=True))
    assert error_note(drawn_anew) == "Bars: standard deviation over 2 replicates."
    assert line_summary(points)[5] == "    K=2: reward = 0.01 D + 0.3700, R2 1.000"


def test_the_same_input_gives_the_same_bytes_and_another_gives_others(tmp_path):
    points = paper_points()
    for name in ("a", "b"):
        draw_panels(points, tmp_path / f"panels_{name}.png", "a note")
        draw_intro(tmp_path / f"intro_{name}.png")
    for name in ("panels", "intro"):
        assert (tmp_path / f"{name}_a.png").read_bytes() == (tmp_path / f"{name}_b.png").read_bytes()
    draw_panels(points[:-1], tmp_path / "c.png", "a note")
    assert (tmp_path / "c.png").read_bytes() != (tmp_path / "panels_a.png").read_bytes()
    assert b"Software" not in (tmp_path / "c.png").read_bytes()


def test_panels_without_points_or_with_one_size_say_so(tmp_path, drawn):
    points = [Points("PRO", 2, (100,), (5.0,), (0.5,), (0.01,))]
    draw_panels(points, tmp_path / "a.png")
    assert [text.get_text() for text in drawn[0].axes[3].texts] == ["no results"]
    assert "MSE" not in drawn[0].axes[2].get_title(loc="left")
    assert line_summary(points)[0] == "(a) PRO reward on M: no line (fewer than two sizes)"
    draw_panels([], tmp_path / "b.png")
    assert (tmp_path / "b.png").exists()


def test_the_equal_budget_chart_holds_the_marked_cells_only(tmp_path, drawn):
    cells = make_grid(rising, sizes=(500, 1500, 2000, 3000, 6000))
    facets = result_facets(results_of(cells))
    assert [facet.title for facet in facets] == [
        "PRO, 6,000 labelled responses",
        "SFT, 6,000 labelled responses",
    ]
    shown = facets[0].entries["Global"]
    assert list(shown) == [(2, 3000), (3, 2000), (4, 1500)]
    assert shown[4, 1500][0] == pytest.approx(100 * (0.3 + 0.01 * 12 + 0.03 * 4))
    draw_budgets(facets, tmp_path / "a.png", "a note")
    assert [text.get_text() for text in drawn[0].axes[0].texts][-1] == "54.00"
    assert [label.get_text() for label in drawn[0].axes[0].get_xticklabels()] == [
        "Harmless",
        "Helpful",
        "Global",
    ]
    with pytest.raises(InputError, match="no equal budget"):
        draw_budgets(result_facets(results_of(make_grid(rising, sizes=(1500, 6000)))), tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()


def with_chosen_prompts() -> list[dict]:
    """A grid with subsets of low and of high D and of two strategies, whose D lie close together."""
    cells = make_grid(rising, seeds=(42, 43))
    scores = {"low_d_matched": 11.0, "max_d_matched": 15.0, "facility": 12.01, "k_center": 12.02}
    for selection, score in scores.items():
        for algorithm, k, seed in itertools.product(("PRO", "SFT"), (2, 4), (42, 43)):
            cell = make_cell(algorithm, k, 1500, seed, 0.5 + 0.1 * (algorithm == "SFT"))
            cell |= {"selection": selection, "exp": f"{cell['exp']}_{selection}"}
            cells.append({**cell, "diversity": {**cell["diversity"], "score": score}})
    return cells


def draw_all(folder, ending) -> None:
    """Every picture that compares rewards in several panels."""
    results = results_of(with_chosen_prompts())
    draw_panels(result_points(results), folder / f"diversity{ending}", "a note")
    draw_budgets(result_facets(results), folder / f"quantitative{ending}")
    for name, pairs in (("fixed_size", fixed_size_pairs(results)), ("strategies", strategy_pairs(results))):
        draw_chosen(comparisons(results, pairs), "a title", folder / f"{name}{ending}")


@pytest.mark.parametrize("ending", [".svg", "_narrow.svg"])
def test_panels_of_rewards_share_their_axis_and_a_narrow_picture_has_one_column(tmp_path, drawn, ending):
    draw_all(tmp_path, ending)
    assert len(drawn) == 4
    for figure in drawn:
        panels = [axes for axes in figure.axes if axes.get_ylabel().startswith("mean reward")]
        assert len(panels) >= 2 and len({axes.get_ylim() for axes in panels}) == 1
        columns = {round(axes.get_position().x0, 2) for axes in figure.axes}
        assert len(columns) == (1 if "narrow" in ending else 2)
        assert ("narrow" not in ending) == (figure.get_figwidth() > NARROW_WIDTH)


@pytest.mark.parametrize("ending", [".svg", "_narrow.svg"])
def test_names_of_near_subsets_stand_apart_and_below_the_title(tmp_path, drawn, ending):
    draw_all(tmp_path, ending)
    named = 0
    for axes in (axes for figure in drawn for axes in figure.axes):
        names = [text for text in axes.texts if text.get_rotation() == 45]
        if not names:
            continue
        width = axes.get_window_extent().width * 72 / axes.figure.dpi  # points
        places = sorted(text.xyann[0] * width for text in names)
        assert min(np.diff(places)) * np.sin(np.pi / 4) > NAME_SIZE, "the lines of two names touch"
        title = axes.title if axes.title.get_text() else axes._left_title
        assert max(text.get_window_extent().y1 for text in names) <= title.get_window_extent().y0 + 1
        named += len(names)
    assert named == 2 * 4 + 2 * 2 + 2 * 3  # two panels each: M on D, low and high, strategies


def test_places_are_spread_out_as_little_as_needed():
    assert spread_out([0.1, 0.5, 0.9], 0.1) == [0.1, 0.5, 0.9]
    assert spread_out([0.5, 0.5, 0.52], 0.1) == pytest.approx([0.5, 0.6, 0.7])
    assert spread_out([0.95, 0.99, 1.0], 0.1) == pytest.approx([0.8, 0.9, 1.0])
    assert min(np.diff(spread_out([0.0] * 50, 0.1))) > 0 and spread_out([0.5], 0.1) == [0.5]


def test_a_value_reads_alike_in_table_and_picture(tmp_path, drawn):
    cells = make_grid(lambda *cell: rising(*cell) + 0.00446, seeds=(42, 43))
    draw_budgets(result_facets(results_of(cells)), tmp_path / "a.png")
    shown = {text.get_text() for axes in drawn[0].axes for text in axes.texts}
    table = make_report(cells, []).partition("## Table 1")[2].partition("## ")[0]
    assert shown == {entry.split()[0] for entry in re.findall(r"[\d.]+ ± [\d.]+\*", table)} and len(shown) > 8


def test_the_commands_write_under_the_study_root_and_warn(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("STUDY_ROOT", str(tmp_path))
    results = tmp_path / "results"
    cells = make_grid(rising)
    cells[0]["diversity"] = None
    for cell in cells:
        write_cell(results / f"{cell['exp']}.json", cell)
    (results / "torn.json").write_text("{")
    figures.main(["--results", str(results)])
    told = capsys.readouterr().err
    assert "torn.json:1" in told and "PRO K=2 M=1500: no D recorded" in told
    figures.main(["--budgets", str(results)])
    figures.main(["--intro"])
    figures.main(["--paper"])
    made = sorted(path.name for path in (tmp_path / "runs" / "figures").iterdir())
    assert made == ["diversity.png", "intro.png", "paper.png", "quantitative.png"]


def test_a_folder_without_results_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no result file to draw"):
        figures.main(["--results", str(tmp_path), "--output", str(tmp_path / "a.png")])
    with pytest.raises(InputError, match="no such file or folder"):
        figures.main(["--budgets", str(tmp_path / "none")])


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "--paper, --intro, --results, --budgets, --fixed_size: none .expected one of them"),
        (["--paper", "--intro"], "--paper and --intro .expected one of them"),
        (["--paper", "--compare_paper"], "--compare_paper: does not apply to --paper"),
        (["--budgets", "results", "--compare_paper"], "--compare_paper: does not apply to --budgets"),
        (["--intro", "--profile", "toy"], "--profile: does not apply to --intro"),
    ],
)
def test_flags_that_do_not_fit_the_figure_are_refused(words, message, tmp_path):
    with pytest.raises(InputError, match=message):
        figures.main([*words, "--output", str(tmp_path / "a.png")])


def test_numbers_are_printed_as_the_paper_prints_them():
    assert [scientific(value) for value in (1.2278e-4, 9.3001e-6, 0.5)] == ["1.2e-4", "9.3e-6", "5.0e-1"]


def test_names_are_drawn_as_they_are_and_any_number_of_responses_has_a_mark(tmp_path, monkeypatch):
    """matplotlib takes what stands between two dollars for a formula, and stops at one that it does not know."""
    kept = keep_figures(monkeypatch)
    cells = [make_cell("PRO", k, 1500, 42, 0.5) for k in (5, 9)]
    cells += [{**cell, "selection": r"$\foo$ & $x^2"} for cell in cells]
    results = results_of(cells)
    draw_chosen(comparisons(results, strategy_pairs(results)), "a title", tmp_path / "a.png")
    texts = {text.get_text() for text in kept[0].axes[0].texts}
    assert texts == {"random", r"$\foo$ & $x^2"}
    draw_panels(result_points(results_of(cells[:2])), tmp_path / "b.png", r"$\bar$")
    assert (tmp_path / "a.png").stat().st_size > 5000 and (tmp_path / "b.png").stat().st_size > 5000


def test_what_the_papers_numbers_can_carry():
    """By hand from the published points: AIC n log(mse) apart, and the two equal budgets of each algorithm."""
    told = paper_evidence()
    favoured = {line.strip().split(":")[0]: line.rsplit(", ", 1)[1] for line in told[1:7]}
    assert favoured.pop("PRO K=2") == "for D" and set(favoured.values()) == {"undecided"}
    pro = ((0.5530 - 0.5378) + (0.5228 - 0.5013)) / 2  # K=4 M=12000 - K=2 M=24000, K=4 M=1500 - K=2 M=3000
    assert told[8].startswith(f"    PRO: {100 * pro:+.2f} (")
    assert "no number is printed" in told[-1]
