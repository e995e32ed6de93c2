"""Reward models: from a dialogue and its response to one raw logit.

Two kinds are supported: the OpenAssistant GPT-NeoX head (model_type gpt_neox_reward_model), and any
AutoModelForSequenceClassification with one label. Dialogues are computed in rows without padding, a common prompt once,
where a probe finds that they get what each gets alone; other models get one padded row per dialogue. A score must not
depend on the batch: a model for which it does is refused on loading.
"""

import math
import re
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
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
from data_preprocess.hub import base_model, describe, load_or_refuse, load_tokenizer, source_options, tokenized
from eval_hh.inference.decoding import plan_batches
from eval_hh.inference.memory import free_memory
from eval_hh.inference.models import (
    MODEL_ERRORS,
    REWARD,
    column_limit,
    device,
    load_weights,
    merged,
    padded,
)
from eval_hh.inference.packed_weights import PackedLinears
from eval_hh.inference.prompt_format import ChatTemplate
from eval_hh.inference.shared_prompt import PackedRow, packed
from eval_hh.inference.shared_texts import TextRow, plan_rows, shared_row

COMPARED = 200  # dialogues at most whose scores in half precision are compared with float32
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
        return self.score(pooled).squeeze(-1)

    def score(self, pooled: torch.Tensor) -> torch.Tensor:
        """Returns the head's logits [N, 1] in float32 of pooled states [N, hidden size]."""
        head = self.out_proj
        return nn.functional.linear(pooled.float(), head.weight.float(), head.bias.float())


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
        ids += tokenized(tokenizer, text, split_special_tokens=True, verbose=False)["input_ids"]
        ids.append(tokenizer.eos_token_id)
    return ids[-max_length:]


def check_finite(logits: Sequence[float], rows: Sequence[int | str], where: str) -> None:
    """Raises RunError that names the rows, after `where`, whose logits are not finite."""
    if bad := [row for row, logit in zip(rows, logits, strict=True) if not math.isfinite(logit)]:
        raise RunError(f"{where}{', '.join(map(str, sorted(set(bad))))}: the reward model's score is not finite")


class RewardModel:
    """A loaded reward model with its tokenizer, made by `load_reward_model`."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int, chat: bool):
        self.model = model.eval()
        self.packs = False  # whether dialogues are computed in rows without padding, see `try_packing`
        self._weights: AbstractContextManager = nullcontext()  # see `fix_weights`
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
            batch_size: dialogues per forward pass, see `plan`.
        """
        encoded = [self.encode(turns, suffix) for turns, suffix in zip(turns_list, suffixes, strict=True)]
        return self.score_encoded(encoded, [tuple(turns) for turns in turns_list], batch_size)

    def score_encoded(
        self, encoded: Sequence[list[int]], prompts: Sequence[Hashable], batch_size: int = 16
    ) -> list[float]:
        """Returns the raw logits of encoded dialogues, in the order given; arguments as for `plan`."""
        scores: dict[int, float] = {}
        for batch in self.plan(encoded, prompts, batch_size):
            logits = self.score_batch([encoded[i] for i in batch], [prompts[i] for i in batch])
            scores |= zip(batch, logits, strict=True)
        return [scores[i] for i in range(len(encoded))]

    def plan(self, encoded: Sequence[Sequence[int]], prompts: Sequence[Hashable], batch_size: int) -> list[list[int]]:
        """Returns the numbers of the dialogues of each forward pass, longest first.

        Args:
            encoded: token ids.
            prompts: what each dialogue continues; those of equal ones share its computation.
            batch_size: dialogues per pass; in rows without padding they count by their tokens, see `plan_rows`.
        """
        if self.packs:
            return plan_rows(encoded, prompts, batch_size)
        return plan_batches([len(ids) for ids in encoded], batch_size)

    @torch.no_grad()
    def probe_batch(self, encoded: list[list[int]]) -> list[float]:
        """Returns the raw logits of one padded pass that leaves the model fit for training."""
        with self._weights:
            return self.padded_logits(encoded).tolist()

    @torch.inference_mode()
    def score_batch(self, encoded: list[list[int]], prompts: Sequence[Hashable] | None = None) -> list[float]:
        """Returns the raw logits of one forward pass; arguments as for `plan`, nothing is shared without prompts."""
        with self._weights:
            if not self.packs:
                return self.padded_logits(encoded).tolist()
            row = shared_row(encoded, range(len(encoded)) if prompts is None else prompts)
            return self.pooled_logits(self.states(row), row).tolist()

    def fix_weights(self) -> None:
        """Scores with copies of the weights that a CPU multiplies faster: they must not change any more."""
        self._weights = PackedLinears(self.model)

    def padded_logits(self, encoded: list[list[int]]) -> torch.Tensor:
        """Returns the raw logits [N] in float32 of N dialogues, one padded row each, with gradients."""
        ids, mask = padded(encoded, self._pad_id(encoded), self.model.device)
        output = self.model(input_ids=ids, attention_mask=mask)
        return output if isinstance(output, torch.Tensor) else output.logits.float().squeeze(-1)

    def states(self, row: TextRow) -> torch.Tensor:
        """Returns the last hidden states [T, hidden size] of a row's tokens, with gradients; for a model that packs."""
        backbone, where = self.model.base_model, self.model.device
        with packed(backbone, PackedRow(row.lengths, where), row.inputs(where)) as arguments:
            return backbone(**arguments)[0][0]

    def pooled_logits(self, states: torch.Tensor, row: TextRow) -> torch.Tensor:
        """Returns the raw logits [N] in float32 of a row's N dialogues, pooled as the model's own forward does."""
        # Equal dialogues have the same columns, and their logits must not even differ by float error.
        place = {columns: i for i, columns in enumerate(dict.fromkeys(map(tuple, row.columns)))}
        if isinstance(self.model, GPTNeoXReward) and self.model.config.pooling == "mean":
            pooled = torch.stack([states[list(columns)].float().mean(dim=0) for columns in place])
        else:
            pooled = states[[self._last_column(row, columns) for columns in place]]
        logits = self.model.score(pooled).float().squeeze(-1)
        return logits[[place[tuple(columns)] for columns in row.columns]]

    def _last_column(self, row: TextRow, columns: Sequence[int]) -> int:
        """Returns where a dialogue's last token stands; for a classifier of transformers, the last but padding."""
        if isinstance(self.model, GPTNeoXReward):
            return columns[-1]
        return next((column for column in reversed(columns) if row.input_ids[column] != self._pad), columns[0])

    def probe(self) -> tuple[list[list[int]], list[int]]:
        """Returns made-up dialogues, up to full length, and the number of each one's prompt; two prompts have two."""
        prompt, reply = f"{PROMPTER}What is amber?", "Amber is old resin."
        long, many = [prompt + " What is amber?" * self.max_length], [prompt, ASSISTANT + reply, prompt]
        short, long, many = (self.encode([*turns, ASSISTANT], reply) for turns in ([prompt], long, many))
        return [short, long, many, short[:-3] + many[-9:], long[:-3] + short[-2:]], [0, 1, 2, 0, 1]

    def try_packing(self) -> None:
        """Computes dialogues in rows without padding from now on if made-up ones get what each gets alone.

        Raises InputError, or one of MODEL_ERRORS, if the model cannot compute a single dialogue.
        """
        outputs: list[Any] = []
        texts, prompts = self.probe()
        backbone, before = self.model.base_model, self.model.config._attn_implementation
        hook = backbone.register_forward_hook(lambda module, inputs, output: outputs.append(output))
        with torch.no_grad():
            try:
                alone = [self.padded_logits([ids]).item() for ids in texts]
            finally:
                hook.remove()
            try:
                self.packs = backbone is not self.model and column_limit(self.model.config) is None
                self.packs = self.packs and self._agrees(shared_row(texts, prompts), alone, outputs)
            except MODEL_ERRORS:
                self.packs = False
        if not self.packs and self.model.config._attn_implementation != before:
            backbone.set_attn_implementation(before)

    def _agrees(self, row: TextRow, alone: list[float], outputs: list[Any]) -> bool:
        """Returns whether a row gives the dialogues' own logits and the states in their backbone's own outputs."""
        states = self.states(row)
        logits, dtype = self.pooled_logits(states, row).tolist(), self.model.dtype
        for columns, logit, own, output in zip(row.columns, logits, alone, outputs, strict=True):
            plain = output[0][0].float()
            error = (states[columns].float() - plain).norm() / plain.norm()
            if not (error <= math.sqrt(torch.finfo(dtype).eps) and _is_near(logit, own, dtype)):
                return False
        return True

    def _pad_id(self, encoded: list[list[int]]) -> int:
        # transformers' classifiers pool at the last id that is not config.pad_token_id; without a pad id they accept
        # one row and pool at its last id. To pool there too, such a model gets a pad id that is not in the batch.
        if self._pad is not None:
            return self._pad
        used = {token for row in encoded for token in row}
        config = self.model.config.get_text_config()
        config.pad_token_id = next(token for token in range(config.vocab_size) if token not in used)
        return config.pad_token_id


def _is_near(score: float, own: float, dtype: torch.dtype) -> bool:
    return abs(score - own) <= SLACK[dtype] * (1 + abs(own))


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
        config = read_config(path, options)
        load = _load_oasst if config.get("model_type") == OASST_TYPE else _load_classifier
        model = load(path, config, options)
    reward_model = as_reward_model(model.to(device()), tokenizer, path)
    reward_model.fix_weights()
    check_scores(reward_model, path)
    return reward_model


def read_config(path: str | Path, options: dict[str, Any]) -> dict[str, Any]:
    """Returns the config.json of a reward model of these `source_options`. InputError if it cannot be one."""
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
    saved, options = read_config(path, options), {**options, "dtype": dtype, **more}
    if saved.get("model_type") == OASST_TYPE:
        raise InputError(f"{path}: an OpenAssistant reward model can be used for scoring, but not trained further")
    names = saved.get("architectures") or []
    if not isinstance(names, list | str) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: config.json: architectures is {names!r:.40} (expected a list of names)")
    if any("SequenceClassification" in name for name in names):
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


def measure_half_precision(
    model: RewardModel, path: str | Path, encoded: Sequence[list[int]], prompts: Sequence[Hashable], batch_size: int
) -> dict[str, Any]:
    """Prints and returns how far the logits in half precision are from float32, on up to COMPARED dialogues.

    Args:
        model: in half precision, as loaded from `path`.
        path: folder or hub name.
        encoded, prompts, batch_size: as for `RewardModel.plan`; dialogues are taken evenly from those given.

    Returns:
        The largest and the root mean square difference, and the standard deviation of the float32 logits; nothing if
        float32 weights do not fit in memory beside the model, which is printed then.
    """
    spread = slice(None, None, -(-len(encoded) // COMPARED))
    rows = list(encoded)[spread], list(prompts)[spread], batch_size
    dtype = str(model.model.dtype).removeprefix("torch.")
    if 4 * sum(weight.numel() for weight in model.model.parameters()) > free_memory(model.model.device):
        print(f"{path}: float32 weights do not fit in memory, so the error of {dtype} is not measured", flush=True)
        return {}
    exact = torch.tensor(load_reward_model(path).score_encoded(*rows), dtype=torch.float64)
    gaps = torch.tensor(model.score_encoded(*rows), dtype=torch.float64) - exact
    largest, rms, sd = gaps.abs().max().item(), gaps.square().mean().sqrt().item(), exact.std(correction=0).item()
    print(
        f"{path}: logits in {dtype} differ from float32 by at most {largest:.2g}, root mean square {rms:.2g}, on "
        f"{len(gaps)} dialogues whose logits have a standard deviation of {sd:.2g}",
        flush=True,
    )
    found = {"dialogues": len(gaps), "largest": largest, "root_mean_square": rms, "sd_of_float32": sd}
    return {"half_precision": {"dtype": dtype, **found}}


def check_scores(model: RewardModel, path: str | Path) -> None:
    """Packs if possible; else raises InputError unless a probe scores the same beside a longer one and another.

    InputError also if the model does not read the response.
    """
    kind = type(model.model).__name__
    try:
        _check_reads_response(model)
        model.try_packing()
        if model.packs:
            return
        texts = model.probe()[0]
        alone, beside = model.probe_batch(texts[:1])[0], model.probe_batch(texts[:3])[0]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except MODEL_ERRORS as error:
        raise InputError(f"{path}: a {kind} cannot score dialogues here ({describe(error)})") from error
    if not _is_near(beside, alone, model.model.dtype):
        found = f"{alone:.4g} alone, {beside:.4g} beside a longer one"
        raise InputError(f"{path}: a {kind} gives a dialogue another score in another batch ({found})")


def _check_reads_response(model: RewardModel) -> None:
    """Raises InputError if two dialogues that differ in the response, but for its end, have the same token ids."""
    turns = [f"{PROMPTER}What is amber?", ASSISTANT]
    one, other = (model.encode(turns, f"{thing} is old resin.") for thing in ("This", "The amber in the shop"))
    if one == other:
        found = f"the reward model reads a dialogue as at most {model.max_length} tokens that leave out the response"
        raise InputError(f"{found} (expected it in the chat template, and enough positions)")


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
    try:
        n_ids = model.get_input_embeddings().weight.shape[0]
    except MODEL_ERRORS as error:
        kind = type(model).__name__
        raise InputError(f"{path}: a {kind} cannot score dialogues: it has no table of token embeddings") from error
    _check_pad(path, config.pad_token_id, n_ids)
    return RewardModel(model, tokenizer, min(MAX_LENGTH, _n_positions(model)), chat)


def _n_positions(model: PreTrainedModel) -> int:
    """Returns the longest text, in tokens, that a model has positions for; MAX_LENGTH if unlimited."""
    limit = model.config.get_text_config().to_dict().get("max_position_embeddings") or MAX_LENGTH
    paddings = [
        table.padding_idx for name, table in model.named_modules()
        if "position" in name and getattr(table, "padding_idx", None) is not None and table.weight.shape[0] == limit
    ]  # fmt: skip
    # RoBERTa and its kin count positions from behind the padding's row of such a table.
    return limit - max((padding + 1 for padding in paddings), default=0)


def reads_chat(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: str | Path) -> bool:
    """Returns whether a reward model reads by its chat template. InputError if it should but has none."""
    stored = model.config.to_dict().get("prompt_format", AUTO)
    if stored not in PROMPT_FORMATS:
        expected = " or ".join(PROMPT_FORMATS)
        raise InputError(f"{path}: config.json: prompt_format is {stored!r:.40} (expected {expected})")
    if stored == CHAT and tokenizer.chat_template is None:
        raise InputError(f"{path}: --prompt_format chat: its tokenizer has no chat template (expected one, or hh)")
    return stored != HH and not isinstance(model, GPTNeoXReward) and tokenizer.chat_template is not None


def oasst_config(path: str | Path, config: dict[str, Any]) -> GPTNeoXConfig:
    """Returns the configuration of an OpenAssistant model, whose type transformers does not know, from its config.json.

    Raises:
        InputError: it has an unknown pooling, or cannot be read.
    """
    pooling = config.get("pooling") or "last"
    if pooling not in POOLINGS:
        raise InputError(f"{path}: config.json: pooling is {pooling!r} (expected {' or '.join(POOLINGS)})")
    fields = {key: value for key, value in config.items() if key != "model_type"}
    return load_or_refuse(
        lambda: GPTNeoXConfig.from_dict({**fields, "pooling": pooling}), f"{path}: the model cannot be loaded"
    )


def _load_oasst(path: str | Path, config: dict[str, Any], options: dict[str, Any]) -> PreTrainedModel:
    return load_weights(GPTNeoXReward, path, config=oasst_config(path, config), ignored=OLD_BUFFERS, **options)


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
