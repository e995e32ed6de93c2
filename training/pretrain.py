"""Trains a small OPT (no dropout) from scratch on a corpus, for instance that of the embedded world.

    python pretrain.py --corpus FILE.jsonl|FOLDER --tokenizer DIR --output_dir DIR [--max_steps 1000 ...]

A corpus line is {"text": ...}; a folder stands for its *.jsonl files. The output is a plain Hugging Face folder with
the tokenizer. An existing output with the same settings and corpus is kept, one with other settings is replaced, and a
folder that holds anything else is refused.
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import (
    MAX_RATE,
    InputError,
    RunError,
    check_seed,
    check_settings,
    count,
    parse_settings,
    run,
    setting,
    within,
)
from data_preprocess.files import at_line, read_jsonl

if TYPE_CHECKING:
    from transformers import OPTConfig, PreTrainedModel, PreTrainedTokenizerBase

MAX_VOCABULARY = 10**7  # larger token ids mean a damaged tokenizer


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of one base model."""

    corpus: str = setting('JSONL file of {"text": ...}, or a folder of such files')
    tokenizer: str = setting("folder of the tokenizer, which needs an EOS token")
    output_dir: str = setting("output folder of the model")
    hidden_size: int = setting("hidden size", count(at_most=2**14), default=128)
    num_layers: int = setting("number of layers", count(at_most=1000), default=2)
    num_heads: int = setting("attention heads per layer; must divide --hidden_size", count(at_most=2**14), default=4)
    max_positions: int = setting("maximum tokens of a text", count(2, 2**20), default=256)
    max_steps: int = setting("optimiser steps", count(at_most=10**6), default=1000)
    batch_size: int = setting("texts per step", default=32)
    learning_rate: float = setting(
        "peak learning rate: warm-up over the first tenth of the steps, then linear decay to 0",
        within(above=0, at_most=MAX_RATE),
        default=3e-3,
    )
    seed: int = setting("seed of the initialisation and the text order", check_seed, default=42)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.hidden_size % self.num_heads:
            raise InputError(f"--hidden_size {self.hidden_size}: not a multiple of --num_heads {self.num_heads}")


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(PretrainConfig, argv, __doc__)
    from training.saving.model_folder import ModelFolder

    files = corpus_files(Path(config.corpus))
    output = ModelFolder(config.output_dir, "pretrain.py", asdict(config), files)
    output.clear_leftovers()
    if output.is_finished():
        print(f"{config.output_dir}: already trained with these settings")
        return
    output.check_free({"corpus": [config.corpus], "tokenizer": [config.tokenizer]})
    model, tokenizer = train(config, files)

    def save(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    output.write(save)
    print(f"{config.output_dir}: {sum(p.numel() for p in model.parameters()):,} parameters")


def corpus_files(corpus: Path) -> list[Path]:
    """Returns the corpus file, or the *.jsonl files of a folder by name. Raises InputError if there is none."""
    files = sorted(corpus.glob("*.jsonl")) if corpus.is_dir() else [corpus]
    if not files or not files[0].is_file():
        raise InputError(f"{corpus}: no such corpus (expected a JSONL file of texts, or a folder of JSONL files)")
    return files


def read_texts(files: list[Path]) -> tuple[list[str], list[tuple[Path, int]]]:
    """Returns the texts of all files, and the file and row (from 0) of each.

    Raises:
        InputError: "path:line: ..." for a row without a text; or the corpus is empty.
    """
    texts, places = [], []
    for path in files:
        for number, row in read_jsonl(path):
            if not isinstance(row.get("text"), str):
                raise InputError(f'{path}:{number}: no text (expected {{"text": ...}})')
            texts.append(row["text"])
            places.append((path, number - 1))
    if not texts:
        raise InputError(f"{files[0]}: holds no text (expected one per line)")
    return texts, places


def encode(
    config: PretrainConfig, tokenizer: "PreTrainedTokenizerBase", texts: list[str], places: list[tuple[Path, int]]
) -> list[list[int]]:
    """Returns the token ids of each text, with BOS (if there is one) and EOS, truncated to the model's positions.

    Raises:
        InputError: there is no EOS; or, with the place of it, a text cannot be encoded.
    """
    from data_preprocess.hub import tokenized

    if tokenizer.eos_token_id is None:
        raise InputError(f"{config.tokenizer}: the tokenizer has no EOS token (expected one, to end every text)")
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    try:
        rows = tokenized(tokenizer, texts)["input_ids"]
    except InputError:
        for text, (path, row) in zip(texts, places, strict=True):
            with at_line(path, row + 1):
                tokenized(tokenizer, text)
        raise
    return [(bos + ids + [tokenizer.eos_token_id])[: config.max_positions] for ids in rows]


def train(config: PretrainConfig, files: list[Path]) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Trains on every token of the texts, each with BOS and EOS; returns (model, tokenizer).

    Raises:
        InputError: the corpus or the tokenizer cannot be used.
        RunError: a loss, gradient or weight is not finite.
    """
    import torch
    from tqdm import tqdm
    from transformers import OPTForCausalLM

    from data_preprocess.hub import load_tokenizer
    from eval_hh.inference.models import device, padded, wrong_weight
    from training.small_models import batch_order, check_finite, linear_schedule

    tokenizer = load_tokenizer(config.tokenizer)
    texts, places = read_texts(files)
    rows = encode(config, tokenizer, texts, places)
    # Without a padding token EOS serves, since the mask hides it. As the model's own padding it would not be trained.
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    torch.manual_seed(config.seed)
    model = OPTForCausalLM(_opt_config(config, tokenizer)).to(device())
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    schedule = linear_schedule(optimizer, config.max_steps)
    batches = batch_order([len(row) for row in rows], config.batch_size, config.max_steps, config.seed)
    model.train()
    bar = tqdm(batches, desc="pretraining", unit="step", mininterval=5.0)
    for step, batch in enumerate(bar, start=1):
        input_ids, mask = padded([rows[i] for i in batch], pad, model.device)
        labels = input_ids.masked_fill(mask == 0, -100)
        loss = model(input_ids=input_ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        check_finite(step, lambda batch=batch: named(places, batch), loss=loss.item(), gradient_norm=norm.item())
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    if wrong := wrong_weight(model):
        raise RunError(f"step {config.max_steps}: the weights {wrong} are not finite; no model is saved")
    return model.eval(), tokenizer


def named(places: list[tuple[Path, int]], batch: Sequence[int]) -> str:
    """Returns the lines of a batch's texts, by file."""
    from training.small_models import lines_of

    rows = defaultdict(set)
    for path, row in (places[index] for index in batch):
        rows[path].add(row)
    return "; ".join(lines_of(path, found) for path, found in rows.items())


def _vocabulary(config: PretrainConfig, tokenizer: "PreTrainedTokenizerBase") -> int:
    """Returns the number of embedding rows: the largest token id plus one, since ids may have gaps."""
    size = max([len(tokenizer), *(token_id + 1 for token_id in tokenizer.get_vocab().values())])
    if size > MAX_VOCABULARY:
        raise InputError(f"{config.tokenizer}: the tokenizer has an id of {size - 1} (expected below {MAX_VOCABULARY})")
    return size


def _opt_config(config: PretrainConfig, tokenizer: "PreTrainedTokenizerBase") -> "OPTConfig":
    from transformers import OPTConfig

    width = config.hidden_size
    return OPTConfig(
        vocab_size=_vocabulary(config, tokenizer), max_position_embeddings=config.max_positions, hidden_size=width,
        word_embed_proj_dim=width, ffn_dim=4 * width, num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads, init_std=width**-0.5 / 2, dropout=0.0, attention_dropout=0.0,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        attn_implementation="sdpa",
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
