"""The Markdown report on a set of cells, section by section."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from data_preprocess.files import atomic_write
from data_preprocess.subsets import RANDOM
from eval_hh.analysis.equal_budget import Comparison
from eval_hh.analysis.lines_on_d import PREDICTORS, LineTest
from eval_hh.analysis.means import ordering_accuracy, table
from eval_hh.analysis.paper_numbers import PAPER_MODELS
from eval_hh.analysis.results import Results
from eval_hh.analysis.rules import MIN_SEEDS
from eval_hh.analysis.verdicts import Verdict
from eval_hh.cells import TEST_FILES, Setting
from eval_hh.estimates import N_DRAWS, average_mse
from eval_hh.markup import REWARD, difference_texts, markdown_text
from eval_hh.reporting.findings import Findings
from eval_hh.reporting.markdown_table import markdown
from eval_hh.reporting.sections_chosen_prompts import (
    augmentation_lines,
    fixed_size_lines,
    strategy_lines,
    with_interval,
)
from eval_hh.reporting.table1 import latex, markdown_lines

NAMED = 6  # number of missing cells that are named; further ones are counted
REPRODUCED = ("toy", *PAPER_MODELS)  # profiles of reproduce.py


def _head(results: Results, warnings: Sequence[str]) -> list[str]:
    algorithms, lengths, sizes = map(results.values_of, ("algorithm", "ranking_len", "num_prompts"))
    seeds, first = _seeds(results), results.first
    expected = [(Setting(*shape), seed) for *shape, seed in product(algorithms, lengths, sizes, seeds)]
    missing = [f"{setting} seed={seed}" for setting, seed in expected if seed not in results.seeds(setting)]
    counts = ", ".join(f"{file} {first.files[file]['n']}" for file in TEST_FILES)
    lines = [
        f"# Results: profile {markdown_text(first.profile or 'none')}",
        "",
        *_no_verdict(first.profile, seeds),
        f"- {len(expected) - len(missing)} of {len(expected)} cells present: {' and '.join(algorithms)}, "
        f"K = {_listed(lengths)} responses per prompt, M = {_listed(sizes)} prompts, {_seed_text(seeds)}.",
        *([f"- Missing: {_missing_text(missing)}."] if missing else []),
        f"- Reward: {markdown_text(first.reward_source)}, 0 to 1, shown times 100. "
        f"World: {markdown_text(first.world or 'real data')}.",
        f"- Test prompts: {counts}. Harmless is the first file, Helpful pools the other three, Global all "
        "four; a pool's mean is over its prompts.",
    ]
    others = sorted({setting.selection for setting in results.settings} - {RANDOM})
    if others:
        lines.append(f"- Not in Table 1: cells trained on subsets chosen otherwise ({markdown_text(_listed(others))}).")
    lines += [f"- Warning: {markdown_text(warning)}" for warning in warnings]
    return [*lines, ""]


def _no_verdict(profile: str | None, seeds: list[int]) -> list[str]:
    """Returns a note that the seeds are too few for a verdict, with a command that gives one; empty if they suffice."""
    if len(seeds) >= MIN_SEEDS:
        return []
    wanted = [*seeds, *(max(seeds) + number for number in range(1, MIN_SEEDS + 1 - len(seeds)))]
    if profile in REPRODUCED:
        command = f"`python reproduce.py --profile {profile} --seeds {' '.join(map(str, wanted))}` gives one."
    else:
        command = f"Train and evaluate every cell with {MIN_SEEDS} seeds (`--seed` of training/main.py), then run "
        command += "`python eval_hh/report.py` again."
    found = "1 seed is" if len(seeds) == 1 else f"{len(seeds)} seeds are"
    return [f"This report gives no verdict: {found} too few, {MIN_SEEDS} are needed. {command}", ""]


def _missing_text(missing: list[str]) -> str:
    return ", ".join(missing[:NAMED]) + (f" and {len(missing) - NAMED} more" if len(missing) > NAMED else "")


def _seeds(results: Results) -> list[int]:
    return sorted({seed for setting in results.random for seed in results.seeds(setting)})


def _listed(values: list) -> str:
    return ", ".join(map(str, values))


def _seed_text(seeds: list[int]) -> str:
    if len(seeds) == 1:
        return f"1 seed ({seeds[0]}): no spread over seeds, every interval is over test prompts only"
    return f"{len(seeds)} seeds ({_listed(seeds)})"


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


def _comparison_lines(compared: list[Comparison]) -> list[str]:
    lines = [
        "## Equal budget: more responses or more prompts",
        "",
        "Difference in 100 x mean reward, more responses minus more prompts, on the same test prompts. "
        f"Intervals and p: paired bootstrap over test prompts and seeds, {N_DRAWS} draws; Holm p corrects "
        "for all rows of this table. The subsets were drawn once: the intervals do not cover other draws.",
        "",
    ]
    if not compared:
        return [*lines, "No equal-budget pair is complete.", ""]
    rows = [
        [
            one.verdict,  # first, so that a phone shows it
            f"{one.algorithm} {one.pool}",
            *(f"K={setting.ranking_len} M={setting.num_prompts}" for setting in (one.more_responses, one.more_prompts)),
            *difference_texts(one.difference),
            f"{one.difference.p:.4f}",
            f"{one.holm_p:.4f}",
            str(one.n_seeds),
        ]
        for one in compared
    ]
    header = ["more responses won", "setting", "more responses", "more prompts", "difference", "95% interval", "p"]
    return [*lines, *markdown([*header, "Holm p", "seeds"], rows)]


def _line_lines(tested: list[LineTest]) -> list[str]:
    rows = [
        [one.algorithm, str(one.ranking_len), name, str(one.n_sizes), with_interval(fit.slope, ".3g")]
        + [with_interval(fit.intercept, ".4f"), f"{fit.line.r2:.3f}"]
        + [_error(fit.line.mse, fit.mse), _error(fit.line.loo_mse, fit.loo_mse)]
        for one in tested
        for name, fit in one.fits.items()
    ]
    lines = [
        "## Reward against prompt diversity",
        "",
        "Least-squares lines of Global mean reward (0 to 1) on D, on M and on log M, one per K, with bootstrap 95% "
        "intervals. MSE is in the sample; LOO MSE is the leave-one-out error, which depends most on the smallest "
        "size, whose D lies far from the others. The random subsets are nested, so that D rises with M: where a line "
        "on log M fits about as well, a line on D is no evidence for D.",
        "",
    ]
    for algorithm in sorted({one.algorithm for one in tested}):
        with_lines = [one.fits for one in tested if one.algorithm == algorithm and one.fits]
        if with_lines:
            means = ", ".join(f"{name} {average_mse([of[name].line for of in with_lines]):.2g}" for name in PREDICTORS)
            lines += [f"{algorithm}, MSE averaged over the lines: {means}.", ""]
    header = ["", "K", "on", "sizes", "slope", "intercept", "R2", "MSE", "LOO MSE"]
    return lines + (markdown(header, rows) if rows else ["No line can be fitted.", ""])


def _error(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.2g} ({interval[0]:.2g} to {interval[1]:.2g})"


def _verdict_lines(claims: list[Verdict], profile: str | None, seeds: list[int]) -> list[str]:
    lines = ["## What this run says about the paper's claims", "", f"From {_seed_text(seeds)}.", ""]
    lines += _no_verdict(profile, seeds)
    for number, claim in enumerate(claims, 1):
        lines.append(f"{number}. {claim.claim}: **{claim.verdict}**.")
        lines += [f"   - {markdown_text(detail)}" for detail in claim.details]
    return [*lines, ""]


def make_report(found: Findings) -> str:
    """Returns the whole report as Markdown."""
    results = found.results
    lines = _head(results, found.warnings) + markdown_lines(found.table) + _other_scores(results)
    lines += _comparison_lines(found.compared) + _line_lines(found.tested) + fixed_size_lines(found.varied)
    lines += strategy_lines(found.strategies) + augmentation_lines(found.augmentations)
    return "\n".join([*lines, *_verdict_lines(found.claims, results.first.profile, _seeds(results))])


def write_report(folder: Path, found: Findings) -> str:
    """Writes report.md and table1.tex (LaTeX) into `folder`; returns the report."""
    text = make_report(found)
    for name, content in (("report.md", text), ("table1.tex", latex(found.table))):
        with atomic_write(folder / name) as file:
            file.write(content)
    return text
