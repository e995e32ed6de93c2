"""Checks whether a model can be trained on shared prompts, i.e. whether a packed row gives what its own forward gives.

`preflight` checks what needs no weights. `check_model` compares a packed row of two rankings with a plain pass for each
of their texts, on a short probe and on one of the maximum length; the probes are random token ids. A model that differs
is refused: its layers carry something else from token to token, use the index in the row as position, or have an
unknown attention pattern. So the loss is correct, or the run does not start.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DummyLayer, DynamicLayer, DynamicSlidingWindowLayer

from data_preprocess.command import InputError
from data_preprocess.dialogue import ASSISTANT, CHAT, PROMPTER
from data_preprocess.hub import describe, load_tokenizer
from eval_hh.inference.decoding import Decoder
from eval_hh.inference.kv_slots import read_layers
from eval_hh.inference.memory import free_memory
from eval_hh.inference.models import (
    MAX_PROMPT,
    MODEL_ERRORS,
    check_token_ids,
    column_limit,
    empty_causal_lm,
    position_limit,
    rope_limit,
)
from eval_hh.inference.prompt_format import PromptFormat, prompt_format
from eval_hh.inference.shared_prompt import Unpackable, packed
from training.collator import EncodedRanking, RankingCollator, collate, packed_row
from training.config import TrainConfig
from training.lora import check_targets

SHORT = [(7, 5, 3), (4, 2, 6)]  # probe: lengths of a prompt and its two responses, twice; up to 12 tokens
# Tolerance between a packed row and plain passes, for float error: ULPS units in the last place of the largest number,
# or TIMES_PADDING times the difference between plain passes with and without padding.
ULPS, TIMES_PADDING = 16, 8
# Cache layers that hold only keys and values of tokens, or share those of another layer.
LAYERS = (DynamicLayer, DynamicSlidingWindowLayer, DummyLayer)


def preflight(config: TrainConfig) -> PromptFormat:
    """Returns the prompt format; InputError if configuration and tokenizer show a run or validation cannot start."""
    name = config.model_name_or_path
    model, tokenizer = empty_causal_lm(name), load_tokenizer(name)
    made_by = prompt_format(config.prompt_format, tokenizer)
    RankingCollator(
        tokenizer, config.training_stage_num, config.block_size, config.max_prompt, config.append_eos, made_by
    )
    try:
        made_by.encode_prompt([PROMPTER + "Hi", ASSISTANT], config.max_prompt)
    except InputError as error:
        if made_by.name != CHAT:  # then the text itself cannot be encoded
            raise
        raise InputError(f"--max_prompt {config.max_prompt}: {error}") from error
    check_token_ids(tokenizer, model, name, made_by.template_ids)
    check_positions(model, name, config.block_size)
    check_targets(model, config)
    _check(model, lambda: _check_kind(model, config.block_size))
    if config.do_validation:
        read_layers(model, MAX_PROMPT + config.max_new_tokens)
    return made_by


def check_positions(model: PreTrainedModel, name: str, needed: int) -> None:
    """Raises InputError if the model has fewer positions than its longest text needs."""
    positions = position_limit(model.config)
    if positions is not None and positions < needed:
        raise InputError(
            f"{name}: the model has {positions} positions, --block_size or the dev prompts and --max_new_tokens need "
            f"{needed}"
        )


@dataclass(frozen=True)
class Checked:
    """What is known about a model that passed."""

    longest: int  # positions of the longest text compared
    head_alone: bool  # its output embeddings, applied to hidden states, give its logits
    row_limit: int | None  # maximum tokens of a row


_checked: "WeakKeyDictionary[PreTrainedModel, Checked]" = WeakKeyDictionary()


def check_model(model: PreTrainedModel, longest: int) -> Checked:
    """Checks a model once for texts of up to `longest` tokens; the model is left unchanged.

    Args:
        model: a transformers causal LM, loaded with sdpa attention.
        longest: maximum tokens of a prompt and one response.

    Raises:
        InputError: the model's class, and why its packed rows would be wrong.
    """
    known = _checked.get(model)
    if known is not None and known.longest >= longest:
        return known

    def compare() -> bool:
        _check_kind(model, longest)
        with as_float32(model, model.device), at_rest(model):
            probes = [_probe(lengths, model.config.get_text_config().vocab_size) for lengths in _probe_lengths(longest)]
            batches = [_compare(model, probe) for probe in probes]
            _check_training(model, batches[0])
            return _head_is_all(model, batches[0])

    _checked[model] = Checked(longest, _check(model, compare), column_limit(model.config))
    return _checked[model]


def check_decoding(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    max_new_tokens: int,
    made_by: PromptFormat,
) -> None:
    """Raises InputError if validation could not decode the model rightly (`Decoder.check`); it is left unchanged."""
    attention = model.config._attn_implementation
    with at_rest(model):
        try:
            Decoder(model, tokenizer, max_new_tokens, made_by).check()
        finally:
            if model.config._attn_implementation != attention:
                model.set_attn_implementation(attention)


def _check(model: PreTrainedModel, check: Callable[[], Any]) -> Any:
    """Returns the result of `check`; turns Unpackable into an InputError that names the model."""
    try:
        return check()
    except Unpackable as error:
        name = f"{model.name_or_path}: " if model.name_or_path else ""
        raise InputError(f"{name}a {type(model).__name__} cannot be trained on shared prompts: {error}") from error


def _check_kind(model: PreTrainedModel, longest: int) -> None:
    """Checks class and configuration, but no weights."""
    config = model.config.get_text_config(decoder=True)
    if model.config.is_encoder_decoder:
        raise Unpackable("it has an encoder")
    parameters = inspect.signature(model.forward).parameters
    for needed in ("position_ids", "logits_to_keep"):
        if needed not in parameters:
            raise Unpackable(f"its forward takes no {needed}")
    try:
        layers = DynamicCache(config=config).layers
    except MODEL_ERRORS as error:
        raise Unpackable(f"its configuration makes no layers ({describe(error)})") from error
    others = {type(layer).__name__ for layer in layers if type(layer) not in LAYERS}
    if others:
        kinds = ", ".join(sorted(others))
        raise Unpackable(f"its layers carry more than keys and values from token to token ({kinds})")
    limit = rope_limit(config)
    if limit is not None and longest > limit:
        raise Unpackable(f"its RoPE depends on a text's length beyond {limit} tokens, and texts may have {longest}")


def _probe_lengths(longest: int) -> list[list[tuple[int, int, int]]]:
    """Returns the short probe, and one whose first response ends at the last position, and a short ranking after it."""
    if longest <= 12:
        return [[(longest - 1, 1, 1), (1, longest - 1, 1)]]
    response = longest // 4
    return [SHORT, [(longest - response, response, 3), (5, 3, 4)]]


@contextmanager
def at_rest(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode without gradients, autocast or changes to the global random state; restored afterwards."""
    modes = {module: module.training for module in model.modules()}
    device = model.device
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad(), torch.autocast(
            device.type, enabled=False
        ):  # fmt: skip
            model.eval()
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def in_training(model: PreTrainedModel) -> Iterator[None]:
    """Training mode, within `at_rest`; buffers that a forward changes in it are restored afterwards."""
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    model.train()
    try:
        yield
    finally:
        model.eval()
        for buffer, before in kept:
            buffer.copy_(before)


@contextmanager
def as_float32(model: PreTrainedModel, device: torch.device) -> Iterator[None]:
    """Moves the model to `device`, in float32, if memory allows; its own tensors are restored afterwards."""
    tensors = [*model.parameters(), *model.buffers()]
    where, room = device, free_memory(device) / 2
    widen = 4 * sum(tensor.numel() for tensor in tensors) <= room
    if not widen and sum(tensor.numel() * tensor.element_size() for tensor in tensors) > room:
        where = model.device
    originals = [tensor.data for tensor in tensors]
    try:
        for tensor in tensors:
            half = tensor.dtype in (torch.bfloat16, torch.float16)
            tensor.data = tensor.data.to(where, torch.float32 if half and widen else tensor.dtype)
        yield
    finally:
        for tensor, original in zip(tensors, originals, strict=True):
            tensor.data = original
        if where.type == "cuda":
            torch.cuda.empty_cache()


def _probe(lengths: list[tuple[int, ...]], vocabulary: int) -> list[EncodedRanking]:
    """Returns rankings of random tokens, with all response tokens as targets."""
    generator = torch.Generator().manual_seed(0)
    probe = []
    for ranking in lengths:
        prompt, *segments = (torch.randint(vocabulary, (n,), generator=generator).tolist() for n in ranking)
        probe.append(EncodedRanking(prompt, segments, list(map(len, segments)), [0.0] * len(segments), sft_index=0))
    return probe


def _compare(model: PreTrainedModel, probe: list[EncodedRanking]) -> dict[str, torch.Tensor]:
    """Returns the probe as a batch; raises Unpackable if its packed row differs from plain passes."""
    batch = {name: tensor.to(model.device) for name, tensor in collate(probe).items()}
    texts = [(ranking.prompt + segment, len(segment)) for ranking in probe for segment in ranking.segments]
    plain = _plain(model, texts)
    try:
        ours = _packed(model, batch)
    except Unpackable:
        raise
    except MODEL_ERRORS as error:
        raise Unpackable(f"its forward fails on a packed row ({describe(error)})") from error
    if not plain.isfinite().all():
        raise Unpackable("its logits are not finite")
    allowed = ULPS * torch.finfo(model.dtype).eps * plain.abs().max().item()
    difference = (ours - plain).abs().max().item()
    if difference > allowed:
        padded = _plain(model, texts, padding=True)
        allowed = max(allowed, TIMES_PADDING * (padded - plain).abs().max().item())
    if not difference <= allowed:
        raise Unpackable(
            "log-probabilities in a packed row differ from those of plain passes "
            f"(by {difference:.2g} on texts of up to {max(len(text) for text, _ in texts)} tokens, expected at most "
            f"{allowed:.2g})"
        )
    return batch


def _check_training(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> None:
    """Raises Unpackable if a packed row cannot be computed in training mode, as with a dropout that is no share."""
    try:
        with in_training(model):
            _packed(model, batch)
    except Unpackable:
        raise
    except MODEL_ERRORS as error:
        raise Unpackable(f"its forward fails in training mode ({describe(error)})") from error


def _plain(model: PreTrainedModel, texts: list[tuple[list[int], int]], padding: bool = False) -> torch.Tensor:
    """Returns the log-probabilities [N, V] of the texts' N response tokens, computing each text in a separate pass.

    Args:
        model: in evaluation mode, see `at_rest`.
        texts: ids of each text, and how many of them, at its end, belong to the response.
        padding: pad the shorter texts to the longest.

    Raises:
        Unpackable: the model cannot compute them.
    """
    logps, longest = [], max(len(text) for text, _ in texts)
    for text, n_targets in texts:
        behind = longest - len(text) if padding else 0
        ids = torch.tensor([text + [0] * behind], device=model.device)
        mask = torch.tensor([[1] * len(text) + [0] * behind], device=model.device) if behind else None
        try:
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[0]
        except MODEL_ERRORS as error:
            raise Unpackable(f"its forward fails on a plain text ({describe(error)})") from error
        logps.append(logits[len(text) - n_targets - 1 : len(text) - 1].float().log_softmax(-1))
    return torch.cat(logps)


def _packed(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Returns the same log-probabilities [N, V], from one packed row."""
    with packed(model, packed_row(batch), batch) as arguments:
        return model(**arguments, logits_to_keep=batch["source_index"]).logits[0].float().log_softmax(-1)


def _head_is_all(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> bool:
    """Returns whether the logits are just the output embeddings applied to the base model's hidden states."""
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear) or model.base_model is model:
        return False
    with packed(model, packed_row(batch), batch) as arguments:
        logits = model(**arguments).logits
        hidden = model.base_model(**arguments)[0]
        if hidden.shape[2] != head.in_features or not torch.allclose(head(hidden), logits, rtol=1e-5, atol=1e-6):
            return False
        # A cap changes only large logits, so the head's output is replaced by numbers of all sizes.
        numbers = torch.linspace(-1e4, 1e4, logits.numel(), dtype=logits.dtype, device=logits.device).view_as(logits)
        hook = head.register_forward_hook(lambda module, inputs, output: numbers)
        try:
            return torch.equal(model(**arguments).logits, numbers)
        finally:
            hook.remove()
