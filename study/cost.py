"""What the training of a study costs: steps, tokens, operations and hours, before it is run."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from data_preprocess.command import InputError
from data_preprocess.hub import load_tokenizer, source_options
from data_preprocess.records import numbered_rows, to_record
from study.grid import Cell
from study.launched_study import LaunchedStudy, train_config
from training.config import TrainConfig
from training.flops import Weights, shared_flops, weights_of
from training.metrics import read_metrics

if TYPE_CHECKING:
    from training.collator import EncodedRanking

SAMPLE = 500  # rankings whose lengths are averaged
UTILISATION = 0.4  # share of --peak that training is taken to reach


@dataclass(frozen=True)
class Cost:
    """Sums over the training of all cells."""

    steps: int
    tokens: float
    operations: float


def training_cost(study: LaunchedStudy, cells: Sequence[Cell]) -> Cost:
    """Returns the cost of these cells, from the lengths of the first rankings and the matrices of the base model.

    Raises:
        InputError: there are no rankings yet, or the base model cannot be read.
    """
    from transformers import AutoConfig

    if not study.rankings.is_file():
        raise InputError(f"{study.rankings}: no rankings yet, whose lengths would be averaged")
    config = AutoConfig.from_pretrained(study.model, **source_options(study.model))
    weights, by_stage = weights_of(config), {}
    steps, tokens, operations = 0, 0.0, 0.0
    for cell in cells:
        settings = train_config(study.train_flags, cell.stage)
        if cell.stage not in by_stage:
            by_stage[cell.stage] = ranking_means(weights, list(encoded(study, settings)))
        each_tokens, each_operations = by_stage[cell.stage]
        total = settings.total_steps(cell.num_prompts)
        steps += total
        tokens += total * settings.global_batch_size * each_tokens
        operations += total * settings.global_batch_size * each_operations
    return Cost(steps, tokens, operations)


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
        rates = [row["tokens_per_second"] for row in read_metrics(path) if "tokens_per_second" in row]
        if rates:
            runs.append(statistics.median(rates))
    return (statistics.median(runs), len(runs)) if runs else (0.0, 0)


def plan_lines(study: LaunchedStudy, cells: Sequence[Cell], peak: float | None) -> list[str]:
    """Returns the plan's cost in words, or why it is not known.

    Args:
        study: what is run.
        cells: its cells.
        peak: TFLOP/s of one device; hours follow from it where no run has been measured.
    """
    try:
        cost = training_cost(study, cells)
    except InputError as error:
        return [f"plan: {len(cells)} cells; cost not known ({error})"]
    plan = f"plan: {len(cells)} cells, {cost.steps:,} training steps, {cost.tokens / 1e6:,.1f} M tokens, "
    return [f"{plan}{cost.operations / 1e15:,.3g} PFLOP of training", hours_text(study, cost, peak)]


def hours_text(study: LaunchedStudy, cost: Cost, peak: float | None) -> str:
    rate, runs = measured_rate(study)
    if rate:
        found = f"at {rate:,.0f} tokens a second, the median of {runs} run{'s' * (runs > 1)} logged here"
        return f"hours of training: {cost.tokens / rate / 3600:,.2g} {found}"
    if peak:
        devices = int(study.train_environment.get("NUM_PROCESSES", 1))
        hours = cost.operations / (peak * 1e12 * UTILISATION * devices) / 3600
        on = f"{devices} device" + "s" * (devices > 1)
        return f"hours of training: {hours:,.2g} at {UTILISATION:.0%} of {peak:g} TFLOP/s on {on}"
    return "hours of training: not known before a cell has run here (or give --peak, the device's TFLOP/s)"
