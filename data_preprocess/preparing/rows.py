"""Rows from wherever a user has them: JSONL files and JSON arrays, data sets on disk or on the hub."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

from data_preprocess.command import InputError
from data_preprocess.files import read_jsonl

HUB = "https://huggingface.co"
HUB_TIMEOUT = 10.0  # seconds


def source_rows(source: str, split: str) -> Iterator[tuple[str, dict]]:
    """Yields ("source:line", row) of a JSONL file, a JSON array, a folder with train.json, or a data set."""
    path = Path(source)
    if (path / "train.json").is_file():
        path = path / "train.json"
    if path.is_file() and path.suffix != ".parquet":
        numbered: Iterable[tuple[int, dict]] = read_jsonl(path)
    else:
        numbered = enumerate(load_data_set(source, split), start=1)
    for number, row in numbered:
        yield f"{path}:{number}", row


def row_number(where: str) -> int:
    """The number of a row, by what source_rows calls it: "source:3", or "source:element 3" of a JSON array."""
    return int(where.rpartition(":")[2].split()[-1])


def load_data_set(source: str, split: str, data_dir: str | None = None) -> Iterable[dict]:
    """One split of a data set saved on disk, of a folder or Parquet file that `datasets` reads, or of the hub's.

    Raises:
        InputError: one line that says why it cannot be loaded and what to pass instead.
    """
    path = Path(source)
    if not path.exists() and (source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise InputError(f"{source}: no such file or folder")
    if not path.exists() and not _hub_answers():
        # Then only the local cache is asked; the hub client, which reads this when it is imported, would retry
        # for half a minute.
        os.environ["HF_HUB_OFFLINE"] = "1"
    import datasets

    saved = any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))
    try:
        if not saved:
            if path.suffix == ".parquet":
                return datasets.load_dataset("parquet", data_files=source, split="train")
            return datasets.load_dataset(source, data_dir=data_dir, split=split)
        loaded = datasets.load_from_disk(source)
    except Exception as error:
        # The library raises many kinds of errors here, from the network's to the file formats'.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        local = "" if path.exists() else "; pass a local JSONL file or a folder saved by save_to_disk"
        raise InputError(f"{source}: cannot be loaded as a data set ({reason}){local}") from error
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise InputError(f"{source}: no split {split} (--split: {', '.join(loaded)})")
        return loaded[split]
    return loaded


def _hub_answers() -> bool:
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return False
    try:
        urllib.request.urlopen(os.environ.get("HF_ENDPOINT") or HUB, timeout=HUB_TIMEOUT).close()
    except urllib.error.HTTPError:
        return True  # an answer, if a refusal: load_dataset says which
    except OSError:
        return False
    return True
