"""The embedded world: a seeded generator of HH-style dialogues with ranked responses, a corpus and a tokenizer.

Helpful prompts ask about everyday things (facts.py); harmful ones ask for help with a deed, which should be declined
with an alternative. All prompts start with sentences about the asker (people.py). The study asks about `study_things`
and `study_deeds`. The base model's corpus contains facts and dialogues of mixed quality about all OTHER things and
deeds and only mentions those of the study, so a base model knows how to answer but not the facts asked for.

There are four test files. None of their prompts occurs in a training file, since some attribute combinations of each
thing and some wordings of each deed are reserved for them:
    harmless_base       a request for help with a deed
    helpful_base        a question for one or two facts about a thing
    helpful_online      the same in a second turn, about "it", after an answered question
    helpful_rejection   a question for three facts at once
"""

import functools
import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from data_preprocess.dialogue import ASSISTANT, PROMPTER, STOP_STRINGS, training_text
from data_preprocess.files import json_lines, write_files, write_json
from data_preprocess.toy_world.dialogues import (
    ASKED_SETS,
    ASKED_SIZES,
    KINDS,
    Prompt,
    bare_reply,
    best_reply,
    candidate_reply,
    comply,
    decline,
    deed_prompt,
    draw_facts,
    tell,
    thing_prompt,
    with_manners,
)
from data_preprocess.toy_world.facts import (
    CHATTER,
    DEED_FORMS,
    DEEDS,
    NEWS,
    REASONS,
    SMALL_TALK,
    THINGS,
    named,
    sentence,
    statement,
)
from data_preprocess.toy_world.gold_reward import gold_reward
from data_preprocess.toy_world.word_tokenizer import PIECE, vocabulary, write_tokenizer

# A reward model learns facts fastest from short questions.
_REWARD_KINDS = ("helpful_base", "helpful_base", *KINDS)
_DEED_WORDINGS = tuple(itertools.product(DEED_FORMS, REASONS))


@dataclass(frozen=True)
class WorldConfig:
    """Everything that determines the world's data, apart from the tables and rules in this folder."""

    seed: int = 42  # of every random draw
    study_things: int = 32  # things that the study asks about, four facts each, none of which is in the corpus
    study_deeds: int = 16  # harmful deeds that the study asks help with
    ranking_len: int = 4  # responses per training prompt
    train_rows: int = 400  # rankings from which split.py and sample.py draw the subsets
    dev_rows: int = 60  # prompts for checkpoint selection, divided evenly among the four kinds
    test_rows: int = 360  # prompts in each of the four test files
    plenty_rows: int = 1600  # further rankings like those of the training file, for `reproduce.py --check`
    reward_rows: int = 1800  # training rankings of the reward model, about the study's things and deeds
    reward_terse: float = 0.5  # share of its helpful rankings whose responses differ in facts only
    reward_heldout_rows: int = 200  # rankings for its held-out accuracy, worded like the test files
    corpus_lines: int = 20000  # texts in the base model's corpus
    annotator_noise: float = 0.5  # standard deviation of the annotator's error, on the scale of logit(gold)
    reward_noise: float = 0.0  # the same for the reward model's rankings
    gold_floor: float = 0.05  # gold is clipped this far from 0 and 1 before the logit: rewards within +-3
    base_slip: float = 0.05  # share of wrong facts in the corpus
    base_comply: float = 0.8  # share of harmful requests that the corpus complies with


@functools.cache
def world_hash(config: WorldConfig) -> str:
    """Returns twelve hex digits that change with any byte of the world's files, with its tokenizer and the gold reward.

    The hash does not depend on the machine, the Python version, or the names and wording of the source files.
    """
    content = {
        "files": {name: hashlib.sha256(lines).hexdigest() for name, lines in world_files(config).items()},
        "tokenizer": [PIECE, *vocabulary()],
        "gold": gold_probe(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def gold_probe() -> list[tuple[str, float]]:
    """Returns (reply, gold reward) of good and faulty replies to fixed prompts, about every thing and every deed."""
    rng = Random("gold probe")
    prompts = [deed_prompt(rng, deed, DEED_FORMS[0], "") for deed in DEEDS]
    for thing in THINGS:
        prompts.append(thing_prompt(rng, "helpful_rejection", thing, (0, 1, 2)))
        prompts.append(thing_prompt(rng, "helpful_online", thing, (3,)))
    probe = []
    for prompt, another in zip(prompts, prompts[1:] + prompts[:1], strict=True):
        best, foreign = best_reply(rng, prompt), best_reply(rng, another)
        candidate = candidate_reply(rng, prompt, list(THINGS))
        replies = [candidate, f"{best} {candidate}", f"{best} {foreign}", f"{best} " * 5, best[:-1], ""]
        replies += [decline(None, sorry=True), f"{best} {comply(rng)}"]
        replies += [f"{best} {stop} {foreign}" for stop in STOP_STRINGS]
        probe += [(reply, round(gold_reward(prompt.turns, reply), 6)) for reply in replies]
    return probe


def write_world(root: Path, config: WorldConfig = WorldConfig()) -> None:  # noqa: B008 (frozen)
    """Writes the world's data and its tokenizer under root/data; the bytes are always the same."""
    data = Path(root) / "data"
    write_files({data / name: [lines] for name, lines in world_files(config).items()})
    write_tokenizer(data / "toy" / "tokenizer")
    write_json(data / "toy" / "world.json", {"hash": world_hash(config), "config": asdict(config)}, indent=4)


@functools.lru_cache(maxsize=1)
def world_files(config: WorldConfig) -> dict[str, bytes]:
    """Returns the contents of the data files by path under data/, without the tokenizer; takes about a second.

    Raises ValueError if the world is too small for the number of distinct prompts.
    """
    world = _World(config)
    tests = {kind: world.prompts(f"test {kind}", config.test_rows, [kind], held_out=True) for kind in KINDS}
    taken = {prompt.wording for prompts in tests.values() for prompt in prompts}
    dev = world.prompts("dev", config.dev_rows, KINDS, held_out=True, taken=taken)
    taken |= {prompt.wording for prompt in dev}
    heldout = world.prompts("reward heldout", config.reward_heldout_rows, KINDS, held_out=True, taken=taken)
    train = world.prompts("train", config.train_rows, KINDS, held_out=False)
    reward_train = world.prompts("reward train", config.reward_rows, _REWARD_KINDS, held_out=False)
    plenty = world.prompts("plenty", config.plenty_rows, KINDS, held_out=False)

    rows = {
        "original/hh_train_len4/train.json": world.rankings("train", train, config.annotator_noise),
        "hh_dev/sampled_dev.json": world.pairs("dev", dev),
        **{f"hh_test/{kind}.json": world.pairs(f"test {kind}", prompts) for kind, prompts in tests.items()},
        "toy/plenty.json": world.rankings("plenty", plenty, config.annotator_noise),
        "toy/reward_train.json": world.rankings("reward train", reward_train, config.reward_noise, config.reward_terse),
        "toy/reward_heldout.json": world.rankings("reward heldout", heldout, config.reward_noise),
        "toy/pretrain.jsonl": ({"text": text} for text in world.corpus()),
    }
    return {name: "".join(json_lines(each)).encode() for name, each in rows.items()}


class _World:
    """The split into study and other topics, and all random draws; each file has its own random stream."""

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        rng = self._rng("topics")
        things, deeds = list(THINGS), list(DEEDS)
        rng.shuffle(things)
        rng.shuffle(deeds)
        self.things, self.other_things = things[: config.study_things], things[config.study_things :]
        self.deeds, self.other_deeds = deeds[: config.study_deeds], deeds[config.study_deeds :]
        # Reserved for the test files: of each thing one of 4 single attributes, two of 6 pairs and two of 4 triples,
        # and half of the wordings of each deed.
        self.test_sets = {
            thing: {asked for n, sets in ASKED_SETS.items() for asked in rng.sample(sets, 1 if n == 1 else 2)}
            for thing in self.things
        }
        self.test_wordings = {deed: set(rng.sample(_DEED_WORDINGS, len(_DEED_WORDINGS) // 2)) for deed in self.deeds}

    def _rng(self, stream: str) -> Random:
        return Random(f"{self.config.seed} {stream}")

    def prompts(
        self, stream: str, count: int, kinds: Sequence[str], held_out: bool, taken: Iterable[tuple[str, ...]] = ()
    ) -> list[Prompt]:
        """Returns `count` study prompts with distinct wordings, none in `taken`, divided evenly among the kinds."""
        rng = self._rng(f"{stream} prompts")
        seen = set(taken)
        prompts: list[Prompt] = []
        for _ in range(100 * count):
            if len(prompts) == count:
                break
            prompt = self._study_prompt(rng, kinds[len(prompts) % len(kinds)], held_out)
            if prompt.wording not in seen:
                seen.add(prompt.wording)
                prompts.append(prompt)
        if len(prompts) < count:
            raise ValueError(f"the world is too small for {count} distinct {stream} prompts")
        rng.shuffle(prompts)
        return prompts

    def _study_prompt(self, rng: Random, kind: str, held_out: bool) -> Prompt:
        if kind == "harmless_base":
            deed = rng.choice(self.deeds)
            kept = self.test_wordings[deed]
            return deed_prompt(rng, deed, *rng.choice([w for w in _DEED_WORDINGS if (w in kept) == held_out]))
        thing = rng.choice(self.things)
        sets = ASKED_SETS[rng.choice(ASKED_SIZES[kind])]
        asked = rng.choice([s for s in sets if (s in self.test_sets[thing]) == held_out])
        return thing_prompt(rng, kind, thing, asked)

    def _candidate(self, rng: Random, prompt: Prompt) -> str:
        return candidate_reply(rng, prompt, [thing for thing in self.things if thing != prompt.topic])

    def rankings(self, stream: str, prompts: list[Prompt], noise: float, terse: float = 0.0) -> Iterator[dict]:
        """Yields rows of distinct responses of random quality, ordered by the annotator's rewards.

        In a share `terse` of the helpful rows the responses are bare facts, some right and some wrong.
        """
        rng = self._rng(f"{stream} responses")
        for prompt in prompts:
            bare = bool(prompt.asked) and rng.random() < terse
            texts: list[str] = []
            while len(texts) < self.config.ranking_len:
                text = bare_reply(rng, prompt) if bare else self._candidate(rng, prompt)
                if text not in texts:
                    texts.append(text)
            scored = [(round(self._logit(prompt, text) + rng.gauss(0.0, noise), 4), text) for text in texts]
            yield _row(prompt, sorted(scored, key=lambda pair: -pair[0]))

    def pairs(self, stream: str, prompts: list[Prompt]) -> Iterator[dict]:
        """Yields rows of a best response, the reference, and a worse one, with noise-free rewards."""
        rng = self._rng(f"{stream} responses")
        for prompt in prompts:
            best = (self._logit(prompt, text := best_reply(rng, prompt)), text)
            other = best
            while other[0] >= best[0]:
                other = (self._logit(prompt, text := self._candidate(rng, prompt)), text)
            yield _row(prompt, [best, other])

    def _logit(self, prompt: Prompt, text: str) -> float:
        floor = self.config.gold_floor
        gold = min(1 - floor, max(floor, gold_reward(prompt.turns, text)))
        return round(math.log(gold / (1 - gold)), 4)

    def corpus(self) -> Iterator[str]:
        """Yields the base model's texts: facts and dialogues about other topics, and mentions of study topics."""
        rng = self._rng("corpus")
        kinds, weights = ("chatter", "news", "fact", *KINDS), (14, 2, 10, 14, 22, 19, 19)
        for _ in range(self.config.corpus_lines):
            kind = rng.choices(kinds, weights)[0]
            if kind == "chatter":
                yield self._corpus_chatter(rng)
            elif kind == "news":
                yield rng.choice(NEWS).format(rng.choice(self.deeds + self.other_deeds))
            elif kind == "fact":
                thing = rng.choice(self.other_things)
                asked = rng.choice(ASKED_SETS[rng.choice((1, 2, 3))])
                yield statement(sentence(named(thing)), [(a, THINGS[thing][a]) for a in asked])
            elif kind == "harmless_base":
                yield self._corpus_refusal(rng)
            else:
                yield self._corpus_answer(rng, kind)

    def _corpus_chatter(self, rng: Random) -> str:
        thing = named(rng.choice(self.things + self.other_things))
        turns = [PROMPTER + rng.choice(CHATTER).format(thing), ASSISTANT]
        return training_text(turns, rng.choice(SMALL_TALK).format(sentence(thing)))

    def _corpus_refusal(self, rng: Random) -> str:
        prompt = deed_prompt(rng, rng.choice(self.other_deeds), *rng.choice(_DEED_WORDINGS))
        advice = DEEDS[prompt.topic] if rng.random() < 0.8 else None
        reply = comply(rng) if rng.random() < self.config.base_comply else decline(advice, rng.random() < 0.5)
        return training_text(list(prompt.turns), reply)

    def _corpus_answer(self, rng: Random, kind: str) -> str:
        thing = rng.choice(self.other_things)
        prompt = thing_prompt(rng, kind, thing, rng.choice(ASKED_SETS[rng.choice(ASKED_SIZES[kind])]))
        facts = draw_facts(rng, thing, prompt.asked, p_right=1 - self.config.base_slip, p_omit=0.0)
        return training_text(list(prompt.turns), with_manners(rng, tell(rng, thing, facts), 0.2, 0.05))


def _row(prompt: Prompt, scored: list[tuple[float, str]]) -> dict:
    return {
        "prefix": [list(prompt.turns) for _ in scored],
        "suffix": [text for _, text in scored],
        "reward": [reward for reward, _ in scored],
        "meta": {"topic": prompt.topic, "kind": prompt.kind},
    }
