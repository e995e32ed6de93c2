"""A pool of prompts that could be labelled: read from any source, each prompt once, with an id that stays."""

from data_preprocess.command import InputError
from data_preprocess.dialogue import ASSISTANT, render_prompt
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.preparing.returned_labels import unique_prompts
from data_preprocess.preparing.row_formats import LeftOut, Mapping, read_row
from data_preprocess.preparing.rows import source_rows

NAMED_LINES = 5  # lines that a message names; of more, the number is given


def load_pool(
    source: str, column: str | None = None, split: str = "train", drop_duplicates: bool = False
) -> tuple[list[Candidates], int, list[str]]:
    """Reads the prompts of a source, whatever responses it holds beside them.

    Args:
        source: a JSONL file (.gz too), a folder, a data set on disk or on the hub; rows in the forms of
            data_preprocess/README.md that hold a prompt each.
        column: the field of the prompt, where it is not one of the usual.
        split: which split of a data set.
        drop_duplicates: of prompts with the same text keep the first, instead of refusing them.

    Returns:
        (the prompts, in their order, with meta["id"]; how many were dropped; lines that say what is not read).

    Raises:
        InputError: naming the lines that hold a prompt that is there before, a prompt that ends where the user
            speaks, or another prompt's id; and what formats.read_row refuses.
    """
    mapping, left_out = Mapping(prompt=(column,) if column else None), LeftOut()
    numbered = [
        (where.rpartition(":")[2], read_row(row, where, source, mapping, left_out))
        for where, row in source_rows(source, split)
    ]
    if not numbered:
        raise InputError(f"{source}: no prompts (the file or data set is empty)")
    users = [line for line, one in numbered if one.prefix[-1] != ASSISTANT]
    _refuse(source, users, "end where the user speaks (expected prompts that the assistant answers)")
    first: dict[str, tuple[str, Candidates]] = {}
    repeated = []
    for line, one in numbered:
        text = render_prompt(one.prefix)
        if text in first:
            repeated.append(f"{line} (as {first[text][0]})")
        first.setdefault(text, (line, one))
    if not drop_duplicates:
        _refuse(source, repeated, "repeat a prompt (--drop_duplicates goes on without them)")
    return unique_prompts([one for _, one in first.values()]), len(repeated), left_out.notes()


def _refuse(source: str, lines: list[str], why: str) -> None:
    if lines:
        more = f" and {len(lines) - NAMED_LINES} more" if len(lines) > NAMED_LINES else ""
        raise InputError(f"{source}: {len(lines)} prompts {why}: line {', '.join(lines[:NAMED_LINES])}{more}")
