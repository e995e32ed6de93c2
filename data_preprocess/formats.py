"""Rows of preference and conversation data sets, whatever their columns, as prompts with responses.

Library. The formats are shown, one example each, in data_preprocess/README.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from data_preprocess.candidates import Candidates, prompt_id
from data_preprocess.command import InputError
from data_preprocess.dialogue import ASSISTANT, ParsedPair, explain_pair, split_turn
from data_preprocess.judgements import rewards_from
from data_preprocess.oasst import is_oasst, oasst_candidates
from data_preprocess.ranking import RESPONSE_FROM
from data_preprocess.raw_hh import NO_ALTERNATION, alternates
from data_preprocess.records import ALLOWED_KEYS, check_row
from data_preprocess.sources import ROLES, prompt_turns, source_rows

PROMPT_FIELDS = ("prompt", "instruction", "question")
LIST_FIELDS = ("completions", "responses")
TEXT_KEYS = ("response", "text", "content", "completion", "answer", "output")
ID_FIELDS = ("id", "prompt_id")


@dataclass(frozen=True)
class Mapping:
    """Which fields of a row hold what; None: the usual names are tried. A dot goes into an object."""

    prompt: str | None = None
    responses: tuple[str, ...] | None = None  # one field that holds a list, or several that hold a text each
    rewards: tuple[str, ...] | None = None  # likewise, of numbers; or one that holds votes
    ranks: bool = False  # numbers are ranks: the lowest is the best
    id: str | None = None  # field of the prompt's id


def read_source(source: str, split: str, mapping: Mapping) -> list[Candidates]:
    """Reads any source that source_rows reads; the format of each row is told by its fields.

    Raises:
        InputError: naming the line: fields are missing, roles do not alternate, numbers do not fit.
    """
    rows = list(source_rows(source, split))
    if not rows:
        raise InputError(f"{source}: no rows (the file or data set is empty)")
    if is_oasst(rows[0][1]):
        return oasst_candidates(rows)
    return [read_row(row, where, source, mapping) for where, row in rows]


def read_row(row: dict, where: str, source: str, mapping: Mapping) -> Candidates:
    """One row as a prompt with its responses (none where the row has only a prompt)."""
    turns, responses, rewards, meta = _reader(row, where, mapping)(row, where, mapping)
    if mapping.rewards:
        rewards = _mapped_rewards(row, len(responses), where, mapping)
    for role in ("prompt", "messages", "chosen"):
        meta = {**_system_text(row.get(role)), **meta}
    identity = {"id": _given_id(row, where, mapping) or str(meta.get("id") or prompt_id(turns))}
    origin = {"source": meta.get("source", source), "line": meta.get("line", int(where.rpartition(":")[2]))}
    origins = meta.pop(RESPONSE_FROM, [])  # of a file that prepare.py has written before
    fits = isinstance(origins, list) and len(origins) == len(responses)
    return Candidates(turns, responses, rewards, {**meta, **identity, **origin}, origins if fits else [])


def _given_id(row: dict, where: str, mapping: Mapping) -> str | None:
    if mapping.id:
        return str(lookup(row, mapping.id, where))
    return next((str(row[name]) for name in ID_FIELDS if row.get(name) is not None), None)


Parts = tuple[list[str], list[str], list[float] | None, dict[str, Any]]  # turns, responses, rewards, meta


def _reader(row: dict, where: str, mapping: Mapping) -> Callable[[dict, str, Mapping], Parts]:
    if mapping.responses:
        return _mapped
    if "prefix" in row and "suffix" in row:
        return _ranking
    if "chosen" in row and "rejected" in row:
        return _pair
    if "messages" in row:
        return _messages
    if any(isinstance(row.get(name), list) for name in LIST_FIELDS):
        return _completions
    if mapping.prompt or any(name in row for name in PROMPT_FIELDS):
        return _prompt_only
    raise InputError(
        f"{where}: fields are {', '.join(row) or 'none'} (expected prompt, chosen and rejected; messages; "
        "prompt and completions; prompt alone; or name them by --prompt_from and --responses_from)"
    )


def lookup(row: dict, path: str, where: str) -> Any:
    """The value at a dotted path; a list of objects on the way gives the list of their values."""
    value: Any = row
    for name in path.split("."):
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, dict) and name in item for item in items):
            raise InputError(f"{where}: no field {path} (fields are {', '.join(row) or 'none'})")
        value = [item[name] for item in items] if isinstance(value, list) else value[name]
    return value


def _ranking(row: dict, where: str, mapping: Mapping) -> Parts:
    known = {key: row[key] for key in ALLOWED_KEYS if key in row}
    n_responses = len(row["suffix"]) if isinstance(row["suffix"], list) else 0
    check_row({"meta": {}, "reward": [0.0] * n_responses, **known}, where, training=False)
    rewards = [float(value) for value in row["reward"]] if "reward" in row else None
    return row["prefix"][0], row["suffix"], rewards, dict(row.get("meta", {}))


def _pair(row: dict, where: str, mapping: Mapping) -> Parts:
    chosen, rejected = row["chosen"], row["rejected"]
    if isinstance(chosen, list) and isinstance(rejected, list) and max(len(chosen), len(rejected)) > 1:
        turns, first = _conversation(chosen, f"{where}: chosen")
        other, second = _conversation(rejected, f"{where}: rejected")
        if turns != other or first is None or second is None:
            raise InputError(f"{where}: chosen and rejected (expected the same messages but for the last reply)")
        return turns, [first, second], [1.0, 0.0], {}
    prompt = mapping.prompt or next((name for name in PROMPT_FIELDS if name in row), None)
    texts = [_text(chosen, f"{where}: chosen"), _text(rejected, f"{where}: rejected")]
    if prompt is None:
        parsed = explain_pair(*texts)
        if not isinstance(parsed, ParsedPair):
            raise InputError(f"{where}: {parsed} (expected a prompt field, or dialogues in the form of raw HH-RLHF)")
        return parsed.prefix, parsed.suffix, [1.0, 0.0], {}
    value = lookup(row, prompt, where)
    if isinstance(value, str) and value.startswith("\n\nHuman:"):
        texts = [text.removeprefix(" ") for text in texts]  # prompt + response is the dialogue's text
    return _turns(value, f"{where}: {prompt}"), texts, [1.0, 0.0], {}


def _messages(row: dict, where: str, mapping: Mapping) -> Parts:
    turns, reply = _conversation(row["messages"], f"{where}: messages")
    return turns, [] if reply is None else [reply], None, {}


def _completions(row: dict, where: str, mapping: Mapping) -> Parts:
    name = next(name for name in LIST_FIELDS if isinstance(row.get(name), list))
    rewards = row.get("scores")
    turns, texts, _, meta = _mapped(row, where, Mapping(mapping.prompt, (name,)))
    if rewards is not None and not mapping.rewards:
        rewards = rewards_from(rewards, len(texts), mapping.ranks, f"{where}: scores")
    return turns, texts, rewards, meta


def _mapped(row: dict, where: str, mapping: Mapping) -> Parts:
    values = [lookup(row, name, where) for name in mapping.responses]
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    texts = [_text(value, f"{where}: response {index}") for index, value in enumerate(values)]
    return _prompt(row, where, mapping), texts, None, {}


def _prompt_only(row: dict, where: str, mapping: Mapping) -> Parts:
    return _prompt(row, where, mapping), [], None, {}


def _prompt(row: dict, where: str, mapping: Mapping) -> list[str]:
    name = mapping.prompt or next((name for name in PROMPT_FIELDS if name in row), None)
    if name is None:
        expected = f"{', '.join(PROMPT_FIELDS)}, or --prompt_from"
        raise InputError(f"{where}: fields are {', '.join(row)} (expected {expected})")
    return _turns(lookup(row, name, where), f"{where}: {name}")


def _turns(value: Any, where: str) -> list[str]:
    turns = prompt_turns(value, where)
    if not isinstance(value, str) and not alternates(turns):
        raise InputError(f"{where}: {NO_ALTERNATION} (expected user and assistant in turns)")
    return turns


def _conversation(messages: Any, where: str) -> tuple[list[str], str | None]:
    """(prompt turns, last reply), None where the user has the last word."""
    if not isinstance(messages, list):
        raise InputError(f"{where}: {messages!r:.40} (expected a list of role and content)")
    turns = _turns(messages, where)  # checks the messages, too
    last = messages[-1]
    is_reply = ROLES.get(last.get("role")) == ASSISTANT if isinstance(last, dict) else split_turn(last)[0] == ASSISTANT
    if not is_reply:
        return turns, None
    return turns, last["content"] if isinstance(last, dict) else split_turn(last)[1]


def _text(value: Any, where: str) -> str:
    """The text of a response: a text, an object that holds one, or a list of one message."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        value = next((value[key] for key in TEXT_KEYS if key in value), value)
    if not isinstance(value, str):
        raise InputError(f"{where} is {value!r:.40} (expected a text, a message, or an object with {TEXT_KEYS[0]})")
    return value


def _mapped_rewards(row: dict, n_responses: int, where: str, mapping: Mapping) -> list[float | None]:
    name = f"{where}: {' '.join(mapping.rewards)}"
    values = [lookup(row, path, where) for path in mapping.rewards]
    if len(values) == 1 and isinstance(values[0], list):
        return rewards_from(values[0], n_responses, mapping.ranks, name)
    return rewards_from(values, n_responses, mapping.ranks, name)


def _system_text(value: Any) -> dict[str, str]:
    """The system messages of a conversation, for meta: the dialogue format has no turn for them."""
    if not isinstance(value, list):
        return {}
    texts = [m["content"] for m in value if isinstance(m, dict) and m.get("role") == "system"]
    return {"system": "\n\n".join(texts)} if texts else {}
