"""Reads OASST message trees (OpenAssistant oasst1, oasst2: one message per row) as prompts with ranked replies."""

from collections import defaultdict

from data_preprocess.command import InputError
from data_preprocess.dialogue import ASSISTANT, PROMPTER, has_text
from data_preprocess.preparing.candidates import COLUMNS, Candidates, plain_fields
from data_preprocess.preparing.raw_hh import NO_ALTERNATION, alternates
from data_preprocess.preparing.rows import row_number
from data_preprocess.preparing.votes import number

FIELDS = ("message_id", "parent_id", "role", "text")
TAGS = {"prompter": PROMPTER, "assistant": ASSISTANT}


def is_oasst(row: dict) -> bool:
    return all(name in row for name in FIELDS)


def oasst_candidates(rows: list[tuple[str, dict]], keep: bool = False) -> list[Candidates]:
    """Returns every user message with two or more ranked replies, with the dialogue that leads to it.

    A reply's reward is minus its rank (0 is the best). Deleted and unranked messages are left out. The id is the
    message's.

    Args:
        rows: (where, message) of whole trees, in any order.
        keep: keep the other plain fields of the user's message, such as its language, in meta.columns.

    Raises:
        InputError: naming the line: a row that is not a message of a tree, a duplicate id, a parent missing in the
            file, a message that is its own ancestor, roles that do not alternate, a prompt without text, or no message
            with two ranked replies.
    """
    by_id, replies, where_of = {}, defaultdict(list), {}
    for where, row in rows:
        _check(row, where)
        identity = row["message_id"]
        if identity in by_id:
            first = row_number(where_of[identity])
            raise InputError(f"{where}: message_id {identity!r:.40} is that of line {first} (expected each id once)")
        by_id[identity], where_of[identity] = row, where
        if row["role"] == "assistant" and row.get("rank") is not None and not row.get("deleted"):
            replies[row["parent_id"]].append(row)
    _check_trees(by_id, where_of)
    pool = [
        _candidates(by_id, where_of, parent, answers, keep)
        for parent, answers in replies.items()
        if parent is not None and len(answers) > 1
    ]
    if not pool:
        raise InputError(f"{rows[0][0]}: no message of the file has two replies with a rank (expected whole trees)")
    return pool


def _check(row: dict, where: str) -> None:
    values = [row.get(name) for name in FIELDS]
    if not all(isinstance(value, str) or (value is None and i == 1) for i, value in enumerate(values)):
        raise InputError(f"{where}: no message of a tree (expected texts in {', '.join(FIELDS)})")
    if row["role"] not in TAGS:
        raise InputError(f"{where}: role {row['role']!r:.20} (expected {' or '.join(TAGS)})")


def _check_trees(by_id: dict[str, dict], where_of: dict[str, str]) -> None:
    """Raises InputError if a message's ancestors do not lead to a root, a message without a parent."""
    rooted: set[str | None] = {None}
    for identity in by_id:
        path: dict[str, None] = {}
        message: str | None = identity
        while message not in rooted:
            if message in path:
                raise InputError(f"{where_of[message]}: message {message!r:.40} is its own ancestor (expected a tree)")
            if message not in by_id:
                child = list(path)[-1]
                found = f"parent_id {message!r:.40} (expected the id of a message in the file, or null)"
                raise InputError(f"{where_of[child]}: {found}")
            path[message] = None
            message = by_id[message]["parent_id"]
        rooted.update(path)


def _candidates(
    by_id: dict[str, dict], where_of: dict[str, str], parent: str, answers: list[dict], keep: bool
) -> Candidates:
    """Returns a message as a prompt with its ranked replies."""
    turns = [*_dialogue(by_id, parent), ASSISTANT]
    if not alternates(turns):
        raise InputError(f"{where_of[parent]}: {NO_ALTERNATION} in the dialogue that leads to its replies")
    if not has_text(turns):
        raise InputError(f"{where_of[parent]}: a prompt without text")
    ranks = [number(answer["rank"], f"{where_of[answer['message_id']]}: rank") for answer in answers]
    columns = plain_fields(by_id[parent], (*FIELDS, "rank")) if keep else {}
    meta = {COLUMNS: columns} if columns else {}
    meta |= {"id": parent, "source": where_of[parent].rpartition(":")[0], "line": row_number(where_of[parent])}
    return Candidates(turns, [answer["text"] for answer in answers], [0.0 - rank for rank in ranks], meta)


def _dialogue(by_id: dict[str, dict], message: str | None) -> list[str]:
    """Returns the turns from the tree's root to a message."""
    turns: list[str] = []
    while message is not None:
        row = by_id[message]
        turns.append(TAGS[row["role"]] + row["text"])
        message = row["parent_id"]
    return turns[::-1]
