"""Splits one release into test, dev, reward and training rows without a common first human turn or near-duplicate.

For data of which only one split is at hand, as the test release of HH-RLHF (`--train_from test`). Rows are dealt in
groups that share their first human turn, since the release has several dialogues that begin alike.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data_preprocess.command import InputError
from data_preprocess.dialogue import PROMPTER, split_turn
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.preparing.dev_split import Splits
from data_preprocess.preparing.near_duplicates import NearDuplicates

HELDOUT_SHARE = 5  # one pair to measure reward models for every 5 to train them
Group = list[tuple[str, Candidates]]  # (file name, row) of the rows with one first human turn


@dataclass(frozen=True)
class PartSizes:
    """How many rows each part gets; training gets the rest."""

    max_rows: int  # of each test file, at most
    dev: int
    reward: Sequence[int] = ()  # pairs to train each reward model on

    def parts(self) -> dict[str, int]:
        """Returns the rows of each part that is filled after the test files, in the order of dealing."""
        heldout = {"heldout": max(1, sum(self.reward) // HELDOUT_SHARE)} if self.reward else {}
        models = {f"train_{number}": rows for number, rows in enumerate(self.reward, start=1)}
        return {"dev": self.dev, **heldout, **models}


def first_human_turn(row: Candidates) -> str:
    """Returns the text of the prompter's first turn, in lower case and without differences in white space."""
    spoken = (text for tag, text in map(split_turn, row.prefix) if tag == PROMPTER)
    return " ".join(next(spoken, "").lower().split())


def split_by_first_turn(
    files: dict[str, list[Candidates]], sizes: PartSizes, seed: int
) -> tuple[Splits, dict[str, list[Candidates]]]:
    """Returns all parts, and the test rows by file name in the order of the release.

    The groups, in a seeded order of each part, fill the test files, then dev, held-out pairs, the pairs of each reward
    model; the rest is training data. Dropped are rows near a prompt of an earlier part, and those of a group for which
    its part has no room left. Test and dev do not depend on the number of pairs kept for reward models.

    Raises:
        InputError: too few rows for dev or the reward models.
    """
    deal = Deal(files, seed)
    tests = deal.part("test", dict.fromkeys(files, sizes.max_rows), lambda file: file)
    parts = {}
    for name, count in sizes.parts().items():
        parts[name] = deal.part(name, {name: count}, lambda _, name=name: name)[name]
        if len(parts[name]) < count:
            flag = "dev_rows" if name == "dev" else "reward_rows"
            raise InputError(f"--{flag}: {count} rows requested for {name}, only {len(parts[name])} available")
    train = deal.part("train", {"train": deal.num_rows}, lambda _: "train")["train"]
    dev = parts.pop("dev")
    test = [row for rows in tests.values() for row in rows]
    return Splits(train, dev, test, deal.notes, reward=parts), tests


class Deal:
    """Groups of rows that are dealt to one part after another."""

    def __init__(self, files: dict[str, list[Candidates]], seed: int):
        rows = [(file, row) for file, rows in files.items() for row in rows]
        by_turn: dict[str, Group] = {}
        for file, row in rows:
            by_turn.setdefault(first_human_turn(row), []).append((file, row))
        self.groups, self.seed = list(by_turn.values()), seed
        self.num_rows = len(rows)
        self.earlier = NearDuplicates([], common=[row.prefix for _, row in rows])
        self.notes = [f"{len(rows)} rows with {len(by_turn)} different first human turns, split by these"]

    def part(self, name: str, room: dict[str, int], slot: Callable[[str], str]) -> dict[str, list[Candidates]]:
        """Deals groups until each slot of the part is full, and notes what was dropped.

        Args:
            name: the part, for the notes.
            room: the number of rows of each slot.
            slot: file name -> slot.

        Returns:
            The rows of each slot, in the order of the release.
        """
        # Shuffled anew: groups passed over by one part, all of full test files, must not come first in the next.
        random.Random(f"{name} {self.seed}").shuffle(self.groups)
        taken: dict[str, list[Candidates]] = {one: [] for one in room}
        near = beyond = 0
        left = []
        for group in self.groups:
            if all(len(taken[slot(file)]) >= room[slot(file)] for file, _ in group):
                left.append(group)
                continue
            for file, row in group:
                if self.earlier.has(row.prefix):
                    near += 1
                elif len(taken[slot(file)]) >= room[slot(file)]:
                    beyond += 1
                else:
                    taken[slot(file)].append(row)
        self.groups = left
        rows = [row for rows in taken.values() for row in rows]
        for row in rows:
            self.earlier.add(row.prefix)
        over = f", {beyond} beyond its size" if beyond else ""
        self.notes.append(f"{name}: {len(rows)} rows; dropped: {near} near-duplicates of an earlier part{over}")
        return {one: sorted(rows, key=_place) for one, rows in taken.items()}


def _place(row: Candidates) -> tuple[str, int]:
    return row.meta["source"], row.meta["line"]
