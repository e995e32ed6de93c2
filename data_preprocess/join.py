"""Answers and judgements that come back from labelling, joined to their prompts by id.

Library, for prepare.py --join. A file is JSONL or CSV; each row is told by its fields:
    id, response [, answer] [, score | rank] [, from]    an answer, named by `answer` (default: 0, 1, ... per prompt)
    id, answer, score | rank                             a judgement of one answer
    id, a, b, vote                                       a judgement between two answers: a, b or tie
"""

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from data_preprocess.candidates import FROM_DATA, Candidates
from data_preprocess.command import InputError
from data_preprocess.files import read_jsonl, read_lines
from data_preprocess.judgements import copeland, number, preference

KINDS = ("score", "rank", "vote")


@dataclass
class Returned:
    """What came back for one prompt."""

    answers: dict[str, str] = field(default_factory=dict)  # name -> text
    origins: dict[str, str] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # scores, or minus ranks
    votes: list[tuple[str, str, float]] = field(default_factory=list)


def join(prompts: list[Candidates], paths: list[str]) -> tuple[list[Candidates], list[str]]:
    """The prompts with what came back for them as responses and rewards.

    Several judgements of one answer are averaged; votes become Copeland counts, a pair decided by the majority of
    its votes. Responses that the prompts had before are left out: what came back is what is ranked.

    Returns:
        Prompts with an answer, and one line per thing that is missing: prompts without answers, answers without
        a judgement (these are left out of the rankings).

    Raises:
        InputError: naming file and line: an id that no prompt has, an unknown or repeated answer, a judgement
            of another kind than those before it.
    """
    prompts = unique_prompts(prompts)
    returned = {candidates.meta["id"]: Returned() for candidates in prompts}
    rows = [(where, row) for path in paths for where, row in read_table(path)]
    for where, row in rows:  # all answers before any judgement, which may stand in an earlier file
        if "response" in row:
            _add_answer(_of(returned, row, where), row, where)
    kinds = {kind: where for where, row in rows if (kind := _add_judgement(_of(returned, row, where), row, where))}
    if len(kinds) > 1:
        found = ", ".join(f"{kind} ({where})" for kind, where in kinds.items())
        raise InputError(f"--join: judgements of different kinds: {found} (expected {', '.join(KINDS)}: one of them)")
    missing: list[str] = []
    joined = [_candidates(candidates, returned[candidates.meta["id"]], missing) for candidates in prompts]
    return [candidates for candidates in joined if candidates.responses], missing


def unique_prompts(pool: list[Candidates]) -> list[Candidates]:
    """Each prompt once, by its id; InputError where two different prompts share an id."""
    by_id: dict[str, Candidates] = {}
    for candidates in pool:
        first = by_id.setdefault(candidates.meta["id"], candidates)
        if first.prefix != candidates.prefix:
            where = f"{candidates.meta['source']}:{candidates.meta['line']}"
            found = f"id {candidates.meta['id']} is another prompt's, of line {first.meta['line']}"
            raise InputError(f"{where}: {found} (expected an id of its own)")
    return list(by_id.values())


def read_table(path: str) -> Iterator[tuple[str, dict]]:
    """Yields ("path:line", row) of a JSONL or CSV file; of a CSV row the fields that are not empty."""
    if Path(path).suffix.lower() != ".csv":
        for line, row in read_jsonl(path):
            yield f"{path}:{line}", row
        return
    # Excel opens its CSV files with a byte-order mark.
    reader = csv.DictReader((text.removeprefix("\ufeff") + "\n" for _, text in read_lines(path)), strict=True)
    try:
        for row in reader:
            if None in row:
                raise InputError(f"{path}:{reader.line_num}: more values than the {len(row) - 1} columns")
            # An answer's text may be empty, a judgement may not.
            yield f"{path}:{reader.line_num}", {k: v for k, v in row.items() if v or (k == "response" and v == "")}
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not valid CSV ({error})") from None


def _of(returned: dict[str, Returned], row: dict, where: str) -> Returned:
    identity = str(row.get("id", ""))
    if identity not in returned:
        raise InputError(f"{where}: id {identity!r:.40} (expected the id of a prompt of --source)")
    return returned[identity]


def _add_answer(prompt: Returned, row: dict, where: str) -> None:
    name = str(row.get("answer", len(prompt.answers)))
    if not isinstance(row["response"], str):
        raise InputError(f"{where}: response is {row['response']!r:.40} (expected a text)")
    if name in prompt.answers:
        raise InputError(f"{where}: a second answer {name!r} to prompt {row['id']} (expected another name)")
    row["answer"] = name
    prompt.answers[name] = row["response"]
    prompt.origins[name] = str(row.get("from", FROM_DATA))


def _add_judgement(prompt: Returned, row: dict, where: str) -> str | None:
    """Adds the judgement that a row holds and returns its kind, None for an answer without one."""
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
