"""Cutting a ranking of K responses down to fewer of them.

Library. The draws and their order are those of the published scripts, so that a seed gives the same files.
"""

import random


def cut_ranking(row: dict, rng: random.Random, ranking_len: int) -> dict:
    """Keeps `ranking_len` responses of a row, drawn without replacement, best reward first.

    Responses whose rewards tie stay in the order in which they were drawn, as in the published files.
    sft_index is dropped: it would point at another response.
    """
    drawn = rng.sample(range(len(row["suffix"])), ranking_len)
    kept = sorted(drawn, key=lambda index: row["reward"][index], reverse=True)
    cut = {key: [row[key][index] for index in kept] for key in ("prefix", "suffix", "reward")}
    return {**cut, "meta": row["meta"]}


def nested_subsets(rows: list, sizes: list[int], seed: int) -> dict[int, list]:
    """The first M rows of one seeded shuffle for every M in sizes: smaller subsets lie in larger ones."""
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    return {size: shuffled[:size] for size in sizes}
