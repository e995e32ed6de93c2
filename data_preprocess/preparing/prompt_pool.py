"""Reads a pool of prompts to label from any source: each prompt once, with a stable id."""

from dataclasses import replace

from data_preprocess.command import InputError
from data_preprocess.dialogue import ASSISTANT
from data_preprocess.preparing.candidates import Candidates, prompt_id
from data_preprocess.preparing.merging import merge_rows
from data_preprocess.preparing.recipes import Mapping, describe
from data_preprocess.preparing.returned_labels import unique_prompts
from data_preprocess.preparing.row_formats import open_source, read_placed

SPLIT = "split of a data set (default: the recipe's, else train)"  # help of --split
NAMED_LINES = 5  # lines named in a message; the rest are counted


def load_pool(
    source: str, column: str | None = None, split: str | None = None, drop_duplicates: bool = False
) -> tuple[list[Candidates], int, list[str]]:
    """Reads the prompts of a source; its responses and rewards are kept, and rewards that are no numbers left out.

    Args:
        source, column, split: as for `read_prompts`.
        drop_duplicates: keep the first of prompts with the same text and system message instead of rejecting them.

    Returns:
        (the prompts, in order, with meta["id"]; the number dropped; lines that say what is not read).

    Raises:
        InputError: naming the lines of repeated prompts, of prompts that end where the user speaks or of a prompt with
            another one's id; also what `read_prompts` rejects.
    """
    placed, notes = read_prompts(source, column, split)
    numbered = [(where.rpartition(":")[2], one) for where, one in placed]
    users = [line for line, one in numbered if one.prefix[-1] != ASSISTANT]
    _refuse(source, users, "end where the user speaks (expected prompts that the assistant answers)")
    first: dict[str, tuple[str, Candidates]] = {}
    repeated = []
    for line, one in numbered:
        of_text = prompt_id(one.turns)  # the row may have an id of its own
        if of_text in first:
            repeated.append(f"{line} (as {first[of_text][0]})")
        first.setdefault(of_text, (line, one))
    if not drop_duplicates:
        _refuse(source, repeated, "repeat a prompt (use --drop_duplicates to leave them out)")
    return unique_prompts([one for _, one in first.values()]), len(repeated), notes


def read_prompts(
    source: str, column: str | None = None, split: str | None = None, keep: bool = True
) -> tuple[list[tuple[str, Candidates]], list[str]]:
    """Reads the prompts of any source, a published data set by its recipe; rewards that are no numbers are left out.

    Args:
        source: a file, a folder, a data set on disk or on the hub, in the formats of data_preprocess/README.md.
        column: the field of the prompt, if it has none of the usual names.
        split: which split of a data set; None: the recipe's, else train.
        keep: keep the other plain fields of a row in meta.columns.

    Returns:
        (each prompt with its responses, after the place of its row; lines that say what is not read).

    Raises:
        InputError: what open_source and read_placed reject.
    """
    recipe, rows = open_source(source, split, recognise=column is None)
    mapping = recipe.mapping if recipe else Mapping()
    mapping = replace(mapping, prompt=(column,) if column else mapping.prompt, keep=keep, drop_unrated=True,
                      needs_rewards=False)  # fmt: skip
    placed, notes = read_placed(rows, source, mapping)
    if recipe:
        notes.insert(0, describe(recipe, mapping))
    if recipe and recipe.merge:
        first: dict[tuple[str, ...], str] = {}
        for where, one in placed:
            first.setdefault(tuple(one.turns), where)
        merged, line = merge_rows([replace(one, rewards=None) for _, one in placed])
        placed, notes = list(zip(first.values(), merged, strict=True)), [*notes, line]
    return placed, notes


def _refuse(source: str, lines: list[str], why: str) -> None:
    if lines:
        more = f" and {len(lines) - NAMED_LINES} more" if len(lines) > NAMED_LINES else ""
        raise InputError(f"{source}: {len(lines)} prompts {why}: line {', '.join(lines[:NAMED_LINES])}{more}")
