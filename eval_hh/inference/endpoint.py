"""The client of a server that speaks the OpenAI-compatible protocol: vLLM, SGLang, llama.cpp, a hosted model.

Nothing but the given address is called, certificates are verified, redirects are not followed, and the key, from
$ENDPOINT_API_KEY alone, is sent to that address and written nowhere. A request whose failure may pass (no connection,
408, 429, 5xx, half an answer, malformed JSON) is sent again after growing pauses; every other failure is one line.
"""

import asyncio
import os
import random
import re
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx2

from data_preprocess.command import InputError, RunError, check_text, one_line, setting

KEY = "ENDPOINT_API_KEY"  # not a name that holds another service's key, which an unknown address must not get
PASSING = (408, 409, 425, 429)  # statuses that may pass, and all from 500 on
PATIENCE = 300.0  # seconds for which a request is sent again
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between two attempts, doubled each time; a server may ask for longer
TIMEOUT = httpx2.Timeout(600.0, connect=10.0)  # seconds without a byte; a long answer comes as one
LOOK_AGAIN = 0.2  # seconds between checks for a stop request
AT_A_TIME = 16  # requests, or dialogues to score, unless another number is given
LONGEST_PATH = "chat/completions"  # of those asked
MAX_SAID = 200  # characters of a server's own message that are passed on

HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")

Answer = TypeVar("Answer")


class Refused(InputError):
    """The server does not accept what was asked."""


class Passing(Exception):
    """A failure that may pass, in a few words; `pause` is what the server asks to wait, in seconds."""

    def __init__(self, what: str, pause: float = 0.0):
        super().__init__(what)
        self.pause = pause


def check_url(flag: str, value: str) -> None:
    """Raises InputError, naming the flag, unless `value` is an http address that holds no password or query."""
    expected = "expected an address like http://localhost:8000/v1"
    try:
        parts = urlsplit(value)
        port = parts.port
        httpx2.URL(f"{value.rstrip('/')}/{LONGEST_PATH}")  # refuses more hosts, and what is too long
    except (ValueError, httpx2.InvalidURL) as error:
        raise InputError(f"--{flag}: {error} ({expected})") from error
    if parts.username or parts.password:
        raise InputError(f"--{flag}: holds a name or password (expected none in the address; a key goes into ${KEY})")
    is_http = parts.scheme in ("http", "https") and parts.hostname and port != 0
    if not is_http or parts.query or parts.fragment or " " in value or not value.isprintable():
        raise InputError(f"--{flag} {one_line(value)!r:.60}: {expected}")


@dataclass(frozen=True, kw_only=True)
class EndpointFlags:
    """The flags of a command that may ask a server instead of loading a model."""

    endpoint: str | None = setting(
        f"address of an OpenAI-compatible server, as http://localhost:8000/v1, to ask instead of loading the model; a "
        f"key is taken from ${KEY}",
        check_url,
        metavar="URL",
        default=None,
    )
    endpoint_model: str | None = setting("name by which the server knows the model", check_text, metavar="NAME",
                                         default=None)  # fmt: skip

    def check_endpoint(self) -> None:
        """Raises InputError unless both flags are given, or neither."""
        if bool(self.endpoint) != bool(self.endpoint_model):
            raise InputError("--endpoint and --endpoint_model: give both, or neither")


@dataclass(frozen=True)
class Reply:
    """What one request brought: a text for each choice, and the tokens counted by the server (None: not told)."""

    texts: list[str]
    prompt_tokens: int | None
    completion_tokens: int | None


def read_reply(reply: Any, kind: str) -> Reply:
    """Returns what a reply holds.

    Args:
        reply: the JSON value.
        kind: "completions" or "chat/completions".

    Raises:
        Passing: it is not as the protocol has it.
    """
    choices = reply.get("choices") if isinstance(reply, dict) else None
    texts = [_text(choice, kind) for choice in choices] if isinstance(choices, list) else []
    if not texts or None in texts:
        raise Passing("an answer without the protocol's choices and their texts")
    usage = reply.get("usage") if isinstance(reply.get("usage"), dict) else {}
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    return Reply(texts, *(count if type(count) is int and count >= 0 else None for count in counts))


def _text(choice: Any, kind: str) -> str | None:
    if not isinstance(choice, dict):
        return None
    if kind == "completions":
        text = choice.get("text")
    else:
        message = choice.get("message")
        if not isinstance(message, dict):
            return None
        text = message.get("content", "")
        text = "" if text is None else text  # null: the model refused, or only thought
    # Half a character that JSON can escape, but no file can hold, is what a tokenizer decodes it to.
    return HALF_A_CHARACTER.sub("\ufffd", text) if isinstance(text, str) else None


class Client:
    """Asks one address; `async with` opens and closes its connections.

    Args:
        url: the address, up to and with /v1.
        concurrency: most connections at a time.
        stopped: whether this process was asked to stop; then no request is sent again.

    Raises:
        InputError: $ENDPOINT_API_KEY cannot be a key.
    """

    def __init__(self, url: str, concurrency: int = 1, stopped: Callable[[], bool] = lambda: False):
        self.url = url.rstrip("/")
        self.concurrency = concurrency
        self.stopped = stopped
        self._key = os.environ.get(KEY, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):  # an error of the HTTP library would repeat it
            raise InputError(f"${KEY}: expected a key of printable ASCII characters in one line")
        self._announced = False

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx2.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
        self._http = httpx2.AsyncClient(headers=headers, limits=limits, timeout=TIMEOUT)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.aclose()

    async def reach(self) -> None:
        """Raises InputError unless something answers at the address, whatever it says, and accepts the key."""
        try:
            await self._once("GET", "models", None)
        except Refused:  # not every server lists its models
            pass
        except Passing as error:
            if isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout):
                raise InputError(f"--endpoint {self.url}: {error} (expected a running server)") from error

    async def ask(self, kind: str, body: dict[str, Any], most: int | None = None) -> Reply:
        """Returns the reply to a request, sent again while its failure may pass.

        Args:
            kind: "completions" or "chat/completions".
            body: of the request.
            most: new tokens that the server was told to make at most.

        Raises:
            Refused: the server does not accept the request, or does not know the address or the model.
            InputError: it does not accept the key, or its certificate cannot be verified.
            RunError: the failure did not pass, or the server does not heed `most`.
        """
        reply = await self._patiently(lambda: self._read(kind, body))
        if most is not None and (reply.completion_tokens or 0) > most * len(reply.texts):
            found = f"{reply.completion_tokens} new tokens in {len(reply.texts)} texts"
            raise RunError(f"{self.url}: ignores max_tokens: {found} (expected at most {most} each)")
        return reply

    async def _read(self, kind: str, body: dict[str, Any]) -> Reply:
        answer = await self._once("POST", kind, body)
        try:
            reply = answer.json()
        except (ValueError, RecursionError) as error:
            raise Passing("malformed JSON") from error
        return read_reply(reply, kind)

    async def _patiently(self, attempt: Callable[[], Any]) -> Any:
        began, pause = time.monotonic(), FIRST_PAUSE
        while True:
            try:
                found = await attempt()
                self._announced = False
                return found
            except Passing as failure:
                spent = time.monotonic() - began
                wait = max(pause * random.uniform(0.5, 1.0), failure.pause)
                if self.stopped() or spent + wait > PATIENCE:
                    hint = "run the same command to resume"
                    raise RunError(f"{self.url}: {failure}, for {spent:.0f} s ({hint})") from failure
                if not self._announced:
                    self._announced = True
                    print(f"waiting: {self.url}: {failure}", file=sys.stderr, flush=True)
                await self._pause(wait)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.stopped() and (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, LOOK_AGAIN))

    async def _once(self, method: str, path: str, body: dict[str, Any] | None) -> httpx2.Response:
        """Sends one request; returns the answer if its status is 200."""
        try:
            answer = await self._http.request(method, f"{self.url}/{path}", json=body)
        except httpx2.RequestError as error:  # of the connection, or of a body that cannot be unpacked
            if _is_certificate(error):
                raise InputError(f"{self.url}: its certificate cannot be verified ({self._said(error)})") from error
            raise Passing(f"{type(error).__name__}, {self._said(error) or 'no answer'}") from error
        status = answer.status_code
        if status == 200:
            return answer
        if status in PASSING or status >= 500:
            raise Passing(f"answers {status}", _retry_after(answer))
        said = self._said(answer.text) or "no reason"
        if status in (401, 403):
            has = "is not accepted" if self._key else "is not set"
            raise InputError(f"{self.url}: answers {status}: ${KEY} {has} ({said})")
        if status in (400, 422):
            raise Refused(f"{self.url}: answers {status}: {said}")
        expected = "--endpoint is the address up to /v1, --endpoint_model a model that it serves"
        raise Refused(f"{self.url}/{path}: answers {status}: {said} ({expected})")

    def _said(self, what: object) -> str:
        """Returns a message of others in one short line without the key, which some servers repeat."""
        text = one_line(str(what)[: 10 * MAX_SAID])
        return (text.replace(self._key, "...") if self._key else text)[:MAX_SAID]


def _is_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _retry_after(answer: httpx2.Response) -> float:
    """Returns the seconds that a server asks to wait; 0 where it names none, or a date."""
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdecimal() and len(text) < 6 else 0.0


def reach(url: str) -> None:
    """Raises InputError unless something answers at the address and accepts the key."""

    async def once() -> None:
        async with Client(url) as client:
            await client.reach()

    asyncio.run(once())
