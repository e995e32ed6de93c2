"""Batched decoding of responses, each up to its end or its first made-up turn; finished rows make room for new ones.

Used by generation.py, by the trainer's validation and, with a sampler, by annotate.py.
"""

import copy
import inspect
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from data_preprocess.command import InputError
from data_preprocess.hub import describe
from eval_hh.inference.kv_slots import SlotCache, read_layers, use_slots
from eval_hh.inference.memory import whole_memory
from eval_hh.inference.models import MAX_PROMPT, MODEL_ERRORS, check_token_ids, position_limit
from eval_hh.inference.packed_weights import PackedLinears
from eval_hh.inference.prompt_format import PromptFormat, PublishedText
from eval_hh.run_paths import MAX_NEW_TOKENS

if TYPE_CHECKING:
    from accelerate import PartialState

REFILL = 8  # new rows start when 1/REFILL of the slots are free: together they cost less than one by one
PROBE_LENGTHS, PROBE_TOKENS = (1, 9, 4), 3  # lengths of made-up prompts, and tokens decoded for each
UNIT = 8  # batches' worth of rows per unit of resumable work, so that there are rows to refill from
PASS_TOKENS = 8192  # of new rows read together: enough for full speed, and their activations stay small
# The batch size where none is given, see `Decoder.batch_size`. On a CPU larger ones gain nothing with packed weights.
BATCH_SIZE, LARGE_BATCHES, CACHE_SHARE = 16, {"cuda": 64}, 4


def plan_batches(lengths: list[int], batch_size: int) -> list[list[int]]:
    """Groups row numbers by length, longest rows first (so that memory runs out at once or never).

    Args:
        lengths: tokens of each row.
        batch_size: maximum rows per batch; all batches but the last are full.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def plan_units(lengths: list[int], batch_size: int) -> list[list[int]]:
    """Like `plan_batches`, with several batches per group: the most decoding that a killed job has to repeat."""
    return plan_batches(lengths, UNIT * batch_size)


@dataclass
class Row:
    """A prompt and the response decoded so far."""

    number: int  # index in the list of prompts
    prompt: list[int]
    response: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Tokens of prompt and response."""
        return len(self.prompt) + len(self.response)

    @property
    def newest(self) -> int:
        """The last token of prompt and response."""
        return self.response[-1] if self.response else self.prompt[-1]


# Chooses the next tokens int64 [B] of B rows from their logits [B, V].
Choose = Callable[[torch.Tensor, list[Row]], torch.Tensor]


def most_likely(logits: torch.Tensor, rows: list[Row]) -> torch.Tensor:
    """Greedy decoding: chooses the token of the largest logit."""
    return logits.argmax(dim=-1)


def eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Returns the tokens that end a response: the tokenizer's EOS and those in the model's settings.

    Raises:
        InputError: the settings contain something other than token ids.
    """
    named = [tokenizer.eos_token_id]
    for settings in (model.generation_config, model.config.get_text_config()):
        value = getattr(settings, "eos_token_id", None)
        named += value if isinstance(value, list | tuple) else [value]
    wrong = [value for value in named if value is not None and type(value) is not int]
    if wrong:
        raise InputError(f"{model.name_or_path}: eos_token_id {wrong[0]!r} (expected a token id, or a list of them)")
    return frozenset(named) - {None}


def settings_with_ends(model: PreTrainedModel, ends: frozenset[int]) -> GenerationConfig:
    """Returns a model's generation settings with these ids as the ends of a response, in a form that can be saved.

    transformers saves settings that contradict themselves, like a temperature without sampling, only while they are
    unchanged. Of such settings the token ids are kept, and the rest, which no greedy decoding reads, is left out.
    """
    settings = copy.deepcopy(model.generation_config)
    settings.eos_token_id = sorted(ends)
    try:
        settings.validate(strict=True)
    except ValueError:
        ids = {name: getattr(settings, name) for name in ("bos_token_id", "pad_token_id")}
        kept = {name: value for name, value in ids.items() if type(value) is int and value >= 0}
        return GenerationConfig(eos_token_id=sorted(ends), **kept)
    return settings


class Decoder:
    """A model and tokenizer ready to decode encoded prompts."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        max_new_tokens: int,
        prompt_format: PromptFormat | None = None,
    ):
        """Raises InputError for an unsupported kind of model or a tokenizer that does not fit the model.

        prompt_format: of this tokenizer; the published text if not given.
        """
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens
        self.format = prompt_format or PublishedText(tokenizer)
        self.eos = eos_ids(model, tokenizer) | self.format.stop_ids
        self.layers = read_layers(model, MAX_PROMPT + max_new_tokens)
        self.new_cache = partial(SlotCache, self.layers, use_slots(model))
        self.positions = position_limit(model.config)
        check_token_ids(tokenizer, model, model.name_or_path, self.format.template_ids)
        forward = inspect.signature(model.forward).parameters
        # Not needed here, and it would be computed from a mask of another layout.
        self.options = {"output_router_logits": False} if "output_router_logits" in forward else {}

    def encode(self, turns: list[str]) -> list[int]:
        """Returns the token ids of a prompt, at most MAX_PROMPT.

        Raises:
            InputError: prompt and response would not fit the model's positions, or the format refuses the dialogue.
        """
        ids = self.format.encode_prompt(turns)
        if self.positions is not None and len(ids) + self.max_new_tokens > self.positions:
            need = f"{len(ids)} prompt tokens and --max_new_tokens {self.max_new_tokens}"
            raise InputError(f"the model has {self.positions} positions, too few for {need}")
        return ids

    @torch.inference_mode()
    def decode(self, prompts: list[list[int]], batch_size: int, choose: Choose = most_likely) -> list[str]:
        """Returns the responses to encoded prompts, stripped, in the order given.

        Decodes up to `batch_size` rows together, longest prompts first. Finished rows leave, and once enough slots are
        free, the next prompts take them. Equal prompts that follow one another, as those of several samples do, are
        read once.

        Args:
            prompts: at least one token each.
            batch_size: number of slots.
            choose: chooses the rows' next tokens; `Row.number` is an index in `prompts`.
        """
        texts = [""] * len(prompts)
        queue = deque(sorted((Row(i, ids) for i, ids in enumerate(prompts)), key=lambda row: -row.length))
        slots = min(batch_size, len(prompts))
        # The last token of a response is never fed to the model.
        cache = self.new_cache(slots, max(map(len, prompts), default=0) + self.max_new_tokens - 1)
        packed = PackedLinears(self.model)
        rows: list[Row] = []
        while queue or rows:
            if queue and slots - len(rows) >= max(1, slots // REFILL):
                new = [queue.popleft() for _ in range(min(slots - len(rows), len(queue)))]
                with packed:
                    self._begin(new, cache, len(rows))
                rows += new
                if queue and queue[0].prompt == new[-1].prompt:
                    cache.keep(len(rows) - 1, new[-1].prompt)
            with packed:
                logits = self._logits(rows, cache)
            # The only GPU synchronisation per step.
            tokens = choose(logits, rows).tolist()
            for row, token in zip(rows, tokens, strict=True):
                row.response.append(token)
            for row in self._leave(rows, cache):
                texts[row.number] = self._text(row.response)
        return texts

    @torch.inference_mode()
    def check(self) -> None:
        """Raises InputError unless made-up rows decoded together get the logits that each gets alone."""
        kind = f"a {self.model.config.model_type} model cannot be decoded here"
        # Rows beyond the windows too: one that the configuration names may be none of the model's.
        for longer in sorted({0, *(window for window in self.layers.windows.values() if window)}):
            try:
                errors = self._probe_errors(longer)
            except MODEL_ERRORS as error:
                raise InputError(f"{kind} ({describe(error)})") from error
            # Half precision is off by hundredths and may route a token to other experts: the median counts.
            error = sorted(errors)[len(errors) // 2]
            if error > math.sqrt(torch.finfo(self.model.dtype).eps):
                found = f"a row among others gets other logits than alone (they differ by {error:.1%})"
                raise InputError(f"{kind}: {found}")

    @torch.inference_mode()
    def batch_size(self, n_rows: int, n_processes: int = 1) -> int:
        """Returns how many rows to decode together where nobody has said it.

        16; on a GPU 64, or as many from 16 on as leave UNIT batches to each process, so that there are rows to refill
        from. No more than the rows whose keys and values fit into a quarter of the memory, see `whole_memory`.

        Args:
            n_rows: to be decoded, by all processes.
            n_processes: that share them.
        """
        where = self.model.device
        probe = self.new_cache(1, 1)
        self._begin([Row(0, [0, 0])], probe, 0)
        row = probe.row_bytes() * (MAX_PROMPT + self.max_new_tokens)
        fitting = int(whole_memory(where) // CACHE_SHARE // row)
        most = LARGE_BATCHES.get(where.type, BATCH_SIZE)
        return max(1, min(most, max(BATCH_SIZE, n_rows // (UNIT * n_processes)), fitting))

    def _probe_errors(self, longer: int) -> list[float]:
        """Returns the relative difference between the logits of made-up rows together and alone, per row and token.

        longer: tokens that each row has more than PROBE_LENGTHS.
        """
        size, generator = self.model.config.get_text_config().vocab_size, torch.Generator().manual_seed(0)
        lengths = [length + longer for length in PROBE_LENGTHS]
        prompts = [torch.randint(size, (length,), generator=generator).tolist() for length in lengths]
        rows = [Row(number, prompt) for number, prompt in enumerate(prompts)]
        cache = self.new_cache(len(rows), max(lengths) + PROBE_TOKENS)
        self._begin(rows, cache, 0)
        errors = []
        for _ in range(PROBE_TOKENS):
            for row, own in zip(rows, self._logits(rows, cache).float(), strict=True):
                ids = torch.tensor([row.prompt + row.response], device=self.model.device)
                alone = self.model(input_ids=ids, use_cache=False).logits[0, -1].float()
                errors.append(((own - alone).norm() / alone.norm()).item())
                row.response.append(int(own.argmax()))
        return errors

    def _begin(self, rows: list[Row], cache: SlotCache, first: int) -> None:
        """Reads new rows' prompts, except their last tokens, which the next step reads, into slots from `first` on."""
        groups = [list(group) for _, group in groupby(rows, key=lambda row: row.prompt)]
        if groups[0][0].prompt == cache.kept:
            again = len(groups.pop(0))
            cache.restore(range(first, first + again))
            first += again
        while groups:
            together = max(1, PASS_TOKENS // max(len(group[0].prompt) for group in groups))
            part, groups = groups[:together], groups[together:]
            self._read(part, cache, first)
            first += sum(map(len, part))

    def _read(self, groups: list[list[Row]], cache: SlotCache, first: int) -> None:
        """Reads each group's prompt, which its rows share, in one pass; arguments else as for `_begin`."""
        where, prompts = self.model.device, [group[0].prompt for group in groups]
        longest = max(map(len, prompts)) - 1
        if not longest:
            return
        # Positions after a row's end are never attended to, so any token can pad them.
        read = [prompt[:-1] + prompt[-1:] * (longest + 1 - len(prompt)) for prompt in prompts]
        ids = torch.tensor(read, device=where)
        cache.begin(first, torch.tensor([n for n, group in enumerate(groups) for _ in group], device=where))
        positions = torch.arange(longest, device=where).expand(ids.shape)
        self.model.base_model(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True)

    def _logits(self, rows: list[Row], cache: SlotCache) -> torch.Tensor:
        """Returns the logits [B, V] of each row's next token, after reading its newest one."""
        where = self.model.device
        positions = torch.tensor([row.length - 1 for row in rows], device=where)
        cache.extend(positions, max(row.length for row in rows))
        output = self.model(
            input_ids=torch.tensor([[row.newest] for row in rows], device=where),
            position_ids=positions.unsqueeze(1),
            attention_mask=cache.mask(),
            past_key_values=cache,
            use_cache=True,
            **self.options,
        )
        return output.logits[:, -1]

    def _leave(self, rows: list[Row], cache: SlotCache) -> list[Row]:
        """Removes and returns the finished rows of `rows`, whose last rows move into their slots."""
        ended = []
        for slot in reversed(range(len(rows))):
            if self._has_ended(rows[slot].response):
                ended.append(rows[slot])
                last = rows.pop()
                if slot < len(rows):
                    # Its newest token is not in the cache yet.
                    cache.move(len(rows), slot, last.length - 1)
                    rows[slot] = last
        return ended

    def _has_ended(self, response: list[int]) -> bool:
        over = response[-1] in self.eos or len(response) == self.max_new_tokens
        return over or self.format.has_ended(response)

    def _text(self, response: list[int]) -> str:
        said = response[:-1] if response[-1] in self.eos else response
        return self.format.text(said)


def agreed_batch_size(given: int | None, decoder: Decoder, n_rows: int, label: str, state: "PartialState") -> int:
    """Returns the batch size given, or else the main process's `Decoder.batch_size`, which is printed."""
    from accelerate.utils import broadcast_object_list

    if given is not None:
        return given
    (size,) = broadcast_object_list([decoder.batch_size(n_rows, state.num_processes)])
    if state.is_main_process:
        print(f"{label}: {size} rows at a time (--batch_size sets another number)")
    return size


def generate(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[list[str]],
    max_new_tokens: int = MAX_NEW_TOKENS, batch_size: int = 16,
) -> list[str]:  # fmt: skip
    """Returns greedy responses to prompts, in the order given.

    Prompts are truncated from the left to 384 tokens. A response ends at EOS, before the first stop string, or after
    `max_new_tokens`, and is stripped. The other prompts affect it only by float error.

    Args:
        model: a causal language model on the device to use.
        tokenizer: its tokenizer.
        prompts: each a list of turns, the last one a bare tag.
        max_new_tokens: maximum tokens per response.
        batch_size: prompts decoded at a time.

    Raises:
        InputError: a prompt and its response would not fit the model's positions, or the kind of model is unsupported.
    """
    decoder = Decoder(model, tokenizer, max_new_tokens)
    return decoder.decode([decoder.encode(turns) for turns in prompts], batch_size)
