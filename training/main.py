"""Fine-tunes a causal language model on ranked responses with PRO, or with SFT on the best response.

Run it through the launchers in this folder (`sh train_hh_pro_1b3.sh MODEL EXP DATA RANKING_LEN SEED`), or directly in
one process: `python main.py --do_train --index EXP --model_name_or_path DIR --train_file_path DIR --training_stage_num
K`.
"""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import InputError, parse_settings, run
from data_preprocess.dialogue import AUTO
from data_preprocess.hub import source_options
from data_preprocess.outputs import check_place
from data_preprocess.records import Record, data_file, load_records, numbered_rows, to_record
from training.config import TrainConfig, micro_batches
from training.lora import check_start
from training.saving.checkpoints import RunFolder, describe
from training.saving.hub_upload import check_hub
from training.schedule import learning_rates
from training.tracking.metrics import SFT_LOSS, read_metrics
from training.tracking.trackers import chosen_trackers


def load_rankings(config: TrainConfig) -> list[Record]:
    """Returns the training records; InputError, naming file and line, if K exceeds a record's responses."""
    path = data_file(config.train_file_path)
    ranking_len = config.training_stage_num
    records = []
    for number, row in numbered_rows(path):
        record = to_record(row)
        if len(record.suffix) < ranking_len:
            raise InputError(f"{path}:{number}: {len(record.suffix)} responses (expected at least {ranking_len})")
        if record.sft_index >= ranking_len:
            raise InputError(
                f"{path}:{number}: sft_index {record.sft_index} is beyond the first {ranking_len} responses"
            )
        records.append(record)
    return records


def check_inputs(config: TrainConfig, records: list[Record]) -> None:
    """Raises InputError if a model, data, a folder, a schedule or a tracker is unusable.

    This is early, before several processes fail.
    """
    learning_rates(config, config.total_steps(len(records)))
    chosen_trackers(config.report_to)
    if config.push_to_hub is not None and os.environ.get("RANK", "0") == "0":
        check_hub(config.push_to_hub)
    source_options(config.model_name_or_path)
    check_start(config, config.model_name_or_path)
    dev_records = []
    if config.do_validation:
        source_options(config.dev_reward_model)
        dev_records = load_records(config.dev_file, training=False)
    check_place(f"--output_dir {config.output_dir}", config.run_folder / "run.json")
    check_place(f"--log_path {config.log_path}", config.metrics_file)
    from eval_hh.inference.models import check_cpu_precision
    from eval_hh.inference.prompt_format import check_lines
    from training.model_check import preflight

    check_cpu_precision(os.environ.get("ACCELERATE_MIXED_PRECISION", "no"))
    if config.do_validation and config.reward_dtype == "bfloat16":
        check_cpu_precision("bf16", "--reward_dtype bfloat16")
    made_by, ranking_len = preflight(config), config.training_stage_num
    rankings = ((record.turns, record.suffix[:ranking_len]) for record in records)
    check_lines(made_by, data_file(config.train_file_path), rankings)
    check_lines(made_by, config.dev_file, ((record.turns, ()) for record in dev_records))


def resolved(config: TrainConfig) -> TrainConfig:
    """Returns the settings of a run: of --prompt_format auto, what it comes to."""
    if config.prompt_format != AUTO:
        return config
    from eval_hh.inference.prompt_format import resolved_format

    return replace(config, prompt_format=resolved_format(AUTO, config.model_name_or_path))


def main(argv: Sequence[str] | None = None) -> None:
    began = time.perf_counter()
    config = resolved(parse_settings(TrainConfig, argv, __doc__))
    records = load_rankings(config)
    if config.preflight is not None:
        micro_batches(config, config.preflight)
        check_inputs(config, records)
        RunFolder(config.run_folder).check(describe(config, {"num_processes": config.preflight}))
        read_metrics(config.metrics_file, SFT_LOSS)
        return
    if not config.do_train:
        raise InputError("--do_train is missing: there is nothing else to do (expected it among the flags)")
    check_inputs(config, records)
    from training.trainer import train

    train(config, records, began)


if __name__ == "__main__":
    run(main)
