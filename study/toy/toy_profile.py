"""The settings of a study on the embedded world."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from data_preprocess.command import study_root
from data_preprocess.toy_world.world import WorldConfig, world_hash
from study.grid import Study

# Sampling of answers to added prompts, chosen by how many of a tuned model's answers are distinct, before any training
# on them. With the default temperature 1 and top-p 0.95, 5 of 12 prompts had fewer than four distinct among 16.
AUGMENT = ("--temperature", "1.2", "--top_p", "1")


@dataclass(frozen=True, kw_only=True)
class ToyProfile(Study):
    """The settings of the models, the cells and the world."""

    pretrain: tuple[str, ...] = ()  # flags of pretrain.py, whose defaults suit the world
    train_reward: tuple[str, ...]  # flags of train_reward.py
    train: tuple[str, ...]  # flags of main.py, the same for every cell
    max_new_tokens: int
    eval_batch_size: int
    world: WorldConfig

    def root(self) -> Path:
        """Returns runs/NAME-<hash>: one folder for each world and set of settings; cells of any grid share it."""
        how = ("pretrain", "train_reward", "train", "max_new_tokens", "eval_batch_size", "world")
        made_of = asdict(self)
        settings = json.dumps([world_hash(self.world), {name: made_of[name] for name in how}], sort_keys=True)
        return study_root() / "runs" / f"{self.name}-{hashlib.sha256(settings.encode()).hexdigest()[:10]}"
