"""eval_hh/reporting/table1.py: the same entries in LaTeX as in Markdown."""

import re

from eval_hh.cells import POOLS, Setting
from eval_hh.reporting.table1 import latex, markdown_lines, table1
from tests.made_up import diversity, make_grid, results_of


def rising(algorithm: str, k: int, size: int, seed: int) -> float:
    return 0.3 + 0.01 * diversity(size) + 0.03 * k


def rows_of_latex(text: str) -> list[list[str]]:
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    rows = [line.removesuffix(r" \\").split(" & ") for line in body.splitlines() if line.endswith(r" \\")]
    return [[cell.strip() for cell in row] for row in rows]


def test_latex_has_the_entries_of_markdown():
    cells = [cell for cell in make_grid(rising, seeds=(42, 43)) if cell["exp"] != "sft_4_1500_42"]
    found = table1(results_of(cells), {("Global", Setting("PRO", 4, 1500)): 52.28})
    shown = [line.split("|")[1:-1] for line in markdown_lines(found) if line.startswith("|")]
    shown = [[cell.strip() for cell in row] for row in shown if "---" not in row[0]]
    text = latex(found)
    rows = rows_of_latex(text)
    assert len(rows) == len(shown) == 1 + 2 * 3 * 3 and {len(row) for row in rows} == {6}
    for ours, theirs in zip(rows[1:], shown[1:], strict=True):
        plain = [cell.replace(r"$\pm$", "±").replace("$^{*}$", "*") for cell in ours]
        assert plain[1:] == theirs[1:] and plain[0] in ("", theirs[0])
    assert [row[0] for row in rows if row[0]] == ["Setting", *(f"{a} {p}" for a in ("PRO", "SFT") for p in POOLS)]
    assert "$^{*} (paper 52.28)" in text.replace("$^{*}$", "$^{*}") and "(1 of 2 replicates)" in text
    assert "entries marked $^{*}$ cost the same 6000 labelled responses" in text


def test_latex_is_balanced_and_its_special_signs_are_escaped():
    text = latex(table1(results_of(make_grid(rising)), {}))
    assert text.count("{") == text.count("}") and text.count("$") % 2 == 0
    assert re.findall(r"\\(begin|end)\{(\w+)\}", text) == [
        ("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table"),
    ]  # fmt: skip
    without_comment = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert "%" not in without_comment.replace(r"\%", "") and "95\\% interval" in text  # one replicate
    assert not re.search(r"[^\x00-\x7f]", text)
