"""Cutting a ranking of K responses down to fewer of them.

The draws and their order are those of the published scripts, so that a seed gives the same files.
"""

import random

SEED = 42  # of split's cuts and of sample's shuffle, each a stream of its own
RESPONSE_FROM = "response_from"  # in meta: where each response comes from, "data" or the model that sampled it


def cut_ranking(row: dict, rng: random.Random, ranking_len: int) -> dict:
    """Keeps `ranking_len` responses of a row, drawn without replacement, best reward first.

    Responses whose rewards tie stay in the order in which they were drawn, as in the published files.
    sft_index is dropped: it would point at another response. meta goes along, its list of the responses'
    origins cut alike.
    """
    drawn = rng.sample(range(len(row["suffix"])), ranking_len)
    kept = sorted(drawn, key=row["reward"].__getitem__, reverse=True)
    cut = {key: [row[key][index] for index in kept] for key in ("prefix", "suffix", "reward")}
    meta, origins = row["meta"], row["meta"].get(RESPONSE_FROM)
    if isinstance(origins, list) and len(origins) == len(row["suffix"]):
        meta = {**meta, RESPONSE_FROM: [origins[index] for index in kept]}
    return {**cut, "meta": meta}


def nested_subsets(rows: list, sizes: list[int], seed: int) -> dict[int, list]:
    """The first M rows of one seeded shuffle for every M in sizes: smaller subsets lie in larger ones."""
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    return {size: shuffled[:size] for size in sizes}
