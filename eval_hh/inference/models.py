"""Loads language models from folders or hub names; also their maximum lengths and a prompt's token ids."""

import os
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from data_preprocess.command import InputError
from data_preprocess.files import read_json
from data_preprocess.hub import base_model, load_or_refuse, source_options, tokenized

CPU_BF16 = "cpu-bf16"  # recorded for bfloat16 weights on a CPU; earlier results say bf16 there and have float32
CPU_BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")  # of x86, x86 with tiles, and ARM
MAX_PROMPT = 384  # maximum tokens of a prompt, BOS included (the paper's setting)
GENERATION_FILE = "generation_config.json"
CAUSAL_LM, REWARD = "CAUSAL_LM", "SEQ_CLS"  # tasks of adapters, in peft's words
# What a model's own code raises on unsupported input or inconsistent settings.
MODEL_ERRORS = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError)
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")  # of a layer, in a weight's name


def device() -> torch.device:
    """Returns this process's accelerator, or the CPU without one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_cpu_precision(precision: str, flag: str | None = None) -> None:
    """Raises InputError if this process computes on a CPU that has no instructions for `precision`.

    Args:
        precision: "bf16", "fp16" or "no"; float32 ("no") passes everywhere.
        flag: as given, for the message; by default --mixed_precision.
    """
    if precision == "no" or device().type != "cpu":
        return
    flag = flag or f"--mixed_precision {precision}"
    if precision != "bf16":
        raise InputError(f"{flag}: the CPU computes in float32 or bf16")
    abilities = torch.cpu.get_capabilities()
    if not any(abilities.get(name) for name in CPU_BF16_INSTRUCTIONS):
        raise InputError(f"{flag}: this CPU has no instructions for bf16 (expected float32: MIXED_PRECISION=no)")


def weights_dtype(recorded: str) -> torch.dtype:
    """Returns the dtype of weights here: for "bf16", "fp16" or "no" of a GPU; on the CPU float32, or for CPU_BF16."""
    if device().type == "cpu":
        return torch.bfloat16 if recorded == CPU_BF16 else torch.float32
    return {"bf16": torch.bfloat16, CPU_BF16: torch.bfloat16, "fp16": torch.float16, "no": torch.float32}[recorded]


def without_plans() -> None:
    """Turns off cuDNN's attention, which torch prefers on an H100: it takes 0.2 s to plan for each new shape.

    Here texts have all lengths, so nearly every pass brings new shapes: a training step took a minute in place of one
    second. Flash and memory-efficient attention need no plan.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def load_causal_lm(path: str | Path, dtype: torch.dtype | None = None, **more: Any) -> PreTrainedModel:
    """Loads a causal language model on the CPU, in `dtype` (default float32), with sdpa attention.

    An adapter is merged into its base model. sdpa is forced because the shared-prompt forward passes a boolean mask,
    which eager attention misreads.

    Args:
        path: folder or hub name of a model or of an adapter.
        dtype: of the weights.
        **more: for from_pretrained.

    Raises:
        InputError: see `source_options`; also weights that cannot be read or lack a parameter.
    """
    options = source_options(path)
    base = base_model(path, options)
    if base is not None:
        return merged(load_causal_lm(base, dtype, **more), path, CAUSAL_LM, options)
    _check_generation_config(Path(path) / GENERATION_FILE)
    options = {**options, "dtype": dtype or torch.float32, "attn_implementation": "sdpa", **more}
    return load_weights(AutoModelForCausalLM, path, **options)


def _check_generation_config(file: Path) -> None:
    """Raises InputError if it is there and cannot be read: transformers would go on without its EOS ids."""
    if os.path.lexists(file):
        read_json(file)


def merged(model: PreTrainedModel, adapter: str | Path, task: str, options: dict[str, Any]) -> PreTrainedModel:
    """Returns the model with an adapter's weights added to its own, in its dtype, as a plain model that can be trained.

    Args:
        model: the adapter's base model; it is changed.
        adapter: folder or hub name in peft's format, of any kind that can be merged (LoRA and others).
        task: what it must have been trained as, CAUSAL_LM or REWARD; an adapter that says nothing is a CAUSAL_LM.
        options: its `source_options`.

    Raises:
        InputError: it cannot be read or merged, is of another task, or does not fit the model.
    """
    import peft

    where, here = f"{adapter}: the adapter", options["local_files_only"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = load_or_refuse(lambda: peft.PeftConfig.from_pretrained(str(adapter), local_files_only=here),
                                f"{where} cannot be read")  # fmt: skip
        if (config.task_type or CAUSAL_LM) != task:
            raise InputError(f"{where} was trained as {config.task_type} (expected {task})")
        wrapped = load_or_refuse(lambda: peft.get_peft_model(model, config), f"{where} does not fit its base model")
        if not hasattr(wrapped.base_model, "merge_and_unload"):
            raise InputError(f"{where} is of kind {config.peft_type.value}, which cannot be merged into a model")
        _load_adapter(wrapped, str(adapter), where, here)
        plain = load_or_refuse(wrapped.merge_and_unload, f"{where} cannot be merged into its base model")
    if name := wrong_weight(plain):
        raise InputError(f"{where} makes the weight {name} not finite")
    return plain.requires_grad_(True).eval()


def adapts_tied_head(model: PreTrainedModel) -> bool:
    """Returns whether an adapter changes output embeddings that are the input's too: it could not be merged."""
    head = model.get_output_embeddings()
    return hasattr(head, "base_layer") and head.weight is model.get_input_embeddings().weight


def _load_adapter(wrapped: Any, adapter: str, where: str, local_files_only: bool) -> None:
    """Loads the adapter's weights; InputError unless the file holds all of them, fitting, and nothing else."""
    import peft
    from peft.utils.save_and_load import load_peft_weights

    if adapts_tied_head(wrapped.get_base_model()):
        raise InputError(f"{where} changes output embeddings that are tied to the input's, and cannot be merged")

    def load() -> Any:
        weights = load_peft_weights(adapter, device="cpu", local_files_only=local_files_only)
        return peft.set_peft_model_state_dict(wrapped, weights)

    result = load_or_refuse(load, f"{where}'s weights cannot be loaded")
    own = set(peft.get_peft_model_state_dict(wrapped, save_embedding_layers=False))
    lacking = [name for name in result.missing_keys if name.replace(".default", "") in own]
    if wrong := sorted([*lacking, *result.unexpected_keys]):
        raise InputError(f"{where} lacks, or has too many of, {len(wrong)} weights, first {wrong[0]}")


def load_weights(
    model_class: Any,
    path: str | Path,
    ignored: re.Pattern[str] | None = None,
    fresh: re.Pattern[str] | None = None,
    **options: Any,
) -> PreTrainedModel:
    """Calls `model_class.from_pretrained` and refuses weights that do not fit, which would leave parameters random.

    Args:
        model_class: a model class or auto class of transformers.
        path: folder or hub name.
        ignored: names of weights in the files that the model may leave unused; None for any.
        fresh: names of parameters that the files may lack and that are then random; None for none.
        **options: for from_pretrained.

    Raises:
        InputError: the weights cannot be read; one is missing, misshapen, not finite, or unused and not `ignored`.
    """
    without_plans()
    model, info = load_or_refuse(
        lambda: model_class.from_pretrained(str(path), output_loading_info=True, **options),
        f"{path}: the model cannot be loaded",
        _bin_advice(Path(path)),
    )
    missing = [key for key in sorted(info["missing_keys"]) if not (fresh and fresh.search(key))]
    if wrong := missing + sorted(str(key) for key in info["mismatched_keys"]):
        raise InputError(f"{path}: {len(wrong)} weights are missing or misshapen, first {wrong[0]}")
    if unused := _unused(model, sorted(info["unexpected_keys"]), ignored):
        raise InputError(f"{path}: {len(unused)} weights are not used by the model, first {unused[0]}")
    config = model.config.get_text_config()
    for size in ("num_hidden_layers", "num_attention_heads"):  # transformers accepts a model with none of them
        if getattr(config, size, 1) < 1:
            raise InputError(f"{path}: config.json: {size} is {getattr(config, size)} (expected at least 1)")
    if name := wrong_weight(model):
        raise InputError(f"{path}: the weight {name} has values that are not finite")
    return model


def _unused(model: PreTrainedModel, unexpected: list[str], ignored: re.Pattern[str] | None) -> list[str]:
    """Returns the weights that a model leaves unused and that are not `ignored`, or belong to a part that it has."""
    of_layers = {_NUMBER.sub("#", name) for name, _ in model.named_parameters()}
    modules = dict(model.named_modules())
    return [
        name for name in unexpected
        if (ignored and not ignored.search(name)) or _of_another_layer(name, of_layers) or _left_out(name, modules)
    ]  # fmt: skip


def _of_another_layer(name: str, of_layers: set[str]) -> bool:
    """Returns whether a weight is of a surplus layer, or of a layer of another shape."""
    return "#" in (shape := _NUMBER.sub("#", name)) and shape in of_layers


def _left_out(name: str, modules: dict[str, torch.nn.Module]) -> bool:
    """Returns whether an unused weight changes what a model's own modules compute, as a bias that config.json denies.

    Heads of other tasks and other towers have no module here; constants of older checkpoints, such as causal masks
    named attn.bias, stand in a module that only groups others.
    """
    owner, _, last = name.rpartition(".")
    is_trained = last in ("weight", "bias")
    if owner in modules:
        own = next(modules[owner].parameters(recurse=False), None)
        return own is not None or (is_trained and not any(modules[owner].children()))
    below_a_layer = any(name[: number.end()] in modules for number in _NUMBER.finditer(name))
    return is_trained and (below_a_layer or _is_switched_off(owner, modules))


def _is_switched_off(owner: str, modules: dict[str, torch.nn.Module]) -> bool:
    """Returns whether a module beside the layers is absent by config.json, as OPT's last norm can be."""
    parent, _, last = owner.rpartition(".")
    beside = modules.get(parent)
    has_layers = beside is not None and any(isinstance(each, torch.nn.ModuleList) for each in beside.children())
    return has_layers and getattr(beside, last, beside) is None


def wrong_weight(model: torch.nn.Module) -> str | None:
    """Returns the name of a weight that is not finite, or None. Under ZeRO-3, checks this process's part of each."""
    for name, value in model.state_dict(keep_vars=True).items():
        part = getattr(value, "ds_tensor", value).detach()
        # One pass without a copy; both return nan if there is one.
        if part.is_floating_point() and part.numel() and not torch.stack(torch.aminmax(part)).isfinite().all():
            return name
    return None


def padded(rows: Sequence[list[int]], pad: int, where: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (input_ids, attention_mask), both [B, L] with L the longest row's length, padded on the right."""
    length = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (length - len(row)) for row in rows], device=where)
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=where)
    return ids, mask


def _bin_advice(folder: Path) -> str:
    """Returns advice on a checkpoint that has only .bin weights, else "". torch's own advice would run its code."""
    if not list(folder.glob("pytorch_model*.bin")) or list(folder.glob("*.safetensors")):
        return ""
    command = f"python eval_hh/convert_weights.py {folder}"
    return f": its weights are a .bin; `{command}` makes safetensors of it, or says why not"


def empty_causal_lm(path: str | Path) -> PreTrainedModel:
    """Builds the model of a folder or hub name without weights, in a second at any size, to inspect its kind.

    Raises:
        InputError: see `source_options`; also a configuration that cannot be read or is not of a causal language model.
    """
    options = source_options(path)
    base = base_model(path, options)
    if base is not None:
        return empty_causal_lm(base)

    def build() -> PreTrainedModel:
        config = AutoConfig.from_pretrained(str(path), **options)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")

    return load_or_refuse(build, f"{path}: the model cannot be loaded")


def position_limit(config: PreTrainedConfig) -> int | None:
    """Returns the longest text, in tokens, that a model has positions for; None if unlimited."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def rope_limit(config: PreTrainedConfig) -> int | None:
    """Returns the longest text, in tokens, whose rotary embeddings do not depend on its length; None if unlimited."""
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


def column_limit(config: PreTrainedConfig) -> int | None:
    """Returns the longest row, in tokens, in which a token's column does not matter; None if unlimited.

    From `floor_scale` on, Llama 4 scales the attention of a token by its column, whatever its position id.
    """
    config = config.get_text_config()
    return config.floor_scale - 1 if getattr(config, "attn_temperature_tuning", False) else None


def check_token_ids(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, path: str | Path, also: Iterable[int] = ()
) -> None:
    """Raises InputError if the tokenizer can encode a text to ids outside the model's embedding.

    Ids that occur in a text only for special tokens do not count, since a text's special tokens are read as plain
    characters; those in `also`, of a prompt format, do.
    """
    rows = model.get_input_embeddings().num_embeddings
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    used = set(tokenizer.get_vocab().values()) - special - set(tokenizer.all_special_ids)
    used |= {index for index in (tokenizer.bos_token_id, tokenizer.eos_token_id) if index is not None}
    used |= set(also)
    if max(used, default=0) >= rows:
        raise InputError(
            f"{path}: its tokenizer has token ids up to {max(used)}, its model embeddings for {rows} "
            "(a model and its own tokenizer were expected)"
        )


def prompt_ids(tokenizer: PreTrainedTokenizerBase, text: str, max_prompt: int = MAX_PROMPT) -> list[int]:
    """Returns the token ids of a prompt: BOS (if the tokenizer has one) and the last tokens of `text`.

    Args:
        tokenizer: any tokenizer.
        text: a rendered prompt.
        max_prompt: maximum number of ids, BOS included; the text is truncated from the left, after BOS.

    Raises:
        InputError: there is none, as of a tokenizer that drops unknown characters: nothing would predict a response.
    """
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    ids = tokenized(tokenizer, text, split_special_tokens=True)["input_ids"]
    ids = bos + ids[max(0, len(ids) - (max_prompt - len(bos))) :]
    if not ids:
        raise InputError(f"{tokenizer.name_or_path}: its tokenizer makes no token of the prompt {text!r:.40}")
    return ids
