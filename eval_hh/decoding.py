"""Decoding of responses, in batches by length, to the end of the response or the first made-up turn.

Library, used by generation.py, by the trainer's validation and, with a sampler, by annotate.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from tqdm import tqdm
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from data_preprocess.dialogue import STOP_STRINGS, cut_at_stop, render_prompt
from data_preprocess.files import InputError
from eval_hh.models import MAX_PROMPT, prompt_ids

MAX_NEW_TOKENS = 128  # the paper's setting
# The text of this many last tokens is searched for stop strings. Where one takes more, generation runs on,
# and `cut_at_stop` ends the text at the right place all the same.
STOP_WINDOW = 16
COLON_BYTE = "<0x3A>"  # how sentencepiece vocabularies with byte fallback write the byte of ":"


def plan_batches(lengths: list[int], batch_size: int) -> list[list[int]]:
    """Groups row numbers by length, longest rows first (so that memory runs out at once or never).

    Args:
        lengths: of each row, in tokens.
        batch_size: the most rows per batch; all batches but the last are full.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


class EndOfTurn(StoppingCriteria):
    """Ends a row whose generated text holds a stop string.

    Only generated tokens count: the prompt is full of stop strings. All stop strings end in ":", so a row is
    looked at only when its newest token has one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocab_size: int, device: torch.device):
        self.tokenizer = tokenizer
        self.prompt_length = 0
        vocabulary = tokenizer.get_vocab().items()
        colons = [index for token, index in vocabulary if ":" in token or token == COLON_BYTE]
        self.may_end = torch.zeros(vocab_size, dtype=torch.bool, device=device)
        self.may_end[[index for index in colons if index < vocab_size]] = True

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs) -> torch.Tensor:
        """True [B] for each row of `input_ids` [B, prompt + generated] that has ended."""
        ended = self.may_end[input_ids[:, -1]]
        if ended.any():
            start = max(self.prompt_length, input_ids.shape[1] - STOP_WINDOW)
            for row in ended.nonzero().flatten().tolist():
                text = _decode(self.tokenizer, input_ids[row, start:].tolist())
                ended[row] = any(stop in text for stop in STOP_STRINGS)
        return ended


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


class Decoder:
    """A model and tokenizer ready to decode batches of encoded prompts."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int):
        self.model = model
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens
        self.eos = tokenizer.eos_token_id
        # Padding is masked and what follows a row's end is cut off, so any id will do.
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.eos or 0
        self.end_of_turn = EndOfTurn(tokenizer, model.get_output_embeddings().weight.shape[0], model.device)

    def encode(self, turns: list[str]) -> list[int]:
        """Token ids of a prompt, BOS and its last tokens.

        Raises:
            InputError: prompt and response would not fit the model's positions.
        """
        ids = prompt_ids(self.tokenizer, render_prompt(turns), MAX_PROMPT)
        positions = self.model.config.max_position_embeddings
        if len(ids) + self.max_new_tokens > positions:
            need = f"{len(ids)} prompt tokens and --max_new_tokens {self.max_new_tokens}"
            raise InputError(f"the model has {positions} positions, too few for {need}")
        return ids

    @torch.inference_mode()
    def decode_batch(self, prompts: list[list[int]], sampler: LogitsProcessor | None = None) -> list[str]:
        """The responses to a batch of encoded prompts, stripped, in the order given.

        The most likely token is taken, after `sampler`, where there is one, has changed what is likely.
        """
        longest = max(map(len, prompts))
        where = self.model.device
        ids = torch.tensor([[self.pad] * (longest - len(row)) + row for row in prompts], device=where)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts], device=where)
        self.end_of_turn.prompt_length = longest
        with _ready_to_decode(self.model):
            output = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=self._settings(),
                stopping_criteria=StoppingCriteriaList([self.end_of_turn]),
                logits_processor=LogitsProcessorList([] if sampler is None else [sampler]),
            )
        return [self._text(row) for row in output[:, longest:].tolist()]

    def _settings(self) -> GenerationConfig:
        return GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=self.max_new_tokens,
            eos_token_id=self.eos,
            pad_token_id=self.pad,
            use_cache=True,
        )

    def _text(self, generated: list[int]) -> str:
        if self.eos in generated:
            generated = generated[: generated.index(self.eos)]
        return cut_at_stop(_decode(self.tokenizer, generated)).strip()


@contextmanager
def _ready_to_decode(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode, and none of the model's own generation settings.

    generate() fills what its caller leaves open (a repetition penalty, say) from model.generation_config.
    """
    training, settings = model.training, model.generation_config
    model.eval()
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = settings
        model.train(training)


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[str]],
    max_new_tokens: int = MAX_NEW_TOKENS,
    batch_size: int = 16,
    progress: bool = False,
) -> list[str]:
    """Greedy responses to prompts, in the order given.

    A prompt is cut from the left to 384 tokens. A response ends at EOS, before the first stop string, or
    after `max_new_tokens`, and is stripped. It depends on its batch only by float error.

    Args:
        model: a causal language model on the device to use.
        tokenizer: its tokenizer.
        prompts: each a list of turns, the last one a bare tag.
        max_new_tokens: tokens decoded per prompt at most.
        batch_size: prompts per batch; they are grouped by length.
        progress: show a bar.

    Raises:
        InputError: a prompt and its response would not fit the model's positions.
    """
    decoder = Decoder(model, tokenizer, max_new_tokens)
    encoded = [decoder.encode(turns) for turns in prompts]
    texts = [""] * len(prompts)
    batches = plan_batches([len(ids) for ids in encoded], batch_size)
    for batch in tqdm(batches, desc="generating", disable=not progress):
        for row, text in zip(batch, decoder.decode_batch([encoded[i] for i in batch]), strict=True):
            texts[row] = text
    return texts
