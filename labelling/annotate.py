"""Builds ranked training data with rewards from a reward model and, optionally, more responses sampled from models.

Run: cd labelling; python annotate.py --raw DIR | --source DATA --reward_model MODEL [--candidates MODEL ...]
         [--endpoint URL --endpoint_model NAME ...] [flags]
     python annotate.py --source PROMPTS --candidates MODEL ... --to_rank FILE [--ranking_len K]
         [--show diverse | --show best_worst|closest --reward_model MODEL]

Reads and writes the same data as data_preprocess/prepare.py: prompts, pairs or rankings become
data/original/hh_train_lenK/train.json, dev and test files and the data card, under STUDY_ROOT, all or nothing. Each
model of --candidates, and of --endpoint_model behind a server, samples further responses to every training prompt; K
different responses are kept and ranked by the reward model. With --to_rank people rank: the prompts are written with K
random or diverse responses each, or with two that --show chooses by the scores of --reward_model, and
prepare.py --source FILE --join RANKINGS makes the training data.
Also runs under training/launch.py, and resumes a killed run (data/original/annotation/).
"""

import shlex
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.command import InputError, parse_settings, run, study_root
from data_preprocess.dialogue import HH, with_system
from data_preprocess.preparing.candidates import Candidates, add_responses, at_random, choose, commonest_len, distinct
from data_preprocess.preparing.export import write_prompts
from data_preprocess.preparing.prepared_data import Labels, prepare, read_pool
from data_preprocess.preparing.returned_labels import unique_prompts
from labelling.sampling import BY_SCORES, AnnotateConfig, check_models, only_first_process_prints
from labelling.selecting.diverse_responses import DIVERSE, choose_diverse
from labelling.selecting.score_choices import choose_pair


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(AnnotateConfig, argv, __doc__)
    check_models([*config.candidates, config.reward_model], config)
    command = shlex.join(["python", "annotate.py", *(sys.argv[1:] if argv is None else argv)])
    with only_first_process_prints() as is_first:
        if config.to_rank:
            write_to_rank(config, writes=is_first)
        else:
            prepare(config, labels_by_models(config), command, writes=is_first)


def write_to_rank(config: AnnotateConfig, writes: bool) -> None:
    """Writes the prompts of --source with K different responses each, of the data and of the candidate models."""
    pool, notes = read_pool(config)
    pool, by_scores = unique_prompts(pool, to_rank=True), config.show in BY_SCORES
    asked = 2 if by_scores else config.ranking_len
    check_enough(config, pool, asked or 2)
    pool = sample_candidates(config, pool)
    if by_scores:
        pick = partial(pick_pair, how=config.show)
        pool = scores_of(config, list(map(distinct, pool)))
    else:
        pick = pick_diverse if config.show == DIVERSE else at_random
    ranking_len = asked or commonest_len(pool)
    kept, dropped = choose(pool, ranking_len, config.seed, pick)
    notes += [f"{number} prompts dropped: {why}" for why, number in dropped.items()]
    if not kept:
        raise InputError("; ".join([f"--ranking_len: no prompt has {ranking_len} different responses", *notes]))
    if writes:
        write_prompts(config.to_rank, kept, with_responses=True)
        print("\n".join(notes))
        print(f"{config.to_rank}: {len(kept)} prompts with {ranking_len} responses each, to be ranked")


def check_enough(config: AnnotateConfig, pool: list[Candidates], ranking_len: int) -> None:
    """Raises InputError, before any model works, if no prompt can have that many different responses."""
    most = max(len(distinct(one).responses) for one in pool) + config.n_sampled
    if most < ranking_len:
        found = f"no prompt has {ranking_len} different responses, but at most {most}, those sampled included"
        raise InputError(f"--ranking_len: {found} (expected a smaller one, or more of --candidates or --num_per_model)")


def pick_pair(candidates: Candidates, ranking_len: int, rng: Random, how: str) -> tuple[int, int]:
    """Returns the indices of the two responses that `how` chooses by their scores, for `choose`."""
    return choose_pair(candidates.rewards, how, rng)


def pick_diverse(candidates: Candidates, ranking_len: int, rng: Random) -> list[int]:
    """Returns the indices of diverse responses, for `choose`."""
    return choose_diverse(candidates.responses, ranking_len, rng)


def scores_of(config: AnnotateConfig, pool: list[Candidates]) -> list[Candidates]:
    """Returns the prompts with the reward model's raw logits as rewards."""
    from labelling.model_labels import scored

    return scored(pool, config.reward_model, work_folder() / "rewards.jsonl", config.at_a_time)


def work_folder() -> Path:
    """Returns the folder in which the models' work is kept, so that a killed run resumes."""
    return study_root() / "data" / "original" / "annotation"


def sample_candidates(config: AnnotateConfig, pool: list[Candidates]) -> list[Candidates]:
    """Returns the prompts with responses of the candidate models added, model i with seed + i, served ones last."""
    from labelling.model_labels import sample_responses

    prompts, names = [with_system(one.prefix, one.meta) for one in pool], [one.where for one in pool]
    for index, model in enumerate(config.samplers):
        sampling, output = replace(config, seed=config.seed + index), work_folder() / f"responses_{index}.jsonl"
        served = index >= len(config.candidates)
        texts = sample_responses(prompts, model, config.num_per_model, output, sampling, served, names)
        pool = [add_responses(one, responses, model) for one, responses in zip(pool, texts, strict=True)]
    return pool


def labels_by_models(config: AnnotateConfig) -> Labels:
    """Returns labels from the candidate models and from the reward model."""
    facts = [f"rewards: raw logits of {config.reward_model}"]
    if config.samplers:
        facts.insert(0, (
            f"{config.num_per_model} responses by each of {', '.join(config.samplers)} (temperature "
            f"{config.temperature}, top-p {config.top_p}, at most {config.max_new_tokens} tokens, model i's seed is "
            f"{config.seed} + i, from 0"
            f"{'' if config.prompt_format == HH else f', prompt format {config.prompt_format}'})"
        ))  # fmt: skip
    return Labels(
        partial(sample_candidates, config),
        partial(scores_of, config),
        facts=facts,
        models=[config.reward_model, *config.candidates],
    )


if __name__ == "__main__":
    run(main)
