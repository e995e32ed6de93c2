"""The dialogue format: tagged turns, the prompt text a model reads, and parsing of raw HH-RLHF text into turns.

The only place that defines the role tags. A turn is a role tag followed by text; a prompt is a list of turns that ends
in a bare tag, the role that speaks next.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from unicodedata import category

PROMPTER = "<|prompter|>"
ASSISTANT = "<|assistant|>"
ROLE_NAMES = {PROMPTER: "Human:", ASSISTANT: "Assistant:"}
OPENING_LINES = re.compile(r"\n\n+(?=Human:|Assistant:)")
STOP_STRINGS = ("Human:", "human:", "Assistant:", "assistant:")
SYSTEM_TAG = "<|system|>"  # of the turn that `with_system` adds; the published text has none
NO_WIDTH = ("Zs", "Zl", "Zp", "Cc", "Cf")  # Unicode's categories of white space, control and format characters
# How a model reads a dialogue (eval_hh/inference/prompt_format.py): the published text, its tokenizer's chat template,
# or the template where there is one.
PROMPT_FORMATS = HH, CHAT, AUTO = "hh", "chat", "auto"


def split_turn(turn: str) -> tuple[str, str]:
    """Splits "<|role|>text" into (tag, text). Only a tag at the start counts; ValueError if there is none."""
    for tag in ROLE_NAMES:
        if turn.startswith(tag):
            return tag, turn[len(tag) :]
    raise ValueError(f"a turn must start with {PROMPTER} or {ASSISTANT}, found {turn[:40]!r}")


def with_system(turns: list[str], meta: Mapping[str, Any]) -> list[str]:
    """Returns a row's turns after its system message, meta.system, if it has one.

    Prompt formats and reward models take such turns; the published text leaves the system message out.
    """
    system = meta.get("system")
    return [SYSTEM_TAG + system, *turns] if isinstance(system, str) and system.strip() else turns


def split_system(turns: list[str]) -> tuple[str, list[str]]:
    """Splits the result of `with_system` into (system message, the turns without it); "" if there is none."""
    return (turns[0].removeprefix(SYSTEM_TAG), turns[1:]) if turns[0].startswith(SYSTEM_TAG) else ("", turns)


def is_blank(text: str) -> bool:
    """Returns whether a text has white space and characters without width only, as a byte-order mark (U+FEFF) is."""
    return all(category(char) in NO_WIDTH for char in text)


def has_text(turns: list[str]) -> bool:
    """Returns whether any turn has a text that is not `is_blank`."""
    return not all(is_blank(split_turn(turn)[1]) for turn in turns)


def render_prompt(turns: list[str]) -> str:
    """Returns the prompt as a model reads it: "\\n\\nHuman: ...\\n\\nAssistant:", without trailing white space.

    A tag inside a turn's text stays text, so a user who types one does not open a turn. (The plain format has no
    escape: "\\n\\nHuman:" inside a text would read like a turn, but neither parser here produces such a text.)
    """
    texts = []
    for turn in turns:
        tag, text = split_turn(turn)
        texts.append(f"\n\n{ROLE_NAMES[tag]} {text}")
    return "".join(texts).rstrip()


def training_text(turns: list[str], response: str) -> str:
    """Returns the training text: the rendered prompt, one space, the response."""
    return render_prompt(turns) + " " + response


def cut_at_stop(text: str) -> str:
    """Returns the text before the first stop string; what follows is a turn made up by the model."""
    cuts = [text.find(stop) for stop in STOP_STRINGS]
    return text[: min((cut for cut in cuts if cut >= 0), default=len(text))]


@dataclass(frozen=True)
class ParsedPair:
    """A raw pair as one prompt with two responses."""

    prefix: list[str]  # turns, the last one a bare tag
    suffix: list[str]  # [chosen text, rejected text]


def parse_pair(chosen: str, rejected: str, published: bool = False) -> tuple[list[str], list[str]] | None:
    """Parses two raw dialogues into (prefix turns ending in a bare tag, [chosen text, rejected text]).

    By default every word is kept: a paragraph without a role tag belongs to the turn before it. published=True follows
    the published data: such paragraphs are dropped, consecutive paragraphs of one role are joined by a newline, and the
    prompt is taken from the chosen dialogue.

    Returns:
        None if the pair is skipped; explain_pair gives the reason.
    """
    parsed = explain_pair(chosen, rejected, published)
    return (parsed.prefix, parsed.suffix) if isinstance(parsed, ParsedPair) else None


def explain_pair(chosen: str, rejected: str, published: bool = False) -> ParsedPair | str:
    """Like parse_pair, but returns a short reason instead of None."""
    turns = _published_turns if published else _turns
    parsed = turns(chosen), turns(rejected)
    if not all(parsed):
        return "a dialogue does not open with a role tag"
    return _published_pair(*parsed) if published else _pair(*parsed)


def parse_prompt(text: str) -> list[str]:
    """Parses a rendered prompt into turns ending in a bare tag; empty if the text does not start with a role tag.

    The inverse of render_prompt, up to trailing white space. The assistant's tag is added after a final turn with text.
    """
    turns = [tag + body for tag, body in _turns(text)]
    if turns and turns[-1].strip() in ROLE_NAMES:
        return [*turns[:-1], turns[-1].strip()]
    return [*turns, ASSISTANT] if turns else []


def _turns(text: str) -> list[tuple[str, str]]:
    """Returns (tag, text) per tagged paragraph, with the untagged ones after it; empty if the text starts untagged."""
    opening, *paragraphs = re.split(r"\n\n(?=Human:|Assistant:)", text)
    if opening:
        return []
    turns = []
    for paragraph in paragraphs:
        tag, body = _read_tag(paragraph)
        turns.append((tag, body.removeprefix(" ")))
    return turns


def _read_tag(paragraph: str) -> tuple[str, str]:
    """Splits a paragraph into (tag, text after the role name); the tag is empty if there is no role name."""
    for tag, name in ROLE_NAMES.items():
        if paragraph.startswith(name):
            return tag, paragraph[len(name) :]
    return "", paragraph


def _pair(chosen: list[tuple[str, str]], rejected: list[tuple[str, str]]) -> ParsedPair | str:
    """The shared leading turns are the prompt; the rest of each dialogue is its response.

    A response that repeats its own role's tag (one in 17 of the 8552 pairs in HH-RLHF's test files) is one response:
    the tag is dropped and no word is lost, since a model must not learn to open turns inside its reply.
    """
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    roles = {tag for turns in (chosen, rejected) for tag, _ in turns[shared:]}
    if len(roles) > 1:
        return "the two dialogues differ before their last turn"
    prefix = [tag + text for tag, text in chosen[:shared]] + [roles.pop()]
    texts = ("\n\n".join(text for _, text in turns[shared:]) for turns in (chosen, rejected))
    suffix = [OPENING_LINES.sub("\n", text) for text in texts]  # a text that starts with "Human:" opens no turn either
    return ParsedPair(prefix, suffix)


def _published_turns(text: str) -> list[tuple[str, str]]:
    turns: list[tuple[str, str]] = []
    for paragraph in text.split("\n\n"):
        tag, body = _read_tag(paragraph)
        if not tag:
            continue
        if turns and turns[-1][0] == tag:
            turns[-1] = (tag, turns[-1][1] + "\n" + body.strip())
        else:
            turns.append((tag, body.strip()))
    return turns


def _published_pair(chosen: list[tuple[str, str]], rejected: list[tuple[str, str]]) -> ParsedPair | str:
    if len(chosen) != len(rejected):
        return "the two dialogues have different numbers of turns"
    prefix = [tag + text for tag, text in chosen[:-1]] + [chosen[-1][0]]
    return ParsedPair(prefix, [chosen[-1][1], rejected[-1][1]])
