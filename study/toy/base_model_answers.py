"""The base model's answers to the prompts shown on the page of an embedded world's study."""

from pathlib import Path

from data_preprocess.files import read_json, write_json
from data_preprocess.records import read_rows
from data_preprocess.toy_world.gold_reward import GoldReward
from eval_hh.analysis.results import Results
from study.page.sample_answers import BASE_SAMPLES, PER_FILE, chosen_rows, shown_cells


def make_base_samples(
    root: Path,
    results: Results,
    base_model: Path,
    max_new_tokens: int,
    batch_size: int,
    per_file: int = PER_FILE,
) -> Path:
    """Writes base_samples.json for the prompts that `gather_samples` shows, unless it already holds them.

    Args:
        root: the study's root, with data/hh_test; the file is written there.
        results: of the embedded world, with at least one cell of a random subset.
        base_model: folder of the model before fine-tuning.
        max_new_tokens: as for the cells.
        batch_size: of generation; the answers do not depend on it.
        per_file: number of prompts per test file.
    """
    from study.toy.toy_check import model_responses

    path = root / BASE_SAMPLES
    wanted = {file: sorted(rows) for file, rows in chosen_rows(shown_cells(results), per_file).items()}
    if path.is_file():
        made = {file: [entry["line_index"] for entry in entries] for file, entries in read_json(path).items()}
        if made == wanted:
            return path
    respond = model_responses(base_model, max_new_tokens, batch_size)
    samples = {}
    for file, lines in wanted.items():
        rows = read_rows(root / "data" / "hh_test" / f"{file}.json", training=False)
        rows = [rows[line] for line in lines]
        texts = respond(rows)
        scores = GoldReward().score([row["prefix"][0] for row in rows], texts)
        samples[file] = [
            {"line_index": line, "text": text, "score": score}
            for line, text, score in zip(lines, texts, scores, strict=True)
        ]
    write_json(path, samples, indent=1)
    return path
