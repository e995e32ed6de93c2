"""Joins answers and judgements returned by labellers to their prompts, by id.

For prepare.py --join. A file is JSONL, a JSON array, CSV or XLSX (with a header), or the export of a labelling tool
(`tool_exports`); the fields of a row determine its kind:
    id, response [, answer] [, score | rank] [, from]    an answer, named by `answer` (default: 0, 1, ... per prompt)
    id, answer, score | rank                             a judgement of one answer
    id, ranking                                          answers from the best on, [["b"], ["a", "c"]] or "b > a = c"
    id, best, worst                                      the best and the worst of a prompt's answers
    id, a, b, vote                                       a judgement between two answers: a, b or tie
and `annotator` names who judged. Where no file holds answers, the prompts' own responses are judged, named 0, 1, ...
"""

import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

from data_preprocess.command import InputError
from data_preprocess.files import read_jsonl
from data_preprocess.preparing.agreement import Judged, agreement_lines, name_key
from data_preprocess.preparing.candidates import FROM_DATA, Candidates, responses_digest
from data_preprocess.preparing.csv_rows import delimiter_of, read_csv
from data_preprocess.preparing.row_formats import named
from data_preprocess.preparing.tool_exports import COLUMNS, KINDS, own_rows, reads_header
from data_preprocess.preparing.votes import (
    BRADLEY_TERRY,
    COPELAND,
    MEAN,
    bradley_terry,
    copeland,
    is_circle,
    mean_values,
    number,
    preference,
    values_of_ranking,
)
from data_preprocess.preparing.xlsx_rows import is_xlsx, read_xlsx
from data_preprocess.ranking import values_of

OF_POOL = ("prompt",)  # columns of our own exports that the pool holds
NAMED_GAPS = 5  # items named in a line; the rest are counted
Rows = list[tuple[str, str, dict]]  # path, "path:line", row


@dataclass
class Returned:
    """The labels returned for one prompt."""

    answers: dict[str, str] = field(default_factory=dict)  # name -> text
    origins: dict[str, str] = field(default_factory=dict)
    # judge -> answer -> value, the higher the better: a score, minus the rank, 1 for the best and -1 for the worst
    values: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    votes: list[tuple[str, str, str, float]] = field(default_factory=list)  # judge, a, b, `preference`

    def pairs(self) -> list[tuple[str, str, float]]:
        """Returns all votes, also those that values of one judge imply: (a, b, +1 for a, -1 for b, 0 for a tie)."""
        implied = [
            (a, b, float((values[a] > values[b]) - (values[a] < values[b])))
            for values in self.values.values()
            for a, b in combinations(values, 2)
        ]
        return [*(vote[1:] for vote in self.votes), *implied]

    def judged(self) -> list[str]:
        """Returns the names of the judged answers, in the order of the answers."""
        names = {name for values in self.values.values() for name in values}
        names |= {name for vote in self.votes for name in vote[1:3]}
        return [name for name in self.answers if name in names]


class Joined(NamedTuple):
    """The prompts with judged answers, and what to tell about them."""

    pool: list[Candidates]
    missing: list[str]  # a line for each kind of gap
    notes: list[str]  # fields that are not read, agreement, warnings


def join(prompts: list[Candidates], paths: Sequence[str], combine: str | None = None) -> Joined:
    """Returns the prompts with the returned answers and judgements as responses and rewards.

    Args:
        prompts: the pool.
        paths: files of answers and judgements.
        combine: MEAN of scores, of minus ranks, or of 1 for the best and -1 for the worst (the default of these);
            COPELAND (the default of votes) or BRADLEY_TERRY, of votes or of the pairs that other judgements imply.

    Raises:
        InputError: naming file and line: no rows, an unknown prompt id, an unknown or repeated answer, judgements of
            different kinds, or without an annotator where others name theirs; or if no prompt has a judged answer.
    """
    tables = {path: list(read_table(path)) for path in paths}
    rows = [(path, where, row) for path, table in tables.items() for where, row in table]
    prompts = unique_prompts(prompts, to_rank=not any("response" in row for _, _, row in rows))
    returned = {candidates.meta["id"]: Returned() for candidates in prompts}
    changed = _restore(prompts, rows)  # before answers without a name get one
    _add_answers(prompts, returned, rows)
    kind, by_name = _add_judgements(returned, rows)
    combine = combine or (COPELAND if kind == "vote" else MEAN)
    if kind == "vote" and combine == MEAN:
        raise InputError(f"--combine {MEAN}: the judgements are votes (expected {COPELAND} or {BRADLEY_TERRY})")
    gaps: dict[str, list[str]] = defaultdict(list)
    joined = [_candidates(candidates, returned[candidates.meta["id"]], combine, gaps) for candidates in prompts]
    missing = [f"{what}: {_listed(items)}" for what, items in gaps.items()]
    kept = [candidates for candidates in joined if candidates.responses]
    if not kept:
        raise InputError(f"--join {' '.join(paths)}: no prompt has a judged answer ({'; '.join(missing)})")
    columns = {name for candidates in prompts for name in candidates.columns()}
    notes = [line for path, table in tables.items() if (line := _unread(path, table, columns))]
    notes += [*changed, *_warnings(kept, returned), *_agreement(returned, kind, by_name)]
    return Joined(kept, missing, notes)


def _unread(path: str, table: list[tuple[str, dict]], columns: set[str]) -> str:
    """Returns a line that names the unknown fields of a file; `columns` are the pool's."""
    known = {*COLUMNS, *OF_POOL, *columns}
    unread = Counter(name for _, row in table for name in row if name not in known)
    return f"{path}: fields that are not read: {named(unread)}" if unread else ""


def _listed(items: list[str]) -> str:
    more = f" and {len(items) - NAMED_GAPS} more" if len(items) > NAMED_GAPS else ""
    return f"{len(items)} ({', '.join(items[:NAMED_GAPS])}{more})"


def unique_prompts(pool: list[Candidates], to_rank: bool = False) -> list[Candidates]:
    """Returns each prompt once, by id; InputError if two different prompts share an id.

    `to_rank`: also if two rows of a prompt have different responses, for nobody would rank those of the second.
    """
    by_id: dict[str, Candidates] = {}
    for candidates in pool:
        first, problem = by_id.setdefault(candidates.meta["id"], candidates), ""
        if first.turns != candidates.turns:
            found = f"id {candidates.meta['id']} is already used by the prompt in line {first.meta['line']}"
            problem = f"{found} (expected a unique id)"
        elif to_rank and first.responses != candidates.responses:
            found = f"prompt {candidates.meta['id']} has other responses than in line {first.meta['line']}"
            problem = f"{found} (expected all responses to a prompt in one row)"
        if problem:
            raise InputError(f"{candidates.where}: {problem}")
    return list(by_id.values())


def read_table(path: str) -> Iterator[tuple[str, dict]]:
    """Yields ("path:line", row) of a file in the forms of this module's docstring; of tables only non-empty fields.

    InputError for a file without rows, and for a table without a header of distinct column names.
    """
    if is_xlsx(path):
        rows = _filled(read_xlsx(path, _check_header))
    elif delimiter_of(path):
        rows = _filled(read_csv(path, _check_header, allow_short=True))
    else:
        rows = ((f"{path}:{line}", row) for line, row in read_jsonl(path))
    empty = True
    for where, row in rows:
        empty = False
        yield from own_rows(where, row)
    if empty:
        raise InputError(f"{path}: no rows (expected answers or judgements)")


def _filled(rows: Iterator[tuple[str, dict]]) -> Iterator[tuple[str, dict]]:
    for where, texts in rows:
        # The text of an answer may be empty; a judgement may not.
        yield where, {name: text for name, text in texts.items() if text or name == "response"}


def _check_header(where: str, names: list[str]) -> None:
    if reads_header(names):
        return
    if "id" not in names or not set(names) & {"response", *KINDS}:
        found = f"no header, columns are {', '.join(map(repr, names))!s:.200}" if names else "the file is empty"
        raise InputError(f"{where}: {found} (expected id and others of {', '.join(COLUMNS)}, with commas between)")


# --- reading rows


def _as_known(name: object, names: Container[str]) -> str:
    """Returns a name as it is known, 3 for the 3.0 that a table has where a column of numbers has gaps."""
    text = str(name)
    whole = text.removesuffix(".0")
    return whole if text not in names and whole in names else text


def _of(returned: dict[str, Returned], row: dict, where: str) -> Returned:
    identity = _as_known(row.get("id", ""), returned)
    if identity not in returned:
        raise InputError(f"{where}: id {identity!r:.40} (expected the id of a prompt of --source)")
    return returned[identity]


def _add_answers(prompts: list[Candidates], returned: dict[str, Returned], rows: Rows) -> None:
    """Adds all answers first, since a judgement may be in an earlier file; without any, the prompts' own responses."""
    answers = [(where, row) for _, where, row in rows if "response" in row]
    for where, row in answers:
        _add_answer(_of(returned, row, where), row, where)
    for prompt in returned.values():  # numbers are places in the data, whose order a shuffled table does not keep
        names = sorted(prompt.answers, key=lambda name: (len(name), name) if name.isdecimal() else (0, ""))
        prompt.answers = {name: prompt.answers[name] for name in names}
    for candidates in () if answers else prompts:
        prompt = returned[candidates.meta["id"]]
        prompt.answers = {str(index): text for index, text in enumerate(candidates.responses)}
        prompt.origins = dict(zip(prompt.answers, candidates.response_from(), strict=True))


def _add_answer(prompt: Returned, row: dict, where: str) -> None:
    name = str(len(prompt.answers) if row.get("answer") is None else row["answer"])
    if not isinstance(row["response"], str):
        raise InputError(f"{where}: response is {row['response']!r:.40} (expected a text)")
    # The copies of a sheet that several people filled in repeat its answers.
    is_copy = prompt.answers.get(name) == row["response"] and (row.get("annotator") or not _kind(row, where))
    if name in prompt.answers and not is_copy:
        raise InputError(f"{where}: a second answer {name!r} to prompt {row['id']} (expected another name)")
    row["answer"] = name
    prompt.answers[name] = row["response"]
    prompt.origins[name] = str(FROM_DATA if row.get("from") is None else row["from"])


def _add_judgements(returned: dict[str, Returned], rows: Rows) -> tuple[str, bool]:
    """Adds all judgements; returns (their kind, whether annotators are named)."""
    kinds, unnamed, a_named = {}, "", False
    for path, where, row in rows:
        kind = _kind(row, where)
        if kind is None:
            continue
        prompt, annotator = _of(returned, row, where), row.get("annotator")
        name = "" if annotator is None else str(annotator).strip()
        is_named = name != ""
        a_named, unnamed = a_named or is_named, unnamed or ("" if is_named else where)
        _add_judgement(prompt, kind, row, where, name or path, is_named)
        kinds.setdefault("rank" if kind == "ranking" else kind, where)
    if len(kinds) > 1:
        found = ", ".join(f"{kind} ({where})" for kind, where in kinds.items())
        raise InputError(f"--join: judgements of different kinds: {found} (expected {', '.join(KINDS)}: one of them)")
    if a_named and unnamed:
        raise InputError(f"{unnamed}: no annotator (expected a name, since other judgements have one)")
    return next(iter(kinds), "score"), a_named


def _kind(row: dict, where: str) -> str | None:
    """Returns the kind of the judgement in a row; None for an answer without one."""
    kinds = [kind for kind in KINDS if row.get(kind) is not None]
    if len(kinds) > 1 or not (kinds or "response" in row):
        expected = "response, answer and score or rank, ranking, best and worst, or a, b and vote"
        raise InputError(f"{where}: fields are {', '.join(row)} (expected id with {expected})")
    return kinds[0] if kinds else None


def _add_judgement(prompt: Returned, kind: str, row: dict, where: str, judge: str, is_named: bool) -> None:
    """Adds a judgement. That of a named annotator replaces the earlier one on the same answer, pair or prompt."""

    def known(given: object) -> str:
        name = _as_known(given, prompt.answers)
        if name not in prompt.answers:
            there = ", ".join(prompt.answers) or "none"
            raise InputError(f"{where}: answer {name!r:.40} to prompt {row['id']} (expected one of: {there})")
        return name

    if row.get("digest", digest := responses_digest(list(prompt.answers.values()))) != digest:
        raise InputError(f"{where}: prompt {row['id']} had other responses when it was ranked (expected the same pool)")
    if kind == "vote":
        a, b = known(row.get("a", "")), known(row.get("b", ""))
        if a == b:
            raise InputError(f"{where}: a vote between answer {a!r} and itself")
        if is_named:
            prompt.votes = [vote for vote in prompt.votes if vote[0] != judge or {vote[1], vote[2]} != {a, b}]
        prompt.votes.append((judge, a, b, preference(row["vote"], where)))
        return
    if kind == "ranking":
        values = {known(name): value for name, value in values_of_ranking(row["ranking"], where).items()}
    elif kind == "best":
        best, worst = known(row["best"]), known(row.get("worst", ""))
        if best == worst:
            raise InputError(f"{where}: answer {best!r} is both best and worst (expected two answers)")
        values = {name: float(name == best) - float(name == worst) for name in prompt.answers}
    else:
        value = number(row[kind], f"{where}: {kind}")
        values = {known(row.get("answer", "")): value if kind == "score" else 0.0 - value}
    if is_named and kind in ("ranking", "best"):  # on all answers together: values of two such would make new ties
        prompt.values[judge].clear()
    nth = 0
    while not is_named and prompt.values[f"{judge} {nth}"].keys() & values.keys():
        nth += 1  # rows without a name that judge an answer again are another judge's
    prompt.values[judge if is_named else f"{judge} {nth}"].update(values)


# --- rewards, and what to say about them


def _candidates(candidates: Candidates, prompt: Returned, combine: str, gaps: dict[str, list[str]]) -> Candidates:
    identity, judged = candidates.meta["id"], prompt.judged()
    if not prompt.answers:
        gaps["prompts without an answer"].append(identity)
    elif not judged:
        gaps["prompts without a judgement"].append(identity)
    else:
        gaps_here = [f"{identity}: {name}" for name in prompt.answers if name not in judged]
        if gaps_here:
            gaps["answers without a judgement"] += gaps_here
    if prompt.votes:
        voted = {frozenset(vote[1:3]) for vote in prompt.votes}
        lacking = [f"{identity}: {a} and {b}" for a, b in combinations(judged, 2) if frozenset((a, b)) not in voted]
        if lacking:
            gaps["pairs of answers without a vote"] += lacking
    rewards = _rewards(prompt, judged, combine)
    texts, origins = ([source[name] for name in judged] for source in (prompt.answers, prompt.origins))
    own = candidates.responses
    places = [own.index(text) if text in own else None for text in texts]
    return Candidates(candidates.prefix, texts, rewards, values_of(candidates.meta, len(own), places), origins)


def _rewards(prompt: Returned, judged: list[str], combine: str) -> list[float]:
    if combine == MEAN:
        return mean_values(judged, list(prompt.values.values()))
    place = {name: index for index, name in enumerate(judged)}
    votes = [(place[a], place[b], vote) for a, b, vote in prompt.pairs()]
    return {COPELAND: copeland, BRADLEY_TERRY: bradley_terry}[combine](len(judged), votes)


def _restore(prompts: list[Candidates], rows: Rows) -> list[str]:
    """Gives answers that a spreadsheet changed only in line ends or blanks around them the text that they had.

    Returns:
        A line that names the answers whose text is another than the prompt's own response of the number they give.
    """
    own = {(one.meta["id"], str(index)): text for one in prompts for index, text in enumerate(one.responses)}
    changed: dict[str, None] = {}
    for *_, row in rows:
        text, identity = row.get("response"), (str(row.get("id")), str(row.get("answer")))
        if not isinstance(text, str) or own.get(identity, text) == text:
            continue
        if _as_lines(text) == _as_lines(own[identity]):
            row["response"] = own[identity]
        else:
            changed[": ".join(identity)] = None
    what = "answers that differ from the response of --source (written anew, or changed by a spreadsheet)"
    return [f"{what}: {_listed(list(changed))}"] if changed else []


def _as_lines(text: str) -> list[str]:
    """Returns the lines of a text, whichever characters end them."""
    return re.split("\r\n|\r|\n", text.strip())


def _warnings(pool: list[Candidates], returned: dict[str, Returned]) -> list[str]:
    """Returns a line for each kind of prompt whose judgements say little: all answers tied, contradictions, circles."""
    tied = [one.meta["id"] for one in pool if len(one.responses) > 1 and len(set(one.rewards)) == 1]
    contradicting = [identity for identity, prompt in returned.items() if _contradicts(prompt.votes)]
    circles = [identity for identity, prompt in returned.items() if is_circle(prompt.pairs())]
    found = {
        "prompts with all answers tied, which give no pairs": tied,
        "prompts where one judge voted both ways on a pair": contradicting,
        "prompts where the majority prefers in a circle (a over b, b over c, c over a)": circles,
    }
    return [f"warning: {what}: {_listed(items)}" for what, items in found.items() if items]


def _contradicts(votes: list[tuple[str, str, str, float]]) -> bool:
    seen: dict[tuple[str, frozenset], set[str]] = defaultdict(set)
    for judge, a, b, vote in votes:
        seen[judge, frozenset((a, b))].add(a if vote > 0 else b if vote < 0 else "")
    return any(len(winners - {""}) > 1 for winners in seen.values())


def _agreement(returned: dict[str, Returned], kind: str, by_name: bool) -> list[str]:
    if not by_name:
        return []
    spellings: dict[str, set[str]] = defaultdict(set)
    judged = []
    for prompt in returned.values():
        units = Judged(prompt.values if kind != "vote" else {}, defaultdict(dict))
        for judge, a, b, vote in prompt.votes:
            first, second = sorted((a, b))
            units.pairs[judge][first, second] = vote if first == a else -vote
        judged.append(units)
        for judge in (*units.values, *units.pairs):
            spellings[name_key(judge)].add(judge)
    doubts = [
        f"warning: annotators {' and '.join(sorted(names))} count as different people (expected one spelling of a name)"
        for names in spellings.values()
        if len(names) > 1
    ]
    return [*doubts, *agreement_lines(judged, "interval" if kind == "score" else "ordinal")]
