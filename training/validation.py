"""The dev score that selects a checkpoint: generate on the dev prompts, score with the dev reward model, average.

It applies the evaluator's code (eval_hh.inference.decoding, eval_hh.reward_model) to the weights in training, on the
training devices: nothing is read from disk, where a checkpoint may still be on its way, and in one dtype nothing is
copied. An adapter, and weights that ZeRO-3 divides among the processes, are read from the checkpoint's folder.
"""

import contextlib
import copy
import gc
from collections.abc import Callable

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data_preprocess.command import StopRequest
from data_preprocess.records import Record
from eval_hh.inference.decoding import Decoder, Row, most_likely
from eval_hh.inference.prompt_format import PromptFormat
from eval_hh.inference.together import agreed
from eval_hh.reward_model import RewardModel


class _Interrupted(Exception):
    """A signal has asked for an end."""


def keeps_float32(lm: PreTrainedModel) -> bool:
    """Returns whether transformers loads some modules of this kind of model in float32 whatever dtype is asked for."""
    return bool(lm._keep_in_fp32_modules_strict)


def live_model(lm: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Returns what `load_causal_lm` would load in `dtype` from the saved `lm`. Weights of this dtype are lm's own."""
    weights = {id(each): torch.nn.Parameter(each.detach().to(dtype), requires_grad=False) for each in lm.parameters()}
    model = copy.deepcopy(lm, weights)  # which holds the copy of what is not to be copied
    if dtype != lm.dtype:
        saved = model.state_dict()
        for name, buffer in model.named_buffers():
            if name in saved and buffer.is_floating_point():
                buffer.data = buffer.data.to(dtype)
    model.set_attn_implementation("sdpa")
    return model.eval()


def dev_rewards(
    load: Callable[[torch.dtype], PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    prompt_format: PromptFormat,
    dev_records: list[Record],
    reward_model: RewardModel,
    accelerator: Accelerator,
    max_new_tokens: int,
    batch_size: int,
    stop: StopRequest,
) -> dict[int, float] | None:
    """Returns the sigmoid of the reward logit, in 0..1, by dev prompt; the prompts are split over the processes.

    `load` makes the model in a dtype; the prompt format is of this tokenizer. A reward is NaN if the logit is not
    finite. Returns None once a signal has reached any process.
    """
    rows = range(accelerator.process_index, len(dev_records), accelerator.num_processes)
    prompts = [dev_records[row].turns for row in rows]
    dtype = torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32
    mine: list[tuple[int, float] | None] = [None]

    def unless_stopped(logits: torch.Tensor, rows: list[Row]) -> torch.Tensor:
        if stop.number is not None:
            raise _Interrupted
        return most_likely(logits, rows)

    with agreed(accelerator), contextlib.suppress(_Interrupted):
        model = load(dtype).to(accelerator.device)
        decoder = Decoder(model, tokenizer, max_new_tokens, prompt_format)
        responses = decoder.decode([decoder.encode(turns) for turns in prompts], batch_size, choose=unless_stopped)
        del model, decoder
        if accelerator.device.type == "cuda":  # free memory at once, for training
            gc.collect()
            torch.cuda.empty_cache()
        logits = torch.tensor(reward_model.score(prompts, responses, batch_size=batch_size), dtype=torch.float64)
        mine = list(zip(rows, torch.where(logits.isfinite(), logits.sigmoid(), torch.nan).tolist(), strict=True))
    pairs = gather_object(mine)
    return None if None in pairs else dict(pairs)
