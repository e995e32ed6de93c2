"""reproduce.py on a world and a grid so small that a test can run it several times: `python tiny_study.py FLAGS`."""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import reproduce
from data_preprocess.toy_world.world import WorldConfig
from study.grid import Grid
from study.study_file import built_in
from study.toy import worlds

TOY = built_in("toy")
WORLD = WorldConfig(train_rows=96, dev_rows=8, test_rows=12, reward_rows=40, reward_heldout_rows=20, corpus_lines=200)
SMALL = ("--hidden_size", "16", "--num_layers", "1", "--num_heads", "2", "--max_steps", "4")
PROFILE = replace(
    TOY,
    grid=Grid(
        sizes=(8, 12, 16, 24),
        ranking_lens=(2, 3, 4),
        algorithms=("PRO",),
        fixed_size=12,
        match_kind=True,
        augmented=(8, 4),
    ),
    pretrain=SMALL,
    train_reward=SMALL,
    train=(*TOY.train, "--max_train_steps", "4", "--checkpointing_step", "2"),
    max_new_tokens=6,
    world=WORLD,
)


def main(argv: list[str] | None = None) -> None:
    reproduce.built_in = lambda name: PROFILE
    worlds.SENSITIVITY_WORLDS = {"noise": replace(WORLD, annotator_noise=2.0)}
    reproduce.main(["--profile", "toy", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    reproduce.run(main)
