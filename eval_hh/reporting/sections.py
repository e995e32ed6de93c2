"""The Markdown report on a set of cells, section by section."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from data_preprocess.files import atomic_write
from data_preprocess.outputs import check_opening, check_output_file
from data_preprocess.subsets import RANDOM
from eval_hh.analysis.joint_fit import JointFit
from eval_hh.analysis.lines_on_d import PREDICTORS, LineTest
from eval_hh.analysis.means import ordering_accuracy, table
from eval_hh.analysis.paper_numbers import PAPER_MODELS
from eval_hh.analysis.results import Results
from eval_hh.analysis.rules import MIN_REPLICATES
from eval_hh.analysis.verdicts import Verdict
from eval_hh.cells import POOLS, Setting
from eval_hh.estimates import Contrast, average_mse, budgets, holm
from eval_hh.markup import REWARD, interval_text, markdown_text, p_text
from eval_hh.reporting.findings import Findings
from eval_hh.reporting.markdown_table import markdown
from eval_hh.reporting.sections_contrasts import AUGMENTATION, EQUAL_BUDGET, FIXED_SIZE, STRATEGIES, contrast_section
from eval_hh.reporting.sections_judged import judged_section
from eval_hh.reporting.table1 import latex, markdown_lines

# First line of each file written; a file of that name that starts otherwise is not overwritten.
OPENINGS = {"report.md": "# Results", "table1.tex": "% Written by"}
NAMED = 6  # number of missing cells that are named; further ones are counted
REPRODUCED = ("toy", "smollm2", "smollm2-gpu", *PAPER_MODELS)  # profiles of reproduce.py


def _head(results: Results, warnings: Sequence[str]) -> list[str]:
    algorithms, lengths, sizes = map(results.values_of, ("algorithm", "ranking_len", "num_prompts"))
    first, replicates = results.first, results.all_replicates
    expected = [
        (Setting(algorithm, *shape), one)
        for algorithm, shape, one in product(algorithms, _shapes(results, lengths, sizes), replicates)
    ]
    missing = [
        f"{setting} draw={one.draw} seed={one.seed}" for setting, one in expected if not results.has(setting, one)
    ]
    counts = ", ".join(f"{file} {first.files[file]['n']}" for file in results.pools["Global"])
    lines = [
        f"# Results: profile {markdown_text(first.profile or 'none')}",
        "",
        *_no_verdict(results),
        f"- {len(expected) - len(missing)} of {len(expected)} cells present: {' and '.join(algorithms)}, "
        f"K = {_listed(lengths)} responses per prompt, M = {_listed(sizes)} prompts, {replicate_text(results)}.",
        *([f"- Missing: {_missing_text(missing)}."] if missing else []),
        f"- Reward: {markdown_text(first.reward_source)}, 0 to 1, shown times 100. "
        f"World: {markdown_text(first.world or 'real data')}.",
        f"- Test prompts: {counts}. {_pools_text(results)}; a pool's mean is over its prompts.",
    ]
    others = sorted({setting.selection for setting in results.settings} - {RANDOM})
    if others:
        lines.append(f"- Not in Table 1: cells trained on subsets chosen otherwise ({markdown_text(_listed(others))}).")
    lines += [f"- Warning: {markdown_text(warning)}" for warning in warnings]
    return [*lines, ""]


def _shapes(results: Results, lengths: Sequence[int], sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Returns the (K, M) of the design: an equal budget where no other was run, else every K with every M."""
    run = {(setting.ranking_len, setting.num_prompts) for setting in results.random}
    alone = [budget for budget in budgets(sizes) if run == set(budget.items())]
    return list(alone[0].items()) if alone else list(product(lengths, sizes))


def _pools_text(results: Results) -> str:
    if results.pools is POOLS:
        return "Harmless is the first file, Helpful pools the other three, Global all four"
    return "Global is all of them"


def _no_verdict(results: Results) -> list[str]:
    """Returns a note that the draws are too few for a verdict, with a command that gives one; empty if they suffice."""
    draws = len({one.draw for one in results.all_replicates})
    if draws >= MIN_REPLICATES:
        return []
    if results.first.profile in REPRODUCED:
        command = f"`python reproduce.py --profile {results.first.profile} --replicates {MIN_REPLICATES}` gives one."
    else:
        command = (
            f"With a study file `python reproduce.py --study FILE --replicates {MIN_REPLICATES}` gives one. Otherwise "
            f"sample subsets of {MIN_REPLICATES} draws (`--draw` of data_preprocess/sample.py), train and evaluate "
            "every cell on each with a seed of its own (`--seed` of training/main.py), and run "
            "`python eval_hh/report.py` again."
        )
    found = "1 draw of the subsets is" if draws == 1 else f"{draws} draws of the subsets are"
    return [f"This report gives no verdict: {found} too few, {MIN_REPLICATES} are needed. {command}", ""]


def _missing_text(missing: list[str]) -> str:
    return ", ".join(missing[:NAMED]) + (f" and {len(missing) - NAMED} more" if len(missing) > NAMED else "")


def _listed(values: list) -> str:
    return ", ".join(map(str, values))


def replicate_text(results: Results) -> str:
    """Returns the replicates of a study in words."""
    draws, seeds = (sorted(set(values)) for values in zip(*results.all_replicates, strict=True))
    if len(draws) > 1:
        return f"{len(draws)} replicates (a fresh draw of the subsets and a fresh training seed each)"
    if len(seeds) > 1:
        return f"{len(seeds)} seeds ({_listed(seeds)}) of one draw of the subsets"
    return f"1 replicate (seed {seeds[0]}): nothing is known of how draws and seeds differ"


def _other_scores(results: Results) -> list[str]:
    """Returns the section on BLEU and, if all cells have other rewards, on these beside the table's reward."""
    names = sorted(set.intersection(*(set(cell.extra_rewards) for cell in results.cells)))
    columns = [table(results, name, pools=("Global",)) for name in ["reward", *names]]
    columns.append(table(results, "bleu", scale=1.0, pools=("Global",)))
    rows = [
        [setting.algorithm, str(setting.ranking_len), str(setting.num_prompts)]
        + [f"{column['Global', setting].mean:{REWARD}}" for column in columns]
        for setting in results.random
    ]
    lines = ["## Other scores of the same responses (Global)", ""]
    for name in names:
        accuracy, count = ordering_accuracy(results, name)
        same = f"{markdown_text(name)} orders them the same way in {accuracy:.1%} of {count} cases (chance: 50%)"
        where = f"Where two cells' responses to one test prompt differ in reward, {same}."
        lines += [where if count else "No two cells' responses to one test prompt differ in reward.", ""]
    lines += [
        "BLEU is the mean over responses, on words (in scripts that are written without blanks, on characters), "
        "against the chosen reply of the test row.",
        "",
    ]
    return lines + markdown(["", "K", "M", "reward", *map(markdown_text, names), "BLEU"], rows)


def _line_lines(tested: list[LineTest]) -> list[str]:
    fitted = [(one, name, fit) for one in tested for name, fit in one.fits.items()]
    corrected = holm([fit.deviation for _, _, fit in fitted])
    rows = [
        [one.name, name, str(len(one.scores)), _coefficient(fit.slope), f"{fit.line.intercept:.4f}"]
        + [f"{fit.line.r2:.3f}", f"{fit.line.mse:.2g}", f"{fit.line.loo_mse:.2g}", p_text(fit.deviation)]
        + [p_text(holm_p)]
        for (one, name, fit), holm_p in zip(fitted, corrected, strict=True)
    ]
    lines = [
        "## Reward against prompt diversity",
        "",
        "Least-squares lines of Global mean reward (0 to 1) on D, on M and on log M, one per K, with Student's 95% "
        "intervals over replicates. MSE is in the sample; LOO MSE is the leave-one-out error, which depends most on "
        "the smallest size. p is that of a deviation of the sizes from the line, against the replicates as pure error; "
        "Holm p corrects for the rows of this table. The random subsets are nested, so that D rises with M: where the "
        "points deviate from a line on log M no more than from one on D, a line on D is no evidence for D.",
        "",
    ]
    for algorithm in sorted({one.name.split()[0] for one in tested}):
        with_lines = [one.fits for one in tested if one.name.split()[0] == algorithm and one.fits]
        if with_lines:
            means = ", ".join(f"{name} {average_mse([of[name].line for of in with_lines]):.2g}" for name in PREDICTORS)
            lines += [f"{algorithm}, MSE averaged over the lines: {means}.", ""]
    header = ["", "on", "sizes", "slope", "intercept", "R2", "MSE", "LOO MSE", "p", "Holm p"]
    return lines + (markdown(header, rows) if rows else ["No line can be fitted.", ""])


def _coefficient(one: Contrast) -> str:
    value = f"{one.difference:.3g}"
    return value if one.low != one.low else f"{value} ({one.low:.3g} to {one.high:.3g})"


def _joint_lines(found: Sequence[JointFit]) -> list[str]:
    """Returns the section on measures of diversity beside log M and K; empty without several draws."""
    if not found:
        return []
    rows = [
        [one.algorithm, one.measure, f"{100 * one.coefficient.difference:+.2f}", interval_text(one.coefficient)]
        + [p_text(one.coefficient.p), p_text(one.holm_p), str(one.n_cells), str(one.coefficient.n_replicates)]
        for one in found
    ]
    return [
        "## Measures of diversity beyond the number of prompts",
        "",
        "Each row regresses 100 x Global mean reward on one measure, log M and a level for each K, over random subsets "
        "and subsets selected for low and high D, each replicate with its own values. The coefficient is in points per "
        "standard deviation of the measure, with a jackknife 95% interval over replicates; Holm p corrects for the "
        "rows. The responses are those that a run trains on: all K for PRO, the best one for SFT.",
        "",
        *markdown(["", "measure", "coefficient", "95% interval", "p", "Holm p", "cells", "replicates"], rows),
    ]


def _verdict_lines(claims: list[Verdict], results: Results) -> list[str]:
    lines = ["## What this run says about the paper's claims", "", f"From {replicate_text(results)}.", ""]
    lines += _no_verdict(results)
    for number, claim in enumerate(claims, 1):
        lines.append(f"{number}. {claim.claim}: **{claim.verdict}**.")
        lines += [f"   - {markdown_text(detail)}" for detail in claim.details]
    return [*lines, ""]


def make_report(found: Findings) -> str:
    """Returns the whole report as Markdown."""
    results = found.results
    lines = _head(results, found.warnings) + markdown_lines(found.table) + _other_scores(results)
    lines += contrast_section(EQUAL_BUDGET, found.equal_budget) or [
        "## " + EQUAL_BUDGET[0], "", "No equal-budget pair is complete.", ""
    ]  # fmt: skip
    lines += _line_lines(found.lines) + _joint_lines(found.joint)
    lines += contrast_section(FIXED_SIZE, found.fixed_size) + contrast_section(STRATEGIES, found.strategies)
    lines += contrast_section(AUGMENTATION, found.augmentations) + judged_section(found.judged)
    return "\n".join([*lines, *_verdict_lines(found.verdicts, results)])


def check_report(folder: Path) -> None:
    """Raises InputError, before any work, unless write_report may write its files into a folder."""
    for name, opening in OPENINGS.items():
        check_output_file("output", folder / name, {})
        check_opening(folder / name, opening)


def write_report(folder: Path, found: Findings) -> str:
    """Writes report.md and table1.tex (LaTeX) into `folder`; returns the report."""
    text = make_report(found)
    for name, content in (("report.md", text), ("table1.tex", latex(found.table))):
        with atomic_write(folder / name) as file:
            file.write(content)
    return text
