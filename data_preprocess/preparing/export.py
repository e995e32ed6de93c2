"""Exports for training elsewhere: preference pairs for TRL, OpenRLHF, LLaMA-Factory and Axolotl; and prompts with ids.

For prepare.py --export. The file's ending chooses how rows are written: .jsonl, .json (an array) or .parquet.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations, islice
from pathlib import Path

from data_preprocess.command import InputError
from data_preprocess.dialogue import PROMPTER, render_prompt, split_turn
from data_preprocess.files import atomic_write, compact_json, json_line, write_jsonl
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.preparing.raw_hh import alternates

ROW_GROUP = 10_000  # pairs held in memory at a time
ENDINGS = (".jsonl", ".json", ".parquet")
OTHER_FORMATS = (".csv", ".tsv", ".xlsx", ".parquet")  # than JSON lines
ROLES = {"user": "human", "assistant": "gpt"}  # ShareGPT's names
Pair = tuple[Candidates, str, str]  # prompt, better and worse response
ToRow = Callable[[Candidates, str, str], dict]


def prompt_messages(candidates: Candidates) -> list[dict[str, str]]:
    """Returns the prompt as {role, content} messages, without its final bare tag and after its system message."""
    pairs = [split_turn(turn) for turn in candidates.prefix[:-1]]
    said = [_message("user" if tag == PROMPTER else "assistant", text) for tag, text in pairs]
    system = candidates.meta.get("system")
    return [_message("system", system), *said] if isinstance(system, str) and system.strip() else said


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def preference_pairs(pool: Iterable[Candidates]) -> Iterator[Pair]:
    """Yields (prompt, better response, worse response) for every pair of responses with different rewards."""
    for candidates in pool:
        for a, b in combinations(range(len(candidates.responses)), 2):
            if candidates.rewards[a] == candidates.rewards[b]:
                continue
            best, worst = (a, b) if candidates.rewards[a] > candidates.rewards[b] else (b, a)
            yield candidates, candidates.responses[best], candidates.responses[worst]


def trl_conversational(prompt: Candidates, chosen: str, rejected: str) -> dict:
    """TRL's conversational preference format: the replies are lists of one message."""
    replies = {"chosen": [_message("assistant", chosen)], "rejected": [_message("assistant", rejected)]}
    return {"prompt": prompt_messages(prompt), **replies}


def trl_standard(prompt: Candidates, chosen: str, rejected: str) -> dict:
    """TRL's standard format: prompt + completion is the training text, "...\\n\\nAssistant:" and " " + response."""
    return {"prompt": render_prompt(prompt.prefix), "chosen": " " + chosen, "rejected": " " + rejected}


def openrlhf(prompt: Candidates, chosen: str, rejected: str) -> dict:
    """OpenRLHF with --apply_chat_template and the default keys: two whole conversations."""
    said = prompt_messages(prompt)
    return {"chosen": [*said, _message("assistant", chosen)], "rejected": [*said, _message("assistant", rejected)]}


def llamafactory(prompt: Candidates, chosen: str, rejected: str) -> dict:
    """LLaMA-Factory's preference data in ShareGPT format; the system message has a column of its own."""
    turns = [
        {"from": ROLES[one["role"]], "value": one["content"]} for one in prompt_messages(prompt) if one["role"] in ROLES
    ]
    replies = {"chosen": {"from": "gpt", "value": chosen}, "rejected": {"from": "gpt", "value": rejected}}
    return {"conversations": turns, **replies, "system": prompt.meta.get("system") or ""}


def axolotl(prompt: Candidates, chosen: str, rejected: str) -> dict:
    """Axolotl's `type: chat_template.default` of `rl: dpo`: messages, and a reply of each kind."""
    replies = {"chosen": _message("assistant", chosen), "rejected": _message("assistant", rejected)}
    return {"messages": prompt_messages(prompt), **replies}


PAIR_FORMS: dict[str, ToRow] = {
    "trl": trl_conversational,
    "openrlhf": openrlhf,
    "llamafactory": llamafactory,
    "axolotl": axolotl,
}


def usage(tool: str, path: Path) -> str:
    """Returns what to tell a tool to read a file of pairs; "" for TRL, which reads its columns as they are."""
    kind = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}[path.suffix.lower()]
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "system": "system"}
    entry = {path.stem: {"file_name": path.name, "formatting": "sharegpt", "ranking": True, "columns": columns}}
    return {
        "trl": "",
        "openrlhf": f"OpenRLHF: --dataset {path} --apply_chat_template --chosen_key chosen --rejected_key rejected",
        "llamafactory": f"LLaMA-Factory: in dataset_info.json beside it: {json.dumps(entry)[1:-1]}",
        "axolotl": f"Axolotl: rl: dpo; datasets: [{{path: {path}, ds_type: {kind}, split: train, "
        "type: chat_template.default}]",
    }[tool]


def check_ending(path: Path, endings: tuple[str, ...]) -> None:
    """Raises InputError unless the name of the --output file has one of these endings."""
    if path.suffix.lower() not in endings:
        raise InputError(f"--output {path}: the ending chooses the format (expected {', '.join(endings)})")


def check_json_lines(path: Path, flag: str) -> None:
    """Raises InputError, naming the flag, if a file of JSON lines would have the ending of another format."""
    if path.suffix.lower() in OTHER_FORMATS:
        raise InputError(f"--{flag} {path}: JSON lines are written (expected a name that ends in .jsonl)")


def write_pairs(path: Path, pool: Iterable[Candidates], to_row: ToRow) -> int:
    """Writes every pair of responses with different rewards in the form of a tool; returns their number.

    InputError for another ending than ENDINGS, or if no prompt has two responses with different rewards.
    """
    check_ending(path, ENDINGS)
    rows = (to_row(*pair) for pair in preference_pairs(pool))
    count = 0
    with atomic_write(path, "wb") as file:
        write = {".jsonl": _json_lines, ".json": _json_array, ".parquet": _parquet}[path.suffix.lower()]
        for group in write(file, rows):
            count += group
        if not count:
            raise InputError(f"{path}: no pairs (expected prompts with responses whose rewards differ)")
    return count


def _json_lines(file, rows: Iterator[dict]) -> Iterator[int]:
    for row in rows:
        file.write(json_line(row).encode("utf-8"))
        yield 1


def _json_array(file, rows: Iterator[dict]) -> Iterator[int]:
    opening = b"[\n"
    for row in rows:
        file.write(opening + compact_json(row).encode("utf-8"))
        opening = b",\n"
        yield 1
    file.write(b"\n]\n")


def _parquet(file, rows: Iterator[dict]) -> Iterator[int]:
    import pyarrow
    from pyarrow import parquet

    writer = None
    while group := list(islice(rows, ROW_GROUP)):
        table = pyarrow.Table.from_pylist(group, writer.schema if writer else None)
        writer = writer or parquet.ParquetWriter(file, table.schema)
        writer.write_table(table)
        yield len(group)
    if writer:
        writer.close()


def write_prompts(path: Path, pool: Iterable[Candidates], with_responses: bool = False) -> None:
    """Writes each prompt's id, messages and columns as JSONL, for labellers to answer; --join reads the answers.

    A prompt in which a role speaks twice in a row is written as text, since such messages are not read.
    `with_responses` also writes responses as `completions`, without rewards, for those who rank them.
    """
    write_jsonl(path, (_prompt_row(candidates, with_responses) for candidates in pool))


def _prompt_row(candidates: Candidates, with_responses: bool) -> dict:
    turns, system = candidates.prefix, candidates.meta.get("system")
    prompt = {"prompt": prompt_messages(candidates)}
    if not alternates(turns):
        prompt = {"prompt": render_prompt(turns), **({"system": system} if system else {})}
    responses = {"completions": candidates.responses} if with_responses and candidates.responses else {}
    return {"id": candidates.meta["id"], **prompt, **responses, **candidates.columns()}
