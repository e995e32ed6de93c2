"""Converts dialogues in common formats to this project's tagged turns.

A prompt or conversation is a text, a list of tagged turns, or a list of messages, {role, content} or {from, value},
whose content is a text or a list of text parts.
"""

import re
from dataclasses import dataclass
from typing import Any

from data_preprocess.command import InputError
from data_preprocess.dialogue import ASSISTANT, PROMPTER, has_text, is_blank, parse_prompt, split_turn

SYSTEM = ""  # stands for a tag; the dialogue format has no system turn
ROLES = {
    **dict.fromkeys(("system", "developer"), SYSTEM),
    **dict.fromkeys(("user", "human", "prompter"), PROMPTER),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "chatbot", "ai"), ASSISTANT),
}
MESSAGE_FORMS = (("role", "content"), ("from", "value"))
# A text that is a list of messages, as JSON or as Python writes it, opens like this and names a role.
WRITTEN_LIST = re.compile(r"""\s*\[\s*\{\s*["'](role|content|from|value)["']\s*:""")
WRITTEN_ROLE = re.compile(rf"""["'](role|from)["']\s*:\s*["']({"|".join(ROLES)})["']""")
# Between the turns of a prompt in HelpSteer2; the first turn, the user's, has no mark.
MARKED_TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")
TEXT_PARTS = (None, "text", "input_text", "output_text")  # types of content parts that are text
# Keys beside a text whose content the text would lose.
NOT_TEXT = (
    "tool_calls", "function_call", "image", "images", "image_url", "input_image", "audio", "audios", "input_audio",
    "video", "videos", "file", "files",
)  # fmt: skip
TEXT_ONLY = "expected text parts only: no images, sounds or calls"


@dataclass(frozen=True)
class Dialogue:
    """A prompt, and what a list of messages may hold besides it."""

    prompt: list[str]  # tagged turns, the last one a bare tag
    reply: str | None = None  # the assistant's final message, after the prompt
    system: str = ""  # text of the system messages


def read_dialogue(value: Any, where: str) -> Dialogue:
    """Reads a text, a list of tagged turns or a list of messages.

    A text that starts with "\\n\\nHuman:", or has the marks of HelpSteer2, is parsed into turns; any other text is a
    user turn.

    Raises:
        InputError: starting with `where`: another format, a role not in ROLES, non-text content, or an empty text.
    """
    if isinstance(value, str):
        refuse_written_messages(value, where)
        dialogue = Dialogue(parse_prompt(value) or _marked_turns(value) or [PROMPTER + value, ASSISTANT])
    elif not isinstance(value, list) or not value:
        raise InputError(f"{where} is {value!r:.40} (expected a text, or a list of turns or messages)")
    elif all(isinstance(turn, str) for turn in value):
        dialogue = _of_turns(value, where)
    else:
        dialogue = _of_messages(value, where)
    if not has_text(dialogue.prompt):
        raise InputError(f"{where}: a prompt without text")
    return dialogue


def refuse_written_messages(text: str, where: str) -> None:
    """Raises InputError for a text that is a list of messages, which would otherwise be trained on as it is."""
    if WRITTEN_LIST.match(text) and WRITTEN_ROLE.search(text):
        raise InputError(f"{where} is {text!r:.40}, a list of messages written as text (expected the list itself)")


def _marked_turns(text: str) -> list[str]:
    """Returns the turns of a prompt with HelpSteer2's marks, from user to user; none if it has no such marks."""
    first, *rest = MARKED_TURN.split(text)
    names, texts = rest[::2], rest[1::2]
    if not names or names != [("Assistant", "User")[i % 2] for i in range(len(names))] or len(names) % 2:
        return []
    turns = [PROMPTER + first] + [ROLES[name.lower()] + said for name, said in zip(names, texts, strict=True)]
    return [*turns, ASSISTANT]


def _of_turns(turns: list[str], where: str) -> Dialogue:
    for turn in turns:
        if not turn.startswith((PROMPTER, ASSISTANT)):
            raise InputError(f"{where}: turn {turn!r:.40} (expected {PROMPTER} or {ASSISTANT} first)")
    if turns[-1] in (PROMPTER, ASSISTANT):
        return Dialogue(turns)
    tag, text = split_turn(turns[-1])
    return Dialogue([*turns[:-1], ASSISTANT], text) if tag == ASSISTANT else Dialogue([*turns, ASSISTANT])


def _of_messages(messages: list, where: str) -> Dialogue:
    read = [read_message(message, where) for message in messages]
    turns = [(tag, text) for tag, text in read if tag != SYSTEM]
    reply = turns.pop()[1] if turns and turns[-1][0] == ASSISTANT else None
    if not turns:
        raise InputError(f"{where}: no message by a user")
    for _, text in turns:
        if is_blank(text):
            raise InputError(f"{where}: a message without text (expected words in each)")
    system = "\n\n".join(text for tag, text in read if tag == SYSTEM and text.strip())
    return Dialogue([*(tag + text for tag, text in turns), ASSISTANT], reply, system)


def is_message(value: Any) -> bool:
    return isinstance(value, dict) and message_form(value) is not None


def message_form(message: dict) -> tuple[str, str] | None:
    """Returns the one of MESSAGE_FORMS that a message has; a table may have null in the fields of the other."""
    return next((form for form in MESSAGE_FORMS if message.get(form[0]) is not None and form[1] in message), None)


def read_message(message: Any, where: str) -> tuple[str, str]:
    """Returns (tag, text) of one message; the tag is SYSTEM for a system message."""
    if not is_message(message):
        raise InputError(f"{where}: message {message!r:.40} (expected role and content, or from and value)")
    refuse_not_text(message, where)
    role_key, text_key = message_form(message)
    role = message[role_key]
    tag = ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if tag is None:
        raise InputError(f"{where}: role {role!r:.40} (expected {', '.join(ROLES)})")
    return tag, content_text(message[text_key], f"{where}: {text_key}")


def content_text(content: Any, where: str) -> str:
    """Returns a text, or the text parts of a list of parts joined by newlines."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise InputError(f"{where} is {content!r:.40} (expected a text, or a list of text parts)")
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) and part.get("type") in TEXT_PARTS else part
        if not isinstance(text, str):
            raise InputError(f"{where}: part {part!r:.60} ({TEXT_ONLY})")
        if isinstance(part, dict):
            refuse_not_text(part, where)
        texts.append(text)
    return "\n".join(texts)


def refuse_not_text(holder: dict, where: str) -> None:
    """Raises InputError for a message, part or response that has an image, a sound or a call beside its text."""
    for key in NOT_TEXT:
        if holder.get(key):
            raise InputError(f"{where}: {key} {holder[key]!r:.60} ({TEXT_ONLY})")
