"""Reward models: from a dialogue and its response to one raw logit.

Two kinds are supported: the OpenAssistant GPT-NeoX head (model_type gpt_neox_reward_model), and any
AutoModelForSequenceClassification with one label. A score must not depend on batch size or padding; a model for which
it does is refused on loading.
"""

import math
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
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
from data_preprocess.dialogue import ASSISTANT, AUTO, CHAT, HH, PROMPT_FORMATS, PROMPTER, split_system, split_turn
from data_preprocess.files import read_json
from data_preprocess.hub import base_model, load_tokenizer, source_options
from eval_hh.inference.decoding import plan_batches
from eval_hh.inference.models import REWARD, device, load_weights, merged, padded
from eval_hh.inference.prompt_format import ChatTemplate

MAX_LENGTH = 1024  # maximum tokens of a dialogue; longer ones are truncated from the left
OASST_TYPE = "gpt_neox_reward_model"
POOLINGS = ("last", "mean")
HEAD = re.compile(r"^(score|classifier|classification_head)\.")  # its names in transformers' classifiers
NEOX_PADDING = "<|padding|>"  # in GPT-NeoX's and Pythia's vocabularies, but not declared by their tokenizers
# Float error of a score allowed between batches and paddings, relative to 1 + |score|.
SLACK = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}
# Constant buffers in older checkpoints that GPT-NeoX now computes itself.
OLD_BUFFERS = re.compile(r"attention\.(bias|masked_bias|rotary_emb\.\w+)$|(^|\.)rotary_emb\.\w+$")


class GPTNeoXReward(GPTNeoXPreTrainedModel):
    """The OpenAssistant reward model: GPT-NeoX, pooled last hidden states and a linear head."""

    def __init__(self, config: GPTNeoXConfig):
        super().__init__(config)
        self.gpt_neox = GPTNeoXModel(config)
        self.out_proj = nn.Linear(config.hidden_size, 1)
        self.post_init()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Returns logits [B] in float32 of right-padded `input_ids` [B, T] under `attention_mask` [B, T], 1 or 0."""
        # Causal attention never sees the padding on the right: a mask would only slow it down.
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
    """Returns token ids of "<|role|>text" + EOS per turn, the response after the last tag, truncated from the left.

    Texts cannot forge a turn: special tokens in them are read as plain characters.

    Args:
        tokenizer: has an EOS token; role tags that are single tokens stay whole.
        turns: the prompt's turns, the last one a bare tag; a system message is left out.
        response: the text after that tag.
        max_length: maximum number of ids.
    """
    turns = split_system(turns)[1]
    ids: list[int] = []
    for turn in [*turns[:-1], turns[-1] + response]:
        tag, text = split_turn(turn)
        tag_id = tokenizer.convert_tokens_to_ids(tag)  # get_vocab would copy the vocabulary for every turn
        if tag_id == tokenizer.unk_token_id:  # both None if the tokenizer has no unknown token
            text = turn  # the tag is plain characters, which may merge with the text's
        else:
            ids.append(tag_id)
        ids += tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        ids.append(tokenizer.eos_token_id)
    return ids[-max_length:]


def check_finite(logits: Sequence[float], rows: Sequence[int], where: str) -> None:
    """Raises RunError that names the rows, after `where`, whose logits are not finite."""
    if bad := [row for row, logit in zip(rows, logits, strict=True) if not math.isfinite(logit)]:
        raise RunError(f"{where}{', '.join(map(str, sorted(set(bad))))}: the reward model's score is not finite")


class RewardModel:
    """A loaded reward model with its tokenizer, made by `load_reward_model`."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int, chat: bool):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.max_length = max_length
        self._encode = ChatTemplate(tokenizer).encode_dialogue if chat else partial(encode_dialogue, tokenizer)
        self._pad = model.config.get_text_config().pad_token_id
        self._n_ids = model.get_input_embeddings().weight.shape[0]

    def encode(self, turns: list[str], response: str) -> list[int]:
        """Returns the token ids of one dialogue. Raises InputError if the model cannot read it."""
        try:
            ids = self._encode(turns, response, self.max_length)
        except InputError as error:
            raise InputError(f"reward model: {error}") from error
        if not ids:
            raise InputError("the reward model's chat template makes no token of the dialogue")
        if max(ids) >= self._n_ids:
            found = f"token id {max(ids)} is outside the reward model's embedding of {self._n_ids} rows"
            raise InputError(f"{found} (its tokenizer is another model's)")
        return ids

    def score(self, turns_list: list[list[str]], suffixes: list[str], batch_size: int = 16) -> list[float]:
        """Returns the raw logits of the dialogues, in the order given.

        Args:
            turns_list: each dialogue's prompt turns, the last one a bare tag; the first may be a system message.
            suffixes: each dialogue's response.
            batch_size: dialogues per forward pass; they are grouped by length.
        """
        encoded = [self.encode(turns, suffix) for turns, suffix in zip(turns_list, suffixes, strict=True)]
        scores: dict[int, float] = {}
        for batch in plan_batches([len(ids) for ids in encoded], batch_size):
            scores |= zip(batch, self.score_batch([encoded[i] for i in batch]), strict=True)
        return [scores[i] for i in range(len(encoded))]

    @torch.inference_mode()
    def score_batch(self, encoded: list[list[int]]) -> list[float]:
        """Returns the raw logits of one batch of token id lists."""
        ids, mask = padded(encoded, self._pad_id(encoded), self.model.device)
        output = self.model(input_ids=ids, attention_mask=mask)
        logits = output if isinstance(output, torch.Tensor) else output.logits.float().squeeze(-1)
        return logits.tolist()

    def _pad_id(self, encoded: list[list[int]]) -> int:
        # transformers' classifiers pool at the last id that is not config.pad_token_id; without a pad id they accept
        # one row and pool at its last id. To pool there too, such a model gets a pad id that is not in the batch.
        if self._pad is not None:
            return self._pad
        used = {token for row in encoded for token in row}
        config = self.model.config.get_text_config()
        config.pad_token_id = next(token for token in range(config.vocab_size) if token not in used)
        return config.pad_token_id


def load_reward_model(path: str | Path, dtype: torch.dtype = torch.float32) -> RewardModel:
    """Loads a reward model from a folder or hub name onto this process's device.

    Args:
        path: the OpenAssistant kind, a sequence classifier with one label (weights in safetensors or .bin), or an
            adapter that makes one of its base model.
        dtype: of the weights; bfloat16 halves GPU memory. The OpenAssistant kind's pooling and head are always float32.

    Raises:
        InputError: the model cannot be found or read, does not have one label, or lacks a weight.
    """
    options = {**source_options(path), "dtype": dtype}
    tokenizer = load_tokenizer(path)
    if base_model(path, options) is not None:
        model = load_with_head(path, tokenizer, dtype)
    else:
        config = _read_config(path, options)
        load = _load_oasst if config.get("model_type") == OASST_TYPE else _load_classifier
        model = load(path, config, options)
    reward_model = as_reward_model(model.to(device()), tokenizer, path)
    _check_padding(reward_model, path, dtype)
    return reward_model


def _read_config(path: str | Path, options: dict[str, Any]) -> dict[str, Any]:
    config = read_json(cached_file(str(path), "config.json", local_files_only=options["local_files_only"]))
    if not isinstance(config, dict):
        raise InputError(f"{path}: config.json: expected a JSON object, found {type(config).__name__}")
    _check_pad(path, config.get("pad_token_id"), config.get("vocab_size"))  # clearer than torch's own error
    return config


def load_with_head(
    path: str | Path, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype, **more: Any
) -> PreTrainedModel:
    """Loads a sequence classifier of one label to train, or makes one of a causal LM, with a random head.

    Args:
        path: folder or hub name of either, or of an adapter that was trained on what this function returns.
        tokenizer: its tokenizer, for the padding id of a model that names none.
        dtype: of the weights.
        **more: for from_pretrained.

    Raises:
        InputError: it cannot be loaded, has more than one label, or is an OpenAssistant model, whose head no
            transformers classifier has; no token can serve as padding.
    """
    options = source_options(path)
    base = base_model(path, options)
    if base is not None:
        return merged(load_with_head(base, tokenizer, dtype, **more), path, REWARD, options)
    saved, options = _read_config(path, options), {**options, "dtype": dtype, **more}
    if saved.get("model_type") == OASST_TYPE:
        raise InputError(f"{path}: an OpenAssistant reward model can be used for scoring, but not trained further")
    if any("SequenceClassification" in name for name in saved.get("architectures") or []):
        model = _load_classifier(path, saved, options)
    else:
        model = load_weights(AutoModelForSequenceClassification, path, fresh=HEAD, num_labels=1, **options)
    text_config = model.config.get_text_config()
    if text_config.pad_token_id is None:
        text_config.pad_token_id = padding_id(tokenizer)
    if text_config.pad_token_id is None:
        raise InputError(f"{path}: its tokenizer has neither a padding token nor EOS (expected one, to fill batches)")
    return model


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Returns the padding id for a model that names none.

    A classifier takes its score at the last token that is not padding: the last turn's EOS or, if EOS itself is used as
    padding, the token before it, in training and scoring alike.
    """
    if tokenizer.pad_token_id is not None:
        return tokenizer.pad_token_id
    return tokenizer.get_vocab().get(NEOX_PADDING, tokenizer.eos_token_id)


def _check_pad(path: str | Path, pad: object, n_ids: object) -> None:
    """Raises InputError if there is a padding id and it is not a row of an embedding of `n_ids`."""
    if type(pad) is int and type(n_ids) is int and not 0 <= pad < n_ids:
        raise InputError(f"{path}: config.json: pad_token_id is {pad} (expected null, or an id below {n_ids})")


def _check_padding(model: RewardModel, path: str | Path, dtype: torch.dtype) -> None:
    """Raises InputError unless a probe scores the same alone as beside a row of full length and one of more turns."""
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
    """Returns the model with its way of reading a dialogue, which training and scoring must share.

    A classifier whose tokenizer has a chat template uses it, unless its configuration has a prompt_format (hh or chat,
    see train_reward.py); all others use `encode_dialogue`.

    Args:
        model: one of the two kinds.
        tokenizer: its tokenizer.
        path: where it came from, for messages.
    """
    chat = reads_chat(model, tokenizer, path)
    if not chat and tokenizer.eos_token_id is None:
        raise InputError(f"{path}: its tokenizer has neither a chat template nor an EOS token")
    config = model.config.get_text_config()
    _check_pad(path, config.pad_token_id, model.get_input_embeddings().weight.shape[0])
    positions = config.to_dict().get("max_position_embeddings") or MAX_LENGTH
    return RewardModel(model, tokenizer, min(MAX_LENGTH, positions), chat)


def reads_chat(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: str | Path) -> bool:
    """Returns whether a reward model reads by its chat template. InputError if it should but has none."""
    stored = model.config.to_dict().get("prompt_format", AUTO)
    if stored not in PROMPT_FORMATS:
        expected = " or ".join(PROMPT_FORMATS)
        raise InputError(f"{path}: config.json: prompt_format is {stored!r:.40} (expected {expected})")
    if stored == CHAT and tokenizer.chat_template is None:
        raise InputError(f"{path}: --prompt_format chat: its tokenizer has no chat template (expected one, or hh)")
    return stored != HH and not isinstance(model, GPTNeoXReward) and tokenizer.chat_template is not None


def _load_oasst(path: str | Path, config: dict[str, Any], options: dict[str, Any]) -> PreTrainedModel:
    pooling = config.get("pooling") or "last"
    if pooling not in POOLINGS:
        raise InputError(f"{path}: config.json: pooling is {pooling!r} (expected {' or '.join(POOLINGS)})")
    fields = {key: value for key, value in config.items() if key != "model_type"}
    neox = GPTNeoXConfig.from_dict({**fields, "pooling": pooling})
    return load_weights(GPTNeoXReward, path, config=neox, ignored=OLD_BUFFERS, **options)


def _load_classifier(path: str | Path, config: dict[str, Any], options: dict[str, Any]) -> PreTrainedModel:
    """Loads a sequence classifier of transformers.

    Args:
        path: its folder or hub name.
        config: its config.json.
        options: for from_pretrained.

    Raises:
        InputError: it does not have one label, or a weight is missing or unused.
    """
    names = config.get("id2label")
    labels = len(names) if isinstance(names, dict) else config.get("num_labels", 2)
    if labels != 1:
        raise InputError(f"{path}: config.json: a classifier with {labels} labels (a reward model has one)")
    return load_weights(AutoModelForSequenceClassification, path, ignored=OLD_BUFFERS, **options)
