"""Near-duplicate prompts: word 3-gram sets whose Jaccard similarity is at least 0.8.

Library. Exact, unlike MinHash: by the prefix filter of set-similarity joins. If two sets of sizes x and y have a
similarity of at least t, they share a member among the first x - ceil(t x) + 1 and y - ceil(t y) + 1 in any
common order of all members. The order is by rarity in the reference, so few pairs need to be compared, and the
time grows with the number of words that are probed.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from data_preprocess.dialogue import split_turn

WORDS = re.compile(r"\w+")
N_WORDS = 3
SHARED, OF = 4, 5  # the threshold 0.8 as a fraction: whole numbers keep pairs right at it on one side
METHOD = (
    f"Jaccard similarity of the sets of word {N_WORDS}-grams (lower case, whole prompt) of at least {SHARED / OF}, "
    "computed exactly"
)


def shingles(turns: list[str]) -> frozenset[tuple[str, ...]]:
    """The prompt's word 3-grams, role tags left out; of a prompt of one or two words, those words."""
    words = WORDS.findall(" ".join(split_turn(turn)[1] for turn in turns).lower())
    if len(words) < N_WORDS:
        return frozenset([tuple(words)])
    return frozenset(zip(*(words[offset:] for offset in range(N_WORDS)), strict=False))


def similar(one: frozenset, other: frozenset) -> bool:
    """True where the Jaccard similarity reaches the threshold."""
    shared = len(one & other)
    return OF * shared >= SHARED * (len(one) + len(other) - shared)


class NearDuplicates:
    """Prompts to which others can be compared."""

    def __init__(self, reference: Iterable[list[str]]):
        self.sets = list({shingles(turns) for turns in reference})
        self.rarity = Counter(member for members in self.sets for member in members)
        self.index: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for position, members in enumerate(self.sets):
            for member in self._prefix(members):
                self.index[member].append(position)

    def has(self, turns: list[str]) -> bool:
        """True where a reference prompt is a near-duplicate of this one."""
        members = shingles(turns)
        seen: set[int] = set()
        for member in self._prefix(members):
            for position in self.index.get(member, ()):
                if position not in seen:
                    seen.add(position)
                    if similar(members, self.sets[position]):
                        return True
        return False

    def _prefix(self, members: frozenset) -> list:
        # Members that the reference lacks come first: nothing is looked up under them.
        ordered = sorted(members, key=lambda member: (self.rarity[member], member))
        least_shared = -(-SHARED * len(members) // OF)
        return ordered[: len(members) - least_shared + 1]
