"""Loads what is given as a path or as a name on the Hugging Face hub, and decides which of the two it is.

A local folder never touches the network. A hub name costs a short request or two; if the hub is unreachable and the
name not cached, an error says what to pass instead. Code in a model or data set never runs (trust_remote_code=False).
A model may be given as a folder or name of an adapter (peft's adapter_config.json), which names its base model.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from data_preprocess.command import InputError
from data_preprocess.files import read_json

if TYPE_CHECKING:  # importing transformers takes seconds, which would slow down --help
    from transformers import PreTrainedTokenizerBase

Loaded = TypeVar("Loaded")
MODEL_FILE, TOKENIZER_FILE, ADAPTER_FILE = "config.json", "tokenizer_config.json", "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
HUB_TIMEOUT = 10.0  # seconds; the hub client itself retries for about half a minute per file
# Replaces transformers messages that point to options or reports which this project does not offer.
PLAIN_WORDS = {
    "ignore_mismatched_sizes": "its weights have other shapes than config.json says",
    "scaled_dot_product_attention yet": "transformers has no sdpa attention for a model of its kind",
}
# What a flag takes that names rows of prompts or responses (preparing/rows.py reads it).
SOURCE_FORMS = "JSONL, JSON array, CSV, TSV, Excel, Parquet, folder, or data set saved or on the hub"
NO_SCRIPTS = "scripts are no longer supported"  # from `datasets`' error
PARQUET_COPY = "refs/convert/parquet"  # the branch on which the hub keeps a data set as Parquet
ENDS = (KeyboardInterrupt, SystemExit, GeneratorExit)  # what ends a process, and is no failure of a library
DATA_FILES = (".jsonl", ".json", ".csv", ".tsv", ".xlsx", ".parquet", ".arrow", ".gz", ".xz")
ROWS_READ = 1000  # rows of a data set in memory at a time
MAX_REASON = 300  # characters of a library's message that are passed on


def looks_like_path(name: str) -> bool:
    """Returns whether a name can only be a path: hub names are "name" or "owner/name"."""
    return name.startswith(("/", ".", "~")) or name.endswith("/") or name.count("/") > 1 or "\\" in name


def from_here(name: str | None) -> str | None:
    """Returns a path as an absolute one, for what runs or lies in another folder, and a hub name or None unchanged."""
    is_path = name and (looks_like_path(name) or os.path.exists(name))
    return os.path.abspath(os.path.expanduser(name)) if is_path else name


def why_not_on_hub(name: str, kind: str) -> str:
    """Returns in a few words why the hub cannot provide the "model" or "data set" `name` now; "" if it can.

    Raises:
        InputError: not a valid hub name.
    """
    import httpx2  # the hub client's own HTTP library
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
        if constants.HF_HUB_OFFLINE:
            return "HF_HUB_OFFLINE is set"
        ask = HfApi().model_info if kind == "model" else HfApi().dataset_info
        ask(name, timeout=HUB_TIMEOUT)
    except HFValidationError:
        raise InputError(f"{name}: neither a folder nor a valid hub name") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        absent = status in (401, 403, 404)
        return f"no such {kind} on the hub, or no access to it" if absent else f"the hub answers {status}"
    except (httpx2.HTTPError, OSError):
        return "the hub cannot be reached"
    return ""


def source_options(name: str | Path, marker: str = MODEL_FILE) -> dict[str, Any]:
    """Returns from_pretrained keyword arguments that load `name` at once or fail at once.

    Args:
        name: a folder, or a name on the Hugging Face hub.
        marker: the file that a folder must contain; instead of a model's, an adapter's and its base model will do.

    Raises:
        InputError: a path that is not a folder, a folder without `marker`, a hub name neither reachable nor cached, or
            an adapter whose base model is any of these.
    """
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    folder, name = Path(name), str(name)
    if folder.is_dir():
        is_adapter = marker == MODEL_FILE and base_model(name, options) is not None
        if not is_adapter and not (folder / marker).is_file():
            raise InputError(f"{name}: holds no {marker} (expected a folder written by save_pretrained)")
        return options
    if folder.exists():
        raise InputError(f"{name}: is a file (expected the folder of a model)")
    if looks_like_path(name):
        raise InputError(f"{name}: no such folder (expected a model's folder or a hub name like owner/model)")
    reason = why_not_on_hub(name, "model")
    if reason and not any(_is_cached(name, file) for file in (marker, ADAPTER_FILE)):
        raise InputError(f"{name}: not a folder here, and {reason}; pass the path of a local copy of it instead")
    return {**options, "local_files_only": bool(reason)}


def _is_cached(name: str, file: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, file), str)


def base_model(name: str | Path, options: dict[str, Any]) -> str | None:
    """Returns the base model that an adapter's folder or hub name refers to; None for a model that is whole.

    Args:
        name: the folder or hub name.
        options: its `source_options`.

    Raises:
        InputError: the adapter's configuration names no base model, or one that is not there or is an adapter itself.
    """
    path = file_of(name, ADAPTER_FILE, options)
    if path is None:
        return None
    config = read_json(path)
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    field = f"{path}: base_model_name_or_path"
    if not isinstance(base, str) or not base.strip():
        raise InputError(f"{field}: {base!r:.40} (expected the folder or hub name of the adapter's base model)")
    if (Path(base) / ADAPTER_FILE).is_file():
        raise InputError(f"{field}: {base} is an adapter itself (eval_hh/merge_adapter.py merges one into its base)")
    try:
        source_options(base)
    except InputError as error:
        raise InputError(f"{field}: {error}") from None
    return base


def file_of(name: str | Path, file: str, options: dict[str, Any]) -> Path | None:
    """Returns the path of a file of a model's folder, or of a hub name (downloaded if need be); None if it has none."""
    folder, name = Path(name), str(name)
    if folder.is_dir():
        return folder / file if (folder / file).is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(name, file, local_files_only=options["local_files_only"]))
    except EntryNotFoundError:  # also where it is not in the cache
        return None


def load_tokenizer(path: str | Path) -> "PreTrainedTokenizerBase":
    """Loads the tokenizer of a folder or hub name; an adapter's without one is that of its base model.

    Raises:
        InputError: see `source_options`; also if the tokenizer cannot be read.
    """
    if (Path(path) / ADAPTER_FILE).is_file() and not (Path(path) / TOKENIZER_FILE).is_file():
        path = base_model(path, source_options(path))
    options = source_options(path, TOKENIZER_FILE)
    from transformers import AutoTokenizer

    def load() -> "PreTrainedTokenizerBase":
        tokenizer = AutoTokenizer.from_pretrained(str(path), **options)
        # Some wrong settings raise only on use. No letter is encoded: a good vocabulary may lack any.
        tokenizer("", add_special_tokens=False)
        tokenizer.convert_tokens_to_ids(tokenizer.all_special_tokens)
        return tokenizer

    return load_or_refuse(load, f"{path}: its tokenizer cannot be loaded")


def tokenized(tokenizer: "PreTrainedTokenizerBase", texts: str | list[str], **options: Any) -> Any:
    """Returns the tokenizer's result for a text or several, without the special tokens that it adds by itself.

    Args:
        tokenizer: any tokenizer.
        texts: what it reads.
        **options: of its call.

    Raises:
        InputError: it cannot encode a text, for example an unknown word without a token for such.
    """
    try:
        return tokenizer(texts, add_special_tokens=False, **options)
    except ENDS:
        raise
    except BaseException as error:  # as in load_or_refuse
        if isinstance(texts, list) and len(texts) > 1:
            for text in texts:
                tokenized(tokenizer, text, **options)
        found = f"its tokenizer cannot encode the text {texts!r:.40} ({describe(error)})"
        raise InputError(f"{tokenizer.name_or_path}: {found}") from error


def load_data_set(source: str, split: str, data_dir: str | None = None, subset: str | None = None) -> Iterable[dict]:
    """Loads one split of a data set: saved on disk, a folder or Parquet file that `datasets` reads, or on the hub.

    Args:
        source: a path, or a name on the hub.
        split: of a data set that has several.
        data_dir: the folder of the data set that holds the split.
        subset: a configuration of the data set, or such a folder.

    Returns:
        The rows; images and sounds in them are not decoded. InputError, naming the row, for one that cannot be read.

    Raises:
        InputError: one line that says why it cannot be loaded and what to pass instead.
    """
    loaded = _loaded(source, split, data_dir, subset)
    return _plain_rows(loaded, source) if hasattr(loaded, "with_format") else loaded


def _loaded(source: str, split: str, data_dir: str | None, subset: str | None) -> Iterable[dict]:
    path, reason = Path(source), ""
    if not path.exists():
        in_folder = source.count("/") != 1 or path.parent.is_dir()  # else owner/name.json may be a data set's name
        if looks_like_path(source) or (in_folder and source.lower().endswith(DATA_FILES)):
            raise InputError(f"{source}: no such file or folder")
        reason = why_not_on_hub(source, "data set")
        if reason:
            from huggingface_hub import constants

            constants.HF_HUB_OFFLINE = True  # use the local cache only; `datasets` reads this on import
    import datasets

    saved = any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))
    try:
        if not saved:
            if path.suffix == ".parquet":
                return _parquet_rows(source)
            return _load_split(source, split, data_dir, subset)
        loaded = datasets.load_from_disk(source)
    except Exception as error:
        # The library raises many kinds of errors here, from network to file format errors.
        reason = reason or (str(error).strip() or type(error).__name__).splitlines()[0]
        local = "" if path.exists() else "; pass a local JSONL file or a folder saved by save_to_disk"
        raise InputError(f"{source}: cannot be loaded as a data set ({reason}){local}") from error
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise InputError(f"{source}: no split {split} (--split: {', '.join(loaded)})")
        return loaded[split]
    return loaded


def _parquet_rows(source: str) -> Iterable[dict]:
    import datasets
    from pyarrow import parquet

    if not parquet.read_metadata(source).num_rows:  # of which `datasets` makes an error
        return []
    return datasets.load_dataset("parquet", data_files=source, split="train")


def _plain_rows(loaded: Any, source: str) -> Iterator[dict]:
    """Yields the rows of a data set as they are stored: decoding an image or a sound may fail, and none is used."""
    batches, number = iter(loaded.with_format("arrow").iter(ROWS_READ)), 0
    while True:
        try:
            batch = next(batches, None)
            rows = [] if batch is None else batch.to_pylist()
        except Exception as error:  # of pyarrow, and of the data set's own files
            where = f"{source}:{number + 1}"
            raise InputError(f"{where}: the rows from this one on cannot be read ({describe(error)})") from error
        if not rows:
            return
        number += len(rows)
        yield from rows


def _load_split(source: str, split: str, data_dir: str | None, subset: str | None) -> Iterable[dict]:
    """Returns datasets.load_dataset's split, with a subset found by either of its two names for one.

    A data set that is made by a script, which `datasets` no longer runs, is read from the hub's own copy as Parquet.
    """
    import datasets

    options: dict[str, str | None] = {"name": subset, "data_dir": data_dir}
    while True:
        try:
            return datasets.load_dataset(source, split=split, **options)
        except ValueError as error:
            if not options["name"] or "BuilderConfig" not in str(error):
                raise
            options |= {"name": None, "data_dir": subset}
        except RuntimeError as error:
            if NO_SCRIPTS not in str(error) or "revision" in options:
                raise
            options["revision"] = PARQUET_COPY


def load_or_refuse(load: Callable[[], Loaded], problem: str, advice: str = "") -> Loaded:
    """Returns the result of a library call that reads a folder, silencing the library's warnings and progress bars.

    Args:
        load: the call.
        problem: the InputError message if it raises.
        advice: appended to the message instead of the library's reason.
    """
    try:
        with _quiet():
            return load()
    except ENDS:
        raise
    # Damaged files raise nearly anything: plain Exception (tokenizers), or what is none (Rust's panics). None of our
    # code runs inside.
    except BaseException as error:
        raise InputError(problem + (advice or f" ({describe(error)})")) from error


def describe(error: BaseException) -> str:
    """Returns a library error as one line, shortened to MAX_REASON characters."""
    text = " ".join(str(error).split())
    for hint, meaning in PLAIN_WORDS.items():
        if hint in text:
            return meaning
    text = text if len(text) <= MAX_REASON else text[:MAX_REASON].rpartition(" ")[0] + " ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences transformers' warnings and reports; errors are reported by exceptions."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
