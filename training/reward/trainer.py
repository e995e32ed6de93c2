"""Trains a reward model with transformers.Trainer: one process, or several (DDP, DeepSpeed ZeRO) that share a step.

While the run lasts, .NAME.run/ beside the output holds run.json, losses.jsonl (loss and gradient norm per step) and
state_S/: model/ after step S in plain transformers format, and what Trainer needs to resume. The working process holds
its lock. At the end the best state's model gets the output's name.
"""

import contextlib
import inspect
import math
import os
import re
import shutil
import time
from array import array
from dataclasses import asdict
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object, patch_environment
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.trainer import TRAINER_STATE_NAME

from data_preprocess.command import InputError, RunError, Stopped, say, stop_requests
from data_preprocess.files import at_line, disk_full_as_oserror, hold_lock, read_json, sync, write_json
from data_preprocess.hub import describe
from data_preprocess.outputs import check_only_ours, other_file
from data_preprocess.records import Record, data_file
from eval_hh.inference.models import MODEL_ERRORS, wrong_weight
from eval_hh.inference.shared_texts import shared_row
from eval_hh.inference.together import end_all, in_first
from eval_hh.reward_model import RewardModel, check_scores
from training.lora import load_adapter, save_adapter, trainable
from training.model_check import as_float32, at_rest, in_training
from training.reward import losses
from training.reward.config import RewardConfig, passes_per_step
from training.reward.start import start
from training.saving.checkpoints import RunFolder, remove, run_record
from training.saving.manifest import damage
from training.saving.model_folder import METRICS_FILE, ModelFolder
from training.saving.states import newest_whole, readable, write_state
from training.schedule import schedule_factor
from training.small_models import batch_order, check_finite, linear_schedule, lines_of
from training.tracking.metrics import append_metrics, keep_metrics
from training.tracking.run_log import quiet_tensorboard
from training.tracking.trackers import refused_tracker
from training.trainer import MINUTE, accelerator_options, configure_zero, launch_facts, seed_step

LOSSES_FILE = "losses.jsonl"
MODEL = "model"  # folder of a state, in plain transformers format
RUN_FILE = re.compile(r"run\.json|losses\.jsonl|lock|state_\d+.*|\.[\w.]+\.\d+\.tmp")
MAX_NORM = 1.0  # of a step's gradient, for clipping


def run_path(output: Path) -> Path:
    """Returns the folder in which the run that makes `output` keeps what it needs to resume."""
    return output.with_name(f".{output.name}.run")


def remove_run(folder: Path) -> None:
    """Removes the folder of a run, unless it contains other files."""
    if folder.is_dir() and other_file(folder, RUN_FILE.fullmatch) is None:
        shutil.rmtree(folder)


def start_processes() -> PartialState:
    """Returns the state of this process among those that the launcher started."""
    options = accelerator_options()
    return PartialState(options.get("cpu", False), **options["kwargs_handlers"][0].to_kwargs())


def training_arguments(config: RewardConfig, run: Path, passes: int, most: int) -> TrainingArguments:
    """Returns Trainer's arguments, after `start_processes`; a step is `passes` of up to `most` rankings per process."""
    trackers = ["none", *get_available_reporting_integrations()]
    if unknown := [name for name in config.report_to if name not in trackers]:
        raise InputError(f"--report_to {unknown[0]}: expected one that is installed ({', '.join(trackers)})")
    args = TrainingArguments(
        output_dir=str(run), run_name=run.stem[1:], seed=config.seed, max_steps=config.max_steps,
        per_device_train_batch_size=most, gradient_accumulation_steps=passes, max_grad_norm=MAX_NORM,
        logging_steps=1, logging_nan_inf_filter=False, save_strategy="no", report_to=config.report_to,
        disable_tqdm=True, use_cpu=accelerator_options().get("cpu", False), ddp_find_unused_parameters=False,
        accelerator_config={"use_configured_state": True},
    )  # fmt: skip
    args.bf16 = config.mixed_precision == "bf16"  # for DeepSpeed's check; as an argument it would require a GPU
    args._n_gpu = min(args.n_gpu, 1)  # without a launcher: one GPU, not DataParallel on all
    if args.deepspeed_plugin:
        configure_zero(args.deepspeed_plugin, most, passes, MAX_NORM)
        zero = args.deepspeed_plugin.deepspeed_config["zero_optimization"]
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    return args


def check_training(scorer: RewardModel, path: str) -> None:
    """Raises InputError, which names `path`, if dialogues cannot be computed in training mode, which has dropout."""
    texts, prompts = scorer.probe()
    try:
        with at_rest(scorer.model), in_training(scorer.model):
            if scorer.packs:
                scorer.states(shared_row(texts, prompts))
            else:
                for batch in (texts[:1], texts[:3]):  # of a short length and of the longest
                    scorer.probe_batch(batch)
    except MODEL_ERRORS as error:
        kind = type(scorer.model).__name__
        raise InputError(f"{path}: a {kind} cannot be computed in training mode ({describe(error)})") from error


class RankingLoss(torch.nn.Module):
    """The module that Trainer trains: a classifier and the loss of its scores, so that DDP and ZeRO see one forward."""

    def __init__(self, scorer: RewardModel, lm_weight: float):
        """lm_weight: of the next-token loss. InputError if there is one and the scorer does not pack."""
        super().__init__()
        if lm_weight and not scorer.packs:
            kind = type(scorer.model).__name__
            raise InputError(f"--lm_weight {lm_weight:g}: a {kind} cannot be computed in packed rows (expected 0)")
        self.scorer, self.model, self.lm_weight = scorer, scorer.model, lm_weight

    def forward(self, texts: list[list[int]], rewards: list[list[float]], n_pairs: int, n_tokens: int) -> torch.Tensor:
        """Returns these rankings' part of the step's loss, a scalar.

        Args:
            texts: token ids of the texts of all rankings one after another.
            rewards: per ranking, one number per text.
            n_pairs, n_tokens: of the whole step; the sums over pairs and tokens are divided by them.
        """
        if not self.scorer.packs:
            logits = self.scorer.padded_logits(texts)
            return losses.bradley_terry_loss(*losses.as_rows(logits, rewards), total=n_pairs)
        row = shared_row(texts, [number for number, ranking in enumerate(rewards) for _ in ranking])
        states = self.scorer.states(row)
        logits = self.scorer.pooled_logits(states, row)
        loss = losses.bradley_terry_loss(*losses.as_rows(logits, rewards), total=n_pairs)
        if self.lm_weight:
            best = [row.columns[first] for first in losses.first_rows([len(ranking) for ranking in rewards])]
            sources, targets = zip(*chain(*map(pairwise, best)), strict=True)
            ids = torch.tensor([row.input_ids[column] for column in targets], device=states.device)
            embeddings = self.model.get_input_embeddings().weight
            lm_loss = losses.next_token_loss(states[list(sources)], embeddings, ids, total=n_tokens)
            loss = loss + self.lm_weight * lm_loss
        return loss


class Pace(TrainerCallback):
    """Decides when a run measures, saves its state and stops, and seeds each step."""

    def __init__(self, trainer: "RewardTrainer"):
        self.trainer = trainer
        self.signal: int | None = None  # the one that stopped the run
        self.saved = time.monotonic()

    def on_step_begin(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Seeds a step by its number, so that a resumed run has the same dropout."""
        seed_step(args.seed, state.global_step + 1, args.process_index)

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Decides what follows a step, the same in every process."""
        config, step = self.trainer.config, state.global_step
        due = time.monotonic() - self.saved > MINUTE * config.state_minutes
        asked = gather_object([(self.trainer.stop.number, due)])
        self.signal = next((number for number, _ in asked if number is not None), None)
        control.should_evaluate = step == state.max_steps or (config.eval_steps > 0 and step % config.eval_steps == 0)
        control.should_save = control.should_evaluate or asked[0][1] or self.signal is not None
        control.should_training_stop |= self.signal is not None
        if control.should_save:
            self.trainer.check_weights()


class RewardTrainer(Trainer):
    """One run, from its settings to the folder of its best model."""

    loss_is_scaled_for_ga = True  # it is divided by the whole step's pairs and tokens

    def __init__(
        self, config: RewardConfig, records: list[Record], heldout: dict[str, list[Record]], output: ModelFolder
    ):
        """config: resolved; heldout: by file; output: the folder of the model and its description."""
        self.config, self.heldout, self.run_output = config, heldout, output
        self.run = RunFolder(run_path(output.path), "remove the folder to start over", RewardConfig)
        self.factor = schedule_factor(config, config.max_steps) if config.lr_scheduler_type else None
        self.losses = self.run.path / LOSSES_FILE
        self.passes = passes_per_step(config, PartialState().num_processes, len(records))
        torch.manual_seed(config.seed)
        self.scorer = start(config)
        if wrong := wrong_weight(self.scorer.model):
            raise InputError(f"{config.model_name_or_path}: its weights {wrong} are not finite")
        self.rewards = [record.reward for record in records]
        self.encoded = self._encode(str(data_file(config.train_file)), records)
        rankings = [row for name, file in heldout.items() for row in self._encode(name, file)]
        self.heldout_encoded = list(chain(*rankings))
        self.heldout_prompts = [number for number, row in enumerate(rankings) for _ in row]
        with as_float32(self.scorer.model, PartialState().device):
            check_scores(self.scorer, config.tokenizer or config.model_name_or_path)
            check_training(self.scorer, config.tokenizer or config.model_name_or_path)
        lengths = [max(map(len, texts)) for texts in self.encoded]
        self.batches = batch_order(lengths, config.batch_size, config.max_steps, config.seed)
        self.step_loss: float | torch.Tensor = 0.0  # sum over the passes so far
        most = -(-len(self.batches[0]) // (self.passes * PartialState().num_processes))
        # A pretrained model has its features and needs no next-token loss.
        loss = RankingLoss(self.scorer, config.lm_weight if config.tokenizer else 0.0)
        self.logs = os.environ.get("TENSORBOARD_LOGGING_DIR", f"{output.path}.logs")
        with patch_environment(accelerate_mixed_precision=config.mixed_precision, tensorboard_logging_dir=self.logs):
            super().__init__(loss, training_arguments(config, self.run.path, self.passes, most))
        self.remove_callback(PrinterCallback)
        self.pace = Pace(self)
        self.add_callback(self.pace)

    def fit(self) -> dict:
        """Runs or resumes the whole run; returns the metrics of the selected model.

        Raises:
            InputError: another process is working on this output, or its run folder belongs to another run.
            RunError: a loss, gradient, weight or held-out score is not finite.
            Stopped: by a signal, after a state was written.
        """
        total = self.config.max_steps
        with contextlib.ExitStack() as held:
            in_first(self.accelerator, self._begin, held)
            in_first(self.accelerator, self._start_trackers)
            with stop_requests() as self.stop:
                step = newest_whole(self.run, self.accelerator, say)
                in_first(self.accelerator, keep_metrics, self.losses, step, say)
                in_first(self.accelerator, self._check_state, step)
                with tqdm(desc="reward model", unit="step", mininterval=5.0, initial=step, total=total,
                          disable=not self.accelerator.is_main_process) as self.bar, \
                     disk_full_as_oserror(Path(self.logs)):  # fmt: skip
                    self.train(resume_from_checkpoint=str(self.run.state_folder(step)) if step else None)
            if self.pace.signal is not None:
                where = f"after step {self.state.global_step} of {total}, whose state is saved"
                end_all(self.accelerator, Stopped(self.pace.signal, f"{where}; run the same command to resume"))
            metrics = self._metrics()
            in_first(self.accelerator, self._publish, metrics)
        return metrics

    def _begin(self, held: contextlib.ExitStack) -> None:
        """Locks the run folder; it is removed at the end if it has no state.

        Raises:
            InputError: it is another run's, or the output is no longer free. Another run may have come and gone while
                this one loaded its model, so both are checked under the lock.
            RunError: that run has trained the same model.
        """
        check_only_ours(f"{self.run_output.flag}: {self.run.path}", self.run.path, RUN_FILE.fullmatch)
        made_of = self.run_output.description
        description = run_record(self.config.settings(), launch_facts(self.accelerator), made_of["inputs"])
        self._check_run(description)  # before the lock, which is written into the folder
        held.enter_context(hold_lock(self.run.path))
        held.enter_context(quiet_tensorboard())
        held.callback(lambda: self.run.states() or remove_run(self.run.path))
        if self.run_output.is_finished():
            raise RunError(f"{self.config.output_dir}: another run has just trained this model (start again to use it)")
        self.run_output.check_free(self.config.sources())
        self._check_run(description)
        if not self.run.states():  # other files are useless without one
            self.run.record.unlink(missing_ok=True)
        self.run.open(description)

    def _check_run(self, description: dict[str, Any]) -> None:
        if self.run.states():
            self.run.check(description)

    def _start_trackers(self) -> None:
        """Starts those that can fail, before training would; InputError if one does, for example without an account."""
        for name in self.config.report_to:
            kind = INTEGRATION_TO_CALLBACK.get(name)
            for callback in self.callback_handler.callbacks:
                if kind is not None and type(callback) is kind and hasattr(callback, "setup"):
                    asked = inspect.signature(callback.setup).parameters
                    more = [self.processing_class] if "processing_class" in asked else []
                    with refused_tracker(name):
                        callback.setup(self.args, self.state, self.model, *more)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with torch's defaults and this weight decay for all weights."""
        if self.optimizer is None:
            rates = {"lr": self.config.learning_rate, "weight_decay": self.config.weight_decay}
            self.optimizer = torch.optim.AdamW(trainable(self.model), **rates)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """That of --lr_scheduler_type; by default warm-up and linear decay."""
        if self.lr_scheduler is None:
            optimizer = optimizer or self.optimizer
            chosen = self.factor and LambdaLR(optimizer, self.factor)
            self.lr_scheduler = chosen or linear_schedule(optimizer, num_training_steps)
        return self.lr_scheduler

    def get_train_dataloader(self) -> DataLoader:
        """Returns this process's micro-batches of all steps, one per pass."""
        return DataLoader(range(self.config.max_steps * self.passes), collate_fn=self._micro_batch)

    def _micro_batch(self, index: list[int]) -> dict[str, Any]:
        """Returns RankingLoss's arguments for one pass; the rankings of a step are similar in length."""
        step, part = divmod(index[0], self.passes)
        rows = self.batches[step]
        mine = rows[self.args.process_index :: self.args.world_size]
        these = mine[part * len(mine) // self.passes : (part + 1) * len(mine) // self.passes]
        return {
            "texts": [list(text) for row in these for text in self.encoded[row]],
            "rewards": [self.rewards[row] for row in these],
            "n_pairs": max(1, sum(losses.count_pairs(self.rewards[row]) for row in rows)),
            "n_tokens": max(1, sum(len(self.encoded[row][0]) - 1 for row in rows)),
        }  # fmt: skip

    def _encode(self, file: str, records: list[Record]) -> list[list[array]]:
        """Returns the token ids of each record's texts. Raises InputError that names the line of a bad one."""
        encoded = []
        for number, record in enumerate(records, start=1):
            with at_line(file, number):
                # Four bytes per token; a list of Python integers takes ten times as much.
                encoded.append([array("i", self.scorer.encode(record.turns, text)) for text in record.suffix])
        return encoded

    def compute_loss(
        self, model: torch.nn.Module, inputs: dict, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Returns this pass's part of the step's loss, times the processes, over which gradients are averaged.

        The last pass raises RunError if the step's loss is not finite, since DeepSpeed updates right after it.
        """
        loss = model(**inputs)
        self.step_loss += loss.detach()
        if self.accelerator.sync_gradients:
            self._check_step(loss=self.accelerator.reduce(self.step_loss).item())
            self.step_loss = 0.0
        return loss * self.accelerator.num_processes

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> float:
        norm = float(super()._get_grad_norm(model, grad_norm))
        self._check_step(gradient_norm=norm)
        return norm

    def _check_step(self, **numbers: float) -> None:
        """Raises RunError, the same in every process, unless these numbers of the current step are finite."""
        step = self.state.global_step
        where = partial(lines_of, data_file(self.config.train_file), self.batches[step])
        check_finite(step + 1, where, **numbers)

    def check_weights(self) -> None:
        """Raises RunError, the same in every process, unless the weights are finite."""
        if wrong := next(filter(None, gather_object([wrong_weight(self.scorer.model)])), None):
            raise RunError(f"step {self.state.global_step}: the weights {wrong} are not finite; no model is saved")

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs to the trackers and, for a step, to losses.jsonl; states keep only the results of `evaluate`."""
        super().log(logs, start_time)
        self.state.log_history.pop()
        if "grad_norm" in logs:
            row = {"step": self.state.global_step, "loss": logs["loss"], "grad_norm": logs["grad_norm"]}
            in_first(self.accelerator, append_metrics, self.losses, row)
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)
            self.bar.update()

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        in_first(self.accelerator, sync, self.losses)  # all steps up to a state must be in it
        write_state(self.run.state_folder(self.state.global_step), self.accelerator, self._write_state)
        in_first(self.accelerator, self._drop_states, self.state.global_step)
        self.pace.saved = time.monotonic()

    def _drop_states(self, step: int) -> None:
        """Keeps the newest --keep_states up to `step`, and for each of them the best up to it."""
        newest = [found for found in self.run.states() if found <= step][: self.config.keep_states]
        kept = {*newest, *(best["step"] for best in map(self._best, newest) if best)}
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
            weights = state_dict or self.model.state_dict()
            weights = {name.removeprefix("model."): value for name, value in weights.items()}
            if self.config.lora_r:
                Path(output_dir).mkdir(parents=True, exist_ok=True)
                save_adapter(self.scorer.model, Path(output_dir), weights)
            else:
                self.scorer.model.save_pretrained(output_dir, state_dict=weights)
            self.scorer.tokenizer.save_pretrained(output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint) / MODEL
        with readable(folder.parent):
            if self.config.lora_r:
                load_adapter(self.scorer.model, folder)
            else:
                super()._load_from_checkpoint(str(folder), self.scorer.model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with readable(Path(str(checkpoint))):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _check_state(self, step: int) -> None:
        """Raises InputError if the state after `step` is none of a Trainer that measured as this one."""
        path = self.run.state_folder(step) / TRAINER_STATE_NAME
        if not step:
            return
        with readable(path.parent):
            state = TrainerState(**read_json(path))
        rows = state.log_history if isinstance(state.log_history, list) else [None]
        is_ours = all(
            isinstance(row, dict) and type(row.get("step")) is int and type(row.get("pair_accuracy")) in (int, float)
            for row in rows
        )
        if state.global_step != step or not is_ours:
            raise InputError(f"{path}: is not the state after step {step} (expected its global_step and log_history)")

    def evaluate(self, *_: Any, **__: Any) -> dict:
        """Measures the model and records the metrics of the step, as returned by `measure`."""
        metrics = self.measure()
        self.log({"eval_pair_accuracy": metrics["pair_accuracy"]})
        self.state.log_history.append({"step": self.state.global_step, **metrics})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def measure(self) -> dict:
        """Returns the pair accuracy over all held-out pairs and, for several files, of each file.

        Texts are split over the processes and scored in the training precision, those of a ranking together. Raises
        RunError if a score is not finite.
        """
        self.scorer.model.eval()
        encoded, prompts = self.heldout_encoded, self.heldout_prompts
        batches = self.scorer.plan(encoded, prompts, self.config.per_device_eval_batch_size)
        n, found = self.accelerator.num_processes, []
        with self.accelerator.autocast():
            for turn in range(0, len(batches), n):  # equally many in each process: ZeRO-3 gathers weights from all
                batch = batches[(turn + self.accelerator.process_index) % len(batches)]
                texts = [list(encoded[i]) for i in batch]
                found += zip(batch, self.scorer.score_batch(texts, [prompts[i] for i in batch]), strict=True)
        logits = dict(gather_object(found))
        flat = iter([logits[i] for i in range(len(encoded))])
        scores = {name: [[next(flat) for _ in record.suffix] for record in file] for name, file in self.heldout.items()}
        for name, rows in scores.items():
            for line, score in ((line, score) for line, row in enumerate(rows, start=1) for score in row):
                if not math.isfinite(score):
                    step = self.state.global_step
                    raise RunError(f"step {step}: the model scores {name}:{line} with {score}; no model is saved")
        rewards = {name: [record.reward for record in file] for name, file in self.heldout.items()}
        pooled = losses.pair_accuracy(*(list(chain(*files.values())) for files in (scores, rewards)))
        files = {name: losses.pair_accuracy(rows, rewards[name]) for name, rows in scores.items()}
        return pooled if len(files) == 1 else {**pooled, "files": files}

    def _best(self, until: int) -> dict | None:
        """Returns the metrics of the step up to `until` with the highest pooled accuracy, the first in a tie."""
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
        """Replaces the output by the best state's model, with metrics, losses and settings."""
        best = self.run.state_folder(metrics.get("step", self.config.max_steps))
        if fault := damage(best):
            raise InputError(f"{fault}; the best model is lost (remove {self.run.path} to start over)")

        def write(folder: Path) -> None:
            shutil.copytree(best / MODEL, folder, dirs_exist_ok=True)
            write_json(folder / METRICS_FILE, metrics, indent=4)
            shutil.copyfile(self.losses, folder / LOSSES_FILE)

        self.run_output.write(write)
        remove_run(self.run.path)
