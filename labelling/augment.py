"""Enlarges a labelled subset by prompts unlike those that it holds, answered and ranked by models.

Run: cd labelling; python augment.py SUBSET --pool DATA | --write_prompts N --generator MODEL
         --add A [--by diverse|overlap|random] [--match_length] --answer_model MODEL --reward_model MODEL
or, with a server in place of generator and answer model: --endpoint URL --endpoint_model NAME
SUBSET is the folder of a random subset under data/, such as hh_train_len4_1500 or draw43/hh_train_len4_1500. Pool
prompts that are near-duplicates of the subset's or of each other are dropped. Of the rest, one by one, --by diverse
adds the prompt that raises D of the enlarged subset the most, --by overlap the prompt with the smallest share of its
distinct bigrams in the subset and the prompts added before it, and --by random, a control, a random one.
--answer_model answers them, and --reward_model ranks K different answers of each. Writes
hh_train_lenK_(M+A)_augment_diverse/train.json (_augment_overlap, _augment_random; with --match_length
_augment_diverse_matched) beside the subset, with each row's origin in meta, and D into that folder's records, all or
nothing, under STUDY_ROOT. Also runs under training/launch.py, and resumes a killed run. "Our reading": the paper's
generator and thresholds are not published.
"""

import itertools
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.command import (
    InputError,
    check_one_given,
    check_text,
    count,
    parse_settings,
    run,
    setting,
    study_root,
    within,
)
from data_preprocess.dialogue import render_prompt, with_system
from data_preprocess.diversity import TOKENIZER_HELP, default_tokenizer, diversity_curve
from data_preprocess.diversity_record import DiversityRecord
from data_preprocess.files import json_lines, write_files
from data_preprocess.hub import load_tokenizer
from data_preprocess.ngrams.strategies import NGRAM
from data_preprocess.ngrams.token_ids import TokenIds, encode_prompts
from data_preprocess.outputs import check_no_input
from data_preprocess.preparing.candidates import Candidates, add_responses, choose, keep_responses
from data_preprocess.preparing.near_duplicates import N_WORDS, without_near_copies
from data_preprocess.preparing.prompt_pool import read_prompts
from data_preprocess.records import read_rankings
from data_preprocess.response_diversity import encoder_of_responses, response_diversity, responses_of
from data_preprocess.selection import Selection
from data_preprocess.subsets import RANDOM, Subset, draw_folder, subset_named
from labelling.additions import (
    DIVERSE,
    GIVEN,
    OVERLAP,
    WRITTEN,
    addition,
    answered_addition,
    check_prompts,
    enlarged,
)
from labelling.sampling import Sampling, check_models, only_first_process_prints
from labelling.written_prompts import openings, requests, written

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAMPLES_PER_RESPONSE = 4  # answers sampled per response of a ranking, since a tuned model repeats itself


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(Sampling):
    """Settings of one enlargement of a subset."""

    subset: str = setting("folder of a random subset under data/, such as hh_train_len4_1500", positional=True)
    pool: str | None = setting(
        "prompts to select from, in any format of prepare.py; labels are ignored",
        check_text,
        metavar="DATA",
        default=None,
    )
    write_prompts: int | None = setting(
        "instead of --pool: let --generator write N prompts", count(), metavar="N", default=None
    )
    generator: str | None = setting(
        "causal LM that writes prompts, given examples of the subset (default: --endpoint_model)",
        check_text,
        metavar="MODEL",
        default=None,
    )
    add: int = setting("prompts to add", count(), metavar="A")
    by: str = setting(
        "add prompts that raise D the most, that overlap least with the data at hand, or random ones",
        choices=(DIVERSE, OVERLAP, RANDOM),
        default=DIVERSE,
    )
    match_length: bool = setting("keep the mean length in tokens within 5% of the pool's", default=False)
    max_jaccard: float = setting(
        f"drop prompts whose word {N_WORDS}-grams have a higher Jaccard similarity than this",
        within(at_least=0, below=1),
        metavar="J",
        default=0.8,
    )
    answer_model: str | None = setting(
        "causal LM that answers the added prompts (default: --endpoint_model)", check_text, metavar="MODEL",
        default=None,
    )  # fmt: skip
    reward_model: str = setting("ranks the answers", check_text, metavar="MODEL")
    num_per_prompt: int | None = setting(
        f"answers sampled per prompt, K different ones of which are kept (default: {SAMPLES_PER_RESPONSE} K)",
        count(),
        metavar="N",
        default=None,
    )
    tokenizer: str | None = setting(TOKENIZER_HELP, check_text, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_given(self, "pool", "write_prompts", "existing prompts, or prompts to be written")
        if len(self.endpoint_model) > 1:
            raise InputError("--endpoint_model: several (expected one)")
        if self.generator and not self.write_prompts or self.write_prompts and not (self.generator or self.endpoint):
            raise InputError("--write_prompts and --generator: give both, or neither")
        if self.write_prompts and self.write_prompts < self.add:
            raise InputError(f"--write_prompts {self.write_prompts}: fewer than --add {self.add} (expected more)")
        if not self.answer_model and not self.endpoint:
            raise InputError("--answer_model: expected a model that answers, or --endpoint")
        if self.answer_model and self.endpoint and (self.generator or not self.write_prompts):
            raise InputError("--endpoint: is not asked (expected --answer_model or --generator to be left out)")
        if self.match_length and self.by == RANDOM:
            raise InputError(
                "--match_length applies to --by diverse and overlap: random prompts have the pool's mean length"
            )

    def answers_per_prompt(self, ranking_len: int) -> int:
        """Returns the number of answers to sample for a ranking of K; InputError if K different ones cannot be had."""
        count = self.num_per_prompt or SAMPLES_PER_RESPONSE * ranking_len
        if count < ranking_len:
            raise InputError(f"--num_per_prompt: {count} (expected at least the {ranking_len} of a ranking)")
        return count

    def sampler(self, model: str | None) -> tuple[str, bool]:
        """Returns (name of the model that samples, whether it is the served one) where `model` was asked for."""
        return (model, False) if model else (self.endpoint_model[0], True)


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(AugmentConfig, argv, __doc__)
    with only_first_process_prints() as is_first:
        augment(config, is_first)


def augment(config: AugmentConfig, is_first: bool) -> None:
    data = study_root() / "data"
    base = base_subset(config.subset)
    config.answers_per_prompt(base.ranking_len)  # before a generator works for hours
    rows = list(read_rankings(data / base.folder, base.ranking_len))
    if len(rows) != base.size:
        raise InputError(f"{data / base.folder}: {len(rows)} rows (expected the {base.size} that its name says)")
    selection = Selection(f"augment_{config.by}", config.match_length).name
    output = base._replace(size=base.size + config.add, selection=selection)
    file = data / output.folder / "train.json"
    check_no_input(str(file), file, {"pool": [config.pool]})
    check_models([config.generator, config.answer_model, config.reward_model], config)
    record = DiversityRecord(draw_folder(data, base.draw))
    from labelling.model_labels import scored

    tokenizer_name = config.tokenizer or default_tokenizer()
    tokenizer = load_tokenizer(tokenizer_name)
    work = data / "original" / "augmentation"
    prompts = [row["prefix"][0] for row in rows]
    pool = distinct_pool(config, rows, work / base.folder)
    base_ids, pool_ids = (encoded(tokenizer, turns) for turns in (prompts, [one.prefix for one in pool]))
    added = answered(config, pool, (base_ids, pool_ids), base.ranking_len, work / output.folder)
    ranked = scored(added, config.reward_model, work / output.folder / "rewards.jsonl", config.at_a_time)
    origin = GIVEN if config.pool else WRITTEN
    result = enlarged(rows, ranked, origin)
    curve = diversity_curve(encoded(tokenizer, [row["prefix"][0] for row in result]), [base.size, output.size], NGRAM)
    (responses,) = response_diversity(encoder_of_responses(tokenizer), map(responses_of, result), [output.size])
    record.add(output, curve[output.size], tokenizer_name, responses)
    if is_first:
        write_files({file: json_lines(result), **record.texts()})
        lengths = encoded(tokenizer, [one.prefix for one in added]).lengths.mean(), pool_ids.lengths.mean()
        print("mean tokens of a prompt: {:.1f} of those added, {:.1f} of those to choose from".format(*lengths))
        scores = " -> ".join(f"{diversity.score:.4f}" for diversity in curve.values())
        print(f"{file}: {base.size} + {config.add} rows, diversity {scores}")


def base_subset(folder: str) -> Subset:
    """Returns the random subset named by a folder; InputError for any other name."""
    subset = subset_named(folder)
    if subset is None or subset.selection != RANDOM or subset.folder != folder:
        raise InputError(f"{folder}: expected the folder of a random subset under data/, as hh_train_len4_1500")
    return subset


def encoded(tokenizer: "PreTrainedTokenizerBase", prompts: list[list[str]]) -> TokenIds:
    """Returns token ids of prompts, as counted for D."""
    return encode_prompts(tokenizer, [render_prompt(turns) for turns in prompts])


def distinct_pool(config: AugmentConfig, rows: list[dict], work: Path) -> list[Candidates]:
    """Returns the prompts that may be added, unanswered and without near-copies of each other or of the subset's."""
    prompts, base = [row["prefix"][0] for row in rows], [with_system(row["prefix"][0], row["meta"]) for row in rows]
    pool = [replace(keep_responses(one, []), rewards=None) for one in read_pool(config, prompts, work)]
    kept = without_near_copies([one.turns for one in pool], base, config.max_jaccard)
    print(
        f"{len(pool) - len(kept)} of {len(pool)} prompts dropped: near-copies "
        f"(Jaccard similarity of word {N_WORDS}-grams above {config.max_jaccard})"
    )
    if len(kept) < config.add:
        found = f"{config.add} prompts requested, only {len(kept)} of {len(pool)} are left"
        raise InputError(f"--add: {found} (expected more prompts, or a higher --max_jaccard)")
    return [pool[index] for index in kept]


def read_pool(config: AugmentConfig, prompts: list[list[str]], work: Path) -> list[Candidates]:
    """Returns the prompts of --pool, or those written by --generator from examples of the subset's prompts."""
    if config.pool:
        placed, notes = read_prompts(config.pool, keep=False)
        print("".join(f"{line}\n" for line in notes), end="")
        pool = [one for _, one in placed]
        check_prompts(pool)
        return pool
    asked = requests(openings(prompts), config.write_prompts, config.seed)
    generator, served = config.sampler(config.generator)
    from labelling.model_labels import sample_responses

    texts = sample_responses(asked, generator, 1, work / "prompts.jsonl", config, served)
    pool = written([text for (text,) in texts], generator)
    print(f"{len(pool)} of {len(asked)} texts of {generator} are prompts")
    return pool


def answered(
    config: AugmentConfig, pool: list[Candidates], ids: tuple[TokenIds, TokenIds], ranking_len: int, work: Path
) -> list[Candidates]:
    """Returns the prompts to add, in order, each with K different answers; `ids` are the subset's and the pool's."""
    count = config.answers_per_prompt(ranking_len)
    from labelling.model_labels import sample_responses

    rounds, (model, served) = itertools.count(), config.sampler(config.answer_model)

    def answer(indices: list[int]) -> dict[int, Candidates]:
        prompts = [with_system(pool[index].prefix, pool[index].meta) for index in indices]
        file = work / f"answers_{next(rounds)}.jsonl"
        names = [pool[index].where for index in indices]
        texts = sample_responses(prompts, model, count, file, config, served, names)
        found = {}
        for index, answers in zip(indices, texts, strict=True):
            kept, _ = choose([add_responses(pool[index], answers, model)], ranking_len, config.seed)
            if kept:
                found[index] = kept[0]
        return found

    def choice(refused: set[int]) -> list[int]:
        return addition(*ids, refused, config.add, config.by, config.match_length, config.seed)

    added, refused = answered_addition(choice, answer, len(pool), config.add)
    print(f"{refused} prompts skipped: fewer than {ranking_len} distinct answers in {count} samples")
    return added


if __name__ == "__main__":
    run(main)
