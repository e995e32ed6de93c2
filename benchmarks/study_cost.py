"""Cost of the paper's grids: tokens and operations per step, and GPU hours at a given utilisation.

Run: python benchmarks/run.py study_cost [--peak TFLOPS] [--utilisation SHARE] [--tokenizer PATH_OR_NAME]
These are counts, not timings: lengths are those of HH-RLHF's prompts and replies, truncated as in training. "separate"
means K separate passes without padding, so the difference is what the shared prompt saves. Answers are those to the dev
prompts at each checkpoint and to the test prompts, of the maximal length, with their scores by a reward model as large
as the base model; their hours are at the share of the peak that answering has reached on a GPU (study/cost.py).

The last rows estimate the share of a cell's training that is spent outside of its steps, on GPUS devices, from stated
rates: of a decoding step per layer (measured on an H100, where it does not depend on the width), and of writing a state
(ZeRO: training waits) or copying it (ZERO_STAGE=0: it is written beside the steps). The dev rewards' own time, under a
second a checkpoint, is left out.
"""

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.side_by_side import Row, Settings, sized
from data_preprocess.command import setting, within

STEPS, GLOBAL_BATCH, SEEDS, ALGORITHMS, RANKING_LENS = 4000, 112, 3, ("PRO", "SFT"), (2, 3, 4)
GRIDS = {"OPT-1.3B": 8, "LLaMA-7B": 6}  # number of sizes M in the paper
CHECKPOINTS, DEV_ROWS, TEST_ROWS, NEW_TOKENS = 8, 280, 8552, 128  # test rows: of the release
KEEP_STATES = 2
GPUS, CARD, TRAINING = 8, 80e9, 16  # devices, bytes of each, bytes per parameter in training without ZeRO
START = 60.0  # seconds until the first step: imports, weights, the check of the model
# OPT-1.3B's 24 layers answered with 739 new tokens a second in batches of 16, in float32 (RESULTS.md).
DECODING_BATCH, DECODING_LAYER = 16, 16 / 739 / 24  # seconds per layer of a step, which is bound by its dispatch
SHARE_OUTSIDE = "at most 0.15"
SAMPLE = 4000  # number of rankings whose lengths are averaged


@dataclass(frozen=True)
class Sizes(Settings):
    peak: float = sized("peak TFLOPS of a GPU, by default an A100's in bf16", 312.0)
    utilisation: float = setting("share of the peak that training reaches", within(above=0, at_most=1), default=0.4)
    write_rate: float = sized("GB/s at which all devices together write a state", 2.0)
    copy_rate: float = sized("GB/s at which one device's memory is copied to the machine's", 4.0)
    tokenizer: str | None = setting("folder or hub name of a tokenizer (default: OPT's, or its stand-in)", default=None)


def lengths(name: str | None) -> list[tuple[int, list[int]]]:
    """Returns (prompt tokens, tokens of each of 4 responses) of HH-like rankings, truncated as in training."""
    from benchmarks.hh_like import rankings
    from benchmarks.stand_in_models import tokenizer
    from data_preprocess.hub import load_tokenizer
    from training.collator import RankingCollator

    collator = RankingCollator(load_tokenizer(name) if name else tokenizer(), max(RANKING_LENS))
    encoded = (collator.encode(record) for record in rankings(SAMPLE, max(RANKING_LENS)))
    return [(len(ids.prompt), [len(segment) for segment in ids.segments]) for ids in encoded]


def step_means(shape, sample: list[tuple[int, list[int]]], ranking_len: int) -> tuple[float, float, float]:
    """Returns means per ranking of `ranking_len`: (tokens of the shared row, operations shared, separate)."""
    from training.flops import separate_flops, shared_flops

    cut = [(prompt, responses[:ranking_len]) for prompt, responses in sample]
    tokens = statistics.fmean(prompt + sum(responses) for prompt, responses in cut)
    shared = statistics.fmean(shared_flops(shape, *ranking) for ranking in cut)
    return tokens, shared, statistics.fmean(separate_flops(shape, *ranking) for ranking in cut)


def cell_rows(name: str, shape, sample: list[tuple[int, list[int]]], peak: float, n_cells: int) -> list[Row]:
    """Returns the rows of answers and of disk, which do not depend on K."""
    from study.cost import DECODING, HALF_COPY, STATE
    from training.flops import answer_flops, score_flops

    answers = CHECKPOINTS * DEV_ROWS + TEST_ROWS
    each = statistics.fmean(
        answer_flops(shape, prompt, NEW_TOKENS) + score_flops(shape, prompt + NEW_TOKENS) for prompt, _ in sample
    )
    hours = n_cells * answers * each / (peak * 1e12 * DECODING) / 3600
    what = f"{name}, answers of a cell: {CHECKPOINTS} x {DEV_ROWS} dev and {TEST_ROWS} test prompts"
    parameters = shape.body + shape.head
    disk = (CHECKPOINTS * HALF_COPY + KEEP_STATES * (STATE + HALF_COPY)) * parameters / 1e9
    note = f"{2 * HALF_COPY * parameters / 1e9:.1f} GB with --prune"
    return [
        Row(what, None, answers, "", note=f"{answers * each / 1e15:.2f} PFLOP with their scores"),
        Row(f"{name}, answers of {n_cells} cells at {DECODING:.2%} of {peak:g} TFLOPS", None, hours, "GPU hours"),
        Row(
            f"{name}, disk of a cell: weights of {CHECKPOINTS} steps, {KEEP_STATES} states", None, disk, "GB", note=note
        ),
    ]


def outside_rows(name: str, shape, step_flops: float, sizes: Sizes) -> Iterator[Row]:
    """Yields the estimated share of a cell's training outside of its steps, with ZeRO-2 and without ZeRO.

    Args:
        name, shape: of the model.
        step_flops: mean operations of a step of PRO over K.
        sizes: the rates.
    """
    from study.cost import HALF_COPY, STATE

    parameters, rate = shape.body + shape.head, GPUS * sizes.peak * 1e12 * sizes.utilisation
    rounds = math.ceil(DEV_ROWS / GPUS / DECODING_BATCH)  # of batches on each device; answers of the maximal length
    validation = CHECKPOINTS * rounds * NEW_TOKENS * DECODING_LAYER * shape.layers
    ways = {"ZeRO-2, which writes while training waits": (STATE + 2 * HALF_COPY) / sizes.write_rate}
    if TRAINING * parameters < CARD:
        ways["ZERO_STAGE=0, which copies"] = STATE / sizes.copy_rate
    for way, bytes_over_rate in ways.items():
        checkpoints = CHECKPOINTS * parameters * bytes_over_rate / 1e9
        outside = {"start": START, "checkpoints": checkpoints, "validation": validation}
        total = STEPS * step_flops / rate + sum(outside.values())
        parts = ", ".join(f"{part} {seconds / total:.1%}" for part, seconds in outside.items())
        what = f"{name}, share of a cell's training outside of steps, {way} (estimate)"
        note = f"{total / 3600:.2f} h on {GPUS} GPUs: {parts}"
        yield Row(what, None, sum(outside.values()) / total, "", SHARE_OUTSIDE, note)


def measure(sizes: Sizes) -> list[Row]:
    from benchmarks.flops import LLAMA_7B, OPT_1B3

    sample, rate = lengths(sizes.tokenizer), sizes.peak * 1e12 * sizes.utilisation
    rows: list[Row] = []
    for name, shape in (("OPT-1.3B", OPT_1B3), ("LLaMA-7B", LLAMA_7B)):
        hours, of_steps = {"shared": 0.0, "separate": 0.0}, []
        for ranking_len in (1, *RANKING_LENS):
            tokens, shared, separate = step_means(shape, sample, ranking_len)
            of_steps += [GLOBAL_BATCH * shared] if ranking_len > 1 else []
            note = f"{GLOBAL_BATCH * shared / 1e15:.2f} PFLOP; separate passes {separate / shared:.2f} times as many"
            rows.append(Row(f"{name}, K = {ranking_len}: tokens a step", None, GLOBAL_BATCH * tokens, "", note=note))
            # A step of an SFT cell costs that of K = 1, whatever K its data have.
            cells = GRIDS[name] * SEEDS * (len(RANKING_LENS) if ranking_len == 1 else 1)
            for way, flops in (("shared", shared), ("separate", separate)):
                hours[way] += cells * STEPS * GLOBAL_BATCH * flops / rate / 3600
        n_cells = GRIDS[name] * SEEDS * len(ALGORITHMS) * len(RANKING_LENS)
        rows += cell_rows(name, shape, sample, sizes.peak, n_cells)
        what = f"{name}, {n_cells} cells of {STEPS} steps at {sizes.utilisation:.0%} of {sizes.peak:g} TFLOPS"
        rows.append(Row(what, None, hours["shared"], "GPU hours", note=f"{hours['separate']:.0f} in separate passes"))
        rows += outside_rows(name, shape, statistics.fmean(of_steps), sizes)
    return rows
