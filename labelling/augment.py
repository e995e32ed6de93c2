"""Enlarges a labelled subset by prompts of a pool, chosen to raise its diversity D, answered and ranked by models.

Run: cd labelling; python augment.py SUBSET --pool DATA | --write_prompts N --generator MODEL
         --add A [--by diverse|random] [--match_length] --answer_model MODEL --reward_model MODEL
SUBSET is the folder of a random subset under data/, as hh_train_len4_1500. Prompts of the pool near one of the subset
or of the pool are dropped; then those are added that raise D of the enlarged subset the most, or, as a control, any
(--by random). Each is answered by --answer_model and its K different answers are ranked by --reward_model. Writes
data/hh_train_lenK_(M+A)_augment_diverse/train.json (_augment_diverse_matched with --match_length, _augment_random)
with each row's origin in meta, and D into the records, all or none, under STUDY_ROOT. Also runs under
training/launch.py, and goes on where a killed run was. "Our reading": the paper's generator and thresholds are not
published.
"""

import argparse
import io
import itertools
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.command import InputError, check_flags, check_text, count, run, study_root, within
from data_preprocess.dialogue import render_prompt
from data_preprocess.diversity import TOKENIZER_HELP, default_tokenizer, diversity_curve
from data_preprocess.diversity_record import DiversityRecord
from data_preprocess.files import json_lines, write_files
from data_preprocess.ngrams.strategies import NGRAM
from data_preprocess.ngrams.token_ids import TokenIds, encode_prompts
from data_preprocess.outputs import check_no_input
from data_preprocess.preparing.candidates import Candidates, add_responses, choose
from data_preprocess.preparing.near_duplicates import N_WORDS, without_near_copies
from data_preprocess.preparing.prepare_config import SAMPLING_CHECKS, SEED, add_sampling_flags
from data_preprocess.preparing.row_formats import Mapping, read_source
from data_preprocess.records import read_rankings
from data_preprocess.selection import selection_name
from data_preprocess.subsets import RANDOM as UNCHOSEN
from data_preprocess.subsets import Subset, subset_named
from labelling.additions import (
    DIVERSE,
    GIVEN,
    RANDOM,
    WRITTEN,
    addition,
    answered_addition,
    check_prompts,
    enlarged,
)
from labelling.written_prompts import openings, requests, written

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_JACCARD = 0.8
CHECKS = {
    **SAMPLING_CHECKS, **dict.fromkeys(("add", "write_prompts", "num_per_prompt"), count()),
    **dict.fromkeys(("pool", "generator", "answer_model", "reward_model", "tokenizer"), check_text),
    "max_jaccard": within(at_least=0, below=1),
}  # fmt: skip
SAMPLES_PER_RESPONSE = 4  # answers sampled for each of the K that a ranking needs: a tuned model repeats itself


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    from eval_hh.inference.resumable_jobs import is_main_process

    is_main = is_main_process()
    with nullcontext() if is_main else redirect_stdout(io.StringIO()):
        augment(args, is_main)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("subset", help="folder of a random subset under data/, as hh_train_len4_1500")
    add("--pool", metavar="DATA", help="prompts to choose from, in any format of prepare.py; labels are ignored")
    add("--write_prompts", type=int, metavar="N", help="instead of --pool: ask --generator for N prompts")
    add("--generator", metavar="MODEL", help="causal LM that writes prompts like examples of the subset")
    add("--add", type=int, required=True, metavar="A", help="prompts to add")
    add("--by", choices=(DIVERSE, RANDOM), default=DIVERSE, help="raise D the most, or draw (default: diverse)")
    add("--match_length", action="store_true", help="mean length in tokens within 5%% of the pool's")
    add("--max_jaccard", type=float, default=MAX_JACCARD, metavar="J",
        help=f"drop prompts with word {N_WORDS}-grams more similar than this (default: {MAX_JACCARD})")  # fmt: skip
    add("--answer_model", required=True, metavar="MODEL", help="causal LM that answers the added prompts")
    add("--reward_model", required=True, metavar="MODEL", help="ranks the answers")
    add("--num_per_prompt", type=int, metavar="N",
        help=f"answers sampled, of which K different ones are kept (default: {SAMPLES_PER_RESPONSE} K)")  # fmt: skip
    add_sampling_flags(add)
    add("--seed", type=int, default=SEED, help=f"of every draw (default: {SEED})")
    add("--tokenizer", help=TOKENIZER_HELP)
    args = parser.parse_args(argv)
    check_args(args)
    return args


def check_args(args: argparse.Namespace) -> None:
    """InputError for flags that contradict one another or are out of their range."""
    check_flags(vars(args), CHECKS)
    if (args.pool is None) == (args.write_prompts is None):
        raise InputError("--pool or --write_prompts: give one of them (prompts there are, or prompts to be written)")
    if (args.write_prompts is None) != (args.generator is None):
        raise InputError("--write_prompts and --generator: give both, or neither")
    if args.match_length and args.by == RANDOM:
        raise InputError("--match_length is about --by diverse: random prompts are as long as the pool's on average")


def augment(args: argparse.Namespace, is_main: bool) -> None:
    data = study_root() / "data"
    base = base_subset(args.subset)
    rows = list(read_rankings(data / base.folder, base.ranking_len))
    if len(rows) != base.size:
        raise InputError(f"{data / base.folder}: {len(rows)} rows (expected the {base.size} that its name says)")
    output = Subset(base.ranking_len, base.size + args.add, selection_name(f"augment_{args.by}", args.match_length))
    file = data / output.folder / "train.json"
    check_no_input(str(file), file, {"pool": [args.pool]})
    check_models(args)
    record = DiversityRecord(data)
    from data_preprocess.hub import load_tokenizer

    tokenizer_name = args.tokenizer or default_tokenizer()
    tokenizer = load_tokenizer(tokenizer_name)
    work = data / "original" / "augmentation"
    prompts = [row["prefix"][0] for row in rows]
    pool = distinct_pool(args, prompts, work / base.folder)
    base_ids, pool_ids = (encoded(tokenizer, turns) for turns in (prompts, [one.prefix for one in pool]))
    added = answered(args, pool, (base_ids, pool_ids), base.ranking_len, work / output.folder)
    ranked = with_rewards(args, added, work / output.folder)
    origin = GIVEN if args.pool else WRITTEN
    result = enlarged(rows, ranked, origin)
    curve = diversity_curve(encoded(tokenizer, [row["prefix"][0] for row in result]), [base.size, output.size], NGRAM)
    record.add(output.key, curve[output.size], tokenizer_name)
    if is_main:
        write_files({file: json_lines(result), **record.texts()})
        lengths = encoded(tokenizer, [one.prefix for one in added]).lengths.mean(), pool_ids.lengths.mean()
        print("mean tokens of a prompt: {:.1f} of those added, {:.1f} of those to choose from".format(*lengths))
        scores = " -> ".join(f"{diversity.score:.4f}" for diversity in curve.values())
        print(f"{file}: {base.size} + {args.add} rows, diversity {scores}")


def base_subset(folder: str) -> Subset:
    """The random subset that a folder's name tells of; InputError for any other name."""
    subset = subset_named(folder)
    if subset is None or subset.selection != UNCHOSEN:
        raise InputError(f"{folder}: expected the folder of a random subset under data/, as hh_train_len4_1500")
    return subset


def check_models(args: argparse.Namespace) -> None:
    """InputError for a model that is not there, before others work for hours."""
    from data_preprocess.hub import source_options

    for model in filter(None, (args.generator, args.answer_model, args.reward_model)):
        source_options(model)


def encoded(tokenizer: "PreTrainedTokenizerBase", prompts: list[list[str]]) -> TokenIds:
    """Token ids of prompts as D counts them."""
    return encode_prompts(tokenizer, [render_prompt(turns) for turns in prompts])


def distinct_pool(args: argparse.Namespace, prompts: list[list[str]], work: Path) -> list[Candidates]:
    """The prompts that may be added: without answers, and without near-copies of one another and of the subset's."""
    pool = [replace(one, responses=[], rewards=None, origins=[]) for one in read_pool(args, prompts, work)]
    kept = without_near_copies([one.prefix for one in pool], prompts, args.max_jaccard)
    print(
        f"{len(pool) - len(kept)} of {len(pool)} prompts dropped: near-copies "
        f"(Jaccard similarity of word {N_WORDS}-grams above {args.max_jaccard})"
    )
    if len(kept) < args.add:
        found = f"{args.add} prompts asked for, {len(kept)} are left of {len(pool)}"
        raise InputError(f"--add: {found} (expected more prompts, or a higher --max_jaccard)")
    return [pool[index] for index in kept]


def read_pool(args: argparse.Namespace, prompts: list[list[str]], work: Path) -> list[Candidates]:
    """The prompts of --pool, or those that --generator writes from examples of the subset's prompts."""
    if args.pool:
        pool, left_out = read_source(args.pool, "train", Mapping())
        print("".join(f"{line}\n" for line in left_out), end="")
        check_prompts(pool)
        return pool
    asked = requests(openings(prompts), args.write_prompts, args.seed)
    texts = sampled(args, asked, args.generator, 1, work / "prompts.jsonl")
    pool = written([text for (text,) in texts], args.generator)
    print(f"{len(pool)} of {len(asked)} texts of {args.generator} are prompts")
    return pool


def sampled(args: argparse.Namespace, prompts: list[list[str]], model: str, count: int, file: Path) -> list[list[str]]:
    """`count` responses of a model to each prompt, by the flags' settings."""
    from labelling.model_labels import sample_responses

    return sample_responses(
        prompts, model, count, file, args.seed, args.temperature, args.top_p, args.max_new_tokens, args.batch_size,
        args.mixed_precision,
    )  # fmt: skip


def answered(
    args: argparse.Namespace, pool: list[Candidates], ids: tuple[TokenIds, TokenIds], ranking_len: int, work: Path
) -> list[Candidates]:
    """The prompts to add, in the order of choice, each with K different answers; `ids`: of the subset, of the pool."""
    count = args.num_per_prompt or SAMPLES_PER_RESPONSE * ranking_len
    if count < ranking_len:
        raise InputError(f"--num_per_prompt: {count} (expected at least the {ranking_len} of a ranking)")
    rounds = itertools.count()

    def answer(indices: list[int]) -> dict[int, Candidates]:
        prompts = [pool[index].prefix for index in indices]
        texts = sampled(args, prompts, args.answer_model, count, work / f"answers_{next(rounds)}.jsonl")
        found = {}
        for index, answers in zip(indices, texts, strict=True):
            kept, _ = choose([add_responses(pool[index], answers, args.answer_model)], ranking_len, args.seed)
            if kept:
                found[index] = kept[0]
        return found

    def choice(refused: set[int]) -> list[int]:
        return addition(*ids, refused, args.add, args.by, args.match_length, args.seed)

    added, refused = answered_addition(choice, answer, len(pool), args.add)
    print(f"{refused} prompts passed over: fewer than {ranking_len} different answers among {count}")
    return added


def with_rewards(args: argparse.Namespace, pool: list[Candidates], work: Path) -> list[Candidates]:
    """The prompts with the reward model's raw logits of their answers."""
    from labelling.model_labels import score_rankings

    prompts, responses = [one.prefix for one in pool], [one.responses for one in pool]
    rewards = score_rankings(prompts, responses, args.reward_model, work / "rewards.jsonl", args.batch_size)
    return [replace(one, rewards=row) for one, row in zip(pool, rewards, strict=True)]


if __name__ == "__main__":
    run(main)
