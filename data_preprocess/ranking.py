"""Cuts rankings of K responses down to fewer responses, and draws nested subsets of rankings.

The random draws follow the published scripts call by call, so that a seed gives the same files.
"""

import random
from collections.abc import Sequence
from pathlib import Path

SEED = 42  # for split.py's cuts and sample.py's shuffle, each with its own random stream
RESPONSE_FROM = "response_from"  # in meta: the origin of each response, "data" or the model that sampled it


def rankings_file(data: Path, ranking_len: int) -> Path:
    """Returns the path of all rankings of K responses, under the data folder."""
    return data / "original" / f"hh_train_len{ranking_len}" / "train.json"


def cut_ranking(row: dict, rng: random.Random, ranking_len: int) -> dict:
    """Keeps `ranking_len` responses of a row, drawn without replacement, best reward first.

    Responses with equal rewards stay in the order of the draw, as in the published files. sft_index is dropped, since
    it would point at another response. meta is kept, with its list of response origins cut the same way.
    """
    return cut_to(row, rng.sample(range(len(row["suffix"])), ranking_len))


def cut_to(row: dict, drawn: Sequence[int]) -> dict:
    """Keeps the responses of these indices as `cut_ranking` does: best reward first, equal ones in the order given."""
    kept = sorted(drawn, key=row["reward"].__getitem__, reverse=True)
    cut = {key: [row[key][index] for index in kept] for key in ("prefix", "suffix", "reward")}
    meta, origins = row["meta"], row["meta"].get(RESPONSE_FROM)
    if isinstance(origins, list) and len(origins) == len(row["suffix"]):
        meta = {**meta, RESPONSE_FROM: [origins[index] for index in kept]}
    return {**cut, "meta": meta}


def nested_subsets(rows: list, sizes: list[int], seed: int) -> dict[int, list]:
    """Returns the first M rows of one seeded shuffle for every M in sizes: smaller subsets are part of larger ones."""
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    return {size: shuffled[:size] for size in sizes}
