"""Serves a page on this computer on which people rank the responses of each prompt, and saves every ranking at once.

Run: cd labelling; python rank.py SOURCE --output rankings.jsonl [--annotators ANN BOB] [--per_prompt N]

SOURCE is a pool with responses, in any format of prepare.py. Each ranking is a line of --output, on disk before the
page goes on, so a killed server loses none; the same command resumes. Whoever ranks gives a name, and each person's
prompts are ranked from the first one not ranked yet. `prepare.py --source SOURCE --join rankings.jsonl` makes the
training data. The page needs no network, and only this computer reaches it (127.0.0.1); from elsewhere use
`ssh -L 8765:127.0.0.1:8765 HOST`.
"""

import json
import math
import os
import secrets
import sys
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import groupby, islice
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.command import (
    InputError,
    check_name,
    check_settings,
    count,
    parse_settings,
    run,
    setting,
    within,
)
from data_preprocess.files import disk_full_as_oserror, json_line, read_jsonl, sync, try_lock
from data_preprocess.outputs import check_output_file
from data_preprocess.preparing.agreement import name_key
from data_preprocess.preparing.candidates import Candidates, responses_digest
from data_preprocess.preparing.export import check_ending, prompt_messages
from data_preprocess.preparing.labelling_tools import require_responses, shown_order
from data_preprocess.preparing.prepare_config import DataConfig
from data_preprocess.preparing.prepared_data import read_pool
from data_preprocess.preparing.returned_labels import unique_prompts
from data_preprocess.preparing.votes import values_of_ranking
from pics.style import LOOK

ADDRESS = "127.0.0.1"
PAGE = Path(__file__).with_name("rank.html")
MOST_RESPONSES = 9  # each is ranked by one digit key
MAX_BODY = 1 << 16  # bytes of a request


@dataclass(frozen=True, kw_only=True)
class RankConfig:
    """One page of rankings."""

    source: str = setting("the pool: prompts with responses, in any format of prepare.py", positional=True)
    output: Path = setting("file of rankings, JSONL; one that exists is continued", metavar="FILE")
    annotators: tuple[str, ...] = setting(
        "names of those who rank (default: whoever opens the page gives one)", check_name, metavar="NAME", default=()
    )
    per_prompt: int | None = setting(
        "people per prompt, so that many share the work (default: everybody is asked for every prompt)",
        count(),
        metavar="N",
        default=None,
    )
    columns: tuple[str, ...] = setting(
        "fields of the rows to show beside the prompt (default: none, for one may give an answer away)",
        metavar="FIELD",
        default=(),
    )
    port: int = setting("port of the page; 0: a free one", within(at_least=0, at_most=65535), default=8765)

    def __post_init__(self) -> None:
        check_settings(self)
        check_output_file("output", self.output, {"source": [self.source]})
        check_ending(self.output, (".jsonl",))


class Rankings:
    """The prompts to rank, and the rankings so far, in a file to which each is added."""

    def __init__(
        self, pool: list[Candidates], path: Path, per_prompt: int | None = None, columns: tuple[str, ...] = ()
    ):
        """Reads the file of an earlier session; InputError, naming the line, for one of other prompts or responses.

        `per_prompt`: how many people are asked for each prompt; None: all of them. `columns`: what to show of a row.
        """
        self.pool, self.path, self.columns, self.lock = pool, path, columns, threading.Lock()
        self.per_prompt = per_prompt or math.inf
        self.place = {one.meta["id"]: index for index, one in enumerate(pool)}
        self.given: dict[tuple[str, str], list] = {}  # (annotator, id) -> ranking
        if path.exists():
            self._go_on()
        self.size = _size(path)

    def _go_on(self) -> None:
        """Reads the file, and removes what a killed server left of a line that it had not confirmed to the page.

        Nothing is changed before every line is known to be ours.
        """
        content = self.path.read_bytes()
        if content.lstrip().startswith(b"["):
            raise InputError(f"{self.path}:1: a JSON array (expected a file of this command, one ranking per line)")
        end = content.rfind(b"\n") + 1
        unfinished = self._is_unfinished(content[end:])
        rows = islice(read_jsonl(self.path), content.count(b"\n") if unfinished else None)
        for number, row in rows:
            try:
                ranking = self.check(row)
            except InputError as error:
                raise InputError(f"{self.path}:{number}: {error}") from None
            self.given[row["annotator"], row["id"]] = ranking
        if unfinished:
            os.truncate(self.path, end)

    def _is_unfinished(self, line: bytes) -> bool:
        """Returns whether a text is only the beginning of a line that `add` writes, of a prompt of the pool.

        A whole ranking may be followed by other blanks than a line end, as some editors leave them.
        """
        openings = (json_line({"id": identity, "annotator": ""}).encode("utf-8")[:-3] for identity in self.place)
        if not line or not any(line.startswith(opening) or opening.startswith(line) for opening in openings):
            return False
        try:
            json.JSONDecoder().raw_decode(line.decode("utf-8", errors="replace"))
        except (ValueError, RecursionError):
            return True
        return False

    def check(self, row: dict) -> list[list[str]]:
        """Returns the ranking in a row, ties together; InputError unless it is a complete one of a prompt by somebody.

        Like `--join`, it believes a row without a digest, which another program wrote.
        """
        annotator, identity = row.get("annotator"), row.get("id")
        if not isinstance(annotator, str):
            raise InputError(f"annotator is {annotator!r:.40} (expected a name)")
        check_name("annotator", annotator)
        if not isinstance(identity, str) or identity not in self.place:
            raise InputError(f"id {identity!r:.40} (expected the id of a prompt of the pool)")
        responses = self.pool[self.place[identity]].responses
        if row.get("digest", digest := responses_digest(responses)) != digest:
            raise InputError(
                f"prompt {identity} had other responses then (expected the same pool, or another --output)"
            )
        values = values_of_ranking(row.get("ranking"), "ranking")
        if values.keys() != {str(i) for i in range(len(responses))}:
            raise InputError(
                f"ranking is {row['ranking']!r:.60} (expected each of the {len(responses)} responses once)"
            )
        best_first = sorted(values, key=values.__getitem__, reverse=True)
        return [list(tied) for _, tied in groupby(best_first, values.__getitem__)]

    def add(self, annotator: Any, identity: Any, ranking: Any) -> None:
        """Checks a ranking and puts it on disk; a later one of the same person and prompt replaces an earlier one."""
        known = self.pool[self.place[identity]].responses if identity in self.place else []
        row = {"id": identity, "annotator": annotator, "ranking": ranking, "digest": responses_digest(known)}
        row["ranking"] = self.check(row)
        with self.lock:
            if _size(self.path) < self.size - 1:  # an editor may leave out the last line end
                raise InputError(f"{self.path}: shortened or deleted by another program (restart the server)")
            _append(self.path, json_line(row).encode("utf-8"))
            self.size = _size(self.path)
            self.given[annotator, identity] = row["ranking"]

    def done(self, annotator: str) -> int:
        """Returns how many prompts somebody has ranked."""
        return sum(name == annotator for name, _ in list(self.given))

    def left(self, annotator: str) -> list[int]:
        """Returns the prompts that somebody is still asked for: those not ranked by them, nor by enough others."""
        given = list(self.given)
        own, people = {place for name, place in given if name == annotator}, Counter(place for _, place in given)
        return [
            index
            for index, one in enumerate(self.pool)
            if one.meta["id"] not in own and people[one.meta["id"]] < self.per_prompt
        ]

    def shown(self, annotator: str, index: int) -> dict:
        """Returns what the page shows of a prompt: the responses in an order of this person's own, against bias."""
        one = self.pool[index]
        return {
            "index": index,
            "total": len(self.pool),
            "done": self.done(annotator),
            "left": len(self.left(annotator)),
            "id": one.meta["id"],
            "prompt": prompt_messages(one),
            "columns": {name: value for name, value in one.columns().items() if name in self.columns},
            "responses": [{"name": str(name), "text": one.responses[name]} for name in shown_order(one, annotator)],
            "ranking": self.given.get((annotator, one.meta["id"])),
        }


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _append(path: Path, line: bytes) -> None:
    """Adds a line to a file, on disk at return; on failure the file is as before.

    An editor may have left the file without its last line end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with disk_full_as_oserror(path), open(path, "a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            line = line if file.read(1) == b"\n" else b"\n" + line
        try:
            while line:
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(size)
            raise
    if is_new:
        sync(path.parent)


class Handler(BaseHTTPRequestHandler):
    """Answers the page's requests. `server` has the rankings, the names and the page's text."""

    server: "RankServer"
    timeout = 30  # seconds; a client that sends nothing

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if not self._is_from_here():
            return
        if path == "/":
            nonce = secrets.token_urlsafe(16)
            text = PAGE.read_text(encoding="utf-8").replace("NONCE", nonce)
            text = text.replace("/* LOOK */", (LOOK / "page.css").read_text(encoding="utf-8"))
            self._send(HTTPStatus.OK, text.encode("utf-8"), "text/html; charset=utf-8", nonce)
        elif path == "/names":
            self._send_json({"names": self.server.names})
        elif path == "/prompt":
            self._send_prompt({name: values[-1] for name, values in parse_qs(query).items()})
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")

    def do_POST(self) -> None:
        if not self._is_from_here():
            return
        length = self.headers.get("Content-Length", "")
        is_short = length.isdecimal() and len(length) <= len(str(MAX_BODY)) and int(length) <= MAX_BODY
        if self.path != "/rank" or not is_short:
            self._refuse(HTTPStatus.BAD_REQUEST, f"expected a ranking of at most {MAX_BODY} bytes at /rank")
            return
        if self.headers.get_content_type() != "application/json":  # a form of another site cannot send it
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json")
            return
        try:
            row = json.loads(self.rfile.read(int(length)))
            annotator = self._name(row.get("annotator"))
            self.server.rankings.add(annotator, row.get("id"), row.get("ranking"))
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except OSError as error:
            self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, f"{error.filename}: {error.strerror}")
        else:
            rankings = self.server.rankings
            self._send_json({"done": rankings.done(annotator), "left": len(rankings.left(annotator))})

    def _send_prompt(self, query: dict[str, str]) -> None:
        rankings = self.server.rankings
        try:
            annotator = self._name(query.get("annotator"))
            last = len(rankings.pool) - 1
            left = rankings.left(annotator)
            after = [index for index in left if index > int(query.get("after", -1))]
            index = int(query["index"]) if "index" in query else next(iter([*after, *left]), last)
            if not 0 <= index <= last:
                raise InputError(f"index {index} (expected 0 to {last})")
        except ValueError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        self._send_json(rankings.shown(annotator, index))

    def _name(self, name: Any) -> str:
        if not isinstance(name, str):
            raise InputError(f"annotator is {name!r:.40} (expected a name)")
        check_name("annotator", name)
        if self.server.names:
            if name not in self.server.names:
                raise InputError(f"annotator {name!r} (expected one of {', '.join(self.server.names)})")
            return name
        known = {annotator for annotator, _ in list(self.server.rankings.given)}
        alike = [other for other in known if name_key(other) == name_key(name)]
        if alike and name not in alike:
            raise InputError(f"annotator {name!r} (expected {alike[0]!r}, as it was written before, or another name)")
        return name

    def _is_from_here(self) -> bool:
        """Refuses what another site had a browser ask: its Origin is foreign, or the Host is its own name for us."""
        hosts = [f"{name}:{self.server.server_address[1]}" for name in (ADDRESS, "localhost")]
        origin = self.headers.get("Origin")
        if self.headers.get("Host") in hosts and (origin is None or origin in [f"http://{host}" for host in hosts]):
            return True
        self._refuse(HTTPStatus.FORBIDDEN, f"expected a request to {hosts[0]} by its own page")
        return False

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._send(status, json.dumps({"error": why}).encode(), "application/json")

    def _send_json(self, value: dict) -> None:
        self._send(HTTPStatus.OK, json.dumps(value).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str, nonce: str = "") -> None:
        script = f"script-src 'nonce-{nonce}'; connect-src 'self'; style-src 'unsafe-inline'; img-src data:; "
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Content-Security-Policy": f"default-src 'none'; {script if nonce else ''}frame-ancestors 'none'",
        }
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: Any) -> None:
        """Prints nothing: the page says what was saved."""


class RankServer(ThreadingHTTPServer):
    """The server of one pool. Raises InputError if the port is taken."""

    daemon_threads = True

    def __init__(self, port: int, rankings: Rankings, names: tuple[str, ...]):
        self.rankings, self.names = rankings, names
        try:
            super().__init__((ADDRESS, port), Handler)
        except OSError as error:
            raise InputError(f"--port {port}: {error.strerror} (expected a free port; 0 takes one)") from None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a browser that went away in the middle of an answer."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def load(source: str) -> tuple[list[Candidates], list[str]]:
    """Returns (prompts with 2 to MOST_RESPONSES responses, each once; lines on what is not read)."""
    pool, notes = read_pool(DataConfig(source=source, keep_columns=True))
    pool = unique_prompts(pool, to_rank=True)
    most = require_responses(pool)
    if most > MOST_RESPONSES:
        raise InputError(
            f"{source}: a prompt has {most} responses (expected at most {MOST_RESPONSES}, one per digit key)"
        )
    return pool, notes


def check_columns(names: tuple[str, ...], pool: list[Candidates]) -> None:
    """Raises InputError for a field to show that no prompt has."""
    known = sorted({name for one in pool for name in one.columns()})
    for name in names:
        if name not in known:
            raise InputError(f"--columns {name}: no such field (expected one of: {', '.join(known) or 'none'})")


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(RankConfig, argv, __doc__)
    pool, notes = load(config.source)
    print("".join(f"{line}\n" for line in notes), end="")
    with try_lock(config.output) as held:
        if not held:
            raise InputError(f"--output {config.output}: another server writes to it (expected another file)")
        check_columns(config.columns, pool)
        rankings = Rankings(pool, config.output, config.per_prompt, config.columns)
        server = RankServer(config.port, rankings, config.annotators)
        print(f"{config.output}: {len(rankings.given)} rankings so far, {len(pool)} prompts")
        print(f"open http://{ADDRESS}:{server.server_address[1]} (Ctrl-C ends the server)", flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
        print(f"{config.output}: {len(rankings.given)} rankings")


if __name__ == "__main__":
    run(main)
