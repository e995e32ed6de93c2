"""Writes the full states and the weights of a run, in the background of its steps where that is possible.

At a checkpoint the first process copies weights and optimizer state into memory, and a thread writes them while
training goes on. What has to follow on disk (older states go, the dev reward, the link to the best checkpoint) is done
by the same thread, one task after another in the order given. So the disk always looks as if training had waited for
each task, and a run that is killed meanwhile resumes in the same way: from the newest state that is complete.

Training waits for the writing under DeepSpeed, whose processes each write a share, and where the copy would take more
than half of the free memory.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.utils._pytree import tree_leaves, tree_map
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from eval_hh.inference.memory import free_memory
from eval_hh.inference.together import agreed, in_first
from training.lora import save_adapter
from training.saving.checkpoints import RunFolder
from training.saving.states import save_plain_state, without_frozen, write_alone, write_folder, write_state
from training.tracking.run_log import log

MEMORY_SHARE = 0.5  # of the free memory that a copy may take
Weights = dict[str, torch.Tensor]


class Background:
    """Runs tasks one after another in a thread. After one that fails, no other is begun."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._pending: list[Future] = []
        self._error: BaseException | None = None

    def add(self, task: Callable[..., None], *arguments: Any) -> None:
        self._pending.append(self._thread.submit(self._run, task, *arguments))

    def _run(self, task: Callable[..., None], *arguments: Any) -> None:
        if self._error is None:
            try:
                task(*arguments)
            except BaseException as error:
                self._error = error

    def check(self) -> None:
        """Raises what a task has raised so far."""
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Returns when no task is left."""
        for task in self._pending:
            task.result()
        self._pending.clear()

    def finish(self) -> None:
        """Waits for all tasks; raises what one of them has raised."""
        self.wait()
        self.check()

    def close(self) -> None:
        """Waits for all tasks and ends the thread."""
        self._thread.shutdown()


class CheckpointWriter:
    """Writes the checkpoints of one run; the methods are called in every process, except those of `background`.

    Args:
        accelerator: has prepared the next two.
        model: a training.losses.ResponseLogps.
        optimizer: of the model.
        tokenizer: saved with the weights.
        run: where everything is written.
        keep_states: number of newest states to keep.
        is_lora: whether weights are an adapter.
    """

    def __init__(
        self, accelerator: Accelerator, model: torch.nn.Module, optimizer: Any, tokenizer: PreTrainedTokenizerBase,
        run: RunFolder, keep_states: int, is_lora: bool,
    ):  # fmt: skip
        self.accelerator, self.model, self.optimizer, self.tokenizer = accelerator, model, optimizer, tokenizer
        self.run, self.keep_states, self.is_lora = run, keep_states, is_lora
        self.has_zero = accelerator.distributed_type == DistributedType.DEEPSPEED
        lm = accelerator.unwrap_model(model).lm
        self.lm = lm if self.has_zero else without_weights(lm)
        self.background = Background()
        self._told = False

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Leaves the block, also by an error, only when the background has nothing left to do."""
        try:
            yield
        finally:
            self.background.close()

    def finish(self) -> None:
        """Waits until all is written. Ends all processes if a task has failed."""
        in_first(self.accelerator, self.background.finish)

    def then(self, task: Callable[..., None], *arguments: Any) -> None:
        """Lets the first process do a task when everything before it is written."""
        if self.accelerator.is_main_process:
            self.background.add(task, *arguments)

    def save_state(self, step: int) -> Weights | None:
        """Writes the full state after `step`, then removes those that are not kept.

        Waits for the checkpoint before, so that at most one copy is in memory. Ends all processes if that has failed.

        Returns:
            The copy of the weights for `save_weights`, in the first process and if one of all of them was made.
        """
        self.finish()
        folder, weights = self.run.state_folder(step), None
        if self.has_zero:
            self._tell("DeepSpeed's processes write them together")
            write_state(folder, self.accelerator)
        else:
            with agreed(self.accelerator):
                if self.accelerator.is_main_process:
                    trained = without_frozen(self.accelerator.unwrap_model(self.model))
                    state = {"weights": trained, "optimizer": self.optimizer.state_dict()}
                    made = self._write(folder, save_plain_state, state)
                    if made and trained.keys() == self._live_weights().keys():
                        weights = made["weights"]
        self.then(self.run.drop_older_states, step, self.keep_states)
        return weights

    def save_weights(self, step: int, weights: Weights | None = None) -> None:
        """Writes the weights after `step` in plain transformers format, or LoRA's adapter in peft's.

        Args:
            step: the newest one.
            weights: a copy of them, from `save_state`; made here if it made none.
        """
        folder = self.run.step_folder(step)
        if self.has_zero:
            self.write_weights(folder)
            return
        with agreed(self.accelerator):
            if self.accelerator.is_main_process:
                if weights is None:
                    self._write(folder, self._save, self._live_weights())
                else:
                    self.background.add(write_alone, folder, partial(self._save, weights))

    def _write(self, folder: Path, write: Callable[[Any, Path], None], content: Any) -> Any:
        """Writes a folder from a copy of `content`, which is returned, or from itself, waiting, and returns None."""
        size, free = sum(tensor.nbytes for tensor in tensors_in(content)), free_memory(alone=True)
        fits = size <= MEMORY_SHARE * free
        if fits:
            content = copied(content)
        self.background.add(write_alone, folder, partial(write, content))
        if fits:
            return content
        sizes = f"{size / 1e9:.1f} GB is over {MEMORY_SHARE:.0%} of the {free / 1e9:.1f} GB of free memory"
        self._tell(f"a copy of {sizes}")
        self.background.finish()
        return None

    def _live_weights(self) -> Weights:
        """Returns what is saved for use: all weights, or those of the adapter."""
        model = self.accelerator.unwrap_model(self.model)
        return without_frozen(model) if self.is_lora else dict(model.state_dict())

    def _tell(self, why: str) -> None:
        if not self._told:
            log.info("training waits while full states are written: %s", why)
        self._told = True

    def write_weights(self, folder: Path) -> None:
        """Like `save_weights`, to any folder, and returns when it is done."""

        def write(temporary: Path) -> None:
            weights = self.accelerator.get_state_dict(self.model)  # called in every process: ZeRO-3 gathers here
            if self.accelerator.is_main_process:
                self._save(weights, temporary)

        write_folder(folder, write, self.accelerator)

    def _save(self, weights: Weights, folder: Path) -> None:
        weights = {key.removeprefix("lm."): value for key, value in weights.items()}
        if self.is_lora:
            save_adapter(self.lm, folder, weights)
        else:
            self.lm.save_pretrained(folder, state_dict=weights)
        self.tokenizer.save_pretrained(folder)


def without_weights(lm: PreTrainedModel) -> PreTrainedModel:
    """Returns a model that saves weights as `lm` does and has none, for use in another thread than lm's."""
    weights = {id(each): torch.nn.Parameter(each.detach().to("meta"), each.requires_grad) for each in lm.parameters()}
    return copy.deepcopy(lm, weights)


def tensors_in(tree: Any) -> list[torch.Tensor]:
    """Returns the tensors in nested dicts and lists; several that are one in memory count once."""
    found = (leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor))
    return list({_place(tensor): tensor for tensor in found}.values())


def copied(tree: Any) -> Any:
    """Returns nested dicts and lists with copies of their tensors in the CPU's memory; what is one stays one."""
    copies = {_place(tensor): tensor.detach().to("cpu", copy=True) for tensor in tensors_in(tree)}
    return tree_map(lambda leaf: copies[_place(leaf)] if isinstance(leaf, torch.Tensor) else leaf, tree)


def _place(tensor: torch.Tensor) -> tuple:
    return tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()
