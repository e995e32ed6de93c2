"""Prompts from wherever a user has them: JSONL files, files of rankings, data sets on disk or on the hub.

Library. Every prompt comes out as the text a model reads (see dialogue.render_prompt), so that numbers
computed on different sources compare.
"""

import os
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data_preprocess.command import InputError
from data_preprocess.dialogue import ASSISTANT, PROMPTER, parse_prompt, render_prompt
from data_preprocess.files import read_jsonl
from data_preprocess.records import check_row

ROLES = {"user": PROMPTER, "human": PROMPTER, "prompter": PROMPTER, "assistant": ASSISTANT, "gpt": ASSISTANT}
GUESSED_COLUMNS = ("prompt", "prefix")
HUB = "https://huggingface.co"
HUB_TIMEOUT = 10.0  # seconds


def load_prompts(source: str, column: str | None = None, split: str = "train") -> list[str]:
    """The prompts of a source as rendered texts; arguments and errors as load_texts."""
    return [prompt for prompt, _ in load_texts(source, column, split)]


def load_texts(source: str, column: str | None = None, split: str = "train") -> Iterator[tuple[str, list[str]]]:
    """Yields the prompts of a source as rendered texts, each with its responses: none where a row is no ranking.

    Args:
        source: a JSONL file (.gz too), a folder with train.json, a data set saved on disk, a folder that
            `datasets` can read, or a data set's name on the hub.
        column: the field that holds the prompt; by default "prompt", else "prefix" (a ranking). It is a text,
            a list of tagged turns, or a list of {role, content} messages, of which system messages and a last
            reply are left out.
        split: which split of a data set.

    Raises:
        InputError: one line that names the row at fault, or what to pass where the hub is out of reach.
    """
    empty = True
    for where, row in source_rows(source, split):
        name = column or next((name for name in GUESSED_COLUMNS if name in row), None)
        if name not in row:
            wanted = f"--column {column}" if column else "a prompt or prefix field, or --column"
            raise InputError(f"{where}: fields are {', '.join(row) or 'none'} (expected {wanted})")
        if column is None and name == "prefix":
            check_row(row, where, training=False)
            yield render_prompt(row["prefix"][0]), row["suffix"]
        else:
            yield prompt_text(row[name], f"{where}: {name}"), []
        empty = False
    if empty:
        raise InputError(f"{source}: no prompts (the file or data set is empty)")


def prompt_text(value: Any, where: str) -> str:
    """Renders one prompt: a text, a list of tagged turns, or a list of {role, content} messages.

    A text that opens with "\\n\\nHuman:" is a rendered dialogue already and stays as it is.
    """
    if isinstance(value, str):
        return value if value.startswith("\n\nHuman:") else render_prompt([PROMPTER + value, ASSISTANT])
    return render_prompt(prompt_turns(value, where))


def prompt_turns(value: Any, where: str) -> list[str]:
    """The same prompt as tagged turns, the last one a bare tag.

    System messages and a last reply are left out of messages. A text that opens with "\\n\\nHuman:" is taken
    apart into its turns.
    """
    if isinstance(value, str):
        return parse_prompt(value) or [PROMPTER + value, ASSISTANT]
    if not isinstance(value, list) or not value:
        raise InputError(f"{where} is {value!r:.40} (expected a text, or a list of turns or messages)")
    if all(isinstance(turn, str) for turn in value):
        for turn in value:
            if not turn.startswith((PROMPTER, ASSISTANT)):
                raise InputError(f"{where}: turn {turn!r:.40} (expected {PROMPTER} or {ASSISTANT} first)")
        return value if value[-1] in (PROMPTER, ASSISTANT) else [*value, ASSISTANT]
    return _turns(value, where)


def _turns(messages: list, where: str) -> list[str]:
    turns = []
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise InputError(f"{where}: message {message!r:.40} (expected role and content)")
        role = message.get("role")
        if role == "system":
            continue
        if not isinstance(role, str) or role not in ROLES:
            raise InputError(f"{where}: role {role!r} (expected system, {', '.join(ROLES)})")
        turns.append(ROLES[role] + message["content"])
    if turns and turns[-1].startswith(ASSISTANT):
        turns.pop()
    if not turns:
        raise InputError(f"{where}: no message by a user")
    return [*turns, ASSISTANT]


def source_rows(source: str, split: str) -> Iterator[tuple[str, dict]]:
    """Yields ("source:line", row) of a JSONL file, a folder with train.json, or a data set."""
    path = Path(source)
    if (path / "train.json").is_file():
        path = path / "train.json"
    if path.is_file() and path.suffix != ".parquet":
        numbered: Iterable[tuple[int, dict]] = read_jsonl(path)
    else:
        numbered = enumerate(load_data_set(source, split), start=1)
    for number, row in numbered:
        yield f"{path}:{number}", row


def load_data_set(source: str, split: str, data_dir: str | None = None) -> Iterable[dict]:
    """One split of a data set saved on disk, of a folder or Parquet file that `datasets` reads, or of the hub's.

    Raises:
        InputError: one line that says why it cannot be loaded and what to pass instead.
    """
    path = Path(source)
    if not path.exists() and (source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise InputError(f"{source}: no such file or folder")
    if not path.exists() and not _hub_answers():
        # Then only the local cache is asked; the hub client, which reads this when it is imported, would retry
        # for half a minute.
        os.environ["HF_HUB_OFFLINE"] = "1"
    import datasets

    saved = any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))
    try:
        if not saved:
            if path.suffix == ".parquet":
                return datasets.load_dataset("parquet", data_files=source, split="train")
            return datasets.load_dataset(source, data_dir=data_dir, split=split)
        loaded = datasets.load_from_disk(source)
    except Exception as error:
        # The library raises many kinds of errors here, from the network's to the file formats'.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        local = "" if path.exists() else "; pass a local JSONL file or a folder saved by save_to_disk"
        raise InputError(f"{source}: cannot be loaded as a data set ({reason}){local}") from error
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise InputError(f"{source}: no split {split} (--split: {', '.join(loaded)})")
        return loaded[split]
    return loaded


def _hub_answers() -> bool:
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return False
    try:
        urllib.request.urlopen(os.environ.get("HF_ENDPOINT") or HUB, timeout=HUB_TIMEOUT).close()
    except urllib.error.HTTPError:
        return True  # an answer, if a refusal: load_dataset says which
    except OSError:
        return False
    return True
