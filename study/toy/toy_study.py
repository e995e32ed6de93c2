"""The small study on the embedded world: its files, the commands of its cells, and how workers run them."""

import importlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path

from data_preprocess.command import InputError
from data_preprocess.files import atomic_write, read_json, write_json
from data_preprocess.ranking import rankings_file
from data_preprocess.subsets import RANDOM, Subset, base_prompts
from data_preprocess.toy_world.world import world_hash, write_world
from eval_hh.cells import BASE, CEILING
from eval_hh.estimates import budgets
from eval_hh.run_paths import BEST_CHECKPOINT, ModelNames, Names
from study.grid import Cell, answering_cell, augment_flags, sample_flags
from study.running.commands import Call
from study.running.workers import Workers
from study.toy.toy_profile import AUGMENT, ToyProfile
from training.saving.checkpoints import RunFolder

# Approximate times on two cores; a cell's time rises with the number of responses that its training reads.
SECONDS = {
    "data": 2, "subsets": 4, "base": 80, "reward_model": 100, "cell": 9, "response": 4, "enlarged": 5, "samples": 5,
    "rows": 8, "judged": 1, "check": 60,
}  # fmt: skip


class ToyStudy:
    """The study under one root folder.

    Methods without `workers` are tasks: they call an entry's main in the worker's own process, which has already loaded
    torch for an earlier cell.
    """

    def __init__(self, root: Path, profile: ToyProfile):
        self.root = root
        self.profile = profile
        self.world = root / "data" / "toy"
        self.base = root / "checkpoints" / "base"
        self.reward_model = root / "checkpoints" / "reward_model"
        self.decoding = (profile.max_new_tokens, profile.eval_batch_size)

    # Paths

    def data(self, cell: Cell) -> Path:
        return self.root / "data" / cell.data

    def lacks_data(self, cell: Cell) -> bool:
        return not (self.data(cell) / "train.json").exists()

    def result(self, cell: Cell) -> Path:
        return Names(cell.exp, cell.stage, root=self.root).cell()

    def best_checkpoint(self, exp: str, stage: int) -> Path:
        return Names(exp, stage, root=self.root).run_folder / BEST_CHECKPOINT

    # The commands

    def training(self, exp: str, stage: int, data: Path, seed: int) -> Call:
        """Returns the call of training/main.py for one cell."""
        return self._call(
            "training", "main.py",
            "--do_train", "--do_validation", "--index", exp, "--training_stage_num", stage,
            "--seed", seed, "--model_name_or_path", self.base, "--train_file_path", data,
            "--dev_reward_model", self.reward_model, "--max_new_tokens", self.profile.max_new_tokens,
            "--per_device_eval_batch_size", self.profile.eval_batch_size, *self.profile.train,
        )  # fmt: skip

    def augmentation(self, cell: Cell) -> Call:
        """Returns the call of augment.py that makes an augmented cell's subset.

        The pool is every prompt of the world's rankings except those of the base subset and those near them; the labels
        of the pool are not used.
        """
        size, added = self.profile.grid.augmented
        answering = answering_cell(self.profile.grid, cell)
        return self._call(
            "labelling", "augment.py",
            Subset(cell.ranking_len, size, draw=cell.draw).folder,
            "--pool", rankings_file(self.root / "data", self.profile.world.ranking_len),
            "--add", added, *augment_flags(cell),
            "--answer_model", self.best_checkpoint(answering.exp, answering.stage),
            "--reward_model", self.reward_model, "--max_new_tokens", self.profile.max_new_tokens,
            "--tokenizer", self.world / "tokenizer", "--batch_size", self.profile.eval_batch_size, *AUGMENT,
        )  # fmt: skip

    def calls(self, cell: Cell) -> list[Call]:
        """Returns training, generation, rewarding and scoring of one cell; each skips finished work."""
        names = ["--index", cell.exp, "--stage", cell.stage]
        batch = ["--batch_size", self.profile.eval_batch_size]
        return [
            self.training(cell.exp, cell.stage, self.data(cell), cell.seed),
            self._call("eval_hh", "generation.py", *names, *batch, "--max_new_tokens", self.profile.max_new_tokens),
            self._call("eval_hh", "rewarding.py", *names, *batch, "--reward_model", self.reward_model),
            self._call("eval_hh", "scoring.py", *names, "--profile", self.profile.name),
        ]

    def rows(self) -> dict[Path, list[Call]]:
        """Returns the result files of the base model and of the test data's best responses, with the calls for each."""
        batch = ["--batch_size", self.profile.eval_batch_size]
        models = {
            BASE: ["--model_path", self.base, "--max_new_tokens", self.profile.max_new_tokens],
            CEILING: ["--best_responses"],
        }
        return {
            ModelNames(name, self.root).cell(): [
                self._call("eval_hh", "generation.py", "--name", name, *model, *batch),
                self._call("eval_hh", "rewarding.py", "--name", name, *batch, "--reward_model", self.reward_model),
                self._call("eval_hh", "scoring.py", "--name", name, "--profile", self.profile.name),
            ]
            for name, model in models.items()
        }

    def judgements(self, cells: Sequence[Cell]) -> list[Call]:
        """Returns the calls that judge K=4 against K=2 at the largest equal budget with results, per algorithm.

        The judge is the reward model: the table's reward is the world's own.
        """
        done = {
            (cell.algorithm, cell.ranking_len, cell.num_prompts, cell.draw, cell.seed): self.result(cell).stem
            for cell in cells
            if cell.selection == RANDOM and self.result(cell).exists()
        }
        replicates = sorted({key[3:] for key in done})
        calls = {}
        for algorithm, budget in product(self.profile.grid.algorithms, budgets({key[2] for key in done})):
            sides = [[(algorithm, k, budget[k], *one) for one in replicates] for k in (4, 2)]
            both = [names for names in zip(*sides, strict=True) if set(names) <= set(done)]
            if both and algorithm not in calls:
                names = [",".join(done[key] for key in side) for side in zip(*both, strict=True)]
                flags = ["--reward_model", self.reward_model, "--name", f"{algorithm.lower()}_equal_budget"]
                calls[algorithm] = self._call("eval_hh", "judge.py", *names, *flags)
        return [*calls.values()]

    def script(self, cells: Sequence[Cell]) -> list[Call]:
        """Returns the calls of all these cells; augmented ones come last, after those that make their training data."""
        augmented = [cell for cell in cells if cell.is_augmented]
        subsets = _one_per_subset(augmented)
        first = [cell for cell in cells if not cell.is_augmented]
        first += [cell for cell in self.answering(subsets) if cell not in first]
        return [
            *(call for cell in first for call in self.calls(cell)),
            *map(self.augmentation, subsets),
            *(call for cell in augmented for call in self.calls(cell)),
        ]

    def answering(self, cells: Sequence[Cell]) -> list[Cell]:
        """Returns the cells whose models answer the prompts of these augmented cells, each once."""
        return list(dict.fromkeys(answering_cell(self.profile.grid, cell) for cell in cells))

    def _call(self, folder: str, script: str, *flags: object) -> Call:
        return Call(folder, ("python", script, *map(str, flags)), (("STUDY_ROOT", str(self.root)),))

    # The tasks

    def run_here(self, call: Call) -> None:
        """Calls the entry's main in this process, whose STUDY_ROOT becomes the study's: a worker serves several."""
        os.environ["STUDY_ROOT"] = str(self.root)
        script, *flags = call.words[1:]
        importlib.import_module(f"{call.folder}.{Path(script).stem}").main(flags)

    def make_data(self) -> None:
        """Writes the world with its rankings of 4, 3 and 2, again if a kill left it unfinished."""
        done = self.root / "data" / "done.json"
        if not done.exists():
            write_world(self.root, self.profile.world)
            self.run_here(self._call("data_preprocess", "split.py", "--ranking_len", self.profile.world.ranking_len))
            write_json(done, {"world": world_hash(self.profile.world)})

    def sample(self, cells: Sequence[Cell]) -> None:
        """Makes the missing subsets of these cells."""
        for flags in sample_flags([cell for cell in cells if self.lacks_data(cell) and not cell.is_augmented]):
            self.run_here(self._call("data_preprocess", "sample.py", *flags, "--tokenizer", self.world / "tokenizer"))

    def augment(self, cells: Sequence[Cell]) -> None:
        """Makes the missing enlarged subsets of these cells, one after another because they share the record of D."""
        for cell in _one_per_subset([cell for cell in cells if self.lacks_data(cell)]):
            self.run_here(self.augmentation(cell))

    def train_base(self) -> None:
        self.run_here(self._call(
            "training", "pretrain.py", "--corpus", self.world / "pretrain.jsonl",
            "--tokenizer", self.world / "tokenizer", "--output_dir", self.base, *self.profile.pretrain,
        ))  # fmt: skip

    def train_reward_model(self) -> None:
        self.run_here(self._call(
            "training", "train_reward.py", "--train_file", self.world / "reward_train.json",
            "--heldout_file", self.world / "reward_heldout.json", "--tokenizer", self.world / "tokenizer",
            "--output_dir", self.reward_model, *self.profile.train_reward,
        ))  # fmt: skip

    def run_cell(self, cell: Cell) -> None:
        """Runs a cell, and removes what of its run is not tested before the last call marks it as done."""
        *calls, scoring = self.calls(cell)
        for call in calls:
            self.run_here(call)
        RunFolder(Names(cell.exp, cell.stage, root=self.root).run_folder).drop_what_is_not_tested()
        self.run_here(scoring)

    def make_rows(self) -> None:
        """Evaluates the base model and the test data's best responses, if that is not done."""
        for path, calls in self.rows().items():
            for call in calls if not path.exists() else ():
                self.run_here(call)

    def judge(self, cells: Sequence[Cell]) -> None:
        """Judges what the cells' models said; their texts are scored already, so that no model is loaded."""
        for call in self.judgements(cells):
            self.run_here(call)

    def sample_base(self, results: Sequence[Path]) -> None:
        """Generates the base model's answers to the prompts that the study's page shows."""
        from eval_hh.analysis.results import load_results
        from study.toy.base_model_answers import make_base_samples

        loaded = load_results(results)
        if loaded.random:
            make_base_samples(self.root, loaded, self.base, *self.decoding)

    def check(self) -> None:
        """Writes check.md: base, ceiling, SFT on plenty of best responses, D by size, the reward model's accuracy."""
        from study.toy.toy_check import best_responses, check_lines, model_responses

        self.run_here(self.training("check_sft_plenty", 1, self.world / "plenty.json", seed=42))
        tuned = self.best_checkpoint("check_sft_plenty", 1)
        responders = {
            "base model": model_responses(self.base, *self.decoding),
            "SFT on the best of 4, plenty of prompts": model_responses(tuned, *self.decoding),
            "ceiling: the world's best responses": best_responses,
        }
        lines = check_lines(
            self.root, self.profile.world.ranking_len, responders, read_json(self.reward_model / "metrics.json")
        )
        with atomic_write(self.root / "check.md") as file:
            file.write("\n".join(lines) + "\n")

    # Order of the tasks

    def run_grid(self, workers: Workers, cells: Sequence[Cell]) -> None:
        """Runs all cells without a result file, and makes what they need if it is missing."""
        self.check_enlarged(cells)
        plain, enlarged = self.missing(cells)
        print(
            f"{sum(self.result(cell).exists() for cell in cells)} of {len(cells)} cells are done already",
            file=sys.stderr,
        )
        self.prepare(workers, plain)
        for tasks in self.batches(plain, enlarged):
            if tasks:
                workers.run("cells", tasks)

    def check_enlarged(self, cells: Sequence[Cell]) -> None:
        """Raises InputError for an enlarged subset that was made of more or fewer prompts than the study says now.

        Names have the sum alone, and cells of any grid share the root.
        """
        size, added = self.profile.grid.augmented
        for cell in _one_per_subset([cell for cell in cells if cell.is_augmented and not self.lacks_data(cell)]):
            made = base_prompts(self.data(cell))
            if made != size:
                found = f"{made} prompts and {cell.num_prompts - made} added, the study says {size} and {added}"
                hint = "expected the same, another sum, or a study of another name"
                raise InputError(f"{self.data(cell)}: was made of {found} ({hint})")

    def missing(self, cells: Sequence[Cell]) -> tuple[list[Cell], list[Cell]]:
        """Returns the cells to run, in order: those of subsets from sample.py, and those of enlarged subsets.

        The first include the cells whose models answer the added prompts, which may not be among `cells`.
        """
        missing = [cell for cell in cells if not self.result(cell).exists()]
        enlarged = [cell for cell in missing if cell.is_augmented]
        answering = [cell for cell in self.answering(enlarged) if not self.result(cell).exists()]
        return list(dict.fromkeys([*answering, *(cell for cell in missing if not cell.is_augmented)])), enlarged

    def batches(self, plain: Sequence[Cell], enlarged: Sequence[Cell]) -> Iterator[dict[str, tuple]]:
        """Yields the tasks of each batch; a batch needs the ones before it.

        Draw by draw, so that a stopped run has whole replicates. The enlarged subsets of a draw are made after the
        cells that answer their prompts and beside the draw's other cells, and are learned from in the next batch.
        """
        if not enlarged:
            yield self.cell_tasks(plain)
            return
        ready: list[Cell] = []  # cells whose enlarged subset is there
        for draw, group in _by_draw([*plain, *enlarged]).items():
            waiting = [cell for cell in group if cell.is_augmented]
            first = [cell for cell in self.answering(waiting) if cell in group]
            yield self.cell_tasks([*ready, *first])
            tasks = {f"augmentation_draw{draw}": (self.augment, waiting)} if waiting else {}
            yield tasks | self.cell_tasks([cell for cell in group if cell not in [*first, *waiting]])
            ready = waiting
        yield self.cell_tasks(ready)

    def cell_tasks(self, cells: Sequence[Cell]) -> dict[str, tuple]:
        return {_task(cell): (self.run_cell, cell) for cell in cells}

    def prepare(self, workers: Workers, cells: Sequence[Cell]) -> None:
        """Makes the world, the subsets, the base model and the reward model."""
        workers.run("world", {"data": (self.make_data,)})
        subsets = {f"subsets_draw{draw}": (self.sample, group) for draw, group in _by_draw(cells).items()}
        workers.run("subsets", subsets)
        models = {"base": (self.train_base,), "reward_model": (self.train_reward_model,)}
        workers.run("base and reward model", models, by_steps=True)

    def expected_work(self, cells: Sequence[Cell], check: bool = False) -> dict[str, float]:
        """Returns {task: approximate seconds} of the missing work, the weights of the progress bar."""
        models = {"base": SECONDS["base"] * (not self.base.is_dir())}
        models["reward_model"] = SECONDS["reward_model"] * (not self.reward_model.is_dir())
        plain, enlarged = self.missing(cells)
        subsets = {
            f"subsets_draw{draw}": SECONDS["subsets"] * len({cell.selection for cell in group})
            for draw, group in _by_draw(plain).items()
        }
        first = {"data": SECONDS["data"] * (not self.world.is_dir()), **subsets, **models}
        if check:
            return {**first, "check": SECONDS["check"]}
        # The stage is the number of responses that training reads: 1 for SFT.
        work = {_task(cell): SECONDS["cell"] + SECONDS["response"] * cell.stage for cell in (*plain, *enlarged)}
        enlarging = {
            f"augmentation_draw{draw}": SECONDS["enlarged"] * len(_one_per_subset(group))
            for draw, group in _by_draw(enlarged).items()
        }
        return {**first, **work, **enlarging, **{name: SECONDS[name] for name in ("samples", "rows", "judged")}}


class StudyOnRankings(ToyStudy):
    """Cells on given rankings, with the world, base model, reward model and tokenizer of another study."""

    def __init__(self, root: Path, profile: ToyProfile, shared: ToyStudy):
        super().__init__(root, profile)
        self.base, self.reward_model, self.world = shared.base, shared.reward_model, shared.world

    def write_rankings(self, source: Path, lines: Iterable[str], ranking_len: int) -> None:
        """Writes these lines as its rankings, shorter ones of them, and the dev and test files of the data `source`."""
        data = self.root / "data"
        if (data / "done.json").exists():
            return
        with atomic_write(rankings_file(data, ranking_len)) as file:
            file.writelines(lines)
        for name in ("hh_dev", "hh_test"):
            shutil.copytree(source / name, data / name, dirs_exist_ok=True)
        (data / "toy").mkdir(exist_ok=True)
        shutil.copy(source / "toy" / "world.json", data / "toy")
        if ranking_len > 2:
            self.run_here(self._call("data_preprocess", "split.py", "--ranking_len", ranking_len))
        write_json(data / "done.json", {})

    def run_cells(self, cells: Sequence[Cell]) -> None:
        """Makes the subsets of these cells and runs the cells, one after another."""
        self.sample(cells)
        for cell in cells:
            if not self.result(cell).exists():
                self.run_cell(cell)

    def reward(self, cell: Cell) -> float:
        """Returns the mean gold reward of a finished cell, in points of 100 x reward."""
        from eval_hh.analysis.results import CellResult
        from eval_hh.cells import load_cell

        return 100 * float(CellResult.of(load_cell(self.result(cell))).values("Global").mean())


def _task(cell: Cell) -> str:
    return f"{cell.exp}_{cell.stage}"


def _by_draw(cells: Sequence[Cell]) -> dict[int, list[Cell]]:
    return {draw: [cell for cell in cells if cell.draw == draw] for draw in sorted({cell.draw for cell in cells})}


def _one_per_subset(cells: Sequence[Cell]) -> list[Cell]:
    return list({cell.data: cell for cell in cells}.values())
