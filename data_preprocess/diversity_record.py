"""The diversity records beside the subsets: D of each subset's prompts and responses, and the tokenizer used."""

import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

from data_preprocess.command import InputError
from data_preprocess.diversity import RECORD, RECORD_RESPONSES, RECORD_TOKENIZERS, Diversity, under_root
from data_preprocess.files import read_json
from data_preprocess.ngrams.strategies import NGRAM
from data_preprocess.response_diversity import ResponseDiversity
from data_preprocess.subsets import Subset, subset_named


class DiversityRecord:
    """The record files of a draw's folder, to be extended and written together with the subsets."""

    def __init__(self, folder: Path):
        """Raises InputError, naming file and entry, if a record holds anything else."""
        self.folder = folder
        self._added: list[Subset] = []
        self.scores = _read(folder / RECORD, dict, "an object")
        self.tokenizers = _read(folder / RECORD_TOKENIZERS, str, "a name")
        self.responses = _read(folder / RECORD_RESPONSES, dict, "an object")

    def add(
        self,
        subset: Subset,
        diversity: Diversity,
        tokenizer: str,
        responses: ResponseDiversity | None = None,
        shared_by: Collection[int] = (),
    ) -> None:
        """Adds the diversity of a subset's prompts and, if measured, of its responses; entries of earlier ones go.

        An entry by size is of all K. Where another K has a subset of other prompts, it stays that one's, and this
        subset gets an entry by its name.

        Args:
            subset: the prompts' subset.
            diversity: of its prompts.
            tokenizer: a folder or a hub name.
            responses: the diversity of its responses.
            shared_by: all K that have the same prompts.
        """
        entry, counted = {str(NGRAM): _entry(diversity)}, under_root(tokenizer)
        is_known = self.scores.get(subset.key) == entry and self.tokenizers.get(subset.key) == counted
        is_shared = is_known or self._others(subset) <= {subset.ranking_len, *shared_by}
        key = subset.key if is_shared else subset.name
        for name in {subset.name} - {key}:  # of its own, from when other K had other prompts
            self.scores.pop(name, None)
            self.tokenizers.pop(name, None)
        self.scores[key], self.tokenizers[key] = entry, counted
        self._added.append(subset)
        self.responses.pop(subset.name, None)
        if responses:
            measured = {field: asdict(value) for field, value in responses._asdict().items()}
            self.responses[subset.name] = {**measured, "tokenizer": under_root(tokenizer)}

    def _others(self, subset: Subset) -> set[int]:
        """Returns the K that have a subset of this size and selection, on disk or added here."""
        found = [subset_named(path.parent) for path in self.folder.glob("hh_train_len*/train.json")]
        return {one.ranking_len for one in [*found, *self._added] if one and one.key == subset.key}

    def texts(self) -> dict[Path, list[str]]:
        """Returns the new contents of the files, for write_files; that of the responses only if it has a use."""
        contents = {RECORD: self.scores, RECORD_TOKENIZERS: self.tokenizers}
        if self.responses or (self.folder / RECORD_RESPONSES).exists():
            contents[RECORD_RESPONSES] = self.responses
        return {self.folder / name: [json.dumps(content, indent=4) + "\n"] for name, content in contents.items()}


def _read(path: Path, kind: type, expected: str) -> dict:
    """Reads a record by key, checking that each entry is of type `kind`; empty if the file is missing."""
    record = read_json(path) if path.exists() else {}
    if not isinstance(record, dict):
        raise InputError(f"{path}:1: expected a JSON object of sizes (remove the file to start a new record)")
    for key, entry in record.items():
        if not isinstance(entry, kind):
            raise InputError(f"{path}: entry {key!r} is {entry!r:.40} (expected {expected})")
    return record


def _entry(diversity: Diversity) -> dict:
    """Returns one entry of the record, with the published field names."""
    return {
        "#filtered_ngrams": diversity.unique,
        "#all_ngrams": diversity.total,
        "#samples": diversity.samples,
        "diversity": diversity.score,
    }
