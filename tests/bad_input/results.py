"""Bad result files: each is left out of the report by name, and one alone leaves nothing to report on."""

import lzma
from collections.abc import Callable
from typing import Any

from study_for_bad_input import RESULT

from bad_input.table import BadInput, cut, edit, text

REPORT = "report.py --results {root}/eval_hh/results --output {root}/report"
FIGURE = "figures.py --results {root}/eval_hh/results --output {root}/figure.png"
PACKED = "cells.jsonl.xz"
STUDY = f"report.py --results {{root}}/{PACKED} --output {{root}}/report"
HELPFUL = "files.helpful_base"


def spoilt(name: str, function: Callable[[Any], Any], *expected: str, command: str = REPORT) -> BadInput:
    """A row: `function` changes the one result file there is."""
    return BadInput(name, command, ("trained_4.json", *expected), (edit(RESULT, function),))


def in_file(name: str, function: Callable[[Any], Any], *expected: str) -> BadInput:
    """A row: `function` changes a result file's entry of helpful_base."""
    return spoilt(name, lambda cell: function(cell["files"]["helpful_base"]), *expected)


ROWS = [
    BadInput("results, no folder", "report.py --results {root}/none", ("{root}/none: no such file or folder",)),
    BadInput("a study's file not packed", STUDY, ("cells.jsonl.xz:1: damaged or truncated xz file",),
             (text(PACKED, '{"schema": 2}\n'),)),
    BadInput("a study's file cut", STUDY, ("cells.jsonl.xz:1: damaged or truncated xz file",),
             (text(PACKED, lzma.compress(b'{"schema": 2}\n' * 999)[:40]),)),
    BadInput("a study's file of texts", STUDY, ("cells.jsonl.xz:2: not valid JSON",),
             (text(PACKED, lzma.compress(b'{"schema": 2}\nnothing\n')),)),
    BadInput("a study's file with a cell of no fields", STUDY, ("cells.jsonl.xz:1: profile: missing",),
             (text(PACKED, lzma.compress(b'{"schema": 1}\n')),)),
    BadInput("results cut", REPORT, ("trained_4.json:1: not valid JSON",), (cut(RESULT, 300),)),
    BadInput("results empty file", REPORT, ("trained_4.json:1: not valid JSON",), (text(RESULT, ""),)),
    BadInput("results not UTF-8", REPORT, ("trained_4.json:1: not UTF-8",), (text(RESULT, b'{"a": "\xff"}'),)),
    BadInput("results a list", REPORT, ("trained_4.json: expected a JSON object",), (text(RESULT, "[1]"),)),
    BadInput("results a number", REPORT, ("trained_4.json: expected a JSON object",), (text(RESULT, "5"),)),
    BadInput("results endless digits", REPORT, ("trained_4.json", "not JSON that can"), (text(RESULT, "1" * 5000),)),
    BadInput("results endless brackets", REPORT, ("trained_4.json", "not JSON that can"), (text(RESULT, "[" * 99999),)),
    spoilt("results schema 1", lambda cell: cell.update(schema=1), "schema: expected 2"),
    spoilt("results no seed", lambda cell: cell.__delitem__("seed"), "seed: missing"),
    spoilt("results seed true", lambda cell: cell.update(seed=True), "seed: expected int, found True"),
    spoilt("results another seed", lambda cell: cell.update(seed=43), "config", "seed 43"),
    spoilt("results seed huge", lambda cell: cell.update(seed=10**400), "seed: expected int"),
    spoilt("results a field more", lambda cell: cell.update(note="x"), "note: not a field"),
    spoilt("results config empty", lambda cell: cell.update(config={}), "config: expected the run's settings"),
    spoilt("results config null", lambda cell: cell.update(config=None), "config: expected dict, found None"),
    spoilt("results config holds nan", lambda cell: cell["config"].update(x=float("nan")), "not valid JSON"),
    spoilt("results config holds 10**400", lambda cell: cell["config"].update(x=10**400), "not valid JSON"),
    spoilt("results half a character", lambda cell: cell.update(profile="\ud800"), "unpaired surrogate"),
    spoilt("results algorithm", lambda cell: cell.update(algorithm="DPO"), "algorithm: expected PRO or SFT"),
    spoilt("results M 0", lambda cell: cell.update(num_prompts=0), "num_prompts: expected a positive number"),
    spoilt("results M as a float", lambda cell: cell.update(num_prompts=12.0), "num_prompts: expected int"),
    spoilt("results M of another D", lambda cell: cell.update(num_prompts=13), "diversity.samples: 12 prompts"),
    spoilt("results K huge", lambda cell: cell.update(ranking_len=2**63), "ranking_len: expected int up to 2**53"),
    spoilt("results world a number", lambda cell: cell.update(world=5), "world: expected str or null"),
    spoilt("results D nan", lambda cell: cell["diversity"].update(score=float("nan")), "diversity.score: expected"),
    spoilt("results D huge", lambda cell: cell["diversity"].update(score=10**400), "diversity.score: expected int or"),
    spoilt("results D too large", lambda cell: cell["diversity"].update(score=3.5), "3.46 is the square root of 12"),
    spoilt("results D a text", lambda cell: cell["diversity"].update(score="2"), "diversity.score: expected int or"),
    spoilt("results more distinct than all", lambda cell: cell["diversity"].update(unique=10**6), "diversity.unique"),
    spoilt("results no evaluation", lambda cell: cell["evaluation"].clear(), "evaluation.checkpoint: missing"),
    spoilt("results evaluation a list", lambda cell: cell["evaluation"].update(generation=[]), "evaluation.generation"),
    spoilt("results a file less", lambda cell: cell["files"].__delitem__("helpful_online"), "helpful_online: missing"),
    spoilt("results a file null", lambda cell: cell["files"].update(helpful_base=None), f"{HELPFUL}: expected dict"),
    in_file("results reward 10**400", lambda it: it["reward"].__setitem__(0, 10**400), f"{HELPFUL}.reward[0]"),
    in_file("results reward -10**400", lambda it: it["reward"].__setitem__(1, -(10**400)), f"{HELPFUL}.reward[1]"),
    in_file("results reward 2", lambda it: it["reward"].__setitem__(2, 2), f"{HELPFUL}.reward[2]", "0..1, found 2"),
    in_file("results reward nan", lambda it: it["reward"].__setitem__(3, float("nan")), f"{HELPFUL}.reward[3]"),
    in_file("results reward true", lambda it: it["reward"].__setitem__(0, True), f"{HELPFUL}.reward: expected numb"),
    in_file("results reward null", lambda it: it["reward"].__setitem__(0, None), f"{HELPFUL}.reward: expected numb"),
    in_file("results another reward", lambda it: it["reward"].__setitem__(0, 0.0), f"{HELPFUL}.mean.reward: not the"),
    in_file("results a reward less", lambda it: it["reward"].__delitem__(-1), f"{HELPFUL}.reward: 3 values for 4 rows"),
    in_file("results rewards an object", lambda it: it.update(reward={}), f"{HELPFUL}.reward: expected list"),
    in_file("results BLEU 101", lambda it: it["bleu"].__setitem__(0, 101), f"{HELPFUL}.bleu[0]", "0..100"),
    in_file("results another BLEU", lambda it: it["bleu"].__setitem__(0, 99.0), f"{HELPFUL}.mean.bleu: not the mean"),
    in_file("results extra without mean", lambda it: it.update(extra={"a": [0.5] * 4}), "extra.a", "no mean"),
    in_file("results extra of a taken name", lambda it: it.update(extra={"bleu": [0.5] * 4}), f"{HELPFUL}.extra: bleu"),
    in_file("results extra a list", lambda it: it.update(extra=[1]), f"{HELPFUL}.extra: expected dict"),
    in_file("results mean a text", lambda it: it["mean"].update(reward="high"), f"{HELPFUL}.mean.reward: expected a"),
    in_file("results mean infinite", lambda it: it["mean"].update(reward=float("inf")), f"{HELPFUL}.mean.reward"),
    in_file("results mean of nothing", lambda it: it["mean"].update(other=0.5), f"{HELPFUL}.mean.other: not a column"),
    in_file("results interval turned", lambda it: it.update(interval=[1, 0]), f"{HELPFUL}.interval"),
    in_file("results a row twice", lambda it: it["row_id"].__setitem__(0, it["row_id"][1]), f"{HELPFUL}.row_id"),
    in_file("results row ids mixed", lambda it: it["row_id"].__setitem__(0, 5), f"{HELPFUL}.row_id: expected whole"),
    spoilt("results to draw", lambda cell: cell.update(config={}), "config", command=FIGURE),
]  # fmt: skip
