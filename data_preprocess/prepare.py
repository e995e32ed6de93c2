"""Builds ranked training data and dev and test files from raw HH-RLHF or any other prompts and preferences.

Run: cd data_preprocess; python prepare.py --raw DIR | --source DATA [flags]

--raw DIR contains harmless-base, helpful-base, helpful-online and helpful-rejection-sampled, each with test.jsonl and
train.jsonl (or .jsonl.gz); Anthropic/hh-rlhf is read from the hub. --source DATA is a file, a folder or a data set on
the hub, such as openbmb/UltraFeedback; formats and recipes: data_preprocess/README.md. Writes
data/original/hh_train_lenK/train.json (unless --raw has no train files), data/hh_dev/sampled_dev.json, for --raw
data/hh_test/*.json, with --reward_rows data/reward/*.json, and the data card data/README.md, all under STUDY_ROOT, all
or nothing. To have models add responses or a reward model give the rewards, use labelling/annotate.py.
"""

import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.command import parse_settings, run
from data_preprocess.outputs import check_output_file
from data_preprocess.preparing.export import write_prompts, write_trl
from data_preprocess.preparing.prepare_config import PrepareConfig
from data_preprocess.preparing.prepared_data import Labels, prepare, read_pool, require_rewards
from data_preprocess.preparing.returned_labels import unique_prompts


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(PrepareConfig, argv, __doc__)
    if config.export:
        export(config)
        return
    given = " ".join(config.rewards_from or ()) or config.winner_from or "as the format or recipe has them"
    rewards = [] if config.raw else [f"rewards: {given}"]
    command = shlex.join(["python", "prepare.py", *(sys.argv[1:] if argv is None else argv)])
    prepare(config, Labels(join=config.join or (), facts=rewards), command)


def export(config: PrepareConfig) -> None:
    """Exports --source for another tool."""
    check_output_file("output", config.output, {"source": [config.source]})
    pool, notes = read_pool(config)
    print("\n".join(notes))
    if config.export == "prompts":
        pool = unique_prompts(pool)
        write_prompts(config.output, pool)
        print(f"{config.output}: {len(pool)} prompts")
        return
    count = write_trl(config.output, require_rewards(pool), config.form == "conversational")
    print(f"{config.output}: {count} pairs of {len(pool)} rankings")


if __name__ == "__main__":
    run(main)
