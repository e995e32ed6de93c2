"""The usual way of generating, and the rule that ends replies, for the benchmark of generation.

Library. A random model does not stop as a trained one does. So both ways are given one rule: a reply is as long as one
drawn from HH-RLHF; until then EOS is impossible, and then it is certain. What is said in between is the model's own.
"""

from dataclasses import dataclass

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from eval_hh.inference.decoding import Row

# Logits nearer than this may change places by float error, which was seen to reach a hundredth of it at this size.
TIE = 1e-3


@dataclass
class Ends:
    """The rule: which token of each row's reply is EOS, counted from 1."""

    lengths: list[int]  # by the row's number
    eos: int

    def impose(self, logits: torch.Tensor, numbers: list[int], steps: list[int]) -> torch.Tensor:
        """The logits [B, V] of rows `numbers` under the rule; each is to say token `steps` of its reply, from 0."""
        over = torch.tensor([step + 1 >= self.lengths[row] for row, step in zip(numbers, steps, strict=True)])
        ruled = logits.clone()
        ruled[:, self.eos] = torch.where(over, torch.inf, -torch.inf)
        return ruled


class Ours:
    """Greedy choice under the rule, as Decoder.decode takes it. Keeps each row, and so its tokens."""

    def __init__(self, ends: Ends):
        self.ends = ends
        self.rows: dict[int, Row] = {}

    def __call__(self, logits: torch.Tensor, rows: list[Row]) -> torch.Tensor:
        self.rows.update((row.number, row) for row in rows)
        steps = [len(row.response) for row in rows]
        return self.ends.impose(logits, [row.number for row in rows], steps).argmax(dim=-1)


class _Naive(LogitsProcessor):
    """The rule for a batch of padded rows, as generate() takes it."""

    def __init__(self, ends: Ends, numbers: list[int], prompt_length: int):
        self.ends, self.numbers, self.prompt_length = ends, numbers, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        step = input_ids.shape[1] - self.prompt_length
        return self.ends.impose(scores, self.numbers, [step] * len(self.numbers))


def generate_padded(
    model: PreTrainedModel,
    prompts: list[list[int]],
    ends: Ends,
    batches: list[list[int]],
    width: int,
    max_new_tokens: int,
) -> list[list[int]]:
    """Replies by transformers' generate(), always `max_new_tokens` long, then cut before EOS.

    Args:
        model: a causal language model with a padding token.
        prompts: encoded.
        ends: the rule of where replies end.
        batches: numbers of the rows that are computed together.
        width: the least width that a batch's prompts are padded to.
        max_new_tokens: tokens generated for every row.
    """
    pad = model.config.pad_token_id
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=None, pad_token_id=pad, use_cache=True
    )
    replies: list[list[int]] = [[] for _ in prompts]
    for batch in batches:
        widest = max(width, *(len(prompts[row]) for row in batch))
        missing = {row: widest - len(prompts[row]) for row in batch}
        output = model.generate(
            input_ids=torch.tensor([[pad] * missing[row] + prompts[row] for row in batch]),
            attention_mask=torch.tensor([[0] * missing[row] + [1] * len(prompts[row]) for row in batch]),
            generation_config=settings,
            logits_processor=LogitsProcessorList([_Naive(ends, batch, widest)]),
        )
        for row, tokens in zip(batch, output[:, widest:].tolist(), strict=True):
            replies[row] = tokens[: tokens.index(ends.eos)] if ends.eos in tokens else tokens
    return replies


@torch.inference_mode()
def is_near_tie(model: PreTrainedModel, prompt: list[int], one: list[int], other: list[int]) -> bool:
    """Whether two replies part where the model, computed alone, finds both tokens as likely to float error."""
    place = next((i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    if place is None:
        return False
    logits = model(torch.tensor([prompt + one[:place]])).logits[0, -1]
    return bool((logits[one[place]] - logits[other[place]]).abs() < TIE)
