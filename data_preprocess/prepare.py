"""Builds ranked training data, dev and test files: from raw HH-RLHF, or from any other prompts and preferences.

Run: cd data_preprocess; python prepare.py --raw DIR | --source DATA [flags]

--raw DIR holds harmless-base, helpful-base, helpful-online and helpful-rejection-sampled, each with test.jsonl and
train.jsonl (or .jsonl.gz); Anthropic/hh-rlhf is read from the hub. Every other format: data_preprocess/README.md.
Writes data/original/hh_train_lenK/train.json (--raw without train files: none), data/hh_dev/sampled_dev.json, for --raw
data/hh_test/*.json, and the data card data/README.md, all under STUDY_ROOT and all or none. With --candidates and
--reward_model it also runs under training/launch.py, and goes on where a killed run was.
"""

import io
import os
import shlex
import sys
from collections.abc import Iterable
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.command import InputError, run, study_root
from data_preprocess.files import json_lines, write_files
from data_preprocess.outputs import check_no_input, check_opening, check_output_file
from data_preprocess.preparing.candidates import (
    Candidates,
    add_responses,
    choose,
    commonest_len,
    drop_unjudged,
    plain_row,
    training_row,
)
from data_preprocess.preparing.data_card import CARD_TITLE, Lengths, render_card, word_lengths
from data_preprocess.preparing.dev_split import Splits, clean_of, sample_dev, split_train
from data_preprocess.preparing.export import write_prompts, write_trl
from data_preprocess.preparing.merging import by_prompt, merge_rows
from data_preprocess.preparing.near_duplicates import METHOD
from data_preprocess.preparing.prepare_config import DEV_ROWS, Config, parse_args
from data_preprocess.preparing.raw_hh import SOURCES, has_split, read_split
from data_preprocess.preparing.returned_labels import join, unique_prompts
from data_preprocess.preparing.row_formats import read_source
from data_preprocess.records import read_rows
from data_preprocess.words import HOW_COUNTED

LEAK = (
    "dev rows are drawn from the test files, as published: a leak, since the checkpoint is chosen "
    "on prompts that it is tested on"
)


def main(argv: list[str] | None = None) -> None:
    config = parse_args(argv, __doc__)
    from eval_hh.inference.resumable_jobs import is_main_process

    is_main = is_main_process()
    with nullcontext() if is_main else redirect_stdout(io.StringIO()):
        if config.export:
            export(config, is_main)
        else:
            prepare(config, is_main, shlex.join(["python", "prepare.py", *(sys.argv[1:] if argv is None else argv)]))


def prepare(config: Config, is_main: bool, command: str) -> None:
    check_models(config)
    check_opening(study_root() / "data" / "README.md", CARD_TITLE)
    lengths, unit = load_lengths(config)
    splits, tests = read_raw(config) if config.raw else (read_other(config), {})
    rankings, facts = rank(splits.train, config) if splits.train else ([], [])
    data = study_root() / "data"
    if not rankings and (config.source or has_split(config.raw, "train")):
        raise InputError("no training prompt is left: " + "; ".join(splits.notes))
    outputs: dict[Path, list[dict]] = {}
    if rankings:
        outputs[data / "original" / f"hh_train_len{len(rankings[0]['suffix'])}" / "train.json"] = rankings
    if splits.dev:
        outputs[data / "hh_dev" / "sampled_dev.json"] = [plain_row(candidates) for candidates in splits.dev]
    for name, rows in tests.items():
        outputs[data / "hh_test" / f"{name}.json"] = [plain_row(candidates) for candidates in rows]
    for path in outputs:
        check_no_input(str(path), path, {"source": [config.source], "join": config.join or []})
    if not is_main:
        return
    notes = splits.notes + facts
    facts_of_card = [*splits.read, *notes, *settings_facts(config), *([HOW_COUNTED] if unit == "words" else [])]
    files = {path.relative_to(data).as_posix(): rows for path, rows in outputs.items()}
    card = render_card(command, files, facts_of_card, lengths, unit)
    texts: dict[Path, Iterable[str]] = {path: json_lines(rows) for path, rows in outputs.items()}
    write_files({**texts, data / "README.md": [card]})
    print("\n".join(notes))
    for path, rows in outputs.items():
        print(f"{path}: {len(rows)} rows")
    print(f"{data / 'README.md'}: the data card")


def check_models(config: Config) -> None:
    """InputError for a model that is not there, before others work for hours."""
    from data_preprocess.hub import source_options

    for model in [*config.candidates, *([config.reward_model] if config.reward_model else [])]:
        source_options(model)


def read_raw(config: Config) -> tuple[Splits, dict[str, list[Candidates]]]:
    """Raw HH-RLHF as splits, and the test rows by the name of their file."""
    needs_train = config.dev_from == "train" or has_split(config.raw, "train")
    by_split, read_files = {}, []
    for split in ("test", "train") if needs_train else ("test",):
        read = [read_split(config.raw, source, split, config.published_parsing) for source in SOURCES]
        print("\n".join(part.summary() for part in read))
        read_files += [part.counts() for part in read]
        by_split[split] = dict(zip(SOURCES.values(), (part.pairs for part in read), strict=True))
    tests = {name: rows[: config.max_rows] for name, rows in by_split["test"].items()}
    for name, rows in by_split["test"].items():
        if len(tests[name]) < len(rows):
            print(f"{name}: the first {len(tests[name])} of {len(rows)} test rows are kept (--max_rows)")
    test = [row for rows in tests.values() for row in rows]
    train = [row for rows in by_split.get("train", {}).values() for row in rows]
    dev_rows = config.dev_rows or DEV_ROWS
    if config.dev_from == "train":
        splits = split_train(train, test, dev_rows, config.seed, config.decontaminate)
        return replace(splits, read=tuple(read_files)), tests
    dev, _ = sample_dev([row for rows in by_split["test"].values() for row in rows], dev_rows, config.seed)
    train, notes = clean_of(train, test + dev, "dev or test", config.decontaminate)
    return Splits(train, dev, test, [LEAK, *notes], tuple(read_files)), tests


def read_other(config: Config) -> Splits:
    """Any other source as train and dev, checked against the test files that are there already."""
    pool, notes = read_pool(config)
    if config.join:
        pool, missing, unread = join(pool, config.join)
        print("".join(f"missing: {line}\n" for line in missing), end="")
        notes += unread
        counts = f"{len(pool)} prompts have judged answers, {len(missing)} gaps"
        notes.append(f"joined with {', '.join(config.join)}: {counts}")
    dev_rows = min(DEV_ROWS, len(pool) // 10) if config.dev_rows is None else config.dev_rows
    folder = study_root() / "data" / "hh_test"
    paths = sorted(folder.glob("*.json"))
    test = [Candidates(row["prefix"][0], [], None) for path in paths for row in read_rows(path, training=False)]
    splits = split_train(pool, test, dev_rows, config.seed, config.decontaminate)
    return replace(splits, notes=notes + splits.notes)


def read_pool(config: Config) -> tuple[list[Candidates], list[str]]:
    """--source, and what was counted in reading it."""
    pool, left_out = read_source(config.source, config.split, config.mapping())
    pool, unjudged = drop_unjudged(pool)
    notes = [f"{len(pool)} prompts of {config.source}", *left_out]
    if unjudged:
        notes.append(f"{unjudged} responses dropped: their reward is {'not given' if config.drop_unrated else 'null'}")
    repeats = len(pool) - len(by_prompt(pool))
    if config.merge_prompts:
        pool, merged = merge_rows(pool)
        notes.append(merged)
    elif repeats:
        notes.append(f"{repeats} rows repeat the prompt of a row before them (--merge_prompts makes them one ranking)")
    return pool, notes


def rank(pool: list[Candidates], config: Config) -> tuple[list[dict], list[str]]:
    """Training rankings, best first, and what was counted on the way."""
    facts = []
    if config.train_rows and config.train_rows < len(pool):
        facts.append(f"a sample of {config.train_rows} of {len(pool)} training prompts is kept")
        pool = sample_dev(pool, config.train_rows, config.seed)[0]
    work = study_root() / "data" / "original" / "annotation"
    prompts = [candidates.prefix for candidates in pool]
    for index, model in enumerate(config.candidates):
        from labelling.model_labels import sample_responses

        output = work / f"responses_{index}.jsonl"
        sampled = sample_responses(
            prompts, model, config.num_per_model, output, config.seed + index, config.temperature, config.top_p,
            config.max_new_tokens, config.batch_size, config.mixed_precision,
        )  # fmt: skip
        pool = [add_responses(candidates, texts, model) for candidates, texts in zip(pool, sampled, strict=True)]
    ranking_len = config.ranking_len or commonest_len(pool)
    kept, dropped = choose(pool, ranking_len, config.seed)
    facts += [f"{count} of {len(pool)} training prompts dropped: {why}" for why, count in dropped.items()]
    if not kept:
        refuse_to_rank(pool, ranking_len, config)
    return [training_row(candidates) for candidates in with_rewards(kept, config, work)], facts


def refuse_to_rank(pool: list[Candidates], ranking_len: int, config: Config) -> None:
    """Raises the InputError that says why no prompt makes a ranking."""
    found = f"no prompt has {ranking_len} distinct responses that are not empty"
    if config.join:
        raise InputError(f"--join {' '.join(config.join)}: {found} (expected more answers with a judgement)")
    if all(len(candidates.responses) == 1 for candidates in pool) and len(by_prompt(pool)) < len(pool):
        expected = "--merge_prompts, which puts rows of one prompt together"
        raise InputError(f"{config.source}: {found}: each row holds one response (expected {expected})")
    raise InputError(f"--ranking_len: {found} (expected more --candidates, or a smaller number)")


def with_rewards(pool: list[Candidates], config: Config, work: Path) -> list[Candidates]:
    """The prompts with a reward per response: the reward model's, or the data's."""
    if config.reward_model:
        from labelling.model_labels import score_rankings

        responses = [candidates.responses for candidates in pool]
        prompts = [candidates.prefix for candidates in pool]
        rewards = score_rankings(prompts, responses, config.reward_model, work / "rewards.jsonl", config.batch_size)
        return [replace(candidates, rewards=row) for candidates, row in zip(pool, rewards, strict=True)]
    for candidates in pool:
        if candidates.rewards is None:
            where = f"{candidates.meta['source']}:{candidates.meta['line']}"
            raise InputError(f"{where}: responses without rewards (expected --rewards_from, --join or --reward_model)")
    return pool


def load_lengths(config: Config) -> tuple[Lengths, str]:
    """What measures texts for the card: a tokenizer that is named, else a model's that is used, else words."""
    models = [config.reward_model, *config.candidates]
    name = next((name for name in (config.tokenizer, os.environ.get("LLaMA_path"), *models) if name), None)
    if not name:
        return word_lengths, "words"
    from data_preprocess.hub import load_tokenizer

    tokenizer = load_tokenizer(name)

    def lengths(texts: list[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]] if texts else []

    return lengths, f"tokens of {Path(name).name}"


def settings_facts(config: Config) -> list[str]:
    """The data card's lines about how the data was made."""
    if config.raw:
        rule = "the published rule" if config.published_parsing else "every word is kept"
        facts = [f"raw HH-RLHF from {config.raw}; parser: {rule}"]
    else:
        facts = [f"source: {config.source}, rewards: {' '.join(config.rewards_from or ['as the format has them'])}"]
    facts.append(f"near-duplicate: {METHOD}")
    facts.append(f"seed {config.seed}; dev rows from the {config.dev_from} split")
    if config.candidates:
        facts.append(
            f"{config.num_per_model} responses by each of {', '.join(config.candidates)} (temperature "
            f"{config.temperature}, top-p {config.top_p}, at most {config.max_new_tokens} tokens, model i's seed is "
            f"{config.seed} + i, from 0)"
        )
    if config.reward_model:
        facts.append(f"rewards: raw logits of {config.reward_model}")
    return facts


def export(config: Config, is_main: bool) -> None:
    """Writes --source for another tool."""
    check_output_file("output", config.output, {"source": [config.source]})
    pool, notes = read_pool(config)
    if not is_main:
        return
    print("\n".join(notes))
    if config.export == "prompts":
        pool = unique_prompts(pool)
        write_prompts(config.output, pool)
        print(f"{config.output}: {len(pool)} prompts")
        return
    pool = with_rewards(pool, config, Path())
    count = write_trl(config.output, pool, config.form == "conversational")
    print(f"{config.output}: {count} pairs of {len(pool)} rankings")


if __name__ == "__main__":
    run(main)
