"""Training of a reward model by transformers.Trainer: one process, or several (DDP, DeepSpeed ZeRO) that share a step.

Beside the output lies, while the run lasts, .NAME.run/ with run.json, losses.jsonl (a row per step: the loss and the
norm of its gradient) and state_S/: a plain model/ after step S, and what Trainer needs to go on from there. Its lock is
held by the process at work there. The best state's model takes the output's name at the end.
"""

import contextlib
import math
import os
import re
import shutil
import time
from array import array
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, gather_object
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.integrations import get_available_reporting_integrations, unset_hf_deepspeed_config
from transformers.trainer import TRAINER_STATE_NAME

from data_preprocess.command import InputError, RunError, Stopped, say, stop_requests
from data_preprocess.files import hold_lock, read_json, sync, write_json
from data_preprocess.outputs import check_only_ours, other_file
from data_preprocess.records import Record, data_file
from eval_hh.inference.decoding import plan_batches
from eval_hh.inference.models import padded, wrong_weight
from eval_hh.inference.together import agreed, end_all
from training.checkpoints import RunFolder, remove
from training.manifest import damage
from training.metrics import append_metrics, keep_metrics
from training.model_folder import METRICS_FILE, ModelFolder
from training.reward.config import RewardConfig, passes_per_step
from training.reward.losses import (
    as_rows,
    bradley_terry_loss,
    count_pairs,
    first_rows,
    next_token_loss,
    pair_accuracy,
)
from training.reward.start import start
from training.small_models import batch_order, check_finite, linear_schedule, lines_of
from training.states import newest_whole, write_state
from training.trainer import MINUTE, accelerator_options, seed_step

LOSSES_FILE = "losses.jsonl"
MODEL = "model"  # folder of a state that plain transformers reads
RUN_FILE = re.compile(r"run\.json|losses\.jsonl|lock|state_\d+.*|\.[\w.]+\.\d+\.tmp")
MAX_NORM = 1.0  # of a step's gradient


def run_path(output: Path) -> Path:
    """Where the run that makes `output` keeps what it needs to go on."""
    return output.with_name(f".{output.name}.run")


def is_run_file(name: str) -> bool:
    """Whether a path in a run's folder is the run's."""
    return bool(RUN_FILE.fullmatch(name))


def remove_run(folder: Path) -> None:
    """Removes the folder of a run, unless somebody's files are in it."""
    if folder.is_dir() and other_file(folder, is_run_file) is None:
        shutil.rmtree(folder)


@contextlib.contextmanager
def hold_run(run: RunFolder) -> Iterator[None]:
    """Holds the lock of a run's folder, which is removed at the end if there is no state to go on from."""
    with hold_lock(run.path):
        try:
            yield
        finally:
            if not run.states():
                remove_run(run.path)


def start_processes() -> PartialState:
    """This process's place among those that the launcher started."""
    options = accelerator_options()
    return PartialState(options.get("cpu", False), **options["kwargs_handlers"][0].to_kwargs())


def training_arguments(config: RewardConfig, run: Path, passes: int, most: int) -> TrainingArguments:
    """What Trainer is told; `start_processes` comes before.

    Args:
        config: resolved.
        run: folder for what belongs to the run; a tracker that writes files does so beside it, in NAME.logs.
        passes: per step of a process.
        most: rankings of a pass.
    """
    trackers = ["none", *get_available_reporting_integrations()]
    if config.report_to not in trackers:
        raise InputError(f"--report_to {config.report_to}: expected one that is installed ({', '.join(trackers)})")
    os.environ["ACCELERATE_MIXED_PRECISION"] = config.mixed_precision
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(run.with_suffix(".logs")))
    args = TrainingArguments(
        output_dir=str(run), run_name=run.stem[1:], seed=config.seed, max_steps=config.max_steps,
        per_device_train_batch_size=most, gradient_accumulation_steps=passes, max_grad_norm=MAX_NORM,
        logging_steps=1, logging_nan_inf_filter=False, save_strategy="no", report_to=config.report_to,
        disable_tqdm=True, use_cpu=accelerator_options().get("cpu", False), ddp_find_unused_parameters=False,
        accelerator_config={"use_configured_state": True},
    )  # fmt: skip
    args.bf16 = config.mixed_precision == "bf16"  # for DeepSpeed's check; as an argument it would ask for a GPU
    args._n_gpu = min(args.n_gpu, 1)  # a process without a launcher has one GPU, not DataParallel on all
    if args.deepspeed_plugin:
        # Every process loads the model whole, and DeepSpeed shards it then.
        unset_hf_deepspeed_config()
        settings = args.deepspeed_plugin.deepspeed_config
        settings |= {"train_micro_batch_size_per_gpu": most, "gradient_accumulation_steps": passes}
        settings |= {"gradient_clipping": MAX_NORM, "train_batch_size": "auto"}
        settings["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = True
    return args


class RankingLoss(torch.nn.Module):
    """The module that Trainer trains: a classifier and the loss of its scores, so that DDP and ZeRO see one forward."""

    def __init__(self, model: PreTrainedModel, lm_weight: float):
        super().__init__()
        self.model = model
        self.lm_weight = lm_weight

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, rewards: list[list[float]], n_pairs: int, n_tokens: int
    ) -> torch.Tensor:
        """These rankings' part of the step's loss, a scalar.

        Args:
            ids, mask: [N, L] the texts of all rankings one after the other, padded on the right.
            rewards: per ranking one number per text.
            n_pairs, n_tokens: of the whole step: what the sums over pairs and over tokens are divided by.
        """
        output = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=bool(self.lm_weight))
        loss = bradley_terry_loss(*as_rows(output.logits.squeeze(-1), rewards), total=n_pairs)
        if self.lm_weight:
            best = first_rows([len(row) for row in rewards])
            embeddings = self.model.get_input_embeddings().weight
            states = output.hidden_states[-1][best]
            loss = loss + self.lm_weight * next_token_loss(states, embeddings, ids[best], mask[best], total=n_tokens)
        return loss


class Pace(TrainerCallback):
    """When a run measures, saves and stops; before each step its random numbers, after it the progress."""

    def __init__(self, trainer: "RewardTrainer"):
        self.trainer = trainer
        self.signal: int | None = None  # that stopped the run

    def on_train_begin(self, args, state, control, **_):
        self.saved = time.monotonic()
        self.bar = tqdm(desc="reward model", unit="step", mininterval=5.0, initial=state.global_step,
                        total=state.max_steps, disable=not state.is_world_process_zero)  # fmt: skip

    def on_step_begin(self, args, state, control, **_):
        # What a step draws follows from its number: a resumed run draws the same dropout, whatever came before.
        seed_step(args.seed, state.global_step + 1, args.process_index)

    def on_step_end(self, args, state, control, **_):
        config, step = self.trainer.config, state.global_step
        due = time.monotonic() - self.saved > MINUTE * config.state_minutes
        asked = gather_object([(self.trainer.stop.number, due)])
        self.signal = next((number for number, _ in asked if number is not None), None)
        measured = step == state.max_steps or (config.eval_steps > 0 and step % config.eval_steps == 0)
        control.should_evaluate = measured
        control.should_save = measured or asked[0][1] or self.signal is not None
        control.should_training_stop |= self.signal is not None
        if control.should_save:
            self.trainer.check_weights()

    def on_log(self, args, state, control, logs, **_):
        if "grad_norm" in logs:
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)
            self.bar.update()

    def on_save(self, args, state, control, **_):
        self.saved = time.monotonic()

    def on_train_end(self, args, state, control, **_):
        self.bar.close()


class RewardTrainer(Trainer):
    """One run, from its settings to the folder of its best model."""

    loss_is_scaled_for_ga = True  # by the whole step's pairs and tokens

    def __init__(
        self, config: RewardConfig, records: list[Record], heldout: dict[str, list[Record]], output: ModelFolder
    ):
        """config: resolved; heldout: by file; output: where the model goes, and what tells it from any other."""
        self.config, self.heldout, self.run_output = config, heldout, output
        self.run = RunFolder(run_path(output.path))
        self.passes = passes_per_step(config, PartialState().num_processes, len(records))
        torch.manual_seed(config.seed)
        self.scorer = start(config)
        if wrong := wrong_weight(self.scorer.model):
            raise InputError(f"{config.model_name_or_path}: its weights {wrong} are not finite")
        self.rewards = [record.reward for record in records]
        self.encoded = [[self._encode(record, text) for text in record.suffix] for record in records]
        self.heldout_encoded = [
            self._encode(record, text) for file in heldout.values() for record in file for text in record.suffix
        ]
        lengths = [max(map(len, texts)) for texts in self.encoded]
        self.batches = batch_order(lengths, config.batch_size, config.max_steps, config.seed)
        self.step_loss: float | torch.Tensor = 0.0  # of the passes so far
        most = -(-len(self.batches[0]) // (self.passes * PartialState().num_processes))
        # A model that was trained before needs no help to find its features.
        loss = RankingLoss(self.scorer.model, config.lm_weight if config.tokenizer else 0.0)
        super().__init__(loss, training_arguments(config, self.run.path, self.passes, most))
        self.remove_callback(PrinterCallback)
        self.pace = Pace(self)
        self.add_callback(self.pace)

    def fit(self) -> dict:
        """Runs, or goes on with, the whole run; returns the metrics of the model that is kept.

        Raises:
            InputError: another process is at work on this output, or its run folder is not this run's.
            RunError: a loss, a gradient, a weight or a held-out score is not finite.
            Stopped: by a signal, after a state was written.
        """
        main = self.accelerator.is_main_process
        with contextlib.ExitStack() as held:
            with agreed(self.accelerator):
                if main:
                    check_only_ours(f"{self.run_output.flag}: {self.run.path}", self.run.path, is_run_file)
                    held.enter_context(hold_run(self.run))
                    self._open_run()
            with stop_requests() as self.stop:
                step = self._newest_state()
                with agreed(self.accelerator):
                    if main:
                        keep_metrics(self.run.path / LOSSES_FILE, step)
                self.train(resume_from_checkpoint=str(self.run.state_folder(step)) if step else None)
            if self.pace.signal is not None:
                where = f"after step {self.state.global_step} of {self.config.max_steps}, whose state is saved"
                end_all(self.accelerator, Stopped(self.pace.signal, f"{where}; the same command goes on"))
            metrics = self._metrics()
            with agreed(self.accelerator):
                if main:
                    self._publish(metrics)
        return metrics

    def _open_run(self) -> None:
        """Begins the run's folder; InputError if it has a state of another run."""
        launch = {}
        if self.accelerator.distributed_type == DistributedType.DEEPSPEED:  # its states are cut into as many pieces
            stage = self.accelerator.state.deepspeed_plugin.zero_stage
            launch = {"num_processes": self.accelerator.num_processes, "zero_stage": stage}
        ours = {**self.run_output.description, "launch": launch}
        if not self.run.states():  # whatever else lies there is of no use
            self.run.record.unlink(missing_ok=True)
        self.run.open(ours)
        theirs = read_json(self.run.record)
        if not (isinstance(theirs, dict) and all(isinstance(theirs.get(part), dict) for part in ours)):
            raise InputError(f"{self.run.record}: does not describe a run (expected {', '.join(ours)})")
        changes = [
            f"{name} was {theirs[part].get(name)!r}, is {ours[part].get(name)!r}"
            for part in ours
            for name in sorted({*ours[part], *theirs[part]})
            if ours[part].get(name) != theirs[part].get(name)
        ]
        if changes:
            raise InputError(
                f"{self.run.path}: an unfinished run had other settings: {'; '.join(changes)} "
                "(expected the same, or the folder removed to begin anew)"
            )

    def _newest_state(self) -> int:
        """The step of the state to go on from, 0 where there is none."""
        step, faults = newest_whole(self.run, self.accelerator)
        if faults and not step:
            hint = f"remove {self.run.path} to begin anew"
            end_all(self.accelerator, InputError(f"{faults[0]}; there is no whole state to go on from ({hint})"))
        for fault in faults if self.accelerator.is_main_process else []:
            say(f"passed over: {fault}")
        return step

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with torch's own defaults."""
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.config.learning_rate)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """Warm-up and linear decay."""
        if self.lr_scheduler is None:
            self.lr_scheduler = linear_schedule(optimizer or self.optimizer, num_training_steps)
        return self.lr_scheduler

    def get_train_dataloader(self) -> DataLoader:
        """This process's share of all steps, a pass after the other."""
        return DataLoader(range(self.config.max_steps * self.passes), collate_fn=self._micro_batch)

    def _micro_batch(self, index: list[int]) -> dict[str, Any]:
        """What RankingLoss takes in one pass; neighbours in a step are alike in length."""
        step, part = divmod(index[0], self.passes)
        rows = self.batches[step]
        mine = rows[self.args.process_index :: self.args.world_size]
        these = mine[part * len(mine) // self.passes : (part + 1) * len(mine) // self.passes]
        texts = [list(text) for row in these for text in self.encoded[row]]
        ids, mask = padded(texts, self.scorer.model.config.get_text_config().pad_token_id, self.args.device)
        return {
            "ids": ids, "mask": mask, "rewards": [self.rewards[row] for row in these],
            "n_pairs": max(1, sum(count_pairs(self.rewards[row]) for row in rows)),
            "n_tokens": max(1, sum(len(self.encoded[row][0]) - 1 for row in rows)),
        }  # fmt: skip

    def _encode(self, record: Record, text: str) -> array:
        # Four bytes a token: a list of Python's integers takes ten times that.
        return array("i", self.scorer.encode(record.prefix, text))

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None) -> torch.Tensor:
        """This pass's part of the step's loss, times the processes, over which gradients are averaged.

        The last pass raises RunError where the step's loss is not finite: behind it, DeepSpeed updates at once.
        """
        loss = model(**inputs)
        self.step_loss += loss.detach()
        if self.accelerator.sync_gradients:
            self._check_step(loss=self.accelerator.reduce(self.step_loss).item())
            self.step_loss = 0.0
        return loss * self.accelerator.num_processes

    def _get_grad_norm(self, model, grad_norm=None) -> float:
        norm = float(super()._get_grad_norm(model, grad_norm))
        self._check_step(gradient_norm=norm)
        return norm

    def _check_step(self, **numbers: float) -> None:
        """RunError, alike in every process, unless these numbers of the step at work are finite."""
        step = self.state.global_step
        where = partial(lines_of, data_file(self.config.train_file), self.batches[step])
        check_finite(step + 1, where, **numbers)

    def check_weights(self) -> None:
        """RunError, alike in every process, unless the weights are finite."""
        if wrong := next(filter(None, gather_object([wrong_weight(self.scorer.model)])), None):
            raise RunError(f"step {self.state.global_step}: the weights {wrong} are not finite; no model is saved")

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Tells the trackers, and losses.jsonl of a step; what `evaluate` finds is all that the states remember."""
        super().log(logs, start_time)
        self.state.log_history.pop()
        with agreed(self.accelerator):
            if "grad_norm" in logs and self.accelerator.is_main_process:
                row = {"step": self.state.global_step, "loss": logs["loss"], "grad_norm": logs["grad_norm"]}
                append_metrics(self.run.path / LOSSES_FILE, row)

    def _save_checkpoint(self, model, trial) -> None:
        """Writes the full state, then drops all but the newest --keep_states and what was the best at one of them."""
        step = self.state.global_step
        with agreed(self.accelerator):
            if self.accelerator.is_main_process:
                sync(self.run.path / LOSSES_FILE)  # the steps up to a state are in it
        write_state(self.run.state_folder(step), self.accelerator, self._write_state)
        with agreed(self.accelerator):
            if self.accelerator.is_main_process:
                newest = [found for found in self.run.states() if found <= step][: self.config.keep_states]
                kept = {*newest, *(row["step"] for row in map(self._best, newest) if row)}
                for found in self.run.states():
                    if found not in kept:
                        remove(self.run.state_folder(found))

    def _write_state(self, folder: Path) -> None:
        self.save_model(str(folder / MODEL), _internal_call=True)
        self._save_optimizer_and_scheduler(str(folder))
        if self.args.should_save:
            write_json(folder / TRAINER_STATE_NAME, asdict(self.state))  # save_to_json would sort the metrics

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if self.args.should_save:
            state = self.model.state_dict() if state_dict is None else state_dict
            weights = {name.removeprefix("model."): value for name, value in state.items()}
            self.scorer.model.save_pretrained(output_dir, state_dict=weights)
            self.scorer.tokenizer.save_pretrained(output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        super()._load_from_checkpoint(str(Path(resume_from_checkpoint) / MODEL), self.scorer.model)

    def evaluate(self, *_: Any, **__: Any) -> dict:
        """Measures the model and notes the step's metrics, as `measure` gives them."""
        metrics = self.measure()
        self.log({"eval_pair_accuracy": metrics["pair_accuracy"]})
        self.state.log_history.append({"step": self.state.global_step, **metrics})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def measure(self) -> dict:
        """Accuracy of the model's order over the pairs of each held-out file and, first, of all of them.

        Scored in the training's precision, batched by length, every process its share. RunError where a score is not
        finite.
        """
        self.scorer.model.eval()
        records, encoded = [record for file in self.heldout.values() for record in file], self.heldout_encoded
        batches = plan_batches([len(ids) for ids in encoded], self.config.per_device_eval_batch_size)
        n, found = self.accelerator.num_processes, []
        with self.accelerator.autocast():
            for turn in range(0, len(batches), n):  # as many in each process: ZeRO-3 gathers weights from all
                batch = batches[(turn + self.accelerator.process_index) % len(batches)]
                found += zip(batch, self.scorer.score_batch([list(encoded[i]) for i in batch]), strict=True)
        logits = dict(gather_object(found))
        flat = iter([logits[i] for i in range(len(encoded))])
        scores = {name: [[next(flat) for _ in record.suffix] for record in file] for name, file in self.heldout.items()}
        for name, rows in scores.items():
            check_scores(self.state.global_step, name, rows)
        files = {name: file_accuracy(scores[name], file) for name, file in self.heldout.items()}
        pooled = file_accuracy([row for file in scores.values() for row in file], records)
        return pooled if len(files) == 1 else {**pooled, "files": files}

    def _best(self, until: int) -> dict | None:
        """The metrics of the first of the steps with the highest pooled accuracy, of those measured up to one."""
        rows = [row for row in self.state.log_history if row["step"] <= until]
        return max(rows, key=lambda row: row["pair_accuracy"], default=None)

    def _metrics(self) -> dict:
        best = self._best(self.config.max_steps)
        metrics = {name: value for name, value in best.items() if name != "step"}
        if not self.config.eval_steps:
            return metrics
        history = {str(row["step"]): row["pair_accuracy"] for row in self.state.log_history}
        return {**metrics, "step": best["step"], "pair_accuracy_by_step": history}

    def _publish(self, metrics: dict) -> None:
        """Gives the best state's model, with metrics, losses and settings, the output's name; an older model goes."""
        best = self.run.state_folder(metrics.get("step", self.config.max_steps))
        if fault := damage(best):
            raise InputError(f"{fault}; the best model is lost (remove {self.run.path} to begin anew)")

        def write(folder: Path) -> None:
            shutil.copytree(best / MODEL, folder, dirs_exist_ok=True)
            write_json(folder / METRICS_FILE, metrics, indent=4)
            shutil.copyfile(self.run.path / LOSSES_FILE, folder / LOSSES_FILE)

        self.run_output.write(write)
        remove_run(self.run.path)


def check_scores(step: int, name: str, scores: list[list[float]]) -> None:
    """RunError unless the scores of a held-out file, a row per ranking, are finite."""
    for line, row in enumerate(scores, start=1):
        for score in row:
            if not math.isfinite(score):
                raise RunError(f"step {step}: the model scores {name}:{line} with {score}; no model is saved")


def file_accuracy(scores: list[list[float]], records: list[Record]) -> dict:
    """What metrics.json says of some rankings; `scores` has one row per record."""
    right, total = pair_accuracy(scores, [record.reward for record in records])
    return {"pair_accuracy": right / total, "pairs": total, "rankings": len(records)}
