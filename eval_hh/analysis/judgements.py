"""The result files of eval_hh/judge.py: who won on which prompt; read, checked and summarised."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_preprocess.command import InputError
from data_preprocess.files import read_json
from eval_hh.analysis.win_rates import TIE, win_contrasts
from eval_hh.cells import MAX_EXACT, Fields, check_fields
from eval_hh.estimates import Contrast, holm

JUDGED = "judged"  # folder, beside the cells', of these files
SCHEMA = 1
NULL = type(None)
FIELDS: Fields = {
    "schema": (int,), "a": (str,), "b": (str,), "judge": (dict,), "profile": (str, NULL), "world": (str, NULL),
    "pairs": (list,), "tokens": (dict,), "git": (str, NULL), "versions": (dict,),
}  # fmt: skip
JUDGE_FIELDS: Fields = {"kind": (str,), "name": (str,), "rubric": (str, NULL)}
PLACE = "place"  # of a judge: a reward model's folder or hub name, null for a served one; older files do not have it
PAIR_FIELDS: Fields = {"a": (str,), "b": (str,), "draw": (int, NULL), "seed": (int, NULL), "files": (dict,)}
# Per prompt: the preference for a (1, 0 or 0.5), what each order of an LLM's said (null: no verdict), a's reward minus
# b's (null: unknown), and a's length minus b's in characters.
COLUMNS: Fields = {
    "row_id": (list,), "preference": (list,), "a_first": (list, NULL), "b_first": (list, NULL),
    "reward_difference": (list, NULL), "length_difference": (list,),
}  # fmt: skip
ENDPOINT, REWARD_MODEL = KINDS = ("endpoint", "reward_model")


@dataclass(frozen=True)
class Judged:
    """A comparison of two models, or of two settings over their replicates, by one judge."""

    judge: str
    rubric: str | None  # version of the prompt of an LLM; None: a reward model
    a: str
    b: str
    win_rate: Contrast  # of a, minus one half
    controlled: Contrast  # the same at equal lengths
    holm_p: float  # of the controlled win rate, over the rows of a table
    n_pairs: int  # of models
    n_prompts: int  # judged in each pair; the mean where pairs differ
    one_draw: bool
    ties: float  # share of prompts
    with_reward: float  # share of prompts on which the judge and the reward name the same winner; nan: unknown
    between_orders: float  # share of prompts with the same winner in both orders, of those with one in either; or nan
    named_first: float  # share of an LLM's decided verdicts that name the response shown first
    unread: float  # share of an LLM's answers without a verdict, which count as ties


def validate_judgement(found: object, name: str) -> None:
    """Raises InputError "name: field: what is wrong" unless `found` is what judge.py writes."""
    if not isinstance(found, dict):
        raise InputError(f"{name}: expected a JSON object, found {type(found).__name__}")
    check_fields(found, FIELDS, name, "")
    if found["schema"] != SCHEMA:
        raise InputError(f"{name}: schema: expected {SCHEMA}, found {found['schema']}")
    check_fields(found["judge"], JUDGE_FIELDS, name, "judge.", optional=[PLACE])
    if not found["pairs"]:
        raise InputError(f"{name}: pairs: none")
    for index, pair in enumerate(found["pairs"]):
        where = f"pairs[{index}]."
        if not isinstance(pair, dict):
            raise InputError(f"{name}: {where[:-1]}: expected a JSON object")
        check_fields(pair, PAIR_FIELDS, name, where)
        if not pair["files"]:
            raise InputError(f"{name}: {where}files: none")
        for file, columns in pair["files"].items():
            _check_columns(columns, name, f"{where}files.{file}.")
        prompts = sum(len(columns["row_id"]) for columns in pair["files"].values())
        if prompts < (needed := 1 if len(found["pairs"]) > 1 else 2):  # one pair is compared over its prompts
            raise InputError(f"{name}: {where}files: {prompts} prompts (expected at least {needed})")
    replicates = [(pair["draw"], pair["seed"]) for pair in found["pairs"]]
    for index, one in enumerate(replicates):
        if None not in one and one in replicates[:index]:
            raise InputError(f"{name}: pairs[{index}]: draw {one[0]} and seed {one[1]} occur twice")


def _check_columns(columns: object, name: str, where: str) -> None:
    if not isinstance(columns, dict):
        raise InputError(f"{name}: {where[:-1]}: expected a JSON object")
    check_fields(columns, COLUMNS, name, where)
    n = len(columns["row_id"])
    for field, values in columns.items():
        if values is not None and len(values) != n:
            raise InputError(f"{name}: {where}{field}: {len(values)} values for {n} prompts")
        if field == "row_id":
            continue
        nullable = field in ("a_first", "b_first")
        numbers = [value for value in values or () if not (nullable and value is None)]
        if any(type(value) not in (int, float) or not abs(value) <= MAX_EXACT for value in numbers):
            raise InputError(f"{name}: {where}{field}: expected finite numbers only, up to 2**53")
        if field in ("preference", "a_first", "b_first") and any(not 0 <= value <= 1 for value in numbers):
            raise InputError(f"{name}: {where}{field}: expected numbers from 0 to 1")


def load_judgements(folder: Path, world: str | None, warnings: list[str]) -> list[Judged]:
    """Returns the judged comparisons of a folder of results, in a table's order, Holm-corrected.

    A file that is invalid or of another world is left out with a warning.
    """
    found = []
    for path in sorted((folder / JUDGED).glob("*.json")):
        try:
            read = read_json(path)
            validate_judgement(read, str(path))
        except InputError as error:
            warnings.append(f"left out {error}")
            continue
        if read["world"] != world:
            warnings.append(f"left out {path}: world: {read['world']}, but this report is about {world}")
            continue
        found.append(summarised(read))
    return corrected(found)


def corrected(found: Sequence[Judged]) -> list[Judged]:
    """Returns the rows of one table with p of the controlled win rate corrected over them."""
    adjusted = holm([one.controlled.p for one in found])
    return [replace(one, holm_p=p) for one, p in zip(found, adjusted, strict=True)]


def summarised(judgement: dict[str, Any]) -> Judged:
    """Returns the summary of a valid result file."""
    pairs = judgement["pairs"]
    preferences, lengths = ([_joined(pair, field) for pair in pairs] for field in ("preference", "length_difference"))
    raw, controlled = win_contrasts(preferences, lengths)
    everyone = np.concatenate(preferences)
    draws = {pair["draw"] for pair in pairs}
    return Judged(
        judge=judgement["judge"]["name"],
        rubric=judgement["judge"]["rubric"],
        a=judgement["a"],
        b=judgement["b"],
        win_rate=raw,
        controlled=controlled,
        holm_p=controlled.p,
        n_pairs=len(pairs),
        n_prompts=round(len(everyone) / len(pairs)),
        one_draw=len(pairs) > 1 and len(draws) == 1,
        ties=float((everyone == TIE).mean()),
        with_reward=_agreement(pairs),
        **_orders(pairs),
    )


def _joined(pair: dict[str, Any], field: str) -> np.ndarray:
    """Returns a column over the files of a pair; None becomes nan."""
    columns = [[math.nan] * len(one["row_id"]) if one[field] is None else one[field] for one in pair["files"].values()]
    return np.array([math.nan if value is None else value for column in columns for value in column], dtype=float)


def _all(pairs: Iterable[dict[str, Any]], field: str) -> np.ndarray:
    return np.concatenate([_joined(pair, field) for pair in pairs])


def _agreement(pairs: Sequence[dict[str, Any]]) -> float:
    """Returns how often judge and reward name the same winner, where both name one."""
    judged, reward = _all(pairs, "preference") - TIE, _all(pairs, "reward_difference")
    decided = (judged != 0) & (reward != 0) & np.isfinite(reward)
    return float((np.sign(judged) == np.sign(reward))[decided].mean()) if decided.any() else math.nan


def _orders(pairs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Returns between_orders, named_first and unread; nan where no LLM was asked."""
    asked = [pair for pair in pairs if any(columns["a_first"] is not None for columns in pair["files"].values())]
    if not asked:
        return dict.fromkeys(("between_orders", "named_first", "unread"), math.nan)
    a_first, b_first = _all(asked, "a_first"), _all(asked, "b_first")
    read = np.isfinite(a_first) & np.isfinite(b_first) & ((a_first != TIE) | (b_first != TIE))
    # In the order "b first", a win of b is a win of the response shown first.
    first = np.concatenate([a_first, 1 - b_first])
    decided = first[np.isfinite(first) & (first != TIE)]
    return {
        "between_orders": float((a_first == b_first)[read].mean()) if read.any() else math.nan,
        "named_first": float((decided == 1).mean()) if len(decided) else math.nan,
        "unread": float(np.isnan(first).mean()),
    }
