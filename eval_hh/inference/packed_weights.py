"""A CPU's linear layers with their weights in oneDNN's own layout, for decoding and scoring.

Products with the weights as they lie in a Linear take longer than with a copy in the blocks that caches and registers
hold, above all those of the few rows of a decoding step (`benchmarks/run.py generation_speed`). torch's own compiler
packs a frozen model by the same two operations.
Results differ by float error.
"""

from collections.abc import Callable

import torch
from transformers import PreTrainedModel

from eval_hh.inference.memory import whole_memory

SHARE = 4  # the copies may take 1/SHARE of the memory


class PackedLinears:
    """Copies of a model's weights, which its linear layers use while this is entered; none where it does not apply.

    Not for a pass that needs gradients. The model's weights must not change meanwhile.
    """

    def __init__(self, model: PreTrainedModel):
        linears = [module for module in model.modules() if type(module) is torch.nn.Linear] if _usable(model) else []
        size = sum(linear.weight.nbytes for linear in linears)
        if size > whole_memory(model.device) / SHARE:
            linears = []
        self._forwards = [(linear.__dict__, _packed(linear)) for linear in linears if "forward" not in linear.__dict__]

    def __enter__(self) -> None:
        for attributes, forward in self._forwards:
            attributes["forward"] = forward

    def __exit__(self, *_: object) -> None:
        for attributes, _forward in self._forwards:
            del attributes["forward"]


def _usable(model: PreTrainedModel) -> bool:
    has_operations = all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise"))
    if model.device.type != "cpu" or not torch.backends.mkldnn.is_available() or not has_operations:
        return False
    # A CPU without instructions for bfloat16 computes in it, but oneDNN packs no such weights there.
    has_bfloat16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return model.dtype == torch.float32 or (model.dtype == torch.bfloat16 and has_bfloat16)


def _packed(linear: torch.nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns the forward of a linear layer with a packed copy of its weight."""
    weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)

    def forward(states: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(states, weight, linear.bias, "none", [], "")

    return forward
