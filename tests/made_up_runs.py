"""Made-up texts and logs of cells, where a study's run leaves them, for the tests of the page."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from eval_hh.cells import TEST_FILES

Answer = Callable[[str, int], str]  # (test file, line) -> what the model answers


def test_row(file: str, line: int) -> dict:
    """A test row of the embedded world: its gold reward can score any answer."""
    turns = [
        "<|prompter|>Hello there.",
        "<|assistant|>Hello!",
        f"<|prompter|>This is question {line} of {file}. What is an oak stool damaged by?",
        "<|assistant|>",
    ]
    best = "Good question! An oak stool is damaged by insects. I hope that helps."
    worse = "An oak stool is damaged by acid."
    return {"prefix": [turns] * 2, "suffix": [best, worse], "reward": [1.0, -1.0], "meta": {}}


test_row.__test__ = False  # not a test, whatever its name begins with


def write_texts(root: Path, cell: dict, answer: Answer) -> None:
    """What generation, rewarding and scoring leave of one cell: rows with infer.t, in the order of its result."""
    for file in TEST_FILES:
        entry = cell["files"][file]
        rows = []
        for line in range(entry["n"]):
            infer = {"t": answer(file, line), "score": entry["reward"][line], "bleu": entry["bleu"][line]}
            rows.append({**test_row(file, line), "infer": infer, "line_index": line})
        name = f"infer_main_{cell['exp']}_{cell['stage']}_best_checkpoint_{file}.json"
        write_lines(root / "eval_hh" / "inference_res" / name, rows)


def write_logs(root: Path, cell: dict, n_steps: int = 40) -> None:
    """What the trainer leaves of one cell's curves: a loss that falls, rewards that rise."""
    rng = np.random.default_rng([cell["ranking_len"], cell["num_prompts"], cell["seed"], cell["stage"]])
    steps = np.arange(1, n_steps + 1)
    losses = (2 + 12 * np.exp(-6 * steps / n_steps)) * rng.uniform(0.9, 1.1, n_steps) - cell["num_prompts"] / 1e4
    rows = [{"step": int(step), "loss": 1.0, "sft_loss": float(loss)} for step, loss in zip(steps, losses, strict=True)]
    write_lines(root / "logs" / cell["exp"] / str(cell["stage"]) / "metrics.jsonl", rows)
    run = root / "checkpoints" / f"index_{cell['exp']}" / f"stage_{cell['stage']}"
    run.mkdir(parents=True)
    checkpoints = range(n_steps // 4, n_steps + 1, n_steps // 4)
    rewards = {str(step): 0.4 + 0.3 * step / n_steps + float(rng.normal(0, 0.02)) for step in checkpoints}
    (run / "dev_rewards.json").write_text(json.dumps(rewards))


def write_lines(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
