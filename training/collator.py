"""Tokenises ranking records, truncates them, and lays them out as shared-prompt batches.

A ranking is the prompt, then its K responses one after another; a batch is one row of concatenated rankings without
padding. The position ids of each response continue from the end of its prompt, so that under
`eval_hh.inference.shared_prompt` each response is computed as if it alone followed the prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

import torch
from transformers import PreTrainedTokenizerBase

from data_preprocess.command import InputError
from data_preprocess.records import Record
from eval_hh.inference.prompt_format import PromptFormat, PublishedText
from eval_hh.inference.shared_prompt import PackedRow
from eval_hh.inference.shared_texts import row_of


@dataclass
class EncodedRanking:
    """Token ids of one ranking; a segment is the part of a response's text after the shared prompt."""

    prompt: list[int]
    segments: list[list[int]]
    n_targets: list[int]  # the last n_targets[k] ids of segment k are the response, i.e. the targets
    rewards: list[float]
    sft_index: int

    def __len__(self) -> int:
        return len(self.prompt) + sum(map(len, self.segments))


class RankingCollator:
    """Turns records into one batch of tensors for `training.losses.response_logps` and `pro_loss`.

    Args:
        tokenizer: a fast tokenizer (offsets are needed).
        ranking_len: K; only the first K responses of a record are used.
        block_size: maximum tokens of the prompt with one response; truncated on the right.
        max_prompt: maximum tokens of the prompt with BOS; truncated on the left.
        append_eos: make EOS, or a chat template's end of turn, a target after every response that was not truncated.
        prompt_format: of this tokenizer; the published text if not given.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        ranking_len: int,
        block_size: int = 512,
        max_prompt: int = 384,
        append_eos: bool = True,
        prompt_format: PromptFormat | None = None,
    ):
        if not 2 <= max_prompt < block_size:
            raise ValueError(f"max_prompt {max_prompt}: expected 2 to block_size - 1 ({block_size - 1})")
        if not tokenizer.is_fast:
            raise InputError(f"{tokenizer.name_or_path}: its tokenizer gives no offsets (expected a fast tokenizer)")
        self.format = prompt_format or PublishedText(tokenizer)
        if append_eos and not self.format.has_end:
            raise InputError(f"{tokenizer.name_or_path}: its tokenizer has no EOS token (hint: --no_append_eos)")
        self.ranking_len = ranking_len
        self.block_size = block_size
        self.max_prompt = max_prompt
        self.append_eos = append_eos

    def __call__(self, records: Sequence[Record]) -> dict[str, torch.Tensor]:
        """Returns a batch of B records, with the keys of `collate`."""
        return collate([self.encode(record) for record in records])

    def encode(self, record: Record) -> EncodedRanking:
        """Returns the token ids of one record.

        Raises:
            ValueError: it has fewer than K responses, sft_index >= K, or the prompt format refuses it.
            InputError: a text cannot be encoded, or has no token.
        """
        if len(record.suffix) < self.ranking_len:
            raise ValueError(f"{len(record.suffix)} responses, ranking_len {self.ranking_len} needs as many")
        if record.sft_index >= self.ranking_len:
            raise ValueError(f"sft_index {record.sft_index} is beyond the first {self.ranking_len} responses")
        pairs = self.format.encode_ranking(
            record.turns, record.suffix[: self.ranking_len], self.max_prompt, self.append_eos
        )
        for number, (prompt, response) in enumerate(pairs):
            if not prompt or not response:  # a tokenizer drops unknown characters: there is nothing to read or to learn
                what = f"suffix[{number}]" if prompt else "the prompt"
                raise InputError(f"{self.format.tokenizer.name_or_path}: its tokenizer makes no token of {what}")
        prompts = [prompt for prompt, _ in pairs]
        responses = [response[: self.block_size - len(prompt)] for prompt, response in pairs]
        # Segments begin where the token ids of the texts diverge, which may be inside the prompt.
        shared = sum(1 for _ in takewhile(lambda ids: len(set(ids)) == 1, zip(*prompts, strict=False)))
        return EncodedRanking(
            prompt=prompts[0][:shared],
            segments=[p[shared:] + r for p, r in zip(prompts, responses, strict=True)],
            n_targets=[len(response) for response in responses],
            rewards=record.reward[: self.ranking_len],
            sft_index=record.sft_index,
        )


def collate(rankings: Sequence[EncodedRanking]) -> dict[str, torch.Tensor]:
    """Returns a batch of B encoded rankings of K responses: one row of T tokens without padding, with N target tokens.

    Returns:
        input_ids, position_ids: [1, T]
        lengths: [B, 1 + K] tokens of each prompt and each of its responses, in row order
        source_index: [N] row position of the hidden state that predicts each target
        target_ids: [N] the target tokens
        response_index: [N] the response of each target, in the flattened [B * K]
        rewards: [B, K] float32
        sft_index: [B]
    """
    row = row_of([(ranking.prompt, ranking.segments) for ranking in rankings])
    n_targets = [n for ranking in rankings for n in ranking.n_targets]
    # The last prompt token predicts the first token of every response, even with other responses in between.
    predicted = [
        pair for columns, n in zip(row.columns, n_targets, strict=True) for pair in list(pairwise(columns))[-n:] if n
    ]
    targets = torch.tensor(n_targets)
    inputs = row.inputs()
    return {
        **inputs,
        "lengths": torch.tensor(row.lengths),
        "source_index": torch.tensor([source for source, _ in predicted]),
        "target_ids": inputs["input_ids"][0, [target for _, target in predicted]],
        "response_index": torch.arange(len(targets)).repeat_interleave(targets),
        "rewards": torch.tensor([ranking.rewards for ranking in rankings], dtype=torch.float32),
        "sft_index": torch.tensor([ranking.sft_index for ranking in rankings]),
    }


def packed_row(batch: dict[str, torch.Tensor]) -> PackedRow:
    """Returns how the row of a collated batch is split, for `eval_hh.inference.shared_prompt.packed`."""
    return PackedRow(batch["lengths"].tolist(), batch["lengths"].device)
