"""The small study's files, and the commands that make its cells.

Library. reproduce.py runs these commands in its own processes.
"""

from collections.abc import Sequence
from pathlib import Path

from data_preprocess.selection import MATCHED
from data_preprocess.subsets import AUGMENT_RANDOM, Subset, rankings_file
from eval_hh.inference.resumable_jobs import Names
from labelling.additions import DIVERSE, RANDOM
from study.commands import Call
from study.grid import Cell, answering_cell
from study.toy_profile import AUGMENT, ToyProfile

# About how long tasks took once, on two cores; a cell's time rises with the responses that its training reads.
SECONDS = {
    "data": 2, "subsets": 4, "base": 80, "reward_model": 80, "cell": 9, "response": 4, "subset": 5, "samples": 5,
    "check": 60,
}  # fmt: skip


class ToyCalls:
    """What lies where under a study's root, and what each step of a cell is called with."""

    def __init__(self, root: Path, profile: ToyProfile):
        self.root = root
        self.profile = profile
        self.world = root / "data" / "toy"
        self.base = root / "checkpoints" / "base"
        self.reward_model = root / "checkpoints" / "reward_model"

    def data(self, cell: Cell) -> Path:
        return self.root / "data" / cell.data

    def lacks_data(self, cell: Cell) -> bool:
        return not (self.data(cell) / "train.json").exists()

    def result(self, cell: Cell) -> Path:
        return self.root / "eval_hh" / "results" / cell.result

    def fine_tune_flags(self, exp: str, stage: int, data: Path, seed: int) -> list[str]:
        """What training/main.py is called with for one cell."""
        return [
            "--do_train", "--do_validation", "--index", exp, "--training_stage_num", str(stage),
            "--seed", str(seed), "--model_name_or_path", str(self.base), "--train_file_path", str(data),
            "--dev_reward_model", str(self.reward_model), "--max_new_tokens", str(self.profile.max_new_tokens),
            "--per_device_eval_batch_size", str(self.profile.eval_batch_size), *self.profile.train,
        ]  # fmt: skip

    def augment_flags(self, cell: Cell) -> list[str]:
        """What augment.py is called with to make an augmented cell's subset.

        The pool is every prompt of the world's rankings but those near the subset that is enlarged, which are its own
        among them; the labels of the others are not used.
        """
        size, added = self.profile.grid.augmented
        answering = answering_cell(self.profile.grid, cell)
        run_folder = Names(answering.exp, answering.stage, root=self.root).run_folder
        matched = ["--match_length"] if cell.selection.endswith(MATCHED) else []
        return [
            Subset(cell.ranking_len, size).folder, "--pool", str(rankings_file(self.root / "data", 4)),
            "--add", str(added), "--by", RANDOM if cell.selection == AUGMENT_RANDOM else DIVERSE, *matched,
            "--answer_model", str(run_folder / "best_checkpoint"), "--reward_model", str(self.reward_model),
            "--max_new_tokens", str(self.profile.max_new_tokens), "--tokenizer", str(self.world / "tokenizer"),
            "--batch_size", str(self.profile.eval_batch_size), *AUGMENT,
        ]  # fmt: skip

    def calls(self, cell: Cell) -> list[Call]:
        """Training, generation, rewards and scores of one cell; each skips what it finds done."""
        names = ["--index", cell.exp, "--stage", str(cell.stage)]
        batch = ["--batch_size", str(self.profile.eval_batch_size)]
        train = self.fine_tune_flags(cell.exp, cell.stage, self.data(cell), cell.seed)
        generation = [*names, *batch, "--max_new_tokens", str(self.profile.max_new_tokens)]
        rewarding = [*names, *batch, "--reward_model", str(self.reward_model)]
        return [
            self._call("training", "main.py", train),
            self._call("eval_hh", "generation.py", generation),
            self._call("eval_hh", "rewarding.py", rewarding),
            self._call("eval_hh", "scoring.py", [*names, "--profile", "toy"]),
        ]

    def script(self, cells: Sequence[Cell]) -> list[Call]:
        """The calls of all these cells, augmented ones last, behind those that make what they are trained on."""
        augmented = [cell for cell in cells if cell.is_augmented]
        subsets = unique_data(augmented)
        first = [cell for cell in cells if not cell.is_augmented]
        first += [cell for cell in self.answering(subsets) if cell not in first]
        made = [self._call("labelling", "augment.py", self.augment_flags(cell)) for cell in subsets]
        return [
            *(call for cell in first for call in self.calls(cell)),
            *made,
            *(call for cell in augmented for call in self.calls(cell)),
        ]

    def answering(self, cells: Sequence[Cell]) -> list[Cell]:
        """The cells whose models answer the prompts of these augmented ones, each once."""
        return list(dict.fromkeys(answering_cell(self.profile.grid, cell) for cell in cells))

    def expected_work(self, cells: Sequence[Cell], check: bool) -> dict[str, float]:
        """{task: about how many seconds it takes} of what is missing; they weigh the tasks in the time left."""
        models = {"base": SECONDS["base"] * (not self.base.is_dir())}
        models["reward_model"] = SECONDS["reward_model"] * (not self.reward_model.is_dir())
        first = {"data": SECONDS["data"] * (not self.world.is_dir()), "subsets": SECONDS["subsets"], **models}
        if check:
            return {**first, "check": SECONDS["check"]}
        missing = [cell for cell in cells if not self.result(cell).exists()]
        augmented = [cell for cell in missing if cell.is_augmented]
        missing += [cell for cell in self.answering(augmented) if not self.result(cell).exists()]
        # The stage is the number of responses that training reads: 1 for SFT.
        work = {f"{cell.exp}_{cell.stage}": SECONDS["cell"] + SECONDS["response"] * cell.stage for cell in missing}
        enlarging = {"augmentation": SECONDS["subset"] * len(unique_data(augmented))} if augmented else {}
        return {**first, **work, **enlarging, "samples": SECONDS["samples"]}

    def _call(self, folder: str, script: str, flags: list[str]) -> Call:
        return Call(folder, ("python", script, *flags), (("STUDY_ROOT", str(self.root)),))


def unique_data(cells: Sequence[Cell]) -> list[Cell]:
    """One cell for each subset that these are trained on."""
    return list({cell.data: cell for cell in cells}.values())
