"""The embedded world: a seeded generator of HH-style dialogues with ranked responses, a corpus and a tokenizer.

Helpful prompts ask about everyday things ("How is a rusty copper kettle cleaned?"). Harmful ones ask for help with a
deed, which should be declined with an alternative that suits the asker ("I am a lonely baker. How do I rob the
pilot?"). The answer is put together from the facts of all these words (facts.py, facts.ini), so different prompts need
different knowledge, and D rises with the number of prompts because of what they ask about. The study asks about
`study_things` nouns and `study_words` words of every other class. The base model's corpus contains facts and dialogues
of mixed quality about all OTHER words and only mentions those of the study, so a base model knows how to answer but not
the facts asked for.

There are four test files. No description in them (the noun with the word before it, the asker with a feeling) occurs in
a training file, since some of these pairs are reserved for them:
    harmless_base       a request for help with a deed
    helpful_base        a question for one or two attributes of a thing
    helpful_online      the same in a second turn, about "it", after the thing was mentioned
    helpful_rejection   a question for three attributes at once
"""

import functools
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from data_preprocess.command import InputError, check_seed, check_settings, count, setting, within
from data_preprocess.dialogue import ASSISTANT, STOP_STRINGS, training_text
from data_preprocess.files import json_lines, write_files, write_json
from data_preprocess.toy_world.dialogues import (
    ASKED_SIZES,
    KINDS,
    Prompt,
    asker,
    bare_reply,
    best_reply,
    candidate_reply,
    chatter,
    comply,
    decline,
    deed_prompt,
    draw_facts,
    tell,
    thing_prompt,
    with_manners,
)
from data_preprocess.toy_world.facts import (
    ASKED_SETS,
    DEED_CLASSES,
    FACTS,
    NEWS,
    Words,
    classes_of,
    sentence,
)
from data_preprocess.toy_world.gold_reward import gold_reward
from data_preprocess.toy_world.word_tokenizer import PIECE, vocabulary, write_tokenizer

# A reward model learns facts fastest from short questions.
_REWARD_KINDS = ("helpful_base", "helpful_base", *KINDS)
_PEOPLE = ("owner", "asker", "victim")  # classes that share their words
SHARE = within(at_least=0, at_most=1)


@dataclass(frozen=True)
class WorldConfig:
    """Everything that determines the world's data, apart from the tables and rules in this folder."""

    seed: int = setting("of every random draw", check_seed, default=42)
    study_things: int = setting(
        "nouns that the study asks about; none of their facts is in the corpus",
        count(at_least=8, at_most=96),
        default=60,
    )
    study_words: int = setting(
        "the same for every other class of words: owners, conditions, materials, feelings, verbs",
        count(at_least=8, at_most=56),
        default=30,
    )
    ranking_len: int = setting("responses per training prompt", count(at_least=3, at_most=16), default=4)
    train_rows: int = setting("rankings from which split.py and sample.py draw the subsets", default=3000)
    dev_rows: int = setting("prompts for checkpoint selection, divided evenly among the four kinds", default=60)
    test_rows: int = setting("prompts in each of the four test files", default=360)
    plenty_rows: int = setting(
        "further rankings like those of the training file, for `reproduce.py --check`", default=1600
    )
    reward_rows: int = setting("training rankings of the reward model, about the study's words", default=3000)
    reward_terse: float = setting(
        "share of its helpful rankings whose responses differ in facts only", SHARE, default=0.5
    )
    reward_heldout_rows: int = setting("rankings for its held-out accuracy, worded like the test files", default=200)
    corpus_lines: int = setting("texts in the base model's corpus", default=20000)
    annotator_noise: float = setting(
        "standard deviation of the annotator's error, on the scale of logit(gold)",
        within(at_least=0, at_most=100),
        default=0.5,
    )
    reward_noise: float = setting(
        "the same for the reward model's rankings", within(at_least=0, at_most=100), default=0.0
    )
    gold_floor: float = setting(
        "gold is clipped this far from 0 and 1 before the logit: rewards within +-3",
        within(above=0, below=0.5),
        default=0.05,
    )
    base_slip: float = setting("share of wrong facts in the corpus", SHARE, default=0.05)
    base_comply: float = setting("share of harmful requests that the corpus complies with", SHARE, default=0.8)

    def __post_init__(self) -> None:
        check_settings(self)


# Worlds beside the study's own, WorldConfig(), to see which conclusions depend on it.
SENSITIVITY_WORLDS = {
    "noise_2": WorldConfig(annotator_noise=2.0),
    "noise_4": WorldConfig(annotator_noise=4.0),
    "small": WorldConfig(study_things=32, study_words=16),
    "large": WorldConfig(study_things=80, study_words=40),
    "other_words": WorldConfig(seed=43),
}


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
    """Returns (reply, gold reward) of good and faulty replies to fixed prompts, about every word."""
    rng = Random("gold probe")
    prompts = []
    for i in range(max(map(len, FACTS.values()))):
        words = {name: list(facts)[i % len(facts)] for name, facts in FACTS.items()}
        prompts.append(deed_prompt({**{name: words[name] for name in DEED_CLASSES}, "victim": words["owner"]}))
        for kind, asked in (("helpful_rejection", ("used", "kept", "cleaned")), ("helpful_online", ("damaged",))):
            prompts.append(thing_prompt(rng, kind, {name: words[name] for name in classes_of(asked)}, asked))
    probe = []
    for prompt, another in zip(prompts, prompts[1:] + prompts[:1], strict=True):
        best, foreign = best_reply(rng, prompt), best_reply(rng, another)
        candidate = candidate_reply(rng, prompt, list(FACTS["noun"]))
        replies = [candidate, f"{best} {candidate}", f"{best} {foreign}", f"{best} " * 5, best[:-1], ""]
        replies += [decline({}, sorry=True), f"{best} {comply(rng)}"]
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
    taken = {prompt.turns for prompts in tests.values() for prompt in prompts}
    dev = world.prompts("dev", config.dev_rows, KINDS, held_out=True, taken=taken)
    taken |= {prompt.turns for prompt in dev}
    heldout = world.prompts("reward heldout", config.reward_heldout_rows, KINDS, held_out=True, taken=taken)
    train = world.prompts("train", config.train_rows, KINDS, held_out=False)
    reward_train = world.prompts("reward train", config.reward_rows, _REWARD_KINDS, held_out=False)
    plenty = world.prompts("plenty", config.plenty_rows, KINDS, held_out=False)

    rows = {
        f"original/hh_train_len{config.ranking_len}/train.json": world.rankings("train", train, config.annotator_noise),
        "hh_dev/sampled_dev.json": world.pairs("dev", dev),
        **{f"hh_test/{kind}.json": world.pairs(f"test {kind}", prompts) for kind, prompts in tests.items()},
        "toy/plenty.json": world.rankings("plenty", plenty, config.annotator_noise),
        "toy/reward_train.json": world.rankings("reward train", reward_train, config.reward_noise, config.reward_terse),
        "toy/reward_heldout.json": world.rankings("reward heldout", heldout, config.reward_noise),
        "toy/pretrain.jsonl": ({"text": text} for text in world.corpus()),
    }
    return {name: "".join(json_lines(each)).encode() for name, each in rows.items()}


class _World:
    """The split into study and other words, and all random draws; each file has its own random stream."""

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        rng = self._rng("words")
        self.study, self.other = {}, {}
        for name, words in FACTS.items():
            source = "owner" if name in _PEOPLE else name
            count = config.study_things if name == "noun" else config.study_words
            shuffled = list(words) if source == name else self.study["owner"] + self.other["owner"]
            if source == name:
                rng.shuffle(shuffled)
            self.study[name], self.other[name] = shuffled[:count], shuffled[count:]
        # Reserved for the test files: a third of the words that can stand before each noun and each asker.
        before = {"noun": self.study["owner"] + self.study["material"], "asker": self.study["feeling"]}
        self.reserved = {
            (name, head): set(rng.sample(words, len(words) // 3))
            for name, words in before.items()
            for head in self.study[name]
        }

    def _rng(self, stream: str) -> Random:
        return Random(f"{self.config.seed} {stream}")

    def prompts(
        self, stream: str, count: int, kinds: Sequence[str], held_out: bool, taken: Iterable[tuple[str, ...]] = ()
    ) -> list[Prompt]:
        """Returns `count` distinct study prompts, none in `taken`, divided evenly among the kinds."""
        rng = self._rng(f"{stream} prompts")
        seen = set(taken)
        prompts: list[Prompt] = []
        for _ in range(100 * count):
            if len(prompts) == count:
                break
            prompt = self._study_prompt(rng, kinds[len(prompts) % len(kinds)], held_out)
            if prompt.turns not in seen:
                seen.add(prompt.turns)
                prompts.append(prompt)
        if len(prompts) < count:
            raise InputError(
                f"the world is too small for {count} distinct {stream} prompts (expected fewer, or more words)"
            )
        rng.shuffle(prompts)
        return prompts

    def _study_prompt(self, rng: Random, kind: str, held_out: bool) -> Prompt:
        while True:
            prompt = self._prompt(rng, kind, self.study)
            head, before = ("asker", "feeling") if prompt.is_deed else ("noun", list(prompt.words)[-2])
            if (prompt.words[before] in self.reserved[head, prompt.words[head]]) == held_out:
                return prompt

    def _prompt(self, rng: Random, kind: str, vocabulary: dict[str, list[str]]) -> Prompt:
        if kind == "harmless_base":
            return deed_prompt(self._words(rng, DEED_CLASSES, vocabulary))
        asked = rng.choice(ASKED_SETS[rng.choice(ASKED_SIZES[kind])])
        return thing_prompt(rng, kind, self._words(rng, classes_of(asked), vocabulary), asked)

    def _words(self, rng: Random, classes: Sequence[str], vocabulary: dict[str, list[str]]) -> Words:
        """Draws a word of each class; nobody harms themselves."""
        words = {name: rng.choice(vocabulary[name]) for name in classes}
        while words.get("victim") == words.get("asker", ""):
            words["victim"] = rng.choice(vocabulary["victim"])
        return words

    def rankings(self, stream: str, prompts: list[Prompt], noise: float, terse: float = 0.0) -> Iterator[dict]:
        """Yields rows of distinct responses of random quality, ordered by the annotator's rewards.

        In a share `terse` of the helpful rows the responses are bare facts, some right and some wrong.
        """
        rng = self._rng(f"{stream} responses")
        for prompt in prompts:
            bare = not prompt.is_deed and rng.random() < terse
            texts: list[str] = []
            while len(texts) < self.config.ranking_len:
                text = bare_reply(rng, prompt) if bare else candidate_reply(rng, prompt, self.study["noun"])
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
                other = (self._logit(prompt, text := candidate_reply(rng, prompt, self.study["noun"])), text)
            yield _row(prompt, [best, other])

    def _logit(self, prompt: Prompt, text: str) -> float:
        floor = self.config.gold_floor
        gold = min(1 - floor, max(floor, gold_reward(prompt.turns, text)))
        return round(math.log(gold / (1 - gold)), 4)

    def corpus(self) -> Iterator[str]:
        """Yields the base model's texts: facts and dialogues about other words, and mentions of all words."""
        rng = self._rng("corpus")
        every = {name: self.study[name] + self.other[name] for name in FACTS}
        kinds, weights = ("chatter", "news", "fact", *KINDS), (14, 14, 8, 14, 18, 16, 16)
        for _ in range(self.config.corpus_lines):
            kind = rng.choices(kinds, weights)[0]
            if kind == "chatter":
                classes = classes_of(rng.choice(ASKED_SETS[rng.choice((1, 2, 3))]))
                turn, reply = chatter(self._words(rng, classes, every))
                yield training_text([turn, ASSISTANT], reply)
            elif kind == "news":
                words = self._words(rng, DEED_CLASSES, every)
                yield NEWS.format(sentence(asker(words)), words["verb"], words["victim"])
            elif kind == "fact":
                prompt = self._prompt(rng, rng.choice(KINDS[1:]), self.other)
                yield tell(prompt.words, draw_facts(rng, prompt.words, prompt.asked, p_right=1.0, p_omit=0.0))
            else:
                yield self._corpus_dialogue(rng, self._prompt(rng, kind, self.other))

    def _corpus_dialogue(self, rng: Random, prompt: Prompt) -> str:
        p_right, p_omit = 1 - self.config.base_slip, 0.2 * prompt.is_deed
        facts = draw_facts(rng, prompt.words, prompt.asked, p_right, p_omit)
        if not prompt.is_deed:
            reply = with_manners(rng, tell(prompt.words, facts), 0.2, 0.05)
        elif rng.random() < self.config.base_comply:
            reply = comply(rng)
        else:
            reply = decline(facts, sorry=rng.random() < 0.5)
        return training_text(list(prompt.turns), reply)


def _row(prompt: Prompt, scored: list[tuple[float, str]]) -> dict:
    return {
        "prefix": [list(prompt.turns) for _ in scored],
        "suffix": [text for _, text in scored],
        "reward": [reward for reward, _ in scored],
        "meta": {"topic": prompt.topic, "kind": prompt.kind},
    }
