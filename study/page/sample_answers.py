"""Test prompts with the answers of a study's models, for its page.

The prompts follow from the result files by a rule that the page states. The texts are those that rewarding.py wrote;
if they are missing, the page says so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_preprocess.command import InputError
from data_preprocess.dialogue import ROLE_NAMES, split_turn
from data_preprocess.files import read_json
from data_preprocess.toy_world.gold_reward import GOLD, GoldReward
from eval_hh.analysis.results import CellResult, Results
from eval_hh.cells import Setting
from eval_hh.estimates import budgets
from eval_hh.run_paths import Names, is_value, read_results

PER_FILE = 3
BASE_SAMPLES = "base_samples.json"  # {test file: [{line_index, text, score}]}, under the study's root


@dataclass(frozen=True)
class Response:
    """One answer to a prompt."""

    source: str
    text: str | None  # None if it was not found
    score: float | None  # reward, 0 to 1; None if there is none


@dataclass(frozen=True)
class Sample:
    """A test prompt with the answers to it."""

    file: str
    line: int  # of the test file, from 0
    difference: float  # reward at the largest K minus that at the smallest, mean over algorithms
    turns: tuple[tuple[str, str], ...]  # (speaker, text)
    references: tuple[Response, ...]  # the best in the data, then the base model's if there is one
    tuned: dict[str, tuple[Response, ...]]  # by algorithm, sorted by K


@dataclass(frozen=True)
class Samples:
    """The prompts shown and, in words, the rule by which they were chosen."""

    rule: str
    items: tuple[Sample, ...]


def shown_cells(results: Results) -> dict[str, list[CellResult]]:
    """Returns the cells whose answers are shown, one for each algorithm and K.

    They are the cells of the largest equal budget that the algorithm's grid covers in full, else of the largest size of
    each K; with random subsets, and the first replicate.
    """
    shown = {}
    for algorithm in results.values_of("algorithm"):
        shapes = [(one.ranking_len, one.num_prompts) for one in results.random if one.algorithm == algorithm]
        complete = [budget for budget in budgets({m for _, m in shapes}) if set(budget.items()) <= set(shapes)]
        largest = {k: max(m for other, m in shapes if other == k) for k, _ in shapes}
        shape = complete[0] if complete else largest
        settings = [Setting(algorithm, *one) for one in sorted(shape.items())]
        shown[algorithm] = [results.cell(setting, results.replicates(setting)[0]) for setting in settings]
    return shown


def spread_ranks(values: Sequence[float], count: int) -> list[int]:
    """Returns indices into `values`: sorted by value (then index), the middle one of each of `count` equal parts.

    If there are fewer than `count` values, all are taken.
    """
    order = sorted(range(len(values)), key=lambda index: (values[index], index))
    count = min(count, len(order))
    return [order[(2 * part + 1) * len(order) // (2 * count)] for part in range(count)]


def chosen_rows(shown: dict[str, list[CellResult]], per_file: int = PER_FILE) -> dict[str, dict[int, float]]:
    """Returns the rows shown of each test file, {line from 0: difference}, by the rule that `rule` states in words."""
    chosen = {}
    first = next(iter(shown.values()))[0]
    for file in first.files:
        rewards = [[_by_row(runs[place], file) for place in (0, -1)] for runs in shown.values()]
        differences = [
            sum(most[row] - fewest[row] for fewest, most in rewards) / len(rewards)
            for row in first.files[file]["row_id"]
        ]
        chosen[file] = {line: differences[line] for line in spread_ranks(differences, per_file)}
    return chosen


def _by_row(cell: CellResult, file: str) -> dict:
    entry = cell.files[file]
    return dict(zip(entry["row_id"], entry["reward"], strict=True))


def label(cell: CellResult) -> str:
    """Returns a cell's name beside its answer."""
    return f"K = {cell.setting.ranking_len}, M = {cell.setting.num_prompts:,}"


def rule(shown: dict[str, list[CellResult]], per_file: int = PER_FILE) -> str:
    """States how the rows and the cells shown were chosen."""
    pairs: dict[str, list[str]] = {}
    for algorithm, runs in shown.items():
        pairs.setdefault(f"that of {label(runs[-1])} minus that of {label(runs[0])}", []).append(algorithm)
    differences = "; ".join(f"{pair}, for {' and '.join(algorithms)}" for pair, algorithms in pairs.items())
    seeds = sorted({run.replicate.seed for runs in shown.values() for run in runs})
    return (
        f"The prompts of each test file were sorted by a difference in reward ({differences}"
        f"{'; the mean of them' if len(shown) > 1 else ''}) and cut into {per_file} equal parts; the prompt in the "
        "middle of each part is shown. So prompts with a lower reward for more responses are shown as well, and none "
        f"is picked by hand. Answers are of seed {' and '.join(map(str, seeds))}."
    )


def gather_samples(root: Path, results: Results, per_file: int = PER_FILE) -> tuple[Samples, list[str]]:
    """Returns the prompts shown with their answers, and a warning for each missing or mismatched file of texts.

    Args:
        root: the study's root, with eval_hh/inference_res/ and perhaps base_samples.json.
        results: with at least one cell of a random subset.
        per_file: number of prompts per test file.
    """
    shown = shown_cells(results)
    warnings: list[str] = []
    base = _base_responses(root / BASE_SAMPLES, warnings)
    first = next(iter(shown.values()))[0]
    items = []
    for file, rows in chosen_rows(shown, per_file).items():
        ids = {line: first.files[file]["row_id"][line] for line in rows}
        texts = {str(run): _texts(root, run, file, ids.values(), warnings) for run in sum(shown.values(), [])}
        for line, difference in rows.items():
            row = next((found[ids[line]] for found in texts.values() if found), None)
            if row is None:
                continue  # a warning says so
            tuned = {
                algorithm: tuple(_response(run, file, ids[line], texts[str(run)]) for run in runs)
                for algorithm, runs in shown.items()
            }
            references = (_best(row, first.reward_source), *base.get((file, line), ()))
            items.append(Sample(file, line, difference, _turns(row), references, tuned))
    return Samples(rule(shown, per_file), tuple(items)), warnings


def _turns(row: dict) -> tuple[tuple[str, str], ...]:
    """Returns (speaker, text) of each turn of a row's prompt, without the bare tag at its end."""
    turns = map(split_turn, row["prefix"][0])
    return tuple((ROLE_NAMES[tag].rstrip(":"), text) for tag, text in turns if text)


def _texts(root: Path, cell: CellResult, file: str, row_ids: Iterable, warnings: list[str]) -> dict:
    """Returns {row_id: scored row} of a cell's answers; empty, with a warning, if they do not match its result file."""
    path = Names(cell.exp, cell.stage, cell.checkpoint, root).scored(file)
    entry = cell.files[file]
    try:
        rows = read_results(path, "t", "bleu")
    except (InputError, OSError) as error:
        warnings.append(f"no texts of {cell}: {error}")
        return {}
    # scoring.py wrote both files from the same texts, in the same order.
    if [row["infer"]["bleu"] for row in rows] != entry["bleu"]:
        warnings.append(f"no texts of {cell}: texts in {path} do not match the result file")
        return {}
    by_id = dict(zip(entry["row_id"], rows, strict=True))
    return {row_id: by_id[row_id] for row_id in row_ids}


def _response(cell: CellResult, file: str, row_id: str | int, texts: dict) -> Response:
    text = texts[row_id]["infer"]["t"] if row_id in texts else None
    return Response(label(cell), text, _by_row(cell, file)[row_id])


def _best(row: dict, reward_source: str) -> Response:
    """Returns the data's best answer; only the embedded world can score it here."""
    best = row["suffix"][0]
    score = GoldReward().score([row["prefix"][0]], [best])[0] if reward_source == GOLD else None
    return Response("Best in the data", best, score)


def _base_responses(path: Path, warnings: list[str]) -> dict[tuple[str, int], tuple[Response]]:
    """Returns {(test file, line): the base model's answer}; empty if there are none."""
    if not path.is_file():
        return {}
    try:
        found = {
            (file, entry["line_index"]): (Response("Base model", entry["text"], entry["score"]),)
            for file, entries in read_json(path).items()
            for entry in entries
        }
        if not all(is_value("t", one.text) and is_value("score", one.score) for (one,) in found.values()):
            raise TypeError
        return found
    except InputError as error:
        warnings.append(f"no answers of the base model: {error}")
    except (AttributeError, KeyError, TypeError):
        expected = "{test file: [{line_index, text, score}]}"
        warnings.append(f"no answers of the base model: {path}: expected {expected}")
    return {}
