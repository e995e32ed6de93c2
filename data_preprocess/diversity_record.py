"""The diversity records beside the subsets: D of each subset under its key, and the tokenizer used."""

import json
from pathlib import Path

from data_preprocess.command import InputError
from data_preprocess.diversity import RECORD, RECORD_TOKENIZERS, Diversity, under_root
from data_preprocess.files import read_json
from data_preprocess.ngrams.strategies import NGRAM


class DiversityRecord:
    """Both record files of a data folder, to be extended and written together with the subsets."""

    def __init__(self, data: Path):
        """Raises InputError, naming file and entry, if a record holds anything else."""
        self.paths = [data / RECORD, data / RECORD_TOKENIZERS]
        self.scores, self.tokenizers = _read(self.paths[0], dict, "an object"), _read(self.paths[1], str, "a name")

    def add(self, key: str, diversity: Diversity, tokenizer: str) -> None:
        """Adds a subset's D; `tokenizer` is a folder or a hub name."""
        self.scores[key] = {str(NGRAM): _entry(diversity)}
        self.tokenizers[key] = under_root(tokenizer)

    def texts(self) -> dict[Path, list[str]]:
        """Returns the new contents of both files, for write_files."""
        contents = (self.scores, self.tokenizers)
        return {
            path: [json.dumps(content, indent=4) + "\n"] for path, content in zip(self.paths, contents, strict=True)
        }


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
