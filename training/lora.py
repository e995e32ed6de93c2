"""LoRA (Hu et al. 2021, arXiv 2106.09685) by peft: small trainable matrices beside the linear layers of a frozen model.

A layer's output W x becomes W x + (alpha / r) B A dropout(x), with B = 0 at first. The matrices are put into the model
in place: it keeps its class, so packed rows, accelerate and DeepSpeed treat it as any other. A checkpoint is an adapter
in peft's format, which names its base model; eval_hh.inference.models reads and merges it.
"""

import importlib.util
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_preprocess.command import InputError, count, setting, within
from data_preprocess.files import write_json
from data_preprocess.hub import ADAPTER_FILE, ADAPTER_WEIGHTS, base_model, describe, source_options

if TYPE_CHECKING:  # config.py imports this file, and torch would slow down --help
    import torch
    from transformers import PreTrainedModel

ALL_LINEAR = "all-linear"
PREFIX = "base_model.model."  # of all names in ADAPTER_WEIGHTS
QLORA_REQUIREMENTS = "training/requirements-qlora.txt"


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """The flags of LoRA."""

    lora_r: int = setting("LoRA: rank of the trained matrices; 0 trains the whole model", count(at_least=0), default=0)
    lora_alpha: float = setting("LoRA: scale; the matrices' output is multiplied by alpha / r", within(above=0),
                                default=16.0)  # fmt: skip
    lora_dropout: float = setting("LoRA: dropout of the matrices' input", within(at_least=0, below=1), default=0.0)
    lora_target_modules: list[str] = setting(
        "LoRA: names of the linear modules to train beside, e.g. q_proj v_proj; all-linear: all but the output layer",
        default_factory=lambda: [ALL_LINEAR],
    )
    load_in_4bit: bool = setting("LoRA: keep the frozen weights in 4 bits (QLoRA, by bitsandbytes)", default=False)

    def check_lora(self) -> None:
        """Raises InputError if LoRA is off but one of its flags is given."""
        for each in fields(LoraSettings):
            if not self.lora_r and getattr(self, each.name) != WITHOUT_LORA[each.name]:
                raise InputError(f"--{each.name}: has no effect without LoRA (expected --lora_r R beside it)")


# Records of runs and models from before LoRA lack these settings.
WITHOUT_LORA = asdict(LoraSettings())


def check_start(settings: LoraSettings, name: str) -> None:
    """Raises InputError unless LoRA with these settings can start from the model `name`: quickly, without weights."""
    if settings.lora_r and base_model(name, source_options(name)) is not None:
        hint = "train it with --lora_r 0, or merge it first: python eval_hh/merge_adapter.py"
        raise InputError(f"--model_name_or_path {name}: is an adapter, and --lora_r would put another on it ({hint})")
    if not settings.load_in_4bit:
        return
    if importlib.util.find_spec("bitsandbytes") is None:
        hint = f"pip install -r {QLORA_REQUIREMENTS}"
        raise InputError(f"--load_in_4bit: bitsandbytes, which keeps weights in 4 bits, is not installed ({hint})")


def loading_options(settings: LoraSettings, device: "torch.device", is_deepspeed: bool) -> dict[str, Any]:
    """Returns the arguments of from_pretrained that keep frozen weights in 4 bits on `device`; none without QLoRA.

    Raises InputError under DeepSpeed, whose casts and partitions know no 4-bit weights.
    """
    if not settings.load_in_4bit:
        return {}
    if is_deepspeed:
        raise InputError("--load_in_4bit: not under DeepSpeed (expected ZERO_STAGE=0)")
    import torch
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )  # fmt: skip
    return {"quantization_config": quantization, "device_map": {"": device}}


def check_targets(model: "PreTrainedModel", settings: LoraSettings) -> None:
    """Raises InputError if a name of --lora_target_modules is none of the model's modules."""
    if not settings.lora_r or settings.lora_target_modules == [ALL_LINEAR]:
        return
    names = [name for name, _ in model.named_modules()]
    for target in settings.lora_target_modules:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            raise InputError(f"--lora_target_modules {target}: no such module ({_linear_modules(model)})")


def _linear_modules(model: "PreTrainedModel") -> str:
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    modules = [(name.rpartition(".")[2], module) for name, module in model.named_modules()]
    linear = dict.fromkeys(name for name, module in modules if isinstance(module, Linear | Conv1D))
    return f"the linear modules of a {type(model).__name__} are {', '.join(linear) or 'none'}; or {ALL_LINEAR}"


def add_lora(model: "PreTrainedModel", settings: LoraSettings, base: str, seed: int, heads: Iterable[str] = ()) -> None:
    """Freezes the model and puts LoRA's matrices beside its linear modules, in place. Nothing is done with rank 0.

    Args:
        model: a transformers model.
        settings: the rank, scale, dropout and modules.
        base: folder or hub name of the model, which the adapter will name.
        seed: of A, so that every process and every run of these settings draws the same.
        heads: modules of a classifier that are trained as a whole, and stored with the adapter.

    Raises:
        InputError: a module to train beside does not exist or is not linear.
    """
    if not settings.lora_r:
        return
    import torch
    from peft import LoraConfig, TaskType, inject_adapter_in_model

    from eval_hh.inference.models import adapts_tied_head

    check_targets(model, settings)
    targets = settings.lora_target_modules
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS if heads else TaskType.CAUSAL_LM,
        base_model_name_or_path=os.path.abspath(base) if Path(base).is_dir() else base,
        r=settings.lora_r, lora_alpha=settings.lora_alpha, lora_dropout=settings.lora_dropout,
        target_modules=ALL_LINEAR if targets == [ALL_LINEAR] else targets, modules_to_save=list(heads) or None,
        exclude_modules=_not_linear_alone(model, heads) or None if targets == [ALL_LINEAR] else None,
    )  # fmt: skip
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        try:
            inject_adapter_in_model(config, model)
        except ValueError as error:  # a module that is not linear, or none at all
            where = f"--lora_target_modules {' '.join(targets)}"
            raise InputError(f"{where}: {describe(error)} ({_linear_modules(model)})") from error
    if not heads and adapts_tied_head(model):
        found = f"the output embeddings of a {type(model).__name__} are tied to the input's, and cannot be merged"
        raise InputError(f"--lora_target_modules {' '.join(targets)}: {found} (expected other modules)")
    if settings.load_in_4bit:
        for module in model.modules():
            # On a CPU a layer would repack its weights for inference, for good, when it is first in evaluation mode.
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
        for parameter in trainable(model):
            # peft gives them the type of computation, bfloat16, which loses small updates.
            parameter.data = parameter.data.float()


def _not_linear_alone(model: "PreTrainedModel", heads: Iterable[str]) -> list[str]:
    """Returns the linear modules that all-linear leaves out: of heads, and routers that return more than scores."""
    from torch.nn import Linear

    return [
        name for name, module in model.named_modules()
        if isinstance(module, Linear)
        and (type(module).__module__.startswith("transformers.models.") or name.split(".")[0] in heads)
    ]  # fmt: skip


def trainable(model: "torch.nn.Module") -> "list[torch.nn.Parameter]":
    """Returns the parameters that are trained."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def save_adapter(model: "PreTrainedModel", folder: Path, weights: Mapping[str, "torch.Tensor"]) -> None:
    """Writes the trained weights as an adapter: adapter_config.json and adapter_model.safetensors.

    Args:
        model: as `add_lora` left it.
        folder: exists.
        weights: the model's state dict, gathered from all processes.
    """
    from safetensors.torch import save_file

    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    save_file({_stored(name): weights[name].detach().cpu().contiguous() for name in names}, folder / ADAPTER_WEIGHTS,
              metadata={"format": "pt"})  # fmt: skip
    config = {**model.peft_config["default"].to_dict(), "inference_mode": True}
    # A set has another order in every process.
    lists = {name: sorted(value) for name, value in config.items() if isinstance(value, set)}
    write_json(folder / ADAPTER_FILE, {**config, **lists}, indent=2)


def load_adapter(model: "PreTrainedModel", folder: Path) -> None:
    """Loads what `save_adapter` wrote into a model that `add_lora` has changed likewise; KeyError for another model."""
    import torch
    from safetensors.torch import load_file

    weights = load_file(folder / ADAPTER_WEIGHTS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights[_stored(name)])


def _stored(name: str) -> str:
    """Returns the name that peft gives a parameter in a file."""
    return PREFIX + name.replace(".modules_to_save.default.", ".").replace(".default.", ".")
