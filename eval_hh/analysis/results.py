"""The results of a study: its evaluated cells by setting and replicate, read once and passed to every analysis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data_preprocess.command import InputError
from data_preprocess.subsets import RANDOM
from eval_hh.analysis.comparable import comparable, row_facts, shared_facts
from eval_hh.analysis.reward_scale import ModelRow, RewardScale, reward_scale
from eval_hh.cells import (
    BEST_RESPONSES,
    MODEL_ROWS,
    STUDY_FILE,
    WORST_RESPONSES,
    Replicate,
    Setting,
    is_row,
    load_cells,
    pooled,
    pools_of,
)


@dataclass(frozen=True)
class Units:
    """The units of analysis that several settings have in common, each with the replicates that it averages.

    A unit is a draw of the subsets with its training seeds. Where all replicates are of one draw, each seed is a unit,
    and what is said about them is about this draw only.
    """

    groups: tuple[tuple[Replicate, ...], ...]

    @property
    def one_draw(self) -> bool:
        return len({replicate.draw for group in self.groups for replicate in group}) == 1

    def __len__(self) -> int:
        return len(self.groups)


@dataclass(frozen=True)
class CellResult:
    """One evaluated cell: the fields of a valid result file that tables, tests, figures and pages use."""

    setting: Setting
    replicate: Replicate
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
    shared_facts: dict[str, Any]  # comparable.shared_facts

    @classmethod
    def of(cls, cell: dict) -> CellResult:
        """Builds it from the content of a valid result file."""
        same = ("exp", "stage", "profile", "world", "reward_source", "git", "versions", "diversity", "files")
        return cls(
            setting=Setting.of(cell),
            replicate=Replicate.of(cell),
            checkpoint=cell["evaluation"]["checkpoint"],
            base_prompts=cell.get("base_prompts"),
            shared_facts=shared_facts(cell),
            **{name: cell[name] for name in same},
        )

    def __str__(self) -> str:
        draw, seed = self.replicate
        return f"{self.setting} draw={draw} seed={seed} selection={self.setting.selection}"

    def values(self, pool: str, field: str = "reward") -> np.ndarray:
        """Returns the per-prompt values [test prompts] of a pool (cells.pooled)."""
        return pooled(self.files, pool, field)

    @property
    def extra_rewards(self) -> list[str]:
        """The names of this cell's other rewards, sorted."""
        return sorted(next(iter(self.files.values())).get("extra", {}))


class Results:
    """The evaluated cells of one study.

    Args:
        cells: in the order in which they are to be listed.
        warnings: a line for each file that was left out.
        models: rows of models of no run, scored on the cells' test rows by their reward.

    Attributes:
        settings: all settings, sorted.
        random: those of randomly chosen subsets, which the paper's table and claims are about.
        diversity: D by setting, the mean over its draws; without settings whose D is missing, differs between cells of
            one draw, or was counted with another tokenizer than most.
        warnings: the given ones, one for each setting without a usable D, one for several code versions, and one for a
            reward that cannot judge.

    Raises:
        InputError: the cells come from several worlds, or a cell occurs twice.
    """

    def __init__(self, cells: Iterable[CellResult], warnings: Sequence[str] = (), models: Iterable[ModelRow] = ()):
        self.cells, self.models = tuple(cells), tuple(models)
        worlds = sorted({str(cell.world) for cell in self.cells})
        if len(worlds) > 1:
            raise InputError(f"the result files come from {len(worlds)} different worlds: {', '.join(worlds)}")
        self._cells: dict[Setting, dict[Replicate, CellResult]] = {}
        for cell in self.cells:
            if self._cells.setdefault(cell.setting, {}).setdefault(cell.replicate, cell) is not cell:
                raise InputError(f"duplicate cell: {cell}")
        self.settings = sorted(self._cells)
        self.random = [setting for setting in self.settings if setting.selection == RANDOM]
        self.diversity: dict[Setting, float] = {}
        self._means: dict[tuple[Setting, Replicate, str], float] = {}
        self._n_prompts: dict[str, int] = {}
        self.warnings = [*warnings, *self._find_diversity()]
        versions = sorted({cell.git or "unknown" for cell in self.cells})
        if len(versions) > 1:
            self.warnings.append(f"the cells were made by {len(versions)} code versions: {', '.join(versions)}")
        scale = self.scale()
        if not scale.can_judge:
            self.warnings.append(scale.note)

    def _find_diversity(self) -> list[str]:
        """Fills `diversity`; returns a warning for each setting that is left out."""
        tokenizers = Counter(cell.diversity["tokenizer"] for cell in self.cells if cell.diversity)
        commonest = tokenizers.most_common(1)[0][0] if tokenizers else None
        warnings = []
        for setting in self.settings:
            cells = self._cells[setting].values()
            records = [cell.diversity for cell in cells]
            if None in records:
                why = "no D recorded"
            elif {record["tokenizer"] for record in records} != {commonest}:
                why = f"D computed with a tokenizer other than {commonest}"
            else:
                scores = {(cell.replicate.draw, cell.diversity["score"]) for cell in cells}
                if len(scores) == len({draw for draw, _ in scores}):
                    self.diversity[setting] = float(np.mean([score for _, score in sorted(scores)]))
                    continue
                why = "D differs between seeds of one draw"
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
        return next(iter(self._cells[next(iter(self.diversity))].values())).diversity["tokenizer"]

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

    @cached_property
    def all_replicates(self) -> list[Replicate]:
        """The replicates of the random subsets, sorted."""
        return sorted({replicate for setting in self.random for replicate in self._cells[setting]})

    def has(self, setting: Setting, replicate: Replicate) -> bool:
        return replicate in self._cells.get(setting, ())

    def cell(self, setting: Setting, replicate: Replicate) -> CellResult:
        return self._cells[setting][replicate]

    def replicates(self, *settings: Setting) -> list[Replicate]:
        """Returns the replicates that all these settings have, sorted; empty if one of them was not run."""
        sets = [set(self._cells.get(setting, ())) for setting in settings]
        return sorted(set.intersection(*sets)) if sets else []

    def units(self, *settings: Setting) -> Units:
        """Returns the units of analysis that all these settings have in common."""
        replicates = self.replicates(*settings)
        draws = sorted({replicate.draw for replicate in replicates})
        if len(draws) <= 1:
            return Units(tuple((replicate,) for replicate in replicates))
        return Units(tuple(tuple(one for one in replicates if one.draw == draw) for draw in draws))

    def n_left_out(self, *settings: Setting) -> int:
        """Returns the number of replicates that only some of these settings have."""
        return len({one for setting in settings for one in self.replicates(setting)}) - len(self.replicates(*settings))

    def rewards(self, setting: Setting, units: Units, pool: str = "Global", field: str = "reward") -> np.ndarray:
        """Returns per-prompt values [units, test prompts] of a pool, the mean over the seeds of each unit."""
        values = [[self.cell(setting, one).values(pool, field) for one in group] for group in units.groups]
        return np.stack([np.mean(group, axis=0) for group in values])

    @property
    def pools(self) -> dict[str, tuple[str, ...]]:
        """The test files of each pool."""
        return pools_of(self.first.files)

    def scale(self, pool: str = "Global") -> RewardScale:
        """Returns what the reward can tell on a pool's test prompts."""
        return reward_scale(self.models, pool)

    def mean_rewards(self, setting: Setting, units: Units, pool: str = "Global") -> np.ndarray:
        """Returns the mean reward over a pool's test prompts of each unit [units].

        Raises InputError if cells were scored on different numbers of test prompts.
        """
        return np.array([sum(self._mean(setting, one, pool) for one in group) / len(group) for group in units.groups])

    def _mean(self, setting: Setting, replicate: Replicate, pool: str) -> float:
        key = setting, replicate, pool
        if key not in self._means:
            values = self.cell(setting, replicate).values(pool)
            if len(values) != self._n_prompts.setdefault(pool, len(values)):
                raise InputError(f"{pool}: the cells were not scored on the same test rows")
            self._means[key] = float(values.mean())
        return self._means[key]

    def records(self, setting: Setting, units: Units) -> list[dict[str, Any]]:
        """Returns the diversity record of each unit; requires a setting with D."""
        return [self.cell(setting, group[0]).diversity for group in units.groups]


def load_results(source: str | Path | Iterable[str | Path], profile: str | None = None) -> Results:
    """Reads the cells of a folder (*.json and cells.jsonl.xz), of one file or of the listed files that belong together.

    Cells left out give a warning: invalid; of another profile than `profile` (default: the most common one); a
    duplicate of a cell already read; or not to be compared with most (comparable.py). A folder's models/*.json are rows
    of models of no run, which are left out likewise if they cannot be compared with the cells.

    Raises:
        InputError: the source does not exist, no cell is of `profile`, or the cells come from several worlds.
    """
    if isinstance(source, str | Path):
        folder = Path(source)
        if not folder.exists():
            raise InputError(f"{source}: no such file or folder of results")
        source = [folder] if folder.is_file() else _result_files(folder)
    warnings: list[str] = []
    read = [named for path in source for named in load_cells(path, warnings)]  # (path or path:line, cell)
    found, rows = ([named for named in read if is_row(named[1]) == wanted] for wanted in (False, True))
    if profile is not None:  # requested by name, so the others, perhaps many, get one warning per profile
        there = {cell["profile"] for _, cell in found}
        if there and profile not in there:
            names = ", ".join(sorted(name or "no profile" for name in there))
            raise InputError(f"--profile {profile}: no result file has this profile (found: {names})")
        others = Counter(cell["profile"] for _, cell in found if cell["profile"] != profile)
        warnings += [f"left out {number} files of profile {name}" for name, number in others.items()]
        found = [(path, cell) for path, cell in found if cell["profile"] == profile]
    found = comparable(found, warnings)
    cells: dict[tuple, tuple[str, CellResult]] = {}
    for path, cell in ((path, CellResult.of(cell)) for path, cell in found):
        first = cells.setdefault((cell.setting.selection, cell.setting, cell.replicate), (path, cell))[0]
        if first != path:
            warnings.append(f"left out {path}: the same cell as {first} ({cell})")
    models = _model_rows(rows, found[0][1], warnings) if found else []
    return Results([cells[key][1] for key in sorted(cells)], warnings, models)


def _result_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.json"), *folder.glob(f"{MODEL_ROWS}/*.json"), *folder.glob(STUDY_FILE)])


def scale_of_rows(paths: Iterable[Path]) -> RewardScale:
    """Returns what a study's reward can tell (Global) from its models of no run alone, before there are cells.

    Args:
        paths: their result files; one that is not valid is left out here, and named where the cells are read.
    """
    read = [row for path in paths for _, row in load_cells(path, []) if is_row(row)]
    return reward_scale([_model_row(row) for row in read], "Global")


def _model_row(row: dict) -> ModelRow:
    model = row["evaluation"]["generation"]["model"]
    return ModelRow(row["name"], model if model in (WORST_RESPONSES, BEST_RESPONSES) else None, row["files"])


def _model_rows(rows: list[tuple[str, dict]], cell: dict, warnings: list[str]) -> list[ModelRow]:
    """Returns the rows that can stand beside a cell, by name, floor and ceiling last; a warning for each of the others.

    A row of no profile can stand beside cells of any.
    """
    kept: dict[str, ModelRow] = {}
    for path, row in rows:
        model = _model_row(row)
        ours, its = (
            row_facts(one, model.own is not None)
            for one in (cell, {**row, "profile": row["profile"] or cell["profile"]})
        )
        differing = [name for name in ours if its[name] != ours[name]]
        if differing:
            name = differing[0]
            warnings.append(f"left out {path}: {name}: {its[name]}, but this report is about {ours[name]}")
        elif row["name"] in kept:
            warnings.append(f"left out {path}: a row {row['name']} was read before it")
        else:
            kept[row["name"]] = model
    places = [None, WORST_RESPONSES, BEST_RESPONSES]
    return sorted(kept.values(), key=lambda row: (places.index(row.own), row.name))
