"""The paper's published numbers (pics/paper_results.json, with their sources)."""

from __future__ import annotations

import numpy as np

from data_preprocess.command import REPOSITORY
from data_preprocess.files import read_json
from eval_hh.cells import Setting
from eval_hh.estimates import budgets, fit_line, t_half_width

PAPER_MODELS = {"opt-1.3b": "OPT-1.3B", "llama-7b": "LLaMA-7B"}  # by profile
# Burnham and Anderson (Model Selection and Multimodel Inference, 2nd ed., section 2.6): a model whose AIC is 4 to 7
# higher has considerably less support.
AIC_MARGIN = 4.0


def paper_results() -> dict:
    """Returns the published Table 1 and Figure 4."""
    return read_json(REPOSITORY / "pics" / "paper_results.json")


def paper_table(profile: str | None) -> dict[tuple[str, Setting], float]:
    """Returns the paper's Table 1 for a profile, by (pool, setting), as 100 x mean; empty for any other profile."""
    published = paper_results()["table1"]
    return {
        (row["pool"], Setting(row["algorithm"], row["ranking_len"], size)): value
        for row in published["rows"]
        if row["model"] == PAPER_MODELS.get(profile)
        for size, value in zip(published["num_prompts"], row["reward"], strict=True)
    }


def paper_evidence() -> list[str]:
    """Returns, in lines of text, which of the paper's sentences its printed numbers can carry, and how far."""
    figure = paper_results()["figure4"]
    sizes, scores, rewards = figure["num_prompts"], figure["diversity"], figure["reward"]
    lines = [f"Linear in D: AIC of the line on D minus that of the line on log M ({len(sizes)} points each)"]
    for algorithm, by_length in rewards.items():
        for ranking_len, values in by_length.items():
            on_d, on_log_m = (fit_line(x, values).aic(len(sizes)) for x in (scores, np.log(sizes)))
            lines.append(f"    {algorithm} K={ranking_len}: {on_d - on_log_m:+.1f}, {_favours(on_d - on_log_m)}")
    lines += ["More responses at equal budget: K=4 minus K=2, points (one value per cell, no replicate)"]
    for algorithm, by_length in rewards.items():
        lines.append(f"    {algorithm}: {_equal_budget(sizes, scores, by_length)}")
    return [*lines, "D can guide augmentation: no number is printed that could carry it"]


def _favours(difference: float) -> str:
    if abs(difference) < AIC_MARGIN:
        return "undecided"
    return "for D" if difference < 0 else "for log M"


def _equal_budget(sizes: list[int], scores: list[float], rewards: dict[str, list[float]]) -> str:
    """Returns the mean difference over the equal budgets, with an interval from the scatter about the lines on D.

    The scatter, sqrt(sum of squared residuals / (n - 2)) pooled over the lines, stands in for that of replicates, which
    the paper does not have: it includes draws and seeds, and any bend of the lines.
    """
    n, found = len(sizes), budgets(sizes)
    lines = [fit_line(scores, values) for values in rewards.values()]
    df = len(lines) * (n - 2)
    scatter = (sum(line.mse * n for line in lines) / df) ** 0.5
    at = sizes.index
    difference = float(np.mean([rewards["4"][at(one[4])] - rewards["2"][at(one[2])] for one in found]))
    half = t_half_width(scatter, df) * (2 / len(found)) ** 0.5
    low, high = 100 * (difference - half), 100 * (difference + half)
    return f"{100 * difference:+.2f} ({low:+.2f} to {high:+.2f} if the scatter about the lines were that of replicates)"
