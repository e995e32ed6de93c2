"""Trains a small reward model on rankings (Bradley-Terry over all pairs) and prints its accuracy on held-out ones.

    python train_reward.py --train_file FILE --heldout_file FILE --tokenizer DIR --output_dir DIR
    python train_reward.py --train_file FILE --heldout_file FILE --model_name_or_path DIR --output_dir DIR

With --tokenizer a GPT-NeoX is trained from scratch, with --model_name_or_path an existing reward model goes on. From
scratch it also learns to predict the tokens of best responses (--lm_weight): without that it takes far longer to find
out which fact belongs to which thing. A text is read as "<|role|>text" + EOS per turn, the response behind the last
tag. The output is a folder that AutoModelForSequenceClassification reads, with metrics.json. An output that was made
with the same settings from the same files is kept as it is.
"""

import argparse
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.files import InputError, read_json, run
from data_preprocess.records import Record, load_records

if TYPE_CHECKING:
    import torch

MAX_POSITIONS = 1024  # the longest text that a model from scratch reads; dialogues are cut from the left to it


@dataclass(frozen=True)
class RewardConfig:
    """Settings of one reward model."""

    train_file: str  # rankings, best first
    heldout_file: str  # rankings that the accuracy is measured on
    output_dir: str  # where the model goes
    tokenizer: str = ""  # folder of a tokenizer: train from scratch
    model_name_or_path: str = ""  # folder of a reward model with its tokenizer: train it further
    hidden_size: int = 64  # width of a model from scratch
    num_layers: int = 4  # its layers
    num_heads: int = 4  # its attention heads per layer; divides the width
    max_steps: int = 1200  # optimiser steps
    batch_size: int = 8  # rankings per step
    learning_rate: float = 3e-3  # peak, after a warm-up over the first tenth and before a linear decay to 0
    lm_weight: float = 2.0  # from scratch: weight of predicting the best response's tokens, which builds features
    seed: int = 42  # initialisation and order of the rankings

    def __post_init__(self) -> None:
        if bool(self.tokenizer) == bool(self.model_name_or_path):
            raise InputError("--tokenizer (from scratch) or --model_name_or_path (go on): one of the two was expected")
        if self.hidden_size % self.num_heads:
            raise InputError(f"--hidden_size {self.hidden_size}: not a multiple of --num_heads {self.num_heads}")
        if min(self.max_steps, self.batch_size, self.num_layers) < 1:
            raise InputError("--max_steps, --batch_size and --num_layers: at least 1 was expected")


def parse_args(argv: list[str] | None = None) -> RewardConfig:
    """The settings of a command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("train_file", "heldout_file", "output_dir"):
        parser.add_argument(f"--{name}", required=True)
    for field in fields(RewardConfig)[3:]:
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    return RewardConfig(**vars(parser.parse_args(argv)))


def main(argv: list[str] | None = None) -> None:
    config = parse_args(argv)
    output = Path(config.output_dir)
    train_rows, heldout_rows = load_records(config.train_file), load_records(config.heldout_file)
    from training.small_models import METRICS_FILE, finished, save_folder

    settings, inputs = asdict(config), [Path(config.train_file), Path(config.heldout_file)]
    if finished(output, settings, inputs):
        print(f"{output}: already trained with these settings")
        print_metrics(read_json(output / METRICS_FILE))
        return
    model, tokenizer = train(config, train_rows)
    metrics = evaluate(model, tokenizer, heldout_rows)
    save_folder(output, model, tokenizer, settings, inputs, metrics)
    print_metrics(metrics)


def print_metrics(metrics: dict) -> None:
    """One line: the held-out accuracy and what it was measured on."""
    print(f"held-out pair accuracy {metrics['pair_accuracy']:.3f} ({metrics['pairs']} pairs of {metrics['rankings']})")


def bradley_terry_loss(scores: "torch.Tensor", rewards: "torch.Tensor") -> "torch.Tensor":
    """Minus the mean log-probability of the human order over all pairs, P(i over j) = sigmoid(s_i - s_j).

    Args:
        scores: [B, K] the model's logits.
        rewards: [B, K] the annotator's, in any order; only which of two is larger counts, equal ones are no pair.

    Returns:
        A scalar: the mean over all pairs of all rankings, 0 where there is none.
    """
    import torch.nn.functional as F

    gaps = scores.float().unsqueeze(2) - scores.float().unsqueeze(1)
    preferred = rewards.unsqueeze(2) > rewards.unsqueeze(1)
    return (F.softplus(-gaps) * preferred).sum() / preferred.sum().clamp(min=1)


def next_token_loss(
    hidden: "torch.Tensor", embeddings: "torch.Tensor", input_ids: "torch.Tensor", mask: "torch.Tensor"
) -> "torch.Tensor":
    """Mean cross-entropy of every real token given those before it, with the embeddings as the output layer.

    Args:
        hidden: [B, L, H] the last layer's states.
        embeddings: [V, H].
        input_ids, mask: [B, L], padded on the right.
    """
    import torch.nn.functional as F

    real = mask[:, 1:].bool()
    return F.cross_entropy((hidden[:, :-1][real] @ embeddings.T).float(), input_ids[:, 1:][real])


def pair_accuracy(scores: list[list[float]], rewards: list[list[float]]) -> tuple[int, int]:
    """(pairs that the scores order as the rewards do, all pairs with different rewards); a tie of scores is wrong."""
    right = total = 0
    for row_scores, row_rewards in zip(scores, rewards, strict=True):
        for i, better in enumerate(row_rewards):
            for j, worse in enumerate(row_rewards):
                total += better > worse
                right += better > worse and row_scores[i] > row_scores[j]
    return right, total


def train(config: RewardConfig, records: list[Record]):
    """(model, tokenizer). A batch's texts, rankings of any length, go through the model together."""
    import torch
    from tqdm import tqdm

    from eval_hh.models import device
    from eval_hh.reward_model import encode_dialogue
    from training.small_models import batch_order, linear_schedule, padded

    torch.manual_seed(config.seed)
    model, tokenizer = _start(config)
    model = model.to(device()).train()
    encoded = [[encode_dialogue(tokenizer, r.prefix, text) for text in r.suffix] for r in records]
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    schedule = linear_schedule(optimizer, config.max_steps)
    lengths = [max(map(len, texts)) for texts in encoded]
    batches = batch_order(lengths, config.batch_size, config.max_steps, config.seed)
    # A model that already judges texts needs no help to find its features.
    lm_weight = 0.0 if config.model_name_or_path else config.lm_weight
    bar = tqdm(batches, desc="reward model", unit="step", mininterval=5.0)
    for batch in bar:
        ids, mask = padded([text for i in batch for text in encoded[i]], model.config.pad_token_id, model.device)
        output = model(input_ids=ids, attention_mask=mask, output_hidden_states=bool(lm_weight))
        loss = bradley_terry_loss(*_as_rows(output.logits.squeeze(-1), [records[i].reward for i in batch]))
        if lm_weight:
            best = _first_rows([len(encoded[i]) for i in batch])
            embeddings = model.get_input_embeddings().weight
            lm_loss = next_token_loss(output.hidden_states[-1][best], embeddings, ids[best], mask[best])
            loss = loss + lm_weight * lm_loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return model.eval(), tokenizer


def _first_rows(ranking_lens: list[int]) -> list[int]:
    """Where each ranking's best response is among the texts of a batch."""
    return [sum(ranking_lens[:i]) for i in range(len(ranking_lens))]


def _as_rows(logits: "torch.Tensor", rewards: list[list[float]]) -> "tuple[torch.Tensor, torch.Tensor]":
    """(scores, rewards), both [B, K] with K the longest ranking's; a shorter one is filled with copies of its last.

    A copy ties with the response that it copies, but would count twice against the others: it gets the reward NaN,
    which is neither more nor less than any.
    """
    import torch

    ranking_len = max(map(len, rewards))
    index, values, start = [], [], 0
    for row in rewards:
        extra = ranking_len - len(row)
        index += [*range(start, start + len(row)), *[start + len(row) - 1] * extra]
        values.append(row + [float("nan")] * extra)
        start += len(row)
    scores = logits[torch.tensor(index, device=logits.device)].view(len(rewards), ranking_len)
    return scores, torch.tensor(values, device=logits.device)


def evaluate(model, tokenizer, records: list[Record]) -> dict:
    """Accuracy of the model's order over all pairs of the rankings."""
    from eval_hh.reward_model import MAX_LENGTH, RewardModel

    scorer = RewardModel(model, tokenizer, MAX_LENGTH, chat=False)
    pairs = [(record.prefix, text) for record in records for text in record.suffix]
    flat = iter(scorer.score([turns for turns, _ in pairs], [text for _, text in pairs], batch_size=64))
    scores = [[next(flat) for _ in record.suffix] for record in records]
    right, total = pair_accuracy(scores, [record.reward for record in records])
    if not total:
        raise InputError("--heldout_file: no two responses of a ranking differ in reward")
    return {"pair_accuracy": right / total, "pairs": total, "rankings": len(records)}


def _start(config: RewardConfig):
    """The model to begin with and its tokenizer."""
    from transformers import AutoModelForSequenceClassification, GPTNeoXConfig, GPTNeoXForSequenceClassification

    from eval_hh.models import load_tokenizer, load_weights, source_options

    tokenizer = load_tokenizer(config.tokenizer or config.model_name_or_path)
    if config.model_name_or_path:
        options = source_options(config.model_name_or_path)
        model = load_weights(AutoModelForSequenceClassification, config.model_name_or_path, **options)
        if model.config.num_labels != 1 or model.config.pad_token_id is None:
            raise InputError(f"{config.model_name_or_path}: one label and a pad_token_id were expected")
        return model, tokenizer
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
    ), tokenizer  # fmt: skip


if __name__ == "__main__":
    run(main)
