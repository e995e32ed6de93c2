"""The public name of decoding at its earlier place, for code outside this repository that imports it."""

from eval_hh.inference.decoding import generate

__all__ = ["generate"]
