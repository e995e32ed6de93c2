"""The dev score that chooses a checkpoint: generate on the dev prompts, score with the dev reward model, average.

It is the evaluator's own way (eval_hh.decoding, eval_hh.reward_model) applied to a checkpoint's weights folder, on
the devices that train. Reading the folder, rather than decoding with the model in training, is one way for one
process, DDP and every ZeRO stage, and a run killed before its score is known scores the same folder later.
"""

import gc
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from data_preprocess.records import Record
from eval_hh.decoding import generate
from eval_hh.models import load_causal_lm, load_tokenizer
from eval_hh.reward_model import RewardModel


def dev_reward(
    checkpoint: Path,
    dev_records: list[Record],
    reward_model: RewardModel,
    accelerator: Accelerator,
    max_new_tokens: int,
    batch_size: int,
) -> float:
    """Mean of sigmoid(reward logit) over the dev prompts, in 0..1; the prompts are shared out over the processes."""
    mine = dev_records[accelerator.process_index :: accelerator.num_processes]
    dtype = torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32
    model = load_causal_lm(checkpoint, dtype=dtype).to(accelerator.device)
    prompts = [record.prefix for record in mine]
    responses = generate(model, load_tokenizer(checkpoint), prompts, max_new_tokens, batch_size)
    del model
    if accelerator.device.type == "cuda":  # its memory is wanted back at once, for the training that goes on
        gc.collect()
        torch.cuda.empty_cache()
    logits = reward_model.score(prompts, responses, batch_size=batch_size)
    rewards = gather_object(torch.tensor(logits, dtype=torch.float64).sigmoid().tolist())
    return sum(rewards) / len(rewards)
