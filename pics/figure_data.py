"""The data of the study's figures, from result files or from the paper's published numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval_hh.analysis.means import table
from eval_hh.analysis.paper_numbers import paper_results
from eval_hh.analysis.results import Results
from eval_hh.cells import Setting
from eval_hh.estimates import Line, average_mse, budgets, fit_line


@dataclass(frozen=True)
class Points:
    """Mean rewards (0 to 1) of one algorithm and K by size, with D. An error of 0 gets no error bar."""

    algorithm: str
    ranking_len: int
    sizes: tuple[int, ...]
    diversity: tuple[float, ...]
    reward: tuple[float, ...]
    error: tuple[float, ...]

    def predictor(self, name: str) -> Sequence[float]:
        """Returns the sizes ("M") or the diversities ("D")."""
        return self.sizes if name == "M" else self.diversity

    def line(self, predictor: str) -> Line | None:
        """Returns the least-squares line of reward on "M" or "D", or None with fewer than two sizes."""
        x = self.predictor(predictor)
        return fit_line(x, self.reward) if len(set(x)) > 1 else None


@dataclass(frozen=True)
class Facet:
    """One panel of the equal-budget figure: (value, error) x 100 by pool and shape (K, M)."""

    title: str
    entries: dict[str, dict[tuple[int, int], tuple[float, float]]]


def scientific(value: float) -> str:
    """Formats with two digits, as the paper prints its MSEs: 1.2e-4."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def paper_points() -> list[Points]:
    """Returns the points of the paper's Figure 4."""
    figure = paper_results()["figure4"]
    sizes, scores = tuple(figure["num_prompts"]), tuple(figure["diversity"])
    return [
        Points(algorithm, int(ranking_len), sizes, scores, tuple(rewards), (0.0,) * len(sizes))
        for algorithm, by_length in figure["reward"].items()
        for ranking_len, rewards in by_length.items()
    ]


def paper_overlay(results: Results) -> list[Points]:
    """Returns the paper's points to draw below these results; its Figure 4 is of OPT-1.3B only."""
    return paper_points() if results.first.profile == "opt-1.3b" else []


def result_points(results: Results) -> list[Points]:
    """Returns the points of our results (Global) for settings that have D."""
    entries = table(results, pools=("Global",))
    points = []
    for line, settings in results.lines.items():
        if settings:
            rows = [entries["Global", setting] for setting in settings]
            sizes = tuple(setting.num_prompts for setting in settings)
            scores = tuple(results.diversity[setting] for setting in settings)
            rewards, errors = (tuple(getattr(row, part) / 100 for row in rows) for part in ("mean", "spread"))
            points.append(Points(*line, sizes, scores, rewards, errors))
    return points


def error_note(results: Results) -> str:
    """Returns a note on what the error bars of these results are."""
    units = [results.units(setting) for setting in results.random]
    counts = {len(one) for one in units}
    if counts == {1}:
        return (
            "Bars: 95% interval over test prompts; 1 replicate: nothing is known of draws and seeds.\n"
            "All points share the test prompts, so differences are known better than the bars suggest."
        )
    what = "training seeds of one draw of the subsets" if all(one.one_draw for one in units) else "replicates"
    number = " or ".join(map(str, sorted(counts - {1})))
    single = "; where there is one replicate, 95% interval over test prompts" * (1 in counts)
    return f"Bars: standard deviation over {number} {what}{single}."


def line_summary(points: list[Points]) -> list[str]:
    """Returns text lines per panel (a), (c), (d): the MSE averaged over its lines, then each line."""
    summary = []
    for panel, algorithm, predictor in (("a", "PRO", "M"), ("c", "PRO", "D"), ("d", "SFT", "D")):
        lines = {
            one.ranking_len: one.line(predictor) for one in points if one.algorithm == algorithm and one.line(predictor)
        }
        if not lines:
            summary.append(f"({panel}) {algorithm} reward on {predictor}: no line (fewer than two sizes)")
            continue
        mse = scientific(average_mse(lines.values()))
        summary.append(f"({panel}) {algorithm} reward on {predictor}: MSE {mse}")
        summary += [
            f"    K={ranking_len}: reward = {line.slope:.3g} {predictor} + {line.intercept:.4f}, R2 {line.r2:.3f}"
            for ranking_len, line in lines.items()
        ]
    return summary


def result_facets(results: Results) -> list[Facet]:
    """Returns the equal-budget figure of our results: one facet per algorithm and budget, with all pools."""
    entries = table(results)
    facets = []
    for algorithm in results.values_of("algorithm"):
        for budget in budgets(results.values_of("num_prompts")):
            by_pool: dict = {}
            for pool in results.pools:
                for shape in budget.items():
                    entry = entries.get((pool, Setting(algorithm, *shape)))
                    if entry:
                        by_pool.setdefault(pool, {})[shape] = (entry.mean, entry.spread)
            if by_pool:
                facets.append(Facet(f"{algorithm}, {2 * budget[2]:,} labelled responses", by_pool))
    return facets
