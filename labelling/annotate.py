"""Builds ranked training data with rewards from a reward model and, optionally, more responses sampled from models.

Run: cd labelling; python annotate.py --raw DIR | --source DATA --reward_model MODEL [--candidates MODEL ...]
         [--endpoint URL --endpoint_model NAME ...] [flags]

Reads and writes the same data as data_preprocess/prepare.py: prompts, pairs or rankings become
data/original/hh_train_lenK/train.json, dev and test files and the data card, under STUDY_ROOT, all or nothing. Each
model of --candidates, and of --endpoint_model behind a server, samples further responses to every training prompt; K
different responses are kept and ranked by the reward model. Also runs under training/launch.py, and resumes a killed
run (data/original/annotation/).
"""

import shlex
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.command import parse_settings, run, study_root
from data_preprocess.dialogue import HH, with_system
from data_preprocess.preparing.candidates import Candidates, add_responses
from data_preprocess.preparing.prepared_data import Labels, prepare
from labelling.sampling import AnnotateConfig, check_models, only_first_process_prints


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(AnnotateConfig, argv, __doc__)
    check_models([*config.candidates, config.reward_model], config)
    command = shlex.join(["python", "annotate.py", *(sys.argv[1:] if argv is None else argv)])
    with only_first_process_prints() as is_first:
        prepare(config, labels_by_models(config), command, writes=is_first)


def labels_by_models(config: AnnotateConfig) -> Labels:
    """Returns labels from the candidate models, model i with seed + i, and from the reward model.

    Served models come after those that are loaded.
    """
    samplers = [*config.candidates, *config.endpoint_model]
    work = study_root() / "data" / "original" / "annotation"

    def add(pool: list[Candidates]) -> list[Candidates]:
        from labelling.model_labels import sample_responses

        prompts = [with_system(one.prefix, one.meta) for one in pool]
        for index, model in enumerate(samplers):
            sampling, output = replace(config, seed=config.seed + index), work / f"responses_{index}.jsonl"
            served = index >= len(config.candidates)
            texts = sample_responses(prompts, model, config.num_per_model, output, sampling, served)
            pool = [add_responses(one, responses, model) for one, responses in zip(pool, texts, strict=True)]
        return pool

    def judge(pool: list[Candidates]) -> list[Candidates]:
        from labelling.model_labels import scored

        return scored(pool, config.reward_model, work / "rewards.jsonl", config.batch_size)

    facts = [f"rewards: raw logits of {config.reward_model}"]
    if samplers:
        facts.insert(0, (
            f"{config.num_per_model} responses by each of {', '.join(samplers)} (temperature "
            f"{config.temperature}, top-p {config.top_p}, at most {config.max_new_tokens} tokens, model i's seed is "
            f"{config.seed} + i, from 0"
            f"{'' if config.prompt_format == HH else f', prompt format {config.prompt_format}'})"
        ))  # fmt: skip
    return Labels(add, judge, facts=facts, models=[config.reward_model, *config.candidates])


if __name__ == "__main__":
    run(main)
