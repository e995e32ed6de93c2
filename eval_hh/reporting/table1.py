"""The study's Table 1, in Markdown and in LaTeX."""

from __future__ import annotations

from dataclasses import dataclass

from eval_hh.analysis.means import Entry, model_entries, table
from eval_hh.analysis.results import Results
from eval_hh.analysis.reward_scale import RewardScale
from eval_hh.cells import CEILING, Setting
from eval_hh.estimates import budgets
from eval_hh.markup import DIFFERENCE, REWARD, interval_text, latex_text, markdown_text
from eval_hh.reporting.markdown_table import markdown

MARKS = "*†‡§"
MODELS_TITLE = "models that were not trained on these subsets"
PROMPTS_SPREAD = "the 95% interval over test prompts"
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
    n_units: int  # largest number of replicates of an entry
    one_draw: bool  # replicates differ in their training seed only
    budgets: tuple[dict[int, int], ...]  # {K: M} of the equal budgets
    models: dict[str, dict[str, Entry]]  # by name and pool: models that were not trained on these subsets
    scales: dict[str, RewardScale]  # by pool

    @property
    def spread(self) -> str:
        if self.n_units == 1:
            return "the 95% interval over test prompts, 1 replicate"
        what = "training seeds of one draw of the subsets" if self.one_draw else "replicates (new draws and seeds)"
        return f"the standard deviation over {self.n_units} {what}"


def table1(results: Results, paper: dict[tuple[str, Setting], float]) -> Table1:
    """Builds the table of the random subsets, with the paper's values where `paper` has them."""
    entries = table(results)
    algorithms, lengths, sizes = map(results.values_of, ("algorithm", "ranking_len", "num_prompts"))
    equal = budgets(sizes)
    rows = []
    for algorithm in algorithms:
        for pool in results.pools:
            for ranking_len in lengths:
                keys = [(pool, Setting(algorithm, ranking_len, size)) for size in sizes]
                shared = tuple(_budget_of(equal, ranking_len, size) for size in sizes)
                values = tuple(map(entries.get, keys)), shared, tuple(map(paper.get, keys))
                rows.append(Row(f"{algorithm} {pool}", ranking_len, *values))
    units = [results.units(one) for one in results.random]
    one_draw = all(one.one_draw for one in units)
    scales = {pool: results.scale(pool) for pool in results.pools}
    models = model_entries(results)
    return Table1(tuple(sizes), tuple(rows), max(map(len, units)), one_draw, tuple(equal), models, scales)


def _budget_of(equal: list[dict[int, int]], ranking_len: int, size: int) -> int | None:
    return next((number for number, budget in enumerate(equal) if budget.get(ranking_len) == size), None)


def markdown_lines(found: Table1) -> list[str]:
    """Returns the table with its heading and notes, as lines of Markdown."""
    rows = [[row.setting, str(row.ranking_len), *_texts(found, row, "±", MARKS)] for row in found.rows]
    notes = [f"100 x mean reward ± {found.spread}; - is a missing cell."]
    if found.n_units > 1 and any(entry and entry.n_units == 1 for row in found.rows for entry in row.entries):
        notes.append("An entry with one replicate has ± the 95% interval over test prompts instead, and says so.")
    for mark, budget in zip(MARKS, found.budgets, strict=False):
        notes.append(f"Entries marked {mark} {_budget(budget)}.")
    header = ["setting", "K", *(f"M={size}" for size in found.sizes)]
    return ["## Table 1", "", " ".join(notes), "", *markdown(header, rows), *_model_lines(found)]


def _model_lines(found: Table1) -> list[str]:
    """Returns the table of models that were not trained on these subsets; empty without any."""
    if not found.models:
        return []
    rows = [
        [markdown_text(name), *(f"{entry.mean:{REWARD}} ± {entry.spread:{REWARD}}" for entry in entries.values())]
        for name, entries in found.models.items()
    ]
    for below in found.scales["Global"].spans:
        spans = [scale.spans.get(below) for scale in found.scales.values()]  # None: of a single prompt
        texts = [f"{100 * one.difference:{DIFFERENCE}} ({interval_text(one)})" if one else "-" for one in spans]
        rows.append([f"{CEILING} minus {below}", *texts])
    pools = next(iter(found.models.values()))
    paired = "; differences are paired by prompt, with Student's" if found.scales["Global"].spans else ""
    title = f"{MODELS_TITLE.capitalize()}, 100 x mean reward ± {PROMPTS_SPREAD}{paired}:"
    return [title, "", *markdown(["", *pools], rows)]


def latex(found: Table1) -> str:
    """Returns the table as a LaTeX table environment; the document must load booktabs."""
    notes = [rf"$100 \times$ mean reward $\pm$ {found.spread}".replace("%", r"\%")]
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
    lines += _latex_model_lines(found)
    if found.models:
        notes.append(f"{MODELS_TITLE} below, $\\pm$ {PROMPTS_SPREAD}".replace("%", r"\%"))
    lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{'; '.join(notes)}.}}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _latex_model_lines(found: Table1) -> list[str]:
    """Returns a row per model and pool, whose value spans the sizes."""
    lines = []
    for name, entries in found.models.items():
        lines.append(r"\midrule")
        for pool, entry in entries.items():
            value = rf"{entry.mean:{REWARD}} $\pm$ {entry.spread:{REWARD}}"
            lines.append(rf"{latex_text(name)} {pool} & & \multicolumn{{{len(found.sizes)}}}{{c}}{{{value}}} \\")
    return lines


def _texts(found: Table1, row: Row, plus_minus: str, marks: str | tuple[str, ...]) -> list[str]:
    """Formats a row's entries: mean, spread, replicates if fewer than `found.n_units`, mark, the paper's value."""
    texts = []
    for entry, budget, paper in zip(row.entries, row.budgets, row.paper, strict=True):
        text = "-" if entry is None else f"{entry.mean:{REWARD}} {plus_minus} {entry.spread:{REWARD}}"
        if entry and entry.n_units < found.n_units:
            text += f" ({entry.n_units} of {found.n_units} replicates)"
        if budget is not None and budget < len(marks):
            text += marks[budget]
        texts.append(text if paper is None else f"{text} (paper {paper:{REWARD}})")
    return texts


def _budget(budget: dict[int, int]) -> str:
    shape = ", ".join(f"K={k} M={m}" for k, m in budget.items())
    return f"cost the same {2 * budget[2]} labelled responses: {shape}"
