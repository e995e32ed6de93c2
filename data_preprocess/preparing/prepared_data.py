"""Prepares data from any source: writes train, dev and test files and their data card, all or nothing.

prepare.py takes the rewards from the data; labelling/annotate.py has models add responses and reward them (`Labels`).
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_preprocess.command import InputError, study_root
from data_preprocess.files import check_are_files, json_lines, write_files
from data_preprocess.hub import load_tokenizer
from data_preprocess.outputs import check_no_input, check_opening
from data_preprocess.preparing.candidates import (
    Candidates,
    average_equal,
    best_first,
    choose,
    commonest_len,
    drop_long,
    drop_unjudged,
    forget_partial,
    plain_row,
    training_row,
)
from data_preprocess.preparing.data_card import CARD_TITLE, Lengths, render_card, word_lengths
from data_preprocess.preparing.dev_split import Splits, clean_of, sample_dev, split_train
from data_preprocess.preparing.group_split import PartSizes, split_by_first_turn
from data_preprocess.preparing.merging import by_prompt, merge_rows
from data_preprocess.preparing.near_duplicates import METHOD
from data_preprocess.preparing.prepare_config import DEV_ROWS, DataConfig
from data_preprocess.preparing.raw_hh import SOURCES, has_split, read_split
from data_preprocess.preparing.recipes import describe
from data_preprocess.preparing.returned_labels import join
from data_preprocess.preparing.row_formats import UNREAD, open_source, read_candidates
from data_preprocess.ranking import rankings_file
from data_preprocess.records import FLOAT32_MAX, read_rows
from data_preprocess.words import HOW_COUNTED

TEST = "test"  # name of the test file that is held out of --source
LEAK = (
    "dev rows are drawn from the test files, as published: a leak, since the checkpoint is chosen "
    "on prompts that it is tested on"
)


def require_rewards(pool: list[Candidates]) -> list[Candidates]:
    """Returns the prompts unchanged; InputError, naming the line, if responses have no rewards."""
    for candidates in pool:
        if candidates.rewards is None:
            expected = "--rewards_from, --winner_from or --join of prepare.py, or a reward model: labelling/annotate.py"
            raise InputError(f"{candidates.where}: responses without rewards (expected {expected})")
    return pool


def check_spans(pool: list[Candidates]) -> None:
    """Raises InputError, naming the line, for rewards whose difference float32 cannot hold: training refuses them."""
    for candidates in pool:
        rewards = [reward for reward in candidates.rewards or [] if reward is not None]
        if rewards and max(rewards) - min(rewards) > FLOAT32_MAX:
            found = f"rewards from {max(rewards):g} to {min(rewards):g}"
            raise InputError(
                f"{candidates.where}: {found} (expected differences of at most {FLOAT32_MAX:.4g}, of float32)"
            )


@dataclass(frozen=True)
class Labels:
    """Sources of further responses and of the rewards; by default the data only."""

    add: Callable[[list[Candidates]], list[Candidates]] = lambda pool: pool  # adds responses to prompts
    judge: Callable[[list[Candidates]], list[Candidates]] = require_rewards  # sets the reward of each response
    join: Sequence[str] = ()  # files of answers and judgements to join with the pool
    combine: str | None = None  # how, see returned_labels.join
    facts: Sequence[str] = ()  # lines of the data card about responses and rewards
    models: Sequence[str] = ()  # the first one's tokenizer measures texts by default


def prepare(config: DataConfig, labels: Labels, command: str, writes: bool = True) -> None:
    """Reads, splits and ranks the data and writes its files under data/, all or nothing.

    Args:
        config: what to read and how to split it.
        labels: sources of further responses and of the rewards.
        command: the command line for the data card.
        writes: False in a process that only takes part in the models' work.
    """
    data = study_root() / "data"
    check_opening(data / "README.md", CARD_TITLE)
    check_are_files([data / "README.md", data / "hh_dev" / "sampled_dev.json", data / "hh_test" / f"{TEST}.json"])
    lengths, unit = load_lengths(config.tokenizer, labels.models)
    splits, tests = read_raw(config) if config.raw else read_other(config, labels)
    rankings, facts = rank(splits, config, labels) if splits.train else ([], [])
    if not rankings and (config.source or config.train_from == "test" or has_split(config.raw, "train")):
        raise InputError("no training prompts left: " + "; ".join(splits.notes))
    outputs: dict[Path, list[dict]] = {}
    if rankings:
        outputs[rankings_file(data, len(rankings[0]["suffix"]))] = rankings
    if splits.dev:
        outputs[data / "hh_dev" / "sampled_dev.json"] = [plain_row(candidates) for candidates in splits.dev]
    for name, rows in tests.items():
        outputs[data / "hh_test" / f"{name}.json"] = [plain_row(candidates) for candidates in rows]
    for name, pairs in splits.reward.items():
        kept, dropped = choose(pairs, 2, config.seed)
        facts += [f"reward/{name}: {count} pairs dropped: {why}" for why, count in dropped.items()]
        outputs[data / "reward" / f"{name}.json"] = [training_row(pair) for pair in kept]
    for path in outputs:
        check_no_input(str(path), path, {"source": [config.source], "join": labels.join})
    if not writes:
        return
    notes = splits.notes + facts
    card_facts = [*splits.read, *notes, *data_facts(config), *labels.facts, *([HOW_COUNTED] if unit == "words" else [])]
    files = {path.relative_to(data).as_posix(): rows for path, rows in outputs.items()}
    card = render_card(command, files, card_facts, lengths, unit)
    texts: dict[Path, Iterable[str]] = {path: json_lines(rows) for path, rows in outputs.items()}
    write_files({**texts, data / "README.md": [card]})
    print("\n".join(notes))
    for path, rows in outputs.items():
        print(f"{path}: {len(rows)} rows")
    print(f"{data / 'README.md'}: the data card")


def read_raw(config: DataConfig) -> tuple[Splits, dict[str, list[Candidates]]]:
    """Reads raw HH-RLHF as splits, and the test rows by file name."""
    one_release = config.train_from == "test"
    needs_train = not one_release and (config.dev_from == "train" or has_split(config.raw, "train"))
    by_split, read_files = {}, []
    for split in ("test", "train") if needs_train else ("test",):
        read = [read_split(config.raw, source, split, config.published_parsing) for source in SOURCES]
        print("\n".join(part.summary() for part in read))
        by_split[split] = {}
        for part, file in zip(read, SOURCES.values(), strict=True):
            by_split[split][file], dropped = drop_long(part.pairs, config.max_words, part.name)
            read_files += [part.counts(), *dropped]
            if dropped:
                print(*dropped)
    dev_rows = config.dev_rows or DEV_ROWS
    if one_release:
        sizes = PartSizes(config.max_rows, dev_rows, config.reward_rows)
        splits, tests = split_by_first_turn(by_split["test"], sizes, config.seed)
        return replace(splits, read=tuple(read_files)), tests
    tests = {name: rows[: config.max_rows] for name, rows in by_split["test"].items()}
    for name, rows in by_split["test"].items():
        if len(tests[name]) < len(rows):
            print(f"{name}: the first {len(tests[name])} of {len(rows)} test rows are kept (--max_rows)")
    test = [row for rows in tests.values() for row in rows]
    train = [row for rows in by_split.get("train", {}).values() for row in rows]
    if config.dev_from == "train":
        splits = split_train(train, test, dev_rows, config.seed, config.decontaminate)
        return replace(splits, read=tuple(read_files)), tests
    dev, _ = sample_dev([row for rows in by_split["test"].values() for row in rows], dev_rows, config.seed)
    train, notes = clean_of(train, test + dev, "dev or test", config.decontaminate)
    return Splits(train, dev, test, [LEAK, *notes], tuple(read_files)), tests


def read_other(config: DataConfig, labels: Labels) -> tuple[Splits, dict[str, list[Candidates]]]:
    """Reads any other source as train, dev and, with --test_rows, test; train is checked against all test files."""
    pool, notes = read_pool(config)
    if labels.join:
        pool, missing, more = join(pool, labels.join, labels.combine)
        notes.append(f"joined with {', '.join(labels.join)}: {len(pool)} prompts have judged answers")
        pool, averaged = average_equal(pool)
        notes += [*(f"missing: {line}" for line in missing), *more, *averaged]
        check_spans(pool)
    dev_rows = min(DEV_ROWS, len(pool) // 10) if config.dev_rows is None else config.dev_rows
    folder = study_root() / "data" / "hh_test"
    paths = sorted(folder.glob("*.json"))
    tests = {}
    if config.test_rows:
        paths = [path for path in paths if path.stem != TEST]  # it is written anew
        if config.test_rows + dev_rows >= len(pool):
            raise InputError(f"--test_rows: {config.test_rows} rows and {dev_rows} dev rows of {len(pool)} prompts")
        held_out, pool = sample_dev(pool, config.test_rows, f"test {config.seed}")
        tests[TEST] = [best_first(row) for row in held_out]  # the first response is the reference of BLEU
    test = [Candidates(row["prefix"][0], [], None) for path in paths for row in read_rows(path, training=False)]
    test += [row for rows in tests.values() for row in rows]
    splits = split_train(pool, test, dev_rows, config.seed, config.decontaminate)
    return replace(splits, notes=notes + splits.notes), tests


def read_pool(config: DataConfig) -> tuple[list[Candidates], list[str]]:
    """Reads --source; returns its prompts and notes on what was counted."""
    recipe, rows = open_source(
        config.source, config.split, config.subset, config.recipe, recognise=not config.names_columns()
    )
    mapping = config.mapping(recipe)
    pool, left_out = read_candidates(rows, config.source, mapping, config.skip_invalid)
    pool, unjudged = drop_unjudged(pool if mapping.needs_rewards else forget_partial(pool))
    notes = [f"{len(pool)} prompts of {config.source}", *([describe(recipe, mapping)] if recipe else []), *left_out]
    if unjudged:
        notes.append(f"{unjudged} responses dropped: their reward is {'not given' if mapping.drop_unrated else 'null'}")
    pool, too_long = drop_long(pool, config.max_words, config.source)
    pool, averaged = average_equal(pool)
    notes += too_long + averaged
    repeats = len(pool) - len(by_prompt(pool))
    if config.merge_prompts or (recipe and recipe.merge):
        pool, merged = merge_rows(pool)
        notes.append(merged)
    elif repeats:
        notes.append(f"{repeats} rows repeat the prompt of a row before them (--merge_prompts makes them one ranking)")
    if mapping.needs_rewards:
        check_spans(pool)
    return pool, notes


def rank(splits: Splits, config: DataConfig, labels: Labels) -> tuple[list[dict], list[str]]:
    """Returns training rankings, best first, and notes on what was dropped."""
    pool, facts = splits.train, []
    if config.train_rows and config.train_rows < len(pool):
        facts.append(f"a sample of {config.train_rows} of {len(pool)} training prompts is kept")
        pool = sample_dev(pool, config.train_rows, config.seed)[0]
    pool = labels.add(pool)
    ranking_len = config.ranking_len or commonest_len(pool)
    kept, dropped = choose(pool, ranking_len, config.seed)
    facts += [f"{count} of {len(pool)} training prompts dropped: {why}" for why, count in dropped.items()]
    if not kept:
        refuse_to_rank(pool, ranking_len, config, labels.join, [line for line in splits.notes if UNREAD in line])
    return [training_row(candidates) for candidates in labels.judge(kept)], facts


def refuse_to_rank(
    pool: list[Candidates], ranking_len: int, config: DataConfig, joined: Sequence[str], unread: list[str]
) -> None:
    """Raises the InputError that explains why no prompt makes a ranking; `unread` names fields that are not read."""
    found = f"no prompt has {ranking_len} distinct non-empty responses"
    if joined:
        raise InputError(f"--join {' '.join(joined)}: {found} (expected more answers with a judgement)")
    if all(len(candidates.responses) == 1 for candidates in pool) and len(by_prompt(pool)) < len(pool):
        expected = "--merge_prompts, which makes one ranking of the rows that share a prompt"
        raise InputError(f"{config.source}: {found}: each row holds one response (expected {expected})")
    if not any(candidates.responses for candidates in pool):
        expected = "--responses_from with --rewards_from or --winner_from, or labelling/annotate.py --candidates"
        found = "; ".join(["no row has a response", *unread])
        raise InputError(f"{config.source or config.raw}: {found} (expected {expected})")
    expected = "a smaller number, or more responses: labelling/annotate.py --candidates"
    raise InputError(f"--ranking_len: {found} (expected {expected})")


def load_lengths(tokenizer: str | None, models: Sequence[str]) -> tuple[Lengths, str]:
    """Returns the text measure of the data card and its unit: a named tokenizer, else a used model's, else words."""
    name = next((name for name in (tokenizer, os.environ.get("LLaMA_path"), *models) if name), None)
    if not name:
        return word_lengths, "words"
    loaded = load_tokenizer(name)

    def lengths(texts: list[str]) -> list[int]:
        return [len(ids) for ids in loaded(texts, add_special_tokens=False)["input_ids"]] if texts else []

    return lengths, f"tokens of {Path(name).name}"


def data_facts(config: DataConfig) -> list[str]:
    """Returns the data card's lines about what was read and how it was split."""
    rule = "the published rule" if config.published_parsing else "every word is kept"
    return [
        f"raw HH-RLHF from {config.raw}; parser: {rule}" if config.raw else f"source: {config.source}",
        f"near-duplicate: {METHOD}",
        f"seed {config.seed}; dev rows from the {'test' if config.train_from == 'test' else config.dev_from} split",
    ]
