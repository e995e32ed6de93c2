"""Prompts written by a causal language model from examples: the request, and the parsing of its output.

"Our reading": the paper does not publish how its generator was prompted. A request is a dialogue in which the assistant
has already written the examples one by one, so that even a model without instruction tuning continues with another one;
model_labels.sample_responses answers it like any other prompt.
"""

import random
import re
from collections.abc import Iterable, Sequence

from data_preprocess.dialogue import ASSISTANT, PROMPTER, ROLE_NAMES, split_turn
from data_preprocess.preparing.candidates import Candidates, prompt_id

EXAMPLES = 4  # per request; like every prompt, a request is truncated from the left to 384 tokens
FIRST = "Write a message with which a person opens a conversation with an assistant."
NEXT = "Write another one, about something else."
LEAD = re.compile(r"^(?:[-*\u2022]|\(?\d+[.):])\s+")  # list bullet or number
QUOTES = ('""', "''", "\u201c\u201d", "\u2018\u2019")
WORD = re.compile(r"[^\W\d_]")


def openings(prompts: Iterable[list[str]]) -> list[str]:
    """Returns the distinct texts of the prompts' first turns, in order, for prompts that a user opens."""
    turns = (split_turn(prompt[0]) for prompt in prompts)
    return list(dict.fromkeys(text.strip() for tag, text in turns if tag == PROMPTER and text.strip()))


def requests(examples: Sequence[str], count: int, seed: int) -> list[list[str]]:
    """Returns `count` prompts that ask for one more message like the EXAMPLES shown in each, drawn by the seed.

    A larger count leaves the first requests unchanged.

    Args:
        examples: messages to draw from; all are shown if there are fewer than EXAMPLES.
        count: number of requests.
        seed: of the draws.
    """
    rng = random.Random(seed)
    shown = (rng.sample(range(len(examples)), min(EXAMPLES, len(examples))) for _ in range(count))
    return [_request([examples[index] for index in indices]) for indices in shown]


def _request(examples: list[str]) -> list[str]:
    asked = [FIRST, *[NEXT] * len(examples)]
    told = [[PROMPTER + question, ASSISTANT + text] for question, text in zip(asked, examples, strict=False)]
    return [turn for pair in told for turn in pair] + [PROMPTER + asked[-1], ASSISTANT]


def cleaned(text: str) -> str | None:
    """Returns the message written by a model: its first paragraph without list number, role name and enclosing quotes.

    None if no letter is left, or if it contains a role tag of this project's files.
    """
    text = text.strip().split("\n\n")[0].strip()
    text = LEAD.sub("", text)
    for name in ROLE_NAMES.values():
        text = text.removeprefix(name).strip()
    if len(text) > 1 and text[0] + text[-1] in QUOTES:
        text = text[1:-1].strip()
    return text if WORD.search(text) and not any(tag in text for tag in ROLE_NAMES) else None


def written(texts: Iterable[str], generator: str) -> list[Candidates]:
    """Returns the single-turn prompts in a model's texts; a text without a prompt is skipped."""
    prompts = [[PROMPTER + text, ASSISTANT] for text in map(cleaned, texts) if text]
    return [Candidates(turns, [], None, {"id": prompt_id(turns), "written_by": generator}) for turns in prompts]
