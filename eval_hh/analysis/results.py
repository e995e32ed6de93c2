"""The results of a study: its evaluated cells by setting and seed, read once and passed to every analysis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from data_preprocess.command import InputError
from data_preprocess.subsets import RANDOM
from eval_hh.analysis.pool_bootstrap import PoolBootstrap
from eval_hh.cells import STUDY_FILE, TEST_FILES, Setting, load_cells, pooled


@dataclass(frozen=True)
class CellResult:
    """One evaluated cell: the fields of a valid result file that tables, tests, figures and pages use."""

    setting: Setting
    seed: int
    exp: str
    stage: int
    checkpoint: str
    profile: str | None
    world: str | None
    reward_source: str
    git: str | None
    versions: dict[str, str]
    diversity: dict[str, Any] | None  # score, unique, total, samples, tokenizer
    base_prompts: int | None  # M of an enlarged subset's base subset
    files: dict[str, dict[str, Any]]  # by test file, as cells.file_scores returns them

    @classmethod
    def of(cls, cell: dict) -> CellResult:
        """Builds it from the content of a valid result file."""
        same = ("seed", "exp", "stage", "profile", "world", "reward_source", "git", "versions", "diversity", "files")
        return cls(
            setting=Setting(cell["algorithm"], cell["ranking_len"], cell["num_prompts"], cell["selection"]),
            checkpoint=cell["evaluation"]["checkpoint"],
            base_prompts=cell.get("base_prompts"),
            **{name: cell[name] for name in same},
        )

    def __str__(self) -> str:
        return f"{self.setting} seed={self.seed} selection={self.setting.selection}"

    def values(self, pool: str, field: str = "reward") -> np.ndarray:
        """Returns the per-prompt values [test prompts] of a pool (cells.pooled)."""
        return pooled(self.files, pool, field)

    @property
    def extra_rewards(self) -> list[str]:
        """The names of this cell's other rewards, sorted."""
        return sorted(self.files[TEST_FILES[0]].get("extra", {}))


class Results:
    """The evaluated cells of one study. Callers treat the key of a setting's replicates, today the seed, as opaque.

    Args:
        cells: in the order in which they are to be listed.
        warnings: a line for each file that was left out.

    Attributes:
        settings: all settings, sorted.
        random: those of randomly chosen subsets, which the paper's table and claims are about.
        diversity: D by setting; without settings whose D is missing, differs between seeds, or was counted with another
            tokenizer than most.
        warnings: the given ones, and one for each setting without a usable D.

    Raises:
        InputError: the cells come from several worlds, or a cell occurs twice.
    """

    def __init__(self, cells: Iterable[CellResult], warnings: Sequence[str] = ()):
        self.cells = tuple(cells)
        worlds = sorted({str(cell.world) for cell in self.cells})
        if len(worlds) > 1:
            raise InputError(f"the result files come from {len(worlds)} different worlds: {', '.join(worlds)}")
        self._cells: dict[Setting, dict[int, CellResult]] = {}
        for cell in self.cells:
            if self._cells.setdefault(cell.setting, {}).setdefault(cell.seed, cell) is not cell:
                raise InputError(f"duplicate cell: {cell}")
        self.settings = sorted(self._cells)
        self.random = [setting for setting in self.settings if setting.selection == RANDOM]
        self.diversity: dict[Setting, float] = {}
        self.warnings = [*warnings, *self._find_diversity()]
        self._bootstraps: dict[str, PoolBootstrap] = {}

    def _find_diversity(self) -> list[str]:
        """Fills `diversity`; returns a warning for each setting that is left out."""
        tokenizers = Counter(cell.diversity["tokenizer"] for cell in self.cells if cell.diversity)
        commonest = tokenizers.most_common(1)[0][0] if tokenizers else None
        warnings = []
        for setting in self.settings:
            records = [cell.diversity for cell in self._cells[setting].values()]
            if None in records:
                why = "no D recorded"
            elif {record["tokenizer"] for record in records} != {commonest}:
                why = f"D computed with a tokenizer other than {commonest}"
            elif len({record["score"] for record in records}) > 1:
                why = "D differs between seeds"
            else:
                self.diversity[setting] = records[0]["score"]
                continue
            chosen = "" if setting.selection == RANDOM else f" ({setting.selection})"
            warnings.append(f"{setting}{chosen}: {why}; excluded from fits on D")
        return warnings

    @property
    def first(self) -> CellResult:
        """The first cell, for what all cells share: profile, world, reward and test rows."""
        return self.cells[0]

    @property
    def tokenizer(self) -> str:
        """The tokenizer that D was counted with; requires a setting with D."""
        return self._record(next(iter(self.diversity)))["tokenizer"]

    def length(self, setting: Setting) -> float:
        """Returns the bigrams per prompt, one less than tokens, of a setting with D."""
        record = self._record(setting)
        return record["total"] / record["samples"]

    def _record(self, setting: Setting) -> dict[str, Any]:
        return next(iter(self._cells[setting].values())).diversity

    def values_of(self, field: str) -> list:
        """Returns the distinct values of a field of Setting among the random subsets, sorted."""
        return sorted({getattr(setting, field) for setting in self.random})

    @cached_property
    def lines(self) -> dict[tuple[str, int], list[Setting]]:
        """{(algorithm, K): its random settings that have D, sorted by M}."""
        found: dict[tuple[str, int], list[Setting]] = {}
        for setting in self.random:
            line = found.setdefault((setting.algorithm, setting.ranking_len), [])
            line += [setting] * (setting in self.diversity)
        return found

    def cell(self, setting: Setting, seed: int) -> CellResult:
        return self._cells[setting][seed]

    def seeds(self, *settings: Setting) -> list[int]:
        """Returns the seeds that all these settings were run with, sorted; empty if one of them was not run."""
        sets = [set(self._cells.get(setting, ())) for setting in settings]
        return sorted(set.intersection(*sets)) if sets else []

    def rewards(
        self, setting: Setting, seeds: Sequence[int], pool: str = "Global", field: str = "reward"
    ) -> np.ndarray:
        """Returns per-prompt values [seeds, test prompts] of a pool."""
        return np.stack([self.cell(setting, seed).values(pool, field) for seed in seeds])

    def bootstrap(self, pool: str) -> PoolBootstrap:
        """Returns the joint bootstrap of all cells over the pool's test prompts and the seeds, drawn once."""
        if pool not in self._bootstraps:
            rewards = {(cell.setting, cell.seed): cell.values(pool) for cell in self.cells}
            self._bootstraps[pool] = PoolBootstrap(rewards, pool)
        return self._bootstraps[pool]


def load_results(source: str | Path | Iterable[str | Path], profile: str | None = None) -> Results:
    """Reads the cells of a folder (*.json and cells.jsonl.xz), of one file or of the listed files that belong together.

    Cells left out give a warning: invalid; of another profile than `profile` (default: the most common one); with
    another reward, other evaluation settings or other test rows than most; of PRO trained on fewer responses than its
    data has (the table's K would be wrong); or a duplicate of a cell already read.

    Raises:
        InputError: the source does not exist, no cell is of `profile`, or the cells come from several worlds.
    """
    if isinstance(source, str | Path):
        folder = Path(source)
        if not folder.exists():
            raise InputError(f"{source}: no such file or folder of results")
        source = [folder] if folder.is_file() else sorted([*folder.glob("*.json"), *folder.glob(STUDY_FILE)])
    warnings: list[str] = []
    found = [named for path in source for named in load_cells(path, warnings)]  # (path or path:line, cell)
    if profile is not None:  # requested by name, so the others, perhaps many, get one warning per profile
        there = {cell["profile"] for _, cell in found}
        if there and profile not in there:
            names = ", ".join(sorted(name or "no profile" for name in there))
            raise InputError(f"--profile {profile}: no result file has this profile (found: {names})")
        others = Counter(cell["profile"] for _, cell in found if cell["profile"] != profile)
        warnings += [f"left out {number} files of profile {name}" for name, number in others.items()]
        found = [(path, cell) for path, cell in found if cell["profile"] == profile]
    found = _keep(found, "profile", lambda cell: cell["profile"], warnings)
    found = _keep(found, "reward_source", lambda cell: cell["reward_source"], warnings)
    found = _keep(found, "responses used", _responses_used, warnings, "all")
    found = _keep(found, "evaluation", _evaluation_summary, warnings)
    found = _keep(found, "test rows", _row_summary, warnings)
    cells: dict[tuple, tuple[str, CellResult]] = {}
    for path, cell in ((path, CellResult.of(cell)) for path, cell in found):
        first = cells.setdefault((cell.setting.selection, cell.setting, cell.seed), (path, cell))[0]
        if first != path:
            warnings.append(f"left out {path}: the same cell as {first} ({cell})")
    return Results([cells[key][1] for key in sorted(cells)], warnings)


def _keep(
    found: list[tuple[str, dict]],
    what: str,
    value: Callable[[dict], str | None],
    warnings: list[str],
    wanted: str | None = None,
) -> list[tuple[str, dict]]:
    """Returns the cells whose value is `wanted` (default: the most common, on a tie the one read first)."""
    values = [value(cell) for _, cell in found]
    if wanted is None and values:
        wanted = Counter(values).most_common(1)[0][0]
    kept = []
    for (path, cell), its in zip(found, values, strict=True):
        if its == wanted:
            kept.append((path, cell))
        else:
            warnings.append(f"left out {path}: {what}: {its}, but this report is about {wanted}")
    return kept


def _evaluation_summary(cell: dict) -> str:
    """Returns a text that is equal for cells with the same evaluation settings; the model itself may differ."""
    made = cell["evaluation"]
    generation, rewarding = made["generation"], made["rewarding"]
    return (
        f"{made['checkpoint']}, {generation['max_new_tokens']} new tokens ({generation['mixed_precision']}), "
        f"scored by {rewarding['reward_model']} ({rewarding['mixed_precision']})"
    )


def _responses_used(cell: dict) -> str:
    """Returns how many of its data's K responses a run was trained on: PRO the first RANKING_LEN, SFT the best."""
    part = cell["algorithm"] == "PRO" and cell["stage"] != cell["ranking_len"]
    return f"the first {cell['stage']} of {cell['ranking_len']}" if part else "all"


def _row_summary(cell: dict) -> str:
    """Returns a text, readable in a warning, that is equal only for cells scored on the same test rows."""
    counts = "+".join(str(cell["files"][file]["n"]) for file in TEST_FILES)
    rows = crc32(repr([sorted(cell["files"][file]["row_id"]) for file in TEST_FILES]).encode())
    return f"{counts} rows ({rows:08x})"
