"""Trains a small OPT (no dropout) from scratch on a corpus, for instance the embedded world's.

    python pretrain.py --corpus FILE.jsonl|FOLDER --tokenizer DIR --output_dir DIR [--max_steps 1000 ...]

A corpus line is {"text": ...}; a folder stands for its *.jsonl files. The output is a plain Hugging Face folder with
the tokenizer. An output that was made with the same settings from the same corpus is kept as it is.
"""

import argparse
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import InputError, run
from data_preprocess.files import read_jsonl


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of one base model."""

    corpus: str  # a JSONL file of {"text": ...}, or a folder of them
    tokenizer: str  # folder of the tokenizer, which needs EOS and a padding token
    output_dir: str  # where the model goes
    hidden_size: int = 128  # width of the model
    num_layers: int = 2  # number of layers
    num_heads: int = 4  # attention heads per layer; divides the width
    max_positions: int = 256  # the longest text that the model can read, in tokens
    max_steps: int = 1000  # optimiser steps
    batch_size: int = 32  # texts per step
    learning_rate: float = 3e-3  # peak, after a warm-up over the first tenth and before a linear decay to 0
    seed: int = 42  # initialisation and order of the texts

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads:
            raise InputError(f"--hidden_size {self.hidden_size}: not a multiple of --num_heads {self.num_heads}")
        if min(self.max_steps, self.batch_size, self.num_layers) < 1:
            raise InputError("--max_steps, --batch_size and --num_layers: at least 1 was expected")


def parse_args(argv: list[str] | None = None) -> PretrainConfig:
    """The settings of a command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("corpus", "tokenizer", "output_dir"):
        parser.add_argument(f"--{name}", required=True)
    for field in fields(PretrainConfig)[3:]:
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    return PretrainConfig(**vars(parser.parse_args(argv)))


def main(argv: list[str] | None = None) -> None:
    config = parse_args(argv)
    from training.small_models import finished, save_folder

    files = corpus_files(Path(config.corpus))
    settings = asdict(config)
    if finished(Path(config.output_dir), settings, files):
        print(f"{config.output_dir}: already trained with these settings")
        return
    model, tokenizer = train(config, files)
    save_folder(Path(config.output_dir), model, tokenizer, settings, files)
    print(f"{config.output_dir}: {sum(p.numel() for p in model.parameters()):,} parameters")


def corpus_files(corpus: Path) -> list[Path]:
    """The corpus file itself, or a folder's *.jsonl in order of name. InputError where there is none."""
    files = sorted(corpus.glob("*.jsonl")) if corpus.is_dir() else [corpus]
    if not files or not files[0].is_file():
        raise InputError(f"{corpus}: no such corpus (a JSONL file of texts or a folder of them was expected)")
    return files


def read_texts(files: list[Path]) -> list[str]:
    """The texts of all files; InputError "path:line: ..." for a row without one."""
    texts = []
    for path in files:
        for number, row in read_jsonl(path):
            if not isinstance(row.get("text"), str):
                raise InputError(f'{path}:{number}: no text (expected {{"text": ...}})')
            texts.append(row["text"])
    return texts


def train(config: PretrainConfig, files: list[Path]):
    """(model, tokenizer), trained on every token of the texts, each between BOS and EOS."""
    import torch
    from tqdm import tqdm
    from transformers import OPTConfig, OPTForCausalLM

    from eval_hh.models import device, load_tokenizer
    from training.small_models import batch_order, linear_schedule, padded

    tokenizer = load_tokenizer(config.tokenizer)
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    encoded = tokenizer(read_texts(files), add_special_tokens=False)["input_ids"]
    rows = [(bos + ids + [tokenizer.eos_token_id])[: config.max_positions] for ids in encoded]
    torch.manual_seed(config.seed)
    model = OPTForCausalLM(_opt_config(OPTConfig, config, tokenizer)).to(device())
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    schedule = linear_schedule(optimizer, config.max_steps)
    batches = batch_order([len(row) for row in rows], config.batch_size, config.max_steps, config.seed)
    model.train()
    bar = tqdm(batches, desc="pretraining", unit="step", mininterval=5.0)
    for batch in bar:
        input_ids, mask = padded([rows[i] for i in batch], tokenizer.pad_token_id, model.device)
        labels = input_ids.masked_fill(mask == 0, -100)
        loss = model(input_ids=input_ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return model.eval(), tokenizer


def _opt_config(opt_config_class, config: PretrainConfig, tokenizer):
    return opt_config_class(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        word_embed_proj_dim=config.hidden_size,
        ffn_dim=4 * config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        max_position_embeddings=config.max_positions,
        dropout=0.0,
        attention_dropout=0.0,
        init_std=config.hidden_size**-0.5 / 2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="sdpa",
    )


if __name__ == "__main__":
    run(main)
