"""JSON read and written by orjson, exactly as the json module does it.

orjson takes a fraction of the time, but reads some odd data otherwise than json, or not at all, and cannot tell that an
object has a key twice; those are left to json, so that speed is all that changes.
"""

import json
from typing import Any

import orjson

MAX_DEPTH = 100  # of lists and objects in one another; json cannot write what is some times deeper
EXPECTED = "expected one JSON object per line"
BEYOND_64_BITS = 2.0**63  # orjson reads an integer that has no room in 64 bits as a float, at least this large
compact_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps(value, ensure_ascii=False)


def object_in(text: str) -> dict:
    """The JSON object in a line of text, by json; a ValueError says in words why there is none."""
    if not text.strip():
        raise ValueError(f"blank line ({EXPECTED})")
    try:
        row = json.loads(text, object_pairs_hook=_with_each_key_once)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON ({error.msg}, column {error.colno}; {EXPECTED})") from None
    except (ValueError, RecursionError) as error:  # a number of over 4300 digits; lists in lists in lists
        raise ValueError(f"not JSON that can be read ({error})") from None
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, found {type(row).__name__}")
    if _is_deep(row):
        raise ValueError(f"lists or objects more than {MAX_DEPTH} deep in one another")
    check_unicode(text, row)
    return row


def check_unicode(text: str, value: Any) -> None:
    """ValueError where a value, read from a text of JSON, holds half of a surrogate pair: no UTF-8 file can hold it."""
    if "\\ud" in text.lower():
        try:
            compact_json(value).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("holds an unpaired surrogate escape (not valid Unicode)") from None


def _with_each_key_once(pairs: list[tuple[str, Any]]) -> dict:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {repeated!r:.40} stands in one object twice")
    return row


def _is_deep(value: Any) -> bool:
    try:
        _holds_huge_float(value, MAX_DEPTH)
    except RecursionError:
        return True
    return False


def quick_object(line: bytes) -> dict | None:
    """The JSON object in a line, as json.loads reads it; None where json has to decide, and for any other value.

    json decides what orjson refuses: what is no JSON, and of what json takes NaN, Infinity, floats beyond the largest,
    halves of surrogate pairs and lists deeper than 1024; and what `could_differ`.
    """
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and not could_differ(row, line) else None


def could_differ(values: Any, line: bytes) -> bool:
    """Whether json may read a line otherwise than orjson, or object_in refuse it.

    True where among the values, at any depth, is a float that json may have read as an integer, where they are too
    deep to look, and where the line has other quotes than they need: an object may have had a key twice, of which
    orjson keeps the last.

    Args:
        values: what orjson has read.
        line: what it was read from: the values, and nothing else that holds a quote.
    """
    try:
        return _holds_huge_float(values, MAX_DEPTH) or orjson.dumps(values).count(b'"') != line.count(b'"')
    except RecursionError:
        return True


def _holds_huge_float(value: Any, depth: int) -> bool:
    """Whether a list or an object holds one; RecursionError where its lists and objects are deeper than `depth`."""
    if not depth:
        raise RecursionError
    found = False
    for item in value.values() if type(value) is dict else value:
        kind = type(item)
        if kind is float:
            found = found or not -BEYOND_64_BITS < item < BEYOND_64_BITS
        elif kind is list or kind is dict:
            found = _holds_huge_float(item, depth - 1) or found
    return found


def quick_texts(texts: list[str]) -> list[bytes]:
    """json.dumps(text, ensure_ascii=False), in UTF-8, of each text; none holds half of a surrogate pair."""
    return list(map(orjson.dumps, texts))


def quick_strings(texts: list[str]) -> bytes:
    """The same of the list of them."""
    return b"[" + b", ".join(map(orjson.dumps, texts)) + b"]"
