"""The study's Table 1, in Markdown and in LaTeX."""

from __future__ import annotations

from dataclasses import dataclass

from eval_hh.analysis.means import Entry, table
from eval_hh.analysis.results import Results
from eval_hh.cells import POOLS, Setting
from eval_hh.estimates import budgets
from eval_hh.markup import REWARD
from eval_hh.reporting.markdown_table import markdown

MARKS = "*†‡§"
LATEX_MARKS = (r"$^{*}$", r"$^{\dagger}$", r"$^{\ddagger}$", r"$^{\S}$")


@dataclass(frozen=True)
class Row:
    """One row of the table: an algorithm and K in a pool, with an entry for each size."""

    setting: str
    ranking_len: int
    entries: tuple[Entry | None, ...]  # None: the cell is missing
    budgets: tuple[int | None, ...]  # index of the equal budget that each entry belongs to
    paper: tuple[float | None, ...]  # the paper's value of each entry, 100 x mean


@dataclass(frozen=True)
class Table1:
    """Rewards x 100 by algorithm, pool, K and M."""

    sizes: tuple[int, ...]
    rows: tuple[Row, ...]
    n_seeds: int  # largest number of seeds of an entry
    budgets: tuple[dict[int, int], ...]  # {K: M} of the equal budgets

    @property
    def spread(self) -> str:
        return "the standard deviation over seeds" if self.n_seeds > 1 else "the 95% interval over test prompts"


def table1(results: Results, paper: dict[tuple[str, Setting], float]) -> Table1:
    """Builds the table of the random subsets, with the paper's values where `paper` has them."""
    entries = table(results)
    algorithms, lengths, sizes = map(results.values_of, ("algorithm", "ranking_len", "num_prompts"))
    equal = budgets(sizes)
    rows = []
    for algorithm in algorithms:
        for pool in POOLS:
            for ranking_len in lengths:
                keys = [(pool, Setting(algorithm, ranking_len, size)) for size in sizes]
                shared = tuple(_budget_of(equal, ranking_len, size) for size in sizes)
                values = tuple(map(entries.get, keys)), shared, tuple(map(paper.get, keys))
                rows.append(Row(f"{algorithm} {pool}", ranking_len, *values))
    return Table1(tuple(sizes), tuple(rows), max(len(results.seeds(one)) for one in results.random), tuple(equal))


def _budget_of(equal: list[dict[int, int]], ranking_len: int, size: int) -> int | None:
    return next((number for number, budget in enumerate(equal) if budget.get(ranking_len) == size), None)


def markdown_lines(found: Table1) -> list[str]:
    """Returns the table with its heading and notes, as lines of Markdown."""
    rows = [[row.setting, str(row.ranking_len), *_texts(found, row, "±", MARKS)] for row in found.rows]
    notes = [f"100 x mean reward ± {found.spread}, {_seeds(found.n_seeds)}; - is a missing cell."]
    if found.n_seeds > 1 and any(entry and entry.n_seeds == 1 for row in found.rows for entry in row.entries):
        notes.append("An entry with one seed has ± the 95% interval over test prompts instead, and says so.")
    for mark, budget in zip(MARKS, found.budgets, strict=False):
        notes.append(f"Entries marked {mark} {_budget(budget)}.")
    header = ["setting", "K", *(f"M={size}" for size in found.sizes)]
    return ["## Table 1", "", " ".join(notes), "", *markdown(header, rows)]


def latex(found: Table1) -> str:
    """Returns the table as a LaTeX table environment; the document must load booktabs."""
    notes = [rf"$100 \times$ mean reward $\pm$ {found.spread}, {_seeds(found.n_seeds)}".replace("%", r"\%")]
    for mark, budget in zip(LATEX_MARKS, found.budgets, strict=False):
        notes.append(f"entries marked {mark} {_budget(budget)}")
    lines = [
        "% Written by eval_hh/report.py. Needs \\usepackage{booktabs}.",
        r"\begin{table}",
        r"\centering",
        r"\begin{tabular}{ll" + "r" * len(found.sizes) + "}",
        r"\toprule",
        " & ".join(["Setting", "$K$", *(f"$M={size}$" for size in found.sizes)]) + r" \\",
    ]
    previous = None
    for row in found.rows:
        if row.setting != previous:
            lines.append(r"\midrule")
        name = row.setting if row.setting != previous else ""
        lines.append(" & ".join([name, str(row.ranking_len), *_texts(found, row, r"$\pm$", LATEX_MARKS)]) + r" \\")
        previous = row.setting
    lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{'; '.join(notes)}.}}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _texts(found: Table1, row: Row, plus_minus: str, marks: str | tuple[str, ...]) -> list[str]:
    """Formats a row's entries: mean, spread, seeds if fewer than `found.n_seeds`, mark, the paper's value."""
    texts = []
    for entry, budget, paper in zip(row.entries, row.budgets, row.paper, strict=True):
        text = "-" if entry is None else f"{entry.mean:{REWARD}} {plus_minus} {entry.spread:{REWARD}}"
        if entry and entry.n_seeds < found.n_seeds:
            text += f" ({entry.n_seeds} of {found.n_seeds} seeds)"
        if budget is not None and budget < len(marks):
            text += marks[budget]
        texts.append(text if paper is None else f"{text} (paper {paper:{REWARD}})")
    return texts


def _seeds(number: int) -> str:
    return f"{number} seeds" if number > 1 else "1 seed"


def _budget(budget: dict[int, int]) -> str:
    shape = ", ".join(f"K={k} M={m}" for k, m in budget.items())
    return f"cost the same {2 * budget[2]} labelled responses: {shape}"
