"""Responses of a served model: how prompts are sent, and how every answer is kept as soon as it arrives.

With the served model's tokenizer a prompt is sent as the token ids that local decoding reads or, to a server that takes
none, as a text that tokenises to them again. Without it, the dialogue is sent as chat messages, and the server's own
template makes the prompt of them.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from transformers import PreTrainedTokenizerBase

from data_preprocess.command import InputError, RunError, stop_requests
from data_preprocess.dialogue import HH
from eval_hh.inference.endpoint import Client, Refused, Reply
from eval_hh.inference.prompt_format import chat_messages, prompt_format
from eval_hh.inference.resumable_jobs import Job, Parts, kept, open_parts, progress_bar, stop_if_asked
from eval_hh.inference.together import agreed

if TYPE_CHECKING:
    from accelerate import PartialState

Store = Callable[[Sequence[int], Sequence[Any]], None]  # keeps the values of rows
MAX_SERVED_SEED = 2**31 - 1  # servers take a signed 32-bit seed


class Asks(Protocol):
    """What `ask_parts` asks."""

    async def begin(self, client: Client) -> None:
        """Finds out what the server can do; called before any row is asked."""

    async def __call__(self, client: Client, rows: list[int], store: Store) -> None:
        """Asks for the rows of one unit, or what is left of it, and stores each answer when it arrives."""


@dataclass(frozen=True)
class Endpoint:
    """Where and how to ask."""

    url: str
    model: str  # as the server names it
    concurrency: int  # requests at a time, per process


class TokenPrompts:
    """Prompts in a format of the served model's tokenizer, for /completions."""

    kind = "completions"

    def __init__(self, tokenizer: PreTrainedTokenizerBase, format_name: str = HH):
        self.tokenizer = tokenizer
        self.format = prompt_format(format_name, tokenizer)
        self.takes_ids = True

    def encode(self, turns: list[str]) -> list[int]:
        """Returns the ids of a prompt. Raises InputError if the format refuses the dialogue."""
        return self.format.encode_prompt(turns)

    def as_text(self, ids: list[int]) -> str | None:
        """Returns a text that a server with this tokenizer reads as these ids; None if there is none.

        A tokenizer may put BOS in by itself, and typed control tokens or a cut word may have no such text.
        """
        bos = self.tokenizer.bos_token_id
        for shown in ([ids[1:]] if bos is not None and ids[:1] == [bos] else []) + [ids]:
            text = self._decoded(shown)
            if self.tokenizer(text, verbose=False)["input_ids"] == ids:
                return text
        return None

    def _decoded(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    async def begin(self, client: Client, model: str, prompts: list[list[int]]) -> None:
        """Finds out whether the server takes token ids, by one token of the first prompt."""
        if not prompts:
            return
        try:
            await client.ask(self.kind, {"model": model, "prompt": prompts[0], "max_tokens": 1})
        except Refused:
            self.takes_ids = False

    def body(self, ids: list[int]) -> dict[str, Any]:
        if self.takes_ids:
            sent: Any = ids
        else:
            text = self.as_text(ids)
            bos = self.tokenizer.bos_token_id
            sent = self._decoded(ids[1:] if ids[:1] == [bos] else ids) if text is None else text
        return {"prompt": sent, "stop": list(self.format.stop_strings)}

    def differs(self, ids: list[int], counted: int | None) -> bool:
        """Returns whether the server reads other ids than these, as far as one can tell from what it counts."""
        return counted is not None and counted != len(ids) or not self.takes_ids and self.as_text(ids) is None

    def cleaned(self, text: str) -> str:
        return self.format.cleaned(text)


class ChatPrompts:
    """Dialogues as chat messages, for /chat/completions; the server's template and end of turn hold."""

    kind = "chat/completions"
    takes_ids = False

    def encode(self, turns: list[str]) -> list[dict[str, str]]:
        """Returns the messages of a prompt; one that a response would continue is sent as it stands."""
        messages = chat_messages(turns, "")
        return messages if messages[-1]["content"].strip() else messages[:-1]

    async def begin(self, client: Client, model: str, prompts: list[list[dict[str, str]]]) -> None:
        """There is nothing to find out."""

    def body(self, messages: list[dict[str, str]]) -> dict[str, Any]:
        return {"messages": messages}

    def differs(self, messages: list[dict[str, str]], counted: int | None) -> bool:
        return False

    def cleaned(self, text: str) -> str:
        return text.strip()


@dataclass(frozen=True)
class Drawn:
    """How responses are sampled."""

    seeds: list[list[int]]  # of each prompt's samples
    temperature: float
    top_p: float


class ServedTexts:
    """Asks for the responses to encoded prompts; row prompt * count + sample is a prompt's sample.

    Args:
        endpoint: where.
        prompts: how they are sent and read.
        encoded: by `prompts.encode`.
        max_new_tokens: of a response.
        drawn: how responses are sampled; None: greedy decoding, one response to a prompt.
        names: what errors call each prompt (default: prompt 1, ...).
    """

    def __init__(
        self, endpoint: Endpoint, prompts: TokenPrompts | ChatPrompts, encoded: list[Any], max_new_tokens: int,
        drawn: Drawn | None = None, names: Sequence[str] = (),
    ):  # fmt: skip
        self.endpoint, self.prompts, self.encoded = endpoint, prompts, encoded
        how = {"temperature": drawn.temperature, "top_p": drawn.top_p} if drawn else {"temperature": 0.0}
        self.settings = {"model": endpoint.model, "max_tokens": max_new_tokens, **how}
        self.seeds = drawn.seeds if drawn else None
        self.count = len(drawn.seeds[0]) if drawn and drawn.seeds else 1
        self.gives_n = True  # until it gives fewer
        self.names = names
        self.differing: set[int] = set()  # prompts of which the server reads other tokens

    @property
    def units(self) -> list[list[int]]:
        """The rows of each prompt."""
        return [list(range(i * self.count, (i + 1) * self.count)) for i in range(len(self.encoded))]

    async def begin(self, client: Client) -> None:
        await self.prompts.begin(client, self.endpoint.model, self.encoded)

    async def __call__(self, client: Client, rows: list[int], store: Store) -> None:
        number = rows[0] // self.count
        left = list(rows)
        while left:
            asked = len(left) if self.gives_n else 1
            reply = await self._reply(client, number, left[0] % self.count, asked)
            texts = reply.texts[:asked]
            self.gives_n = self.gives_n and len(texts) == asked
            store(left[: len(texts)], [self.prompts.cleaned(text) for text in texts])
            if self.prompts.differs(self.encoded[number], reply.prompt_tokens):
                self.differing.add(number)
            left = left[len(texts) :]

    async def _reply(self, client: Client, number: int, sample: int, n: int) -> Reply:
        body = self.settings | self.prompts.body(self.encoded[number])
        if self.seeds:
            body["seed"] = self.seeds[number][sample] & MAX_SERVED_SEED
        try:
            return await client.ask(self.prompts.kind, body | ({"n": n} if n > 1 else {}), self.settings["max_tokens"])
        except Refused as error:
            name = self.names[number] if self.names else f"prompt {number + 1}"
            raise InputError(f"{name}: {error}") from error

    def said(self) -> str:
        """Returns how the prompts were sent and how many were read as other tokens, for one line."""
        how = "token ids" if self.prompts.takes_ids else "text" if self.prompts.kind == "completions" else "messages"
        line = f"{self.endpoint.model}: prompts sent as {how}"
        if how == "messages":
            return line
        return f"{line}; {len(self.differing)} of {len(self.encoded)} read as other tokens than by local decoding"


def ask_parts(
    job: Job, units: list[list[int]], ask: Asks, key: str, state: "PartialState", *, endpoint: Endpoint
) -> Parts:
    """Like `compute_parts`, for a server: rows are asked concurrently, and each answer is kept when it arrives.

    Nothing that was answered is asked again after a kill. After a signal or a failure no further row is asked, but
    answers on their way are waited for and kept.

    Raises:
        Stopped: a signal was received.
        InputError, RunError, OSError: a row got no answer, or a part cannot be written; all processes end.
    """
    parts, n_rows = open_parts(job, units, key, state), sum(map(len, units))
    done = parts.done()
    mine = [[row for row in unit if row not in done] for unit in units[state.process_index :: state.num_processes]]
    waiting = [unit for unit in mine if unit]
    with progress_bar(job, waiting, state) as bar, stop_requests() as request, agreed(state):

        def store(rows: Sequence[int], values: Sequence[Any]) -> None:
            parts.append([{"index": row, key: value} for row, value in zip(rows, values, strict=True)])
            bar.update(len(rows))

        def stopped() -> bool:
            return request.number is not None

        failure = asyncio.run(ask_all(waiting, ask, store, endpoint, stopped)) if waiting else None
        if failure and not stopped():
            raise failure
    stop_if_asked(request, state, kept(job, parts, n_rows))
    state.wait_for_everyone()
    return parts


async def ask_all(
    units: list[list[int]], ask: Asks, store: Store, endpoint: Endpoint, stopped: Callable[[], bool]
) -> Exception | None:
    """Asks for all units, `endpoint.concurrency` at a time; returns the first failure, after which none is begun."""
    queue, failures = deque(units), []

    async def tried(what: Awaitable[None]) -> None:
        try:
            await what
        except (InputError, RunError, OSError) as error:
            failures.append(error)

    async with Client(endpoint.url, endpoint.concurrency, lambda: stopped() or bool(failures)) as client:

        async def work() -> None:
            while queue and not failures and not stopped():
                await tried(ask(client, queue.popleft(), store))

        await tried(ask.begin(client))
        await asyncio.gather(*(work() for _ in range(endpoint.concurrency)))
    return failures[0] if failures else None
