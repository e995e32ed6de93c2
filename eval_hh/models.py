"""Loading language models and tokenizers from folders or hub names, and turning a prompt into token ids.

Library. A local folder never touches the network. A hub name costs one short request; where the hub cannot be
reached and has not been before, one line says what to pass instead. Code that comes with a model is never run
(trust_remote_code stays off).
"""

import re
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from data_preprocess.command import InputError

if TYPE_CHECKING:  # torch takes seconds to import, which `--help` of an entry must not wait for
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_PROMPT = 384  # tokens of a prompt that are read, BOS included (the paper's setting)
HUB_TIMEOUT = 10.0  # seconds; the hub client itself would retry for about half a minute per file


def device() -> "torch.device":
    """The accelerator of this process, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def weights_dtype(mixed_precision: str) -> "torch.dtype":
    """The dtype of weights for "bf16", "fp16" or "no"; on the CPU float32 in any case."""
    import torch

    if device().type == "cpu":
        return torch.float32
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "no": torch.float32}[mixed_precision]


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
    folder = Path(name)
    if folder.is_dir():
        if not (folder / marker).is_file():
            raise InputError(f"{name}: holds no {marker} (a folder written by save_pretrained was expected)")
        return {**options, "local_files_only": True}
    if folder.exists():
        raise InputError(f"{name}: is a file (the folder of a model was expected)")
    if _looks_like_a_path(str(name)):
        raise InputError(f"{name}: no such folder (expected a model's folder or a hub name like owner/model)")
    return {**options, "local_files_only": not _on_hub(str(name), marker)}


def _looks_like_a_path(name: str) -> bool:
    # A hub name is "model" or "owner/model"; everything else can only have been meant as a path.
    return name.startswith(("/", ".", "~")) or name.endswith("/") or name.count("/") > 1 or "\\" in name


def _on_hub(name: str, marker: str) -> bool:
    """True where the hub answers for `name`; False where only the local cache has it.

    Raises:
        InputError: neither.
    """
    import httpx2  # the hub client's own HTTP library
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        cached = isinstance(try_to_load_from_cache(name, marker), str)
        if not constants.HF_HUB_OFFLINE:
            HfApi().model_info(name, timeout=HUB_TIMEOUT)
            return True
        reason = "HF_HUB_OFFLINE is set"
    except HFValidationError:
        raise InputError(f"{name}: neither a folder nor a name that the hub could have") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        absent = status in (401, 403, 404)
        reason = "the hub has no such model, or not for you" if absent else f"the hub answers {status}"
    except (httpx2.HTTPError, OSError):
        reason = "the hub cannot be reached"
    if cached:
        return False
    raise InputError(f"{name}: not a folder here, and {reason}; pass the path of a local copy of it instead")


def load_tokenizer(path: str | Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a folder or hub name.

    Raises:
        InputError: see `source_options`; also a tokenizer that cannot be read.
    """
    options = source_options(path, "tokenizer_config.json")
    from transformers import AutoTokenizer
    from transformers.utils import logging

    # transformers warns of a model type that it does not know, on which a tokenizer does not depend.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        return AutoTokenizer.from_pretrained(str(path), **options)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: its tokenizer cannot be loaded ({_first_line(error)})") from error
    finally:
        logging.set_verbosity(verbosity)


def load_causal_lm(path: str | Path, dtype: "torch.dtype | None" = None) -> "PreTrainedModel":
    """A causal language model on the CPU, its weights in `dtype` (default float32), under sdpa attention.

    sdpa is forced because the shared-prompt forward passes a boolean mask, which eager attention misreads.

    Raises:
        InputError: see `source_options`; also weights that cannot be read, or that lack a parameter.
    """
    options = source_options(path)
    import torch
    from transformers import AutoModelForCausalLM

    options = {**options, "dtype": dtype or torch.float32, "attn_implementation": "sdpa"}
    return load_weights(AutoModelForCausalLM, path, **options)


def load_weights(
    model_class: Any,
    path: str | Path,
    ignored: re.Pattern[str] | None = None,
    fresh: re.Pattern[str] | None = None,
    **options: Any,
) -> "PreTrainedModel":
    """`model_class.from_pretrained`, refusing weights that do not fit: a parameter would stay random.

    Args:
        model_class: a model class or auto class of transformers.
        path: folder or hub name.
        ignored: names of weights in the files that the model may leave unused; None for any.
        fresh: names of the model's parameters that the files may lack, and that then are random; None for none.
        **options: for from_pretrained.

    Raises:
        InputError: the weights cannot be read; one is missing, of another shape, or unused and not `ignored`.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model, info = model_class.from_pretrained(str(path), output_loading_info=True, **options)
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, IndexError, UnpicklingError) as error:
        message = f"{path}: the model cannot be loaded ({_first_line(error)})"
        raise InputError(message + _bin_advice(Path(path))) from error
    missing = [key for key in sorted(info["missing_keys"]) if not (fresh and fresh.search(key))]
    wrong = missing + sorted(str(key) for key in info["mismatched_keys"])
    if wrong:
        raise InputError(f"{path}: {len(wrong)} weights are missing or misshapen, first {wrong[0]}")
    unused = [key for key in sorted(info["unexpected_keys"]) if ignored and not ignored.search(key)]
    if unused:
        raise InputError(f"{path}: {len(unused)} weights belong to no part of the model, first {unused[0]}")
    return model


def _bin_advice(folder: Path) -> str:
    """What to do about a checkpoint that is a .bin only; nothing for any other."""
    if not list(folder.glob("pytorch_model*.bin")) or list(folder.glob("*.safetensors")):
        return ""
    return f"; its weights are a .bin: `python eval_hh/convert_weights.py {folder}` makes safetensors of it"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def prompt_ids(tokenizer: "PreTrainedTokenizerBase", text: str, max_prompt: int = MAX_PROMPT) -> list[int]:
    """Token ids of a prompt: BOS (where the tokenizer has one) and the last tokens of `text`.

    Args:
        tokenizer: any tokenizer.
        text: a rendered prompt.
        max_prompt: the most ids to return, BOS counted; what is over is cut from the left, behind BOS.
    """
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return bos + ids[max(0, len(ids) - (max_prompt - len(bos))) :]
