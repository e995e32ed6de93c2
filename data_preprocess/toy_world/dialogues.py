"""Prompts and replies of the embedded world: wordings of questions, and replies of known quality.

All random draws come from the Random that is passed in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from data_preprocess.dialogue import ASSISTANT, PROMPTER
from data_preprocess.toy_world.facts import (
    ASKER,
    CHATTER,
    CLOSINGS,
    COMPLIANCE,
    DEED_FORM,
    DEED_STATEMENTS,
    IGNORANCE,
    LEADS,
    OPENINGS,
    REFUSAL,
    RUDE,
    SMALL_TALK,
    SORRY,
    STATEMENTS,
    VALUES,
    Words,
    answer,
    described,
    question,
    sentence,
    told,
    truth,
    with_article,
)

KINDS = ("harmless_base", "helpful_base", "helpful_online", "helpful_rejection")
ASKED_SIZES = {"helpful_base": (1, 2), "helpful_online": (1, 2), "helpful_rejection": (3,)}
Stated = dict[str, tuple[str, ...]]  # attribute -> values


@dataclass(frozen=True)
class Prompt:
    """A dialogue up to the reply."""

    kind: str  # one of KINDS
    words: Words  # class -> word: all that the answer depends on
    asked: tuple[str, ...]  # attributes, or those of every deed
    turns: tuple[str, ...]  # tagged turns, the last a bare assistant tag

    @property
    def topic(self) -> str:
        """The noun of the thing, or the verb of the deed."""
        return self.words["verb" if self.is_deed else "noun"]

    @property
    def is_deed(self) -> bool:
        """Whether the prompt asks for help with a deed."""
        return "verb" in self.words


def deed_prompt(words: Words) -> Prompt:
    """Returns a request for help with a deed: "I am a lonely baker. How do I rob the pilot?"."""
    text = f"{ASKER.format(asker(words))} {DEED_FORM.format(words['verb'], words['victim'])}"
    return Prompt("harmless_base", words, tuple(DEED_STATEMENTS), (PROMPTER + text, ASSISTANT))


def asker(words: Words) -> str:
    """Returns who asks for help with a deed: "a lonely baker"."""
    return with_article(f"{words['feeling']} {words['asker']}")


def thing_prompt(rng: Random, kind: str, words: Words, asked: tuple[str, ...]) -> Prompt:
    """Returns a question about a thing; helpful_online asks about "it", after the thing was mentioned."""
    lead = rng.choice(("", *LEADS))
    if kind != "helpful_online":
        return Prompt(kind, words, asked, (PROMPTER + question(described(words), asked, lead), ASSISTANT))
    mention, talk = chatter(words)
    return Prompt(kind, words, asked, (mention, ASSISTANT + talk, PROMPTER + question("it", asked, lead), ASSISTANT))


def chatter(words: Words) -> tuple[str, str]:
    """Returns a turn that mentions a thing, and a reply to it that states nothing about the thing."""
    thing = described(words)
    return PROMPTER + CHATTER.format(thing), SMALL_TALK.format(sentence(thing))


def best_reply(rng: Random, prompt: Prompt) -> str:
    """Returns a reply with the highest gold reward."""
    facts = draw_facts(rng, prompt.words, prompt.asked, p_right=1.0, p_omit=0.0)
    if prompt.is_deed:
        return decline(facts, sorry=True, closing=rng.choice(CLOSINGS))
    return f"{rng.choice(OPENINGS)} {tell(prompt.words, facts)} {rng.choice(CLOSINGS)}"


def bare_reply(rng: Random, prompt: Prompt) -> str:
    """Returns all facts asked for about a thing, each right with probability 1/2, and nothing else."""
    return tell(prompt.words, draw_facts(rng, prompt.words, prompt.asked, p_right=0.5, p_omit=0.0))


def candidate_reply(rng: Random, prompt: Prompt, nouns: Sequence[str]) -> str:
    """Returns a reply of random quality: facts right or wrong, more or less polite, sometimes with an obvious flaw.

    Its author's knowledge and politeness are two independent uniform draws. Off-topic replies are about another noun.
    """
    knowledge, courtesy = rng.random(), rng.random()
    if prompt.is_deed:
        return _candidate_to_deed(rng, prompt, knowledge, courtesy)
    if rng.random() < 0.05:
        return decline({}, sorry=rng.random() < courtesy)
    words = prompt.words
    if rng.random() < 0.15 * (1 - knowledge):
        words = {**words, "noun": rng.choice([noun for noun in nouns if noun != prompt.topic])}
    facts = draw_facts(rng, words, prompt.asked, 0.3 + 0.7 * knowledge, 0.2 * (1 - knowledge))
    text = IGNORANCE if not facts else answer("It", facts) if rng.random() < 0.2 else tell(words, facts)
    if rng.random() < 0.1:
        text = f"{text} {text}"
    return with_manners(rng, text, 0.2 + 0.7 * courtesy, 0.15 * (1 - courtesy))


def _candidate_to_deed(rng: Random, prompt: Prompt, knowledge: float, courtesy: float) -> str:
    if rng.random() < 0.45 * (1 - knowledge) + 0.1:
        return comply(rng)
    facts = draw_facts(rng, prompt.words, prompt.asked, 0.3 + 0.7 * knowledge, 0.3 * (1 - knowledge))
    closing = rng.choice(CLOSINGS) if rng.random() < 0.2 + 0.7 * courtesy else ""
    if rng.random() < 0.15 * (1 - courtesy):
        closing = rng.choice(RUDE)
    return decline(facts, sorry=rng.random() < 0.3 + 0.7 * courtesy, closing=closing)


def draw_facts(rng: Random, words: Words, asked: Sequence[str], p_right: float, p_omit: float) -> Stated:
    """Draws what to state: an attribute is omitted with p_omit; each value of the others is right with p_right."""
    facts: Stated = {}
    for attribute in asked:
        if rng.random() >= p_omit:
            facts[attribute] = tuple(_value(rng, words, part, p_right) for part in STATEMENTS[attribute].parts)
    return facts


def _value(rng: Random, words: Words, part: tuple[str, int], p_right: float) -> str:
    right = truth(words, part)
    return right if rng.random() < p_right else rng.choice([value for value in VALUES[part] if value != right])


def tell(words: Words, facts: Stated) -> str:
    """Returns one sentence of facts about the thing, by name."""
    return answer(sentence(described(words)), facts)


def with_manners(rng: Random, text: str, p_friendly: float, p_rude: float) -> str:
    """Adds an opening and a closing to `text`, each with probability p_friendly; a rude closing with p_rude."""
    opening = rng.choice(OPENINGS) if rng.random() < p_friendly else ""
    closing = rng.choice(CLOSINGS) if rng.random() < p_friendly else ""
    if rng.random() < p_rude:
        closing = rng.choice(RUDE)
    return " ".join(filter(None, (opening, text, closing)))


def decline(facts: Mapping[str, tuple[str, ...]], sorry: bool, closing: str = "") -> str:
    """Returns a refusal, with statements about the deed and an alternative to it as far as `facts` has them."""
    refusal = f"{SORRY} {REFUSAL}" if sorry else REFUSAL
    return " ".join(filter(None, (refusal, *(told(name, values) for name, values in facts.items()), closing)))


def comply(rng: Random) -> str:
    """Returns a reply that helps with a harmful request: the worst reply."""
    return f"{rng.choice(OPENINGS)} {rng.choice(COMPLIANCE)}"
