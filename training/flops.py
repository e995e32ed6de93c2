"""Operations of a training step, from a model's weights and the lengths of its rankings.

Only matrix products that depend on a token are counted: 2 operations per weight and token forward, twice that backward
(Kaplan et al. 2020, arXiv 2001.08361, section 2.1), and attention's scores and sums for the pairs of positions that see
each other. Elementwise operations and embeddings are left out. Of a mixture, the experts of a token count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


class Weights(Protocol):
    """What the count depends on."""

    @property
    def body(self) -> int:
        """Number of weights applied to every token."""

    @property
    def head(self) -> int:
        """Number of weights applied to a token only where something is predicted."""

    @property
    def layers(self) -> int: ...

    @property
    def width(self) -> int:
        """Heads times their size."""


@dataclass(frozen=True)
class CountedWeights:
    """The weights of a model of any family."""

    body: int
    head: int
    layers: int
    width: int


def _model_of(config: "PretrainedConfig") -> "PreTrainedModel":
    """Returns the causal language model with this configuration; no weight is read or allocated."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def num_parameters(config: "PretrainedConfig") -> int:
    """Returns the number of parameters of the causal language model with this configuration."""
    return sum(weight.numel() for weight in _model_of(config).parameters())


def weights_of(config: "PretrainedConfig") -> CountedWeights:
    """Counts the matrices of the causal language model with this configuration."""
    import torch

    model = _model_of(config)
    head = model.get_output_embeddings()
    layers = [module for module in model.modules() if not isinstance(module, torch.nn.Embedding) and module is not head]
    body = 0
    for module in layers:
        for weight in module.parameters(recurse=False):
            if weight.ndim == 3 and not isinstance(module, torch.nn.Conv1d):  # [experts, out, in]
                body += getattr(config, "num_experts_per_tok", len(weight)) * weight[0].numel()
            elif weight.ndim > 1:  # linear layers, also those of GPT-2, and convolutions over tokens
                body += weight.numel()
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return CountedWeights(body, head.weight.numel(), config.num_hidden_layers, config.num_attention_heads * head_size)


def step_flops(model: Weights, n_tokens: int, n_logits: int, n_pairs: int) -> int:
    """Returns forward and backward operations for tokens in the body, positions at the head, and pairs in attention."""
    attention = 4 * model.layers * model.width * n_pairs
    return 3 * (2 * model.body * n_tokens + 2 * model.head * n_logits + attention)


def shared_flops(model: Weights, prompt: int, responses: Sequence[int]) -> int:
    """Returns the operations of one ranking with its prompt computed once, and logits only for response tokens."""
    pairs = _causal(prompt) + sum(prompt * length + _causal(length) for length in responses)
    return step_flops(model, prompt + sum(responses), sum(responses), pairs)


def answer_flops(model: Weights, prompt: int, answer: int) -> int:
    """Returns the operations of decoding an answer: a forward pass over prompt and answer, token by token."""
    return shared_flops(model, prompt, [answer]) // 3


def score_flops(model: Weights, n_tokens: int) -> int:
    """Returns the operations of a reward model on one text, whose head of one row is left out."""
    return step_flops(model, n_tokens, 0, _causal(n_tokens)) // 3


def separate_flops(model: Weights, prompt: int, responses: Sequence[int]) -> int:
    """Returns the operations of one ranking in separate passes without padding, with all logits."""
    texts = [prompt + length for length in responses]
    return step_flops(model, sum(texts), sum(texts), sum(map(_causal, texts)))


def _causal(length: int) -> int:
    return length * (length + 1) // 2
