"""Reward models: a dialogue with its response in, one raw logit out.

Two kinds are read: the OpenAssistant GPT-NeoX head (model_type gpt_neox_reward_model), and any
AutoModelForSequenceClassification with one label. A score depends on neither batch size nor padding; a model of which
that is not true is refused when it is loaded.
"""

import math
import re
from collections.abc import Sequence
from functools import cached_property, partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    GPTNeoXConfig,
    GPTNeoXModel,
    GPTNeoXPreTrainedModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file

from data_preprocess.command import InputError, RunError
from data_preprocess.dialogue import ASSISTANT, PROMPTER, split_turn
from data_preprocess.files import read_json
from data_preprocess.hub import load_tokenizer, source_options
from eval_hh.inference.decoding import plan_batches
from eval_hh.inference.models import device, load_weights, padded

MAX_LENGTH = 1024  # tokens of a dialogue that are read; what is over is cut from the left
OASST_TYPE = "gpt_neox_reward_model"
POOLINGS = ("last", "mean")
CHAT_ROLES = {PROMPTER: "user", ASSISTANT: "assistant"}
Messages = list[dict[str, str]]  # {"role", "content"}, as chat templates take them
# What a chat template may raise: a template is a program, and these are the errors of programs.
TEMPLATE_ERRORS = (TemplateError, TypeError, ValueError, LookupError, ArithmeticError)
# How far a score may move with its batch and padding, in parts of 1 + its size: by float error alone.
SLACK = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}
# Constant buffers that older checkpoints carry and today's GPT-NeoX computes by itself.
OLD_BUFFERS = re.compile(r"attention\.(bias|masked_bias|rotary_emb\.\w+)$|(^|\.)rotary_emb\.\w+$")


class GPTNeoXReward(GPTNeoXPreTrainedModel):
    """The OpenAssistant reward model: GPT-NeoX, its last hidden states pooled, and a linear layer."""

    def __init__(self, config: GPTNeoXConfig):
        super().__init__(config)
        self.gpt_neox = GPTNeoXModel(config)
        self.out_proj = nn.Linear(config.hidden_size, 1)
        self.post_init()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits [B] in float32 of right-padded `input_ids` [B, T] under `attention_mask` [B, T], 1 or 0."""
        # Causal attention never looks to the right, where the padding is: a mask would only slow it down.
        hidden = self.gpt_neox(input_ids, use_cache=False).last_hidden_state.float()
        lengths = attention_mask.sum(dim=1)
        if self.config.pooling == "mean":
            pooled = (hidden * attention_mask.unsqueeze(-1)).sum(dim=1) / lengths.unsqueeze(-1)
        else:
            pooled = hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]
        head = self.out_proj
        return nn.functional.linear(pooled, head.weight.float(), head.bias.float()).squeeze(-1)


def encode_dialogue(
    tokenizer: PreTrainedTokenizerBase, turns: list[str], response: str, max_length: int = MAX_LENGTH
) -> list[int]:
    """Token ids of "<|role|>text" + EOS per turn, the response behind the last tag, cut from the left.

    Texts cannot forge a turn: a special token that somebody typed is read as plain characters.

    Args:
        tokenizer: has an EOS token; role tags that are tokens of its own stay whole.
        turns: the prompt's turns, the last one a bare tag.
        response: the text behind that tag.
        max_length: the most ids to return.
    """
    ids: list[int] = []
    for turn in [*turns[:-1], turns[-1] + response]:
        tag, text = split_turn(turn)
        tag_id = tokenizer.convert_tokens_to_ids(tag)  # get_vocab would copy the vocabulary for every turn
        if tag_id == tokenizer.unk_token_id:  # None where the tokenizer has no such token either
            text = turn  # the tag is plain characters, which may merge with the text's
        else:
            ids.append(tag_id)
        ids += tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        ids.append(tokenizer.eos_token_id)
    return ids[-max_length:]


def chat_messages(turns: list[str], response: str) -> Messages:
    """The dialogue as messages. Turns of one role in a row are one, for most templates want roles that alternate."""
    messages: Messages = []
    for turn in [*turns[:-1], turns[-1] + response]:
        tag, text = split_turn(turn)
        if messages and messages[-1]["role"] == CHAT_ROLES[tag]:
            messages[-1]["content"] += "\n" + text
        else:
            messages.append({"role": CHAT_ROLES[tag], "content": text})
    return messages


class ChatTemplate:
    """A tokenizer's chat template, which cuts long dialogues behind what it puts before the first text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer

    def __call__(self, turns: list[str], response: str, max_length: int) -> list[int]:
        """Token ids of the dialogue, at most `max_length`.

        Of a longer one the oldest exchanges are left out. Where the last one alone is too long, its ids are cut behind
        the template's head (BOS, a system text, the first turn's header), so that head and end stay.

        Raises:
            InputError: the template refuses the dialogue.
        """
        messages = chat_messages(turns, response)
        ids = self._apply(messages)
        while len(ids) > max_length and len(messages) > 2:
            messages = messages[2:]
            ids = self._apply(messages)
        if len(ids) <= max_length:
            return ids
        head = min(_shared(ids, self._head), max_length - 1)
        return ids[:head] + ids[len(ids) - (max_length - head) :]

    @cached_property
    def _head(self) -> list[int]:
        """What the ids of all dialogues begin with: that of two that differ from their first character on."""
        one, other = (
            self._apply([{"role": "user", "content": text}, {"role": "assistant", "content": "x"}]) for text in "0A"
        )
        return one[: _shared(one, other)]

    def _apply(self, messages: Messages) -> list[int]:
        try:
            return self.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
        except TEMPLATE_ERRORS as error:
            raise InputError(f"the reward model's chat template refuses the dialogue ({error})") from error


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two lists begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def check_finite(logits: Sequence[float], rows: Sequence[int], where: str) -> None:
    """RunError that names the rows, behind `where`, whose logits are not finite."""
    if bad := [row for row, logit in zip(rows, logits, strict=True) if not math.isfinite(logit)]:
        raise RunError(f"{where}{', '.join(map(str, sorted(set(bad))))}: the reward model's score is not finite")


class RewardModel:
    """A loaded reward model with its tokenizer. Made by `load_reward_model`."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int, chat: bool):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.max_length = max_length
        self._encode = ChatTemplate(tokenizer) if chat else partial(encode_dialogue, tokenizer)
        self._pad = model.config.get_text_config().pad_token_id
        self._n_ids = model.get_input_embeddings().weight.shape[0]

    def encode(self, turns: list[str], response: str) -> list[int]:
        """Token ids that the model reads for one dialogue. InputError for one that it cannot read."""
        ids = self._encode(turns, response, self.max_length)
        if not ids:
            raise InputError("the reward model's chat template makes no token of the dialogue")
        if max(ids) >= self._n_ids:
            found = f"token id {max(ids)} is none of the {self._n_ids} of the reward model's embedding"
            raise InputError(f"{found} (its tokenizer is another model's)")
        return ids

    def score(self, turns_list: list[list[str]], suffixes: list[str], batch_size: int = 16) -> list[float]:
        """Raw logits of the dialogues, in the order given.

        Args:
            turns_list: per dialogue the prompt's turns, the last one a bare tag.
            suffixes: per dialogue the response.
            batch_size: dialogues per forward pass; they are grouped by length.
        """
        encoded = [self.encode(turns, suffix) for turns, suffix in zip(turns_list, suffixes, strict=True)]
        scores: dict[int, float] = {}
        for batch in plan_batches([len(ids) for ids in encoded], batch_size):
            scores |= zip(batch, self.score_batch([encoded[i] for i in batch]), strict=True)
        return [scores[i] for i in range(len(encoded))]

    @torch.inference_mode()
    def score_batch(self, encoded: list[list[int]]) -> list[float]:
        """Raw logits of one batch of token id lists."""
        ids, mask = padded(encoded, self._pad_id(encoded), self.model.device)
        output = self.model(input_ids=ids, attention_mask=mask)
        logits = output if isinstance(output, torch.Tensor) else output.logits.float().squeeze(-1)
        return logits.tolist()

    def _pad_id(self, encoded: list[list[int]]) -> int:
        # transformers' classifiers pool at the last id that is not config.pad_token_id or, where there is
        # none, at the last id of their one row. To pool there too, such a model gets an id not in the batch.
        if self._pad is not None:
            return self._pad
        used = {token for row in encoded for token in row}
        config = self.model.config.get_text_config()
        config.pad_token_id = next(token for token in range(config.vocab_size) if token not in used)
        return config.pad_token_id


def load_reward_model(path: str | Path, dtype: torch.dtype = torch.float32) -> RewardModel:
    """Loads a reward model from a folder or hub name onto this process's device.

    Args:
        path: the OpenAssistant kind, or a sequence classifier with one label; weights in safetensors or .bin.
        dtype: of the weights; bfloat16 halves the memory on a GPU. The OpenAssistant kind's pooling and head
            are float32 in any case.

    Raises:
        InputError: the model cannot be found or read, has more labels than one, or lacks a weight.
    """
    options = {**source_options(path), "dtype": dtype}
    config = read_json(cached_file(str(path), "config.json", local_files_only=options["local_files_only"]))
    if not isinstance(config, dict):
        raise InputError(f"{path}: config.json: expected a JSON object, found {type(config).__name__}")
    _check_pad(path, config.get("pad_token_id"), config.get("vocab_size"))  # torch would refuse it in its own words
    tokenizer = load_tokenizer(path)
    load = _load_oasst if config.get("model_type") == OASST_TYPE else load_classifier
    reward_model = as_reward_model(load(path, config, options).to(device()), tokenizer, path)
    _check_padding(reward_model, path, dtype)
    return reward_model


def _check_pad(path: str | Path, pad: object, n_ids: object) -> None:
    """InputError unless the padding id is a row of an embedding of `n_ids`, or there is none."""
    if type(pad) is int and type(n_ids) is int and not 0 <= pad < n_ids:
        raise InputError(f"{path}: config.json: pad_token_id is {pad} (expected null, or an id below {n_ids})")


def _check_padding(model: RewardModel, path: str | Path, dtype: torch.dtype) -> None:
    """InputError unless a probe's score is the same alone as beside a row of full length and one of more turns."""
    prompt, reply, kind = f"{PROMPTER}What is amber?", "Amber is old resin.", type(model.model).__name__
    long, many = [prompt + " What is amber?" * model.max_length], [prompt, ASSISTANT + reply, prompt]
    try:
        short, *beside = (model.encode([*turns, ASSISTANT], reply) for turns in ([prompt], long, many))
        alone, beside = model.score_batch([short])[0], model.score_batch([short, *beside])[0]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise InputError(f"{path}: a {kind} cannot score dialogues here ({error})") from error
    if abs(alone - beside) > SLACK[dtype] * (1 + abs(alone)):
        found = f"{alone:.4g} alone, {beside:.4g} beside a longer one"
        raise InputError(f"{path}: a {kind} gives a dialogue another score in another batch ({found})")


def as_reward_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: str | Path) -> RewardModel:
    """The model with the way in which it reads a dialogue, which training and scoring must share.

    A classifier whose tokenizer has a chat template reads by it; everything else as `encode_dialogue` writes.

    Args:
        model: one of the two kinds.
        tokenizer: its tokenizer.
        path: where it came from, for messages.
    """
    chat = not isinstance(model, GPTNeoXReward) and tokenizer.chat_template is not None
    if not chat and tokenizer.eos_token_id is None:
        raise InputError(f"{path}: its tokenizer has neither a chat template nor an EOS token")
    config = model.config.get_text_config()
    _check_pad(path, config.pad_token_id, model.get_input_embeddings().weight.shape[0])
    positions = config.to_dict().get("max_position_embeddings") or MAX_LENGTH
    return RewardModel(model, tokenizer, min(MAX_LENGTH, positions), chat)


def _load_oasst(path: str | Path, config: dict[str, Any], options: dict[str, Any]) -> PreTrainedModel:
    pooling = config.get("pooling") or "last"
    if pooling not in POOLINGS:
        raise InputError(f"{path}: config.json: pooling is {pooling!r} (expected {' or '.join(POOLINGS)})")
    fields = {key: value for key, value in config.items() if key != "model_type"}
    neox = GPTNeoXConfig.from_dict({**fields, "pooling": pooling})
    return load_weights(GPTNeoXReward, path, config=neox, ignored=OLD_BUFFERS, **options)


def load_classifier(path: str | Path, config: dict[str, Any], options: dict[str, Any]) -> PreTrainedModel:
    """A sequence classifier of transformers.

    Args:
        path: its folder or hub name.
        config: its config.json.
        options: for from_pretrained.

    Raises:
        InputError: it has more labels than one, or a weight is missing or left over.
    """
    names = config.get("id2label")
    labels = len(names) if isinstance(names, dict) else config.get("num_labels", 2)
    if labels != 1:
        raise InputError(f"{path}: config.json: a classifier with {labels} labels (a reward model has one)")
    return load_weights(AutoModelForSequenceClassification, path, ignored=OLD_BUFFERS, **options)
