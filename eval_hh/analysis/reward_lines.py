"""Lines of reward on prompt diversity D, one per number of responses K, and their predictions for splits of a budget.

The lines are fitted to the paper's published points or to result files. Both are of randomly chosen prompts, for which
D and the number of prompts rise together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data_preprocess.command import InputError
from eval_hh.analysis.lines_on_d import MIN_SIZES
from eval_hh.analysis.paper_numbers import paper_results
from eval_hh.analysis.results import Results
from eval_hh.cells import Setting
from eval_hh.estimates import Prediction, predict_point, prediction_difference

# LLaMA's token ids, without BOS, of a text formatted like a prompt; they identify its tokenizer.
LLAMA_PROBE = "\n\nHuman: naïve 2+2?\n\nAssistant:"
LLAMA_IDS = [
    29871, 13, 13, 29950, 7889, 29901, 1055, 30085, 345, 29871, 29906, 29974, 29906, 29973, 13, 13, 7900, 22137, 29901
]  # fmt: skip
# Mean tokens of a prompt of HH-RLHF's test release by LLaMA's tokenizer, as labelling/plan.py prints it for that pool;
# the paper does not give those of its prompts, which are HH-RLHF's too.
HH_TOKENS = 165.0


@dataclass(frozen=True)
class Outlook:
    """The reward that a line predicts at one D."""

    diversity: float
    outside: str  # how D is outside the fitted range, in words; empty inside
    prediction: Prediction | None  # reward, 0 to 1; None outside, unless extrapolated

    def __str__(self) -> str:
        if self.prediction is None:
            return f"{self.diversity:5.2f}  not given: {self.outside}"
        one, mark = self.prediction, "*" if self.outside else ""
        return f"{self.diversity:5.2f}  {100 * one.value:.1f} ({100 * one.low:.1f} to {100 * one.high:.1f}){mark}"


@dataclass(frozen=True)
class Law:
    """The points that the lines are fitted to, by K."""

    name: str  # in words
    tokenizer: str | None  # that D was counted with; None: LLaMA's, under any name
    points: dict[int, tuple[Sequence[float], Sequence[float]]]  # K -> (D [n], mean reward [n], 0 to 1), n >= 3
    tokens: float | None = None  # mean number per prompt, BOS included

    def fitted_range(self, ranking_len: int) -> tuple[float, float]:
        """Returns the lowest and highest D of K's points."""
        scores = self.points[ranking_len][0]
        return min(scores), max(scores)

    def outlook(self, ranking_len: int, diversity: float, extrapolate: bool = False) -> Outlook:
        """Predicts the reward at D (estimates.predict_point); outside the fitted range only if `extrapolate`."""
        low, high = self.fitted_range(ranking_len)
        outside = f"below {low:.2f}" if diversity < low else f"above {high:.2f}" if diversity > high else ""
        given = extrapolate or not outside
        return Outlook(diversity, outside, predict_point(*self.points[ranking_len], diversity) if given else None)


@dataclass(frozen=True)
class Recommendation:
    """The K with the highest predicted reward."""

    ranking_len: int
    rivals: dict[int, Prediction]  # K that does not differ from it -> the difference, best minus this one


def recommend(predictions: dict[int, Prediction]) -> Recommendation:
    """Returns the K with the highest prediction, and those that do not differ from it.

    Two values of K differ if the 95% interval of the difference of their predictions is above zero; the
    errors of the lines are assumed to be independent.
    """
    best = max(predictions, key=lambda ranking_len: predictions[ranking_len].value)
    differences = {
        ranking_len: prediction_difference(predictions[best], other)
        for ranking_len, other in predictions.items()
        if ranking_len != best
    }
    return Recommendation(best, {k: one for k, one in differences.items() if one.low <= 0})


def paper_law(algorithm: str) -> Law:
    """Returns the paper's points of PRO or SFT (Figure 4: OPT-1.3B, Global)."""
    figure = paper_results()["figure4"]
    points = {int(k): (figure["diversity"], rewards) for k, rewards in figure["reward"][algorithm].items()}
    return Law(
        f"the paper's {algorithm} lines (Figure 4, {figure['model']}, {figure['pool']})", None, points, HH_TOKENS
    )


def results_law(results: Results, algorithm: str | None, source: str) -> tuple[Law, list[str]]:
    """Returns the lines of one algorithm's randomly chosen cells; points are means over a line's common replicates.

    Args:
        results: the cells.
        algorithm: PRO or SFT; may be None if all cells are of one algorithm.
        source: what the results were read from, for messages.

    Returns:
        (the lines, a warning for each K that is left out).

    Raises:
        InputError: a reward that cannot judge, no D, another algorithm, or no K with three distinct D.
    """
    scale = results.scale()
    if not scale.can_judge:
        raise InputError(f"{source}: {scale.note}")
    lines = {line: settings for line, settings in results.lines.items() if settings}
    if not lines:
        raise InputError(f"{source}: no result file with D (expected D of every subset, which sample.py records)")
    algorithms = sorted({name for name, _ in lines})
    algorithm = algorithm or (algorithms[0] if len(algorithms) == 1 else None)
    if algorithm not in algorithms:
        raise InputError(f"{source}: results of {' and '.join(algorithms)} (expected --algorithm to name one of them)")
    points, warnings = {}, []
    for (name, ranking_len), settings in lines.items():
        if name != algorithm:
            continue
        units = results.units(*settings)
        scores = [results.diversity[setting] for setting in settings]
        if len(set(scores)) < MIN_SIZES or not units:
            found = f"{len(set(scores))} different D and {len(units)} replicates common to them"
            warnings.append(f"{algorithm} K={ranking_len}: {found} (expected {MIN_SIZES} or more, and a replicate)")
            continue
        rewards = [float(results.mean_rewards(setting, units).mean()) for setting in settings]
        points[ranking_len] = (scores, rewards)
    if not points:
        raise InputError("; ".join([f"{source}: too few points for a line", *warnings]))
    tokens = mean_tokens(results, [one for (name, _), its in lines.items() if name == algorithm for one in its])
    return Law(f"{algorithm} lines of {source} (Global)", results.tokenizer, points, tokens), warnings


def mean_tokens(results: Results, settings: Sequence[Setting]) -> float:
    """Returns the mean number of tokens of the prompts of these settings, which have D: one more than its bigrams."""
    records = [record for one in settings for record in results.records(one, results.units(one))]
    return 1 + sum(one["total"] for one in records) / sum(one["samples"] for one in records)


def is_llama(ids: Sequence[int]) -> bool:
    """Returns whether these are the ids that LLaMA's tokenizer gives for LLAMA_PROBE."""
    return list(ids) == LLAMA_IDS
