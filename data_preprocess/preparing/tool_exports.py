"""Reads what labelling tools export as this project's own rows of judgements (`returned_labels`).

Argilla 2: the list that `dataset.records.to_json` writes, or `records.to_list(flatten=True)`. Label Studio: JSON,
JSON-MIN and CSV. Both of tasks that `labelling_tools` wrote: a question or Ranker called RANKING over answers.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from data_preprocess.command import InputError
from data_preprocess.files import parse_json

RANKING = "ranking"  # the name of the question in Argilla and of the Ranker in Label Studio
KINDS = ("score", "rank", "vote", RANKING, "best")  # of judgements in this project's own rows
COLUMNS = ("id", "answer", "response", "from", *KINDS, "worst", "a", "b", "annotator", "digest")  # of these rows
RESPONSE = "response_"  # before a response's place in Argilla's fields and values
ORDER = "response_order"  # in Argilla's metadata: the name of the answer in each place
PROMPT_ID = "prompt_id"  # in Label Studio's data; its exports call the task's own number id
NOT_SUBMITTED = ("draft", "discarded")
LABEL_STUDIO_OWN = (PROMPT_ID, "annotation_id", "created_at", "updated_at", "lead_time", "prompt", "items")


def reads_header(names: Sequence[str]) -> bool:
    """Returns whether a table with these columns is Label Studio's."""
    return PROMPT_ID in names and RANKING in names


def own_rows(where: str, row: dict) -> Iterator[tuple[str, dict]]:
    """Yields ("path:line", row) in this project's own form: one per ranking of a tool's row, or the row itself.

    InputError, naming file and line, for a ranking that is not in the tool's form.
    """
    if "fields" in row and "responses" in row:
        yield from _argilla(
            where, row, row["responses"].get(RANKING) or [] if isinstance(row["responses"], dict) else None
        )
    elif f"{RANKING}.responses" in row:
        yield from _argilla_flat(where, row)
    elif isinstance(row.get("data"), dict) and "annotations" in row:
        yield from _label_studio(where, row)
    elif PROMPT_ID in row and ("annotation_id" in row or {"annotator", RANKING} <= row.keys()):
        yield from _label_studio_flat(where, row)
    else:
        yield where, row


def _argilla(where: str, row: dict, responses: Any) -> Iterator[tuple[str, dict]]:
    if not isinstance(responses, list):
        raise InputError(f"{where}: responses is {row['responses']!r:.40} (expected Argilla's, by question)")
    if not isinstance(row["fields"], dict | None):
        raise InputError(f"{where}: fields is {row['fields']!r:.40} (expected Argilla's texts by name)")
    for response in _objects(responses, f"{where}: responses.{RANKING}"):
        if response.get("status") not in NOT_SUBMITTED:
            texts = row["fields"] or row
            yield from _argilla_row(where, row, texts, response.get("value"), response.get("user_id"))


def _argilla_flat(where: str, row: dict) -> Iterator[tuple[str, dict]]:
    name = f"{RANKING}.responses"
    values = _list(row[name], f"{where}: {name}")
    users, statuses = (
        _list(row.get(f"{name}.{of}"), f"{where}: {name}.{of}") or [None] * len(values) for of in ("users", "status")
    )
    if not len(values) == len(users) == len(statuses):
        raise InputError(f"{where}: {name} has {len(values)} values for {len(users)} users")
    for value, user, status in zip(values, users, statuses, strict=True):
        if status not in NOT_SUBMITTED:
            yield from _argilla_row(where, row, row, value, user)


def _argilla_row(where: str, row: dict, texts: dict, value: Any, user: Any) -> Iterator[tuple[str, dict]]:
    """Yields the row of a ranking, [{"value": "response_1", "rank": 1}, ...] with equal ranks; none without a rank.

    `texts`: the fields that people saw. A prompt with fewer responses than others leaves the last ones empty.
    """
    items = value if isinstance(value, list) else []
    if not items or not all(isinstance(item, dict) and isinstance(item.get("value"), str) for item in items):
        raise InputError(f"{where}: {RANKING} is {value!r:.60} (expected a list of value and rank)")
    shown = {name for name, text in texts.items() if name.startswith(RESPONSE) and text}
    names = _argilla_names(row, where)
    groups: dict[int, list[str]] = {}
    for item in items:
        if shown and not item["value"].removeprefix(RESPONSE).isdecimal():
            raise InputError(
                f"{where}: {RANKING} of {item['value']!r:.40} (expected one of: {', '.join(sorted(shown))})"
            )
        rank = _rank(item.get("rank"), where)
        if rank is not None and (item["value"] in shown or not shown):
            groups.setdefault(rank, []).append(names(item["value"]))
    if groups:
        yield where, {"id": row.get("id"), "annotator": user, RANKING: [groups[rank] for rank in sorted(groups)]}


def _rank(value: Any, where: str) -> int | None:
    """Returns a rank, which a tool may write as 1, 1.0 or "1"; None if there is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0
    if value is None or is_number or (isinstance(value, str) and value.isdecimal()):
        return None if value is None else int(value)
    raise InputError(f"{where}: {RANKING} has the rank {value!r:.40} (expected a whole number)")


def _argilla_names(row: dict, where: str) -> Callable[[str], str]:
    """Returns what gives the answer of a value such as response_1; without an order in the metadata, its place."""
    metadata = row.get("metadata")
    order = (metadata if isinstance(metadata, dict) else row).get(ORDER)
    if not isinstance(order, str | None):
        raise InputError(f"{where}: {ORDER} is {order!r:.40} (expected the numbers of the responses, as exported)")
    names = {str(place): name for place, name in enumerate(order.split())} if order else {}

    def name_of(value: str) -> str:
        place = value.removeprefix(RESPONSE)
        if names and place not in names:
            raise InputError(f"{where}: {ORDER} is {order!r:.40} (expected a number for {value} too)")
        return names.get(place, place)

    return name_of


def _label_studio(where: str, row: dict) -> Iterator[tuple[str, dict]]:
    for annotation in _objects(row["annotations"], f"{where}: annotations"):
        if annotation.get("was_cancelled"):
            continue
        by = annotation.get("completed_by")
        annotator = next((by[key] for key in ("email", "id") if by.get(key)), None) if isinstance(by, dict) else by
        for result in _objects(annotation.get("result"), f"{where}: result"):
            if result.get("type") == "ranker":
                ranking = _ranker(result.get("value"), where)
                yield where, {"id": row["data"].get(PROMPT_ID), "annotator": annotator, RANKING: ranking}


def _label_studio_flat(where: str, row: dict) -> Iterator[tuple[str, dict]]:
    """JSON-MIN and CSV: the data's fields beside the annotation; a skipped task has no ranking.

    A column of the pool that is called as one of ours, such as score, is no judgement.
    """
    if row.get(RANKING) in (None, "", [], {}):
        return
    own = {"id": row[PROMPT_ID], "annotator": row.get("annotator"), RANKING: _ranker(row[RANKING], where)}
    yield where, {**{name: value for name, value in row.items() if name not in (*COLUMNS, *LABEL_STUDIO_OWN)}, **own}


def _ranker(value: Any, where: str) -> list[str]:
    """Returns the ids in a Ranker's value: a list, in an object or not, and in CSV as JSON."""
    found = value
    if isinstance(found, str):
        try:
            found = parse_json(found)
        except ValueError:
            found = None
    while isinstance(found, dict | list) and len(found) == 1 and not _are_ids(found):
        (found,) = found.values() if isinstance(found, dict) else found
    if isinstance(found, dict) and "ranker" in found:
        return _ranker(found["ranker"], where)
    if not _are_ids(found):
        raise InputError(f"{where}: {RANKING} is {value!r:.60} (expected Label Studio's list of ids, the best first)")
    return [str(name) for name in found]


def _list(value: Any, where: str) -> list:
    """Returns a list; an empty one for None."""
    if not isinstance(value, list | None):
        raise InputError(f"{where} is {value!r:.40} (expected a list)")
    return value or []


def _objects(value: Any, where: str) -> list[dict]:
    for item in _list(value, where):
        if not isinstance(item, dict):
            raise InputError(f"{where} holds {item!r:.40} (expected objects)")
    return value or []


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str | int) for item in value)
