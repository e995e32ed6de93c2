"""The page about a selection of prompts: what was dropped, coverage, distances, and a map. One file, no scripts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from data_preprocess.dialogue import split_turn
from data_preprocess.files import atomic_write
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.words import count_words, is_unspaced, words
from labelling.selecting.embedding_selection import k_means, nearest_similarity, random_prompts
from labelling.selecting.prompt_filters import Dropped
from pics.style import page_environment

TOPICS = 12  # clusters that stand for topics
TOPIC_WORDS = 4  # words that name one
MOST_VALUES = 20  # a column with more values has no table
PER_TOPIC = 500  # prompts of a cluster whose words count
MEASURED = 20_000  # prompts whose distance to the selection is measured
RANDOM_DRAWS = 5  # selections that the distances are compared with
ON_MAP = {"left out": 2500, "chosen": 1500}  # points drawn of each
SHOWN = 80  # characters of a prompt or a value that are shown
WIDTH, HEIGHT, MARGIN = 900, 560, 12  # of the map, in its own units


@dataclass(frozen=True)
class Report:
    """What the page is about."""

    pool: Sequence[Candidates]  # N prompts from which was selected
    vectors: np.ndarray  # their embeddings, [N, dimensions], unit length
    chosen: Sequence[int]  # indices of the selected prompts
    dropped: Sequence[Dropped]  # what was left out before
    languages: Sequence[str] | None  # of each prompt, if known
    how: str  # a sentence on how they were selected
    command: str  # for the footer
    seed: int  # of random draws


@dataclass(frozen=True)
class Share:
    """One value of a property: how many prompts of the pool and of the selection have it."""

    value: str
    pool: int
    chosen: int


@dataclass(frozen=True)
class Distances:
    """Distances of prompts of the pool to the nearest chosen one: of one selection, or means over several."""

    name: str
    mean: float
    high: float  # 95th percentile
    most: float


@dataclass(frozen=True)
class Point:
    """A prompt on the map."""

    x: float
    y: float
    text: str


def write_report(path: Path, report: Report) -> None:
    """Writes the page."""
    pool, chosen = report.pool, report.chosen
    tables = {"Cluster": shares(topics(pool, report.vectors), chosen)}
    tables |= {name: shares(values, chosen) for name, values in columns_of(pool).items()}
    if report.languages:
        tables["Language"] = shares(report.languages, chosen)
    tables["Length"] = shares(length_classes(pool), chosen)
    values = {
        "report": report,
        "dropped": [one for one in report.dropped if one.count],
        "tables": tables,
        "distances": distances(report.vectors, chosen, report.seed),
        "map": points(pool, report.vectors, chosen, report.seed),
        "shown": SHOWN,
        "width": WIDTH,
        "height": HEIGHT,
    }
    page = page_environment(Path(__file__).parent).get_template("selection_report.html").render(values)
    with atomic_write(path) as file:
        file.write(page)


def shares(values: Sequence[str], chosen: Sequence[int]) -> list[Share]:
    """Counts each value in the pool and in the selection, the most frequent first."""
    whole, part = Counter(values), Counter(values[index] for index in chosen)
    ordered = sorted(whole.items(), key=lambda item: (-item[1], item[0]))
    return [Share(value, count, part[value]) for value, count in ordered[:MOST_VALUES]]


def columns_of(pool: Sequence[Candidates]) -> dict[str, list[str]]:
    """Returns the values of each column of the pool that all prompts have, with at most MOST_VALUES different ones."""
    names = list(pool[0].columns()) if pool else []
    found = {name: [str(one.columns().get(name, "")) for one in pool] for name in names}
    return {name: values for name, values in found.items() if 1 < len(set(values)) <= MOST_VALUES}


def topics(pool: Sequence[Candidates], vectors: np.ndarray) -> list[str]:
    """Returns a name for each prompt's k-means cluster: the words that are most frequent in it for their frequency
    elsewhere: prompts of it with the word, squared, over all with it, among at most PER_TOPIC of each cluster."""
    labels = k_means(vectors, min(TOPICS, len(pool)))
    clusters = [np.flatnonzero(labels == label)[:PER_TOPIC] for label in range(labels.max(initial=-1) + 1)]
    inside = [Counter(word for index in members for word in _long_words(pool[index])) for members in clusters]
    everywhere = sum(inside, Counter())
    names = []
    for label, counts in enumerate(inside):
        typical = sorted(counts, key=lambda word: (-(counts[word] ** 2) / everywhere[word], word))
        names.append(": ".join([str(label + 1), *([", ".join(typical[:TOPIC_WORDS])] if typical else [])]))
    return [names[label] for label in labels]


def _long_words(one: Candidates) -> set[str]:
    """Returns the words of over three letters and, of a script without spaces, the pairs of neighbouring characters."""
    found = words(text_of(one).lower())
    pairs = {one + other for one, other in pairwise(found) if is_unspaced(one) and is_unspaced(other)}
    return pairs | {word for word in found if len(word) > 3}


def text_of(one: Candidates) -> str:
    return " ".join(split_turn(turn)[1] for turn in one.prefix).strip()


def length_classes(pool: Sequence[Candidates]) -> list[str]:
    """Returns each prompt's quarter of the pool by length in words, with the quarter's limits."""
    lengths = np.array([count_words(text_of(one)) for one in pool])
    edges = np.unique(np.quantile(lengths, [0, 0.25, 0.5, 0.75, 1]).round()).astype(int)
    places = np.clip(np.searchsorted(edges, lengths, side="right"), 1, max(len(edges) - 1, 1)) - 1
    names = [f"{low} to {high} words" for low, high in zip(edges, edges[1:], strict=False)] or [f"{edges[0]} words"]
    return [names[place] for place in places]


def distances(vectors: np.ndarray, chosen: Sequence[int], seed: int) -> list[Distances]:
    """Returns the distances of this selection and, as means, of RANDOM_DRAWS random ones of its size, from at most
    MEASURED random prompts of the pool."""

    sample = vectors[np.sort(random_prompts(vectors, min(MEASURED, len(vectors)), seed))]

    def of(selection: Sequence[int]) -> tuple[float, float, float]:
        distance = np.sqrt(np.maximum(2 - 2 * nearest_similarity(sample, vectors[selection]), 0))
        return float(distance.mean()), float(np.quantile(distance, 0.95)), float(distance.max())

    random = [of(random_prompts(vectors, len(chosen), seed + 1 + draw)) for draw in range(RANDOM_DRAWS)]
    at_random = np.mean(random, axis=0)
    return [Distances("this selection", *of(chosen)), Distances(f"mean of {RANDOM_DRAWS} random ones", *at_random)]


def points(pool: Sequence[Candidates], vectors: np.ndarray, chosen: Sequence[int], seed: int) -> dict[str, list[Point]]:
    """Returns a random sample of the prompts left out and chosen, on the embeddings' first two principal components."""
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    plane = centred @ axes[:, -2:][:, ::-1] if vectors.shape[1] > 1 else np.zeros((len(vectors), 2))
    low, high = plane.min(axis=0), plane.max(axis=0)
    room = np.array([WIDTH, HEIGHT]) - 2 * MARGIN
    placed = MARGIN + (plane - low) / np.where(high > low, high - low, 1) * room
    is_chosen = np.zeros(len(pool), dtype=bool)
    is_chosen[list(chosen)] = True
    rng, drawn = np.random.default_rng(seed), {}
    for name, most in ON_MAP.items():
        members = np.flatnonzero(is_chosen == (name == "chosen"))
        members = np.sort(rng.permutation(members)[:most])
        drawn[name] = [Point(*map(float, placed[index].round(1)), text_of(pool[index])[:SHOWN]) for index in members]
    return drawn
