"""What is given as a path or as a name on the Hugging Face hub: decides which of the two it is, and loads it.

A local folder never touches the network. A hub name costs one short request; where the hub cannot be reached and the
local cache does not hold it, one line says what to pass instead. Code that comes with a model or a data set is never
run (trust_remote_code stays off).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from data_preprocess.command import InputError

if TYPE_CHECKING:  # transformers takes seconds to import, which `--help` of an entry must not wait for
    from transformers import PreTrainedTokenizerBase

Loaded = TypeVar("Loaded")
HUB_TIMEOUT = 10.0  # seconds; the hub client itself would retry for about half a minute per file
# Where transformers' words point to options and reports that are not there for a user of this project.
PLAIN_WORDS = {
    "ignore_mismatched_sizes": "its weights have other shapes than config.json says",
    "scaled_dot_product_attention yet": "transformers has no sdpa attention for a model of its kind",
}
MAX_REASON = 300  # characters of a library's message that are passed on


def looks_like_path(name: str) -> bool:
    """Whether a name can only have been meant as a path: the hub's are "name" or "owner/name"."""
    return name.startswith(("/", ".", "~")) or name.endswith("/") or name.count("/") > 1 or "\\" in name


def why_not_on_hub(name: str, kind: str) -> str:
    """Why the hub does not give a "model" or a "data set" of this name now, in a few words; "" where it does.

    Raises:
        InputError: the hub cannot have such a name.
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
        raise InputError(f"{name}: neither a folder nor a name that the hub could have") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        absent = status in (401, 403, 404)
        return f"the hub has no such {kind}, or not for you" if absent else f"the hub answers {status}"
    except (httpx2.HTTPError, OSError):
        return "the hub cannot be reached"
    return ""


def source_options(name: str | Path, marker: str = "config.json") -> dict[str, Any]:
    """Keyword arguments that a from_pretrained call needs to load `name` at once or not at all.

    Args:
        name: a folder, or a name on the Hugging Face hub.
        marker: the file that a folder must hold.

    Raises:
        InputError: a path that is not a folder, a folder without `marker`, or a hub name that is neither
            reachable nor cached.
    """
    options: dict[str, Any] = {"trust_remote_code": False}
    folder, name = Path(name), str(name)
    if folder.is_dir():
        if not (folder / marker).is_file():
            raise InputError(f"{name}: holds no {marker} (a folder written by save_pretrained was expected)")
        return {**options, "local_files_only": True}
    if folder.exists():
        raise InputError(f"{name}: is a file (the folder of a model was expected)")
    if looks_like_path(name):
        raise InputError(f"{name}: no such folder (expected a model's folder or a hub name like owner/model)")
    reason = why_not_on_hub(name, "model")
    if reason and not _is_cached(name, marker):
        raise InputError(f"{name}: not a folder here, and {reason}; pass the path of a local copy of it instead")
    return {**options, "local_files_only": bool(reason)}


def _is_cached(name: str, file: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, file), str)


def load_tokenizer(path: str | Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a folder or hub name.

    Raises:
        InputError: see `source_options`; also a tokenizer that cannot be read.
    """
    options = source_options(path, "tokenizer_config.json")
    from transformers import AutoTokenizer

    problem = f"{path}: its tokenizer cannot be loaded"
    return load_or_refuse(lambda: AutoTokenizer.from_pretrained(str(path), **options), problem)


def load_data_set(source: str, split: str, data_dir: str | None = None) -> Iterable[dict]:
    """One split of a data set saved on disk, of a folder or Parquet file that `datasets` reads, or of the hub's.

    Raises:
        InputError: one line that says why it cannot be loaded and what to pass instead.
    """
    path, reason = Path(source), ""
    if not path.exists():
        if looks_like_path(source):
            raise InputError(f"{source}: no such file or folder")
        reason = why_not_on_hub(source, "data set")
        if reason:
            from huggingface_hub import constants

            constants.HF_HUB_OFFLINE = True  # the local cache alone is asked: `datasets` reads this when it is imported
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
        reason = reason or (str(error).strip() or type(error).__name__).splitlines()[0]
        local = "" if path.exists() else "; pass a local JSONL file or a folder saved by save_to_disk"
        raise InputError(f"{source}: cannot be loaded as a data set ({reason}){local}") from error
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise InputError(f"{source}: no split {split} (--split: {', '.join(loaded)})")
        return loaded[split]
    return loaded


def load_or_refuse(load: Callable[[], Loaded], problem: str, advice: str = "") -> Loaded:
    """The result of one call of a library that reads a folder, without the library's own warnings and progress bars.

    Args:
        load: the call.
        problem: what an InputError says where it raises.
        advice: what it then says in place of the library's reason.
    """
    try:
        with _quiet():
            return load()
    # Damaged files make it raise nearly anything, Exception itself (tokenizers) included. No code of ours runs inside.
    except Exception as error:
        raise InputError(problem + (advice or f" ({describe(error)})")) from error


def describe(error: Exception) -> str:
    """What a library's error says, in one line; its first sentences where it says much."""
    text = " ".join(str(error).split())
    for hint, meaning in PLAIN_WORDS.items():
        if hint in text:
            return meaning
    text = text if len(text) <= MAX_REASON else text[:MAX_REASON].rpartition(" ")[0] + " ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, transformers neither warns nor reports: what must be said is said by what is raised."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
