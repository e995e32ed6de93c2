"""Verdicts of an LLM behind an endpoint, each pair of responses in both orders."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_preprocess.command import InputError, RunError
from data_preprocess.files import read_jsonl
from data_preprocess.provenance import fingerprint
from eval_hh.inference.endpoint import Client, Refused
from eval_hh.inference.resumable_jobs import Job, make_rows, waiting_jobs
from eval_hh.inference.served_texts import Endpoint, Store, ask_parts
from eval_hh.judging.pairs import Answers
from eval_hh.judging.rubric import Rubric

if TYPE_CHECKING:
    from accelerate import PartialState

CHARACTERS_PER_TOKEN = 4  # of English text, roughly; for the estimate before anything is asked
MOST_UNREAD = 0.5  # share of answers without a verdict above which there is no result
MIN_UNREAD = 10  # answers that such a share is taken of, at least


@dataclass(frozen=True)
class Verdicts:
    """What a judge said of the rows of one file: 1 the first model, 0 the second, 0.5 a tie, None no verdict."""

    a_first: list[float | None]  # with a's response shown first
    b_first: list[float | None]
    prompt_tokens: int  # as the server counts them
    completion_tokens: int
    n_answers: int  # two for each row whose responses differ

    @property
    def preference(self) -> list[float]:
        """The mean of both orders, no verdict counting as a tie."""
        read = [[0.5 if one is None else one for one in both] for both in zip(self.a_first, self.b_first, strict=True)]
        return [sum(both) / 2 for both in read]


def questions(rubric: Rubric, a: Answers, b: Answers) -> Iterator[list[dict[str, str]]]:
    """Yields the messages of each row whose responses differ, with a's shown first and then with b's."""
    for row in differing(a, b):
        yield rubric.messages(a.turns[row], a.texts[row], b.texts[row])
        yield rubric.messages(a.turns[row], b.texts[row], a.texts[row])


def differing(a: Answers, b: Answers) -> list[int]:
    """Returns the rows to ask about: equal responses are a tie without being asked."""
    return [row for row, (one, other) in enumerate(zip(a.texts, b.texts, strict=True)) if one != other]


def estimated_tokens(messages: list[dict[str, str]]) -> int:
    """Returns about how many tokens messages have."""
    return sum(len(message["content"]) for message in messages) // CHARACTERS_PER_TOKEN + 1


class AskJudge:
    """Asks a question for each row; the answer is kept with the tokens that the server counted."""

    def __init__(self, endpoint: Endpoint, asked: list[list[dict[str, str]]], max_new_tokens: int):
        self.settings = {"model": endpoint.model, "max_tokens": max_new_tokens, "temperature": 0.0}
        self.asked = asked

    async def begin(self, client: Client) -> None:
        """There is nothing to find out."""

    async def __call__(self, client: Client, rows: list[int], store: Store) -> None:
        for row in rows:
            try:
                reply = await client.ask("chat/completions", {**self.settings, "messages": self.asked[row]})
            except Refused as error:
                raise InputError(f"pair {row // 2 + 1}: {error}") from error
            counts = {"prompt_tokens": reply.prompt_tokens or 0, "completion_tokens": reply.completion_tokens or 0}
            store([row], [{"text": reply.texts[0], **counts}])


def judged_by_llm(
    endpoint: Endpoint, rubric: Rubric, a: Answers, b: Answers, max_new_tokens: int, output: Path, label: str,
    state: "PartialState",
) -> Verdicts:  # fmt: skip
    """Asks about every row in both orders, or reads what was answered before.

    Args:
        endpoint: of the judge.
        rubric: its prompt.
        a, b: the responses of both models to the same prompts.
        max_new_tokens: of an answer.
        output: the JSONL file of the answers, {"index", "answer": {"text", "prompt_tokens", "completion_tokens"}}.
        label: of the progress bar.
        state: this process among all.

    Raises:
        InputError, RunError, Stopped: as `ask_parts`.
    """
    asked = list(questions(rubric, a, b))
    settings = {
        "step": "judging", "judge": endpoint.model, "rubric": rubric.version, "max_new_tokens": max_new_tokens,
        "questions": fingerprint({"asked": asked}),
    }  # fmt: skip
    job = Job(label, output, None, settings)
    if waiting_jobs([job], state):
        ask, fill = AskJudge(endpoint, asked, max_new_tokens), partial(ask_parts, endpoint=endpoint)
        make_rows(job, [[row] for row in range(len(asked))], ask, "answer", state, _as_rows, fill)
        state.wait_for_everyone()
    return read_verdicts(rubric, [row["answer"] for _, row in read_jsonl(output)], a, b)


def _as_rows(answers: list[dict[str, Any]]) -> list[dict]:
    return [{"index": row, "answer": answer} for row, answer in enumerate(answers)]


def read_verdicts(rubric: Rubric, answers: list[dict[str, Any]], a: Answers, b: Answers) -> Verdicts:
    """Returns the verdicts in a file's answers, two for each row whose responses differ."""
    a_first: list[float | None] = [0.5] * len(a.texts)
    b_first = list(a_first)
    for number, row in enumerate(differing(a, b)):
        a_first[row], other = (rubric.verdict(answer["text"]) for answer in answers[2 * number : 2 * number + 2])
        b_first[row] = None if other is None else 1 - other
    tokens = (sum(answer[name] for answer in answers) for name in ("prompt_tokens", "completion_tokens"))
    return Verdicts(a_first, b_first, *tokens, len(answers))


def check_read(found: list[Verdicts], name: str, rubric: Rubric) -> None:
    """Raises RunError if most answers of a judge hold no verdict."""
    read = [one for verdicts in found for one in (*verdicts.a_first, *verdicts.b_first)]
    unread, n_answers = sum(one is None for one in read), sum(verdicts.n_answers for verdicts in found)
    if n_answers >= MIN_UNREAD and unread > MOST_UNREAD * n_answers:
        marks = ", ".join(rubric.verdicts)
        raise RunError(
            f"{name}: {unread} of {n_answers} answers hold no verdict (expected {marks} alone on the last line; "
            "is --judge_tokens enough?); nothing was written"
        )
