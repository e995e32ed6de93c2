"""OASST message trees (OpenAssistant oasst1, oasst2: one message per row) as prompts with human-ranked replies.

Library.
"""

from collections import defaultdict

from data_preprocess.candidates import Candidates
from data_preprocess.dialogue import ASSISTANT, PROMPTER
from data_preprocess.files import InputError

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
        if not is_oasst(row) or row["role"] not in TAGS or not isinstance(row["text"], str):
            expected = f"{', '.join(FIELDS)}; role {' or '.join(TAGS)}"
            raise InputError(f"{where}: no message of a tree (expected {expected})")
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
        ranks = [float(answer["rank"]) for answer in answers]
        source, _, line = where_of[parent].rpartition(":")
        meta = {"id": parent, "source": source, "line": int(line)}
        texts = [answer["text"] for answer in answers]
        pool.append(Candidates([*_dialogue(by_id, parent), ASSISTANT], texts, [0.0 - rank for rank in ranks], meta))
    return pool


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
