"""Exports for other tools: preference pairs for TRL, and prompts with ids for labelling.

For prepare.py --export.
"""

from collections.abc import Iterable, Iterator
from itertools import combinations, islice
from pathlib import Path

from data_preprocess.command import InputError
from data_preprocess.dialogue import PROMPTER, render_prompt, split_turn
from data_preprocess.files import atomic_write, write_jsonl
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.preparing.raw_hh import alternates

ROW_GROUP = 10_000  # pairs held in memory at a time


def messages(turns: list[str]) -> list[dict[str, str]]:
    """Returns the turns, without the final bare tag, as {role, content} messages."""
    pairs = [split_turn(turn) for turn in turns[:-1]]
    return [{"role": "user" if tag == PROMPTER else "assistant", "content": text} for tag, text in pairs]


def preference_pairs(pool: Iterable[Candidates], conversational: bool) -> Iterator[dict]:
    """Yields every pair of responses with different rewards as a TRL preference row.

    In the standard form, prompt + completion is the training text: "...\\n\\nAssistant:" and " " + response.
    """
    for candidates in pool:
        for a, b in combinations(range(len(candidates.responses)), 2):
            if candidates.rewards[a] == candidates.rewards[b]:
                continue
            best, worst = (a, b) if candidates.rewards[a] > candidates.rewards[b] else (b, a)
            chosen, rejected = candidates.responses[best], candidates.responses[worst]
            if conversational:
                yield {
                    "prompt": messages(candidates.prefix),
                    "chosen": [{"role": "assistant", "content": chosen}],
                    "rejected": [{"role": "assistant", "content": rejected}],
                }
            else:
                prompt = render_prompt(candidates.prefix)
                yield {"prompt": prompt, "chosen": " " + chosen, "rejected": " " + rejected}


def write_trl(path: Path, pool: Iterable[Candidates], conversational: bool) -> int:
    """Writes the pairs as Parquet with the columns prompt, chosen and rejected; returns their number.

    InputError if no prompt has two responses with different rewards.
    """
    import pyarrow
    from pyarrow import parquet

    message = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    column = pyarrow.list_(message) if conversational else pyarrow.string()
    schema = pyarrow.schema([(name, column) for name in ("prompt", "chosen", "rejected")])
    pairs = preference_pairs(pool, conversational)
    count = 0
    with atomic_write(path, "wb") as file, parquet.ParquetWriter(file, schema) as writer:
        while group := list(islice(pairs, ROW_GROUP)):
            writer.write_table(pyarrow.Table.from_pylist(group, schema))
            count += len(group)
        if not count:
            raise InputError(f"{path}: no pairs (expected prompts with responses whose rewards differ)")
    return count


def write_prompts(path: Path, pool: Iterable[Candidates], with_responses: bool = False) -> None:
    """Writes each prompt's id and messages as JSONL, for labellers to answer; --join reads the answers.

    A prompt in which a role speaks twice in a row is written as text, since such messages are not read.
    `with_responses` also writes responses as `completions`, without rewards, for those who rank them.
    """
    write_jsonl(path, (_prompt_row(candidates, with_responses) for candidates in pool))


def _prompt_row(candidates: Candidates, with_responses: bool) -> dict:
    turns = candidates.prefix
    responses = {"completions": candidates.responses} if with_responses and candidates.responses else {}
    prompt = messages(turns) if alternates(turns) else render_prompt(turns)
    return {"id": candidates.meta["id"], "prompt": prompt, **responses}
