"""Fine-tuning with PRO or SFT under accelerate: one process, DDP, DeepSpeed ZeRO-2 or ZeRO-3.

Each step draws its prompts, splits them into micro-batches, and runs forward, loss, backward and logging; each
checkpoint saves, validates and links the best. A step's prompts and dropout depend only on the seed and the step
number, so only the full state has to be restored on resuming.
"""

import contextlib
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import (
    DeepSpeedPlugin,
    DistributedType,
    InitProcessGroupKwargs,
    ProjectConfiguration,
    broadcast_object_list,
    gather_object,
)
from tqdm import tqdm
from transformers import PreTrainedModel
from transformers.integrations import unset_hf_deepspeed_config

from data_preprocess.command import InputError, RunError, Stopped, stop_requests
from data_preprocess.dialogue import HH
from data_preprocess.files import at_line, disk_full_as_oserror, hold_lock, sync
from data_preprocess.hub import load_tokenizer
from data_preprocess.records import Record, data_file, load_records
from eval_hh.inference.decoding import eos_ids, settings_with_ends
from eval_hh.inference.models import load_causal_lm, wrong_weight
from eval_hh.inference.prompt_format import prompt_format
from eval_hh.inference.resumable_jobs import WAIT
from eval_hh.inference.together import agreed, end_all, in_first, keep_group
from eval_hh.reward_model import load_reward_model, measure_half_precision
from training.batches import balanced, step_indices
from training.collator import EncodedRanking, RankingCollator, collate
from training.config import TrainConfig, micro_batches
from training.lora import add_lora, loading_options, trainable
from training.losses import ResponseLogps, pro_loss
from training.model_check import as_float32, check_decoding, check_model, check_positions
from training.saving.checkpoint_writer import CheckpointWriter, Weights
from training.saving.checkpoints import ZERO, RunFolder, describe
from training.saving.hub_upload import push_run
from training.saving.manifest import damage
from training.saving.model_folder import import_no_deepspeed
from training.saving.states import damage_in_shares, load_state, newest_whole
from training.schedule import learning_rates
from training.tracking.metrics import SFT_LOSS, append_metrics, keep_metrics, read_metrics, sft_summary
from training.tracking.run_log import log, quiet_tensorboard, train_log
from training.tracking.run_time import CHECKPOINTS, STEPS, VALIDATION, RunTime
from training.tracking.step_metrics import step_metrics, step_sums
from training.tracking.trackers import start_trackers
from training.validation import dev_rewards, keeps_float32, live_model

MINUTE = 60.0  # seconds


def seed_step(seed: int, step: int, process: int) -> None:
    """Seeds the random numbers of a step by its number, so that a resumed run draws the same dropout."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, process]).generate_state(1)[0]))


def accelerator_options() -> dict[str, Any]:
    """Returns Accelerator's arguments: timeout and CPU backend, without which a CPU process would think it is alone."""
    import_no_deepspeed()
    if torch.cuda.is_available():
        return {"kwargs_handlers": [InitProcessGroupKwargs(timeout=WAIT)]}
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # otherwise deepspeed looks for a GPU when imported
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        import deepspeed.ops

        # Used for inference only. It is compiled at the first start, and a process killed meanwhile leaves a lock for
        # which every later run waits forever.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        return {"kwargs_handlers": [InitProcessGroupKwargs(backend="gloo", timeout=WAIT)]}
    return {"cpu": True, "kwargs_handlers": [InitProcessGroupKwargs(timeout=WAIT)]}


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Creates the accelerator of this process; gradient accumulation is derived from the global batch."""
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision not in ("bf16", "no"):  # fp16 training skips steps whose gradients are not finite
        raise InputError(f"--mixed_precision {precision}: expected bf16 or no")
    project = ProjectConfiguration(project_dir=str(config.run_folder), logging_dir=str(config.log_folder))
    accelerator = Accelerator(project_config=project, **accelerator_options())
    with agreed(accelerator):
        size, passes = micro_batches(config, accelerator.num_processes)
    accelerator.gradient_accumulation_steps = passes
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        configure_zero(accelerator.state.deepspeed_plugin, size, passes, config.max_grad_norm)
    return accelerator


def configure_zero(plugin: DeepSpeedPlugin, size: int, passes: int, max_norm: float) -> None:
    """Sets what DeepSpeed has to know of a step: `passes` of `size` rankings per process, clipped to `max_norm`."""
    unset_hf_deepspeed_config()  # else transformers would load every model in shards, also those used for validation
    plugin.deepspeed_config |= {
        "train_micro_batch_size_per_gpu": size, "gradient_accumulation_steps": passes, "gradient_clipping": max_norm,
    }  # fmt: skip


def launch_facts(accelerator: Accelerator) -> dict[str, Any]:
    """Returns the launcher's part of run.json."""
    facts = {
        "num_processes": accelerator.num_processes,
        "mixed_precision": accelerator.mixed_precision,
        "distributed_type": accelerator.distributed_type.value,
    }
    if facts["distributed_type"] == ZERO:
        facts["zero_stage"] = accelerator.state.deepspeed_plugin.zero_stage
    return facts


class Trainer:
    """One run, from its settings to its best checkpoint."""

    def __init__(self, config: TrainConfig, accelerator: Accelerator, records: list[Record], began: float):
        """began: when the run was started, by time.perf_counter."""
        self.config = config
        self.time = RunTime(began)
        self.name = f"{config.index} stage {config.training_stage_num}"
        self.accelerator = accelerator
        self.records = records
        self.total_steps = config.total_steps(len(records))
        self.micro_batch_size, _ = micro_batches(config, accelerator.num_processes)
        self.run = RunFolder(config.run_folder)
        with agreed(accelerator):
            self.learning_rate = learning_rates(config, self.total_steps)
        self.encoded: dict[int, EncodedRanking] = {}
        # Used instead of the number of tokens, which only the process that encodes a record knows.
        self.n_chars = [sum(map(len, [*r.prefix, *r.suffix[: config.training_stage_num]])) for r in records]
        self.saved_step, self.state_time = 0, time.monotonic()  # of the newest state
        with agreed(accelerator):
            self.tokenizer = load_tokenizer(config.model_name_or_path)
            self.format = prompt_format(config.prompt_format, self.tokenizer)
            self.collator = RankingCollator(
                self.tokenizer, config.training_stage_num, config.block_size, config.max_prompt, config.append_eos,
                self.format,
            )  # fmt: skip
            model = ResponseLogps(self._load()).train()
        rates = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
        # One kernel per weight is three times as fast on a CPU; None is torch's choice.
        plain_cpu = accelerator.device.type == "cpu" and accelerator.distributed_type != DistributedType.DEEPSPEED
        optimizer = torch.optim.AdamW(trainable(model), **rates, fused=plain_cpu or None)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.writer = CheckpointWriter(
            accelerator, self.model, self.optimizer, self.tokenizer, self.run, config.keep_states, config.lora_r > 0
        )

    def _load(self) -> torch.nn.Module:
        """Loads the model and what validation needs, so that a bad path fails before the first step, not after 500."""
        config, accelerator = self.config, self.accelerator
        longest = config.block_size
        if config.do_validation:
            self.dev_records = load_records(config.dev_file, training=False)
            self.reward_model = load_reward_model(config.dev_reward_model, getattr(torch, config.reward_dtype))
            if config.reward_dtype != "float32" and accelerator.is_main_process:
                self._measure_half_precision()
            for number, record in enumerate(self.dev_records, start=1):
                with at_line(config.dev_file, number):
                    longest = max(longest, len(self.format.encode_prompt(record.turns)) + config.max_new_tokens)
        # DeepSpeed makes its float32 master weights from bf16 ones, so loading float32 would gain nothing.
        is_deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED
        dtype = torch.bfloat16 if is_deepspeed and accelerator.mixed_precision == "bf16" else torch.float32
        options = loading_options(config, accelerator.device, is_deepspeed)
        lm = load_causal_lm(config.model_name_or_path, dtype, **options)
        check_positions(lm, config.model_name_or_path, longest)
        add_lora(lm, config, config.model_name_or_path, config.seed)
        with as_float32(lm, accelerator.device):  # once for both checks: a large model takes seconds to move
            check_model(lm, config.block_size)
            if config.do_validation:
                check_decoding(lm, self.tokenizer, config.max_new_tokens, self.format)
        if self.format.stop_ids:  # what is saved ends its turns in plain transformers too
            lm.generation_config = settings_with_ends(lm, eos_ids(lm, self.tokenizer) | self.format.stop_ids)
        if config.gradient_checkpointing:
            lm.gradient_checkpointing_enable({"use_reentrant": False})
        return lm

    def _measure_half_precision(self) -> None:
        """Prints how far half precision moves the dev reward model's scores of the dev file's own responses."""
        config, model = self.config, self.reward_model
        pairs = [(record.turns, text) for record in self.dev_records for text in record.suffix]
        encoded = [model.encode(*pair) for pair in pairs]
        prompts = [tuple(turns) for turns, _ in pairs]
        measure_half_precision(model, config.dev_reward_model, encoded, prompts, config.per_device_eval_batch_size)

    def train(self, description: dict[str, Any]) -> None:
        """Runs or resumes the whole run; `description` is the content of run.json.

        Raises:
            RunError: a number is not finite.
            Stopped: by a signal, after a state was written.
        """
        self._drop_chat_template()
        passes = self.accelerator.gradient_accumulation_steps
        sizes = f"{self.accelerator.num_processes} processes x {passes} passes x {self.micro_batch_size}"
        log.info("%d prompts, %d steps of %s prompts", len(self.records), self.total_steps, sizes)
        with stop_requests() as self.stop, self.writer.at_work():
            start = self._resume()
            with agreed(self.accelerator), disk_full_as_oserror(self.config.log_folder):
                if self.accelerator.is_main_process:
                    self.run.go_on(description, start)
                    keep_metrics(self.config.metrics_file, start, log.warning)
                self._start_trackers(start + 1, description["config"])
            self.time.started()
            if self._is_checkpoint(start):
                self._checkpoint(start)  # what a kill left unfinished
            self._steps(start)
            with self.time.part(CHECKPOINTS):
                self.writer.finish()
        if self.accelerator.is_main_process:
            for line in (self.time.line(), summary(self.config)):
                log.info(line)
                print(line)
        in_first(self.accelerator, push_run, self.config, self.run)
        keep_group()
        self.accelerator.end_training()

    def _start_trackers(self, first_step: int, settings: dict[str, Any]) -> None:
        config = self.config
        start_trackers(self.accelerator, config.report_to, config.log_folder, self.name, settings, first_step)

    def _drop_chat_template(self) -> None:
        """Drops the template of a model that is not trained on it, with a warning: its checkpoints do not chat."""
        if self.config.prompt_format == HH and self.tokenizer.chat_template:
            self.tokenizer.chat_template = None
            if self.accelerator.is_main_process:
                log.warning(
                    "%s has a chat template, but --prompt_format hh trains on the published text: its checkpoints are "
                    "saved without the template", self.config.model_name_or_path,
                )  # fmt: skip

    def _steps(self, start: int) -> None:
        quiet = not self.accelerator.is_main_process
        with tqdm(desc=self.name, initial=start, total=self.total_steps, disable=quiet) as bar:
            for step in range(start + 1, self.total_steps + 1):
                self._pause(step - 1)
                with self.time.part(STEPS):
                    metrics = self._step(step)
                self._log(step, metrics)
                bar.set_postfix(loss=f"{metrics['loss']:.4g}", sft=f"{metrics[SFT_LOSS]:.4g}")
                bar.update()
                if self._is_checkpoint(step):
                    self._checkpoint(step)

    def _is_checkpoint(self, step: int) -> bool:
        return step > 0 and (step % self.config.checkpointing_step == 0 or step == self.total_steps)

    def _pause(self, step: int) -> None:
        """Between steps: saves a state if one is due; if a signal asks for an end, saves one and ends the run."""
        due = time.monotonic() - self.state_time > MINUTE * self.config.state_minutes
        asked, is_due = zip(*gather_object([(self.stop.number, due)]), strict=True)
        signals = [number for number in asked if number is not None]
        if step and (signals or is_due[0]):
            self._save_state(step)
        if signals:
            self.writer.finish()
            kept = f"after step {step} of {self.total_steps}, whose state is saved" if step else "before the first step"
            log.info("stopped by signal %d %s", signals[0], kept)
            end_all(self.accelerator, Stopped(signals[0], f"{kept}; run the same command to resume"))

    def _resume(self) -> int:
        """Loads the newest intact state; returns its step, or 0 if there is none."""
        self._mend_best()
        step = newest_whole(self.run, self.accelerator, log.warning)
        if step:
            log.info("resuming after step %d", step)
            load_state(self.run.state_folder(step), self.accelerator)
            self.saved_step = step
        elif self.run.best_step() is not None:
            where = f"{self.run.path}: its full states were removed (as --prune does)"
            end_all(self.accelerator, InputError(f"{where}; there is no state to resume from (use another --index)"))
        return step

    def _mend_best(self) -> None:
        """Rewrites the best checkpoint's weights from its state if they are damaged."""
        found = [None, None]
        if self.accelerator.is_main_process and (best := self.run.best_step()) is not None:
            found = [best, damage(self.run.step_folder(best))]
        best, fault = broadcast_object_list(found)
        if fault is None:
            return
        if damage_in_shares(self.run.state_folder(best), self.accelerator) is not None:
            hint = f"it cannot be restored, since the state of step {best} is missing: use another --index"
            end_all(self.accelerator, InputError(f"{fault}; {hint}"))
        if self.accelerator.is_main_process:
            log.warning("rewritten from its state: %s", fault)
        load_state(self.run.state_folder(best), self.accelerator)
        self.writer.write_weights(self.run.step_folder(best))

    def _step(self, step: int) -> dict[str, float]:
        """Runs one optimiser step; returns its metrics, means over the global batch. RunError if one is not finite."""
        began = time.perf_counter()
        seed_step(self.config.seed, step, self.accelerator.process_index)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        sums: torch.Tensor | float = 0.0
        shares = []
        for rows, batch in self._micro_batches(step):
            with self.accelerator.accumulate(self.model):
                sum_logps, n_tokens = self.model(batch)
                loss = pro_loss(sum_logps, n_tokens, batch["rewards"], self.config.sft_weight, batch["sft_index"])
                sums = sums + step_sums(loss, sum_logps, n_tokens, batch)
                shares.append((rows, loss.total.detach()))
                if self.accelerator.sync_gradients:
                    totals = self._finite_sums(step, sums, shares)
                self.accelerator.backward(loss.total)
                if self.accelerator.sync_gradients:
                    grad_norm = self._finite_norm(step)
                self.optimizer.step()
                self.optimizer.zero_grad()
        n_micro_batches = self.accelerator.gradient_accumulation_steps * self.accelerator.num_processes
        metrics, tokens = step_metrics(totals, n_micro_batches)
        metrics |= {"grad_norm": grad_norm, "learning_rate": self.learning_rate(step)}
        sums[0].item()  # waits for the update, which is asynchronous on a GPU
        metrics["seconds"] = time.perf_counter() - began
        metrics["tokens_per_second"] = tokens / metrics["seconds"]
        return metrics

    def _finite_sums(self, step: int, sums: torch.Tensor, shares: list[tuple[list[int], torch.Tensor]]) -> list[float]:
        """Returns the sums over all processes, before the last backward pass, after which DeepSpeed updates at once.

        Raises RunError in every process if one is not finite, naming the rows of the micro-batches at fault.
        """
        totals = self.accelerator.reduce(sums).tolist()
        if not all(map(math.isfinite, totals)):
            at_fault = gather_object([row for rows, loss in shares for row in rows if not loss.isfinite()])
            self._end(step, f"the loss is {totals[0]:g}", at_fault)
        return totals

    def _finite_norm(self, step: int) -> float:
        """Returns the gradient norm, the same in every process. Raises RunError if it is not finite, before the update.

        DeepSpeed's step has already run, but it skips the update if the norm is not finite: ZeRO-3 always, ZeRO-2 in
        float32, and in bfloat16 by its default check_grad_overflow.
        """
        norm = float(self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm))
        if not math.isfinite(norm):
            self._end(step, f"the gradient's norm is {norm:g}")
        return norm

    def _check_weights(self, step: int) -> None:
        """Raises RunError if the update of `step` left a weight that is not finite."""
        if any(gather_object([wrong_weight(self.model)])):
            self._end(step, "a weight is not finite after its update")

    def _end(self, step: int, what: str, rows: list[int] | None = None) -> NoReturn:
        """Ends the run in all processes, naming the rows at fault by line (a training file has one per line)."""
        if not rows:
            rows = step_indices(len(self.records), self.config.global_batch_size, self.config.seed, step)
        lines = ", ".join(str(row + 1) for row in sorted(set(rows)))
        in_first(self.accelerator, self.writer.background.wait)
        newest = self.run.latest_state()
        kept = f"state_{newest} is kept" if newest else "no state was written before"
        message = f"step {step}: {what} ({data_file(self.config.train_file_path)}, lines {lines}; {kept})"
        log.info(message)
        end_all(self.accelerator, RunError(message))

    def _micro_batches(self, step: int) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
        """Yields this process's micro-batches of a step, of equal counts and similar lengths, with their rows."""
        rows = step_indices(len(self.records), self.config.global_batch_size, self.config.seed, step)
        parts = balanced(rows, self.n_chars, len(rows) // self.micro_batch_size)
        for part in parts[self.accelerator.process_index :: self.accelerator.num_processes]:
            for row in part:
                if row not in self.encoded:
                    with at_line(data_file(self.config.train_file_path), row + 1):
                        self.encoded[row] = self.collator.encode(self.records[row])
            batch = collate([self.encoded[row] for row in part])
            yield part, {name: tensor.to(self.accelerator.device) for name, tensor in batch.items()}

    def _log(self, step: int, metrics: dict[str, float]) -> None:
        with agreed(self.accelerator):
            if self.accelerator.is_main_process:
                append_metrics(self.config.metrics_file, {"step": step, **metrics})
            self._track(step, metrics)
            self.writer.background.check()

    def _track(self, step: int, metrics: dict[str, float]) -> None:
        with disk_full_as_oserror(self.config.log_folder):
            self.accelerator.log(metrics, step=step)

    def _save_state(self, step: int) -> Weights | None:
        """Saves the full state unless it exists; see `CheckpointWriter.save_state`."""
        self.state_time = time.monotonic()
        if self.saved_step == step:
            return None
        self._check_weights(step)
        in_first(self.accelerator, sync, self.config.metrics_file)  # all steps up to a state must be logged
        with self.time.part(CHECKPOINTS):
            weights = self.writer.save_state(step)
        self.saved_step, self.state_time = step, time.monotonic()
        return weights

    def _checkpoint(self, step: int) -> None:
        """Saves the full state and the weights, validates, links the best. Parts that are already done are skipped."""
        weights = self._save_state(step)
        self._pause(step)
        with self.time.part(CHECKPOINTS):
            self.writer.save_weights(step, weights)
        del weights
        if self.config.do_validation:
            self._pause(step)
            with self.time.part(VALIDATION):
                self._validate(step)
        self.writer.then(lambda: self.run.point_best(self.run.chosen_step(step)))

    def _model_to_validate(self, step: int) -> Callable[[torch.dtype], PreTrainedModel]:
        """Returns what makes a model of the weights after `step`: of those in memory, if each process has all."""
        lm = self.accelerator.unwrap_model(self.model).lm
        if self.config.lora_r or launch_facts(self.accelerator).get("zero_stage") == 3 or keeps_float32(lm):
            self.writer.finish()
            return partial(load_causal_lm, self.run.step_folder(step))
        return partial(live_model, lm)

    def _validate(self, step: int) -> None:
        if broadcast_object_list([step in self.run.dev_rewards()])[0]:
            return
        rewards = dev_rewards(
            self._model_to_validate(step), self.tokenizer, self.format, self.dev_records, self.reward_model,
            self.accelerator, self.config.max_new_tokens, self.config.per_device_eval_batch_size, self.stop,
        )  # fmt: skip
        if rewards is None:
            self._pause(step)  # ends the run
            return
        if bad := [str(row + 1) for row, reward in sorted(rewards.items()) if not math.isfinite(reward)]:
            message = f"step {step}: the reward is not finite ({self.config.dev_file}, lines {', '.join(bad)})"
            end_all(self.accelerator, RunError(message))
        reward = sum(rewards.values()) / len(rewards)
        log.info("step %d: dev reward %.4f", step, reward)
        self.writer.then(self.run.record_dev_reward, step, reward)
        with agreed(self.accelerator):
            self._track(step, {"dev_reward": reward})


def summary(config: TrainConfig) -> str:
    """Returns the last line of a run: the change in SFT loss, and the best checkpoint."""
    losses = [row[SFT_LOSS] for row in read_metrics(config.metrics_file, SFT_LOSS)]
    run = RunFolder(config.run_folder)
    return f"{sft_summary(losses)}; best checkpoint: {run.step_folder(run.best_step())}"


def _places(config: TrainConfig, run: RunFolder) -> list[Path]:
    """Returns the files and folders that a run makes before its first step, the innermost first."""
    return [run.record, run.path, *run.path.parents, config.log_folder, *config.log_folder.parents]


@contextlib.contextmanager
def _as_before_unless_begun(config: TrainConfig, run: RunFolder, new: list[Path]) -> Iterator[None]:
    """Removes `new`, of `_places`, if the block fails before the first step is logged, as where a tracker cannot start.

    A run.json that is left would hold the next start to settings with which nothing was trained. The caller holds the
    locks of both folders; what other runs put beside them is kept.
    """
    try:
        yield
    except Exception:
        if not run.states() and not read_metrics(config.metrics_file):
            for path in new:
                if path in (run.record, run.path, config.log_folder):
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
                else:
                    with contextlib.suppress(OSError):  # another run is in it
                        path.rmdir()
        raise


def train(config: TrainConfig, records: list[Record], began: float) -> None:
    """Runs one configuration to completion, or reports that it is already finished; `began` is as in Trainer."""
    accelerator = make_accelerator(config)
    main = accelerator.is_main_process
    run = RunFolder(config.run_folder)
    description = describe(config, launch_facts(accelerator))
    with agreed(accelerator):
        run.check(description)
        read_metrics(config.metrics_file, SFT_LOSS)
    last_step = config.total_steps(len(records))
    if broadcast_object_list([main and run.is_finished(last_step, config.do_validation)])[0]:
        accelerator.print(f"already finished: {summary(config)}")
        in_first(accelerator, push_run, config, run)
        accelerator.end_training()
        return
    trainer = Trainer(config, accelerator, records, began)  # before run.open: a failed load leaves no run folder
    new = [path for path in _places(config, run) if not path.exists()]
    with contextlib.ExitStack() as held:
        with agreed(accelerator):
            if main:
                held.enter_context(hold_lock(run.path))
                held.enter_context(hold_lock(config.log_folder))
                run.check(description)  # another run may have come and gone while this one loaded its model
                held.enter_context(_as_before_unless_begun(config, run, new))
                held.enter_context(train_log(config.log_folder))
                held.enter_context(quiet_tensorboard())
                run.open(description)
        trainer.train(description)
