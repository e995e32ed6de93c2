"""Trains a reward model on rankings (Bradley-Terry over all pairs) and measures its accuracy on held-out rankings.

It trains a small GPT-NeoX from scratch, or starts from a causal LM (with a new one-label head) or a reward model:

    python train_reward.py --train_file FILE --heldout_file FILE [FILE ...] --tokenizer DIR --output_dir DIR
    python train_reward.py --train_file FILE --heldout_file FILE [FILE ...] --model_name_or_path DIR --output_dir DIR

A Pythia or OPT on four GPUs, 64 rankings per step, keeping the best of the models measured every 100 steps:

    python launch.py --num_processes 4 train_reward.py \\
        --mixed_precision bf16 --model_name_or_path pythia-1.4b --output_dir ../checkpoints/reward_model \\
        --train_file ../data/original/hh_train_len4/train.json --heldout_file ../data/hh_test/*.json \\
        --batch_size 64 --per_device_train_batch_size 4 --max_steps 1000 --eval_steps 100 --learning_rate 1e-5

From scratch, --lm_weight W adds the next-token loss on the best responses; with W = 2 the embedded world's model learns
in a third of the steps which fact belongs to which thing. Dialogues are formatted as in eval_hh.reward_model:
"<|role|>text" + EOS per turn, the response after the last tag, truncated on the left to 1024 tokens; or by the
tokenizer's chat template if there is one. --prompt_format hh or chat decides otherwise, and is kept in config.json. The
result does not depend, except for rounding, on the number of processes (DDP, or ZeRO with launch.py --zero_stage 2|3)
or of passes (--per_device_train_batch_size).

Rankings of a held-out file may be in any order. Its accuracy is the share of pairs of unequal reward that the model
orders correctly, printed and saved in metrics.json per file and over all pairs. The same command resumes a stopped or
killed run from its newest intact state (training/README.md). The output is a folder for
AutoModelForSequenceClassification and load_reward_model, with metrics.json, losses.jsonl and training_settings.json;
with --lora_r an adapter and its trained head, of which eval_hh/merge_adapter.py makes such a folder. An existing model
with the same settings and files is kept, one with others is replaced, anything else is refused.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import InputError, parse_settings, run
from data_preprocess.files import hold_lock, read_json
from data_preprocess.records import FLOAT32_MAX, Record, data_file, load_records
from training.reward.config import RewardConfig
from training.saving.hub_upload import check_hub, model_card, upload
from training.saving.manifest import folder_checksum
from training.saving.model_folder import METRICS_FILE, ModelFolder, short_names


def load_rankings(path: str | Path, training: bool = True) -> list[Record]:
    """Returns the rankings of a file, to train or measure a reward model.

    Raises:
        InputError: a bad row, as in load_records; a ranking of one response, or with a reward beyond float32; or a file
            in which no two responses of a ranking differ in reward.
    """
    file = data_file(path)
    records = load_records(file, training)
    for line, record in enumerate(records, start=1):
        if len(record.suffix) < 2:
            raise InputError(f"{file}:{line}: a ranking of one response (a reward model needs two or more to compare)")
        for index, reward in enumerate(record.reward):
            if abs(reward) > FLOAT32_MAX:
                raise InputError(f"{file}:{line}: reward[{index}] is {reward:g} (expected a number within float32)")
    if not any(len(set(record.reward)) > 1 for record in records):
        raise InputError(f"{file}: no two responses of a ranking differ in reward (expected some)")
    return records


def load_heldout(config: RewardConfig) -> dict[str, list[Record]]:
    """Returns the held-out rankings by file name, or by path if two files have the same name.

    Raises:
        InputError: a file is bad, see `load_rankings`, or given twice.
    """
    files = [data_file(path) for path in config.heldout_file]
    for number, path in enumerate(files):
        if path in files[:number]:
            raise InputError(f"--heldout_file: {path} was given twice")
    return {name: load_rankings(path, training=False) for name, path in zip(short_names(files), files, strict=True)}


def print_metrics(metrics: dict) -> None:
    """Prints accuracy and numbers of pairs and rankings: per held-out file, if there are several, and for all."""
    for name, part in metrics.get("files", {}).items():
        print(f"{name}: pair accuracy {part['pair_accuracy']:.3f} ({part['pairs']} pairs of {part['rankings']})")
    best = f", best after step {metrics['step']}" if "step" in metrics else ""
    accuracy, pairs, rankings = metrics["pair_accuracy"], metrics["pairs"], metrics["rankings"]
    print(f"held-out pair accuracy {accuracy:.3f} ({pairs} pairs of {rankings}){best}")


def read_metrics(path: Path) -> dict:
    """Returns the metrics of a finished model. Raises InputError if the file holds something else."""
    metrics = read_json(path)
    files = metrics.get("files", {}) if isinstance(metrics, dict) else None
    if not isinstance(files, dict) or not all(map(_are_metrics, [metrics, *files.values()])):
        raise InputError(f"{path}: not a reward model's metrics (expected pair_accuracy, pairs and rankings)")
    return metrics


def _are_metrics(part: Any) -> bool:
    numbers = {"pair_accuracy": (int, float), "pairs": (int,), "rankings": (int,)}
    return isinstance(part, dict) and all(type(part.get(name)) in kinds for name, kinds in numbers.items())


def push_model(config: RewardConfig, output: ModelFolder, metrics: dict) -> None:
    """Uploads the finished model if --push_to_hub is given."""
    if config.push_to_hub is None:
        return
    base, name = config.model_name_or_path or config.tokenizer, output.path.name
    how = "trained as a reward model on rankings (Bradley-Terry over all pairs)."
    found = {key: value for key, value in metrics.items() if not isinstance(value, dict)}
    paths = {"train_file", "heldout_file", "tokenizer", "model_name_or_path"}  # of this machine
    settings = {key: value for key, value in config.settings().items() if key not in paths and value not in ("", None)}
    tables = {"Held-out rankings": found, "Training": settings}
    card = model_card(name, base, how, ["reward-model"], "text-classification", tables)
    upload(config.push_to_hub, output.path, card, name)


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(RewardConfig, argv, __doc__)
    records, heldout = load_rankings(config.train_file), load_heldout(config)
    from eval_hh.inference.models import check_cpu_precision
    from training.reward.trainer import RewardTrainer, remove_run, run_path, start_processes

    state = start_processes()
    config = config.resolved(os.environ.get("ACCELERATE_MIXED_PRECISION", "no"))
    check_cpu_precision(config.mixed_precision)
    if config.push_to_hub is not None and state.is_main_process:
        check_hub(config.push_to_hub)
    inputs = [data_file(path) for path in (config.train_file, *config.heldout_file)]
    output = ModelFolder(config.output_dir, "train_reward.py", config.identity(), inputs)
    if config.lora_r:  # the output holds the adapter only
        output.description["inputs"]["base_model"] = folder_checksum(config.model_name_or_path)
    if state.is_main_process:
        output.clear_leftovers()
    state.wait_for_everyone()
    if output.is_finished():
        state.print(f"{config.output_dir}: already trained with these settings")
        run = run_path(output.path)
        if state.is_main_process and run.is_dir():  # left by a kill just before the end
            with suppress(InputError), hold_lock(run):
                remove_run(run)
        metrics = read_metrics(output.path / METRICS_FILE)
    else:
        output.check_free(config.sources())
        metrics = RewardTrainer(config, records, heldout, output).fit()
    if state.is_main_process:
        print_metrics(metrics)
        push_model(config, output, metrics)


if __name__ == "__main__":
    run(main)
