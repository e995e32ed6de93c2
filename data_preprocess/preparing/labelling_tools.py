"""Exports a pool for people to rank its responses: Argilla, Label Studio, and a table for a spreadsheet.

For prepare.py --export. `tool_exports` and `returned_labels` read what comes back. A prompt's columns (its other
fields) go along as metadata. Each prompt's responses are shuffled: many data sets list the better one first.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

from data_preprocess.command import InputError
from data_preprocess.files import write_files
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.preparing.csv_rows import csv_text, delimiter_of
from data_preprocess.preparing.export import prompt_messages
from data_preprocess.preparing.tool_exports import COLUMNS, ORDER, PROMPT_ID, RANKING, RESPONSE
from data_preprocess.preparing.xlsx_rows import is_xlsx, write_xlsx

GUIDELINES = "Rank the responses to the prompt, the best first. Responses of equal quality may share a rank."
LABEL_STUDIO = f"""<View>
  <Header value="Prompt"/>
  <Text name="prompt" value="$prompt"/>
  <List name="responses" value="$items" title="Responses, the best on top"/>
  <Ranker name="{RANKING}" toName="responses"/>
</View>
"""
RECORDS, SETTINGS, DATASET = ARGILLA_FILES = ("records.json", ".argilla/settings.json", ".argilla/dataset.json")
TABLE = ("id", "prompt", "answer", "response", "rank", "annotator")  # columns; people fill in the last two
FORMULA = ("=", "+", "-", "@")  # what begins with one of them, spreadsheets compute when they open a CSV file


def require_responses(pool: Sequence[Candidates]) -> int:
    """Returns the largest number of responses; InputError, naming the line, for a prompt with fewer than two."""
    for one in pool:
        if len(one.responses) < 2:
            where, found = one.where, len(one.responses)
            raise InputError(f"{where}: {found} responses (expected at least two to rank, as annotate.py samples them)")
    return max(len(one.responses) for one in pool)


def shown_order(candidates: Candidates, annotator: str | None = None) -> list[int]:
    """Returns the indices of the responses in the order in which people see them, always the same.

    `annotator`: who has an order of their own; None: all people share one.
    """
    order, identity = list(range(len(candidates.responses))), candidates.meta["id"]
    Random(identity if annotator is None else f"{annotator} {identity}").shuffle(order)
    return order


def prompt_text(candidates: Candidates) -> str:
    """Returns the prompt for a reader: a single turn as it is, several with who speaks."""
    said = prompt_messages(candidates)
    if len(said) == 1:
        return said[0]["content"]
    return "\n\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in said)


def write_argilla(folder: Path, pool: Sequence[Candidates], name: str) -> None:
    """Writes the folder that `rg.Dataset.from_disk` of Argilla 2 reads: dataset, settings and records.

    A prompt with fewer responses than others leaves the last fields empty. The fields hold the responses as shown;
    which is which stands in the record's metadata, from where `--join` reads it.
    """
    most = require_responses(pool)
    names = [f"{RESPONSE}{index}" for index in range(most)]
    fields = [
        _argilla_field("prompt", "chat"),
        *(_argilla_field(field, "text", index < 2) for index, field in enumerate(names)),
    ]
    question = {
        "name": RANKING, "title": "Ranking", "description": GUIDELINES, "required": True, "type": "ranking",
        "settings": {"type": "ranking", "options": [{"value": field, "text": field} for field in names]},
    }  # fmt: skip
    settings = {
        "guidelines": GUIDELINES, "fields": fields, "questions": [question], "metadata": [], "vectors": [],
        "allow_extra_metadata": True, "distribution": {"strategy": "overlap", "min_submitted": 1}, "mapping": None,
    }  # fmt: skip
    dataset = {"name": name, "guidelines": GUIDELINES, "allow_extra_metadata": True, "status": "draft"}
    values = {RECORDS: [_argilla_record(one) for one in pool], SETTINGS: settings, DATASET: dataset}
    write_files({folder / name: [_indented(value)] for name, value in values.items()})


def _indented(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def _argilla_field(name: str, kind: str, required: bool = True) -> dict:
    settings = {"type": kind, "use_markdown": False}
    return {"name": name, "title": name, "required": required, "type": kind, "settings": settings}


def _argilla_record(one: Candidates) -> dict:
    order = shown_order(one)
    texts = {f"{RESPONSE}{place}": one.responses[index] for place, index in enumerate(order)}
    fields = {"prompt": prompt_messages(one), **texts}
    metadata = {**one.columns(), ORDER: " ".join(map(str, order))}
    empty = {"suggestions": {}, "responses": {}, "vectors": {}, "status": "pending"}
    return {"id": one.meta["id"], "fields": fields, "metadata": metadata, **empty}


def write_label_studio(path: Path, pool: Sequence[Candidates]) -> Path:
    """Writes Label Studio's tasks as JSON and, beside them, the labelling configuration; returns the latter's path."""
    require_responses(pool)
    tasks = []
    for one in pool:
        items = [{"id": str(index), "title": "", "body": one.responses[index]} for index in shown_order(one)]
        data = {PROMPT_ID: one.meta["id"], "prompt": prompt_text(one), "items": items}
        tasks.append({"data": {**one.columns(), **data}})
    config = path.with_suffix(".xml")
    write_files({path: [_indented(tasks)], config: [LABEL_STUDIO]})
    return config


def write_table(path: Path, pool: Sequence[Candidates]) -> int:
    """Writes one row per response, with empty columns to fill in, as CSV, TSV or XLSX by the file's ending.

    A column of the pool is left out where `--join` would read it as a judgement, as one called score. InputError for
    two columns that a reader, who strips the names, would take for one.

    Returns:
        The number of rows with a text that a spreadsheet would compute; in XLSX, which stores its kind, none.
    """
    require_responses(pool)
    columns = _table_columns(pool)
    rows = [
        [one.meta["id"], prompt_text(one), str(index), one.responses[index], "", "",
         *(one.columns().get(name, "") for name in columns)]
        for one in pool
        for index in shown_order(one)
    ]  # fmt: skip
    names = [*TABLE, *columns]
    if is_xlsx(path):
        write_xlsx(path, names, rows)
        return 0
    write_files({path: [csv_text([names, *rows], delimiter_of(str(path)))]})
    return sum(any(isinstance(cell, str) and cell.startswith(FORMULA) for cell in row) for row in rows)


def _table_columns(pool: Sequence[Candidates]) -> list[str]:
    """Returns the columns of the pool that go into a table."""
    found = dict.fromkeys(name for one in pool for name in one.columns() if name.strip() not in (*TABLE, *COLUMNS, ""))
    first: dict[str, str] = {}
    for name in found:
        if first.setdefault(name.strip(), name) != name:
            two = f"the columns {first[name.strip()]!r} and {name!r} differ in blanks only"
            raise InputError(f"--export table: {two} (expected --ignore for one of them, or other names)")
    return list(found)
