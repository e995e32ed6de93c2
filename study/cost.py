"""What a study costs: training steps, answers, operations, disk and hours, before it is run."""

import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import islice
from typing import TYPE_CHECKING

from data_preprocess.command import InputError
from data_preprocess.hub import base_model, load_or_refuse, load_tokenizer, source_options
from data_preprocess.records import numbered_rows, to_record
from eval_hh.run_paths import TEST_REWARD_MODEL
from study.grid import Cell
from study.running.launched_study import LaunchedStudy, train_config
from training.config import TrainConfig
from training.flops import Weights, answer_flops, num_parameters, score_flops, shared_flops, weights_of
from training.tracking.metrics import read_metrics

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from training.collator import EncodedRanking

SAMPLE = 500  # rankings whose lengths are averaged
UTILISATION = 0.4  # share of --peak that training is taken to reach
# Of answering: an H100 answers with OPT-1.3B in batches of 16 at 0.65% of its 989 TFLOP/s (benchmarks/RESULTS.md).
DECODING = 0.0065
# Bytes per parameter: float32 weights with AdamW's two moments, and with DeepSpeed in bf16 the weights in bf16, too.
STATE, HALF_COPY, WEIGHTS = 12, 2, 4
TOOK = re.compile(r"^took: (\d{1,12}\.\d+) s$", re.MULTILINE)  # of each call in a cell's log


@dataclass(frozen=True)
class Cost:
    """Sums over all cells. Answers are those to the dev prompts, at each checkpoint, and to the test prompts."""

    steps: int = 0
    tokens: float = 0.0  # of training
    operations: float = 0.0  # of training
    answers: int = 0
    answer_operations: float = 0.0  # of answering, at the maximal length, and of scoring
    disk: float = 0.0  # bytes of checkpoints and full states at the end
    disk_pruned: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Means:
    """Means over the first rankings, and what else is the same for all cells of a stage."""

    settings: TrainConfig
    tokens: float  # of a training pass over one ranking
    operations: float
    n_dev: int
    n_test: int
    answer_operations: float  # of one answer and its score
    weights_bytes: float  # of a checkpoint
    state_bytes: float  # of a full state

    def cost(self, num_prompts: int) -> Cost:
        """Returns the cost of a cell with so many prompts."""
        settings, total = self.settings, self.settings.total_steps(num_prompts)
        rankings, checkpoints = total * settings.global_batch_size, -(-total // settings.checkpointing_step)
        answers = checkpoints * self.n_dev + self.n_test
        states = min(settings.keep_states, checkpoints)
        return Cost(
            total, rankings * self.tokens, rankings * self.operations, answers, answers * self.answer_operations,
            checkpoints * self.weights_bytes + states * self.state_bytes, min(2, checkpoints) * self.weights_bytes,
        )  # fmt: skip


def cell_costs(study: LaunchedStudy, cells: Sequence[Cell]) -> dict[Cell, Cost]:
    """Returns the cost of each cell, from the lengths of the first rankings and the matrices of the base model.

    Dev and test prompts are taken to be as long as those of the rankings.

    Raises:
        InputError: there are no rankings yet, or the base model cannot be read.
    """
    if not study.rankings.is_file():
        raise InputError(f"{study.rankings}: no rankings yet, whose lengths would be averaged")
    by_stage = {stage: stage_means(study, stage) for stage in {cell.stage for cell in cells}}
    return {cell: by_stage[cell.stage].cost(cell.num_prompts) for cell in cells}


def stage_means(study: LaunchedStudy, stage: int) -> Means:
    settings = train_config(study.train_flags, stage)
    config = model_config(study.model)
    weights, rankings = weights_of(config), list(encoded(study, settings))
    prompt, most = round(statistics.fmean(len(one.prompt) for one in rankings)), settings.max_new_tokens
    scored = score_flops(reward_weights(study) or weights, prompt + most)
    # With LoRA a checkpoint has the adapter alone, which is small.
    parameters = 0 if settings.lora_r else num_parameters(config)
    has_copy = study.variable("ZERO_STAGE") != "0" and study.variable("MIXED_PRECISION") == "bf16"
    return Means(
        settings, *ranking_means(weights, rankings), count_rows(study, "hh_dev"), count_rows(study, "hh_test"),
        answer_flops(weights, prompt, most) + scored, parameters * (HALF_COPY if has_copy else WEIGHTS),
        parameters * (STATE + HALF_COPY * has_copy),
    )  # fmt: skip


def model_config(name: str) -> "PretrainedConfig":
    """Returns the configuration of a model of a folder or hub name; InputError if no model can be made of it."""
    from transformers import AutoConfig

    options = source_options(name)
    name = base_model(name, options) or name

    def load() -> "PretrainedConfig":
        config = AutoConfig.from_pretrained(name, **source_options(name))
        weights_of(config)
        return config

    return load_or_refuse(load, f"{name}: the model cannot be loaded")


def reward_weights(study: LaunchedStudy) -> Weights | None:
    """Returns the matrices of the test reward model; None if it cannot be read now."""
    from eval_hh.reward_model import OASST_TYPE, oasst_config, read_config

    name = study.variable("TEST_REWARD_MODEL", TEST_REWARD_MODEL)
    try:
        options = source_options(name)
        saved = {} if base_model(name, options) else read_config(name, options)
        is_oasst = saved.get("model_type") == OASST_TYPE
        return weights_of(oasst_config(name, saved) if is_oasst else model_config(name))
    except (InputError, OSError):
        return None


def count_rows(study: LaunchedStudy, folder: str) -> int:
    """Returns the number of rows of the dev or test files; 0 before they are made."""
    return sum(1 for path in (study.root / "data" / folder).glob("*.json") for _ in numbered_rows(path))


def encoded(study: LaunchedStudy, settings: TrainConfig) -> "Iterator[EncodedRanking]":
    """Yields the first rankings as token ids, truncated as in training."""
    from eval_hh.inference.prompt_format import prompt_format, resolved_format
    from training.collator import RankingCollator

    tokenizer = load_tokenizer(study.model)
    shape = (settings.training_stage_num, settings.block_size, settings.max_prompt, settings.append_eos)
    name = resolved_format(settings.prompt_format, study.model)
    collator = RankingCollator(tokenizer, *shape, prompt_format(name, tokenizer))
    for _, row in islice(numbered_rows(study.rankings), SAMPLE):
        yield collator.encode(to_record(row))


def ranking_means(weights: Weights, rankings: "Sequence[EncodedRanking]") -> tuple[float, float]:
    """Returns the mean tokens and operations of a training pass over one ranking."""
    lengths = [(len(one.prompt), [len(segment) for segment in one.segments]) for one in rankings]
    tokens = statistics.fmean(prompt + sum(responses) for prompt, responses in lengths)
    return tokens, statistics.fmean(shared_flops(weights, *each) for each in lengths)


def measured_rate(study: LaunchedStudy) -> tuple[float, int]:
    """Returns (median tokens a second of the runs logged under the study's root, their number); (0, 0) if none."""
    runs = []
    for path in sorted((study.root / "logs").glob("*/*/metrics.jsonl")):
        rates = [row["tokens_per_second"] for row in read_metrics(path) if row.get("tokens_per_second", 0) > 0]
        if rates:
            runs.append(statistics.median(rates))
    return (statistics.median(runs), len(runs)) if runs else (0.0, 0)


@dataclass(frozen=True)
class Measured:
    """What a finished cell took, over all its starts."""

    rate: float  # median tokens a second of its steps
    outside: float  # seconds outside of steps: validation, checkpoints, evaluation, the start of every program
    seconds: float


def measured_cells(study: LaunchedStudy, cells: Sequence[Cell]) -> dict[Cell, Measured]:
    """Returns what those of these cells took that are finished and have logged it."""
    found = {}
    for cell in cells:
        log, metrics = study.log(cell.exp), study.names(cell).metrics_file
        took = TOOK.findall(log.read_text(encoding="utf-8", errors="replace")) if log.is_file() else []
        rows = [row for row in read_metrics(metrics) if row.get("tokens_per_second", 0) > 0 and "seconds" in row]
        seconds = sum(map(float, took))
        if seconds and rows and study.result(cell).is_file():
            outside = max(0.0, seconds - sum(row["seconds"] for row in rows))
            found[cell] = Measured(statistics.median(row["tokens_per_second"] for row in rows), outside, seconds)
    return found


def estimate_over_time(costs: dict[Cell, Cost], found: dict[Cell, Measured]) -> list[float]:
    """Returns, for each finished cell, its time as estimated from the other ones over what it took."""
    ratios = []
    for cell, own in found.items():
        others = [each for other, each in found.items() if other != cell]
        if others:
            rate, outside = (statistics.median(values) for values in zip(*((o.rate, o.outside) for o in others),
                                                                         strict=True))  # fmt: skip
            ratios.append((costs[cell].tokens / rate + outside) / own.seconds)
    return ratios


def cost_lines(study: LaunchedStudy, cells: Sequence[Cell], peak: float | None) -> list[str]:
    """Returns the plan's cost in words, or why it is not known.

    Args:
        study: what is run.
        cells: its cells.
        peak: TFLOP/s of one device; hours follow from it where no run has been measured.
    """
    try:
        costs = cell_costs(study, cells)
    except InputError as error:
        return [f"plan: {len(cells)} cells; cost not known ({error})"]
    cost, found = sum(costs.values(), Cost()), measured_cells(study, cells)
    plan = f"plan: {len(cells)} cells, {cost.steps:,} training steps, {cost.tokens / 1e6:,.1f} M tokens, "
    answers = f"{cost.answers:,} answers in validation and test, {cost.answer_operations / 1e15:,.3g} PFLOP at most"
    disk = f"disk: {cost.disk / 1e9:,.3g} GB of checkpoints and full states, {cost.disk_pruned / 1e9:,.3g} with --prune"
    return [
        f"{plan}{cost.operations / 1e15:,.3g} PFLOP of training",
        answers if cost.answers else "answers in validation and test: not counted before their files are made",
        disk if cost.disk else "disk: adapters only, which are small",
        hours_text(study, cells, cost, peak, found),
        *check_lines(estimate_over_time(costs, found)),
    ]


def check_lines(ratios: Sequence[float]) -> list[str]:
    """Returns how far the estimate of hours is from what finished cells took, if there are two."""
    if not ratios:
        return []
    return [
        f"checked: the {len(ratios)} finished cells, each estimated from the others, give {min(ratios):.2f} to "
        f"{max(ratios):.2f} of what they took"
    ]


def hours_text(
    study: LaunchedStudy, cells: Sequence[Cell], cost: Cost, peak: float | None, measured: dict[Cell, Measured]
) -> str:
    rate, runs = measured_rate(study)
    if rate:
        found = f"at {rate:,.0f} tokens a second, the median of {runs} run{'s' * (runs > 1)} logged here"
        training, n_cells = cost.tokens / rate / 3600, len(measured)
        if not n_cells:
            return f"hours of training: {training:,.2g} {found}"
        outside = statistics.median(each.outside for each in measured.values())
        more = f"{outside:,.0f} s a cell outside of training steps, the median of {n_cells} cell{'s' * (n_cells > 1)}"
        return f"hours: {training + outside * len(cells) / 3600:,.2g}; training {training:,.2g} {found}; {more}"
    if peak:
        devices = study.num_processes
        rates = [peak * 1e12 * share * devices * 3600 for share in (UTILISATION, DECODING)]
        training, answering = cost.operations / rates[0], cost.answer_operations / rates[1]
        on = f"{devices} device" + "s" * (devices > 1)
        return (
            f"hours: training {training:,.2g} at {UTILISATION:.0%} of {peak:g} TFLOP/s on {on}; "
            f"answers {answering:,.2g} at {DECODING:.2%}"
        )
    return "hours: not known before a cell has run here (or give --peak, the device's TFLOP/s)"
