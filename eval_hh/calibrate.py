"""Measures how often the study's intervals and verdicts are wrong, on simulated studies whose truth is known.

    cd eval_hh; python calibrate.py [--results DIR] [--replicates R ...] [--draw_sd S ...] [--simulations N]
    cd eval_hh; python calibrate.py --judged

Each simulated study goes through the code that analyses real cells, from rewards to words. Its errors are drawn from
the normal distribution and, as a second case, from the residuals of the replicates in --results, which also give D at
each size. Prints Markdown tables of coverage and of each word's rate, and whether the standard is met; exit status 1 if
it is not. The claims are those of analysis/verdicts.py: 1 equal budget, 2 linear in D, 3 augmentation, 4 D at one size.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import (
    REPOSITORY,
    InputError,
    check_seed,
    check_settings,
    check_unused,
    count,
    parse_settings,
    run,
    setting,
    within,
)

if TYPE_CHECKING:
    from eval_hh.analysis.simulated import Design, Truth

STUDY = "toy"  # the published study whose residuals and D are used
EFFECT_CLAIMS = {"1": 0, "3": 2, "4": 3}  # index among analysis.verdicts.verdicts
# The standard: coverage of the nominal 95%, false words of claims 1, 3 and 4 at no effect, power for 5 points, and of
# claim 2 the share of "held" when another curve is true and when the line is.
COVERAGE, FALSE_WORDS, POWER, FALSE_LINE, TRUE_LINE = (0.93, 0.97), 0.05, 0.80, 0.10, 0.80
EFFECTS, SPREADS = (2, 3, 5, 8), (2, 3, 4.3, 6)  # of the table of power, in points
SLACK = 4.0  # standard errors of the simulation: hundreds of rates are checked at once
POWER_EFFECT, POWER_SD, POWER_R = 0.05, 0.043, 8  # 5 points, where a difference has at most this spread, at this R
POINTS = within(at_least=1e-3, at_most=100)  # of 100 x reward, which is at most 1


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What to simulate; standard deviations and effects in points of 100 x reward."""

    results: Path | None = setting(f"results with D and residuals (default: eval_hh/results/{STUDY})", default=None)
    sizes: tuple[int, ...] | None = setting("numbers of prompts (default: those of --results)", count(), default=None)
    diversity: tuple[float, ...] | None = setting(
        "D of each size (default: that of --results)", within(at_least=1e-3, at_most=1e6), default=None
    )
    replicates: tuple[int, ...] = setting("numbers of replicates", count(2, 10_000), default=(3, 5, 8, 20))
    draw_sd: tuple[float, ...] = setting(
        "spreads of a cell over draws of its subset", within(at_least=0, at_most=100), default=(0.0, 2.0, 4.0)
    )
    seed_sd: float = setting("spread of a cell over training seeds", POINTS, default=2.2)
    judged: bool = setting("only measure the intervals of judged win rates (judge.py)", default=False)
    rise: float = setting("rise of reward from the smallest to the largest size", POINTS, default=15.0)
    simulations: int = setting("simulated studies per case", count(), default=1000)
    seed: int = setting("seed of the simulation", check_seed, default=0)
    workers: int = setting("processes", count(at_most=1000), default=2)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.judged:
            of_studies = ("results", "sizes", "diversity", "replicates", "draw_sd", "seed_sd", "rise", "workers")
            check_unused(self, "--judged, which simulates no studies", of_studies)
        if (self.sizes is None) != (self.diversity is None) or (self.sizes and len(self.sizes) != len(self.diversity)):
            raise InputError("--sizes and --diversity (expected both, with one D for each size)")
        for flag in ("sizes", "diversity"):
            values = getattr(self, flag) or ()
            if any(one >= other for one, other in pairwise(values)):
                raise InputError(f"--{flag} {' '.join(map(str, values))}: expected rising values, as D rises with M")
        for flag in ("replicates", "draw_sd"):
            values = getattr(self, flag)
            if len({round(value, 6) for value in values}) < len(values):  # as in Case.row
                raise InputError(f"--{flag} {' '.join(map(str, values))}: expected each value once")


@dataclass(frozen=True)
class Case:
    """One truth, design and number of replicates."""

    errors: str  # "normal" or "residuals"
    design: "Design"
    n_replicates: int
    truth: "Truth"

    @property
    def row(self) -> tuple[str, float]:
        """Errors and spread of draws, which make a row of the tables; numbers of replicates are columns."""
        return self.errors, round(100 * self.design.draw_sd, 6)


@dataclass
class Tally:
    """What was counted over the simulated studies of a case."""

    n: int = 0
    covered: Counter = field(default_factory=Counter)  # by claim: intervals that contain the truth
    words: Counter = field(default_factory=Counter)  # by (claim, word)
    false: Counter = field(default_factory=Counter)  # by claim: "held", or "did not hold" by sign
    variance: Counter = field(default_factory=Counter)  # by claim: sum of the primary effect's variance over replicates

    def rate(self, claim: str, word: str) -> float:
        return self.words[claim, word] / self.n

    def spread(self, claim: str) -> float:
        """The standard deviation of the primary effect over replicates."""
        return (self.variance[claim] / self.n) ** 0.5


def simulate(case: Case, simulations: int, seed: tuple[int, int]) -> Tally:
    """Analyses simulated studies of a case and counts the words."""
    import numpy as np

    from eval_hh.analysis.rules import HELD
    from eval_hh.analysis.verdicts import verdicts

    rng, tally = np.random.default_rng(seed), Tally()
    for _ in range(simulations):
        found = verdicts(case.design.study(case.truth, rng, case.n_replicates))
        tally.n += 1
        tally.words["2", found[1].verdict] += 1
        for claim, index in EFFECT_CLAIMS.items():
            one, word = found[index].primary, found[index].verdict
            tally.words[claim, word] += 1
            tally.covered[claim] += one.low <= case.truth.effect <= one.high
            tally.false[claim] += word == HELD or one.high < 0
            tally.variance[claim] += one.spread**2
    return tally


def cases(config: Calibration) -> Iterator[Case]:
    """Yields every case: errors x spread of draws x replicates x truth."""
    from eval_hh.analysis.results import load_results
    from eval_hh.analysis.simulated import LINEAR, Design, Truth, standardised_residuals
    from eval_hh.estimates import budgets

    results = load_results(config.results or REPOSITORY / "eval_hh" / "results" / STUDY)
    sizes, scores = config.sizes, config.diversity
    if sizes is None:
        line = max(results.lines.values(), key=len)
        sizes, scores = zip(*((one.num_prompts, results.diversity[one]) for one in line), strict=True)
    if not budgets(sizes):
        raise InputError(f"--sizes {' '.join(map(str, sizes))}: no equal budget (expected some N/2 and N among them)")
    residuals = standardised_residuals(results)
    if not residuals:
        raise InputError("--results: no setting with three replicates (expected residuals to draw from)")
    curves = (LINEAR, "log M", "saturation", "step")  # each effect goes with one: no table reads both
    truths = [
        Truth(effect, curve, config.rise / 100) for effect, curve in zip((0, 0.03, 0.05, 0.08), curves, strict=True)
    ]
    for errors, sd, n in product(("normal", "residuals"), config.draw_sd, config.replicates):
        design = Design(sizes, scores, config.seed_sd / 100, sd / 100, residuals if errors == "residuals" else ())
        yield from (Case(errors, design, n, truth) for truth in truths)


class Tables:
    """The tallies of all cases, as Markdown tables and as checks of the standard."""

    def __init__(self, tallies: Sequence[tuple[Case, Tally]]):
        self.tallies = tallies
        self.counts = sorted({case.n_replicates for case, _ in tallies})
        self.rows = list(dict.fromkeys(case.row for case, _ in tallies))
        self.failures: list[str] = []

    def of(self, row: tuple[str, float], n: int, **truth: object) -> list[Tally]:
        """Returns the tallies of a row and a number of replicates whose truth has these values."""
        return [
            tally
            for case, tally in self.tallies
            if (case.row, case.n_replicates) == (row, n)
            and all(getattr(case.truth, name) == value for name, value in truth.items())
        ]

    def check(
        self, what: str, row: tuple[str, float], n: int, rate: float, low: float, high: float, trials: int
    ) -> None:
        """Notes a failure if a rate lies outside its bounds by more than the simulation's error (SLACK)."""
        slack = SLACK * (max(rate * (1 - rate), 0.01) / trials) ** 0.5
        if not low - slack <= rate <= high + slack:
            self.failures.append(f"{what}: {rate:.1%} with {row[0]} errors, draw sd {row[1]:g}, R = {n}")

    def table(self, title: str, cells: Sequence[Sequence[str]]) -> list[str]:
        from eval_hh.reporting.markdown_table import markdown

        header = ["errors", "draw sd", *(f"R = {n}" for n in self.counts)]
        rows = [[row[0], f"{row[1]:g}", *texts] for row, texts in zip(self.rows, cells, strict=True)]
        return [f"## {title}", "", *markdown(header, rows)]

    def coverage(self) -> list[str]:
        return self.table("Coverage of the nominal 95% intervals (claims 1, 3 and 4)", [
            [self._covered(row, n) for n in self.counts] for row in self.rows
        ])  # fmt: skip

    def _covered(self, row: tuple[str, float], n: int) -> str:
        found = self.of(row, n)
        trials = sum(one.n for one in found) * len(EFFECT_CLAIMS)
        rate = sum(sum(one.covered.values()) for one in found) / trials
        self.check("coverage", row, n, rate, *COVERAGE, trials)
        return f"{rate:.1%}"

    def false_words(self) -> list[str]:
        title = 'False words at no effect ("held", or "did not hold" by sign; claims 1, 3 and 4)'
        lines = self.table(title, [[self._false(row, n) for n in self.counts] for row in self.rows])
        for errors in dict.fromkeys(name for name, _ in self.rows):
            found = [
                tally
                for row in self.rows
                if row[0] == errors
                for n in self.counts
                for tally in self.of(row, n, effect=0)
            ]
            trials = sum(tally.n for tally in found) * len(EFFECT_CLAIMS)
            rate = sum(sum(tally.false.values()) for tally in found) / trials
            error = (rate * (1 - rate) / trials) ** 0.5
            lines.append(f"- All together, {errors} errors: {rate:.2%} (standard error of the simulation {error:.2%}).")
        return [*lines, ""]

    def _false(self, row: tuple[str, float], n: int) -> str:
        (found,) = self.of(row, n, effect=0)
        rates = [found.false[claim] / found.n for claim in EFFECT_CLAIMS]
        for claim, rate in zip(EFFECT_CLAIMS, rates, strict=True):
            self.check(f"false words of claim {claim}", row, n, rate, 0, FALSE_WORDS, found.n)
        return " / ".join(f"{rate:.1%}" for rate in rates)

    def held(self, effect: float) -> list[str]:
        title = f'"Held" of claim 1 for {100 * effect:g} points, and the spread of the difference over replicates'
        return self.table(title, [[self._held(row, n, effect) for n in self.counts] for row in self.rows])

    def _held(self, row: tuple[str, float], n: int, effect: float) -> str:
        (found,) = self.of(row, n, effect=effect)
        rate, spread = found.rate("1", "held"), found.spread("1")
        if effect == POWER_EFFECT and n == POWER_R and spread <= POWER_SD:
            self.check("claim 1 held for 5 points", row, n, rate, POWER, 1, found.n)
        return f"{rate:.0%} (sd {100 * spread:.1f})"

    def lines(self) -> list[str]:
        from eval_hh.analysis.simulated import LINEAR

        curves = list(dict.fromkeys(case.truth.curve for case, _ in self.tallies))
        title = f'"Held" of claim 2 when the truth is: {", ".join(curves)} ("did not hold" when it is {LINEAR})'
        cells = []
        for row in self.rows:
            texts = []
            for n in self.counts:
                found = {curve: self.of(row, n, curve=curve)[0] for curve in curves}
                for curve in curves[1:]:
                    self.check(f"claim 2 held though {curve}", row, n, found[curve].rate("2", "held"), 0, FALSE_LINE,
                               found[curve].n)  # fmt: skip
                wrong = found[LINEAR].rate("2", "did not hold")
                texts.append(" / ".join(f"{one.rate('2', 'held'):.0%}" for one in found.values()) + f" ({wrong:.0%})")
            cells.append(texts)
        return self.table(title, cells)

    def deciding(self) -> list[str]:
        """Returns from how many replicates on the design can decide claim 2 in every row, and what sizes would help."""
        from eval_hh.analysis.simulated import LINEAR

        enough = [
            n for n in self.counts
            if all(self.of(row, n, curve=LINEAR)[0].rate("2", "held") >= TRUE_LINE for row in self.rows)
        ]  # fmt: skip
        worst = max((case for case, _ in self.tallies), key=lambda case: case.design.draw_sd)
        slope = worst.truth.rise / (max(worst.design.scores) - min(worst.design.scores))
        if enough:
            lines = [f"Claim 2 can be decided at {_named(worst.design)} with {enough[0]} replicates or more."]
        else:
            lines = [f"This design cannot decide claim 2: {_named(worst.design)}, up to {self.counts[-1]} replicates."]
        for factor in (1, 2, 4, 8):
            design = worst.design if factor == 1 else worst.design.with_larger_size(factor)
            number = design.replicates_to_tell(slope)
            needed = "more than 1000 replicates" if number is None else f"about {number} replicates"
            lines.append(
                f"- By the power of each test at draw sd {100 * design.draw_sd:g}: {_named(design)}: {needed}."
            )
        return [*lines, ""]


def power_table() -> list[str]:
    """Returns how many replicates hold a true difference with 80% power, by its spread (estimates.replicates_for)."""
    from eval_hh.analysis.rules import MIN_REPLICATES
    from eval_hh.estimates import replicates_for
    from eval_hh.reporting.markdown_table import markdown

    rows = [
        [f"{spread:g}", *(str(max(MIN_REPLICATES, replicates_for(effect, spread))) for effect in EFFECTS)]
        for spread in SPREADS
    ]
    header = ["spread", *(f"{effect:g} points" for effect in EFFECTS)]
    return ["## Replicates for 80% power, by the spread of the difference over replicates", "", *markdown(header, rows)]


def _named(design: "Design") -> str:
    return "M = " + ", ".join(f"{m} (D {d:.2f})" for m, d in zip(design.sizes, design.scores, strict=True))


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(Calibration, argv, __doc__)
    from tqdm import tqdm

    if config.judged:
        from eval_hh.analysis.simulated_judgements import coverage_table
        from eval_hh.reporting.markdown_table import markdown

        header, *rows = coverage_table(config.simulations, config.seed)
        print("\n".join(["Coverage of nominal 95% intervals of judged win rates", "", *markdown(header, rows)]))
        return
    todo = list(cases(config))
    with ProcessPoolExecutor(config.workers) as pool:
        jobs = [pool.submit(simulate, case, config.simulations, (config.seed, n)) for n, case in enumerate(todo)]
        tables = Tables([(case, job.result()) for case, job in zip(todo, tqdm(jobs, "cases"), strict=True)])
    lines = [*tables.coverage(), *tables.false_words()]
    for effect in sorted({case.truth.effect for case in todo} - {0}):
        lines += tables.held(effect)
    print("\n".join([*lines, *tables.lines(), *tables.deciding(), *power_table()]))
    if tables.failures:
        raise OSError("; ".join(["the standard is not met", *tables.failures]))
    print(f"Every bound of the standard is met (within {SLACK:g} standard errors of the simulation).")


if __name__ == "__main__":
    run(main)
