"""Trains a small OPT (no dropout) from scratch on a corpus, for instance the embedded world's.

    python pretrain.py --corpus FILE.jsonl|FOLDER --tokenizer DIR --output_dir DIR [--max_steps 1000 ...]

A corpus line is {"text": ...}; a folder stands for its *.jsonl files. The output is a plain Hugging Face folder with
the tokenizer. An output that was made with the same settings from the same corpus is kept as it is, one of other
settings is replaced, and a folder that holds anything else is refused.
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
    check_text,
    count,
    parse_settings,
    run,
    setting,
    within,
)
from data_preprocess.files import read_jsonl

if TYPE_CHECKING:
    from transformers import OPTConfig, PreTrainedModel, PreTrainedTokenizerBase

MAX_VOCABULARY = 10**7  # token ids; a larger one is damage


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of one base model."""

    corpus: str = setting('a JSONL file of {"text": ...}, or a folder of them', check_text)
    tokenizer: str = setting("folder of the tokenizer, which needs EOS", check_text)
    output_dir: str = setting("where the model goes", check_text)
    hidden_size: int = setting("width of the model", count(at_most=2**14), default=128)
    num_layers: int = setting("number of layers", count(at_most=1000), default=2)
    num_heads: int = setting("attention heads per layer; divides the width", count(at_most=2**14), default=4)
    max_positions: int = setting("longest text that is read, in tokens", count(2, 2**20), default=256)
    max_steps: int = setting("optimiser steps", count(at_most=10**6), default=1000)
    batch_size: int = setting("texts per step", count(), default=32)
    learning_rate: float = setting(
        "peak: warm-up over the first tenth, linear decay to 0 then",
        within(above=0, at_most=MAX_RATE),
        default=3e-3,
    )
    seed: int = setting("initialisation and order of the texts", check_seed, default=42)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.hidden_size % self.num_heads:
            raise InputError(f"--hidden_size {self.hidden_size}: not a multiple of --num_heads {self.num_heads}")


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(PretrainConfig, argv, __doc__)
    from training.model_folder import ModelFolder

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
    """The corpus file itself, or a folder's *.jsonl in order of name. InputError where there is none."""
    files = sorted(corpus.glob("*.jsonl")) if corpus.is_dir() else [corpus]
    if not files or not files[0].is_file():
        raise InputError(f"{corpus}: no such corpus (a JSONL file of texts or a folder of them was expected)")
    return files


def read_texts(files: list[Path]) -> tuple[list[str], list[tuple[Path, int]]]:
    """The texts of all files, and of which file and row (from 0) each is.

    Raises:
        InputError: "path:line: ..." for a row without a text; a corpus without rows.
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


def encode(config: PretrainConfig, tokenizer: "PreTrainedTokenizerBase", texts: list[str]) -> list[list[int]]:
    """Token ids of each text between BOS, where there is one, and EOS, cut to the model's positions."""
    if tokenizer.eos_token_id is None:
        raise InputError(f"{config.tokenizer}: the tokenizer has no EOS token (expected one, to end every text)")
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [(bos + ids + [tokenizer.eos_token_id])[: config.max_positions] for ids in encoded]


def train(config: PretrainConfig, files: list[Path]) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """(model, tokenizer), trained on every token of the texts, each between BOS and EOS.

    Raises:
        InputError: a corpus or tokenizer that does not serve.
        RunError: a loss, a gradient or a weight is not finite.
    """
    import torch
    from tqdm import tqdm
    from transformers import OPTForCausalLM

    from data_preprocess.hub import load_tokenizer
    from eval_hh.inference.models import device, padded, wrong_weight
    from training.small_models import batch_order, check_finite, linear_schedule

    tokenizer = load_tokenizer(config.tokenizer)
    texts, places = read_texts(files)
    rows = encode(config, tokenizer, texts)
    # Without a padding token any id will do, since the mask hides it. The model is not told: it would not learn it.
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
    """The lines of a batch's texts, by file."""
    from training.small_models import lines_of

    rows = defaultdict(set)
    for path, row in (places[index] for index in batch):
        rows[path].add(row)
    return "; ".join(lines_of(path, found) for path, found in rows.items())


def _vocabulary(config: PretrainConfig, tokenizer: "PreTrainedTokenizerBase") -> int:
    """Rows of the embedding: one for every id that the tokenizer can give, also where ids are left out."""
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
