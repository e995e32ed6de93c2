"""Samples or selects subsets of the rankings of K responses and records the diversity of their prompts and responses.

Run: cd data_preprocess; python sample.py K [K ...] [--sizes M ...] [--tokenizer PATH_OR_NAME] [--draw N]
         [--select STRATEGY] [--match_length] [--match_kind] [--half] [--max_tokens N] [--no_responses]
Reads data/original/hh_train_lenK/train.json, writes data/hh_train_lenK_M/train.json for every K and size M and adds
the diversity of their prompts to data/record_hh_train.json and that of their responses to
data/record_hh_train_responses.json, all under STUDY_ROOT. Selections other than random are named in all of them:
data/hh_train_lenK_M_max_d/, "M_max_d", and with all three flags "M_max_d_matched_kind_half". The files and records of a
draw other than the published one, 42, lie in data/drawN/. All files are written or none.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.command import (
    InputError,
    check_seed,
    check_settings,
    check_text,
    count,
    parse_settings,
    run,
    setting,
    study_root,
)
from data_preprocess.dialogue import render_prompt
from data_preprocess.diversity import TOKENIZER_HELP, Diversity, default_tokenizer, diversity_curve
from data_preprocess.diversity_record import DiversityRecord
from data_preprocess.files import write_files
from data_preprocess.hub import load_tokenizer
from data_preprocess.ngrams.strategies import NGRAM
from data_preprocess.ngrams.token_ids import TokenIds, encode_prompts
from data_preprocess.ranking import SEED, nested_subsets
from data_preprocess.response_diversity import (
    Encode,
    ResponseDiversity,
    encoder_of_responses,
    response_diversity,
)
from data_preprocess.selection import STRATEGIES, Selection, select_prompts, select_within_tokens
from data_preprocess.subsets import (
    RANDOM,
    Prompt,
    RankingLine,
    Subset,
    by_shared_prompts,
    draw_folder,
    not_cut,
    read_lines_of,
    subset_lines,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SIZES = (36000, 24000, 16000, 12000, 6000, 3000, 2000, 1500)


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Which subsets to make."""

    ranking_len: tuple[int, ...] = setting(
        "responses per prompt", count(at_least=2, at_most=1000), metavar="K", positional=True
    )
    sizes: tuple[int, ...] | None = setting(
        "prompts per subset (default: the paper's, 36000 to 1500)", count(), metavar="M", default=None
    )
    tokenizer: str | None = setting(TOKENIZER_HELP, check_text, default=None)
    select: str = setting(
        "how prompts are selected; subsets are nested, except for max_d and with --match_length or --match_kind",
        choices=STRATEGIES,
        default=RANDOM,
    )
    match_length: bool = setting("keep the mean length in tokens within 5% of that of all prompts", default=False)
    match_kind: bool = setting("keep each kind's share of all prompts (meta.kind of the rankings)", default=False)
    half: bool = setting("select from a random half of the rankings, the first of the draw's shuffle", default=False)
    responses: bool = setting("also record the diversity of the responses", default=True)
    draw: int = setting("seed of the shuffle; 42 is the published one", check_seed, default=SEED)
    max_tokens: int | None = setting(
        "instead of --sizes: select one subset of at most N prompt tokens",
        count(),
        metavar="N",
        default=None,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.max_tokens is not None:
            for flag in ("sizes", "match_length", "match_kind"):
                if getattr(self, flag):
                    raise InputError(f"--max_tokens and --{flag} (expected one of them: both set the subset size)")

    @property
    def is_plain(self) -> bool:
        """Whether subsets are the start of the draw's shuffle."""
        return self.selection.name == RANDOM and self.max_tokens is None

    @property
    def selection(self) -> Selection:
        return Selection(self.select, self.match_length, self.match_kind, self.half)

    def subset(self, ranking_len: int, size: int) -> Subset:
        return Subset(ranking_len, size, self.selection.name, self.draw)


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(SampleConfig, argv, __doc__)
    data = study_root() / "data"
    rankings = {k: read_lines_of(data, k, config.match_kind) for k in config.ranking_len}
    if config.max_tokens is None:
        for ranking_len, rows in rankings.items():
            check_sizes(config, len(rows), ranking_len)
    for line in not_cut(rankings):
        print(f"warning: {line}", file=sys.stderr)
    record = DiversityRecord(draw_folder(data, config.draw))

    tokenizer_name = config.tokenizer or default_tokenizer()
    tokenizer = load_tokenizer(tokenizer_name)
    encode = encoder_of_responses(tokenizer)
    chosen, diversity = {}, {}
    for prompts, ranking_lens in by_shared_prompts(rankings):
        selected, curve = select(prompts, tokenizer, config)
        for ranking_len in ranking_lens:
            answers = answers_of(rankings[ranking_len], selected, encode) if config.responses else {}
            for size, indices in selected.items():
                subset = config.subset(ranking_len, size)
                chosen[subset], diversity[subset] = indices, curve[size]
                record.add(subset, curve[size], tokenizer_name, answers.get(size), ranking_lens)
    files = subset_lines(data, rankings, chosen)
    write_files({**files, **record.texts()})
    for file, subset in zip(files, chosen, strict=True):
        print(f"{file}: {subset.size} rows, diversity {diversity[subset].score:.4f}")


def select(
    prompts: Sequence[Prompt], tokenizer: "PreTrainedTokenizerBase", config: SampleConfig
) -> tuple[dict[int, list[int]], dict[int, Diversity]]:
    """Returns the indices of the selected prompts and their diversity, both by size."""
    pool = choose_from(len(prompts), config)
    token_ids = encode_prompts(tokenizer, [render_prompt(prompts[index].turns) for index in pool])
    kinds = [prompts[index].kind for index in pool] if config.match_kind else None
    chosen = choose(token_ids, kinds, config)
    selected = {size: [pool[place] for place in places] for size, places in chosen.items()}
    return selected, curve_of(token_ids, chosen)


def choose_from(n_prompts: int, config: SampleConfig) -> list[int]:
    """Returns the indices of the prompts to choose from.

    A plain random subset is the start of the draw's shuffle, so only that part is tokenised.
    """
    order = nested_subsets(list(range(n_prompts)), [n_prompts], config.draw)[n_prompts]
    if config.half:
        return sorted(order[: n_prompts // 2])
    return order[: max(config.sizes or SIZES)] if config.is_plain else list(range(n_prompts))


def choose(token_ids: TokenIds, kinds: Sequence[str] | None, config: SampleConfig) -> dict[int, Sequence[int]]:
    """Returns the places of the selected prompts among those to choose from, by size."""
    sizes = config.sizes or SIZES
    if config.is_plain:
        return {size: range(size) for size in sizes}
    if config.max_tokens is None:
        return select_prompts(token_ids, sizes, config.select, config.match_length, kinds, config.draw)
    places = select_within_tokens(token_ids, config.max_tokens, config.select, config.draw)
    if not places:
        found = f"{config.max_tokens} are fewer tokens than the first prompt chosen has"
        raise InputError(f"--max_tokens: {found} (prompts have {token_ids.lengths.mean():.0f} in the mean)")
    return {len(places): places}


def curve_of(token_ids: TokenIds, chosen: dict[int, Sequence[int]]) -> dict[int, Diversity]:
    """Returns the diversity of each selection of prompts, by size."""
    return {
        size: diversity
        for places, sizes in passes(chosen)
        for size, diversity in diversity_curve(token_ids.take(places), sizes, NGRAM).items()
    }


def answers_of(
    rankings: Sequence[RankingLine], chosen: dict[int, Sequence[int]], encode: Encode
) -> dict[int, ResponseDiversity]:
    """Returns the diversity of the responses to each selection of prompts, by size."""
    found = {}
    for places, sizes in passes(chosen):
        responses = [rankings[place].responses for place in places]
        found |= zip(sizes, response_diversity(encode, responses, sizes), strict=True)
    return found


def passes(chosen: dict[int, Sequence[int]]) -> list[tuple[Sequence[int], list[int]]]:
    """Returns selections, by size, as (places, sizes to count): one for all if smaller ones start the largest."""
    largest = chosen[max(chosen)]
    if all(places == largest[:size] for size, places in chosen.items()):
        return [(largest, list(chosen))]
    return [(places, [size]) for size, places in chosen.items()]


def check_sizes(config: SampleConfig, n_rows: int, ranking_len: int) -> None:
    """Raises InputError for a size outside 1 to the number of rows to choose from."""
    available, where = (n_rows // 2, " in a half of them") if config.half else (n_rows, "")
    for size in config.sizes or SIZES:
        if not 1 <= size <= available:
            found = f"{size} rows of {ranking_len} responses requested, only {available} available{where}"
            raise InputError(f"--sizes: {found} (expected 1 to {available})")


if __name__ == "__main__":
    run(main)
