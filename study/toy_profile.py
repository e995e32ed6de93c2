"""The small study on the embedded world: its grid and the settings of its models and cells."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from data_preprocess.command import study_root
from data_preprocess.toy_world.world import WorldConfig, world_hash
from study.grid import Grid


@dataclass(frozen=True)
class ToyProfile:
    """The grid and the settings of its models and cells."""

    grid: Grid
    pretrain: tuple[str, ...]  # flags of pretrain.py
    train_reward: tuple[str, ...]  # flags of train_reward.py
    train: tuple[str, ...]  # flags of main.py, the same for every cell
    max_new_tokens: int
    eval_batch_size: int
    world: WorldConfig = WorldConfig()  # noqa: RUF009 (frozen)

    def root(self) -> Path:
        """Returns runs/toy-<hash>: one folder for each world and set of settings; cells of any grid share it."""
        how = {name: value for name, value in asdict(self).items() if name != "grid"}
        settings = json.dumps([world_hash(self.world), how], sort_keys=True)
        return study_root() / "runs" / f"toy-{hashlib.sha256(settings.encode()).hexdigest()[:10]}"


# Sampling of answers to added prompts, chosen by how many of a tuned model's answers are distinct, before any training
# on them. With the default temperature 1 and top-p 0.95, 5 of 12 prompts had fewer than four distinct among 16.
AUGMENT = ("--temperature", "1.2", "--top_p", "1")

# Chosen with `--check` and to fit eight minutes on two cores; frozen before different K were compared.
TOY = ToyProfile(
    # N/2, 2N/3, N, a smaller one that is enlarged to N/2, and a larger one, without which the rewards of hundreds of
    # replicates could not tell a line on D from one on log M (eval_hh/calibrate.py).
    grid=Grid(sizes=(48, 120, 160, 240, 960), ranking_lens=(2, 3, 4), fixed_size=120, augmented=(48, 72)),
    pretrain=(),  # the defaults of pretrain.py suit this world
    # Chosen by the accuracy on held-out pairs, 0.77 with the defaults and --lm_weight 2, at about the same time.
    train_reward=("--lm_weight", "4", "--num_layers", "3", "--max_steps", "2000"),
    train=(
        "--global_batch_size", "16", "--per_device_train_batch_size", "16", "--learning_rate", "5e-4",
        "--max_train_steps", "150", "--checkpointing_step", "50", "--block_size", "160", "--max_prompt", "96",
    ),
    max_new_tokens=48,
    eval_batch_size=100,
)  # fmt: skip
