"""The versioned prompt and rubric of an LLM judge (rubric.yaml), and the strict reading of its answers."""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from data_preprocess.dialogue import ROLE_NAMES, split_system, split_turn

FILE = Path(__file__).with_name("rubric.yaml")
PLACES = re.compile(r"\{(prompt|first|second)\}")


@dataclass(frozen=True)
class Rubric:
    """The texts of rubric.yaml."""

    version: str
    system: str
    user: str
    verdicts: dict[str, float]  # mark -> 1 the response shown first, 0 the second, 0.5 neither

    def messages(self, turns: list[str], first: str, second: str) -> list[dict[str, str]]:
        """Returns the chat messages that ask about two responses, in this order.

        Args:
            turns: the prompt's turns, the last one a bare tag; the first may be a system message.
            first, second: the responses; what looks like a place to fill in stays as it is.
        """
        texts = {"prompt": conversation(turns), "first": first.strip(), "second": second.strip()}
        user = PLACES.sub(lambda found: texts[found[1]], self.user)
        return [{"role": "system", "content": self.system}, {"role": "user", "content": user}]

    def verdict(self, answer: str) -> float | None:
        """Returns the verdict of an answer, or None unless its last line is one mark and there is no other."""
        lines = answer.strip().splitlines()
        mark = lines[-1].strip() if lines else ""
        marks = sum(answer.count(each) for each in self.verdicts)
        return self.verdicts[mark] if marks == 1 and mark in self.verdicts else None


def load_rubric() -> Rubric:
    """Reads rubric.yaml."""
    return Rubric(**yaml.safe_load(FILE.read_text(encoding="utf-8")))


def conversation(turns: list[str]) -> str:
    """Returns a prompt as a judge reads it, a line with the speaker's name for each turn."""
    system, turns = split_system(turns)
    said = [f"System: {system}"] if system else []
    pairs = map(split_turn, turns)
    return "\n".join([*said, *(f"{ROLE_NAMES[tag].strip()} {text.strip()}" for tag, text in pairs if text.strip())])
