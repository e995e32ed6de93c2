"""A study on a model and data: calls of the launchers and of eval.sh, printed or run."""

import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tqdm import tqdm

from data_preprocess.command import (
    InputError,
    Stopped,
    StopRequest,
    cores_each,
    environment_count,
    parse_settings,
    signal_name,
    study_root,
)
from data_preprocess.dialogue import HH
from data_preprocess.files import hold_lock, read_json
from data_preprocess.ranking import rankings_file
from data_preprocess.records import numbered_rows, why_unranked
from data_preprocess.subsets import FULL_LEN
from eval_hh.analysis.results import scale_of_rows
from eval_hh.cells import BASE, CEILING, FLOOR
from eval_hh.run_paths import MAX_NEW_TOKENS, ModelNames, Names
from study.grid import Cell, Study, sample_flags
from study.running.commands import Call
from training.config import TrainConfig
from training.saving.checkpoints import RunFolder
from training.saving.model_folder import METRICS_FILE

REWARD_MODELS = ("DEV_REWARD_MODEL", "TEST_REWARD_MODEL")
# Stand-ins for main.py's required flags that a study sets for each cell.
STAND_INS = ("--index", "study", "--model_name_or_path", "model", "--train_file_path", "data")
# Of training/launch.sh's variables.
LAUNCH_DEFAULTS = {"NUM_PROCESSES": "8", "ZERO_STAGE": "2", "MIXED_PRECISION": "bf16", "PORT": "29500"}
LEARNING_RATES = {"1b3": "2e-5", "7b": "5e-6"}  # that the launchers pass on
USAGE = 2  # exit status of a usage error, which every cell would repeat


@dataclass(frozen=True, kw_only=True)
class LaunchedStudy(Study):
    """What is run, and with which commands; its files lie under `root`."""

    model: str  # folder or hub name of the pre-trained model
    launcher: str = "1b3"  # suffix of the launchers' names
    folder: str = "."  # under STUDY_ROOT
    tokenizer: str | None = None  # of the diversity D
    data_command: tuple[str, ...] = ()  # prepare.py or annotate.py with its flags
    train_flags: tuple[str, ...] = ()  # for main.py, after the launcher's own flags
    eval_flags: tuple[str, ...] = ()
    train_environment: Mapping[str, str] = field(default_factory=dict)
    eval_environment: Mapping[str, str] = field(default_factory=dict)
    compare_paper: bool = False

    @property
    def root(self) -> Path:
        return study_root() / self.folder

    @property
    def ranking_len(self) -> int:
        """K of the rankings that all others are cut from: the paper's, or the largest of the grid."""
        return FULL_LEN if self.folder == "." else max(self.grid.ranking_lens)

    @property
    def num_processes(self) -> int:
        """Processes of a cell, over all machines."""
        default = int(LAUNCH_DEFAULTS["NUM_PROCESSES"])
        return int(self.train_environment.get("NUM_PROCESSES") or environment_count("NUM_PROCESSES", default))

    def variable(self, name: str, default: str = "") -> str:
        """Returns a launcher's variable: the study's, else the environment's, else its default, else `default`."""
        made = {**self.train_environment, **self.eval_environment}
        return made.get(name) or os.environ.get(name) or LAUNCH_DEFAULTS.get(name, default)

    @property
    def data_by_models(self) -> bool:
        """Whether models answer or rank the data's prompts."""
        return self.data_command[:1] == ("annotate.py",)

    # Paths

    def names(self, cell: Cell) -> Names:
        return Names(cell.exp, cell.stage, root=self.root)

    def result(self, cell: Cell) -> Path:
        return self.names(cell).cell()

    def log(self, name: str) -> Path:
        """Returns the log of a cell, or of something else that is made; of several machines each has its own."""
        machine = f".machine{rank}" if (rank := machine_rank()) else ""
        return self.root / "logs" / "cells" / f"{name}{machine}.log"

    @property
    def rankings(self) -> Path:
        return rankings_file(self.root / "data", self.ranking_len)

    def lacks_data(self, cells: Sequence[Cell]) -> bool:
        """Returns whether a subset of these cells is missing."""
        return not all((self.root / "data" / cell.data / "train.json").is_file() for cell in cells)

    # Commands

    def data_calls(self, cells: Sequence[Cell]) -> list[Call]:
        """Returns the commands that make all subsets of these cells, from the data or from the rankings of all K."""
        calls = []
        if self.data_command:
            script, *flags = self.data_command
            length = [] if "--ranking_len" in flags else ["--ranking_len", str(self.ranking_len)]
            folder = "data_preprocess" if script == "prepare.py" else "labelling"
            calls.append(self._call(folder, ("python", script, *flags, *length)))
        if self.ranking_len > 2:
            other = [] if self.ranking_len == FULL_LEN else ["--ranking_len", str(self.ranking_len)]
            calls.append(self._call("data_preprocess", ("python", "split.py", *other)))
        counted = ["--tokenizer", self.tokenizer] if self.tokenizer else []
        for flags in sample_flags(cells):
            calls.append(self._call("data_preprocess", ("python", "sample.py", *flags, *counted)))
        return calls

    def launcher_of(self, cell: Cell) -> str:
        """Returns the name of the script in training/ that trains a cell."""
        return f"train_hh_{cell.algorithm.lower()}_{self.launcher}.sh"

    @property
    def max_new_tokens(self) -> int:
        """The most tokens of a tested response."""
        return int(self.eval_flags[1]) if self.eval_flags else MAX_NEW_TOKENS

    @property
    def prompt_flags(self) -> tuple[str, ...]:
        """The training flag that says how prompts are read, with its value; none where it is the default."""
        name = train_config(self.train_flags).prompt_format  # of several such flags the last counts
        return () if name == HH else ("--prompt_format", name)

    def calls(self, cell: Cell) -> list[Call]:
        """Returns the training and test of one cell; both resume, and the test writes the cell's result file."""
        ranking_len = (str(cell.ranking_len),) if cell.algorithm == "PRO" else ()
        train = ("sh", self.launcher_of(cell), self.model, cell.exp, cell.data, *ranking_len, str(cell.seed))
        test = ("sh", "eval.sh", cell.exp, str(cell.stage), *self.eval_flags)
        return [
            self._call("training", (*train, *self.train_flags), self.train_environment),
            self._call("eval_hh", test, {**self.eval_environment, "PROFILE": self.name}),
        ]

    def rows(self) -> dict[Path, Call]:
        """Returns the result files of the base model and of the test data's worst and best responses, with their calls.

        A paper's grid has none. Test data that are no rankings have no ceiling, and those of one response no floor.
        """
        if self.folder == ".":
            return {}
        responses = self.test_responses()
        tested = {BASE: ("--model", self.model, BASE, *self.eval_flags, *self.prompt_flags)}
        if responses > 1:
            tested[FLOOR] = ("--worst_responses", FLOOR)
        if responses:
            tested[CEILING] = ("--best_responses", CEILING)
        named = {**self.eval_environment, "PROFILE": self.name}
        return {
            ModelNames(name, self.root).cell(): self._call("eval_hh", ("sh", "eval.sh", *words), named)
            for name, words in tested.items()
        }

    def test_responses(self) -> int:
        """Returns the most responses of a test row, 0 if those of one are no ranking, 2 where no file is there yet."""
        paths = sorted((self.root / "data" / "hh_test").glob("*.json"))
        rows = [row for path in paths for _, row in numbered_rows(path, training=False)]
        return 0 if any(map(why_unranked, rows)) else max((len(row["suffix"]) for row in rows), default=2)

    def script(self, cells: Sequence[Cell]) -> list[str]:
        """Returns all commands of these cells, one per line, in their order."""
        calls = [*self.data_calls(cells), *self.rows().values(), *(call for cell in cells for call in self.calls(cell))]
        return [call.shell() for call in calls]

    def _call(self, folder: str, words: Sequence[str], environment: Mapping[str, str] | None = None) -> Call:
        own = {} if self.folder == "." else {"STUDY_ROOT": str(self.root)}
        return Call(folder, tuple(words), tuple({**own, **(environment or {})}.items()))

    # Running them

    def check_made(self) -> None:
        """Raises InputError if a model or raw data that the study names by its whole path is missing."""
        names = [self.model, *(self.variable(name) for name in REWARD_MODELS)]
        names += self.data_command if not self.rankings.is_file() else ()
        for name in names:
            if Path(name).is_absolute() and not Path(name).exists():
                told = f"{shlex.join(self.source)}: the first lines of the study file may say how it is made"
                raise InputError(f"{name}: no such file or folder ({told})")

    def make_data(self, cells: Sequence[Cell], request: StopRequest) -> None:
        """Makes the subsets of these cells if one is missing. Raises InputError without rankings to sample from."""
        if not self.lacks_data(cells):
            return
        calls = self.data_calls(cells)
        if self.data_command and self.rankings.is_file():
            calls = calls[1:]
        elif not self.data_command and not self.rankings.is_file():
            expected = f"expected rankings of {self.ranking_len} responses: data_preprocess/README.md"
            raise InputError(f"{self.rankings}: no such file ({expected})")
        log = self.log("data")
        with hold_lock(log.with_suffix("")):
            for call in calls:
                _run(replace(call, words=(sys.executable, *call.words[1:])), log, request)

    def run_cells(
        self, cells: Sequence[Cell], request: StopRequest, prune: bool = False, workers: int = 1
    ) -> list[str]:
        """Runs the cells without a result file and returns one line per failure.

        After a failed cell the others still run, unless it was a usage error (InputError): then running ones are asked
        to stop.

        Args:
            cells: the cells.
            request: checked between two calls and forwarded to the running ones; then Stopped is raised.
            prune: delete each tested run's full state and all weights but those of its best and last step.
            workers: cells that run at a time.
        """
        waiting = [cell for cell in cells if not self.result(cell).is_file()]
        print(f"{len(cells) - len(waiting)} of {len(cells)} cells are done already", file=sys.stderr)
        shares: SimpleQueue[Mapping[str, str]] = SimpleQueue()
        for share in machine_shares(workers, self.num_processes):
            shares.put(share)
        with tqdm(desc="cells", total=len(waiting), unit="cell") as bar, ThreadPoolExecutor(workers) as pool:
            running = [pool.submit(self._run_cell, cell, request, prune, shares) for cell in waiting]
            for ended in as_completed(running):
                bar.update(not isinstance(ended.exception(), Stopped))
        # A usage error stops the cells beside it, and comes before what they say.
        running.sort(key=lambda ended: not isinstance(ended.exception(), InputError))
        return [line for ended in running for line in ended.result()]

    def _run_cell(self, cell: Cell, request: StopRequest, prune: bool, shares: SimpleQueue) -> list[str]:
        """Runs one cell with a share of the machine; returns a line if it fails."""
        log, share = self.log(cell.exp), shares.get()
        try:
            _check_stop(request, log)
            tqdm.write(f"{cell.exp}: output in {log}", file=sys.stderr)
            with hold_lock(log.with_suffix("")):
                for call in self.calls(cell):
                    _run(replace(call, environment=(*call.environment, *share.items())), log, request)
            if prune and not machine_rank():
                RunFolder(self.names(cell).run_folder).drop_what_is_not_tested()
        except OSError as error:
            tqdm.write(f"failed: {error}", file=sys.stderr)
            return [str(error)]
        except InputError:
            if request.number is None:
                request.receive(signal.SIGTERM, None)  # asks the cells beside it to stop, and no other starts
            raise
        finally:
            shares.put(share)
        return []

    def reward_notes(self) -> list[str]:
        """Returns a sentence on each reward model trained by train_reward.py: its held-out accuracy."""
        command, environment = self.data_command, {**self.train_environment, **self.eval_environment}
        found = {role: environment.get(name) for role, name in zip(("dev", "test"), REWARD_MODELS, strict=True)}
        if "--reward_model" in command:
            found = {"labelling": command[command.index("--reward_model") + 1], **found}
        notes = []
        for role, folder in found.items():
            each = [
                f"{part['pair_accuracy']:.1%} of {part['pairs']} pairs of {name}"
                for name, part in held_out_metrics(folder).items()
            ]
            if each:
                notes.append(f"The {role} reward model orders {' and '.join(each)} as they are labelled.")
        return notes

    def check_done(self, cells: Sequence[Cell]) -> None:
        """Raises OSError if a cell, or a row that shows whether the reward can judge, has no result file."""
        missing = [cell.exp for cell in cells if not self.result(cell).is_file()]
        if missing:
            found = f"{len(missing)} of {len(cells)} cells have no result, the first is {missing[0]}"
            raise OSError(f"{found} (output in {self.log(missing[0])})")
        rows = [path.stem for path in self.rows() if not path.is_file()]
        if rows:
            raise OSError(f"no result of {', '.join(rows)} (output in {self.log('rows')})")

    def make_rows(self, request: StopRequest) -> None:
        """Evaluates the base model and the test data's own responses, if that is not done; says if no reward judges."""
        log, rows = self.log("rows"), self.rows()
        if rows and not self.test_responses():
            print("no floor and no ceiling: the test data's responses are not ranked, or lack text", file=sys.stderr)
        with hold_lock(log.with_suffix("")):
            for path, call in rows.items():
                if not path.is_file():
                    _run(call, log, request)
        scale = scale_of_rows(rows)
        if not scale.can_judge:
            print(f"warning: {scale.note}", file=sys.stderr)


def held_out_metrics(folder: str | None) -> dict[str, dict[str, Any]]:
    """Returns {held-out file: its metrics} of a reward model's folder; none if train_reward.py wrote none there."""
    path = Path(folder or "") / METRICS_FILE
    try:
        metrics = read_json(path) if folder and path.is_file() else {}
    except InputError:  # another program's, which may not even be JSON
        return {}
    files = metrics.get("files", {"held-out rankings": metrics}) if isinstance(metrics, dict) else None
    for part in files.values() if isinstance(files, dict) else [None]:
        accuracy, pairs = (part.get("pair_accuracy"), part.get("pairs")) if isinstance(part, dict) else (None, None)
        if type(accuracy) not in (int, float) or not 0 <= accuracy <= 1 or type(pairs) is not int:
            return {}
    return files


def machine_rank() -> int:
    """Returns this machine's number among those that run a cell together, from 0."""
    return environment_count("MACHINE_RANK", 0, at_least=0)


def machine_shares(workers: int, num_processes: int) -> list[dict[str, str]]:
    """Returns the environment of each of several workers: a launcher's port of its own and its share of the machine.

    Of several GPUs it is some; workers share them where there are too few for `num_processes` each. Without one it is
    a share of the cores. One worker gets the machine as it is.
    """
    if workers == 1:
        return [{}]
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    gpus = visible.split(",")
    groups = max(1, len(gpus) // num_processes)
    first_port = environment_count("PORT", int(LAUNCH_DEFAULTS["PORT"]))
    shares = [{"PORT": str(first_port + worker)} for worker in range(workers)]
    if not torch.cuda.is_available() and not os.environ.get("OMP_NUM_THREADS"):
        for share in shares:
            share["OMP_NUM_THREADS"] = str(cores_each(workers * num_processes))
    if groups > 1:
        for worker, share in enumerate(shares):
            first = worker % groups * num_processes
            share["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[first : first + num_processes])
    return shares


def train_config(flags: Sequence[str], stage: int = 1) -> TrainConfig:
    """Returns the training configuration that these flags of main.py make for cells of a stage."""
    return parse_settings(TrainConfig, [*STAND_INS, "--training_stage_num", str(stage), *flags], "")


def _run(call: Call, log: Path, request: StopRequest) -> None:
    """Runs a call. Raises InputError for a usage error, Stopped after a stop request, else OSError if it fails."""
    began = time.monotonic()
    status = call.run(log, request)
    with open(log, "a", encoding="utf-8") as file:
        print(f"took: {time.monotonic() - began:.1f} s", file=file)
    if status == 0 or status > 128:
        _check_stop(request, log)
    if status:
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        why = lines[-2]
        if status - 128 in signal.valid_signals() and not why.startswith("error: "):  # launch.py says so itself
            why = f"killed by {signal_name(status - 128)}"
        message = f"{call.shell()}: exit status {status}: {why} (output in {log})"
        raise InputError(message) if status == USAGE else OSError(message)


def _check_stop(request: StopRequest, log: Path) -> None:
    if request.number is not None:
        raise Stopped(request.number, f"run the same command to resume (output in {log})")
