"""eval_hh/report.py and analysis/means.py: table entries worked out by hand, and a report that hides nothing."""

import html
import json
import math
import re
import statistics
from pathlib import Path

import markdown
import pytest

from data_preprocess.command import InputError
from eval_hh import report
from eval_hh.analysis.means import ordering_accuracy, table
from eval_hh.analysis.paper_numbers import paper_results, paper_table
from eval_hh.cells import TEST_FILES, Setting, file_scores, write_cell
from eval_hh.markup import markdown_text
from eval_hh.reporting.findings import analyse
from eval_hh.reporting.table1 import latex
from tests.made_up import diversity, make_cell, make_grid, make_report, results_of

COMMITTED = sorted(path.parent for path in (Path(report.__file__).parent / "results").rglob("cells.jsonl.xz"))
# Two seeds of one cell: harmless 1 row, helpful 1 + 1 + 2 rows.
HAND = {
    42: {
        "harmless_base": [0.8],
        "helpful_base": [0.2],
        "helpful_online": [0.4],
        "helpful_rejection": [0.6, 0.8],
    },
    43: {
        "harmless_base": [0.6],
        "helpful_base": [0.2],
        "helpful_online": [0.2],
        "helpful_rejection": [0.4, 0.8],
    },
}


def hand_cell(seed: int, extra: float = 0.0) -> dict:
    cell = make_cell("PRO", 2, 1500, seed, 0.5)
    for file in TEST_FILES:
        values = HAND[seed][file]
        others = {"reward_model": [min(1.0, value + extra) for value in values]}
        cell["files"][file] = file_scores(list(range(len(values))), values, [7.0] * len(values), others)
    return cell


def rising(algorithm: str, k: int, size: int, seed: int) -> float:
    return 0.3 + 0.01 * diversity(size) + 0.03 * k


def section(text: str, title: str) -> str:
    return text.split(f"## {title}")[1].split("\n## ")[0]


def row_of(text: str, *start: str) -> list[str]:
    rows = [[part.strip() for part in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    return next(row for row in rows if row[: len(start)] == list(start))


def test_entries_with_one_seed_have_the_interval_over_test_prompts():
    entries = table(results_of([hand_cell(42)]))
    setting = Setting("PRO", 2, 1500)
    assert entries["Harmless", setting].mean == pytest.approx(80)
    assert entries["Helpful", setting].mean == pytest.approx(50)  # over 4 samples; over 3 files it would be 43.3
    assert entries["Global", setting].mean == pytest.approx(100 * 2.8 / 5)
    spread = statistics.stdev([20, 40, 60, 80])
    assert entries["Helpful", setting].spread == pytest.approx(1.96 * spread / math.sqrt(4))
    assert entries["Harmless", setting].spread == 0.0 and entries["Global", setting].n_units == 1


def test_entries_with_more_seeds_have_the_deviation_over_seeds():
    entry = table(results_of([hand_cell(42), hand_cell(43)]))["Global", Setting("PRO", 2, 1500)]
    assert entry.mean == pytest.approx((56 + 44) / 2)
    assert entry.spread == pytest.approx(statistics.stdev([56, 44]))
    assert entry.n_units == 2
    bleu = table(results_of([hand_cell(42), hand_cell(43)]), "bleu", scale=1.0)["Global", Setting("PRO", 2, 1500)]
    assert (bleu.mean, bleu.spread) == (7.0, 0.0)


def test_ordering_accuracy_by_hand():
    first, second = hand_cell(42), hand_cell(43)
    # Gold differs in three rows (0.8 > 0.6, 0.4 > 0.2, 0.6 > 0.4), the first cell being better each time.
    first["files"]["harmless_base"]["extra"]["reward_model"] = [0.1]  # wrong way round
    second["files"]["helpful_online"]["extra"]["reward_model"] = [0.4]  # a tie
    accuracy, count = ordering_accuracy(results_of([first, second]), "reward_model")
    assert (accuracy, count) == (pytest.approx(1.5 / 3), 3)
    assert math.isnan(ordering_accuracy(results_of([first]), "reward_model")[0])


def test_the_table_marks_equal_budgets_and_shows_what_is_missing():
    cells = [
        cell
        for cell in make_grid(rising)
        if (cell["algorithm"], cell["ranking_len"], cell["num_prompts"]) != ("SFT", 4, 1500)
    ]
    text = make_report(cells, ["left out x.json: broken"])
    assert "- 23 of 24 cells present" in text and "- Warning: left out x.json: broken" in text
    assert "1 replicate (seed 42): nothing is known of how draws and seeds differ" in text
    shown = section(text, "Table 1")
    assert "marked * cost the same 6000 labelled responses: K=2 M=3000, K=3 M=2000, K=4 M=1500" in shown
    assert row_of(shown, "PRO Global", "4")[2].startswith("54.00 ± ")  # 0.3 + 0.01 * 12 + 0.03 * 4
    marked = {
        (row, column)
        for row in ("2", "3", "4")
        for column in range(2, 6)
        if row_of(shown, "PRO Global", row)[column].endswith("*")
    }
    assert marked == {("2", 4), ("3", 3), ("4", 2)}
    assert row_of(shown, "SFT Global", "4")[2] == "-*"
    rows = [line for line in section(text, "Equal budget").splitlines() if "SFT" in line]
    assert rows and not any("K=4 M=1500" in line for line in rows)


def test_seeds_that_are_missing_are_told():
    cells = make_grid(rising, seeds=(42, 43, 44))
    text = make_report(cells[1:], [])  # without PRO K=2 M=1500 seed 42
    assert "- 71 of 72 cells present" in text and "3 seeds (42, 43, 44) of one draw" in text
    entry = row_of(section(text, "Table 1"), "PRO Global", "2")[2]
    assert entry.endswith("(2 of 3 replicates)")
    assert "± the standard deviation over 3 training seeds of one draw of the subsets" in text
    assert "About this draw of the subsets only" in section(text, "Equal budget")
    text = make_report(make_grid(rising, seeds=(42, 43, 44), draws=True)[1:], [])
    assert "3 replicates (a fresh draw of the subsets and a fresh training seed each)" in text
    assert "- Missing: PRO K=2 M=1500 draw=42 seed=42." in text
    assert "Population: new draws of the subsets and new training seeds" in section(text, "Equal budget")


def test_comparisons_and_verdicts_are_in_the_text():
    text = make_report(make_grid(rising, seeds=(42, 43, 44), draws=True), [])
    assert "no verdict" not in text
    difference = 100 * (0.06 + 0.01 * (diversity(1500) - diversity(3000)))
    row = row_of(section(text, "Equal budget"), "held", "PRO Global", "K=4 M=1500", "K=2 M=3000")
    assert row[7:9] == [f"{difference:+.2f}", f"{difference:+.2f} to {difference:+.2f}"]  # replicates are alike here
    said = section(text, "What this run says")
    assert "1. More responses and fewer prompts win at equal budget (K=4 against K=2, Global): **held**." in said
    assert "2. Reward after fine-tuning is linear in prompt diversity D (Global): **undecided**." in said
    assert "But" not in said and "fit as well: log M" in said  # D of the made-up cells is linear in log M
    assert re.search(r"3\. D can guide data augmentation .*: \*\*not tested in this run\*\*\.", said)


@pytest.mark.parametrize(
    ("seeds", "profile", "command"),
    [
        (
            (42,),
            "toy",
            "1 draw of the subsets is too few, 3 are needed. `python reproduce.py --profile toy --replicates 3`",
        ),
        ((7, 9), "opt-1.3b", "`python reproduce.py --profile opt-1.3b --replicates 3` gives one"),
        ((42, 43, 44), "mine", "`--draw` of data_preprocess/sample.py"),
        ((42,), "mine", "`python reproduce.py --study FILE --replicates 3` gives one. Otherwise sample"),
        ((42,), None, "`--seed` of training/main.py"),
    ],
)
def test_fewer_than_three_draws_give_no_verdict_and_the_first_lines_say_so(seeds, profile, command):
    cells = make_grid(rising, seeds=seeds)
    for one in cells:
        one["profile"] = profile
    text = make_report(cells, [])
    said = text.splitlines()[2]
    assert said.startswith("This report gives no verdict: ") and command in said
    assert not re.search(r"\*\*(held|did not hold|undecided)\*\*", text)
    assert not re.search(r"^\| (held|did not hold|undecided) ", text, re.MULTILINE)


def test_other_rewards_and_bleu_stand_beside_the_reward():
    shown = section(make_report([hand_cell(42, 0.1), hand_cell(43, 0.1)], []), "Other scores")
    assert "orders them the same way in 100.0% of 3 cases" in shown
    assert row_of(shown, "PRO", "2", "1500") == ["PRO", "2", "1500", "50.00", "60.00", "7.00"]


def test_cells_without_d_leave_the_lines_and_are_named():
    cells = make_grid(rising)
    for cell in cells:
        cell["diversity"] = None
    text = make_report(cells, [])
    assert "PRO K=2 M=1500: no D recorded" in text and "No line can be fitted." in text
    assert "linear in prompt diversity D (Global): **not tested in this run**" in text


def test_the_papers_value_stands_beside_ours_where_there_is_one():
    published = paper_table("opt-1.3b")
    assert (
        published["Global", Setting("PRO", 4, 1500)] == 52.28
        and published["Harmless", Setting("PRO", 2, 24000)] == 57.01
    )
    assert ("Harmless", Setting("SFT", 2, 3000)) not in published  # the paper prints SFT on Global only
    assert paper_table("llama-7b")["Global", Setting("SFT", 4, 3000)] == 56.14 and paper_table("toy") == {}
    cells = [{**cell, "profile": "opt-1.3b"} for cell in make_grid(rising)]
    shown = section(make_report(cells, [], compare_paper=True), "Table 1")
    assert row_of(shown, "PRO Global", "4")[2].endswith("* (paper 52.28)")
    assert "paper" not in row_of(shown, "PRO Global", "4")[5]  # the table has no M = 6000
    assert "no values for profile toy" in make_report(make_grid(rising), [], compare_paper=True)


def test_the_papers_numbers_are_those_of_the_published_pages(shared):
    page = (shared / "paper.md").read_text()
    for row in paper_results()["table1"]["rows"]:
        first, second = (" ".join(f"{value:.2f}" for value in row["reward"][part : part + 3]) for part in (0, 3))
        assert f"{row['ranking_len']} | {first} | {second}" in page
    figure = paper_results()["figure4"]
    for name, values in [(f"{a} {k}", figure["reward"][a][k]) for a in ("PRO", "SFT") for k in "234"]:
        assert f"{name}  " + "  ".join(f"{value:.4f}"[1:] for value in values) in page
    rows = paper_results()["table1"]["rows"]
    for algorithm in ("PRO", "SFT"):  # the figure agrees with the table where they overlap
        for row in rows:
            if (row["algorithm"], row["model"], row["pool"]) == (algorithm, "OPT-1.3B", "Global"):
                shown = figure["reward"][algorithm][str(row["ranking_len"])]
                places = [figure["num_prompts"].index(m) for m in paper_results()["table1"]["num_prompts"]]
                assert [round(100 * shown[place], 2) for place in places] == row["reward"]


def test_the_command_prints_and_writes_the_report(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("STUDY_ROOT", str(tmp_path))
    for cell in make_grid(rising):
        write_cell(tmp_path / "eval_hh" / "results" / f"{cell['exp']}_{cell['stage']}.json", cell)
    (tmp_path / "eval_hh" / "results" / "torn.json").write_text('{"schema": 1,')
    report.main([])
    printed = capsys.readouterr().out
    written = (tmp_path / "runs" / "report" / "report.md").read_text()
    assert written in printed and "torn.json:1: not valid JSON" in written
    report.main(["--results", str(tmp_path / "eval_hh" / "results"), "--output", str(tmp_path / "there")])
    assert (tmp_path / "there" / "report.md").read_text() == written  # the same input, the same text


def test_nothing_to_report_on_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no result file"):
        report.main(["--results", str(tmp_path)])
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(InputError, match=r"bad\.json: expected a JSON object"):
        report.main(["--results", str(tmp_path), "--output", str(tmp_path)])
    assert not (tmp_path / "report.md").exists()


def test_two_worlds_are_refused():
    cells = make_grid(rising)
    cells[3]["world"] = "def"
    with pytest.raises(InputError, match="2 different worlds"):
        make_report(cells, [])


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda folder: folder.name)
def test_a_committed_report_is_what_report_py_makes_of_the_committed_results(folder, tmp_path, capsys):
    report.main(["--results", str(folder), "--output", str(tmp_path)])
    made, committed = (tmp_path / "report.md").read_text(), (folder / "report.md").read_text()
    assert committed.partition("\n\n## How it was made\n")[0] == made.rstrip("\n")
    assert (tmp_path / "table1.tex").read_text() == (folder / "table1.tex").read_text()


HOSTILE = (
    "**bold** and `code`", "<script>alert(1)</script>", "a | b | c", "[x](http://evil.example)", "_it_ ~~no~~",
    "$x^2$ &amp;", "line\n# heading\n\n1. Claim: **held**.", "<b onclick=1>", "![p](x.png)", "back\\slash {#id}", "http://evil.example",
)  # fmt: skip


def test_json_has_what_the_report_says_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("STUDY_ROOT", str(tmp_path / "root"))
    committed = Path(report.__file__).parent / "results" / "toy"
    report.main(["--results", str(committed), "--json"])
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)  # strict JSON has no NaN
    text = (committed / "report.md").read_text(encoding="utf-8")
    for one in found["verdicts"]:
        assert f"{one['claim']}: **{one['verdict']}**" in text
        assert all(markdown_text(detail) in text for detail in one["details"])
    budget = [one for one in found["contrasts"]["equal_budget"] if one["pool"] == "Global"]
    settings = [(one["first"]["setting"], one["second"]["setting"]) for one in budget]
    assert {(first["ranking_len"], second["num_prompts"]) for first, second in settings} >= {(4, 240)}
    for one in budget:
        assert f"{100 * one['difference']['difference']:+.2f}" in text
    line = next(one for one in found["lines"] if one["name"] == "PRO K=2")
    assert f"| {line['fits']['D']['line']['r2']:.3f} |" in text
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("name", HOSTILE)
def test_what_others_wrote_is_text_in_the_report(name):
    """Rendered to HTML, the report has the same tags as with a plain name, and shows the name as it is."""

    def rendered(name: str) -> str:
        cells = make_grid(rising, seeds=(42, 43, 44), draws=True)
        cells += [{**cell, "selection": name} for cell in cells if cell["num_prompts"] == 1500]
        cells += [{**cell, "selection": "low_d_matched"} for cell in cells[:1]]
        for cell in cells:
            cell |= {"profile": name, "reward_source": name, "world": name}
            for entry in cell["files"].values():
                entry["extra"], entry["mean"] = {name: entry["reward"]}, {**entry["mean"], name: 0.5}
        text = make_report(cells, [f"left out {name}.json: broken"])
        assert name not in latex(analyse(results_of(cells)).table)
        return markdown.markdown(text, extensions=["tables", "sane_lists"], tab_length=3)

    page = rendered(name)
    assert re.findall(r"<[^>]*>", page) == re.findall(r"<[^>]*>", rendered("plain"))
    shown = " ".join(name.split())
    words = html.unescape(re.sub(r"<[^>]*>", "", page))
    assert f"Results: profile {shown}" in words and f"left out {shown}.json: broken" in words
    assert f"{shown} K=2 M=1500" in words and f"{shown} orders them the same way" in words
    assert f"Reward: {shown}, 0 to 1" in words and f"World: {shown}." in words


def test_a_study_of_one_equal_budget_lacks_no_cell():
    cells = [make_cell("PRO", k, size, seed, 0.5, draw=seed) for k, size in ((2, 3000), (4, 1500))
             for seed in (42, 43, 44)]  # fmt: skip
    text = make_report(cells, [])
    assert "- 6 of 6 cells present" in text and "Missing" not in text
    text = make_report(cells[:-1], [])
    assert "- 5 of 6 cells present" in text and "Missing: PRO K=4 M=1500 draw=44 seed=44." in text
