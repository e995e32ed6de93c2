"""Selects which prompts of a pool to label: no near-copies, in the languages that you want, spread over the pool.

Run: cd labelling; python select_prompts.py SOURCE --size M --output to_label.jsonl [--select STRATEGY]
         [--labelled FILE ...] [--languages en] [--quota topic] [--embeddings wordllama|FOLDER] [--report report.html]

Near-copies of earlier prompts and of --labelled ones are dropped, then prompts in other languages; the strategy selects
M of the rest by their embeddings or rewards, within each value of --quota. --output is a pool itself, with the columns
and the responses of SOURCE but no rewards: for plan.py, annotate.py, rank.py and prepare.py. --report writes a page:
what was dropped and why, how the selection covers the pool, and a map.
"""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.command import InputError, check_seed, check_settings, parse_settings, run, setting, within
from data_preprocess.outputs import check_output_file, is_same_file
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.preparing.export import check_ending, write_prompts
from data_preprocess.preparing.near_duplicates import N_WORDS
from data_preprocess.preparing.prompt_pool import SPLIT, load_pool
from data_preprocess.ranking import SEED
from labelling.selecting.embedding_selection import STRATEGIES, select_by_embedding, within_groups
from labelling.selecting.embeddings import WORDLLAMA, embedded
from labelling.selecting.languages import detector
from labelling.selecting.prompt_filters import Dropped, prompt_words, wanted
from labelling.selecting.score_choices import PREFERENCE_VARIANCE, by_preference_variance

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """One selection of prompts."""

    source: str = setting("the pool: prompts in any format of prepare.py", positional=True)
    size: int = setting("prompts to select", metavar="M")
    output: Path = setting("file of the selected prompts, JSONL with ids", metavar="FILE")
    select: str = setting(
        "how: random; clusters, random with every cluster's share; facility, typical of their surroundings; k_center, "
        "far from each other; novelty, as NovelSelect (none is shown to earn more reward than random); "
        "preference_variance, whose responses have the most different rewards in SOURCE (minus random prompts in the "
        "embedded world, 95% interval, points: PRO +1.56, -0.39 to +3.51, SFT +1.38, -0.92 to +3.69, undecided)",
        choices=(*STRATEGIES, PREFERENCE_VARIANCE),
        default="clusters",
    )
    labelled: tuple[str, ...] = setting(
        "files of prompts that are labelled already, in any format; they and their near-copies are dropped",
        metavar="FILE",
        default=(),
    )
    languages: tuple[str, ...] = setting(
        "drop prompts in other languages (codes such as en de; kept where unsure)", metavar="CODE", default=()
    )
    max_jaccard: float = setting(
        f"drop near-copies: prompts whose word {N_WORDS}-grams have a higher Jaccard similarity than this with an "
        "earlier prompt",
        within(at_least=0, below=1),
        metavar="J",
        default=0.8,
    )
    quota: str | None = setting("column of the pool whose every value keeps its share", metavar="COLUMN", default=None)
    embeddings: str = setting("wordllama, or the folder of an embedding model", default=WORDLLAMA)
    vectors: Path | None = setting("file that keeps the embeddings, by text (.npz)", metavar="FILE", default=None)
    column: str | None = setting("field of the prompt, if it has none of the usual names", default=None)
    split: str | None = setting(SPLIT, default=None)
    report: Path | None = setting("write a page about the selection", metavar="FILE", default=None)
    seed: int = setting("random seed", check_seed, default=SEED)

    def __post_init__(self) -> None:
        check_settings(self)
        inputs = {"source": [self.source], "embeddings": [self.embeddings], "labelled": self.labelled}
        written = {"output": self.output, "vectors": self.vectors, "report": self.report}
        for flag, path in written.items():
            if path is not None:
                check_output_file(flag, path, inputs)
        check_ending(self.output, (".jsonl", ".json"))
        paths = [path for path in written.values() if path is not None]
        if any(is_same_file(*two) for two in combinations(paths, 2)):
            raise InputError("--output, --vectors and --report: one file twice (expected different files)")
        if self.vectors and self.vectors.suffix != ".npz":
            raise InputError(f"--vectors {self.vectors}: expected a name that ends in .npz")


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(SelectConfig, argv, __doc__)
    detect = language_detector(config)
    every, copies, notes = load_pool(config.source, config.column, config.split, drop_duplicates=True)
    print("".join(f"{line}\n" for line in notes), end="")
    done = [one.turns for path in config.labelled for one in load_pool(path, drop_duplicates=True)[0]]
    pool, dropped = wanted(every, done, config.max_jaccard, config.languages, detect)
    dropped.insert(0, Dropped("exact copies of an earlier prompt", copies))
    print(f"pool: {len(every) + copies:,} prompts of {config.source}, {len(pool):,} to select from")
    print("".join(f"dropped: {one.count:,} {one.why}\n" for one in dropped if one.count), end="")
    if config.size > len(pool):
        raise InputError(f"--size {config.size}: only {len(pool)} prompts are left (expected at most that)")
    groups = quota_groups(config.quota, pool)
    by_rewards = config.select == PREFERENCE_VARIANCE
    if by_rewards:
        chosen = select_by_rewards(pool, config.size, groups, config.seed)
    if not by_rewards or config.report:
        vectors = embedded([prompt_words(one) for one in pool], config.embeddings, config.vectors)
    if not by_rewards:
        chosen = select_by_embedding(vectors, config.size, config.select, groups, config.seed)
    write_prompts(config.output, [pool[index] for index in chosen], with_responses=True)
    print(f"{config.output}: {len(chosen):,} prompts, selected by {config.select}")
    if groups and (none := set(groups) - {groups[index] for index in chosen}):
        print(f"--quota {config.quota}: {len(none):,} of {len(set(groups)):,} values have too few prompts for a share")
    if config.report:
        from labelling.selecting.selection_report import Report, write_report

        command = shlex.join(["python", "select_prompts.py", *(sys.argv[1:] if argv is None else argv)])
        languages = [detect(prompt_words(one)) for one in pool] if detect else None
        shared = f", with the pool's shares of {config.quota}" if config.quota else ""
        by = "the rewards of SOURCE" if by_rewards else f"embeddings by {config.embeddings}"
        how = f"Selected by {config.select} on {by}{shared}."
        write_report(config.report, Report(pool, vectors, chosen, dropped, languages, how, command, config.seed))
        print(f"{config.report}: the report")


def select_by_rewards(pool: list[Candidates], size: int, groups: list[str] | None, seed: int) -> list[int]:
    """Returns the indices of the prompts with the highest preference variance, within each group by its share.

    InputError, naming the line, for a prompt without rewards of two or more responses.
    """
    given = [[reward for reward in one.rewards or [] if reward is not None] for one in pool]
    for one, rewards in zip(pool, given, strict=True):
        if len(rewards) < 2:
            raise InputError(
                f"{one.where}: no rewards of two responses (--select {PREFERENCE_VARIANCE} expects a reward model's, "
                "as annotate.py --source POOL --reward_model MODEL writes them)"
            )

    def highest(members: "np.ndarray", quota: int) -> list[int]:
        return by_preference_variance([given[index] for index in members], Random(seed))[:quota]

    return within_groups(groups or [""] * len(pool), size, highest)


def language_detector(config: SelectConfig) -> Callable[[str], str] | None:
    """Returns the detector if --languages or --report needs it; InputError for an unknown code.

    A report without --languages does without the library where it is not installed.
    """
    try:
        detect, codes = detector()
    except InputError:
        if config.languages:
            raise
        return None
    unknown = [code for code in config.languages if code not in codes]
    if unknown:
        raise InputError(f"--languages {unknown[0]}: expected one of {', '.join(sorted(codes))}")
    return detect


def quota_groups(column: str | None, pool: list[Candidates]) -> list[str] | None:
    """Returns each prompt's value of a column; InputError, naming the line, for a prompt without one."""
    if column is None:
        return None
    for one in pool:
        if column not in one.columns():
            there = ", ".join(one.columns()) or "none"
            problem = f"no text or number in a column {column} for --quota"
            raise InputError(f"{one.where}: {problem} (columns: {there})")
    return [str(one.columns()[column]) for one in pool]


if __name__ == "__main__":
    run(main)
