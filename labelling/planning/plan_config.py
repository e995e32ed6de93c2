"""Settings of plan.py: the pool, the budget and its prices, and what the plan rests on."""

from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from itertools import combinations
from pathlib import Path

import yaml

from data_preprocess.command import MAX_SHOWN, InputError, check_settings, check_unused, count, setting, within
from data_preprocess.diversity import TOKENIZER_HELP
from data_preprocess.hub import SOURCE_FORMS
from data_preprocess.outputs import check_opening, check_output_file, is_same_file
from data_preprocess.preparing.export import check_json_lines
from data_preprocess.preparing.prompt_pool import SPLIT
from data_preprocess.selection import STRATEGIES
from labelling.planning.budget import STRATIFIED, Prices
from labelling.planning.pilot import SHARE

PAPER_LAWS = {"paper-pro": "PRO", "paper-sft": "SFT"}
COSTS = ("prompt_cost", "response_cost", "comparison_cost")
# Limits of budgets and costs: a quotient of two has fewer digits than Decimal's precision.
LEAST, MOST = Decimal("1e-9"), Decimal("1e15")
OF_LINES = ("extrapolate", "trust_tokenizer", "chart", "profile")
# Of a study file that is written here; what else it needs is the user's to add.
STUDY_OPENING = "# A pilot, written by labelling/plan.py."
STUDY_SECTIONS = ("name", "model", "rewards", "prepare", "grid")
OF_PILOT = ("labelled", "ranking_lens", "study", "model", "reward_model")
UNUSED = {  # by what a plan rests on, one of these: the flags that do not apply to it
    "law": (*OF_PILOT, "algorithm", "profile"),
    "results": OF_PILOT,
    "pilot": (*OF_LINES, "labelled", "ranking_len"),
    "pilot_results": OF_LINES,
}


@dataclass(frozen=True)
class Spending:
    """The budget and its prices."""

    budget: Decimal
    prices: Prices
    unit: str  # of both


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """One plan: a pool, a budget, what the rewards are predicted from, and the selection of prompts."""

    source: str = setting(f"the pool, one prompt per row: {SOURCE_FORMS}", positional=True)
    column: str | None = setting("field of the prompt, if it has none of the usual names", default=None)
    split: str | None = setting(SPLIT, default=None)
    drop_duplicates: bool = setting("drop prompts that repeat another one", default=False)
    responses: int | None = setting("budget in labelled responses", within(), metavar="N", default=None)
    budget: str | None = setting("budget in money; needs at least one of the costs", metavar="X", default=None)
    prompt_cost: str | None = setting("cost per prompt written", metavar="X", default=None)
    response_cost: str | None = setting("cost per response written", metavar="X", default=None)
    comparison_cost: str | None = setting("cost per pair of responses compared", metavar="X", default=None)
    comparisons: int | None = setting(
        "comparisons per prompt (default: every pair, K (K - 1) / 2)", count(at_most=10**6), metavar="N", default=None
    )
    pilot: float | None = setting(
        "plan a pilot first, with this share of the budget (without a number: the share that the README recommends)",
        within(above=0, at_most=0.5),
        metavar="SHARE",
        bare=SHARE,
        default=None,
    )
    pilot_results: tuple[str, ...] | None = setting(
        "plan the rest of the budget from a pilot's result files", metavar="DIR", default=None
    )
    labelled: tuple[str, ...] = setting(
        "--pilot_results: the pilot's prompts, as --output wrote them", metavar="FILE", default=()
    )
    ranking_lens: tuple[int, ...] = setting(
        "pilots: the K to choose from", count(at_least=2, at_most=1000), metavar="K", default=(2, 3, 4)
    )
    study: Path | None = setting(
        "pilots: write the study of a stage's cells to FILE, for reproduce.py --study", metavar="FILE", default=None
    )
    model: str | None = setting("--study: the base model, a folder or a hub name", default=None)
    reward_model: str | None = setting("--study: its reward model (default: the paper's two)", default=None)
    law: str | None = setting("use the lines fitted on the paper's results", choices=tuple(PAPER_LAWS), default=None)
    results: str | None = setting("use lines fitted on the result files in DIR", metavar="DIR", default=None)
    algorithm: str | None = setting(
        "algorithm of the results, if they have both; of a pilot's cells (default there: PRO)",
        choices=("PRO", "SFT"),
        default=None,
    )
    profile: str | None = setting("profile of --results (default: the most frequent)", default=None)
    select: str = setting(
        "how prompts are selected: stratified, random within clusters of the pool in proportion; the other strategies "
        "are those of data_preprocess/sample.py, none of which differs from random beyond chance in our small study",
        choices=(STRATIFIED, *STRATEGIES),
        default=STRATIFIED,
    )
    match_length: bool = setting("keep the mean length in tokens within 5% of the pool's", default=False)
    extrapolate: bool = setting("predict outside the fitted range of D too, marked by *", default=False)
    tokenizer: str | None = setting(f"{TOKENIZER_HELP}; with --results: the tokenizer used for their D", default=None)
    trust_tokenizer: bool = setting("assert that --tokenizer is the lines' tokenizer under another name", default=False)
    ranking_len: int | None = setting(
        "use the split of this K instead of the recommended one", count(at_most=1000), metavar="K", default=None
    )
    output: Path | None = setting("write the prompts to label to FILE", metavar="FILE", default=None)
    chart: Path | None = setting("plot predicted reward against budget as a PNG", metavar="FILE", default=None)

    def __post_init__(self) -> None:
        check_settings(self)
        self._check_basis()
        if (self.responses is None) == (self.budget is None):
            raise InputError("--responses or --budget: give one of them (labelled responses, or money)")
        inputs = {"source": [self.source], "results": [self.results], "tokenizer": [self.tokenizer]}
        inputs |= {"labelled": list(self.labelled), "pilot_results": list(self.pilot_results or ())}
        outputs = [(flag, getattr(self, flag)) for flag in ("output", "chart", "study") if getattr(self, flag)]
        if self.study and self.pilot_results:
            outputs.append(("study", self.prompts_of_stages))
        for place, (flag, path) in enumerate(outputs):
            check_output_file(flag, path, inputs)
            for other, earlier in outputs[:place]:
                if is_same_file(path, earlier):
                    raise InputError(f"--{flag} {path}: is --{other}'s file too (expected another)")
        if self.output:
            check_json_lines(self.output, "output")
        if self.study:
            check_study_file(self.study)

    def _check_basis(self) -> None:
        """Raises InputError unless the plan rests on one thing, and every flag given applies to it."""
        given = [flag for flag in UNUSED if getattr(self, flag) is not None]
        if len(given) != 1:
            found = " and ".join(f"--{flag}" for flag in given) or "none"
            means = "the paper's lines, those of result files, a pilot to label first, or a pilot's results"
            raise InputError(f"--{', --'.join(UNUSED)}: {found} (expected one of them: {means})")
        check_unused(self, f"--{given[0]}", UNUSED[given[0]])
        self._check_pilot(given[0])

    def _check_pilot(self, basis: str) -> None:
        if len(set(self.ranking_lens)) < max(2, len(self.ranking_lens)):
            lens = " ".join(map(str, self.ranking_lens))
            raise InputError(f"--ranking_lens {lens}: expected two or more, each once")
        for one, other in combinations(self.pilot_results or (), 2):
            if is_same_file(one, other):
                found = "is given twice (expected each stage once: its cells are no further measurements)"
                raise InputError(f"--pilot_results {other}: {found}")
        if basis == "pilot_results" and not self.labelled:
            raise InputError("--pilot_results: needs --labelled, the pilot's prompts (they are paid for already)")
        if self.study and not (self.model and self.output):
            raise InputError("--study: needs --model and --output (the base model, and the prompts to label)")
        for flag in ("model", "reward_model"):
            if getattr(self, flag) and not self.study:
                raise InputError(f"--{flag}: needs --study, the file that names it")

    @property
    def spending(self) -> Spending:
        """The budget given by the flags; InputError for inconsistent flags."""
        costs = {flag: getattr(self, flag) for flag in COSTS if getattr(self, flag) is not None}
        if self.responses is not None:
            if costs or self.comparisons is not None:
                flag = next(iter(costs), "comparisons")
                raise InputError(f"--{flag} applies to --budget, and --responses is given")
            return Spending(amount("responses", self.responses), Prices(), "labelled responses")
        if not costs:
            raise InputError(f"--budget: needs a cost (expected one or more of --{', --'.join(COSTS)})")
        if self.comparisons is not None and self.comparison_cost is None:
            raise InputError(f"--comparisons: {self.comparisons} (expected --comparison_cost with it)")
        values = [amount(flag, costs[flag]) if flag in costs else Decimal(0) for flag in COSTS]
        return Spending(amount("budget", self.budget), Prices(*values, self.comparisons), "units of money")

    @property
    def prompts_of_stages(self) -> Path:
        """The file, beside a next stage's study, of the prompts of all stages."""
        return self.study.with_suffix(".prompts.jsonl")

    @property
    def words_again(self) -> list[str]:
        """The words of the flags that say pool, budget, prices, K and how to select, for the plan after the pilot."""
        of_budget = ("responses", "budget", *COSTS, "comparisons", "ranking_lens")
        flags = ("column", "split", "drop_duplicates", *of_budget, "algorithm", "select", "match_length", "tokenizer")
        words = []
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in flags and value != each.default:
                values = value if isinstance(value, tuple) else () if value is True else (value,)
                words += [f"--{each.name}", *map(str, values)]
        return words


def check_study_file(path: Path) -> None:
    """Raises InputError where --study would overwrite a file of another origin, or one with sections of the user's."""
    check_opening(path, STUDY_OPENING)
    if not path.is_file():
        return
    try:
        added = sorted(set(yaml.safe_load(path.read_text(encoding="utf-8"))) - set(STUDY_SECTIONS))
    except (yaml.YAMLError, UnicodeDecodeError, TypeError):
        added = ["changes"]
    if added:
        raise InputError(
            f"--study {path}: has {', '.join(map(str, added))} of yours, which would be lost (move it away)"
        )


def amount(flag: str, text: str | int) -> Decimal:
    """Parses a positive number exactly as written, so that ten times 0.1 is 1."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite() or not LEAST <= value <= MOST:
        expected = f"a number above zero, from {LEAST:f} to {MOST:g}; leave out a cost that you do not have"
        raise InputError(f"--{flag} {str(text)[:MAX_SHOWN]}: expected {expected}")
    return Decimal(f"{value:f}")  # 1e3 is printed as 1,000
