"""Where the training of a reward model starts: a classifier with one label, and how it reads a dialogue.

There are three starts: a small GPT-NeoX from scratch, a causal LM with a new head (the same backbone weights, without
the language-modelling head), or an existing reward model.
"""

import re

import torch
from transformers import (
    AutoModelForSequenceClassification,
    GPTNeoXConfig,
    GPTNeoXForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file

from data_preprocess.command import InputError
from data_preprocess.dialogue import AUTO
from data_preprocess.files import read_json
from data_preprocess.hub import load_tokenizer, source_options
from eval_hh.inference.models import load_weights
from eval_hh.reward_model import OASST_TYPE, RewardModel, as_reward_model, load_classifier
from training.reward.config import RewardConfig

MAX_POSITIONS = 1024  # maximum tokens of a model from scratch; dialogues are truncated on the left
HEAD = re.compile(r"^(score|classifier|classification_head)\.")  # its names in transformers' classifiers
NEOX_PADDING = "<|padding|>"  # in GPT-NeoX's and Pythia's vocabularies, but not declared by their tokenizers


def start(config: RewardConfig) -> RewardModel:
    """Returns the initial model, in float32 on the CPU, wrapped for scoring.

    Raises:
        InputError: it cannot be loaded, has more than one label, or is an OpenAssistant model, whose head no
            transformers classifier has.
    """
    source = config.tokenizer or config.model_name_or_path
    tokenizer = load_tokenizer(source)
    model = _from_scratch(config, tokenizer) if config.tokenizer else _from_checkpoint(source, tokenizer)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if config.prompt_format != AUTO:
        model.config.prompt_format = config.prompt_format  # saved in config.json, where `as_reward_model` finds it
    return as_reward_model(model, tokenizer, source)


def _from_scratch(config: RewardConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise InputError(f"{config.tokenizer}: a padding token other than EOS was expected")
    return GPTNeoXForSequenceClassification(
        GPTNeoXConfig(
            vocab_size=len(tokenizer), hidden_size=config.hidden_size, intermediate_size=4 * config.hidden_size,
            num_hidden_layers=config.num_layers, num_attention_heads=config.num_heads, num_labels=1,
            max_position_embeddings=MAX_POSITIONS, initializer_range=config.hidden_size**-0.5 / 2,
            hidden_dropout=0.0, attention_dropout=0.0, classifier_dropout=0.0, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def _from_checkpoint(path: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    options = source_options(path)
    saved = read_json(cached_file(path, "config.json", local_files_only=options["local_files_only"]))
    if not isinstance(saved, dict):
        raise InputError(f"{path}: config.json: expected a JSON object, found {type(saved).__name__}")
    if saved.get("model_type") == OASST_TYPE:
        raise InputError(f"{path}: an OpenAssistant reward model can be used for scoring, but not trained further")
    options["dtype"] = torch.float32  # half precision loses AdamW's small updates; bf16 is used through autocast
    if any("SequenceClassification" in name for name in saved.get("architectures") or []):
        model = load_classifier(path, saved, options)
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
