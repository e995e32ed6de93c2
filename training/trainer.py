"""Fine-tuning with PRO or SFT under accelerate: one process, DDP, DeepSpeed ZeRO-2 or ZeRO-3.

The loop is a loop over named steps: draw the step's prompts, cut them into micro-batches, forward, loss, backward,
log, and at every checkpoint save, validate and name the best. Which prompts a step sees, and the random numbers of
its dropout, follow from the seed and the step's number alone; nothing else has to be restored but the full state.
"""

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs, ProjectConfiguration, broadcast_object_list
from tqdm import tqdm
from transformers.integrations import unset_hf_deepspeed_config

from data_preprocess.dialogue import render_prompt
from data_preprocess.files import hold_lock
from data_preprocess.records import Record, load_records
from eval_hh.models import load_causal_lm, load_tokenizer, prompt_ids
from eval_hh.reward_model import load_reward_model
from eval_hh.sharding import WAIT
from training.batches import balanced, step_indices
from training.checkpoints import RunFolder, describe, write_folder
from training.collator import EncodedRanking, RankingCollator, collate
from training.config import TrainConfig, micro_batches
from training.losses import ResponseLogps, pro_loss
from training.metrics import keep_metrics, read_metrics, sft_summary
from training.model_check import check_model, check_positions
from training.validation import dev_reward

log = logging.getLogger("training")
METRICS = "metrics.jsonl"


def seed_step(seed: int, step: int, process: int) -> None:
    """Makes a step's random numbers follow from its number, so that a resumed run draws the same dropout."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, process]).generate_state(1)[0]))


def accelerator_options() -> dict[str, Any]:
    """What Accelerator must be told: how long to wait for the slowest process and, without a GPU, how to find any.

    Without a GPU it would else take each of several processes for the only one.
    """
    if torch.cuda.is_available():
        return {"kwargs_handlers": [InitProcessGroupKwargs(timeout=WAIT)]}
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else deepspeed, once imported, looks for a GPU
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        return {"kwargs_handlers": [InitProcessGroupKwargs(backend="gloo", timeout=WAIT)]}
    return {"cpu": True, "kwargs_handlers": [InitProcessGroupKwargs(timeout=WAIT)]}


def make_accelerator(config: TrainConfig) -> Accelerator:
    """The accelerator of this process, its accumulation derived from the global batch."""
    # accelerate warns at each save that tied weights are stored once, which is what is wanted
    logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)
    project = ProjectConfiguration(project_dir=str(config.run_folder), logging_dir=str(config.log_folder))
    accelerator = Accelerator(log_with="tensorboard", project_config=project, **accelerator_options())
    size, passes = micro_batches(config, accelerator.num_processes)
    accelerator.gradient_accumulation_steps = passes
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        # Under ZeRO-3 transformers would else load every model in shards, the ones that validation reads too.
        unset_hf_deepspeed_config()
        settings = accelerator.state.deepspeed_plugin.deepspeed_config
        settings["train_micro_batch_size_per_gpu"] = size
        settings["gradient_accumulation_steps"] = passes
        settings["gradient_clipping"] = config.max_grad_norm
    return accelerator


class Trainer:
    """One run, from its settings to its best checkpoint."""

    def __init__(self, config: TrainConfig, accelerator: Accelerator, records: list[Record]):
        self.config = config
        self.accelerator = accelerator
        self.records = records
        self.total_steps = config.total_steps(len(records))
        self.micro_batch_size, _ = micro_batches(config, accelerator.num_processes)
        self.run = RunFolder(config.run_folder)
        self.tokenizer = load_tokenizer(config.model_name_or_path)
        self.collator = RankingCollator(
            self.tokenizer, config.training_stage_num, config.block_size, config.max_prompt, config.append_eos
        )
        self.encoded: dict[int, EncodedRanking] = {}
        # Stands for the number of tokens, which only the process that encodes a record knows.
        self.n_chars = [sum(map(len, [*r.prefix, *r.suffix[: config.training_stage_num]])) for r in records]
        self.metrics_file = config.log_folder / METRICS
        if config.do_validation:  # loaded before the first step: a bad path must not cost 500 steps
            self.dev_records = load_records(config.dev_file, training=False)
            self.reward_model = load_reward_model(config.dev_reward_model)
            prompts = [prompt_ids(self.tokenizer, render_prompt(record.prefix)) for record in self.dev_records]
            longest = max(config.block_size, max(map(len, prompts)) + config.max_new_tokens)
        else:
            longest = config.block_size
        # DeepSpeed makes its float32 master weights from the module's bf16 ones: loading float32 would gain nothing.
        halved = accelerator.distributed_type == DistributedType.DEEPSPEED and accelerator.mixed_precision == "bf16"
        lm = load_causal_lm(config.model_name_or_path, torch.bfloat16 if halved else torch.float32)
        check_positions(lm, config.model_name_or_path, longest)
        check_model(lm, config.block_size, accelerator.device)
        if config.gradient_checkpointing:
            lm.gradient_checkpointing_enable({"use_reentrant": False})
        model = ResponseLogps(lm).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)

    def train(self) -> None:
        """Runs, or goes on with, the whole run."""
        passes = self.accelerator.gradient_accumulation_steps
        sizes = f"{self.accelerator.num_processes} processes x {passes} passes x {self.micro_batch_size}"
        log.info("%d prompts, %d steps of %s prompts", len(self.records), self.total_steps, sizes)
        start = self._resume()
        self.accelerator.init_trackers("tensorboard", init_kwargs={"tensorboard": {"purge_step": start + 1}})
        if start:
            self._checkpoint(start)  # what a kill left undone of it
        bar = tqdm(
            range(start + 1, self.total_steps + 1),
            desc=f"{self.config.index} stage {self.config.training_stage_num}",
            initial=start,
            total=self.total_steps,
            disable=not self.accelerator.is_main_process,
        )
        for step in bar:
            metrics = self._step(step)
            bar.set_postfix(loss=f"{metrics['loss']:.4g}", sft=f"{metrics['sft_loss']:.4g}")
            if step % self.config.checkpointing_step == 0 or step == self.total_steps:
                self._checkpoint(step)
        self.accelerator.end_training()
        if self.accelerator.is_main_process:
            log.info(summary(self.config))
            print(summary(self.config))

    def _resume(self) -> int:
        """Loads the newest full state; returns the step that it belongs to, 0 where there is none."""
        start = broadcast_object_list([self.run.latest_state()])[0]
        if start:
            log.info("resuming after step %d", start)
            self.accelerator.load_state(str(self.run.state_folder(start)))
        if self.accelerator.is_main_process:
            keep_metrics(self.metrics_file, start)
        self.accelerator.wait_for_everyone()
        return start

    def _step(self, step: int) -> dict[str, float]:
        """One optimiser step; returns its metrics, means over the global batch."""
        began = time.perf_counter()
        seed_step(self.config.seed, step, self.accelerator.process_index)
        sums = torch.zeros(self.config.training_stage_num + 2, device=self.accelerator.device)
        for batch in self._micro_batches(step):
            with self.accelerator.accumulate(self.model):
                sum_logps, n_tokens = self.model(batch)
                loss = pro_loss(
                    sum_logps, n_tokens, batch["rewards"], self.config.sft_weight, batch["sft_index"]
                )
                self.accelerator.backward(loss.total)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
            parts = [loss.total, loss.sft, *loss.ranking]
            sums[:-1] += torch.stack([part.detach().float() for part in parts])
            sums[-1] += batch["input_ids"].numel()
        *losses, tokens = self.accelerator.reduce(sums).tolist()
        n_micro_batches = self.accelerator.gradient_accumulation_steps * self.accelerator.num_processes
        names = ["loss", "sft_loss", *(f"ranking_loss_{k}" for k in range(1, self.config.training_stage_num))]
        metrics = {name: value / n_micro_batches for name, value in zip(names, losses, strict=True)}
        metrics["seconds"] = time.perf_counter() - began
        metrics["tokens_per_second"] = tokens / metrics["seconds"]
        self._log(step, metrics)
        return metrics

    def _micro_batches(self, step: int) -> Iterator[dict[str, torch.Tensor]]:
        """This process's share of a step, in micro-batches of equal counts and about equal lengths."""
        rows = step_indices(len(self.records), self.config.global_batch_size, self.config.seed, step)
        parts = balanced(rows, self.n_chars, len(rows) // self.micro_batch_size)
        for part in parts[self.accelerator.process_index :: self.accelerator.num_processes]:
            for row in part:
                if row not in self.encoded:
                    self.encoded[row] = self.collator.encode(self.records[row])
            batch = collate([self.encoded[row] for row in part])
            yield {name: tensor.to(self.accelerator.device) for name, tensor in batch.items()}

    def _log(self, step: int, metrics: dict[str, float]) -> None:
        self.accelerator.log(metrics, step=step)
        if self.accelerator.is_main_process:
            with open(self.metrics_file, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **metrics}) + "\n")

    def _checkpoint(self, step: int) -> None:
        """Saves the full state and the weights, validates, names the best. Each part is skipped where it is done."""
        accelerator = self.accelerator
        write_folder(self.run.state_folder(step), lambda path: accelerator.save_state(str(path)), accelerator)
        if accelerator.is_main_process:
            self.run.drop_older_states(step)
        write_folder(self.run.step_folder(step), self._write_weights, accelerator)
        if self.config.do_validation:
            self._validate(step)
        if accelerator.is_main_process:
            rewards = self.run.dev_rewards()
            self.run.point_best(max(rewards, key=lambda s: (rewards[s], -s)) if rewards else step)
        accelerator.wait_for_everyone()

    def _write_weights(self, folder: Path) -> None:
        state = self.accelerator.get_state_dict(self.model)  # every process takes part: ZeRO-3 gathers here
        if self.accelerator.is_main_process:
            lm = self.accelerator.unwrap_model(self.model).lm
            lm.save_pretrained(folder, state_dict={key.removeprefix("lm."): value for key, value in state.items()})
            self.tokenizer.save_pretrained(folder)

    def _validate(self, step: int) -> None:
        done = broadcast_object_list([step in self.run.dev_rewards()])[0]
        if done:
            return
        reward = dev_reward(
            self.run.step_folder(step),
            self.dev_records,
            self.reward_model,
            self.accelerator,
            self.config.max_new_tokens,
            self.config.per_device_eval_batch_size,
        )
        log.info("step %d: dev reward %.4f", step, reward)
        if self.accelerator.is_main_process:
            self.run.record_dev_reward(step, reward)
        self.accelerator.log({"dev_reward": reward}, step=step)


def summary(config: TrainConfig) -> str:
    """The line that a run ends with: how the SFT loss moved, and which checkpoint is the best."""
    losses = [row["sft_loss"] for row in read_metrics(config.log_folder / METRICS)]
    run = RunFolder(config.run_folder)
    return f"{sft_summary(losses)}; best checkpoint: {run.step_folder(run.best_step())}"


def train(config: TrainConfig, records: list[Record]) -> None:
    """Runs one configuration to its end, or says that it has ended already."""
    accelerator = make_accelerator(config)
    run = RunFolder(config.run_folder)
    launch = {
        "num_processes": accelerator.num_processes,
        "mixed_precision": accelerator.mixed_precision,
        "distributed_type": accelerator.distributed_type.value,
    }
    if launch["distributed_type"] == "DEEPSPEED":
        launch["zero_stage"] = accelerator.state.deepspeed_plugin.zero_stage
    description = describe(config, launch)
    run.check_same_run(description)
    if broadcast_object_list([run.is_finished(config.total_steps(len(records)), config.do_validation)])[0]:
        accelerator.print(f"finished already: {summary(config)}")
        accelerator.end_training()
        return
    trainer = Trainer(config, accelerator, records)  # what cannot be loaded must not leave a run that was never one
    with hold_lock(run.path) if accelerator.is_main_process else contextlib.nullcontext(), train_log(trainer):
        if accelerator.is_main_process:
            run.open(description)
        accelerator.wait_for_everyone()
        trainer.train()


@contextlib.contextmanager
def train_log(trainer: Trainer) -> Iterator[None]:
    """Lets the first process write what is logged to train.log."""
    if not trainer.accelerator.is_main_process:
        yield
        return
    folder = trainer.config.log_folder
    folder.mkdir(parents=True, exist_ok=True)
    to_file = logging.FileHandler(folder / "train.log", encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(to_file)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(to_file)
        to_file.close()
