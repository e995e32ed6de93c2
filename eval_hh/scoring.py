"""Computes BLEU, prints the table of one tested checkpoint and writes its result file.

Run from this folder: python scoring.py --index EXP --stage RANKING_LEN
or, for a model of no run: python scoring.py --name NAME

Reads the output of rewarding.py, adds infer.bleu (against the row's first response) and line_index to its rows, and
writes eval_hh/results/EXP_RANKING_LEN.json, the cell that report.py and figures.py read
(EXP_RANKING_LEN_CHECKPOINT.json for a checkpoint other than the best one; models/NAME.json for --name, a row that the
report shows below its table). If data/toy/world.json marks the embedded world, the reward is the world's gold reward,
with the reward model's score beside it.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import InputError, check_name, parse_settings, run, setting, study_root
from data_preprocess.diversity import RECORD, RECORD_RESPONSES, RECORD_TOKENIZERS
from data_preprocess.files import read_json, write_jsonl
from data_preprocess.provenance import fingerprint, git_hash, versions
from data_preprocess.records import data_file, read_rows
from data_preprocess.subsets import AUGMENTATIONS, RANDOM, Subset, base_prompts, draw_folder, subset_named
from data_preprocess.toy_world.gold_reward import GOLD, GoldReward
from data_preprocess.words import is_unspaced
from eval_hh.cells import (
    GENERATION_OPTIONAL,
    POOLS,
    RESPONSES,
    SCHEMA,
    TEST_FILES,
    check_diversity,
    check_type,
    file_scores,
    is_row,
    load_cell,
    pooled,
    pools_of,
    validate_cell,
    write_cell,
)
from eval_hh.estimates import bootstrap_interval
from eval_hh.inference.resumable_jobs import Job, done_note, read_note
from eval_hh.run_paths import (
    BEST_CHECKPOINT,
    GIVEN,
    AnyNames,
    Evaluation,
    ModelNames,
    Names,
    all_test_files,
    below_root,
    check_made_of,
    check_same_model,
    model_name,
    read_results,
)

NULL = type(None)
# Fields that a cell takes from run.json, from its configuration, and from the settings noted by both steps.
RUN_FIELDS = {"config": (dict,), "git": (str, NULL), "versions": (dict,)}
RUN_OPTIONAL = {"launch": (dict, NULL), "data_sha256": (dict, NULL)}
CHANGED = "has changed since the run was trained on it"
CONFIG_FIELDS = {"train_file_path": (str,), "seed": (int,)}
GENERATION_SETTINGS = {"model": (dict,), "max_new_tokens": (int,), "mixed_precision": (str,)}
REWARDING_SETTINGS = {"reward_model": (dict,), "mixed_precision": (str,)}
# Field of a cell's diversity -> its published name in the record of D.
RECORDED = {"score": "diversity", "unique": "#filtered_ngrams", "total": "#all_ngrams", "samples": "#samples"}


@dataclass(frozen=True, kw_only=True)
class Scoring(Evaluation):
    """What to score."""

    profile: str | None = setting("profile of reproduce.py that the run belongs to, if any", check_name, default=None)


def main(argv: list[str] | None = None) -> None:
    args = parse_settings(Scoring, argv, __doc__)
    names = args.names
    cell = describe_row(names, args.profile) if args.name else describe_run(names, args.profile)
    if args.check:
        return
    made = common_settings(names, args.test_files)
    check_overwritten(names, made[0])
    # Test files that are not named are included if they were evaluated with the same settings.
    wanted = all_test_files()
    lacking = [name for name in wanted if name not in args.test_files and not is_like(names, name, made)]
    files = [*args.test_files] if lacking else [*dict.fromkeys([*wanted, *args.test_files])]
    cell["evaluation"] = describe_evaluation(names, *made)
    cell["reward_source"] = cell["reward_source"] or cell["evaluation"]["rewarding"]["reward_model"]
    scored = {name: scored_rows(names, name) for name in files}
    cell["files"] = {name: score_rows(rows, names.scored(name), cell["reward_source"]) for name, rows in scored.items()}
    result = {**cell, "files": {name: cell["files"].get(name) for name in wanted}}
    if not lacking:
        validate_cell(result, str(names.cell()))
    for name, rows in scored.items():  # write only after all checks
        write_jsonl(names.scored(name), rows)
    print(table(cell))
    for line in by_characters(scored):
        print(line)
    if lacking:
        reason = f"all {len(wanted)} test files must be evaluated with the same settings"
        print(f"no result file written: {reason}; missing: {', '.join(lacking)}")
        return
    write_cell(names.cell(), result)
    print(f"written: {names.cell()}")


def fields_of(value: Any, expected: dict[str, tuple[type, ...]], where: str) -> dict:
    """Returns the JSON object `value`. Raises InputError "where: ..." unless it has the expected fields and types."""
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(value).__name__}")
    for field, types in expected.items():
        if field not in value:
            raise InputError(f"{where}: {field}: missing")
        check_type(value[field], types, f"{where}: {field}")
    return value


def describe_run(names: Names, profile: str | None) -> dict:
    """Returns a cell's fields on the run: its saved configuration and the data it was trained on."""
    record = names.run_record
    if not record.is_file():
        hint = (
            f"training/main.py writes it when experiment {names.index} is trained, and a result file says how its "
            "model was trained; a model of no run can be tested by: sh eval.sh --model MODEL NAME"
        )
        raise InputError(f"{record}: no such file ({hint})")
    made = fields_of(read_json(record), RUN_FIELDS, str(record))
    fields_of(made, {name: types for name, types in RUN_OPTIONAL.items() if name in made}, str(record))
    fields_of(made["config"], CONFIG_FIELDS, f"{record}: config")
    data = Path(made["config"]["train_file_path"])
    data = data.parent if data.name == "train.json" else data
    subset, changed = subset_named(data), changed_data(made)
    if changed and not subset:
        raise InputError(f"{changed}: {CHANGED} (expected its rows, whose K and M the result would have)")
    if changed:
        print(f"warning: {changed}: {CHANGED}: the result has no D", file=sys.stderr)
    ranking_len, num_prompts = (subset.ranking_len, subset.size) if subset else shape_of_rows(data)
    is_enlarged = subset is not None and subset.selection in AUGMENTATIONS
    return {
        "schema": SCHEMA,
        "profile": profile,
        "algorithm": "SFT" if names.stage == 1 else "PRO",
        "ranking_len": ranking_len,
        "stage": names.stage,
        "num_prompts": num_prompts,
        "seed": made["config"]["seed"],
        "exp": names.index,
        "data": subset.folder if subset else data.name,
        "diversity": recorded_diversity(subset, names.stage) if subset and not changed else None,
        "selection": subset.selection if subset else RANDOM,
        **describe_world(),
        "config": {name: below_root(value) for name, value in made["config"].items()},
        "git": made["git"],
        "versions": made["versions"],
        "launch": made.get("launch"),
        "data_sha256": made.get("data_sha256"),
        **({"draw": subset.draw} if subset else {}),
        **({"base_prompts": base_prompts(data)} if is_enlarged and not changed else {}),
    }


def changed_data(made: dict) -> Path | None:
    """Returns the training file of a run if it is there and not what the run.json `made` has recorded; else None."""
    file, trained_on = data_file(made["config"]["train_file_path"]), (made.get("data_sha256") or {}).get("train")
    is_known = trained_on is not None and file.is_file()
    return file if is_known and fingerprint({}, file) != trained_on else None


def describe_row(names: ModelNames, profile: str | None) -> dict:
    """Returns the fields of a row on what is tested, a model of no run."""
    return {
        "schema": SCHEMA, "name": names.name, "profile": profile, **describe_world(), "git": git_hash(),
        "versions": versions(),
    }  # fmt: skip


def describe_world() -> dict:
    """Returns a cell's reward source and world, if the data is the embedded world's."""
    path = study_root() / "data" / "toy" / "world.json"
    if not path.is_file():
        return {"reward_source": None, "world": None}
    return {"reward_source": GOLD, "world": fields_of(read_json(path), {"hash": (str,)}, str(path))["hash"]}


def check_overwritten(names: AnyNames, generation: dict) -> None:
    """Raises InputError if the result file is of something else: a model of another name, or another run's."""
    path = names.cell()
    if not path.is_file():
        return
    if not isinstance(names, Names) or GIVEN in generation:
        check_same_model(path, generation["model"])
    of = names
    with suppress(InputError):  # of a damaged file, which is written anew
        cell = load_cell(path)
        of = names if is_row(cell) else Names(cell["exp"], cell["stage"], cell["evaluation"]["checkpoint"])
    if of != names:
        raise InputError(f"{path}: is the result of {of.flags}, which {names.flags} would overwrite")


def settings_of(names: AnyNames, name: str) -> list[dict]:
    """Returns the settings noted by generation.py and rewarding.py. Raises InputError for missing or outdated files."""
    generated, scored = names.generated(name), names.scored(name)
    for path, step in ((generated, "generation.py"), (scored, "rewarding.py")):
        if not (path.is_file() and done_note(path).is_file()):
            raise InputError(f"{path}: no such file (run first: python {step} {names.flags})")
    settings = [read_note(path)["settings"] for path in (generated, scored)]
    for path, made, expected in zip(
        (generated, scored), settings, (GENERATION_SETTINGS, REWARDING_SETTINGS), strict=True
    ):
        expected = expected | {field: GENERATION_OPTIONAL[field] for field in GENERATION_OPTIONAL if field in made}
        fields_of(made, expected, f"{done_note(path)}: settings")
        model = next(iter(expected))
        fields_of(made[model], {"name": (str,)}, f"{done_note(path)}: settings.{model}")
    if not Job("", scored, generated, settings[1]).is_done():
        hint = f"run again: python rewarding.py {names.flags}"
        raise InputError(f"{scored}: its scores do not match the texts in {generated} ({hint})")
    return settings


def scored_rows(names: AnyNames, name: str) -> list[dict]:
    """Reads the rows of a scored file. Raises InputError if they, or the generated rows, do not match the test file."""
    test, generated, scored = names.test_file(name), names.generated(name), names.scored(name)
    prompts = read_rows(test, training=False)
    texts, rows = read_results(generated, "t"), read_results(scored, "t", "score")
    hint = f"delete it and run again: python generation.py {names.flags}"
    check_made_of(texts, generated, prompts, test, hint)
    hint = f"delete it and run again: python rewarding.py {names.flags}"
    check_made_of(rows, scored, prompts, test, hint)
    check_made_of(rows, scored, texts, generated, hint)
    return rows


def common_settings(names: AnyNames, files: Sequence[str]) -> list[dict]:
    """Returns the settings of all `files`. Raises InputError if they differ: rewards must be of one model."""
    made = settings_of(names, files[0])
    for name in files[1:]:
        if settings_of(names, name) != made:
            where, first = names.scored(name), names.scored(files[0])
            raise InputError(f"{where}: made with other settings than {first.name} (evaluate all files again)")
    return made


def is_like(names: AnyNames, name: str, made: list[dict]) -> bool:
    """Returns whether a test file has been evaluated with these settings."""
    try:
        return settings_of(names, name) == made
    except InputError:
        return False


def describe_evaluation(names: AnyNames, generation: dict, rewarding: dict) -> dict:
    """Returns a cell's "evaluation" from the settings of both steps."""
    return {
        "checkpoint": names.checkpoint if isinstance(names, Names) else BEST_CHECKPOINT,
        "generation": {
            "model": model_name(generation["model"]),
            "max_new_tokens": generation["max_new_tokens"],
            "mixed_precision": generation["mixed_precision"],
            **{name: generation[name] for name in GENERATION_OPTIONAL if name in generation},
        },
        "rewarding": {
            "reward_model": model_name(rewarding["reward_model"]),
            "mixed_precision": rewarding["mixed_precision"],
        },
    }


def shape_of_rows(data: Path) -> tuple[int, int]:
    """Returns (K responses, M prompts) of a training set that sample.py did not make."""
    rows = read_rows(data)
    return len(rows[0]["suffix"]), len(rows)


def recorded_diversity(subset: Subset, stage: int) -> dict | None:
    """Returns the diversity that sample.py recorded for a subset, or None.

    "responses" are those of `stage` per prompt that the run trains on, left out if their diversity was not recorded.
    """
    folder = draw_folder(study_root() / "data", subset.draw)
    record, tokenizers = (folder / name for name in (RECORD, RECORD_TOKENIZERS))
    entries = recorded(record)
    key = subset.name if subset.name in entries else subset.key  # of its own where other K have other prompts
    if key not in entries:
        return None
    where = f"{record}: entry {key}"
    bigrams = fields_of(entries[key], {"2": (dict,)}, where)["2"]
    fields_of(bigrams, {name: (int, float) for name in RECORDED.values()}, f"{where}: 2")
    diversity = {field: bigrams[name] for field, name in RECORDED.items()}
    diversity["tokenizer"] = recorded(tokenizers).get(key, "not recorded")
    check_diversity(diversity, subset.size, stage, where)
    responses = recorded_responses(folder / RECORD_RESPONSES, subset, stage, diversity["tokenizer"])
    if responses:
        diversity[RESPONSES] = responses
        check_diversity(diversity, subset.size, stage, f"{folder / RECORD_RESPONSES}: entry {subset.name}")
    return diversity


def recorded_responses(record: Path, subset: Subset, stage: int, tokenizer: str) -> dict | None:
    """Returns the recorded diversity of the responses that a run trains on: all K for PRO, the best for SFT.

    None if it was not recorded, was counted with another tokenizer, or if the run trains on some of the K.
    """
    entry = recorded(record).get(subset.name)
    trained_on = {subset.ranking_len: "all", 1: "best"}.get(stage)
    if entry is None or trained_on is None:
        return None
    where = f"{record}: entry {subset.name}"
    fields_of(entry, {trained_on: (dict,), "tokenizer": (str,)}, where)
    return entry[trained_on] if entry["tokenizer"] == tokenizer else None


def recorded(path: Path) -> dict:
    """Returns a record's entries; none if the file is missing."""
    return fields_of(read_json(path), {}, str(path)) if path.is_file() else {}


def score_rows(rows: list[dict], path: Path, reward_source: str) -> dict:
    """Adds infer.bleu and line_index to the rows of a scored file; returns the cell's entry for it."""
    from eval_hh.metrics import sentence_bleu

    texts = [row["infer"]["t"] for row in rows]
    bleu = sentence_bleu(texts, [row["suffix"][0] for row in rows])
    for index, row in enumerate(rows):
        row["infer"]["bleu"] = bleu[index]
        row["line_index"] = index
    scores = [row["infer"]["score"] for row in rows]
    ids = [row_id(row) for row in rows]
    if reward_source != GOLD:
        return file_scores(ids, scores, bleu)
    return file_scores(ids, gold_rewards(path, rows), bleu, {"reward_model": scores})


def by_characters(scored: dict[str, list[dict]]) -> list[str]:
    """Returns a line on the rows whose BLEU is by characters, if there are any."""
    rows = [row for its in scored.values() for row in its]
    count = sum(is_unspaced(row["infer"]["t"] + row["suffix"][0]) for row in rows)
    said = f"BLEU of {count} of {len(rows)} rows is by characters where their script has no blanks between words"
    return [said] if count else []


def row_id(row: dict) -> str:
    """Returns line and content hash of a test row, which distinguish results on different test files."""
    content = json.dumps([row["prefix"][0], row["suffix"]], ensure_ascii=False)
    return f"{row['line_index']:05d}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def gold_rewards(path: Path, rows: list[dict]) -> list[float]:
    """Returns the embedded world's own rewards of the generated texts."""
    try:
        return GoldReward().score([row["prefix"][0] for row in rows], [row["infer"]["t"] for row in rows])
    except ValueError as error:
        raise InputError(f"{path}: {error} (data/toy/world.json says that this is the embedded world)") from error


def table(cell: dict) -> str:
    """Returns rewards x 100 with 95% bootstrap intervals, and BLEU, of each file and pool, as a text table."""
    files = cell["files"]
    extra = sorted(next(iter(files.values())).get("extra", {}))
    head = f"{'':18s} {'rows':>5s} {'reward':>7s} {'95% interval':>16s} {'BLEU':>6s}"
    tested = cell["name"] if is_row(cell) else f"{cell['exp']}, stage {cell['stage']}"
    lines = [
        f"{tested}: rewards x 100, from {cell['reward_source']}",
        head + "".join(f" {name:>13s}" for name in extra),
    ]
    pools = pools_of(files)
    hh = ("Harmless", *POOLS["Helpful"], "Helpful", "Global") if set(TEST_FILES) & set(files) else ()
    for name in dict.fromkeys([*hh, *files, *pools]):
        if name not in pools and (name not in files or (name,) in pools.values()):
            continue  # not evaluated, or a pool by itself under another name
        rewards = 100 * pooled(files, name, "reward")
        low, high = bootstrap_interval(rewards)
        line = f"{name:18s} {len(rewards):5d} {rewards.mean():7.2f} {f'[{low:.2f}, {high:.2f}]':>16s}"
        line += f" {pooled(files, name, 'bleu').mean():6.2f}"
        lines.append(line + "".join(f" {100 * pooled(files, name, field).mean():13.2f}" for field in extra))
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
