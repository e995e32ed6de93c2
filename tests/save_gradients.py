"""Run in one process or several: the gradients of a run's first step, as its first process sees them, to a file."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import parse_settings
from training.config import TrainConfig
from training.losses import pro_loss
from training.main import load_rankings
from training.trainer import Trainer, make_accelerator

if __name__ == "__main__":
    target, *argv = sys.argv[1:]
    config = parse_settings(TrainConfig, argv, "")
    accelerator = make_accelerator(config)
    trainer = Trainer(config, accelerator, load_rankings(config), began=0.0)
    for _, batch in trainer._micro_batches(1):
        with accelerator.accumulate(trainer.model):
            sums, counts = trainer.model(batch)
            accelerator.backward(pro_loss(sums, counts, batch["rewards"]).total)
    if accelerator.is_main_process:
        model = accelerator.unwrap_model(trainer.model)
        torch.save({name: p.grad for name, p in model.named_parameters() if p.grad is not None}, target)
    accelerator.end_training()
