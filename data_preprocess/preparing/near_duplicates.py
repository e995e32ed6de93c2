"""Near-duplicate prompts: sets of word 3-grams with a Jaccard similarity of at least 0.8, or above another limit.

Exact, unlike MinHash, by the prefix filter of set-similarity joins: if two sets of sizes x and y have a similarity of
at least t, they share a member among the first x - ceil(t x) + 1 and y - ceil(t y) + 1 in any common order of all
members. The order is by rarity in the reference, so few pairs are compared and time grows with the number of words.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from fractions import Fraction

from data_preprocess.dialogue import split_system, split_turn
from data_preprocess.words import words

N_WORDS = 3
THRESHOLD = Fraction(4, 5)  # 0.8: exact arithmetic for pairs right at the threshold
METHOD = (
    f"Jaccard similarity of the sets of word {N_WORDS}-grams (lower case, whole prompt; of characters where a script "
    f"has no blanks between words) of at least {float(THRESHOLD)}, computed exactly"
)


def shingles(turns: list[str]) -> frozenset[tuple[str, ...]]:
    """Returns the prompt's word 3-grams without role tags; for a prompt of one or two words, those words.

    Of a prompt without words, such as emoji, characters count as words: else all such prompts would be equal. Each
    3-gram is marked by the system message, if there is one (`with_system`): prompts under different ones are different.
    """
    system, turns = split_system(turns)
    text = " ".join(split_turn(turn)[1] for turn in turns).lower()
    found = words(text) or list("".join(text.split()))
    grams = zip(*(found[offset:] for offset in range(N_WORDS)), strict=False) if len(found) >= N_WORDS else [found]
    return frozenset((system, *gram) if system else tuple(gram) for gram in grams)


def similar(one: frozenset, other: frozenset, threshold: Fraction = THRESHOLD, above: bool = False) -> bool:
    """Returns whether the Jaccard similarity reaches the threshold or, with `above`, exceeds it."""
    shared = len(one & other)
    excess = threshold.denominator * shared - threshold.numerator * (len(one) + len(other) - shared)
    return excess > 0 or (excess == 0 and not above)


def without_near_copies(pool: list[list[str]], base: Iterable[list[str]], max_jaccard: float) -> list[int]:
    """Returns indices of prompts that are not near-copies of one in `base` or of an earlier kept one.

    Args:
        pool: prompts, each a list of turns; those of `with_system` are compared under one system message only.
        base: existing prompts.
        max_jaccard: similarity, from 0 to below 1, above which a prompt is a near-copy; equal 3-gram sets always are.
    """
    near = NearDuplicates(base, Fraction(str(max_jaccard)), above=True, common=pool)
    kept = []
    for index, turns in enumerate(pool):
        if not near.has(turns):
            near.add(turns)
            kept.append(index)
    return kept


class NearDuplicates:
    """Reference prompts to compare others with."""

    def __init__(
        self,
        reference: Iterable[list[str]],
        threshold: Fraction = THRESHOLD,
        above: bool = False,
        common: Iterable[list[str]] = (),
    ):
        """`threshold` and `above` as for `similar`; `common`: prompts that may be added, counted for rarity."""
        self.threshold, self.above = threshold, above
        self.sets: list[frozenset] = []
        self.index: dict[tuple[str, ...], list[int]] = defaultdict(list)
        first = {shingles(turns) for turns in reference}
        # Counted once: if the order of members changed, earlier index entries would no longer be found.
        self.rarity = Counter(member for members in [*first, *map(shingles, common)] for member in members)
        for members in first:
            self._add(members)

    def add(self, turns: list[str]) -> None:
        """Adds a prompt to the reference."""
        self._add(shingles(turns))

    def _add(self, members: frozenset) -> None:
        for member in self._prefix(members):
            self.index[member].append(len(self.sets))
        self.sets.append(members)

    def has(self, turns: list[str]) -> bool:
        """Returns whether a reference prompt is a near-duplicate of this one."""
        members = shingles(turns)
        seen: set[int] = set()
        for member in self._prefix(members):
            for position in self.index.get(member, ()):
                if position not in seen:
                    seen.add(position)
                    if similar(members, self.sets[position], self.threshold, self.above):
                        return True
        return False

    def _prefix(self, members: frozenset) -> list:
        # Members missing in the reference come first; looking them up finds nothing.
        ordered = sorted(members, key=lambda member: (self.rarity[member], member))
        least_shared = -(-self.threshold.numerator * len(members) // self.threshold.denominator)
        return ordered[: len(members) - least_shared + 1]
