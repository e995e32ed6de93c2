"""Loading language models and tokenizers from folders or hub names, and turning a prompt into token ids.

A local folder never touches the network. A hub name costs one short request; where the hub cannot be
reached and has not been before, one line says what to pass instead. Code that comes with a model is never run
(trust_remote_code stays off).
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from data_preprocess.command import InputError

if TYPE_CHECKING:  # torch takes seconds to import, which `--help` of an entry must not wait for
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Loaded = TypeVar("Loaded")
MAX_PROMPT = 384  # tokens of a prompt that are read, BOS included (the paper's setting)
# What a model's own code raises on input that it was not made for, or with settings that do not fit each other.
MODEL_ERRORS = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError)
# Where transformers' words point to options and reports that are not there for a user of this project.
PLAIN_WORDS = {
    "ignore_mismatched_sizes": "its weights have other shapes than config.json says",
    "scaled_dot_product_attention yet": "transformers has no sdpa attention for a model of its kind",
}
MAX_REASON = 300  # characters of a library's message that are passed on
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")  # of a layer, in the name of a weight
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

    return _load(lambda: AutoTokenizer.from_pretrained(str(path), **options), f"{path}: its tokenizer cannot be loaded")


def _load(load: Callable[[], Loaded], problem: str, advice: str = "") -> Loaded:
    """The result of one call of a library that reads a folder.

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
    model, info = _load(
        lambda: model_class.from_pretrained(str(path), output_loading_info=True, **options),
        f"{path}: the model cannot be loaded",
        _bin_advice(Path(path)),
    )
    missing = [key for key in sorted(info["missing_keys"]) if not (fresh and fresh.search(key))]
    wrong = missing + sorted(str(key) for key in info["mismatched_keys"])
    if wrong:
        raise InputError(f"{path}: {len(wrong)} weights are missing or misshapen, first {wrong[0]}")
    unused = _unused(model, sorted(info["unexpected_keys"]), ignored)
    if unused:
        raise InputError(f"{path}: {len(unused)} weights belong to no part of the model, first {unused[0]}")
    config = model.config.get_text_config()
    for size in ("num_hidden_layers", "num_attention_heads"):  # a model without any is built without complaint
        if getattr(config, size, 1) < 1:
            raise InputError(f"{path}: config.json: {size} is {getattr(config, size)} (expected at least 1)")
    _check_finite(model, path)
    return model


def _unused(model: "PreTrainedModel", unexpected: list[str], ignored: re.Pattern[str] | None) -> list[str]:
    """Of the weights that a model leaves unused, those that are not `ignored`, or that are of a layer too many."""
    of_layers = {_NUMBER.sub("#", name) for name, _ in model.named_parameters()}
    return [
        name for name in unexpected
        if (ignored and not ignored.search(name)) or ("#" in (shape := _NUMBER.sub("#", name)) and shape in of_layers)
    ]  # fmt: skip


def _check_finite(model: "PreTrainedModel", path: str | Path) -> None:
    """InputError where a weight is not finite: no result would be."""
    import torch

    for name, tensor in model.state_dict().items():
        # One pass without a copy; what is no number is handed on by both.
        if tensor.is_floating_point() and tensor.numel() and not torch.stack(torch.aminmax(tensor)).isfinite().all():
            raise InputError(f"{path}: the weight {name} has values that are not finite")


def _bin_advice(folder: Path) -> str:
    """What to do about a checkpoint that is a .bin only; nothing for any other. torch's advice would run its code."""
    if not list(folder.glob("pytorch_model*.bin")) or list(folder.glob("*.safetensors")):
        return ""
    command = f"python eval_hh/convert_weights.py {folder}"
    return f": its weights are a .bin; `{command}` makes safetensors of it, or says why not"


def empty_causal_lm(path: str | Path) -> "PreTrainedModel":
    """The model of a folder or hub name without its weights, in a second whatever its size: for looks at its kind.

    Raises:
        InputError: see `source_options`; also a configuration that cannot be read, or of no causal language model.
    """
    options = source_options(path)
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    def build() -> "PreTrainedModel":
        config = AutoConfig.from_pretrained(str(path), **options)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")

    return _load(build, f"{path}: the model cannot be loaded")


def position_limit(config: "PreTrainedConfig") -> int | None:
    """The longest text, in tokens, that a model has positions for; None where nothing limits it."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def rope_limit(config: "PreTrainedConfig") -> int | None:
    """The longest text, in tokens, whose rotary embeddings do not depend on its length; None where none do."""
    config = config.get_text_config()
    parameters = getattr(config, "rope_parameters", None) or {}
    limits = []
    for rope in (parameters, *(part for part in parameters.values() if isinstance(part, dict))):
        kind = rope.get("rope_type", "default")
        if kind == "longrope" and rope["short_factor"] != rope["long_factor"]:
            limits.append(rope["original_max_position_embeddings"])
        elif "dynamic" in kind:
            limits.append(config.max_position_embeddings)
    return min(limits, default=None)


def column_limit(config: "PreTrainedConfig") -> int | None:
    """The longest row, in tokens, in which a token's column does not matter; None for any.

    Llama 4 scales the attention of a token by its column, whatever position id it is given, from `floor_scale` on.
    """
    config = config.get_text_config()
    return config.floor_scale - 1 if getattr(config, "attn_temperature_tuning", False) else None


def check_token_ids(tokenizer: "PreTrainedTokenizerBase", model: "PreTrainedModel", path: str | Path) -> None:
    """InputError where a text may become ids that are no row of the model's embedding: model and tokenizer do not fit.

    Ids that stand only for special tokens in a text do not count, since a text's special tokens are read as plain
    characters.
    """
    rows = model.get_input_embeddings().num_embeddings
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    used = set(tokenizer.get_vocab().values()) - special - set(tokenizer.all_special_ids)
    used |= {index for index in (tokenizer.bos_token_id, tokenizer.eos_token_id) if index is not None}
    if max(used, default=0) >= rows:
        raise InputError(
            f"{path}: its tokenizer has token ids up to {max(used)}, its model embeddings for {rows} "
            "(a model and its own tokenizer were expected)"
        )


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
