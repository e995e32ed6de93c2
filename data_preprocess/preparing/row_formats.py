"""Reads rows of preference and conversation data sets, in many formats, as prompts with responses.

data_preprocess/README.md shows one example of each format.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any

from data_preprocess.command import InputError
from data_preprocess.dialogue import (
    ASSISTANT,
    PROMPTER,
    ParsedPair,
    explain_pair,
    has_text,
    render_prompt,
    split_turn,
    with_system,
)
from data_preprocess.preparing.candidates import COLUMNS, Candidates, plain_fields, prompt_id
from data_preprocess.preparing.oasst import is_oasst, oasst_candidates
from data_preprocess.preparing.raw_hh import NO_ALTERNATION, alternates
from data_preprocess.preparing.recipes import Mapping, Recipe, check_columns, named_recipe, recognised_recipe
from data_preprocess.preparing.rows import of_one_split, row_number, source_rows
from data_preprocess.preparing.turns import (
    Dialogue,
    content_text,
    is_message,
    message_form,
    read_dialogue,
    read_message,
    refuse_not_text,
    refuse_written_messages,
)
from data_preprocess.preparing.votes import rewards_from, rewards_of_winner
from data_preprocess.ranking import RESPONSE_FROM
from data_preprocess.records import ALLOWED_KEYS, check_row

PROMPT_FIELDS = ("prompt", "instruction", "question")
CONVERSATION_FIELDS = ("messages", "conversations", "conversation")
INPUT_OF = "instruction"  # the field that `input` continues, as in Alpaca
CONTEXT_FIELDS = ("input", "context", "history")  # their text belongs to the prompt
SYSTEM_FIELDS = ("system", "system_prompt")
LIST_FIELDS = ("completions", "responses")
RESPONSE_FIELDS = ("response", "output", "completion")  # of a row with one response
TEXT_KEYS = ("response", "text", "content", "value", "completion", "answer", "output")
ID_FIELDS = ("id", "prompt_id")
NAMED_FIELDS = 12  # fields named in a line
UNREAD = "fields with text that are not read"
LOST_SYSTEM = "a system message is left out of the prompt, which has no turn for it"
LOST_REPLY = "the reply that ends the prompt's messages is left out"
LOST_SFT_INDEX = "sft_index is left out"


@dataclass
class LeftOut:
    """Counts of row contents that are not part of prompts and responses, so that they are reported."""

    reasons: Counter[str] = field(default_factory=Counter)  # -> rows
    unread: Counter[str] = field(default_factory=Counter)  # fields that hold text -> rows

    def notes(self) -> list[str]:
        lines = [f"{count} rows: {reason}" for reason, count in self.reasons.items()]
        return [*lines, f"{UNREAD}: {named(self.unread)}"] if self.unread else lines


def named(fields: Counter[str]) -> str:
    """Lists field names with their numbers of rows, only the first ones if there are many."""
    names = [
        f"{name if name.isprintable() and name.strip() else repr(name)} ({count} rows)"
        for name, count in fields.items()
    ]
    more = [f"and {len(names) - NAMED_FIELDS} more"] if len(names) > NAMED_FIELDS else []
    return ", ".join(names[:NAMED_FIELDS] + more)


@dataclass
class Fields:
    """A row that records which of its fields were read."""

    row: dict
    where: str
    read: set[str] = field(default_factory=set)
    paths: dict[str, None] = field(default_factory=dict)  # whose values were read, in order

    def at(self, path: str) -> Any:
        """Returns the value at a dotted path, see `lookup`."""
        self.read.add(path if path in self.row else path.split(".")[0])
        self.paths[path] = None
        return lookup(self.row, path, self.where)

    def first(self, names: Iterable[str]) -> str | None:
        """Returns the first of the names with a value in the row, else the first name in the row."""
        there = [name for name in names if name in self.row]
        return next((name for name in there if self.row[name] is not None), there[0] if there else None)


def open_source(
    source: str, split: str | None = None, subset: str | None = None, name: str | None = None, recognise: bool = True
) -> tuple[Recipe | None, Iterator[tuple[str, dict]]]:
    """Returns (its recipe, if one is known; the rows of source_rows, read when they are used).

    Args:
        source: what source_rows reads.
        split: which split; None: the recipe's, else train.
        subset: a configuration or folder of a data set; None: the recipe's.
        name: of the recipe; None: that of the data set on the hub or, if `recognise`, of the first row's columns.
        recognise: see there.

    Raises:
        InputError: no rows, or without the columns of the recipe that was named.
    """
    recipe = named_recipe(name, source)
    of_hub = None if of_one_split(source) else recipe  # a local copy need not have the splits of the hub
    split = split or (of_hub.split if of_hub else "train")
    (where, first), rows = open_rows(source, split, subset or (of_hub.subset if of_hub else None))
    if recipe:
        check_columns(recipe, first, where)
    elif not name and recognise:
        recipe = recognised_recipe(first)
    return recipe, rows


def open_rows(
    source: str, split: str, subset: str | None = None
) -> tuple[tuple[str, dict], Iterator[tuple[str, dict]]]:
    """Returns (the first row, all rows) of source_rows, read when they are used; InputError if there are none."""
    rows = source_rows(source, split, subset)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{source}: no rows (the file or data set is empty)")
    return first, chain([first], rows)


def read_candidates(
    rows: Iterator[tuple[str, dict]], source: str, mapping: Mapping, skip_invalid: bool = False
) -> tuple[list[Candidates], list[str]]:
    """Returns the prompts of `read_placed`, and its lines."""
    placed, notes = read_placed(rows, source, mapping, skip_invalid)
    return [one for _, one in placed], notes


def read_placed(
    rows: Iterator[tuple[str, dict]], source: str, mapping: Mapping, skip_invalid: bool = False
) -> tuple[list[tuple[str, Candidates]], list[str]]:
    """Reads the rows of open_rows; the fields of each row determine its format.

    Returns:
        (each prompt with its responses, after the place of its row; lines that say what is left out).

    Raises:
        InputError: naming the line: missing fields, roles that do not alternate, invalid rewards, a prompt
            without text, or a field with text that the prompt would lose. `skip_invalid` leaves out such rows.
    """
    first = next(rows)
    if is_oasst(first[1]) and not (mapping.prompt or mapping.responses):
        _check_flags_of_trees(mapping, skip_invalid)
        trees = oasst_candidates([first, *rows], mapping.keep)
        return [(one.where, one) for one in trees], []
    left_out, pool, refused = LeftOut(), [], []
    for where, row in chain([first], rows):
        try:
            pool.append((where, read_row(row, where, source, mapping, left_out)))
        except InputError as error:
            if not skip_invalid:
                raise
            refused.append(str(error))
    if not pool:
        raise InputError(f"{refused[0]}; so are all {len(refused)} rows")
    notes, n_rows = left_out.notes(), len(pool) + len(refused)
    if refused:
        notes.insert(0, f"{len(refused)} of {n_rows} rows skipped (--skip_invalid), the first: {refused[0]}")
    return pool, notes


def _check_flags_of_trees(mapping: Mapping, skip_invalid: bool) -> None:
    """Raises InputError for a flag that message trees, whose fields and ranks are what they are, cannot follow."""
    flags = {
        "skip_invalid": skip_invalid,
        "rewards_from": mapping.rewards,
        "ranks": mapping.ranks,
        "winner_from": mapping.winner,
        "id_from": mapping.id,
    }
    for flag, given in flags.items():
        if given:
            raise InputError(f"--{flag} applies to rows that stand alone, and these are the messages of trees")


def read_row(row: dict, where: str, source: str, mapping: Mapping, left_out: LeftOut) -> Candidates:
    """Returns one row as a prompt with its responses (none if the row has only a prompt)."""
    fields = Fields(row, where)
    dialogue, responses, rewards, meta = _reader(fields, mapping)(fields, mapping)
    if mapping.rewards:
        rewards = _rewards(partial(_mapped_rewards, fields, len(responses), mapping), mapping)
    elif mapping.winner:
        name, better = f"{where}: {mapping.winner}", fields.at(mapping.winner)
        read = partial(rewards_of_winner, better, len(responses), mapping.winner_values, name)
        rewards = _rewards(read, mapping)
    are_numbers = bool(mapping.rewards) or "scores" in fields.read
    if mapping.ranks and rewards is not None and not are_numbers:
        raise InputError(f"{where}: --ranks: the row has no numbers (expected --rewards_from, or a field scores)")
    system = _system(fields, dialogue, mapping)
    if system:
        left_out.reasons[LOST_SYSTEM] += 1
        meta = {"system": system, **meta}
    if dialogue.reply is not None:
        left_out.reasons[LOST_REPLY] += 1
    if row.get("sft_index") and "suffix" in fields.read:
        left_out.reasons[LOST_SFT_INDEX] += 1
    columns = _columns(fields, meta, mapping)
    unread = list(_unread(fields, dialogue, responses, mapping))
    _check_context(fields, unread, mapping)
    left_out.unread.update(unread)
    _check_meta(meta, len(responses), where)
    identity = {"id": _identity(fields, meta, mapping) or prompt_id(with_system(dialogue.prompt, meta))}
    origin = {"source": meta.get("source") or source, "line": meta.get("line", row_number(where))}
    origins = meta.pop(RESPONSE_FROM, None)  # in a file written by prepare.py
    meta = {**meta, **({COLUMNS: columns} if columns else {}), **identity, **origin}
    return Candidates(dialogue.prompt, responses, rewards, meta, origins or [], are_scores=are_numbers)


def load_texts(source: str, column: str | None, split: str, left_out: LeftOut) -> Iterator[tuple[str, list[str]]]:
    """Yields the prompts of a source as rendered texts, each with its responses.

    Rendering makes numbers from different sources comparable.

    Args:
        source: any source supported by source_rows.
        column: the field of the prompt, if it has none of the usual names.
        split: which split of a data set.
        left_out: counts what is not read.

    Raises:
        InputError: one line that names the row at fault, or what to pass if the hub is unreachable.
    """
    mapping, empty = Mapping(prompt=(column,) if column else None, needs_rewards=False), True
    for where, row in source_rows(source, split):
        if not any(name in row for name in mapping.prompt or (*PROMPT_FIELDS, *CONVERSATION_FIELDS, "prefix")):
            wanted = f"--column {column}" if column else "a prompt or prefix field, or --column"
            raise InputError(f"{where}: fields are {', '.join(row) or 'none'} (expected {wanted})")
        if column is None and "prefix" in row:
            check_row(row, where, training=False)
        candidates = read_row(row, where, source, mapping, left_out)
        yield render_prompt(candidates.prefix), candidates.responses
        empty = False
    if empty:
        raise InputError(f"{source}: no prompts (the file or data set is empty)")


def lookup(row: dict, path: str, where: str) -> Any:
    """Returns the value of a field of this very name, as a flattened table has, else that at a dotted path.

    A list of objects on the way gives the list of their values.
    """
    if path in row:
        return row[path]
    value: Any = row
    for name in path.split("."):
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, dict) and name in item for item in items):
            raise InputError(f"{where}: no field {path} (fields are {', '.join(row) or 'none'})")
        value = [item[name] for item in items] if isinstance(value, list) else value[name]
    return value


# --- the formats; a reader sets the dialogue's reply only if it is not one of the responses

ReadRow = tuple[Dialogue, list[str], list[float | None] | None, dict[str, Any]]  # dialogue, responses, rewards, meta


def _reader(fields: Fields, mapping: Mapping) -> Callable[[Fields, Mapping], ReadRow]:
    row = fields.row
    if mapping.responses:
        return _mapped
    if "prefix" in row and "suffix" in row and not mapping.prompt:
        return _ranking
    if "chosen" in row and "rejected" in row:
        return _pair
    if any(isinstance(row.get(name), list) for name in LIST_FIELDS):
        return _completions
    if not mapping.prompt and any(row.get(name) is not None for name in CONVERSATION_FIELDS):
        return _conversation
    if mapping.prompt or any(name in row for name in PROMPT_FIELDS):
        return _prompt_and_response
    raise InputError(
        f"{fields.where}: fields are {', '.join(row) or 'none'} (expected prompt, chosen and rejected; messages; "
        "prompt and completions; prompt alone; or name them by --prompt_from and --responses_from)"
    )


def _ranking(fields: Fields, mapping: Mapping) -> ReadRow:
    row = fields.row
    known = {key: row[key] for key in ALLOWED_KEYS if key in row}
    fields.read |= known.keys()
    n_responses = len(row["suffix"]) if isinstance(row["suffix"], list) else 0
    check_row({"meta": {}, "reward": [0.0] * n_responses, **known}, fields.where, training=False)
    rewards = [float(value) for value in row["reward"]] if "reward" in row else None
    return Dialogue(row["prefix"][0]), row["suffix"], rewards, dict(row.get("meta", {}))


def _pair(fields: Fields, mapping: Mapping) -> ReadRow:
    chosen, rejected, where = fields.at("chosen"), fields.at("rejected"), fields.where
    if isinstance(chosen, list) and isinstance(rejected, list) and max(len(chosen), len(rejected)) > 1:
        one, other = (_alternating(fields.row[name], f"{where}: {name}") for name in ("chosen", "rejected"))
        if (one.prompt, one.system) != (other.prompt, other.system) or one.reply is None or other.reply is None:
            raise InputError(f"{where}: chosen and rejected (expected the same messages but for the last reply)")
        return replace(one, reply=None), [one.reply, other.reply], [1.0, 0.0], {}
    texts = [_response(chosen, f"{where}: chosen"), _response(rejected, f"{where}: rejected")]
    if not (mapping.prompt or fields.first((*PROMPT_FIELDS, *CONVERSATION_FIELDS))):
        parsed = explain_pair(*texts)
        if not isinstance(parsed, ParsedPair):
            raise InputError(f"{where}: {parsed} (expected a prompt field, or dialogues in the form of raw HH-RLHF)")
        if not has_text(parsed.prefix):
            raise InputError(f"{where}: a prompt without text")
        return Dialogue(parsed.prefix), parsed.suffix, [1.0, 0.0], {}
    dialogue, value = _prompt(fields, mapping, alternating=True), _prompt_value(fields, mapping)
    if isinstance(value, str) and value.startswith("\n\nHuman:"):
        texts = [text.removeprefix(" ") for text in texts]  # prompt + response is the dialogue's text
    return dialogue, texts, [1.0, 0.0], {}


def _conversation(fields: Fields, mapping: Mapping) -> ReadRow:
    name = fields.first(CONVERSATION_FIELDS)
    if not isinstance(fields.at(name), list):
        raise InputError(f"{fields.where}: {name}: {fields.row[name]!r:.40} (expected a list of role and content)")
    dialogue = _prompt(fields, replace(mapping, prompt=(name,)), alternating=True)
    return replace(dialogue, reply=None), [] if dialogue.reply is None else [dialogue.reply], None, {}


def _completions(fields: Fields, mapping: Mapping) -> ReadRow:
    name = next(name for name in LIST_FIELDS if isinstance(fields.row.get(name), list))
    dialogue, texts, _, meta = _mapped(fields, replace(mapping, responses=(name,)))
    rewards = None
    if fields.row.get("scores") is not None and not mapping.rewards:
        where, values = f"{fields.where}: scores", fields.at("scores")
        read = partial(rewards_from, values, len(texts), mapping.ranks, where, mapping.drop_unrated)
        rewards = _rewards(read, mapping)
    return dialogue, texts, rewards, meta


def _mapped(fields: Fields, mapping: Mapping) -> ReadRow:
    values = [fields.at(name) for name in mapping.responses]
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    texts = [_response(value, f"{fields.where}: response {index}") for index, value in enumerate(values)]
    return _prompt(fields, mapping, alternating=True), texts, None, {}


def _prompt_and_response(fields: Fields, mapping: Mapping) -> ReadRow:
    dialogue = _prompt(fields, mapping, alternating=True)
    name = next((name for name in RESPONSE_FIELDS if _is_text(fields, name, mapping)), None)
    if name is None and dialogue.reply is not None:
        return replace(dialogue, reply=None), [dialogue.reply], None, {}
    return dialogue, [] if name is None else [fields.at(name)], None, {}


def _is_text(fields: Fields, name: str, mapping: Mapping) -> bool:
    """Returns whether a field that is neither read nor ignored contains a non-blank text."""
    value = fields.row.get(name)
    return name not in fields.read and name not in mapping.ignore and isinstance(value, str) and bool(value.strip())


# --- their pieces


def _prompt(fields: Fields, mapping: Mapping, alternating: bool = False) -> Dialogue:
    """Returns the prompt, preceded by the turns of `history`; with `alternating`, InputError unless roles alternate."""
    value = _prompt_value(fields, mapping)
    dialogue = read_dialogue(value, f"{fields.where}: {' '.join(_prompt_names(fields, mapping))}")
    earlier = _history(fields, mapping)
    dialogue = replace(dialogue, prompt=[*earlier, *dialogue.prompt])
    if alternating and (earlier or not isinstance(value, str)):
        _check_alternation(dialogue, f"{fields.where}: {' '.join(_prompt_names(fields, mapping))}")
    return dialogue


def _prompt_names(fields: Fields, mapping: Mapping) -> tuple[str, ...]:
    name = fields.first((*PROMPT_FIELDS, *CONVERSATION_FIELDS))
    if not mapping.prompt and name is None:
        expected = f"{', '.join(PROMPT_FIELDS)}, or --prompt_from"
        raise InputError(f"{fields.where}: fields are {', '.join(fields.row)} (expected {expected})")
    return mapping.prompt or (name,)


def _prompt_value(fields: Fields, mapping: Mapping) -> Any:
    """Returns the value of the prompt's field; several fields, or an instruction and its input, are joined as text."""
    names = _prompt_names(fields, mapping)
    values = [fields.at(name) for name in names]
    is_plain = isinstance(values[0], str) and not values[0].startswith("\n\nHuman:")
    has_input = isinstance(fields.row.get("input"), str) and "input" not in mapping.ignore
    if names == (INPUT_OF,) and is_plain and has_input:
        names, values = (INPUT_OF, "input"), [*values, fields.at("input")]
    if len(values) == 1:
        return values[0]
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, str | None):
            raise InputError(f"{fields.where}: {name} is {value!r:.40} (expected a text, as one of several fields)")
    return "\n\n".join(value for value in values if value and value.strip())


def _history(fields: Fields, mapping: Mapping) -> list[str]:
    """Returns the earlier turns in `history`, a list of [user, assistant] pairs or of messages."""
    value = fields.row.get("history")
    if not isinstance(value, list) or not value or "history" in (*(mapping.prompt or ()), *mapping.ignore):
        return []
    where = f"{fields.where}: history"
    value = fields.at("history")
    if all(isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in value):
        turns = [tag + text for pair in value for tag, text in zip((PROMPTER, ASSISTANT), pair, strict=True)]
    elif all(map(is_message, value)):
        dialogue = read_dialogue(value, where)
        turns = dialogue.prompt[:-1] + ([] if dialogue.reply is None else [ASSISTANT + dialogue.reply])
    else:
        raise InputError(f"{where} is {value!r:.40} (expected [user, assistant] texts, or messages)")
    if not all(has_text([turn]) for turn in turns):
        raise InputError(f"{where}: a turn without text (expected words in each)")
    return turns


def _alternating(value: Any, where: str) -> Dialogue:
    dialogue = read_dialogue(value, where)
    _check_alternation(dialogue, where)
    return dialogue


def _check_alternation(dialogue: Dialogue, where: str) -> None:
    if not alternates(dialogue.prompt):
        raise InputError(f"{where}: {NO_ALTERNATION} (expected user and assistant in turns)")


def _response(value: Any, where: str) -> str:
    """Returns the text of a response: a text, an object that holds one, or a list of one message."""
    found = value[0] if isinstance(value, list) and len(value) == 1 else value
    if is_message(found):
        tag, text = read_message(found, where)
        if tag != ASSISTANT:
            raise InputError(f"{where}: {found!r:.60} (expected a message by the assistant)")
        return text
    if isinstance(found, dict):
        refuse_not_text(found, where)
        found = next((found[key] for key in TEXT_KEYS if key in found), found)
    if isinstance(found, list) and found:
        return content_text(found, where)
    if not isinstance(found, str):
        raise InputError(f"{where} is {value!r:.40} (expected a text, a message, or an object with {TEXT_KEYS[0]})")
    refuse_written_messages(found, where)
    return found


def _rewards(read: Callable[[], list[float | None]], mapping: Mapping) -> list[float | None] | None:
    """Returns what `read` returns; None instead of its InputError where the command has no use for rewards."""
    try:
        return read()
    except InputError:
        if mapping.needs_rewards:
            raise
        return None


def _mapped_rewards(fields: Fields, n_responses: int, mapping: Mapping) -> list[float | None]:
    values: Any = [fields.at(path) for path in mapping.rewards]
    is_one_field = len(values) == 1 and isinstance(values[0], list)
    if is_one_field:
        values = values[0]
    may_be_votes = is_one_field and not _is_in_a_list(fields, mapping.rewards[0])
    name = f"{fields.where}: {' '.join(mapping.rewards)}"
    return rewards_from(values, n_responses, mapping.ranks, name, mapping.drop_unrated, may_be_votes)


def _is_in_a_list(fields: Fields, path: str) -> bool:
    """Returns whether the value at a path that was read is the list of the values of several objects."""
    holder = path.rpartition(".")[0]
    return path not in fields.row and holder != "" and isinstance(lookup(fields.row, holder, fields.where), list)


def _identity(fields: Fields, meta: dict, mapping: Mapping) -> str | None:
    """Returns the prompt's id given by the row, or None."""
    name = mapping.id or next((name for name in ID_FIELDS if fields.row.get(name) is not None), None)
    value = fields.at(name) if name else meta.get("id")
    if value == "" or (value is None and not mapping.id):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"{fields.where}: {name or 'meta.id'} is {value!r:.40} (expected a text or a whole number)")
    return str(value)


# --- what is kept beside the prompt, and what is left out


def _columns(fields: Fields, meta: dict, mapping: Mapping) -> dict[str, Any]:
    """Returns the fields to keep with the prompt: texts, numbers and truth values that are no part of it."""
    if not mapping.keep:
        return {}
    apart = (*fields.read, *mapping.ignore, *CONTEXT_FIELDS, *PROMPT_FIELDS, *ID_FIELDS)
    own = plain_fields(fields.row, apart)
    fields.read |= own.keys()
    earlier = meta.get(COLUMNS)
    return {**(earlier if isinstance(earlier, dict) else {}), **own}


def _system(fields: Fields, dialogue: Dialogue, mapping: Mapping) -> str:
    """Returns the row's system messages, from the dialogue and from separate fields."""
    own = [fields.at(name) for name in SYSTEM_FIELDS if _is_text(fields, name, mapping)]
    return "\n\n".join([*([dialogue.system] if dialogue.system else []), *own])


def _texts_in(value: Any) -> Iterator[str]:
    """Yields the non-blank texts in a value, at any depth."""
    if isinstance(value, str) and value.strip():
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(item)


def _unread(fields: Fields, dialogue: Dialogue, responses: list[str], mapping: Mapping) -> Iterator[str]:
    """Yields the names of fields with text that were neither read nor ignored, also those of messages and responses.

    A text that is repeated in the prompt or a response, as whole lines, counts as read.
    """
    read = [render_prompt(dialogue.prompt), *(split_turn(turn)[1] for turn in dialogue.prompt), *responses]
    lines = [f"\n{text.strip()}\n" for text in read]
    for name, value in fields.row.items():
        if name not in fields.read and name not in mapping.ignore and name not in ID_FIELDS:
            if any(not any(f"\n{text.strip()}\n" in known for known in lines) for text in _texts_in(value)):
                yield name
    beside = [f"{path}.{key}" for path in fields.paths for key in _beside_text(fields.at(path))]
    for name in dict.fromkeys(beside):
        if name not in mapping.ignore and not any(f"{path}.".startswith(f"{name}.") for path in fields.paths):
            yield name


def _beside_text(value: Any) -> Iterator[str]:
    """Yields the keys with text of the messages, parts and response objects in a value, but for those that are read."""
    if isinstance(value, list):
        for item in value:
            yield from _beside_text(item)
    elif isinstance(value, dict):
        keys = message_form(value) or tuple(key for key in TEXT_KEYS if key in value)[:1]
        for key in value if keys else ():
            if key not in (*keys, "type") and any(_texts_in(value[key])):
                yield key
        yield from _beside_text([value[key] for key in keys])


def _check_context(fields: Fields, unread: list[str], mapping: Mapping) -> None:
    """Raises InputError for an unread field whose name says that it belongs to the prompt."""
    belongs = (*CONTEXT_FIELDS, *(() if mapping.prompt else PROMPT_FIELDS))
    for name in unread:
        if name in belongs:
            expected = f"all fields of the prompt in prepare.py --prompt_from, or --ignore {name}"
            raise InputError(f"{fields.where}: {name} holds text that the prompt would lose (expected {expected})")


def _check_meta(meta: dict, n_responses: int, where: str) -> None:
    """Raises InputError if meta cannot be written as JSON, or if prepare.py's own keys in it have invalid values."""
    try:
        json.dumps(meta, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{where}: meta cannot be written as JSON ({error})") from None
    source, origins = meta.get("source"), meta.get(RESPONSE_FROM)
    if not isinstance(source, str | None):
        raise InputError(f"{where}: meta.source is {source!r:.40} (expected a text)")
    is_list = isinstance(origins, list) and all(isinstance(origin, str) for origin in origins)
    if origins is not None and not (is_list and len(origins) == n_responses):
        expected = f"a name for each of the {n_responses} responses"
        raise InputError(f"{where}: meta.{RESPONSE_FROM} is {origins!r:.40} (expected {expected})")
