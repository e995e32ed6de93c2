"""Where the training of a reward model starts: a classifier with one label, and how it reads a dialogue.

There are three starts: a small GPT-NeoX from scratch, a causal LM with a new head (the same backbone weights, without
the language-modelling head), or an existing reward model, which may be an adapter. With LoRA the start is frozen, all
but its head.
"""

import os

import torch
from accelerate import PartialState
from transformers import GPTNeoXConfig, GPTNeoXForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from data_preprocess.command import InputError
from data_preprocess.dialogue import AUTO, HH
from data_preprocess.hub import load_tokenizer
from eval_hh.reward_model import HEAD, RewardModel, as_reward_model, load_with_head
from training.lora import add_lora, check_start, loading_options
from training.reward.config import RewardConfig

MAX_POSITIONS = 1024  # maximum tokens of a model from scratch; dialogues are truncated on the left


def start(config: RewardConfig) -> RewardModel:
    """Returns the initial model, in float32 on the CPU, wrapped for scoring.

    Raises:
        InputError: it cannot be loaded, has more than one label, or is an OpenAssistant model, whose head no
            transformers classifier has.
    """
    source = config.tokenizer or config.model_name_or_path
    tokenizer = load_tokenizer(source)
    model = _from_scratch(config, tokenizer) if config.tokenizer else _from_checkpoint(config, tokenizer)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if config.prompt_format != AUTO:
        model.config.prompt_format = config.prompt_format  # saved in config.json, where `as_reward_model` finds it
        if config.lora_r and config.prompt_format == HH:  # an adapter has no config.json, but a tokenizer
            tokenizer.chat_template = None
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


def _from_checkpoint(config: RewardConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    source = config.model_name_or_path
    check_start(config, source)
    is_deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    more = loading_options(config, PartialState().device, is_deepspeed)
    # half precision loses AdamW's small updates; bf16 is used through autocast
    model = load_with_head(source, tokenizer, torch.float32, **more)
    heads = [name for name, _ in model.named_children() if HEAD.match(f"{name}.")]
    add_lora(model, config, source, config.seed, heads)
    return model
