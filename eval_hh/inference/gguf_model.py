"""Turns a .gguf file of llama.cpp into a model's folder: safetensors in float32, configuration and tokenizer.

transformers reads the file and dequantises its weights. The tokenizer in a .gguf file is a vocabulary with merges and
the name of the rule by which text is split into words before merging; a rule that is unknown here is refused, because
the model would get other tokens than it was trained on.
"""

import hashlib
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from data_preprocess.command import InputError
from data_preprocess.files import disk_full_as_oserror, read_json, write_json
from data_preprocess.hub import load_or_refuse, load_tokenizer
from data_preprocess.outputs import check_place, clear_leftovers, replace_folder, temporary_folder

if TYPE_CHECKING:
    from gguf import GGUFReader
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAGIC = b"GGUF"
ORIGIN_FILE = "gguf_origin.json"  # in the output: which file its weights were dequantised from
WRITTEN = (".json", ".safetensors", ".jinja", ".txt", ".model", ".tmp")  # suffixes of the output's files
# Names in llama.cpp of rules that split text as GPT-2 does, and as GPT-2 does once every digit is on its own.
AS_GPT2 = ("gpt-2", "mpt", "olmo", "jais")
SINGLE_DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone")


def convert_gguf(file: Path, output: Path, tokenizer: str | None) -> str:
    """Writes the model in a .gguf file as a folder, all or nothing; returns a line on what was written.

    Args:
        file: the .gguf file.
        output: a folder that does not exist or is empty.
        tokenizer: folder or hub name of the tokenizer to save; None for that of the file.

    Raises:
        InputError: not a .gguf file of a causal language model, a tokenizer whose rules are unknown or that has more
            tokens than the model, an output that holds files, or the package gguf is not installed.
    """
    reader, where, output = read_gguf(file), f"--output {output}", Path(os.path.abspath(output))
    check_place(where, output)
    origin = {"file": file.name, "sha256": _sha256(file), "tokenizer": tokenizer}
    made = read_json(output / ORIGIN_FILE) if (output / ORIGIN_FILE).is_file() else None
    if isinstance(made, dict) and {key: made.get(key) for key in origin} == origin:
        return f"{output}: converted already from {file.name}"
    if output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise InputError(f"{where}: exists (expected a name that is free, or an empty folder)")
    loaded = load_tokenizer(tokenizer) if tokenizer else _tokenizer(file, reader)
    model = _model(file)
    if len(loaded) > model.config.vocab_size:
        found = f"{len(loaded)} tokens, and the model has {model.config.vocab_size}"
        raise InputError(f"{tokenizer or file}: the tokenizer has {found} (expected at most as many)")
    types = Counter(tensor.tensor_type.name for tensor in reader.tensors)
    clear_leftovers(output, lambda name: Path(name).suffix in WRITTEN)
    new = temporary_folder(output)
    new.mkdir(parents=True)
    try:
        with disk_full_as_oserror(output):
            model.save_pretrained(new)
            loaded.save_pretrained(new)
        write_json(new / ORIGIN_FILE, {**origin, "tensors": dict(types)}, indent=2)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    replace_folder(new, output)
    kinds = ", ".join(f"{count} {kind}" for kind, count in types.most_common())
    return f"{output}: {len(reader.tensors)} tensors in float32, dequantised from {file.name} ({kinds})"


def _sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def read_gguf(file: Path) -> "GGUFReader":
    """Opens a .gguf file and reads its metadata; InputError if it is none, or the package gguf is absent."""
    if not file.is_file():
        raise InputError(f"{file}: no such file (expected a .gguf file)")
    with open(file, "rb") as opened:
        if opened.read(len(MAGIC)) != MAGIC:
            raise InputError(f"{file}: does not start with {MAGIC.decode()} (expected a .gguf file)")
    try:
        from gguf import GGUFReader
    except ImportError:
        needed = "pip install -r eval_hh/requirements-gguf.txt"
        raise InputError(f"{file}: reading it needs the package gguf, which is not installed ({needed})") from None
    return load_or_refuse(lambda: GGUFReader(file), f"{file}: not a complete .gguf file")


def _model(file: Path) -> "PreTrainedModel":
    """Loads the model in float32.

    Its state is copied into a fresh model, because a model that was read from .gguf cannot be saved: it remembers its
    quantiser.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from eval_hh.inference.models import wrong_weight

    def load() -> "PreTrainedModel":
        read = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.float32)
        config = read.config
        for left in ("quantization_config", "_pre_quantization_dtype"):
            if hasattr(config, left):
                delattr(config, left)
        fresh = type(read)(config).to(torch.float32)
        fresh.load_state_dict(read.state_dict())
        fresh.generation_config = read.generation_config
        return fresh

    model = load_or_refuse(load, f"{file}: not a causal language model that transformers can read")
    if name := wrong_weight(model):
        raise InputError(f"{file}: the weight {name} has values that are not finite")
    return model


def _tokenizer(file: Path, reader: "GGUFReader") -> "PreTrainedTokenizerBase":
    """Loads the file's tokenizer, with the rule that splits words which transformers leaves out."""
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    kind, rule = (_text(reader, f"tokenizer.ggml.{key}") for key in ("model", "pre"))
    hint = "pass the published one: --tokenizer PATH_OR_NAME"
    if kind == "gpt2" and rule not in (*AS_GPT2, *SINGLE_DIGITS, *GGUF_PRE_TOKENIZER_SPLITS):
        raise InputError(f"{file}: its tokenizer splits words by the rule {rule!r:.40}, unknown here ({hint})")
    problem = f"{file}: its tokenizer cannot be read ({hint})"
    tokenizer = load_or_refuse(lambda: AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name), problem)
    if kind == "gpt2" and rule in SINGLE_DIGITS:
        backend = tokenizer.backend_tokenizer
        digits = pre_tokenizers.Digits(individual_digits=True)
        backend.pre_tokenizer = pre_tokenizers.Sequence([digits, backend.pre_tokenizer])
    return tokenizer


def _text(reader: "GGUFReader", key: str) -> str | None:
    field = reader.fields.get(key)
    return None if field is None else field.contents()
