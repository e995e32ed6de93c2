"""Splits prompts into train, dev and test, without near-duplicates leaking between them."""

import random
from dataclasses import dataclass, field

from data_preprocess.command import InputError
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.preparing.near_duplicates import NearDuplicates


@dataclass(frozen=True)
class Splits:
    """The data of prepare.py before training prompts become rankings."""

    train: list[Candidates]
    dev: list[Candidates]
    test: list[Candidates]
    notes: list[str]  # counts and what was dropped
    read: tuple[str, ...] = ()  # one line per file read
    reward: dict[str, list[Candidates]] = field(default_factory=dict)  # file name -> pairs kept for reward models


def sample_dev(rows: list[Candidates], count: int, seed: int | str) -> tuple[list[Candidates], list[Candidates]]:
    """Returns (a seeded sample in the order of the draw, the remaining rows in their order)."""
    if count > len(rows):
        raise InputError(f"--dev_rows: {count} rows requested, only {len(rows)} available")
    drawn = random.Random(seed).sample(range(len(rows)), count)
    kept_out = set(drawn)
    return [rows[i] for i in drawn], [row for i, row in enumerate(rows) if i not in kept_out]


def split_train(
    pool: list[Candidates], test: list[Candidates], dev_rows: int, seed: int, decontaminate: bool
) -> Splits:
    """Draws dev rows from the training prompts and counts or drops near-duplicates.

    With `decontaminate`, prompts near a test prompt are dropped before the dev rows are drawn, so dev is clean too, and
    prompts near a dev prompt afterwards.
    """
    near_test = NearDuplicates(row.prefix for row in test)
    is_near = [near_test.has(row.prefix) for row in pool]
    notes = [note("train and dev", sum(is_near), len(pool), "a test prompt", decontaminate)] if test else []
    if decontaminate:
        pool = [row for row, near in zip(pool, is_near, strict=True) if not near]
    dev, train = sample_dev(pool, dev_rows, seed)
    if test and not decontaminate:
        leaked = sum(near_test.has(row.prefix) for row in dev)
        notes.append(note("dev", leaked, len(dev), "a test prompt", False))
    train, dev_notes = clean_of(train, dev, "dev", decontaminate)
    return Splits(train, dev, test, notes + dev_notes)


def clean_of(
    train: list[Candidates], other: list[Candidates], name: str, decontaminate: bool
) -> tuple[list[Candidates], list[str]]:
    """Returns the training prompts, with those near another split dropped on request, and the counts as notes."""
    if not (train and other):
        return train, []
    reference = NearDuplicates(row.prefix for row in other)
    is_near = [reference.has(row.prefix) for row in train]
    notes = [note("train", sum(is_near), len(train), f"a {name} prompt", decontaminate)]
    if decontaminate:
        train = [row for row, near in zip(train, is_near, strict=True) if not near]
    return train, notes


def note(which: str, count: int, total: int, near: str, dropped: bool) -> str:
    verdict = "dropped" if dropped else "kept"
    return f"near-duplicates: {count} of {total} {which} prompts are near {near} ({verdict})"
