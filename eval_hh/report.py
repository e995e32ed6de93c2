"""The study's table, its equal-budget comparisons and a verdict on each of the paper's claims.

    cd eval_hh; python report.py [--results DIR] [--output DIR] [--compare_paper]

reads result files (default: eval_hh/results/ under STUDY_ROOT), prints Markdown and writes it to report.md in
--output (default: runs/report/ under STUDY_ROOT). Needs no GPU, no network and no torch.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.files import InputError, atomic_write, run, study_root
from eval_hh.cells import POOLS, TEST_FILES, extra_rewards, load_cells
from eval_hh.claims import (
    PREDICTORS,
    Comparison,
    LineTest,
    PoolBootstrap,
    Setting,
    Verdict,
    comparisons,
    diversity_of,
    grid,
    line_tests,
    verdicts,
)
from eval_hh.law import N_DRAWS, average_mse, budgets
from eval_hh.summary import Entry, ordering_accuracy, paper_table, table

MARKS = "*†‡§"


def markdown(header: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table with its columns padded, so that it also reads as plain text."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in [header, ["-" * width for width in widths], *rows]
    ]
    return [*lines, ""]


def _head(cells: list[dict], warnings: list[str]) -> list[str]:
    settings = grid(cells)
    algorithms, lengths, sizes = (sorted({setting[part] for setting in settings}) for part in range(3))
    seeds = _seeds(cells)
    present = sum(len(of_setting) for of_setting in settings.values())
    expected = len(algorithms) * len(lengths) * len(sizes) * len(seeds)
    counts = ", ".join(f"{file} {cells[0]['files'][file]['n']}" for file in TEST_FILES)
    lines = [
        f"# Results: profile {cells[0]['profile'] or 'none'}",
        "",
        f"- {present} of {expected} cells present: {' and '.join(algorithms)}, K = {_listed(lengths)} "
        f"responses per prompt, M = {_listed(sizes)} prompts, {_seed_text(seeds)}.",
        f"- Reward: {cells[0]['reward_source']}, 0 to 1, shown times 100. "
        f"World: {cells[0]['world'] or 'real data'}.",
        f"- Test prompts: {counts}. Harmless is the first file, Helpful pools the other three, Global all "
        "four; a pool's mean is over its prompts.",
    ]
    others = sorted({cell["selection"] for cell in cells} - {"random"})
    if others:
        lines.append(f"- Not in these tables: cells trained on subsets chosen otherwise ({_listed(others)}).")
    lines += [f"- Warning: {warning}" for warning in warnings + diversity_of(cells)[1]]
    return [*lines, ""]


def _seeds(cells: list[dict]) -> list[int]:
    return sorted({seed for seeds in grid(cells).values() for seed in seeds})


def _listed(values: list) -> str:
    return ", ".join(map(str, values))


def _seed_text(seeds: list[int]) -> str:
    if len(seeds) == 1:
        return f"1 seed ({seeds[0]}): no spread over seeds, every interval is over test prompts only"
    return f"{len(seeds)} seeds ({_listed(seeds)})"


def _table_lines(cells: list[dict], paper: dict[tuple[str, Setting], float]) -> list[str]:
    settings = grid(cells)
    entries = table(cells)
    sizes = sorted({setting[2] for setting in settings})
    most = max(len(seeds) for seeds in settings.values())
    equal = budgets(sizes)
    marks = {
        pair: "".join(mark for mark, budget in zip(MARKS, equal, strict=False) if pair in budget.items())
        for pair in {setting[1:] for setting in settings}
    }
    rows = []
    for algorithm in sorted({setting[0] for setting in settings}):
        for pool in POOLS:
            for ranking_len in sorted({setting[1] for setting in settings}):
                row = [f"{algorithm} {pool}", str(ranking_len)]
                for size in sizes:
                    setting = (algorithm, ranking_len, size)
                    text = _entry_text(entries.get((pool, setting)), most) + marks.get(setting[1:], "")
                    value = paper.get((pool, setting))
                    row.append(text if value is None else f"{text} (paper {value:.2f})")
                rows.append(row)
    spread = "the standard deviation over seeds" if most > 1 else "the 95% interval over test prompts"
    notes = [f"100 x mean reward ± {spread}; - is a missing cell."]
    if most > 1:
        notes.append("An entry with one seed has ± the 95% interval over test prompts instead, and says so.")
    for mark, budget in zip(MARKS, equal, strict=False):
        shape = ", ".join(f"K={k} M={m}" for k, m in budget.items())
        notes.append(f"Entries marked {mark} cost the same {2 * budget[2]} labelled responses: {shape}.")
    header = ["setting", "K", *(f"M={size}" for size in sizes)]
    return ["## Table 1", "", " ".join(notes), "", *markdown(header, rows)]


def _entry_text(entry: Entry | None, most_seeds: int) -> str:
    if entry is None:
        return "-"
    few = "" if entry.n_seeds == most_seeds else f" ({entry.n_seeds} of {most_seeds} seeds)"
    return f"{entry.mean:.2f} ± {entry.spread:.2f}{few}"


def _other_scores(cells: list[dict]) -> list[str]:
    """BLEU of every setting and, where cells carry other rewards, these beside the table's reward."""
    names = [name for name in extra_rewards(cells[0]) if all(name in extra_rewards(cell) for cell in cells)]
    columns = [table(cells, name, pools=("Global",)) for name in ["reward", *names]]
    columns.append(table(cells, "bleu", scale=1.0, pools=("Global",)))
    rows = [
        [algorithm, str(ranking_len), str(size)]
        + [f"{column['Global', (algorithm, ranking_len, size)].mean:.2f}" for column in columns]
        for algorithm, ranking_len, size in grid(cells)
    ]
    lines = ["## Other scores of the same responses (Global)", ""]
    for name in names:
        accuracy, count = ordering_accuracy(cells, name)
        same = f"{name} orders them the same way in {accuracy:.1%} of {count} cases (a coin: 50%)"
        where = f"Where two cells' responses to one test prompt differ in reward, {same}."
        lines += [where if count else "No two cells' responses to one test prompt differ in reward.", ""]
    lines += ["BLEU is the mean over responses, on words, against the chosen reply of the test row.", ""]
    return lines + markdown(["", "K", "M", "reward", *names, "BLEU"], rows)


def _comparison_lines(compared: list[Comparison]) -> list[str]:
    lines = [
        "## Equal budget: more responses or more prompts",
        "",
        "Difference in 100 x mean reward, more responses minus more prompts, on the same test prompts. "
        f"Intervals and p: paired bootstrap over test prompts and seeds, {N_DRAWS} draws; Holm p corrects "
        "for all rows of this table.",
        "",
    ]
    if not compared:
        return [*lines, "No equal-budget pair is complete.", ""]
    rows = [
        [
            f"{one.algorithm} {one.pool}",
            f"K={one.more_responses[0]} M={one.more_responses[1]}",
            f"K={one.more_prompts[0]} M={one.more_prompts[1]}",
            f"{100 * one.difference.value:+.2f}",
            f"{100 * one.difference.low:+.2f} to {100 * one.difference.high:+.2f}",
            f"{one.difference.p:.4f}",
            f"{one.holm_p:.4f}",
            str(one.n_seeds),
            one.verdict,
        ]
        for one in compared
    ]
    header = [
        "setting",
        "more responses",
        "more prompts",
        "difference",
        "95% interval",
        "p",
        "Holm p",
        "seeds",
    ]
    return [*lines, *markdown([*header, "more responses won"], rows)]


def _line_lines(tested: list[LineTest]) -> list[str]:
    rows = []
    for one in tested:
        for name, line in one.lines.items():
            interval = f"{one.slope.low:.3g} to {one.slope.high:.3g}" if name == "D" else ""
            rows.append(
                [one.algorithm, str(one.ranking_len), name, str(one.n_sizes), f"{line.slope:.3g}", interval]
                + [f"{line.intercept:.4f}", f"{line.r2:.3f}", f"{line.mse:.2g}", f"{line.loo_mse:.2g}"]
            )
    lines = [
        "## Reward against prompt diversity",
        "",
        "Least-squares lines of Global mean reward (0 to 1) on D, on M and on log M, one per K. MSE is in "
        "the sample; LOO MSE is at each size of the line through the others. Subsets are nested random ones, "
        "so D rises with M by construction: a fit on D that is no better than one on log M says nothing for "
        "D itself.",
        "",
    ]
    for algorithm in sorted({one.algorithm for one in tested}):
        with_lines = [one.lines for one in tested if one.algorithm == algorithm and one.lines]
        if with_lines:
            means = ", ".join(
                f"{name} {average_mse([of[name] for of in with_lines]):.2g}" for name in PREDICTORS
            )
            lines += [f"{algorithm}, MSE averaged over the lines: {means}.", ""]
    header = ["", "K", "on", "sizes", "slope", "95% interval", "intercept", "R2", "MSE", "LOO MSE"]
    return lines + (markdown(header, rows) if rows else ["No line can be fitted.", ""])


def _verdict_lines(claims: list[Verdict], seeds: list[int]) -> list[str]:
    lines = ["## What this run says about the paper's claims", "", f"From {_seed_text(seeds)}.", ""]
    for number, claim in enumerate(claims, 1):
        lines.append(f"{number}. {claim.claim}: **{claim.verdict}**.")
        lines += [f"   - {detail}" for detail in claim.details]
    return [*lines, ""]


def make_report(cells: list[dict], warnings: list[str], compare_paper: bool = False) -> str:
    """The whole report as Markdown. Raises InputError without cells and where two worlds are mixed."""
    if not grid(cells):
        raise InputError("; ".join(["no result file to report on (of a random subset)", *warnings]))
    bootstraps = {pool: PoolBootstrap(cells, pool) for pool in POOLS}
    compared = comparisons(cells, bootstraps)
    tested = line_tests(cells, bootstraps["Global"])
    paper = paper_table(cells[0]["profile"]) if compare_paper else {}
    if compare_paper and not paper:
        warnings = [*warnings, f"the paper has no values for profile {cells[0]['profile']}"]
    lines = _head(cells, warnings) + _table_lines(cells, paper) + _other_scores(cells)
    lines += _comparison_lines(compared) + _line_lines(tested)
    lines += _verdict_lines(verdicts(compared, tested), _seeds(cells))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Table, comparisons and verdicts from result files.")
    parser.add_argument("--results", type=Path, help="folder of result files (default: eval_hh/results)")
    parser.add_argument("--output", type=Path, help="folder for report.md (default: runs/report)")
    parser.add_argument("--compare_paper", action="store_true", help="put the paper's value beside ours")
    args = parser.parse_args(argv)
    cells, warnings = load_cells(args.results or study_root() / "eval_hh" / "results")
    text = make_report(cells, warnings, args.compare_paper)
    output = (args.output or study_root() / "runs" / "report") / "report.md"
    with atomic_write(output) as file:
        file.write(text)
    print(text)
    print(f"Written to {output}")


if __name__ == "__main__":
    run(main)
