"""Merges an adapter into its base model and writes a plain model's folder.

    python merge_adapter.py ADAPTER OUTPUT

ADAPTER is a folder or hub name in peft's format: of a causal language model, such as a checkpoint of training/main.py
with --lora_r, or of a reward model (training/train_reward.py with --lora_r). OUTPUT is then a folder for
AutoModelForCausalLM or AutoModelForSequenceClassification, with the tokenizer. The weights are added in float32 and
saved in the base model's precision; merged_from.json names the adapter. What is merged already is left as it is. No
command needs this: each takes an adapter wherever it takes a model.
"""

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import InputError, check_settings, parse_settings, run, setting
from data_preprocess.files import disk_full_as_oserror, read_json, write_json
from data_preprocess.hub import (
    ADAPTER_FILE,
    ADAPTER_WEIGHTS,
    MODEL_FILE,
    base_model,
    file_of,
    load_tokenizer,
    source_options,
)
from data_preprocess.outputs import check_place, clear_leftovers, replace_folder, temporary_folder
from data_preprocess.provenance import fingerprint

ORIGIN = "merged_from.json"  # the adapter, in the folder that was made of it
# File names that save_pretrained and this command write.
WRITTEN = re.compile(r"[\w.-]+\.(json|safetensors|txt|model|jinja)|additional_chat_templates/\w+\.jinja")


@dataclass(frozen=True)
class Merge:
    """What to merge, and where to."""

    adapter: str = setting("folder or hub name of an adapter", positional=True)
    output: str = setting("folder to write; must not exist yet", positional=True)

    def __post_init__(self) -> None:
        check_settings(self)


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(Merge, argv, __doc__)
    output = Path(config.output)
    options = source_options(config.adapter)
    base = base_model(config.adapter, options)
    if base is None:
        raise InputError(f"{config.adapter}: holds no {ADAPTER_FILE} (expected an adapter)")
    if (output / ORIGIN).is_file() and read_json(output / ORIGIN) == origin(config.adapter):
        print(f"{output}: merged already")
        return
    if output.exists() or output.is_symlink():
        raise InputError(f"{output}: exists already (expected a name that is free)")
    check_place(str(output), output)
    print(f"{output}: {merge(config.adapter, base, output)} of {base} and {config.adapter}")


def origin(adapter: str) -> dict[str, str | None]:
    """Returns what identifies an adapter: its name and a checksum of its weights."""
    weights = file_of(adapter, ADAPTER_WEIGHTS, source_options(adapter, ADAPTER_FILE))
    return {"adapter": adapter, "sha256": fingerprint({}, weights) if weights else None}


def merge(adapter: str, base: str, output: Path) -> str:
    """Writes the merged model and its tokenizer to `output`, which is complete once it has its name.

    Returns:
        The class of the model.

    Raises:
        InputError: the adapter or its base model cannot be loaded.
    """
    import torch
    from transformers import AutoConfig

    from eval_hh.inference.models import REWARD, load_causal_lm
    from eval_hh.reward_model import load_with_head

    tokenizer = load_tokenizer(adapter)
    is_reward = read_json(file_of(adapter, ADAPTER_FILE, source_options(adapter))).get("task_type") == REWARD
    model = load_with_head(adapter, tokenizer, torch.float32) if is_reward else load_causal_lm(adapter)
    dtype = AutoConfig.from_pretrained(base, **source_options(base, MODEL_FILE)).dtype
    new = temporary_folder(output)
    clear_leftovers(output, lambda name: bool(WRITTEN.fullmatch(name)))
    try:
        with disk_full_as_oserror(output):
            model.to(dtype or torch.float32).save_pretrained(new)
            tokenizer.save_pretrained(new)
            write_json(new / ORIGIN, origin(adapter))
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    replace_folder(new, output)
    return type(model).__name__


if __name__ == "__main__":
    run(main)
