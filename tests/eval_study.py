"""A small study folder for the evaluator's tests: test files, a trained run's folder, a training set."""

import json
from pathlib import Path

from data_preprocess.provenance import fingerprint

TEST_FILES = ("harmless_base", "helpful_base", "helpful_online", "helpful_rejection")
QUESTIONS = [
    "How do I fix a tap?",
    "Hi",
    "Tell me about whales, about where they live, and about what they eat when the sea is cold.",
    "What is amber made of?",
    "Can you help me with a letter to my landlord? The heating has not worked for three weeks.",
]


def dialogue_row(question: str, number: int) -> dict:
    turns = [f"<|prompter|>{question} ({number})", "<|assistant|>"]
    if number % 2:
        turns = ["<|prompter|>Hello.", "<|assistant|>Hello! How can I help?", *turns]
    return {
        "prefix": [turns, turns],
        "suffix": [f"Turn the water off first. {number}", "No."],
        "reward": [1.0, 0.0],
        "meta": {"source": number},
    }


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def build_study(root: Path, model: Path, exp: str = "trial", stage: int = 2, n_rows: int = 5) -> Path:
    """Writes data/hh_test and a run whose best checkpoint is `model` (a folder) under `root`; returns the run."""
    for offset, name in enumerate(TEST_FILES):
        numbers = range(offset, offset + n_rows)
        rows = [dialogue_row(QUESTIONS[number % len(QUESTIONS)], number) for number in numbers]
        write_lines(root / "data" / "hh_test" / f"{name}.json", rows)
    run = root / "checkpoints" / f"index_{exp}" / f"stage_{stage}"
    run.mkdir(parents=True)
    (run / "best_checkpoint").symlink_to(model)
    config = {
        "index": exp,
        "seed": 43,
        "training_stage_num": stage,
        "train_file_path": str(root / "data" / "hh_train_len3_400"),
    }
    record = {"config": config, "git": "abc", "versions": {"torch": "2"}}
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return run


def result_paths(root: Path, name: str, key: str = "trial_2_best_checkpoint") -> tuple[Path, Path]:
    """Where generation.py and rewarding.py write."""
    results = root / "eval_hh" / "inference_res"
    return results / "cache" / f"infer_generate_main_{key}_{name}.json", results / f"infer_main_{key}_{name}.json"


def write_notes(root: Path, name: str, key: str = "trial_2_best_checkpoint", max_new_tokens: int = 9) -> None:
    """The notes of both steps beside their outputs, which are there."""
    generated, scored = result_paths(root, name, key)
    model = {"name": str(root / "checkpoints" / "index_trial" / "stage_2" / "step_7"), "files": [["config.json", 1, 2]]}
    generation = {"step": "generation", "model": model, "max_new_tokens": max_new_tokens, "mixed_precision": "bf16"}
    rewarding = {"step": "rewarding", "reward_model": {"name": "/models/tiny-rm", "files": []}, "mixed_precision": "no"}
    test = root / "data" / "hh_test" / f"{name}.json"
    for output, source, settings in ((generated, test, generation), (scored, generated, rewarding)):
        note = {"fingerprint": fingerprint(settings, source), "settings": settings}
        output.with_name(output.name + ".done.json").write_text(json.dumps(note))
