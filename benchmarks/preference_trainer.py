"""PRO at K = 2 against TRL's DPOTrainer (reference log-probabilities precomputed) on the same pairs.

Run: python benchmarks/run.py preference_trainer [--quick]
OPT-125M's shape on the CPU in float32 and, where it has instructions for it, in bfloat16 (autocast on both sides); a
step is forward, loss, backward, clipping and AdamW. Only pairs that fit 384 + 128 tokens are used, so that both compute
the same tokens, and both must give the same log-probabilities.
TRL is an extra requirement: sh install.sh requirements.txt benchmarks/requirements.txt
"""

import importlib.util
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.side_by_side import Row, Settings, same, sized, timed
from data_preprocess.command import InputError

LEARNING_RATE = 1e-6
OURS = 2  # our rankings per pass
TARGETS = {False: "2x", True: "6x"}  # by whether it is bfloat16


@dataclass(frozen=True)
class Sizes(Settings):
    pairs: int = sized("pairs, a multiple of the batch size", 16, 8)
    batch_size: int = sized("pairs per step", 4)
    layers: int = sized("layers of the model", 12, 2)


def fitting_pairs(count: int) -> list:
    """Returns (record, its encoding) of `count` pairs that neither side truncates."""
    from benchmarks.hh_like import rankings
    from benchmarks.stand_in_models import tokenizer
    from training.collator import RankingCollator

    collator, uncut = RankingCollator(tokenizer(), 2), RankingCollator(tokenizer(), 2, 100_000, 50_000)
    pairs = [(record, collator.encode(record)) for record in rankings(3 * count, 2)]
    return [(record, ids) for record, ids in pairs if len(uncut.encode(record)) == len(ids)][:count]


def trl_trainer(model, records: list, batch_size: int, half: bool, folder: str):
    """Returns a DPOTrainer that sees each record once, in order, with precomputed reference log-probabilities."""
    from datasets import Dataset, disable_progress_bars
    from trl import DPOConfig, DPOTrainer

    from benchmarks.stand_in_models import tokenizer
    from data_preprocess.dialogue import render_prompt

    disable_progress_bars()
    rows = [{"prompt": render_prompt(r.prefix), "chosen": " " + r.suffix[0], "rejected": " " + r.suffix[1]}
            for r in records]  # fmt: skip
    config = DPOConfig(
        output_dir=folder, per_device_train_batch_size=batch_size, max_length=512, precompute_ref_log_probs=True,
        learning_rate=LEARNING_RATE, lr_scheduler_type="constant", max_grad_norm=1.0, num_train_epochs=1, bf16=half,
        gradient_checkpointing=False, use_cpu=True, report_to="none", save_strategy="no", logging_strategy="no",
        disable_tqdm=True, seed=0, train_sampling_strategy="sequential",
    )  # fmt: skip
    return DPOTrainer(model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer())


def our_step(model, optimizer, rankings: list, half: bool) -> None:
    """Runs one optimiser step of PRO over the rankings."""
    import torch

    from benchmarks.training_ways import packed

    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        packed(model, rankings, OURS)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def check_logps(model, trainer, encoded: list, half: bool) -> float:
    """Returns the largest relative difference of TRL's and our response log-probabilities, for equal weights."""
    import torch

    from training.collator import collate
    from training.losses import response_logps

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        ours = [response_logps(model, collate([ids]))[0][0].tolist() for ids in encoded]
    data = trainer.train_dataset
    theirs = [[*pair] for pair in zip(data["ref_chosen_logps"], data["ref_rejected_logps"], strict=True)]
    return same("log-probabilities", sum(theirs, []), sum(ours, []), 0.02 if half else 1e-3)


def compared(sizes: Sizes, half: bool) -> Row:
    """Trains on the same pairs with both, in bfloat16 if `half`."""
    import torch

    from benchmarks.stand_in_models import opt_125m

    pairs = fitting_pairs(sizes.pairs)
    records, encoded = [record for record, _ in pairs], [ids for _, ids in pairs]
    steps = [encoded[i : i + sizes.batch_size] for i in range(0, len(encoded), sizes.batch_size)]
    with tempfile.TemporaryDirectory() as folder:
        trainer = trl_trainer(opt_125m(sizes.layers).train(), records, sizes.batch_size, half, folder)
        model = opt_125m(sizes.layers).train()
        off = check_logps(model, trainer, encoded, half)
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
        our_step(model, optimizer, steps[0], half)  # warm up optimiser and threads
        ours = timed(lambda: [our_step(model, optimizer, step, half) for step in steps])
        theirs = trainer.train().metrics["train_runtime"]
    kind = "bfloat16" if half else "float32"
    what = f"{len(pairs)} pairs, {sizes.batch_size} a step, {kind}: TRL's DPOTrainer (as naive), PRO at K = 2 (ours)"
    speeds = f"{len(pairs) / theirs:.2f} and {len(pairs) / ours:.2f} pairs a second"
    return Row(what, theirs, ours, "s", TARGETS[half], f"{speeds}; log-probabilities differ by {off:.0e}")


def measure(sizes: Sizes) -> Iterator[Row]:
    if importlib.util.find_spec("trl") is None:
        raise InputError("trl is not installed (sh install.sh requirements.txt benchmarks/requirements.txt)")
    from eval_hh.inference.models import check_cpu_precision

    yield compared(sizes, half=False)
    try:
        check_cpu_precision("bf16")
    except InputError:  # a CPU without instructions for it
        return
    yield compared(sizes, half=True)
