"""The models that a judge compares: result files found by name, paired by replicate, with their texts."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from data_preprocess.command import InputError, study_root
from data_preprocess.dialogue import with_system
from data_preprocess.records import read_rows
from data_preprocess.subsets import RANDOM
from eval_hh.cells import MODEL_ROWS, Replicate, Setting, is_row, load_cell
from eval_hh.run_paths import AnyNames, ModelNames, Names, all_test_files, read_results

DATA = "data"  # the test data's own first responses, in place of a model
PATTERN = "*?["  # characters that make a name a pattern


@dataclass(frozen=True)
class Answers:
    """A model's responses to the rows of a test file."""

    row_ids: list[str | int]
    turns: list[list[str]]  # of each row's prompt
    texts: list[str]
    rewards: list[float] | None = None  # of its result file; None: unknown
    scores: list[float] | None = None  # by the reward model that `scored` names in its note
    scored: Path | None = None  # the file that they were read from; None: the test file

    def of(self, rows: Sequence[int]) -> "Answers":
        """Returns these rows alone."""
        columns = (self.row_ids, self.turns, self.texts, self.rewards, self.scores)
        return Answers(*([values[row] for row in rows] if values else values for values in columns), self.scored)


@dataclass(frozen=True)
class Model:
    """One model of a pair: a run's, of no run, or the test data itself."""

    name: str  # of its result file, without .json
    setting: str  # in words, the same for all replicates
    replicate: Replicate | None  # None: of no run
    cell: dict[str, Any] | None  # None: the test data itself

    @property
    def names(self) -> AnyNames:
        """The paths of its evaluation."""
        if self.replicate is None:
            return ModelNames(self.cell["name"])
        return Names(self.cell["exp"], self.cell["stage"], self.cell["evaluation"]["checkpoint"])

    def answers(self, file: str) -> Answers:
        """Reads its responses to a test file. Raises InputError if they are missing or not those of its result."""
        if self.cell is None:
            path = ModelNames(DATA).test_file(file)
            rows = read_rows(path, training=False)
            return Answers([], _turns(rows), [row["suffix"][0] for row in rows])
        path, entry = self.names.scored(file), self.cell["files"][file]
        rows = read_results(path, "t", "score", "bleu")
        if [row["infer"]["bleu"] for row in rows] != entry["bleu"]:  # scoring.py wrote both, in the same order
            raise InputError(f"{path}: its texts are not those of {self.name}.json (evaluate the model again)")
        texts, scores = ([row["infer"][key] for row in rows] for key in ("t", "score"))
        return Answers(entry["row_id"], _turns(rows), texts, entry["reward"], scores, path)


def _turns(rows: list[dict]) -> list[list[str]]:
    return [with_system(row["prefix"][0], row["meta"]) for row in rows]


def find_models(flag: str, wanted: str) -> list[Model]:
    """Returns the models whose result files have a name, or match a pattern; several are separated by commas.

    Raises InputError, naming the argument, if there is none, or if they are of several settings.
    """
    if wanted == DATA:
        return [Model(DATA, "the test data's first responses", None, None)]
    folder = study_root() / "eval_hh" / "results"
    paths = sorted([*folder.glob("*.json"), *folder.glob(f"{MODEL_ROWS}/*.json")])
    found = []
    for one in wanted.split(","):
        matching = [path for path in paths if path.stem == one or _matches(path.stem, one)]
        if not matching:
            raise InputError(_no_such_result(flag, one, folder, paths))
        found += [_model(path) for path in matching]
    settings = sorted({model.setting for model in found})
    if len(settings) > 1:
        raise InputError(f"{flag} {wanted!r:.80}: matches several settings (expected one): {'; '.join(settings[:4])}")
    return found


def _no_such_result(flag: str, wanted: str, folder: Path, paths: list[Path]) -> str:
    names = ", ".join(path.stem for path in paths[:4]) + (", ..." if len(paths) > 4 else "")
    expected = f"expected {DATA}, or the name of a result file there, without .json: {names or 'none yet'}"
    return f"{flag} {wanted!r:.80}: no such result in {folder} ({expected})"


def _matches(name: str, wanted: str) -> bool:
    return any(char in wanted for char in PATTERN) and fnmatchcase(name, wanted)


def _model(path: Path) -> Model:
    cell = load_cell(path)
    if is_row(cell):
        return Model(path.stem, f"model {cell['name']}", None, cell)
    chosen = "" if cell["selection"] == RANDOM else f" {cell['selection']}"
    return Model(path.stem, f"{Setting.of(cell)}{chosen}", Replicate.of(cell), cell)


def paired(a: list[Model], b: list[Model]) -> list[tuple[Model, Model]]:
    """Returns the pairs to judge: of one replicate, or all of one side with a model of no run on the other.

    Raises InputError if no replicate is common to both, or one of them occurs twice.
    """
    if len(a) == len(b) == 1 or a[0].replicate is None or b[0].replicate is None:
        pairs = [(one, other) for one in a for other in b]
    else:
        by_replicate = [{model.replicate: model for model in models} for models in (a, b)]
        if any(len(found) < len(models) for found, models in zip(by_replicate, (a, b), strict=True)):
            raise InputError("A, B: several result files are of one replicate (expected one of each draw and seed)")
        common = [key for key in by_replicate[0] if key in by_replicate[1]]
        pairs = [(by_replicate[0][key], by_replicate[1][key]) for key in common]
    if not pairs:
        raise InputError("A, B: have no replicate (draw and seed) in common")
    for one, other in pairs:
        if one == other:
            raise InputError(f"A, B: are the same model, {one.name} (expected two)")
    return pairs


def common_files(pairs: list[tuple[Model, Model]]) -> list[str]:
    """Returns the test files that all models were evaluated on. Raises InputError without one."""
    sets = [set(model.cell["files"]) for pair in pairs for model in pair if model.cell]
    common = set.intersection(*sets) if sets else set()
    files = [file for file in all_test_files() if file in common]
    if not files:
        raise InputError("A, B: were not evaluated on a common test file")
    return files


def both_answers(pair: tuple[Model, Model], file: str, prompts: int | None, seed: int) -> tuple[Answers, Answers]:
    """Returns both models' responses to the same prompts of a test file, all or `prompts` drawn by the seed.

    Raises InputError if they answered other prompts.
    """
    a, b = (model.answers(file) for model in pair)
    if a.turns != b.turns or a.row_ids and b.row_ids and a.row_ids != b.row_ids:
        raise InputError(f"{file}: {pair[0].name} and {pair[1].name} did not answer the same prompts")
    ids = a.row_ids or b.row_ids
    a, b = replace(a, row_ids=ids), replace(b, row_ids=ids)
    if prompts is None or prompts >= len(ids):
        return a, b
    rows = sorted(random.Random(seed).sample(range(len(ids)), prompts))
    return a.of(rows), b.of(rows)
