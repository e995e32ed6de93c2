"""How a dialogue becomes token ids, and where a response ends: the published text, or the tokenizer's chat template.

`prompt_format` returns the one of a tokenizer. Training, decoding and reward models take what they need from it, so
that a model is read as it was trained. Turns may begin with a system message (`with_system`): a chat template reads it,
the published text has no place for it.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from data_preprocess.command import InputError
from data_preprocess.dialogue import (
    ASSISTANT,
    AUTO,
    CHAT,
    HH,
    PROMPTER,
    STOP_STRINGS,
    cut_at_stop,
    render_prompt,
    split_system,
    split_turn,
    training_text,
)
from data_preprocess.files import at_line
from data_preprocess.hub import load_tokenizer, tokenized
from eval_hh.inference.models import MAX_PROMPT, prompt_ids

# Number of last tokens searched for stop strings. If a stop string takes more, generation continues, and `cut_at_stop`
# still cuts the text at the right place.
STOP_WINDOW = 16
COLON_BYTE = "<0x3A>"  # how sentencepiece vocabularies with byte fallback write the byte of ":"
CHAT_ROLES = {PROMPTER: "user", ASSISTANT: "assistant"}
Messages = list[dict[str, str]]  # {"role", "content"}, as chat templates take them
# Ids must not depend on the day: templates that ask for the date get the one that Llama 3's falls back to.
FIXED_DATE = "{% macro strftime_now(layout) %}26 Jul 2024{% endmacro %}"
MARKS = "\ufdd0\ufdd1"  # enclose the number of a typed control token; Unicode assigns them to no character
MARKED = re.compile(f"{MARKS[0]}(\\d+){MARKS[1]}")


def decoded(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """Returns the text of token ids without special tokens, exactly as encoded."""
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


class EndOfTurn:
    """Tells whether a response contains a stop string.

    Only generated tokens count, since the prompt is full of stop strings. All stop strings end in ":", so a response is
    searched only if its newest token contains one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        vocabulary = tokenizer.get_vocab().items()
        self.colons = {index for token, index in vocabulary if ":" in token or token == COLON_BYTE}

    def __call__(self, response: list[int]) -> bool:
        if response[-1] not in self.colons:
            return False
        text = decoded(self.tokenizer, response[-STOP_WINDOW:])
        return any(stop in text for stop in STOP_STRINGS)


class PublishedText:
    """The format "hh": BOS, "\\n\\nHuman: ...\\n\\nAssistant:", a space, the response, EOS."""

    name = HH
    stop_ids: frozenset[int] = frozenset()  # tokens that end a response, besides the model's EOS
    stop_strings = STOP_STRINGS  # texts that end it
    template_ids: frozenset[int] = frozenset()  # control tokens that it uses, besides BOS and EOS

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer

    def check(self, turns: list[str], responses: Sequence[str] = ()) -> None:
        """Raises InputError if the dialogue cannot be rendered; this format renders all."""

    @property
    def has_end(self) -> bool:
        """Whether there is a token to end a response with."""
        return self.tokenizer.eos_token_id is not None

    def encode_prompt(self, turns: list[str], max_prompt: int = MAX_PROMPT) -> list[int]:
        """Returns the ids of a prompt: BOS and its last tokens, at most `max_prompt` in all."""
        return prompt_ids(self.tokenizer, render_prompt(split_system(turns)[1]), max_prompt)

    def encode_ranking(
        self, turns: list[str], responses: Sequence[str], max_prompt: int, append_end: bool = True
    ) -> list[tuple[list[int], list[int]]]:
        """Returns (prompt ids, response ids) of each response, the prompt as `encode_prompt` has it.

        Prompt and response are tokenised as one text and split by offsets: a tokenizer may mark the word after a space
        or merge across it, and the model reads the joint text when it generates. A token across the boundary belongs to
        the response.
        """
        tokenizer, turns = self.tokenizer, split_system(turns)[1]
        prompt_chars = len(render_prompt(turns))
        both = tokenized(
            tokenizer,
            [training_text(turns, response) for response in responses],
            split_special_tokens=True,  # "</s>" typed by a user is plain text, not EOS
            return_offsets_mapping=True,
        )
        bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        end = [tokenizer.eos_token_id] if append_end else []
        pairs = []
        for ids, offsets in zip(both["input_ids"], both["offset_mapping"], strict=True):
            n_prompt = sum(stop <= prompt_chars for _, stop in offsets)
            pairs.append((bos + ids[:n_prompt][-(max_prompt - len(bos)) :], ids[n_prompt:] + end))
        return pairs

    @cached_property
    def _end_of_turn(self) -> EndOfTurn:
        return EndOfTurn(self.tokenizer)

    def has_ended(self, response: list[int]) -> bool:
        """Returns whether the newest token completes a stop string, the beginning of a made-up turn."""
        return self._end_of_turn(response)

    def text(self, response: list[int]) -> str:
        """Returns the stripped text of a response's ids, up to the first stop string."""
        return self.cleaned(decoded(self.tokenizer, response))

    def cleaned(self, text: str) -> str:
        """Returns a response's stripped text, up to the first stop string."""
        return cut_at_stop(text).strip()


def chat_messages(turns: list[str], response: str) -> Messages:
    """Returns the dialogue as messages. Consecutive turns of one role are merged: most templates need alternation."""
    system, turns = split_system(turns)
    messages: Messages = [{"role": "system", "content": system}] if system else []
    for turn in [*turns[:-1], turns[-1] + response]:
        tag, text = split_turn(turn)
        if messages and messages[-1]["role"] == CHAT_ROLES[tag]:
            messages[-1]["content"] += "\n" + text
        else:
            messages.append({"role": CHAT_ROLES[tag], "content": text})
    return messages


class ChatTemplate:
    """The format "chat": the tokenizer's chat template, with the ids of apply_chat_template.

    A prompt is the template's text up to the response, which is its generation prompt; a response ends at the
    template's end-of-turn token. Where a template knows `enable_thinking`, it is off. Control tokens typed in a message
    stay plain text: they are replaced by numbers between MARKS while the template runs, and tokenised apart.
    """

    name = CHAT
    has_end = True  # `check` finds a template without one

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        control = [
            token.content for token in tokenizer.added_tokens_decoder.values()
            if token.special or _is_sign(token.content) and token.content in str(tokenizer.chat_template)
        ]  # fmt: skip
        self._control = [*sorted(control, key=len, reverse=True), *MARKS]
        self._typed = re.compile("|".join(map(re.escape, self._control)))

    def check(self, turns: list[str], responses: Sequence[str] = ()) -> None:
        """Raises InputError if the template refuses the dialogue, or one of the responses to it."""
        messages = chat_messages(turns, "")
        opening = self._opening(messages)
        for response in responses:
            self._whole(messages, opening, response)

    def encode_prompt(self, turns: list[str], max_prompt: int = MAX_PROMPT) -> list[int]:
        """Returns the ids of a prompt; of a longer one than `max_prompt`, see `_fitted`."""
        return self._tokens(self._fitted(turns, max_prompt)[1])[0]

    def encode_ranking(
        self, turns: list[str], responses: Sequence[str], max_prompt: int, append_end: bool = True
    ) -> list[tuple[list[int], list[int]]]:
        """Returns (prompt ids, response ids) of each response; split as in PublishedText, if tokens cross."""
        messages, opening = self._fitted(turns, max_prompt)
        end = self._closing[0] if append_end else ""
        pairs = []
        for response in responses:
            ids, n_prompt = self._tokens(self._whole(messages, opening, response) + end, len(opening))
            pairs.append((ids[:n_prompt], ids[n_prompt:]))
        return pairs

    def encode_dialogue(self, turns: list[str], response: str, max_length: int) -> list[int]:
        """Returns the ids of a whole dialogue, at most `max_length`, as a reward model reads it.

        The oldest exchanges of a longer dialogue are dropped. If the last exchange alone is too long, its ids are cut
        after the template's head (BOS, a system text, the first turn's header), so that head and end are kept.

        Raises:
            InputError: the template refuses the dialogue.
        """
        messages = chat_messages(turns, response)
        system = [message for message in messages[:1] if message["role"] == "system"]
        ids = self._dialogue_ids(messages)
        while len(ids) > max_length and len(messages) > len(system) + 2:
            messages = system + messages[len(system) + 2 :]
            ids = self._dialogue_ids(messages)
        if len(ids) <= max_length:
            return ids
        head = min(_shared(ids, self._head(system)), max_length - 1)
        return ids[:head] + ids[len(ids) - (max_length - head) :]

    def has_ended(self, response: list[int]) -> bool:
        """Returns False: only `stop_ids` and EOS end a response."""
        return False

    def text(self, response: list[int]) -> str:
        """Returns the stripped text of a response's ids."""
        return decoded(self.tokenizer, response).strip()

    def cleaned(self, text: str) -> str:
        """Returns the stripped text of a response from a server, which may show the end of the turn."""
        return text.split(self.stop_strings[0])[0].strip()

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The text of the end of a turn."""
        return (self._closing[0].strip(),)

    @property
    def stop_ids(self) -> frozenset[int]:
        """The end-of-turn token."""
        return frozenset(self._tokens(self._closing[0])[0][-1:])

    @cached_property
    def template_ids(self) -> frozenset[int]:
        """The ids of a small dialogue, and so of the template's control tokens."""
        return frozenset(self.encode_ranking([PROMPTER + "0", ASSISTANT], ["0"], MAX_PROMPT)[0][0]) | self.stop_ids

    @cached_property
    def _closing(self) -> tuple[str, str]:
        """(The end of a response, all that the template puts after one). The end is up to the first control token, or,
        where there is none, EOS."""
        messages = chat_messages([PROMPTER + "0", ASSISTANT], "")
        text = self._render(_answered(messages, "0"))
        closing = text[len(self._shared_text(messages)) + 1 :]
        control = self._typed.search(closing)
        end = closing[: control.end()] if control else self.tokenizer.eos_token
        if not end:
            raise InputError("the chat template ends turns in no special token, and the tokenizer has no EOS")
        return end, closing

    def _fitted(self, turns: list[str], max_prompt: int) -> tuple[Messages, str]:
        """Returns (messages, their text up to the response), shortened until that has at most `max_prompt` tokens.

        What is left is again a dialogue that the template renders: the oldest exchanges are dropped while more than one
        is left, then the first words of the last one, at last those of the system message.
        """
        messages = chat_messages(turns, "")
        opening = self._opening(messages)
        while (excess := len(self._tokens(opening)[0]) - max_prompt) > 0:
            if not any(message["content"] for message in messages):
                raise InputError(f"the chat template alone takes more than the {max_prompt} tokens of a prompt")
            messages = self._shortened(messages, excess)
            opening = self._opening(messages)
        return messages, opening

    def _shortened(self, messages: Messages, excess: int) -> Messages:
        """Returns the messages without their oldest exchange or, of the only one, its first `excess` tokens."""
        first = int(messages[0]["role"] == "system")
        exchange = 1 if messages[first]["role"] == "assistant" else 2  # what begins after it is a user's turn
        if len(messages) - 1 > first + exchange:  # the last message is the response's, here empty
            return messages[:first] + messages[first + exchange :]
        order = [*range(first, len(messages)), *range(first)]
        index = next(index for index in order if messages[index]["content"])
        content = messages[index]["content"]
        offsets = tokenized(
            self.tokenizer, content, split_special_tokens=True, return_offsets_mapping=True, verbose=False
        )["offset_mapping"]
        cut = offsets[min(excess, len(offsets)) - 1][1] if offsets else len(content)
        shorter = {**messages[index], "content": content[max(cut, 1) :]}
        return [*messages[:index], shorter, *messages[index + 1 :]]

    def _opening(self, messages: Messages) -> str:
        """Returns the text up to the content of the last message, without white space that a response's token may take.

        It is the template's generation prompt or longer, where the template puts more before a response.
        """
        opening, generation_prompt = self._shared_text(messages), ""
        if messages[-1]["role"] == "assistant":
            generation_prompt = self._render(messages[:-1], add_generation_prompt=True)
        if not opening.startswith(generation_prompt):
            raise InputError("the chat template's generation prompt is not how its assistant's turns begin")
        return opening[: max(len(generation_prompt), len(opening.rstrip()))]

    def _shared_text(self, messages: Messages) -> str:
        """Returns the common beginning of all texts that differ in the end of the last message only."""
        one, other = (self._render(_answered(messages, response)) for response in "0A")
        if one == other:
            raise InputError("the chat template leaves out the response")
        return one[: _shared(one, other)]

    def _whole(self, messages: Messages, opening: str, response: str) -> str:
        """Returns the text of prompt and response, without its end."""
        text, closing = self._render(_answered(messages, response)), self._closing[1]
        if not text.startswith(opening) or not text.endswith(closing):
            raise InputError(f"the chat template changes the prompt's text with the response {response!r:.40}")
        return text.removesuffix(closing)

    def _head(self, system: Messages) -> list[int]:
        """The common beginning of all dialogues' ids, taken from two that differ from their first character on."""
        one, other = (
            self._dialogue_ids([*system, {"role": "user", "content": text}, {"role": "assistant", "content": "x"}])
            for text in "0A"
        )
        return one[: _shared(one, other)]

    def _dialogue_ids(self, messages: Messages) -> list[int]:
        return self._tokens(self._render(messages))[0]

    @cached_property
    def _template(self) -> str:
        template = self.tokenizer.get_chat_template()
        return FIXED_DATE + template if "strftime_now" in template else template

    def _render(self, messages: Messages, add_generation_prompt: bool = False) -> str:
        """Returns the template's text, with typed control tokens as numbers between MARKS."""
        marked = [{**message, "content": self._typed.sub(self._mark, message["content"])} for message in messages]
        try:
            text = self.tokenizer.apply_chat_template(
                marked, chat_template=self._template, tokenize=False, add_generation_prompt=add_generation_prompt,
                enable_thinking=False,
            )  # fmt: skip
        except Exception as error:  # a template is a program, which may raise anything; none of our code runs inside
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"the chat template refuses the dialogue ({reason})") from error
        if not set(MARKED.findall(text)) <= {n for message in marked for n in MARKED.findall(message["content"])}:
            raise InputError("the chat template puts U+FDD0 and U+FDD1 around a number (expected no such characters)")
        return text

    def _mark(self, found: re.Match[str]) -> str:
        return f"{MARKS[0]}{self._control.index(found.group())}{MARKS[1]}"

    def _tokens(self, text: str, n_chars: int = 0) -> tuple[list[int], int]:
        """Returns the ids of a rendered text, and how many of them end within its first `n_chars` characters."""
        ids, n_within = [], 0
        for start, end, piece, is_typed in self._pieces(text):
            both = tokenized(
                self.tokenizer, piece, split_special_tokens=is_typed, return_offsets_mapping=n_chars > 0, verbose=False
            )
            its = both["input_ids"]
            if is_typed and self.tokenizer.convert_tokens_to_ids(piece) in its:  # not declared special: never split
                its = [id_ for char in piece for id_ in tokenized(self.tokenizer, char)["input_ids"]]
            ids += its
            if is_typed:
                n_within += len(its) if end <= n_chars else 0
            elif n_chars:
                n_within += sum(start + stop <= n_chars for _, stop in both["offset_mapping"])
        return ids, n_within

    def _pieces(self, text: str) -> Iterator[tuple[int, int, str, bool]]:
        """Yields (start, end, text, whether it is a typed control token) of each piece of a rendered text."""
        start = 0
        for number, part in enumerate(MARKED.split(text)):
            is_typed = number % 2 == 1
            end = start + len(part) + 2 * is_typed
            if part:
                yield start, end, self._control[int(part)] if is_typed else part, is_typed
            start = end


PromptFormat = PublishedText | ChatTemplate


def _is_sign(token: str) -> bool:
    """Returns whether a token is more than white space or a word, which an ordinary text may hold."""
    return bool(token.strip()) and not token.strip().isalnum()


def _answered(messages: Messages, response: str) -> Messages:
    """Returns the messages with `response` at the end of the last one."""
    return [*messages[:-1], {**messages[-1], "content": messages[-1]["content"] + response}]


def _shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Returns the length of the common prefix of two sequences."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def prompt_format(name: str, tokenizer: PreTrainedTokenizerBase) -> PromptFormat:
    """Returns the format `name`, one of PROMPT_FORMATS, of a tokenizer. Raises InputError if it has no such format."""
    if name == HH or name == AUTO and not tokenizer.chat_template:
        return PublishedText(tokenizer)
    if not tokenizer.chat_template:
        found = f"the tokenizer of {tokenizer.name_or_path} has no chat template"
        raise InputError(f"--prompt_format chat: {found} (expected one, or hh)")
    if not tokenizer.is_fast:
        raise InputError(f"{tokenizer.name_or_path}: its tokenizer gives no offsets (expected a fast tokenizer)")
    chat = ChatTemplate(tokenizer)
    try:
        chat.check([PROMPTER + "0", ASSISTANT], ["0"])
    except InputError as error:
        raise InputError(f"{tokenizer.name_or_path}: {error}") from error
    return chat


def resolved_format(name: str, path: str | Path) -> str:
    """Returns "hh" or "chat": what `name` comes to with the tokenizer of a folder or hub name."""
    return prompt_format(name, load_tokenizer(path)).name if name == AUTO else name


def check_lines(made_by: PromptFormat, path: str | Path, dialogues: Iterator[tuple[list[str], Sequence[str]]]) -> None:
    """Raises InputError that names the line of a file whose dialogue, (turns, responses), the format refuses."""
    for number, (turns, responses) in enumerate(dialogues, start=1):
        with at_line(path, number):
            made_by.check(turns, responses)
