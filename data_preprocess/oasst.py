"""OASST message trees (OpenAssistant oasst1, oasst2: one message per row) as prompts with human-ranked replies.

Library.
"""

from collections import defaultdict

from data_preprocess.candidates import Candidates
from data_preprocess.command import InputError
from data_preprocess.dialogue import ASSISTANT, PROMPTER
from data_preprocess.judgements import number
from data_preprocess.raw_hh import NO_ALTERNATION, alternates

FIELDS = ("message_id", "parent_id", "role", "text")
TAGS = {"prompter": PROMPTER, "assistant": ASSISTANT}


def is_oasst(row: dict) -> bool:
    return all(name in row for name in FIELDS)


def oasst_candidates(rows: list[tuple[str, dict]]) -> list[Candidates]:
    """Every user message with two or more ranked replies, under the dialogue that leads to it.

    A reply's reward is minus its rank (0 is the best). Deleted messages and those without a rank are left out;
    the prompt's id is its message's.

    Args:
        rows: (where, message) of whole trees, in any order.
    """
    by_id, replies, where_of = {}, defaultdict(list), {}
    for where, row in rows:
        _check(row, where)
        by_id[row["message_id"]] = row
        where_of[row["message_id"]] = where
        if row["role"] == "assistant" and row.get("rank") is not None and not row.get("deleted"):
            replies[row["parent_id"]].append(row)
    pool = []
    for parent, answers in replies.items():
        if len(answers) < 2:
            continue
        if parent not in by_id:
            where = where_of[answers[0]["message_id"]]
            raise InputError(f"{where}: parent_id {parent} (expected the id of a message in the file)")
        turns = [*_dialogue(by_id, parent), ASSISTANT]
        if not alternates(turns):
            raise InputError(f"{where_of[parent]}: {NO_ALTERNATION} in the dialogue that leads to its replies")
        ranks = [number(answer["rank"], f"{where_of[answer['message_id']]}: rank") for answer in answers]
        source, _, line = where_of[parent].rpartition(":")
        meta = {"id": parent, "source": source, "line": int(line)}
        texts = [answer["text"] for answer in answers]
        pool.append(Candidates(turns, texts, [0.0 - rank for rank in ranks], meta))
    return pool


def _check(row: dict, where: str) -> None:
    values = [row.get(name) for name in FIELDS]
    if not all(isinstance(value, str) or (value is None and i == 1) for i, value in enumerate(values)):
        raise InputError(f"{where}: no message of a tree (expected texts in {', '.join(FIELDS)})")
    if row["role"] not in TAGS:
        raise InputError(f"{where}: role {row['role']!r:.20} (expected {' or '.join(TAGS)})")


def _dialogue(by_id: dict[str, dict], message: str | None) -> list[str]:
    """The turns from the tree's root to a message."""
    turns: list[str] = []
    seen = set()
    while message is not None and message in by_id and message not in seen:
        seen.add(message)
        row = by_id[message]
        turns.append(TAGS[row["role"]] + row["text"])
        message = row["parent_id"]
    return turns[::-1]
