"""Every command that writes, killed at moments spread over its file-write events, ends like one that was not.

The command is started again after the kill: it ends well, every file under the study root is as it is without the kill,
nothing of the killed process is left, and nothing of the user's is changed.
"""

import json
import os
import random
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from kill_events import Kill, run_in_fork
from made_up import make_cell
from study_for_bad_input import RUN, TRAIN, VALIDATE

from bad_input.table import Change, text

REPOSITORY = Path(__file__).resolve().parents[1]
USERS = ("notes.txt", "data/notes.txt", "checkpoints/notes.txt", "eval_hh/notes.txt", f"{RUN}/notes.txt")
SMALL = "--hidden_size 16 --num_layers 1 --num_heads 2 --max_steps 2 --batch_size 2"
TIMES = ("seconds", "tokens_per_second", "wall")  # fields that a clock fills


@dataclass(frozen=True)
class Command:
    """A command that writes, and how often it is killed."""

    command: str
    kills: int = 4
    change: tuple[Change, ...] = ()  # what is done to the study root before


def without(*patterns: str) -> Change:
    """Removes what the command is to make anew."""

    def change(root: Path) -> None:
        for path in [path for pattern in patterns for path in root.glob(pattern)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def bin_weights(root: Path) -> None:
    """The model with weights of two .bin files."""
    import torch
    from safetensors.torch import load_file

    shutil.copytree(root / "model", root / "bin_model")
    weights = root / "bin_model" / "model.safetensors"
    torch.save(load_file(weights), root / "bin_model" / "pytorch_model.bin")
    weights.unlink()


def adapter(root: Path) -> None:
    """An adapter of the model."""
    from eval_hh.inference.models import load_causal_lm
    from training.lora import LoraSettings, add_lora, save_adapter

    model = load_causal_lm(root / "model")
    add_lora(model, LoraSettings(lora_r=2), str(root / "model"), seed=0)
    shutil.copytree(root / "model", root / "adapter", ignore=shutil.ignore_patterns("model.safetensors", "config.json"))
    save_adapter(model, root / "adapter", model.state_dict())


def results(root: Path) -> None:
    for algorithm, ranking_len in (("PRO", 2), ("PRO", 4), ("SFT", 2), ("SFT", 4)):
        for size in (1500, 3000):
            cell = make_cell(algorithm, ranking_len, size, 42, 0.4 + ranking_len / 20, rows=dict.fromkeys(FILES, 6))
            text(f"results/{algorithm}_{ranking_len}_{size}.json", json.dumps(cell))(root)


FILES = ("harmless_base", "helpful_base", "helpful_online", "helpful_rejection")
INFER = "eval_hh/inference_res"
LABELS = "--reward_model {root}/reward_model --max_new_tokens 2 --tokenizer {root}/model --batch_size 4"
COMMANDS = {
    "split": Command("split.py", 8, (without("data/original/hh_train_len[23]"),)),
    "sample": Command("sample.py 4 --sizes 6 4 --tokenizer {root}/model", 10),
    "prepare": Command("prepare.py --source {root}/reward_train.json --dev_rows 2", 8),
    "annotate": Command(
        "annotate.py --source {root}/prompts.jsonl --dev_rows 2 --candidates {root}/model --num_per_model 3 " + LABELS,
        14,
    ),
    "export": Command("prepare.py --source {root}/reward_train.json --export trl --output {root}/export.parquet", 5),
    "diversity": Command("diversity.py {root}/prompts.jsonl --tokenizer {root}/model --json {root}/d.json", 4),
    "plan": Command(
        "plan.py {root}/prompts.jsonl --responses 24 --law paper-pro --tokenizer {root}/model --trust_tokenizer "
        "--extrapolate --output {root}/plan.jsonl --chart {root}/plan.png", 5,
    ),
    "augment": Command(
        "augment.py hh_train_len2_12 --pool {root}/prompts.jsonl --add 3 --answer_model {root}/model " + LABELS, 14
    ),
    "pretrain": Command(
        "pretrain.py --corpus {root}/corpus.jsonl --tokenizer {root}/model --output_dir {root}/base " + SMALL, 8
    ),
    "train_reward": Command(
        "train_reward.py --train_file {root}/reward_train.json --heldout_file {root}/reward_heldout.json "
        "--tokenizer {root}/model --output_dir {root}/rm " + SMALL, 10,
    ),
    "train_reward_lora": Command(
        "train_reward.py --train_file {root}/reward_train.json --heldout_file {root}/reward_heldout.json --lora_r 2 "
        "--model_name_or_path {root}/model --output_dir {root}/rm --max_steps 2 --batch_size 2", 10,
    ),
    "train": Command(f"{TRAIN} {VALIDATE} --max_train_steps 3 --index e", 26),
    "train_lora": Command(f"{TRAIN} {VALIDATE} --max_train_steps 3 --index e --lora_r 2 --lora_dropout 0.1", 26),
    "merge_adapter": Command("merge_adapter.py {root}/adapter {root}/merged", 6, (adapter,)),
    "generation": Command(
        "generation.py --index trained --stage 4 --max_new_tokens 2 --batch_size 2", 12, (without(INFER),)
    ),
    "rewarding": Command(
        "rewarding.py --index trained --stage 4 --reward_model {root}/reward_model --batch_size 2", 12,
        (without(f"{INFER}/*.json*"),),
    ),
    "scoring": Command("scoring.py --index trained --stage 4", 10, (without("eval_hh/results"),)),
    "best_responses": Command("generation.py --name ceiling --best_responses", 8),
    "report": Command("report.py --results {root}/results --output {root}/report", 6, (results,)),
    "figures": Command("figures.py --results {root}/results --output {root}/panels.png", 3, (results,)),
    "convert_weights": Command("convert_weights.py {root}/bin_model", 6, (bin_weights,)),
}  # fmt: skip


@pytest.fixture(scope="module")
def figures(request):
    """[kills, of them with an equal end], shown when all are done."""
    counts = [0, 0]
    yield counts
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        print(f"\nkills {counts[0]}, equal {counts[1]}")


def outcome(root: Path) -> dict[str, object]:
    """What lies under the root: bytes, targets of links; what a clock fills is left out.

    So is a state's random_states: of Python's own generator, which the system seeds, and which no step draws from.
    """
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file() and "tfevents" not in name and not path.name.startswith("random_states"):
            found[name] = content(path)
    return found


def content(path: Path) -> object:
    if path.name == "train.log":
        return None  # it tells of every start
    if path.name == "manifest.json":
        files = json.loads(path.read_text())["files"]
        return {name: entry for name, entry in files.items() if not name.startswith("random_states")}
    if path.suffix == ".jsonl" and "logs" in path.parts or path.name == "losses.jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]
    return path.read_bytes()


def moments(name: str, kills: int, events: int) -> list[Kill]:
    """Events spread evenly over a run, the same in every run of the tests; every other kill leaves half a file."""
    draw = random.Random(name)
    kills = min(kills, events)
    borders = [events * part // kills for part in range(kills + 1)]
    return [
        Kill(draw.randint(low + 1, high), half=bool(part % 2))
        for part, (low, high) in enumerate(zip(borders, borders[1:], strict=False))
    ]


def killed_ends_alike(case: Command, name: str, figures: list[int], root: Path, folder: Path, found):
    """Kills a command at its moments, runs it again each time, and compares what `found(root)` then is.

    `folder` is for the copy of the root and the log.
    """
    start, log = folder / "start", folder / "log"
    shutil.copytree(root, start, symlinks=True)

    def go(kill: Kill | None = None) -> tuple[int, int]:
        return run_in_fork(case.command.format(root=root), root, log, kill)

    def words() -> str:
        return log.read_text(errors="replace")[-3000:]

    status, events = go()
    assert status == 0 and events > 0, words()
    expected = found(root)
    for kill in moments(name, case.kills, events):
        shutil.rmtree(root)
        shutil.copytree(start, root, symlinks=True)
        killed, _ = go(kill)
        assert killed in (-signal.SIGKILL, 0), words()
        assert go()[0] == 0, f"{kill}: {words()}"
        now = found(root)
        different = [path for path in now.keys() | expected.keys() if now.get(path, 0) != expected.get(path, 0)]
        figures[0] += killed != 0
        assert not different, kill
        figures[1] += killed != 0
    return expected


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_ends_like_one_that_was_not(name, figures, study, tmp_path):
    case = COMMANDS[name]
    for user in USERS:
        text(user, "precious")(study)
    for change in case.change:
        change(study)
    expected = killed_ends_alike(case, name, figures, study, tmp_path, outcome)
    assert all(expected[user] == b"precious" for user in USERS)


@pytest.mark.slow
def test_reproduce_killed_ends_like_one_that_was_not(figures, tmp_path):
    """At the events of reproduce.py itself; its cells are the commands above, and are killed in test_reproduce.py."""
    case = Command("tiny_study.py --workers 1 --only 'pro_len2_8_*'", 4)
    (tmp_path / "root").mkdir()
    made = killed_ends_alike(case, "reproduce", figures, tmp_path / "root", tmp_path, study_outcome)
    assert sum("eval_hh/results/" in name for name in made) == 1 + 2  # a cell, and the rows of the base and the ceiling


def study_outcome(root: Path) -> dict[str, object]:
    """As `outcome`; of a result file its scores, and no content of what tells of times and of files' ages."""
    found: dict[str, object] = {}
    for name, held in outcome(root).items():
        path = root / name
        if "results" in path.parts:
            cell = json.loads(path.read_text())
            parts = ("files", "diversity", "num_prompts", "seed", "world")  # of a model's row only the first
            found[name] = {part: cell[part] for part in parts if part in cell}
        elif path.suffix in (".log", ".html", ".md") or path.name == "seconds.json" or ".done." in path.name:
            found[name] = None
        else:
            found[name] = held
    return found
