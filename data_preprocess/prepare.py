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
from data_preprocess.outputs import check_only_ours, check_opening, check_output_file, check_place
from data_preprocess.preparing.candidates import Candidates, distinct
from data_preprocess.preparing.export import (
    ENDINGS,
    PAIR_FORMS,
    check_ending,
    trl_standard,
    usage,
    write_pairs,
    write_prompts,
)
from data_preprocess.preparing.labelling_tools import (
    ARGILLA_FILES,
    LABEL_STUDIO,
    write_argilla,
    write_label_studio,
    write_table,
)
from data_preprocess.preparing.prepare_config import TO_LABEL, PrepareConfig
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
    prepare(config, Labels(join=config.join or (), combine=config.combine, facts=rewards), command)


def export(config: PrepareConfig) -> None:
    """Exports --source for another tool, or for people."""
    check_output(config)
    pool, notes = read_pool(config)
    print("\n".join(notes))
    if config.export in TO_LABEL:
        export_to_label(config, unique_prompts(pool, to_rank=config.export != "prompts"))
        return
    form = trl_standard if config.form == "standard" else PAIR_FORMS[config.export]
    own = [distinct(one) for one in require_rewards(pool)]  # as rankings have them
    count = write_pairs(config.output, own, form)
    print(f"{config.output}: {count} pairs of {len(pool)} rankings")
    if dropped := sum(len(one.responses) - len(kept.responses) for one, kept in zip(pool, own, strict=True)):
        print(f"{dropped} responses are left out: without text, or equal to another one of their prompt")
    without = sum(one.turns != one.prefix for one in pool) if config.form == "standard" else 0
    if without:
        print(f"{without} rankings: their system message is left out (--form conversational keeps it)")
    if line := usage(config.export, config.output):
        print(line)


def check_output(config: PrepareConfig) -> None:
    """Raises InputError, before any work, for an --output that may not be written or has the wrong ending."""
    if config.export == "argilla":
        where = f"--output {config.output}"
        check_place(where, config.output / "records.json")
        check_only_ours(where, config.output, ARGILLA_FILES.__contains__)
        return
    check_output_file("output", config.output, {"source": [config.source]})
    endings = {"prompts": (".jsonl", ".json"), "label_studio": (".json",), "table": (".csv", ".tsv", ".xlsx")}
    check_ending(config.output, endings.get(config.export, ENDINGS))
    if config.export == "label_studio":
        check_opening(config.output.with_suffix(".xml"), LABEL_STUDIO[:30])  # is written beside it


def export_to_label(config: PrepareConfig, pool: list[Candidates]) -> None:
    """Writes prompts to be answered, or responses to be ranked."""
    more = ""
    if config.export == "argilla":
        write_argilla(config.output, pool, config.output.name)
        more = f"; in Python: rg.Dataset.from_disk({str(config.output)!r}), after rg.Argilla(...)"
    elif config.export == "label_studio":
        more = f"; its labelling configuration: {write_label_studio(config.output, pool)}"
    elif config.export == "table":
        if computed := write_table(config.output, pool):
            more = f"; warning: {computed} rows have a text that a spreadsheet takes for a formula (expected .xlsx)"
    else:
        write_prompts(config.output, pool)
    print(f"{config.output}: {len(pool)} prompts{more}")


if __name__ == "__main__":
    run(main)
