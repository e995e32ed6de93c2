"""The choices that label_choices.py compares, and the tables of what they earned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_preprocess.records import KIND, Record, load_records
from data_preprocess.toy_world.gold_reward import gold_reward
from eval_hh.cells import ALGORITHMS
from eval_hh.estimates import Contrast, holm, over_replicates
from eval_hh.markup import DIFFERENCE, REWARD, interval_text, p_text, verdict_word
from eval_hh.reporting.markdown_table import markdown
from labelling.selecting.diverse_responses import DIVERSE
from labelling.selecting.score_choices import ANY_TWO, BEST_WORST, CLOSEST
from study.publish import publish_rows_report, write_rows_report

if TYPE_CHECKING:
    from study.grid import Cell
    from study.toy.toy_study import StudyOnRankings

HIGHEST, LOWEST = "highest", "lowest"
HARMFUL = "harmless_base"  # the world's kind of prompts that ask for help with a deed
ROWS = "cells.jsonl"
PUBLISHED = "label_choices"


@dataclass(frozen=True)
class Choice:
    """What people label: `ranking_len` responses of each of `size` prompts."""

    name: str
    words: str
    how: str
    ranking_len: int
    size: int

    @property
    def of_responses(self) -> bool:
        """Whether responses are chosen, and not prompts."""
        return self.ranking_len == 2

    @property
    def is_control(self) -> bool:
        return self.how == ANY_TWO


# 480 responses each; a tenth of the half of the world's prompts, as in the study of preference variance, is 150.
CHOICES = (
    Choice("pair_random", "two of four responses at random", ANY_TWO, 2, 240),
    Choice("pair_best_worst", "highest and lowest score", BEST_WORST, 2, 240),
    Choice("pair_closest", "closest scores", CLOSEST, 2, 240),
    Choice("pair_diverse", "diverse words", DIVERSE, 2, 240),
    Choice("prompt_random", "prompts at random", ANY_TWO, 4, 120),
    Choice("prompt_highest", "highest preference variance", HIGHEST, 4, 120),
    Choice("prompt_lowest", "lowest preference variance", LOWEST, 4, 120),
)


def row_of(choice: Choice, cell: Cell, study: StudyOnRankings) -> dict:
    """Returns what the report needs of a finished cell, as JSON."""
    return {
        "choice": choice.name,
        "algorithm": cell.algorithm,
        "draw": cell.draw,
        "seed": cell.seed,
        "reward": study.reward(cell),
        **label_facts(load_records(study.data(cell))),
    }


def label_facts(records: Sequence[Record]) -> dict[str, float]:
    """Returns what the labels are like, by the gold reward.

    best: of the response that annotators rank first, in points; gap: how much better it is than their last;
    right: share of prompts where it is, of those where the two differ; harmful: share of prompts.
    """
    ends = np.array([[gold_reward(one.turns, text) for text in (one.suffix[0], one.suffix[-1])] for one in records])
    gaps = ends[:, 0] - ends[:, 1]
    differing = gaps[gaps != 0]
    return {
        "best": 100 * float(ends[:, 0].mean()),
        "gap": 100 * float(gaps.mean()),
        "right": float((differing > 0).mean()) if len(differing) else 0.0,
        "harmful": float(np.mean([one.meta[KIND] == HARMFUL for one in records])),
    }


def rewards_of(rows: Sequence[dict], choice: Choice, algorithm: str) -> np.ndarray:
    """Returns a choice's rewards [replicates], from 0 to 1, in the order of the rows."""
    found = [row["reward"] for row in rows if (row["choice"], row["algorithm"]) == (choice.name, algorithm)]
    return np.array(found) / 100


def control_of(choice: Choice) -> Choice:
    """Returns the random choice of the same kind."""
    return next(one for one in CHOICES if one.is_control and one.of_responses == choice.of_responses)


def comparisons(rows: Sequence[dict]) -> list[tuple[Choice, str, Contrast, float]]:
    """Returns (choice, algorithm, its difference to random, paired by replicate, Holm's p over all of these)."""
    wanted = [(choice, one) for choice in CHOICES if not choice.is_control for one in ALGORITHMS]
    found = [
        over_replicates(rewards_of(rows, choice, one) - rewards_of(rows, control_of(choice), one))
        for choice, one in wanted
    ]
    corrected = holm([one.p for one in found])
    return [(*which, one, p) for which, one, p in zip(wanted, found, corrected, strict=True)]


def report_lines(rows: Sequence[dict], made: str) -> list[str]:
    """Returns Markdown: each choice against random, what was labelled, and how it was made."""
    table = []
    for choice, algorithm, one, p in comparisons(rows):
        means = [100 * rewards_of(rows, side, algorithm).mean() for side in (choice, control_of(choice))]
        budget = f"{choice.size} x {choice.ranking_len}"
        table.append([
            choice.words, budget, algorithm, *(f"{mean:{REWARD}}" for mean in means),
            f"{100 * one.difference:{DIFFERENCE}}", interval_text(one), p_text(one.p), p_text(p), verdict_word(one, p),
        ])  # fmt: skip
    header = ["choice", "prompts x responses", "algorithm", "reward", "random", "difference", "95% interval"]
    replicates = len({row["draw"] for row in rows})
    return [
        "# What people are asked, against random choices",
        "",
        f"Points of 100 x gold reward; {replicates} replicates, each with a draw of prompts and training seed for all "
        "choices. A choice and its random control label equally many responses: two of four of the same prompts, "
        "or all four of prompts from the same half of the pool. The interval is Student's over the paired replicates, "
        "Holm p corrects for the rows; the population is new draws and seeds of this world, with this base model and "
        "reward model and these test prompts. The reward model was trained on labels of its own, which the budget does "
        "not count, and also selects every cell's checkpoint. Diverse words are chosen without it.",
        "",
        *markdown([*header, "p", "Holm p", "than random"], table),
        "## What was labelled",
        "",
        "By the gold reward, means over replicates. SFT learns from the response that the annotators rank first.",
        "",
        *fact_lines(rows),
        "## How it was made",
        "",
        made,
        "",
    ]  # fmt: skip


def fact_lines(rows: Sequence[dict]) -> list[str]:
    """Returns a table with a line per choice: what its labels are like."""
    table = []
    for choice in CHOICES:
        its = [row for row in rows if (row["choice"], row["algorithm"]) == (choice.name, ALGORITHMS[0])]
        best, gap, right, harmful = (
            np.mean([row[name] for row in its]) for name in ("best", "gap", "right", "harmful")
        )
        table.append([choice.words, f"{best:{REWARD}}", f"{gap:{REWARD}}", f"{right:.0%}", f"{harmful:.0%}"])
    header = ["choice", "ranked first", "first minus last", "first is better than last", "harmful prompts"]
    return markdown(header, table)


def write_choices_report(folder: Path, rows: Sequence[dict], made: str) -> str:
    """Writes report.md and cells.jsonl into `folder`; returns the report."""
    return write_rows_report(folder, report_lines(rows, made), ROWS, rows)


def publish_choices(folder: Path) -> None:
    """Copies report and rows to eval_hh/results/label_choices/."""
    publish_rows_report(PUBLISHED, folder, ROWS)
