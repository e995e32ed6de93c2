"""Outputs that would cost somebody a file: refused before any work, and everything stays as it is."""

import json
import os
from pathlib import Path

from study_for_bad_input import RESULT

from bad_input.flags import DIVERSITY, MONEY, PILOT, PLAN, PREPARE, PRETRAIN, RESULTS, REWARD
from bad_input.table import BadInput, Change, text

THESIS = (text("mine/thesis/c.txt", "precious"), text("mine/notes.md", "more"))
OTHERS = "contains files not written by this command"
FILES = {"config.json": 2, "model.safetensors": 7}


def model(folder: str, entry: str = "pretrain.py", **other) -> Change:
    """A folder as pretrain.py or train_reward.py leaves it, of other settings than any command here has."""
    setting = {"pretrain.py": "corpus", "train_reward.py": "train_file"}[entry]
    settings = {"made_by": entry, "settings": {setting: "another"}, "inputs": {}, "files": FILES, **other}
    settings = {name: value for name, value in settings.items() if value is not None}
    changes = [text(f"{folder}/{name}", "x" * size) for name, size in FILES.items()]
    changes.append(text(f"{folder}/training_settings.json", json.dumps(settings)))
    return lambda root: [change(root) for change in changes] and None


def link(name: str, target: str) -> Change:
    return lambda root: (root / name).symlink_to(root / target)


def folder(name: str) -> Change:
    return lambda root: (root / name).mkdir(parents=True)


def bin_shards(*index: dict) -> Change:
    """The weights of a model in two .bin files, as older checkpoints come; `index` replaces theirs."""

    def change(root: Path) -> None:
        import torch

        (root / "old").mkdir()
        names = [f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
        for i, name in enumerate(names):
            torch.save({f"weight_{i}": torch.ones(i + 1)}, root / "old" / name)
        index_of = index[0] if index else {"weight_map": {f"weight_{i}": name for i, name in enumerate(names)}}
        (root / "old/pytorch_model.bin.index.json").write_text(json.dumps(index_of))

    return change


def refused(name: str, command: str, expected: str, *change: Change) -> BadInput:
    return BadInput(name, command, (expected,), change)


def both(name: str, flags: str, *expected_and_change) -> list[BadInput]:
    """The row for pretrain.py and for train_reward.py."""
    expected, *change = expected_and_change
    return [refused(f"{entry}: {name}", f"{command} {flags}", expected, *change)
            for entry, command in (("pretrain.py", PRETRAIN), ("train_reward.py", REWARD))]  # fmt: skip


ROWS = [
    *both("a user's folder", "--output_dir {root}/mine", "{root}/mine: " + OTHERS + " (first: notes.md)", *THESIS),
    *both("nested files only", "--output_dir {root}/mine", "(first: thesis/c.txt); nothing was deleted", THESIS[0]),
    *both("an empty folder in it", "--output_dir {root}/mine", "(first: thesis/)", folder("mine/thesis")),
    *both("a link in it", "--output_dir {root}/mine", "(first: away)", folder("mine"), link("mine/away", "data")),
    *both("a file", "--output_dir {root}/corpus.jsonl", "--output_dir {root}/corpus.jsonl: is "),
    *both("a file in the way", "--output_dir {root}/prompts.jsonl/rm", "{root}/prompts.jsonl is a file"),
    *both("a link", "--output_dir {root}/away", "--output_dir {root}/away: is a link", folder("empty"),
          link("away", "empty")),
    *both("a link to nothing", "--output_dir {root}/away", "is a link", link("away", "nowhere")),
    *both("the tokenizer", "--output_dir {root}/model", "is or holds what --tokenizer"),
    *both("the study root", "--output_dir {root}", "--output_dir {root}: is or holds what --"),
    *both("the study root by dots", "--output_dir {root}/data/..", "is or holds what --"),
    *both("the folder one is in", "--output_dir .", "--output_dir .: is or holds the folder that you are in"),
    *both("above the folder one is in", "--output_dir ..", "is or holds the folder that you are in"),
    *both("everything", "--output_dir /", "--output_dir /: is or holds"),
    *both("home", f"--output_dir {os.path.expanduser('~')}", "is or holds"),
    *both("a device", "--output_dir /dev/null", "--output_dir /dev/null: is a file"),
    *both("a mount point", "--output_dir /proc", "--output_dir /proc: "),
    *both("a name of control characters", "--output_dir '{root}/a\nb'", "--output_dir"),
    *both("a name that is too long", "--output_dir {root}/" + "n" * 230, "at most 200 bytes"),
    *both("a folder of results", "--output_dir {root}/eval_hh/results", "(first: trained_4.json)"),
    *both("a run of main.py", "--output_dir {root}/checkpoints/index_trained/stage_4", OTHERS),
    refused("own output with a user's file", f"{PRETRAIN} --output_dir {{root}}/old", "(first: thesis.txt)",
            model("old"), text("old/thesis.txt", "precious")),
    refused("own reward model with a user's folder", f"{REWARD} --output_dir {{root}}/old", "(first: plots/one.png)",
            model("old", "train_reward.py"), text("old/plots/one.png", "precious")),
    refused("a reward model", f"{PRETRAIN} --output_dir {{root}}/old", "holds a model of train_reward.py",
            model("old", "train_reward.py")),
    refused("a base model", f"{REWARD} --output_dir {{root}}/old", "holds a model of pretrain.py", model("old")),
    refused("an output whose files are not listed", f"{PRETRAIN} --output_dir {{root}}/old",
            OTHERS + " (first: config.json); nothing was deleted", model("old", files=None)),
    refused("settings of another program", f"{PRETRAIN} --output_dir {{root}}/old", OTHERS,
            model("old", made_by="mine.py")),
    refused("settings of no program", f"{PRETRAIN} --output_dir {{root}}/old", OTHERS,
            model("old", made_by=["pretrain.py"])),
    refused("settings that are a list", f"{PRETRAIN} --output_dir {{root}}/old", OTHERS,
            model("old"), text("old/training_settings.json", "[1]")),
    refused("settings that are cut", f"{PRETRAIN} --output_dir {{root}}/old", "old/training_settings.json:1: not valid",
            model("old"), text("old/training_settings.json", '{"settings"')),
    refused("own output in use as tokenizer", f"{PRETRAIN} --tokenizer {{root}}/old --output_dir {{root}}/old",
            "is or holds what --tokenizer", model("old")),
    refused("going on in place", "train_reward.py --train_file {root}/reward_train.json --heldout_file "
            "{root}/reward_heldout.json --model_name_or_path {root}/reward_model --output_dir {root}/reward_model",
            "is or holds what --model_name_or_path"),
    refused("rankings inside", f"{REWARD} --heldout_file {{root}}/mine/h.json --output_dir {{root}}/mine",
            "is or holds what --heldout_file", folder("mine"),
            lambda root: (root / "reward_heldout.json").rename(root / "mine/h.json")),
    refused("a user's files where the run is kept", REWARD,
            "/.rm.run: " + OTHERS + " (first: thesis/c.txt)", text(".rm.run/thesis/c.txt", "precious")),
    refused("a run that is not described", REWARD, ".rm.run/run.json: config is missing or damaged",
            folder(".rm.run/state_1"), text(".rm.run/run.json", "{}"), text(".rm.run/state_1/a", "")),
    refused("plan: a folder", f"{MONEY} --output {{root}}/data", "--output {root}/data: is a folder"),
    refused("plan: its source", f"{PLAN} --responses 9 --output {{root}}/prompts.jsonl", "is read as --source"),
    refused("plan: its source by a link", f"{PLAN} --responses 9 --output {{root}}/p", "is read as --source",
            link("p", "prompts.jsonl")),
    refused("plan: the chart's source", f"{MONEY} --chart {{root}}/data/../prompts.jsonl", "is read as --source"),
    refused("plan: a result file", f"plan.py {{root}}/prompts.jsonl --responses 9 --results {RESULTS} "
            f"--output {{root}}/{RESULT}", "is read as --results"),
    refused("plan: two outputs of one name", f"{MONEY} --chart {{root}}/a --output {{root}}/a", "--chart {root}/a: "),
    refused("plan: a study over the pilot's prompts",
            f"{PILOT} --pilot --model m --output {{root}}/a --study {{root}}/a",
            "--study {root}/a: is --output's file too"),
    refused("plan: two outputs of one file", f"{MONEY} --chart {{root}}/data/../a.jsonl --output {{root}}/a.jsonl",
            "--chart {root}/data/../a.jsonl: is --output's file too"),
    refused("plan: JSON lines in a table's name", f"{MONEY} --output {{root}}/a.csv", "--output {root}/a.csv: JSON"),
    refused("to rank in a table's name", "annotate.py --source {root}/prompts.jsonl --to_rank {root}/a.csv",
            "--to_rank {root}/a.csv: JSON lines are written (expected a name that ends in .jsonl)"),
    refused("select: two outputs of one file", "select_prompts.py {root}/prompts.jsonl --size 1 "
            "--output {root}/a.jsonl --report {root}/data/../a.jsonl", "one file twice"),
    BadInput("prepare where a folder is", f"{PREPARE} --dev_rows 1 --test_rows 1",
             ("{root}/data/hh_test/test.json: Is a directory",), (folder("data/hh_test/test.json"),), status=1),
    BadInput("split where a folder is", "split.py", ("{root}/data/original/hh_train_len3/train.json: Is a directory",),
             (lambda root: (root / "data/original/hh_train_len3/train.json").unlink(missing_ok=True),
              folder("data/original/hh_train_len3/train.json")), status=1),
    BadInput("export where a folder is beside", f"{PREPARE} --export label_studio --output {{root}}/a.json",
             ("{root}/a.xml: Is a directory",), (folder("a.xml"),), status=1),
    refused("plan: a device", f"{MONEY} --output /dev/null", "--output /dev/null: is not a regular file"),
    refused("export over its source", f"{PREPARE} --export prompts --output {{root}}/reward_train.json",
            "is read as --source"),
    refused("export into a folder", f"{PREPARE} --export trl --output {{root}}/data", "is a folder"),
    refused("prepare over its source", "prepare.py --dev_rows 0 --source {root}/data/original/hh_train_len4/train.json",
            "hh_train_len4/train.json: is read as --source"),
    refused("prepare over its source's folder", "prepare.py --dev_rows 0 --source {root}/data/original/hh_train_len4",
            "hh_train_len4/train.json: is read as --source"),
    refused("prepare over a user's README", f"{PREPARE} --dev_rows 0",
            "{root}/data/README.md: was not written by this command", text("data/README.md", "# My own notes\n")),
    refused("diversity over its source", f"{DIVERSITY} --json {{root}}/prompts.jsonl", "is read as --source"),
    refused("diversity into a folder", f"{DIVERSITY} --json {{root}}/data", "--json {root}/data: is a folder"),
    refused("a picture over a result file", f"figures.py --results {RESULTS} --output {{root}}/{RESULT}",
            "is read as --results"),
    refused("a picture over a corpus", "figures.py --intro --output {root}/corpus.jsonl",
            "{root}/corpus.jsonl: was not written by this command"),
    refused("a picture over a drawing", "figures.py --paper --output {root}/mine.svg",
            "{root}/mine.svg: was not written by this command", text("mine.svg", "<svg></svg>")),
    refused("a picture into a folder", "figures.py --intro --output {root}/data", "--output {root}/data: is a folder"),
    refused("a report into a file", f"report.py --results {RESULTS} --output {{root}}/corpus.jsonl",
            "{root}/corpus.jsonl is a file"),
    refused("a report over a user's", f"report.py --results {RESULTS} --output {{root}}/mine",
            "mine/report.md: was not written by this command", text("mine/report.md", "# My report\n")),
    refused("a table over a user's", f"report.py --results {RESULTS} --output {{root}}/mine",
            "mine/table1.tex: was not written by this command", text("mine/table1.tex", "\\begin{table}\n")),
    refused("converted over other weights", "convert_weights.py {root}/old",
            "00001-of-00002.safetensors: exists with different weights", bin_shards(),
            text("old/model-00001-of-00002.safetensors", "precious")),
    refused("an index that is a list", "convert_weights.py {root}/old", "json: has no weight_map", bin_shards([])),
    refused("an index of no weights", "convert_weights.py {root}/old", "json: has no weight_map",
            bin_shards({"weight_map": {}})),
    refused("an index of a file that is not there", "convert_weights.py {root}/old", "of-00003.bin: no such file",
            bin_shards({"weight_map": {"a": "pytorch_model-00003-of-00003.bin"}})),
    refused("an index of numbers", "convert_weights.py {root}/old", "index.json: names '1'",
            bin_shards({"weight_map": {"a": 1}})),
    refused("an index that leads out", "convert_weights.py {root}/old", "names '../model/pytorch_model.bin'",
            bin_shards({"weight_map": {"a": "../model/pytorch_model.bin"}})),
    refused("augment over its pool", "augment.py hh_train_len4_12 --add 1 --answer_model {root}/model --reward_model "
            "{root}/reward_model --pool {root}/data/hh_train_len4_13_augment_diverse", "is read as --pool",
            lambda root: (root / "data/hh_train_len4_13_augment_diverse").symlink_to("original/hh_train_len4")),
    refused("nodes that cannot share the processes", "reproduce.py --study {root}/s.yaml --slurm {root}/job.sh",
            "cluster.nodes 3: expected to divide the 8 processes of a cell",
            text("s.yaml", "name: s\nmodel: m/n\ngrid: {sizes: [8]}\nmachine: {num_processes: 8}\n"
                 "cluster: {nodes: 3}\n")),
    refused("a flag of sbatch without dashes", "reproduce.py --study {root}/s.yaml --slurm {root}/job.sh",
            "s.yaml:4: cluster.options constraint=a100: expected a flag of sbatch, like --constraint=a100",
            text("s.yaml", "name: s\nmodel: m/n\ngrid: {sizes: [8]}\ncluster: {options: [constraint=a100]}\n")),
    refused("a job into a folder", "reproduce.py --profile opt-1.3b --slurm {root}/data", "--slurm {root}/data: is a"),
]  # fmt: skip
