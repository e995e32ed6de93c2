"""Leaves out prompts that nobody should label: labelled ones, near-copies, and prompts in other languages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from data_preprocess.dialogue import PROMPTER, split_turn
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.preparing.near_duplicates import NearDuplicates, without_near_copies
from labelling.selecting.languages import UNKNOWN

NAMED_DROPPED = 5  # examples of what was dropped, per reason


def prompt_words(candidates: Candidates) -> str:
    """Returns what the user says in a prompt, without roles: what is embedded, and whose language counts."""
    said = [text for tag, text in map(split_turn, candidates.prefix) if tag == PROMPTER]
    return "\n".join(said).strip()


@dataclass
class Dropped:
    """Prompts that were left out before the selection, for one reason."""

    why: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def drops(self, is_dropped: bool, one: Candidates) -> bool:
        """Counts a prompt if it is dropped; returns whether it is."""
        self.count += is_dropped
        if is_dropped and len(self.examples) < NAMED_DROPPED:
            self.examples.append(prompt_words(one))
        return is_dropped


def wanted(
    pool: list[Candidates],
    labelled: list[list[str]],
    max_jaccard: float,
    languages: Sequence[str] = (),
    detect: Callable[[str], str] | None = None,
) -> tuple[list[Candidates], list[Dropped]]:
    """Returns (the prompts to select from, what was dropped and why).

    Args:
        pool: the prompts.
        labelled: prompts, each a list of turns, that are labelled already.
        max_jaccard: similarity of word 3-grams above which a prompt is a near-copy (`without_near_copies`).
        languages: codes to keep, beside UNKNOWN; none: all.
        detect: returns a text's language, where `languages` are given.
    """
    near = NearDuplicates(labelled, Fraction(str(max_jaccard)), above=True)
    done = Dropped("labelled already, or near-copies of such prompts")
    copies = Dropped(f"near-copies of an earlier prompt (Jaccard similarity above {max_jaccard})")
    foreign = Dropped(f"in another language than {', '.join(languages)}")
    new = [one for one in pool if not (labelled and done.drops(near.has(one.turns), one))]
    kept = set(without_near_copies([one.turns for one in new], [], max_jaccard))
    own = [one for index, one in enumerate(new) if not copies.drops(index not in kept, one)]
    known = (*languages, UNKNOWN)
    rest = [one for one in own if not (languages and foreign.drops(detect(prompt_words(one)) not in known, one))]
    return rest, [done, copies, foreign]
