"""Reads a pool of prompts to label from any source: each prompt once, with a stable id."""

from data_preprocess.command import InputError
from data_preprocess.dialogue import ASSISTANT
from data_preprocess.preparing.candidates import Candidates, prompt_id
from data_preprocess.preparing.returned_labels import unique_prompts
from data_preprocess.preparing.row_formats import LeftOut, Mapping, read_row
from data_preprocess.preparing.rows import source_rows

NAMED_LINES = 5  # lines named in a message; the rest are counted


def load_pool(
    source: str, column: str | None = None, split: str = "train", drop_duplicates: bool = False
) -> tuple[list[Candidates], int, list[str]]:
    """Reads the prompts of a source; its responses and rewards are kept, and rewards that are no numbers left out.

    Args:
        source: a file, a folder or a data set, with a prompt per row in the formats of data_preprocess/README.md.
        column: the field of the prompt, if it has none of the usual names.
        split: which split of a data set.
        drop_duplicates: keep the first of prompts with the same text and system message instead of rejecting them.

    Returns:
        (the prompts, in order, with meta["id"]; the number dropped; lines that say what is not read).

    Raises:
        InputError: naming the lines of repeated prompts, of prompts that end where the user speaks or of a prompt with
            another one's id; also what row_formats.read_row rejects.
    """
    mapping = Mapping((column,) if column else None, keep=True, drop_unrated=True, needs_rewards=False)
    left_out = LeftOut()
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
        of_text = prompt_id(one.turns)  # the row may have an id of its own
        if of_text in first:
            repeated.append(f"{line} (as {first[of_text][0]})")
        first.setdefault(of_text, (line, one))
    if not drop_duplicates:
        _refuse(source, repeated, "repeat a prompt (use --drop_duplicates to leave them out)")
    return unique_prompts([one for _, one in first.values()]), len(repeated), left_out.notes()


def _refuse(source: str, lines: list[str], why: str) -> None:
    if lines:
        more = f" and {len(lines) - NAMED_LINES} more" if len(lines) > NAMED_LINES else ""
        raise InputError(f"{source}: {len(lines)} prompts {why}: line {', '.join(lines[:NAMED_LINES])}{more}")
