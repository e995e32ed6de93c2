"""Public names of near-duplicates at their earlier place, for code outside this repository that imports them."""

from data_preprocess.preparing.near_duplicates import shingles, similar

__all__ = ["shingles", "similar"]
