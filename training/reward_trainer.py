"""Training of a reward model under accelerate: one process, or several (DDP) that share every step.

Library of train_reward.py. Beside the output lies, while the run lasts, .NAME.run/ with run.json, losses.jsonl (a row
per step: the loss and the norm of its gradient), accuracy.json, the best weights so far and, with --eval_steps, the
newest full state: a run that is killed goes on from it. Its lock is held by the process at work there. The best
weights take the output's name at the end.
"""

import json
import math
import re
import shutil
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
from tqdm import tqdm
from transformers import PreTrainedModel

from data_preprocess.command import InputError, RunError
from data_preprocess.files import hold_lock, read_json, write_json
from data_preprocess.outputs import check_only_ours, other_file
from data_preprocess.records import Record, data_file
from eval_hh.inference.decoding import plan_batches
from training.checkpoints import RunFolder
from training.manifest import MANIFEST
from training.metrics import keep_metrics
from training.model_folder import METRICS_FILE, ModelFolder
from training.reward_config import RewardConfig, passes_per_step
from training.reward_losses import (
    as_rows,
    bradley_terry_loss,
    count_pairs,
    first_rows,
    next_token_loss,
    pair_accuracy,
)
from training.reward_start import start
from training.small_models import batch_order, check_finite, linear_schedule, lines_of, padded, wrong_weight
from training.states import load_state, write_folder
from training.trainer import accelerator_options, seed_step

LOSSES_FILE = "losses.jsonl"
LOCK = "lock"
RUN_FILE = re.compile(r"run\.json|losses\.jsonl|accuracy\.json|lock|\.?(state|step)_\d+.*|\.[\w.]+\.\d+\.tmp")


def run_path(output: Path) -> Path:
    """Where the run that makes `output` keeps what it needs to go on."""
    return output.with_name(f".{output.name}.run")


def is_run_file(name: str) -> bool:
    """Whether a path in a run's folder is the run's."""
    return bool(RUN_FILE.fullmatch(name))


def clear_run(folder: Path) -> None:
    """Removes everything from a run's folder but its lock."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def remove_run(folder: Path) -> None:
    """Removes the folder of a run that nobody is at work in; one with somebody's files stays."""
    if folder.is_dir() and other_file(folder, is_run_file) is None:
        with suppress(InputError), hold_lock(folder):
            shutil.rmtree(folder)


@contextmanager
def hold_run(folder: Path) -> Iterator[None]:
    """Holds the lock of a run's folder, which goes at the end if nothing else is in it."""
    with hold_lock(folder):
        try:
            yield
        finally:
            if folder.is_dir() and [path.name for path in folder.iterdir()] == [LOCK]:
                shutil.rmtree(folder)


def make_accelerator(config: RewardConfig) -> Accelerator:
    """The accelerator of this process; its precision is the one asked for, else the launcher's."""
    accelerator = Accelerator(mixed_precision=config.mixed_precision or None, **accelerator_options())
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        raise InputError("train_reward.py: DeepSpeed was asked for (expected one process, or DDP: --multi_gpu)")
    return accelerator


class RankingLoss(torch.nn.Module):
    """The module that accelerate prepares: a classifier and the loss of its scores, so that DDP sees one forward."""

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


class RewardTrainer:
    """One run, from its settings to the folder of its best model."""

    def __init__(
        self,
        config: RewardConfig,
        accelerator: Accelerator,
        records: list[Record],
        heldout: dict[str, list[Record]],
        output: ModelFolder,
    ):
        """config: resolved; heldout: by file; output: where the model goes, and what tells it from any other."""
        self.config, self.accelerator, self.heldout, self.output = config, accelerator, heldout, output
        self.run = RunFolder(run_path(output.path))
        self._check_same_run()
        self.passes = passes_per_step(config, accelerator.num_processes, len(records))
        accelerator.gradient_accumulation_steps = self.passes
        torch.manual_seed(config.seed)
        self.scorer = start(config)
        if wrong := wrong_weight(self.scorer.model):
            raise InputError(f"{config.model_name_or_path}: its weights {wrong} are not finite")
        # A model that was trained before needs no help to find its features.
        loss = RankingLoss(self.scorer.model, config.lm_weight if config.tokenizer else 0.0)
        self.rewards = [record.reward for record in records]
        self.encoded = [[self._encode(record, text) for text in record.suffix] for record in records]
        self.heldout_encoded = [
            self._encode(record, text) for file in heldout.values() for record in file for text in record.suffix
        ]
        lengths = [max(map(len, texts)) for texts in self.encoded]
        self.batches = batch_order(lengths, config.batch_size, config.max_steps, config.seed)
        optimizer = torch.optim.AdamW(loss.parameters(), lr=config.learning_rate)
        self.schedule = linear_schedule(optimizer, config.max_steps)
        self.loss, self.optimizer = accelerator.prepare(loss, optimizer)
        accelerator.register_for_checkpointing(self.schedule)
        self.accuracy: dict[int, dict] = {}  # by step, as `evaluate` gives it
        self.steps_done = 0

    def train(self) -> dict:
        """Runs, or goes on with, the whole run; returns the metrics of the model that is kept.

        Raises:
            InputError: another process is at work on this output.
            RunError: a loss, a gradient, a weight or a held-out score is not finite.
        """
        main = self.accelerator.is_main_process
        with hold_run(self.run.path) if main else nullcontext():
            if main:
                if not self.run.latest_state():  # whatever else lies there is of no use
                    clear_run(self.run.path)
                self.run.open(self.output.description)
            self.accelerator.wait_for_everyone()
            try:
                metrics = self._train()
            except BaseException:
                if main and not self.run.latest_state():  # nothing that a later run could go on from
                    clear_run(self.run.path)
                raise
            if main:
                self._publish(metrics)
            self.accelerator.wait_for_everyone()
        return metrics

    def _train(self) -> dict:
        first, hidden = self._resume(), not self.accelerator.is_main_process
        bar = tqdm(range(first + 1, self.config.max_steps + 1), desc="reward model", unit="step", mininterval=5.0,
                   initial=first, total=self.config.max_steps, disable=hidden)  # fmt: skip
        for step in bar:
            bar.set_postfix(loss=f"{self._step(step):.3f}", refresh=False)
            every = self.config.eval_steps
            if step == self.config.max_steps or (every and step % every == 0):
                self._checkpoint(step)
        return self._metrics()

    def _check_same_run(self) -> None:
        """InputError if the run folder holds somebody's files, or a state of another run."""
        check_only_ours(f"{self.output.flag}: {self.run.path}", self.run.path, is_run_file)
        if not self.run.latest_state():
            return
        record = self.run.path / "run.json"
        ours, theirs = self.output.description, read_json(record)
        if not (isinstance(theirs, dict) and all(isinstance(theirs.get(part), dict) for part in ours)):
            raise InputError(f"{record}: does not describe a run (expected {' and '.join(ours)})")
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

    def _resume(self) -> int:
        """Loads the newest full state and finishes its checkpoint; returns its step, 0 where there is none."""
        first = self.steps_done = self.run.latest_state()
        if first:
            load_state(self.run.state_folder(first), self.accelerator)
            recorded = read_json(self._accuracy_file) if self._accuracy_file.exists() else {}
            self.accuracy = {int(step): metrics for step, metrics in recorded.items()}
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            keep_metrics(self.run.path / LOSSES_FILE, first)
        if first:
            self._checkpoint(first)
        return first

    def _step(self, step: int) -> float:
        """One optimiser step; returns its loss over all processes."""
        self.loss.train()
        seed_step(self.config.seed, step, self.accelerator.process_index)
        rows = self.batches[step - 1]
        n_pairs = max(1, sum(count_pairs(self.rewards[row]) for row in rows))
        n_tokens = max(1, sum(len(self.encoded[row][0]) - 1 for row in rows))
        parts = self.passes * self.accelerator.num_processes  # accelerate takes means over passes and processes
        total, row = torch.zeros((), device=self.accelerator.device), {}
        for ids, mask, rewards in self._micro_batches(rows):
            with self.accelerator.accumulate(self.loss):
                loss = self.loss(ids, mask, rewards, n_pairs, n_tokens)
                total += loss.detach()
                self.accelerator.backward(loss * parts)
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.loss.parameters(), 1.0)
                    row = {"step": step, "loss": self.accelerator.reduce(total).item(), "grad_norm": norm.item()}
                    self._check_step(row, rows)
                self.optimizer.step()
                self.optimizer.zero_grad()
        self.schedule.step()
        self.steps_done = step
        if self.accelerator.is_main_process:
            with open(self.run.path / LOSSES_FILE, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        return row["loss"]

    def _check_step(self, row: dict, rows: list[int]) -> None:
        """RunError, alike in every process, unless the step's loss and gradient are finite."""
        where = partial(lines_of, data_file(self.config.train_file), rows)
        check_finite(row["step"], where, loss=row["loss"], gradient_norm=row["grad_norm"])

    def _micro_batches(self, rows: list[int]) -> Iterator[tuple[torch.Tensor, torch.Tensor, list[list[float]]]]:
        """This process's share of a step, in as many parts as there are passes; neighbours are alike in length."""
        mine = rows[self.accelerator.process_index :: self.accelerator.num_processes]
        pad = self.scorer.model.config.get_text_config().pad_token_id
        for part in range(self.passes):
            these = mine[part * len(mine) // self.passes : (part + 1) * len(mine) // self.passes]
            texts = [list(text) for row in these for text in self.encoded[row]]
            yield *padded(texts, pad, self.accelerator.device), [self.rewards[row] for row in these]

    def _encode(self, record: Record, text: str) -> array:
        # Four bytes a token: a list of Python's integers takes ten times that.
        return array("i", self.scorer.encode(record.prefix, text))

    @property
    def _accuracy_file(self) -> Path:
        return self.run.path / "accuracy.json"

    def _checkpoint(self, step: int) -> None:
        """Measures, saves the full state, and keeps the weights if they are the best. What is done is not repeated.

        Measured first: numbers that are not finite end the run before an older state goes.
        """
        main, wait = self.accelerator.is_main_process, self.accelerator.wait_for_everyone
        is_new = step not in self.accuracy
        if is_new:
            if wrong := wrong_weight(self.scorer.model):
                raise RunError(f"step {step}: the weights {wrong} are not finite; no model is saved")
            self.accuracy[step] = self.evaluate()
        if self.config.eval_steps:
            state = self.run.state_folder(step)
            write_folder(state, lambda folder: self.accelerator.save_state(str(folder)), self.accelerator)
            if main:
                self.run.drop_older_states(step)
        if is_new and main:
            write_json(self._accuracy_file, self.accuracy)
        if self.best_step == step:
            write_folder(self.run.step_folder(step), self._write_weights, self.accelerator)
            if main:
                for folder in self.run.path.glob("step_*"):
                    if folder != self.run.step_folder(step):
                        shutil.rmtree(folder)
        wait()

    @property
    def best_step(self) -> int:
        """The first of the steps with the highest pooled accuracy."""
        return max(self.accuracy, key=lambda step: (self.accuracy[step]["pair_accuracy"], -step))

    def _write_weights(self, folder: Path) -> None:
        state = self.accelerator.get_state_dict(self.loss)
        if self.accelerator.is_main_process:
            weights = {name.removeprefix("model."): value for name, value in state.items()}
            self.scorer.model.save_pretrained(folder, state_dict=weights)
            self.scorer.tokenizer.save_pretrained(folder)

    def evaluate(self) -> dict:
        """Accuracy of the model's order over the pairs of each held-out file and, first, of all of them.

        Scored in the training's precision, batched by length, every process its share. RunError where a score is not
        finite.
        """
        self.scorer.model.eval()
        records, encoded = [record for file in self.heldout.values() for record in file], self.heldout_encoded
        batches = plan_batches([len(ids) for ids in encoded], self.config.per_device_eval_batch_size)
        mine = batches[self.accelerator.process_index :: self.accelerator.num_processes]
        found = []
        with self.accelerator.autocast():
            for batch in mine:
                found += zip(batch, self.scorer.score_batch([list(encoded[i]) for i in batch]), strict=True)
        logits = dict(gather_object(found))
        flat = iter([logits[i] for i in range(len(encoded))])
        scores = {name: [[next(flat) for _ in record.suffix] for record in file] for name, file in self.heldout.items()}
        for name, rows in scores.items():
            check_scores(self.steps_done, name, rows)
        files = {name: file_accuracy(scores[name], file) for name, file in self.heldout.items()}
        pooled = file_accuracy([row for file in scores.values() for row in file], records)
        return pooled if len(files) == 1 else {**pooled, "files": files}

    def _metrics(self) -> dict:
        metrics = self.accuracy[self.best_step]
        if not self.config.eval_steps:
            return metrics
        history = {str(step): self.accuracy[step]["pair_accuracy"] for step in sorted(self.accuracy)}
        return {**metrics, "step": self.best_step, "pair_accuracy_by_step": history}

    def _publish(self, metrics: dict) -> None:
        """Gives the best weights, with metrics, losses and settings, the output's name; an older model goes."""
        best = self.run.step_folder(self.best_step)
        (best / MANIFEST).unlink(missing_ok=True)  # it speaks of the weights alone
        write_json(best / METRICS_FILE, metrics, indent=4)
        shutil.copyfile(self.run.path / LOSSES_FILE, best / LOSSES_FILE)
        self.output.describe(best)
        self.output.publish(best)
        shutil.rmtree(self.run.path)


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
