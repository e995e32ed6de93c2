"""JSON read and written by orjson, exactly as the json module does it.

Library. orjson takes a fraction of the time, but reads some odd data otherwise than json, or not at all; those are
left to json, so that speed is all that changes.
"""

import json
from collections.abc import Iterable
from typing import Any

import orjson

BEYOND_64_BITS = 2.0**63  # orjson reads an integer that has no room in 64 bits as a float, at least this large
compact_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps(value, ensure_ascii=False)


def object_in(text: str) -> dict:
    """The JSON object in a line of text, by json; a ValueError says in words why there is none."""
    if not text.strip():
        raise ValueError("blank line (expected one JSON object per line)")
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON ({error.msg}, column {error.colno})") from None
    except (ValueError, RecursionError) as error:  # a number of over 4300 digits; lists in lists in lists
        raise ValueError(f"not JSON that can be read ({error})") from None
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, found {type(row).__name__}")
    if "\\ud" in text.lower():
        # JSON can escape half a surrogate pair, which no UTF-8 file can hold: refuse it before writing.
        try:
            compact_json(row).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("holds an unpaired surrogate escape (not valid Unicode)") from None
    return row


def quick_object(line: bytes) -> dict | None:
    """The JSON object in a line, as json.loads reads it; None where json has to decide, and for any other value.

    json decides what orjson refuses: what is no JSON, and of what json takes NaN, Infinity, floats beyond the largest,
    halves of surrogate pairs and lists deeper than 1024; and what `could_differ`.
    """
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and not could_differ([row]) else None


def could_differ(values: Iterable[Any]) -> bool:
    """Whether among values that orjson has read, at any depth, is a float that json may have read as an integer.

    True also where they are too deep to look.
    """
    try:
        return _holds_huge_float(values)
    except RecursionError:
        return True


def _holds_huge_float(values: Iterable[Any]) -> bool:
    for value in values:
        kind = type(value)
        if kind is float:
            if not -BEYOND_64_BITS < value < BEYOND_64_BITS:
                return True
        elif kind is list:
            if _holds_huge_float(value):
                return True
        elif kind is dict and _holds_huge_float(value.values()):
            return True
    return False


def quick_texts(texts: list[str]) -> list[bytes]:
    """json.dumps(text, ensure_ascii=False), in UTF-8, of each text; none holds half of a surrogate pair."""
    return list(map(orjson.dumps, texts))


def quick_strings(texts: list[str]) -> bytes:
    """The same of the list of them."""
    return b"[" + b", ".join(map(orjson.dumps, texts)) + b"]"
