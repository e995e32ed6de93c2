"""FLOPs of a training step, and this machine's FLOP/s.

Only matrix products that depend on a token are counted: 2 operations per weight and token forward, twice that backward
(Kaplan et al. 2020, arXiv 2001.08361, section 2.1), and attention's scores and sums for the pairs of positions that see
each other. Elementwise operations and embeddings are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.side_by_side import timed


@dataclass(frozen=True)
class Shape:
    """The model dimensions that the count depends on."""

    layers: int
    width: int
    inner: int  # width of the feed-forward layer
    vocabulary: int
    gated: bool = False  # LLaMA's feed-forward layer has three matrices, OPT's two

    @property
    def body(self) -> int:
        """Number of weights applied to every token."""
        return self.layers * (4 * self.width**2 + (3 if self.gated else 2) * self.width * self.inner)

    @property
    def head(self) -> int:
        """Number of weights applied to a token only where something is predicted."""
        return self.vocabulary * self.width


OPT_125M = Shape(12, 768, 3072, 50272)
OPT_1B3 = Shape(24, 2048, 8192, 50272)
LLAMA_7B = Shape(32, 4096, 11008, 32000, gated=True)
SHAPES = {"opt-125m": OPT_125M, "opt-1.3b": OPT_1B3, "llama-7b": LLAMA_7B}


def step_flops(shape: Shape, n_tokens: int, n_logits: int, n_pairs: int) -> int:
    """Returns forward and backward operations for tokens in the body, positions at the head, and pairs in attention."""
    attention = 4 * shape.layers * shape.width * n_pairs
    return 3 * (2 * shape.body * n_tokens + 2 * shape.head * n_logits + attention)


def shared_flops(shape: Shape, prompt: int, responses: Sequence[int]) -> int:
    """Returns the operations of one ranking with its prompt computed once, and logits only for response tokens."""
    pairs = _causal(prompt) + sum(prompt * length + _causal(length) for length in responses)
    return step_flops(shape, prompt + sum(responses), sum(responses), pairs)


def separate_flops(shape: Shape, prompt: int, responses: Sequence[int]) -> int:
    """Returns the operations of one ranking in separate passes without padding, with all logits."""
    texts = [prompt + length for length in responses]
    return step_flops(shape, sum(texts), sum(texts), sum(map(_causal, texts)))


def _causal(length: int) -> int:
    return length * (length + 1) // 2


def matmul_rate(
    size: int = 2048, rounds: int = 5, where: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> float:
    """Returns the operations per second of a square matrix product, the best round; on the CPU on all torch threads."""
    a, b = (torch.randn(size, size, device=where, dtype=dtype) for _ in range(2))

    def product() -> None:
        a @ b
        if a.is_cuda:
            torch.cuda.synchronize()

    product()
    return 2 * size**3 / min(timed(product) for _ in range(rounds))
