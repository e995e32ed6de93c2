"""Texts with common beginnings, in rows without padding: which are computed together, in which row, and where.

Texts that continue one prompt are a group: what their token ids have in common at the beginning is computed once, in a
row that `eval_hh.inference.shared_prompt` computes as if each text stood alone. This is exact whatever the tokenizer or
the template, since ids are compared. A text alone is a group too, all of it its own beginning. Equal texts of a prompt
are computed once, so that they get exactly one result.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import torch

# Tokens of a row per text of a batch. A row takes texts by their tokens, so that all rows take about as long.
TOKENS_PER_TEXT = 256
# Attention compares all that the texts of a group add with one another: beyond these tokens a group is split, and where
# the common beginning is less than this part of the longest addition, sharing it costs more than it saves.
LARGEST_GROUP, LEAST_SHARED = 4096, 1 / 4


@dataclass(frozen=True)
class TextRow:
    """A row of T tokens: each group's common beginning, then what each of its texts adds."""

    input_ids: list[int]  # [T]
    position_ids: list[int]  # [T]: those of each text alone
    lengths: list[list[int]]  # per group, tokens of the beginning and of each addition
    columns: list[list[int]]  # per text, where its tokens stand in the row

    def inputs(self, device: torch.device | None = None) -> dict[str, torch.Tensor]:
        """Returns input_ids and position_ids, both int64 [1, T]."""
        ids = {"input_ids": self.input_ids, "position_ids": self.position_ids}
        return {name: torch.tensor([value], device=device) for name, value in ids.items()}


def row_of(groups: Sequence[tuple[list[int], list[list[int]]]]) -> TextRow:
    """Lays out groups, each (common beginning, the additions of its texts); a text alone has no addition."""
    ids: list[int] = []
    positions: list[int] = []
    columns: list[list[int]] = []
    for beginning, additions in groups:
        first = range(len(ids), len(ids) + len(beginning))
        ids += beginning
        positions += range(len(beginning))
        for addition in additions:
            columns.append([*first, *range(len(ids), len(ids) + len(addition))])
            ids += addition
            positions += range(len(beginning), len(beginning) + len(addition))
        if not additions:
            columns.append([*first])
    lengths = [[len(beginning), *map(len, additions)] for beginning, additions in groups]
    return TextRow(ids, positions, lengths, columns)


def n_shared(texts: Sequence[Sequence[int]]) -> int:
    """Returns how many first tokens several texts have in common, but no whole text; 0 if sharing does not pay."""
    if len(texts) < 2:
        return 0
    first, last = min(texts), max(texts)  # by their ids: all others begin with what these two have in common
    shortest = min(map(len, texts)) - 1
    shared = next((i for i in range(shortest) if first[i] != last[i]), shortest)
    return shared if shared and shared >= LEAST_SHARED * (max(map(len, texts)) - shared) else 0


def group_texts(
    texts: Sequence[Sequence[int]], prompts: Sequence[Hashable], largest: int = LARGEST_GROUP
) -> list[list[int]]:
    """Returns the numbers of the texts to compute together, group by group.

    Args:
        texts: token ids, at least one in each.
        prompts: what each text continues; only equal ones may share tokens.
        largest: maximum tokens that a group of several texts adds to its beginning.
    """
    by_prompt: dict[Hashable, dict[tuple[int, ...], list[int]]] = {}
    for number, (text, prompt) in enumerate(zip(texts, prompts, strict=True)):
        by_prompt.setdefault(prompt, {}).setdefault(tuple(text), []).append(number)
    groups: list[list[int]] = []
    for distinct in by_prompt.values():
        shared, room = n_shared(list(distinct)), 0
        for text, numbers in distinct.items():
            added = len(text) - shared
            if not shared or added > room:
                groups.append([])
                room = largest
            groups[-1] += numbers
            room -= added
    return groups


def plan_rows(texts: Sequence[Sequence[int]], prompts: Sequence[Hashable], batch_size: int) -> list[list[int]]:
    """Returns the numbers of the texts of each row, those with the longest texts first.

    Args:
        texts, prompts: as for `group_texts`.
        batch_size: a row holds the tokens of this many texts of TOKENS_PER_TEXT, or else one group.
    """
    budget = batch_size * TOKENS_PER_TEXT
    groups = group_texts(texts, prompts, min(budget, LARGEST_GROUP))
    rows: list[list[int]] = []
    room = 0
    for group in sorted(groups, key=lambda group: -max(len(texts[i]) for i in group)):
        beginning, additions = _parted([texts[i] for i in group])
        tokens = len(beginning) + sum(map(len, additions))
        if tokens > room:
            rows.append([])
            room = budget
        rows[-1] += group
        room -= tokens
    return rows


def shared_row(texts: Sequence[Sequence[int]], prompts: Sequence[Hashable]) -> TextRow:
    """Returns texts in one row, with `columns` in their order; arguments as for `group_texts`."""
    groups = group_texts(texts, prompts)
    row = row_of([_parted([texts[i] for i in group]) for group in groups])
    found, columns = iter(row.columns), {}
    for group in groups:
        own = {text: next(found) for text in _distinct([texts[i] for i in group])}
        columns |= {number: own[tuple(texts[number])] for number in group}
    return replace(row, columns=[columns[number] for number in range(len(texts))])


def _parted(texts: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """Returns the common beginning of a group's distinct texts and what each adds, as `row_of` takes them."""
    distinct = _distinct(texts)
    if len(distinct) == 1:
        return list(distinct[0]), []
    shared = n_shared(distinct)
    return list(distinct[0][:shared]), [list(text[shared:]) for text in distinct]


def _distinct(texts: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    return list(dict.fromkeys(map(tuple, texts)))
