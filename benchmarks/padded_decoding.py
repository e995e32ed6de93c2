"""Padded generation, our generation, and the rule that ends replies, for the generation benchmark.

A model with random weights does not stop as a trained one does. So both ways follow one rule: a reply is as long as one
drawn from HH-RLHF; EOS is impossible before its end, and certain there. The other tokens are the model's own.
"""

from dataclasses import dataclass
from functools import partial

import torch
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel

from data_preprocess.dialogue import cut_at_stop
from eval_hh.inference.decoding import Decoder, Row
from eval_hh.inference.seeded_sampling import Sampler

# Logits closer than this may swap places by float error, which reached a hundredth of it at this size.
TIE = 1e-3
Replies = list[tuple[str, list[int]]]  # text and tokens of each prompt's reply


@dataclass
class Ends:
    """The rule: which token of each row's reply is EOS, counted from 1."""

    lengths: list[int]  # by the row's number
    eos: int

    def impose(self, logits: torch.Tensor, numbers: list[int], steps: list[int]) -> torch.Tensor:
        """Applies the rule to logits [B, V] of rows `numbers`, each at token `steps` (from 0) of its reply."""
        over = torch.tensor([step + 1 >= self.lengths[row] for row, step in zip(numbers, steps, strict=True)])
        ruled = logits.clone()
        ruled[:, self.eos] = torch.where(over, torch.inf, -torch.inf).to(ruled)
        return ruled


def generate_in_slots(decoder: Decoder, prompts: list[list[int]], ends: Ends, batch_size: int) -> Replies:
    """Our way: decodes all encoded prompts with one decoder, greedily under the rule."""
    rows: dict[int, Row] = {}

    def choose(logits: torch.Tensor, at_work: list[Row]) -> torch.Tensor:
        rows.update((row.number, row) for row in at_work)
        steps = [len(row.response) for row in at_work]
        return ends.impose(logits, [row.number for row in at_work], steps).argmax(dim=-1)

    texts = decoder.decode(prompts, batch_size, choose)
    return [(text, rows[number].response) for number, text in enumerate(texts)]


class Apart(list):
    """A prompt that equals no other, so that it is read for itself."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


def sample_in_slots(
    decoder: Decoder, prompts: list[list[int]], ends: Ends, n_samples: int, batch_size: int, shared: bool
) -> list[str]:
    """Samples `n_samples` replies to each prompt, under the rule; row i * n_samples + k is sample k of prompt i.

    Args:
        shared: read each prompt once, in place of once for each of its samples.
    """
    rows = [prompt if shared else Apart(prompt) for prompt in prompts for _ in range(n_samples)]
    sampler = Sampler(decoder.model, list(range(len(rows))), temperature=1.0, top_p=0.95)

    def choose(logits: torch.Tensor, at_work: list[Row]) -> torch.Tensor:
        over = [len(row.response) + 1 >= ends.lengths[row.number] for row in at_work]
        return torch.where(torch.tensor(over), ends.eos, sampler(logits, at_work))

    return decoder.decode(rows, batch_size, choose)


@torch.inference_mode()
def generate_padded(decoder: Decoder, prompts: list[list[int]], ends: Ends, batch_size: int) -> Replies:
    """transformers' generate() in file order, padded to the longest prompt; not stopped early, cut afterwards."""
    model, width = decoder.model, max(map(len, prompts))
    limit, pad = decoder.max_new_tokens, model.config.pad_token_id
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=limit, eos_token_id=None, pad_token_id=pad, use_cache=True
    )

    def rule(numbers: range, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return ends.impose(scores, list(numbers), [input_ids.shape[1] - width] * len(numbers))

    replies = []
    for start in range(0, len(prompts), batch_size):
        batch = prompts[start : start + batch_size]
        output = model.generate(
            torch.tensor([[pad] * (width - len(ids)) + ids for ids in batch], device=model.device),
            attention_mask=torch.tensor(
                [[0] * (width - len(ids)) + [1] * len(ids) for ids in batch], device=model.device
            ),
            generation_config=settings,
            logits_processor=LogitsProcessorList([partial(rule, range(start, start + len(batch)))]),
        )
        for tokens in output[:, width:].tolist():
            replies.append(tokens[: tokens.index(ends.eos)] if ends.eos in tokens else tokens)
    decode = partial(decoder.tokenizer.batch_decode, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [(cut_at_stop(text).strip(), tokens) for text, tokens in zip(decode(replies), replies, strict=True)]


@torch.inference_mode()
def is_near_tie(model: PreTrainedModel, prompt: list[int], one: list[int], other: list[int]) -> bool:
    """Returns whether two replies first differ where the model, unbatched, finds both tokens about equally likely."""
    place = next((i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    if place is None:
        return False
    logits = model(torch.tensor([prompt + one[:place]], device=model.device)).logits[0, -1]
    return bool((logits[one[place]] - logits[other[place]]).abs() < TIE)
