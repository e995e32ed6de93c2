"""Cuts rankings of K responses down to fewer responses, and draws nested subsets of rankings.

The random draws follow the published scripts call by call, so that a seed gives the same files.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SEED = 42  # for split.py's cuts and sample.py's shuffle, each with its own random stream
RESPONSE_FROM = "response_from"  # in meta: the origin of each response, "data" or the model that sampled it
NUMBERS = {int, float, type(None)}  # types in a list of one number per response; null: the response has none


def rankings_file(data: Path, ranking_len: int) -> Path:
    """Returns the path of all rankings of K responses, under the data folder."""
    return data / "original" / f"hh_train_len{ranking_len}" / "train.json"


def cut_ranking(row: dict, rng: random.Random, ranking_len: int) -> dict:
    """Keeps `ranking_len` responses of a row, drawn without replacement, best reward first.

    Responses with equal rewards stay in the order of the draw, as in the published files. sft_index is dropped, since
    it would point at another response. meta is kept, with its list of response origins and what else it holds of the
    responses (`values_of`) cut the same way.
    """
    return cut_to(row, rng.sample(range(len(row["suffix"])), ranking_len))


def cut_to(row: dict, drawn: Sequence[int]) -> dict:
    """Keeps the responses of these indices as `cut_ranking` does: best reward first, equal ones in the order given."""
    kept = sorted(drawn, key=row["reward"].__getitem__, reverse=True)
    cut = {key: [row[key][index] for index in kept] for key in ("prefix", "suffix", "reward")}
    meta, origins = values_of(row["meta"], len(row["suffix"]), kept), row["meta"].get(RESPONSE_FROM)
    if isinstance(origins, list) and len(origins) == len(row["suffix"]):
        meta = {**meta, RESPONSE_FROM: [origins[index] for index in kept]}
    return {**cut, "meta": meta}


def values_of(meta: dict, n_responses: int, kept: Sequence[int | None]) -> dict:
    """Returns meta after its row's responses have changed: a list of numbers, one per response, goes where they go.

    A later command may take such a list for rewards (`--rewards_from meta.quality`), and would give them to others.

    Args:
        meta: of a row; lists in its objects count too.
        n_responses: number of the row's responses before.
        kept: the index that each response had before; None for a new one, whose number is null.
    """

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: changed(its) for name, its in value.items()}
        if not isinstance(value, list) or len(value) != n_responses or not {*map(type, value)} <= NUMBERS:
            return value
        return [None if index is None else value[index] for index in kept]

    return changed(meta) if n_responses else meta


def nested_subsets(rows: list, sizes: list[int], seed: int) -> dict[int, list]:
    """Returns the first M rows of one seeded shuffle for every M in sizes: smaller subsets are part of larger ones."""
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    return {size: shuffled[:size] for size in sizes}
