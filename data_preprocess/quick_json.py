"""JSON read and written by orjson, exactly as the json module does it.

Library. orjson takes a third of the time, but differs from json where data are odd; what it reads or writes otherwise
is left to json here, so that speed is all that changes.
"""

from typing import Any

import orjson

BEYOND_64_BITS = 2.0**63  # orjson reads an integer that has no room in 64 bits as a float, all of them this large


def quick_object(line: bytes) -> dict | None:
    """The JSON object in a line of UTF-8, as json.loads reads it; None where json has to decide.

    That is what orjson refuses: what is no JSON at all, and of what json takes NaN, Infinity, floats beyond the
    largest, halves of surrogate pairs, and lists deeper than 1024. It is also any other value than an object, and a
    float that could have been an integer of more than 64 bits.
    """
    try:
        row = orjson.loads(line)
        return row if isinstance(row, dict) and not _holds_huge_float(row) else None
    except (orjson.JSONDecodeError, RecursionError):
        return None


def _holds_huge_float(value: Any) -> bool:
    if isinstance(value, str):
        return False
    if isinstance(value, float):
        return abs(value) >= BEYOND_64_BITS
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return any(map(_holds_huge_float, value))


def quick_strings(texts: list[str]) -> bytes:
    """json.dumps(texts, ensure_ascii=False) of texts without surrogates, as UTF-8."""
    return b"[" + b", ".join(map(orjson.dumps, texts)) + b"]"
