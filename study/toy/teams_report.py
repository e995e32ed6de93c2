"""The table and the chart of the simulated teams (simulated_teams.py)."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_preprocess.command import REPOSITORY, InputError
from eval_hh.estimates import Contrast, holm, over_replicates
from eval_hh.markup import DIFFERENCE, REWARD, interval_text, p_text, verdict_word
from eval_hh.reporting.markdown_table import markdown
from study.publish import publish_rows_report, write_rows_report

STAGED = "staged planning"
NO_PILOT = "the plan without a pilot"
OLD = "the earlier planner (lines on D, max_d)"
RANDOM_K = "random K"
FIXED = "fixed K={}"
ROWS, CHART = "teams.jsonl", "regret.png"
PUBLISHED = "simulated_teams"


@dataclass(frozen=True)
class Policy:
    """What one way to decide earned: rewards of 0 to 1, as in result files."""

    name: str
    rewards: np.ndarray  # [teams]
    regret: np.ndarray  # [teams]
    lens: Counter[int]  # teams by the K that they chose; empty if random


def policies(rows: Sequence[dict]) -> list[Policy]:
    """Returns the policies, staged planning first.

    A team's regret is its own reward at the split that did best for the other teams of its kind, minus its reward at
    the split chosen: taken from other teams, the best split is not the one that chance favoured. `RANDOM_K` is the mean
    over the fixed splits. Raises InputError where a kind has one team only.
    """
    names = list(rows[0]["choices"])
    rewards = {name: np.array([row["choices"][name]["reward"] for row in rows]) / 100 for name in names}
    fixed = [name for name in names if name.startswith(FIXED.format(""))]
    splits = np.array([rewards[name] for name in fixed])  # [splits, teams]
    kinds = np.array([row["kind"] for row in rows])
    best = np.array([_best_of_others(splits, kinds, team) for team in range(len(rows))])
    found = [
        Policy(name, rewards[name], best - rewards[name], Counter(row["choices"][name]["K"] for row in rows))
        for name in (STAGED, NO_PILOT, OLD, *fixed)
    ]
    random_k = splits.mean(axis=0)
    return [*found, Policy(RANDOM_K, random_k, best - random_k, Counter())]


def _best_of_others(splits: np.ndarray, kinds: np.ndarray, team: int) -> float:
    """Returns a team's reward at the split with the highest mean over the other teams of its kind."""
    others = (kinds == kinds[team]) & (np.arange(len(kinds)) != team)
    if not others.any():
        raise InputError(f"one team of the kind {kinds[team]} (expected two or more of each kind)")
    return float(splits[splits[:, others].mean(axis=1).argmax(), team])


def comparisons(found: Sequence[Policy]) -> tuple[list[Contrast], list[float]]:
    """Returns staged planning minus each other policy, paired by team, and Holm's p; the last, RANDOM_K, is primary."""
    staged, *others = found
    contrasts = [over_replicates(staged.rewards - one.rewards) for one in others]
    return contrasts, [*holm([one.p for one in contrasts[:-1]]), contrasts[-1].p]


def report_lines(rows: Sequence[dict], made: str) -> list[str]:
    """Returns Markdown: regret of each policy, staged planning against each, and what the kinds of teams had."""
    found = policies(rows)
    contrasts, corrected = comparisons(found)
    header = ["policy", "teams with K=2, 3, 4", "reward", "regret", "95% interval"]
    header += ["staged planning minus it", "95% interval", "p", "Holm p", "staged planning is"]
    table = []
    for one, contrast, p in zip(found, [None, *contrasts], [None, *corrected], strict=True):
        regret = over_replicates(one.regret)
        row = [one.name, ", ".join(str(one.lens[k]) for k in (2, 3, 4)) if one.lens else "-"]
        row += [
            f"{100 * one.rewards.mean():{REWARD}}",
            f"{100 * regret.difference:{DIFFERENCE}}",
            interval_text(regret),
        ]
        if contrast:
            row += [f"{100 * contrast.difference:{DIFFERENCE}}", interval_text(contrast), p_text(contrast.p), p_text(p)]
            row += [verdict_word(contrast, p)]
        table.append(row + ["-"] * (len(header) - len(row)))
    verdict = {"better": "better than", "worse": "worse than", "undecided": "not shown to be better than"}
    return [
        "# Simulated teams",
        "",
        f"{len(rows)} teams, each with its own prompts, seed and trained cells; points of 100 x gold reward. "
        "Regret is against the split of the budget that did best for the other teams of the same kind. Intervals: "
        "Student's over teams; the population is new teams of these kinds in this world, these test prompts. The "
        "comparison with a random K is the primary one; Holm p corrects for the others.",
        "",
        f"**Staged planning is {verdict[verdict_word(contrasts[-1], corrected[-1])]} a random K**: "
        f"{100 * contrasts[-1].difference:{DIFFERENCE}} points ({interval_text(contrasts[-1])}).",
        "",
        *markdown(header, table),
        "## The kinds of teams",
        "",
        *kind_lines(rows),
        coverage_line(rows),
        "",
        "## How it was made",
        "",
        made,
        "",
    ]


def kind_lines(rows: Sequence[dict]) -> list[str]:
    """Returns a table with a line per kind: what each fixed split earned, what was chosen, and the pilot's stages."""
    fixed = [name for name in rows[0]["choices"] if name.startswith(FIXED.format(""))]
    table = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        its = [row for row in rows if row["kind"] == kind]
        line = [kind, str(len(its))]
        for name in fixed:
            one = np.array([row["choices"][name]["reward"] for row in its])
            line.append(f"{one.mean():{REWARD}} ± {one.std(ddof=1):{REWARD}} (M={its[0]['choices'][name]['M']})")
        chosen = Counter(row["choices"][STAGED]["K"] for row in its)
        line += [", ".join(f"{chosen[k]}" for k in (2, 3, 4)), str(sum(row["stages"] > 1 for row in its))]
        table.append(line)
    header = ["kind", "teams", *(f"{name}: reward ± sd" for name in fixed)]
    return markdown([*header, "staged: teams with K=2, 3, 4", "two stages"], table)


def coverage_line(rows: Sequence[dict]) -> str:
    """Returns how often a team's 95% interval for a fixed split holds the mean of its kind's teams, in words.

    The means have errors of their own, and teams of a kind share them: it is a check of the model, not a test.
    """
    means: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        for k in row["foreseen"]:
            means.setdefault((row["kind"], k), []).append(row["choices"][FIXED.format(k)]["reward"])
    held = [low <= np.mean(means[row["kind"], k]) <= high for row in rows for k, (low, high) in row["foreseen"].items()]
    return (
        f"The pilots' 95% intervals of the expected reward of these splits held the mean of the kind's teams in "
        f"{sum(held)} of {len(held)} cases."
    )


def draw_regret(found: Sequence[Policy], path: Path) -> None:
    """Draws each policy's mean regret with its 95% interval, and the teams' own."""
    from pics.style import COLOURS, GREY, new_figure

    with new_figure(path, (7.2, 3.6), "Mean regret with its 95% interval over teams; small dots are teams.") as figure:
        axes = figure.subplots()
        for place, one in enumerate(reversed(found)):
            regret = over_replicates(one.regret)
            axes.plot(100 * one.regret, np.full(len(one.regret), place), ".", color=GREY, alpha=0.35, markersize=4)
            bars = 100 * np.array([[regret.difference - regret.low], [regret.high - regret.difference]])
            colour = COLOURS[6 if one.name == STAGED else 2]
            axes.errorbar(100 * regret.difference, place, xerr=bars, fmt="o", color=colour, capsize=4)
        axes.set_yticks(range(len(found)), [one.name for one in reversed(found)])
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.set_xlabel("regret, points of 100 × reward (left is better)")


def write_teams_report(folder: Path, rows: Sequence[dict], made: str) -> str:
    """Writes report.md, teams.jsonl and regret.png into `folder`; returns the report."""
    draw_regret(policies(rows), folder / CHART)
    return write_rows_report(folder, report_lines(rows, made), ROWS, rows)


def publish_teams(folder: Path) -> None:
    """Copies report and rows to eval_hh/results/simulated_teams/, and the chart to pics/simulated_teams.png."""
    publish_rows_report(PUBLISHED, folder, ROWS)
    chart = REPOSITORY / "pics" / f"{PUBLISHED}.png"
    shutil.copy(folder / CHART, chart)
    print(f"published: {chart}")
