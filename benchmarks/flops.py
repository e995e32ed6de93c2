"""The dimensions of published models, and this machine's FLOP/s."""

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
