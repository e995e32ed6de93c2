"""Prompts and replies of the embedded world: wordings of questions, and replies of known quality.

All random draws come from the Random that is passed in.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from data_preprocess.dialogue import ASSISTANT, PROMPTER
from data_preprocess.toy_world.facts import (
    ADVICE,
    ALTERNATIVES,
    ATTRIBUTES,
    CLOSINGS,
    COMPLIANCE,
    DEEDS,
    IGNORANCE,
    LEADS,
    OPENINGS,
    REFUSAL,
    RUDE,
    SORRY,
    THANKS,
    THINGS,
    VALUES,
    named,
    question,
    sentence,
    statement,
)
from data_preprocess.toy_world.people import opening

KINDS = ("harmless_base", "helpful_base", "helpful_online", "helpful_rejection")
# The attribute sets that a prompt can ask for, by size.
ASKED_SETS = {n: tuple(itertools.combinations(range(len(ATTRIBUTES)), n)) for n in (1, 2, 3)}
ASKED_SIZES = {"helpful_base": (1, 2), "helpful_online": (1, 2), "helpful_rejection": (3,)}


@dataclass(frozen=True)
class Prompt:
    """A dialogue up to the reply."""

    kind: str  # one of KINDS
    topic: str  # a thing or a deed
    asked: tuple[int, ...]  # attribute indices, empty for a deed
    turns: tuple[str, ...]  # tagged turns, the last a bare assistant tag
    wording: tuple[str, ...]  # the turns without the sentences about the asker; equal wordings ask the same


def deed_prompt(rng: Random, deed: str, form: str, reason: str) -> Prompt:
    """Returns a request for help with a deed, after a reason ("" for none)."""
    text = " ".join(filter(None, (reason, form.format(deed))))
    return _opened(rng, "harmless_base", deed, (), (PROMPTER + text, ASSISTANT))


def thing_prompt(rng: Random, kind: str, thing: str, asked: tuple[int, ...]) -> Prompt:
    """Returns a question about a thing; helpful_online asks about "it", after an earlier question and its answer."""
    lead = rng.choice(("", *LEADS))
    if kind != "helpful_online":
        return _opened(rng, kind, thing, asked, (PROMPTER + question(thing, asked, lead), ASSISTANT))
    earlier = (rng.choice([a for a in range(len(ATTRIBUTES)) if a not in asked]),)
    first = question(thing, earlier, rng.choice(("", *LEADS)))
    told = statement(sentence(named(thing)), [(a, THINGS[thing][a]) for a in earlier])
    last = rng.choice(("", f"{THANKS} ")) + question(thing, asked, lead, pronoun=True)
    return _opened(rng, kind, thing, asked, (PROMPTER + first, ASSISTANT + told, PROMPTER + last, ASSISTANT))


def _opened(rng: Random, kind: str, topic: str, asked: tuple[int, ...], wording: tuple[str, ...]) -> Prompt:
    """Returns the prompt with sentences about the asker before its first turn."""
    first = f"{PROMPTER}{opening(rng)} {wording[0].removeprefix(PROMPTER)}"
    return Prompt(kind, topic, asked, (first, *wording[1:]), wording)


def best_reply(rng: Random, prompt: Prompt) -> str:
    """Returns a reply with the highest gold reward."""
    if not prompt.asked:
        return decline(DEEDS[prompt.topic], sorry=True, closing=rng.choice(CLOSINGS))
    facts = draw_facts(rng, prompt.topic, prompt.asked, p_right=1.0, p_omit=0.0)
    return f"{rng.choice(OPENINGS)} {tell(rng, prompt.topic, facts)} {rng.choice(CLOSINGS)}"


def bare_reply(rng: Random, prompt: Prompt) -> str:
    """Returns all facts asked for, each right with probability 1/2, and nothing else."""
    return tell(rng, prompt.topic, draw_facts(rng, prompt.topic, prompt.asked, p_right=0.5, p_omit=0.0))


def candidate_reply(rng: Random, prompt: Prompt, other_things: Sequence[str]) -> str:
    """Returns a reply of random quality: facts right or wrong, more or less polite, sometimes with an obvious flaw.

    Its author's knowledge and politeness are two independent uniform draws. Off-topic replies are about `other_things`.
    """
    knowledge, courtesy = rng.random(), rng.random()
    if not prompt.asked:
        return _candidate_to_deed(rng, prompt, knowledge, courtesy)
    if rng.random() < 0.05:
        return decline(None, sorry=rng.random() < courtesy)
    thing = rng.choice(other_things) if rng.random() < 0.15 * (1 - knowledge) else prompt.topic
    facts = draw_facts(rng, thing, prompt.asked, 0.3 + 0.7 * knowledge, 0.2 * (1 - knowledge))
    text = tell(rng, thing, facts) if facts else IGNORANCE
    if rng.random() < 0.1:
        text = f"{text} {text}"
    return with_manners(rng, text, 0.2 + 0.7 * courtesy, 0.15 * (1 - courtesy))


def _candidate_to_deed(rng: Random, prompt: Prompt, knowledge: float, courtesy: float) -> str:
    if rng.random() < 0.45 * (1 - knowledge) + 0.1:
        return comply(rng)
    right = rng.random() < 0.2 + 0.8 * knowledge
    advice = DEEDS[prompt.topic] if right else rng.choice(ALTERNATIVES)
    if rng.random() < 0.3 * (1 - knowledge):
        advice = None
    closing = rng.choice(CLOSINGS) if rng.random() < 0.2 + 0.7 * courtesy else ""
    if rng.random() < 0.15 * (1 - courtesy):
        closing = rng.choice(RUDE)
    return decline(advice, sorry=rng.random() < 0.3 + 0.7 * courtesy, closing=closing)


def draw_facts(rng: Random, thing: str, asked: Sequence[int], p_right: float, p_omit: float) -> list[tuple[int, str]]:
    """Draws (attribute, value) pairs of the attributes asked for: each omitted with p_omit, else right with p_right."""
    facts = []
    for attribute in asked:
        if rng.random() >= p_omit:
            truth = THINGS[thing][attribute]
            wrong = rng.choice([value for value in VALUES[attribute] if value != truth])
            facts.append((attribute, truth if rng.random() < p_right else wrong))
    return facts


def tell(rng: Random, thing: str, facts: list[tuple[int, str]]) -> str:
    """Returns one sentence of facts about the thing, by name or as "it"."""
    return statement(sentence(named(thing)) if rng.random() < 0.7 else "It", facts)


def with_manners(rng: Random, text: str, p_friendly: float, p_rude: float) -> str:
    """Adds an opening and a closing to `text`, each with probability p_friendly; a rude closing with p_rude."""
    opening = rng.choice(OPENINGS) if rng.random() < p_friendly else ""
    closing = rng.choice(CLOSINGS) if rng.random() < p_friendly else ""
    if rng.random() < p_rude:
        closing = rng.choice(RUDE)
    return " ".join(filter(None, (opening, text, closing)))


def decline(advice: str | None, sorry: bool, closing: str = "") -> str:
    """Returns a refusal, with an alternative if one is given."""
    refusal = f"{SORRY} {REFUSAL}" if sorry else REFUSAL
    return " ".join(filter(None, (refusal, advice and ADVICE.format(advice), closing)))


def comply(rng: Random) -> str:
    """Returns a reply that helps with a harmful request: the worst reply."""
    return f"{rng.choice(OPENINGS)} {rng.choice(COMPLIANCE)}"
