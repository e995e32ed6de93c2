"""Which result files can be compared: trained alike, evaluated alike, on the same test rows, and each of its own run.

What differs from most is left out with a warning, never averaged in.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any
from zlib import crc32

from eval_hh.cells import Replicate, Setting
from eval_hh.run_paths import last_part

Named = tuple[str, dict]  # (path or path:line, valid content of a result file)

TELLING = 20  # so many different rewards are not equal by coincidence
# Settings of a run that follow from its cell, say where it ran, or change neither what it learns nor which checkpoint
# is tested.
OF_ITS_OWN = {
    "seed", "index", "train_file_path", "training_stage_num", "model_name_or_path", "do_train", "preflight",
    "validation_file_path", "output_dir", "log_path", "keep_states", "state_minutes", "per_device_train_batch_size",
    "per_device_eval_batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "report_to", "push_to_hub",
}  # fmt: skip


def comparable(found: list[Named], warnings: list[str]) -> list[Named]:
    """Returns the cells that can stand in one report; for each of the others a line is added to `warnings`.

    These are left out: cells of another profile, reward, base model, evaluation or other test rows than most; PRO
    trained on fewer responses than its data has (the table's K would be wrong); runs trained with other
    settings than most replicates of theirs; and copies of another replicate's rewards. Settings that were trained
    differently from each other are named only.
    """
    found = _keep(found, "profile", lambda cell: cell["profile"], warnings)
    found = _keep(found, "reward_source", lambda cell: cell["reward_source"], warnings)
    found = _keep(found, "base model", _base_model(found), warnings)
    found = _keep(found, "responses used", _responses_used, warnings, "all")
    found = _keep(found, "evaluation", evaluation_summary, warnings)
    found = _keep(found, "test rows", _row_summary, warnings)
    found = _without_copies(_trained_alike(found, warnings), warnings)
    warnings += _trained_differently(found)
    return found


def _keep(
    found: list[Named],
    what: str,
    value: Callable[[dict], Any],
    warnings: list[str],
    wanted: str | None = None,
) -> list[Named]:
    """Returns the cells whose value is `wanted` (default: the most common, on a tie the one read first)."""
    values = [value(cell) for _, cell in found]
    if wanted is None and values:
        wanted = _commonest(values)
    kept = []
    for (path, cell), its in zip(found, values, strict=True):
        if its == wanted:
            kept.append((path, cell))
        else:
            warnings.append(f"left out {path}: {what}: {its}, but this report is about {wanted}")
    return kept


def _base_model(found: list[Named]) -> Callable[[dict], Any]:
    """Returns what tells the base model of these cells: its checksum if all have one, else the name of its folder."""
    sums = [(cell["data_sha256"] or {}).get("base_model") for _, cell in found]
    if all(sums):
        return lambda cell: cell["data_sha256"]["base_model"]
    return lambda cell: last_part(cell["config"].get("model_name_or_path"))


def _trained_alike(found: list[Named], warnings: list[str]) -> list[Named]:
    """Leaves out the runs trained otherwise than most of their setting's: replicates differ by draw and seed alone."""
    values: dict[Setting, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for _, cell in found:
        for name, value in _training(cell).items():
            values[Setting.of(cell)][name].append(value)
    usual = {one: {name: _commonest(its) for name, its in named.items()} for one, named in values.items()}
    kept = []
    for path, cell in found:
        setting, its = Setting.of(cell), _training(cell)
        differing = [name for name, value in its.items() if value != usual[setting][name]]
        if differing:
            name = differing[0]
            what = f"{name}: {its[name]!r}, but {usual[setting][name]!r} in most runs of {setting}"
            warnings.append(f"left out {path}: {what}")
        else:
            kept.append((path, cell))
    return kept


def _trained_differently(found: list[Named]) -> list[str]:
    """Returns a line for each training setting in which the settings of one algorithm differ."""
    values: dict[tuple[str, str], dict[str, set[Setting]]] = defaultdict(lambda: defaultdict(set))
    for _, cell in found:
        for name, value in _training(cell).items():
            values[cell["algorithm"], name][repr(value)].add(Setting.of(cell))
    lines = []
    for (algorithm, name), by_value in values.items():
        if len(by_value) > 1:
            few = min(by_value, key=lambda value: len(by_value[value]))
            where = ", ".join(str(one) for one in sorted(by_value[few])[:3])
            found_in = f"{name} is {few} in {len(by_value[few])} of its settings ({where})"
            lines.append(f"{algorithm} was trained in different ways, which comparisons may show: {found_in}")
    return lines


def shared_facts(cell: dict) -> dict[str, Any]:
    """Returns what cells with other test rows must have in common to be fitted together; None is not known."""
    return {
        **{name: cell[name] for name in ("reward_source", "world")},
        "base model": last_part(cell["config"].get("model_name_or_path")),
        "base model's checksum": (cell["data_sha256"] or {}).get("base_model"),
        "evaluation": evaluation_summary(cell),
    }


def fact_that_differs(ours: dict[str, Any], its: dict[str, Any]) -> str | None:
    """Returns the name of the first of two cells' `shared_facts` that differs; a base model may have been renamed."""
    by_sum = ours["base model's checksum"] and its["base model's checksum"]
    unread = "base model" if by_sum else "base model's checksum"
    return next((name for name in ours if name != unread and ours[name] != its[name]), None)


def _without_copies(found: list[Named], warnings: list[str]) -> list[Named]:
    """Leaves out cells with the rewards of another replicate on every prompt, which say nothing about chance."""
    first: dict[tuple, tuple[str, tuple]] = {}
    kept = []
    for path, cell in found:
        replicate = Replicate.of(cell)
        rewards = tuple(tuple(cell["files"][file]["reward"]) for file in sorted(cell["files"]))
        other, its = first.setdefault((Setting.of(cell), rewards), (path, replicate))
        if its != replicate and len(set().union(*rewards)) >= TELLING:
            why = "a copy, or training that changed nothing"
            warnings.append(f"left out {path}: the reward of every test prompt is that of {other} ({why})")
        else:
            kept.append((path, cell))
    return kept


def _training(cell: dict) -> dict[str, Any]:
    """Returns the settings that decide what a run learns and which checkpoint is tested, as far as it recorded them."""
    found = {name: value for name, value in cell["config"].items() if name not in OF_ITS_OWN}
    if "dev_reward_model" in found:
        found["dev_reward_model"] = last_part(found["dev_reward_model"])
    for name, part, key in (("mixed_precision", "launch", "mixed_precision"), ("dev rows", "data_sha256", "dev")):
        if key in (cell[part] or {}):
            found[name] = cell[part][key]
    return found


def _commonest(values: list) -> Any:
    """Returns the most common of values that may be lists; on a tie the first."""
    texts = list(map(repr, values))
    return values[texts.index(Counter(texts).most_common(1)[0][0])]


def row_facts(cell: dict, is_own: bool) -> dict[str, str | None]:
    """Returns what a row and the cells must have in common; no token of the test data's own texts was generated."""
    return {
        **{name: cell[name] for name in ("profile", "reward_source", "world")},
        "evaluation": _rewarding_summary(cell) if is_own else _scoring_summary(cell),
        "test rows": _row_summary(cell),
    }


def evaluation_summary(cell: dict) -> str:
    """Returns a text that is equal for cells with the same evaluation settings; the model itself may differ."""
    return f"{cell['evaluation']['checkpoint']}, {_scoring_summary(cell)}"


def _scoring_summary(cell: dict) -> str:
    generation = cell["evaluation"]["generation"]
    tokens = f"{generation['max_new_tokens']} new tokens ({generation['mixed_precision']})"
    asked = f", prompt format {generation['prompt_format']}" if "prompt_format" in generation else ""
    return f"{tokens}{asked}, {_rewarding_summary(cell)}"


def _rewarding_summary(cell: dict) -> str:
    rewarding = cell["evaluation"]["rewarding"]
    return f"scored by {rewarding['reward_model']} ({rewarding['mixed_precision']})"


def _responses_used(cell: dict) -> str:
    """Returns how many of its data's K responses a run was trained on: PRO the first RANKING_LEN, SFT the best."""
    part = cell["algorithm"] == "PRO" and cell["stage"] != cell["ranking_len"]
    return f"the first {cell['stage']} of {cell['ranking_len']}" if part else "all"


def _row_summary(cell: dict) -> str:
    """Returns a text, readable in a warning, that is equal only for cells scored on the same test rows."""
    files = sorted(cell["files"])
    counts = "+".join(str(cell["files"][file]["n"]) for file in files)
    rows = crc32(repr([sorted(cell["files"][file]["row_id"]) for file in files]).encode())
    return f"{counts} rows ({rows:08x})"
