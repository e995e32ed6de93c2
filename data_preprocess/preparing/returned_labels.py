"""Joins answers and judgements returned by labellers to their prompts, by id.

For prepare.py --join. A file is JSONL or CSV (with a header); the fields of a row determine its kind:
    id, response [, answer] [, score | rank] [, from]    an answer, named by `answer` (default: 0, 1, ... per prompt)
    id, answer, score | rank                             a judgement of one answer
    id, a, b, vote                                       a judgement between two answers: a, b or tie
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean

from data_preprocess.command import InputError
from data_preprocess.files import read_jsonl
from data_preprocess.preparing.candidates import FROM_DATA, Candidates
from data_preprocess.preparing.csv_rows import delimiter_of, read_csv
from data_preprocess.preparing.row_formats import named
from data_preprocess.preparing.votes import copeland, number, preference

KINDS = ("score", "rank", "vote")
COLUMNS = ("id", "answer", "response", "from", *KINDS, "a", "b")


@dataclass
class Returned:
    """The labels returned for one prompt."""

    answers: dict[str, str] = field(default_factory=dict)  # name -> text
    origins: dict[str, str] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # scores, or minus ranks
    votes: list[tuple[str, str, float]] = field(default_factory=list)


def join(prompts: list[Candidates], paths: list[str]) -> tuple[list[Candidates], list[str], list[str]]:
    """Returns the prompts with the returned answers and judgements as responses and rewards.

    Several judgements of one answer are averaged; votes become Copeland scores, each pair decided by the majority of
    its votes. Responses that the prompts already had are replaced.

    Returns:
        (prompts with an answer; one line per missing item: prompts without answers, answers without a judgement (which
        are left out of the rankings); one line per file with fields that are not read).

    Raises:
        InputError: naming file and line: no rows, an unknown prompt id, an unknown or repeated answer, judgements of
            different kinds; or if no prompt has a judged answer.
    """
    prompts = unique_prompts(prompts)
    returned = {candidates.meta["id"]: Returned() for candidates in prompts}
    tables = {path: list(read_table(path)) for path in paths}
    rows = [row for table in tables.values() for row in table]
    for where, row in rows:  # all answers first, since a judgement may be in an earlier file
        if "response" in row:
            _add_answer(_of(returned, row, where), row, where)
    kinds = {kind: where for where, row in rows if (kind := _add_judgement(_of(returned, row, where), row, where))}
    if len(kinds) > 1:
        found = ", ".join(f"{kind} ({where})" for kind, where in kinds.items())
        raise InputError(f"--join: judgements of different kinds: {found} (expected {', '.join(KINDS)}: one of them)")
    missing: list[str] = []
    joined = [_candidates(candidates, returned[candidates.meta["id"]], missing) for candidates in prompts]
    kept = [candidates for candidates in joined if candidates.responses]
    if not kept:
        raise InputError(f"--join {' '.join(paths)}: no prompt has a judged answer ({missing[0]}, ...)")
    return kept, missing, [line for path, table in tables.items() if (line := _unread(path, table))]


def _unread(path: str, table: list[tuple[str, dict]]) -> str:
    """Returns a line that names the unknown fields of a file."""
    unread = Counter(name for _, row in table for name in row if name not in COLUMNS)
    return f"{path}: fields that are not read: {named(unread)}" if unread else ""


def unique_prompts(pool: list[Candidates]) -> list[Candidates]:
    """Returns each prompt once, by id; InputError if two different prompts share an id."""
    by_id: dict[str, Candidates] = {}
    for candidates in pool:
        first = by_id.setdefault(candidates.meta["id"], candidates)
        if first.prefix != candidates.prefix:
            where = f"{candidates.meta['source']}:{candidates.meta['line']}"
            found = f"id {candidates.meta['id']} is already used by the prompt in line {first.meta['line']}"
            raise InputError(f"{where}: {found} (expected a unique id)")
    return list(by_id.values())


def read_table(path: str) -> Iterator[tuple[str, dict]]:
    """Yields ("path:line", row) of a JSONL or CSV file; for CSV only the non-empty fields.

    InputError for a file without rows, and for a CSV file without a header of distinct column names.
    """
    rows = _csv_rows(path) if delimiter_of(path) else ((f"{path}:{line}", row) for line, row in read_jsonl(path))
    empty = True
    for where, row in rows:
        yield where, row
        empty = False
    if empty:
        raise InputError(f"{path}: no rows (expected answers or judgements)")


def _csv_rows(path: str) -> Iterator[tuple[str, dict]]:
    for where, texts in read_csv(path, _check_header, allow_short=True):
        # The text of an answer may be empty; a judgement may not.
        yield where, {name: text for name, text in texts.items() if text or name == "response"}


def _check_header(where: str, names: list[str]) -> None:
    if "id" not in names or not set(names) & {"response", *KINDS}:
        found = f"no header, columns are {', '.join(map(repr, names))!s:.200}" if names else "the file is empty"
        raise InputError(f"{where}: {found} (expected id and others of {', '.join(COLUMNS)}, with commas between)")


def _of(returned: dict[str, Returned], row: dict, where: str) -> Returned:
    identity = str(row.get("id", ""))
    if identity not in returned:
        raise InputError(f"{where}: id {identity!r:.40} (expected the id of a prompt of --source)")
    return returned[identity]


def _add_answer(prompt: Returned, row: dict, where: str) -> None:
    name = str(len(prompt.answers) if row.get("answer") is None else row["answer"])
    if not isinstance(row["response"], str):
        raise InputError(f"{where}: response is {row['response']!r:.40} (expected a text)")
    if name in prompt.answers:
        raise InputError(f"{where}: a second answer {name!r} to prompt {row['id']} (expected another name)")
    row["answer"] = name
    prompt.answers[name] = row["response"]
    prompt.origins[name] = str(FROM_DATA if row.get("from") is None else row["from"])


def _add_judgement(prompt: Returned, row: dict, where: str) -> str | None:
    """Adds the judgement in a row and returns its kind; None for an answer without one."""
    kinds = [kind for kind in KINDS if row.get(kind) is not None]
    if len(kinds) > 1 or not (kinds or "response" in row):
        expected = "response, answer and score or rank, or a, b and vote"
        raise InputError(f"{where}: fields are {', '.join(row)} (expected id with {expected})")
    if not kinds:
        return None
    names = [str(row.get(key, "")) for key in (("a", "b") if kinds[0] == "vote" else ("answer",))]
    for name in names:
        if name not in prompt.answers:
            there = ", ".join(prompt.answers) or "none"
            raise InputError(f"{where}: answer {name!r} to prompt {row['id']} (expected one of: {there})")
    if kinds[0] == "vote":
        if names[0] == names[1]:
            raise InputError(f"{where}: a vote between answer {names[0]!r} and itself")
        prompt.votes.append((*names, preference(row["vote"], where)))
    else:
        value = number(row[kinds[0]], f"{where}: {kinds[0]}")
        prompt.values[names[0]].append(value if kinds[0] == "score" else 0.0 - value)
    return kinds[0]


def _candidates(candidates: Candidates, prompt: Returned, missing: list[str]) -> Candidates:
    identity = candidates.meta["id"]
    if not prompt.answers:
        missing.append(f"prompt {identity}: no answer")
    voted = {name for a, b, _ in prompt.votes for name in (a, b)}
    judged = [name for name in prompt.answers if name in prompt.values or name in voted]
    missing += [f"prompt {identity}: no judgement of answer {n}" for n in prompt.answers if n not in judged]
    rewards = {name: fmean(values) for name, values in prompt.values.items()}
    if prompt.votes:
        place = {name: index for index, name in enumerate(judged)}
        pairs = {frozenset(vote[:2]) for vote in prompt.votes}
        for i, a in enumerate(judged):
            lacking = [b for b in judged[i + 1 :] if frozenset((a, b)) not in pairs]
            missing += [f"prompt {identity}: no vote between answers {a} and {b}" for b in lacking]
        counts = copeland(len(judged), [(place[a], place[b], vote) for a, b, vote in prompt.votes])
        rewards = dict(zip(judged, counts, strict=True))
    texts, origins = ([source[name] for name in judged] for source in (prompt.answers, prompt.origins))
    return Candidates(candidates.prefix, texts, [rewards[name] for name in judged], candidates.meta, origins)
