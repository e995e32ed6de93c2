"""The dialogue format: tagged turns, the prompt text a model reads, and raw HH-RLHF text parsed into turns.

Library, and the one home of the role tags. A turn is a role tag followed by its text; a prompt is a list of
turns that ends in a bare tag, the role that speaks next.
"""

PROMPTER = "<|prompter|>"
ASSISTANT = "<|assistant|>"
ROLE_NAMES = {PROMPTER: "Human:", ASSISTANT: "Assistant:"}
STOP_STRINGS = ("Human:", "human:", "Assistant:", "assistant:")


def split_turn(turn: str) -> tuple[str, str]:
    """Splits "<|role|>text" into (tag, text); only a tag at the start counts. ValueError without one."""
    for tag in ROLE_NAMES:
        if turn.startswith(tag):
            return tag, turn[len(tag) :]
    raise ValueError(f"a turn must start with {PROMPTER} or {ASSISTANT}, found {turn[:40]!r}")


def render_prompt(turns: list[str]) -> str:
    """The prompt as a language model reads it: "\\n\\nHuman: ...\\n\\nAssistant:", no white space at the end.

    A tag inside a turn's text stays text, so a user who types one does not open a turn.
    """
    texts = []
    for turn in turns:
        tag, text = split_turn(turn)
        texts.append(f"\n\n{ROLE_NAMES[tag]} {text}")
    return "".join(texts).rstrip()


def training_text(turns: list[str], response: str) -> str:
    """The text trained on: the rendered prompt, one space, the response."""
    return render_prompt(turns) + " " + response


def cut_at_stop(text: str) -> str:
    """The text before the first stop string: what follows would be a turn that the model made up."""
    cuts = [text.find(stop) for stop in STOP_STRINGS]
    return text[: min((cut for cut in cuts if cut >= 0), default=len(text))]
