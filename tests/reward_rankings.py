"""Small random rankings for the tests of reward models, the flags to train on them, and what a run has logged."""

import json
import random
from pathlib import Path

from data_preprocess.files import write_jsonl

WORDS = "amber resin water forest whales breathe tap washer old sing help found made under".split()


def row(rng: random.Random) -> dict:
    """A ranking of 2 to 4 texts of unequal length, now and then with a tie: the more thanks, the better."""
    turns = ["<|prompter|>What of " + " ".join(rng.choices(WORDS, k=rng.randrange(1, 9))) + "?", "<|assistant|>"]
    thanks = sorted((rng.randrange(4) for _ in range(rng.randrange(2, 5))), reverse=True)
    texts = [" ".join(rng.choices(WORDS, k=rng.randrange(1, 12))) + " thanks" * n for n in thanks]
    return {"prefix": [turns] * len(texts), "suffix": texts, "reward": [float(n) for n in thanks], "meta": {}}


def write_rankings(folder: Path) -> dict[str, Path]:
    """Paths of 24 training rankings, and of two held-out files, whose rankings are in any order, by stem."""
    rng = random.Random(5)
    write_jsonl(folder / "train.json", [row(rng) for _ in range(24)])
    for name, n in (("one.json", 9), ("two.json", 14)):
        rows = [row(rng) for _ in range(n)]
        for r in rows:
            order = rng.sample(range(len(r["suffix"])), len(r["suffix"]))
            r["suffix"], r["reward"] = [r["suffix"][i] for i in order], [r["reward"][i] for i in order]
        write_jsonl(folder / name, rows)
    return {path.stem: path for path in folder.iterdir()}


def arguments(files, source: Path, output: Path, *more: str, scratch: bool = False) -> list[str]:
    kind = "--tokenizer" if scratch else "--model_name_or_path"
    return [
        "--train_file", str(files["train"]), "--heldout_file", str(files["one"]), str(files["two"]),
        kind, str(source), "--output_dir", str(output), "--batch_size", "8", "--max_steps", "5",
        "--learning_rate", "1e-2", "--hidden_size", "16", "--num_layers", "2", "--num_heads", "2", *more,
    ]  # fmt: skip


def losses(folder: Path, column: str = "loss") -> list[float]:
    rows = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows] == list(range(1, len(rows) + 1))
    return [r[column] for r in rows]
