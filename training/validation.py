"""The dev score that selects a checkpoint: generate on the dev prompts, score with the dev reward model, average.

It applies the evaluator's code (eval_hh.inference.decoding, eval_hh.reward_model) to a checkpoint's weights folder, on
the training devices. Reading the folder, rather than decoding with the model in training, works the same for one
process, DDP and every ZeRO stage, and a run killed before the score is known can score the same folder later.
"""

import contextlib
import gc
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from data_preprocess.command import StopRequest
from data_preprocess.dialogue import HH
from data_preprocess.hub import load_tokenizer
from data_preprocess.records import Record
from eval_hh.inference.decoding import Decoder, Row, most_likely
from eval_hh.inference.models import load_causal_lm
from eval_hh.inference.prompt_format import prompt_format
from eval_hh.inference.together import agreed
from eval_hh.reward_model import RewardModel


class _Interrupted(Exception):
    """A signal has asked for an end."""


def dev_rewards(
    checkpoint: Path,
    dev_records: list[Record],
    reward_model: RewardModel,
    accelerator: Accelerator,
    max_new_tokens: int,
    batch_size: int,
    stop: StopRequest,
    format_name: str = HH,
) -> dict[int, float] | None:
    """Returns the sigmoid of the reward logit, in 0..1, by dev prompt; the prompts are split over the processes.

    It is NaN if the logit is not finite. Returns None once a signal has reached any process.
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
        model = load_causal_lm(checkpoint, dtype=dtype).to(accelerator.device)
        tokenizer = load_tokenizer(checkpoint)
        decoder = Decoder(model, tokenizer, max_new_tokens, prompt_format(format_name, tokenizer))
        responses = decoder.decode([decoder.encode(turns) for turns in prompts], batch_size, choose=unless_stopped)
        del model, decoder
        if accelerator.device.type == "cuda":  # free memory at once, for training
            gc.collect()
            torch.cuda.empty_cache()
        logits = torch.tensor(reward_model.score(prompts, responses, batch_size=batch_size), dtype=torch.float64)
        mine = list(zip(rows, torch.where(logits.isfinite(), logits.sigmoid(), torch.nan).tolist(), strict=True))
    pairs = gather_object(mine)
    return None if None in pairs else dict(pairs)
