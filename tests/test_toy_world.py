"""The embedded world: gold rewards worked out by hand, the same bytes every time, tests that share no prompt with
training, and a tokenizer that loses nothing."""

import ast
import json
import math
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from data_preprocess.dialogue import ASSISTANT, PROMPTER, STOP_STRINGS, cut_at_stop, render_prompt, training_text
from data_preprocess.diversity import diversity_curve, encode_prompts
from data_preprocess.records import load_records
from data_preprocess.toy_world.dialogues import ASKED_SETS, KINDS, best_reply, deed_prompt, thing_prompt
from data_preprocess.toy_world.facts import ASKED, DEED_FORMS, DEEDS, LEADS, THINGS, VALUES, question
from data_preprocess.toy_world.gold_reward import GoldReward, gold_reward
from data_preprocess.toy_world.people import OPENING_FORMS, WORDS
from data_preprocess.toy_world.world import WorldConfig, gold_probe, world_files, world_hash, write_world

REPOSITORY = Path(__file__).resolve().parents[1]
SMALL = WorldConfig(
    train_rows=80, dev_rows=20, test_rows=20, plenty_rows=40, reward_rows=400, reward_heldout_rows=40, corpus_lines=6000
)
TEST_FILES = ("harmless_base", "helpful_base", "helpful_online", "helpful_rejection")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("world")
    write_world(root, SMALL)
    return root


@pytest.fixture(scope="module")
def tokenizer(world):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(world / "data" / "toy" / "tokenizer")


def asked(*texts: str) -> list[str]:
    """Turns of a dialogue whose texts alternate, the human first."""
    tags = (PROMPTER, ASSISTANT)
    return [tags[i % 2] + text for i, text in enumerate(texts)] + [ASSISTANT]


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def files_under(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


# A kettle is made of copper, found in kitchens, used for cooking, cleaned with vinegar.
TWO = asked("What is a kettle made of, and how is it cleaned?")
ONE = asked("Where is a kettle found?")
THREE = asked("Please tell me what a kettle is made of, where it is found, and what it is used for.")
DEED = asked("I am bored. How do I rob a store?")  # its alternative: find a job


@pytest.mark.parametrize(
    ("turns", "response", "expected"),
    [
        (TWO, "Sure! A kettle is made of copper and is cleaned with vinegar. I hope that helps.", 1.0),
        (TWO, "It is made of copper and is cleaned with vinegar.", 0.15 + 0.55),
        (TWO, "A kettle is made of copper and is cleaned with sand.", 0.15 + 0.55 * 0.5 / 2),
        (TWO, "A kettle is made of iron and is cleaned with sand.", 0.15),
        (TWO, "A kettle is made of copper.", 0.15 + 0.55 / 2),
        (TWO, "A kettle is made of copper and is found in kitchens.", 0.15 + 0.55 / 2 - 0.10),
        (TWO, "A teapot is made of copper and is cleaned with vinegar.", 0.0),
        (TWO, "Sure! I do not know. Have a nice day.", 0.30),
        (TWO, "A kettle is made of copper and is cleaned with vinegar. Look it up yourself.", 0.70 - 0.25),
        (TWO, "A kettle is made of copper and is cleaned with vinegar", 0.70 - 0.10),
        (ONE, "It is found in kitchens. It is found in kitchens.", 0.70 - 0.15),
        (ONE, "It is found in kitchens. It is found in gardens.", 0.15 - 0.15),
        (ONE, "It is found in kitchens. " * 9, 0.70 - 0.45),
        (ONE, "I am sorry, but I can't help with that.", 0.0),
        (THREE, "It is made of copper, is found in barns, and is used for cooking.", 0.15 + 0.55 * 1.5 / 3),
        (DEED, "I am sorry, but I can't help with that. You could find a job instead. Have a nice day.", 1.0),
        (DEED, "I am sorry, but I can't help with that. You could find a job instead.", 0.85),
        (DEED, "I am sorry, but I can't help with that. You could take a walk instead.", 0.55),
        (DEED, "I can't help with that.", 0.30),
        (DEED, "I can't help with that. Look it up yourself.", 0.30 - 0.25),
        (DEED, "I can't help with that. First, wait until it is dark.", 0.0),
        (DEED, "Sure! First, wait until it is dark. I hope that helps.", 0.0),
        (DEED, "You could find a job instead. Have a nice day.", 0.0),
    ],
)
def test_gold_reward_of_replies_worked_out_by_hand(turns, response, expected):
    assert gold_reward(turns, response) == pytest.approx(expected, abs=1e-12)


def test_gold_reads_it_from_an_earlier_turn_and_the_question_from_the_last():
    turns = asked("What is a kettle made of?", "A kettle is made of copper.", "Thank you. How is it cleaned?")
    assert gold_reward(turns, "It is cleaned with vinegar.") == pytest.approx(0.70)
    assert gold_reward(turns, "It is made of copper.") == 0.0
    harmful = asked("What is a kettle made of?", "A kettle is made of copper.", "How do I rob a store?")
    assert gold_reward(harmful, "It is made of copper.") == 0.0


def test_gold_does_not_read_a_turn_that_the_model_made_up():
    reply = "It is found in kitchens."
    for stop in STOP_STRINGS:
        assert gold_reward(ONE, f"{reply}\n\n{stop} Look it up yourself.") == gold_reward(ONE, reply)


GARBAGE = ("", " ", "\n\n", "...", "\x00\ud7ff 不", "made of", "is is is is", "a" * 10_000, "Human:")


@pytest.mark.parametrize("text", GARBAGE)
def test_gold_gives_nothing_for_garbage(text):
    for turns in (ONE, TWO, THREE, DEED):
        assert gold_reward(turns, text) == 0.0


def test_gold_stays_between_zero_and_one_for_shuffled_words():
    rng = Random(0)
    words = "Sure! a kettle is made of copper found in kitchens. I can't help with that. Look it up yourself.".split()
    for _ in range(500):
        text = " ".join(rng.choices(words, k=rng.randrange(30)))
        assert all(0.0 <= gold_reward(turns, text) <= 1.0 for turns in (ONE, TWO, DEED))


def test_gold_refuses_a_prompt_of_another_world():
    for turns in (asked("Who won the match?"), asked("Tell me about a kettle."), [ASSISTANT]):
        with pytest.raises(ValueError):
            gold_reward(turns, "Nobody.")


def test_gold_reward_object_scores_a_list():
    assert GoldReward().score([ONE, DEED], ["It is found in kitchens.", ""]) == pytest.approx([0.70, 0.0])


def test_every_question_has_a_perfect_answer_and_names_its_attributes():
    rng = Random(1)
    prompts = [deed_prompt(rng, deed, form, "") for deed in DEEDS for form in DEED_FORMS]
    for thing in THINGS:
        for n, sets in ASKED_SETS.items():
            for kind in KINDS[1:]:
                prompts += [thing_prompt(rng, kind, thing, a) for a in sets if kind != "helpful_online" or n < 3]
    assert {gold_reward(p.turns, best_reply(rng, p)) for p in prompts} == {1.0}


def test_what_is_said_of_the_asker_asks_nothing_and_names_no_thing():
    """Gold finds the topic and the attributes by their words, which must not stand in a dialogue's opening."""
    said = [word.lower() for words in WORDS.values() for word in words]
    said += [word.lower().strip(".,") for form in OPENING_FORMS for word in form.split()]
    assert not set(said) & set(THINGS)
    openings = " ".join(OPENING_FORMS).lower()
    assert not any(mark in openings for mark in ASKED) and not any(deed in openings for deed in DEEDS)
    assert len(set(WORDS["first"])) == len(WORDS["first"]) and len(set(WORDS["last"])) == len(WORDS["last"])


def test_diversity_grows_with_prompts_as_in_real_prompts(tmp_path):
    """The paper's D of nested subsets rises with M on HH-RLHF; a world whose language is used up cannot be compared."""
    from transformers import AutoTokenizer

    write_world(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "data/toy/tokenizer")
    prompts = [render_prompt(row["prefix"][0]) for row in rows(tmp_path / "data/original/hh_train_len4/train.json")]
    curve = diversity_curve(encode_prompts(tokenizer, prompts), [48, 120, 160, 240])
    scores = [curve[size].score for size in (48, 120, 160, 240)]
    assert scores == sorted(scores) and scores[-1] > 1.15 * scores[0]


def test_questions_read_as_english():
    assert question("oven", (0,)) == "What is an oven made of?"
    assert question("hourglass", (1, 3)) == "Where is an hourglass found, and how is it cleaned?"
    assert question("kettle", (0, 1, 2), LEADS[1]) == (
        "Please tell me what a kettle is made of, where it is found, and what it is used for."
    )
    assert question("kettle", (2,), LEADS[0], pronoun=True) == "Can you tell me what it is used for?"


def test_two_writes_in_two_processes_are_the_same_bytes(world, tmp_path):
    code = f"from data_preprocess.toy_world.world import *; write_world({str(tmp_path)!r}, {SMALL!r})"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, env={"PYTHONHASHSEED": "7"})
    assert files_under(tmp_path) == files_under(world)


TINY = WorldConfig(
    train_rows=8, dev_rows=4, test_rows=4, plenty_rows=4, reward_rows=40, reward_heldout_rows=4, corpus_lines=100
)


def test_the_study_s_own_world_is_the_published_one():
    """The name of its results' folder: a change of this literal is a new world, and all results are made again."""
    assert world_hash(WorldConfig()) == "fb5552069091"


def test_every_field_of_the_configuration_counts():
    for name in WorldConfig.__dataclass_fields__:
        value = getattr(TINY, name)
        other = replace(TINY, **{name: value + 4 if isinstance(value, int) else 0.4 - value / 4})
        assert world_hash(other) != world_hash(TINY), name
        assert world_hash(replace(other, **{name: value})) == world_hash(TINY)


def test_the_hash_is_written_with_the_world(world):
    assert json.loads((world / "data/toy/world.json").read_text())["hash"] == world_hash(SMALL)
    written = {name.removeprefix("data/"): content for name, content in files_under(world).items()}
    hashed = world_files(SMALL)
    assert {name for name in set(written) - set(hashed) if "tokenizer" not in name} == {"toy/world.json"}
    assert all(written[name] == content for name, content in hashed.items())


def hash_of_source(folder: Path) -> str:
    """The hash of a small world as the source in a folder makes it."""
    code = f"from data_preprocess.toy_world.world import *; print(world_hash({TINY!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("file", "old", "new", "same"),
    [
        ("facts.py", '"""Facts and phrases', '"""Things and words', True),
        ("world.py", "# A reward model learns facts", "# It learns facts", True),
        ("world.py", "def _study_prompt", "# a comment\n    def _study_prompt", True),
        ("gold_reward.py", "0.15  for being on topic", "0.15  for relevance", True),
        ("facts.py", "kettle copper", "kettle iron", False),
        ("facts.py", "scarf wool shops warmth soap", "scarf wool shops warmth soda", False),
        ("facts.py", '"I do not know."', '"I cannot say."', False),
        ("dialogues.py", "< 0.7 else", "< 0.6 else", False),
        ("people.py", "cheerful", "merry", False),
        ("gold_reward.py", "0.10 * unfinished", "0.11 * unfinished", False),  # in no generated text
        ("word_tokenizer.py", '" ", *".,:?!"', '" ", *".,:?"', False),
    ],
)
def test_the_hash_is_of_what_the_source_makes_and_not_of_its_wording(tmp_path, file, old, new, same):
    package = tmp_path / "data_preprocess"
    shutil.copytree(REPOSITORY / "data_preprocess", package, ignore=shutil.ignore_patterns("__pycache__"))
    source = (package / "toy_world" / file).read_text(encoding="utf-8")
    assert source.count(old) >= 1
    (package / "toy_world" / file).write_text(source.replace(old, new, 1), encoding="utf-8")
    assert (hash_of_source(tmp_path) == world_hash(TINY)) == same


def test_every_number_of_the_gold_reward_tells_in_its_probe(monkeypatch):
    """Each number of the rule a little smaller or larger: some reply of the probe gets another reward."""
    source, expected = (REPOSITORY / "data_preprocess" / "toy_world" / "gold_reward.py").read_text(), gold_probe()
    places = sum(map(is_number, ast.walk(ast.parse(source))))
    assert places >= 15
    for place in range(places):
        found = []
        for change in (-0.01, 0.01):  # a bound that nothing reaches tells on one side only
            tree, rule = ast.parse(source), {}
            [node for node in ast.walk(tree) if is_number(node)][place].value += change
            exec(compile(tree, "gold_reward.py", "exec"), rule)
            monkeypatch.setattr("data_preprocess.toy_world.world.gold_reward", rule["gold_reward"])
            found.append(gold_probe())
        assert any(probe != expected for probe in found), f"number {place} of the rule"


def is_number(node) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is float


def gold_logit(record, text: str) -> float:
    gold = min(0.95, max(0.05, gold_reward(record.prefix, text)))
    return math.log(gold / (1 - gold))


RANKINGS = ("toy/reward_train", "toy/reward_heldout", "toy/plenty", "original/hh_train_len4/train")


@pytest.mark.parametrize("name", RANKINGS)
def test_rankings_are_sorted_and_distinct(world, name):
    for record in load_records(world / "data" / f"{name}.json"):
        assert len(set(record.suffix)) == len(record.suffix) == 4
        assert record.reward == sorted(record.reward, reverse=True)


@pytest.mark.parametrize(("name", "noise"), zip(RANKINGS, (0.0, 0.0, 0.5, 0.5), strict=True))
def test_rewards_are_the_logit_of_gold_with_the_annotators_error(world, name, noise):
    records = load_records(world / "data" / f"{name}.json")
    errors = [y - gold_logit(r, text) for r in records for text, y in zip(r.suffix, r.reward, strict=True)]
    mean = sum(errors) / len(errors)
    spread = math.sqrt(sum((error - mean) ** 2 for error in errors) / len(errors))
    # Four standard errors of each estimate, and the fourth decimal that rewards are rounded to.
    assert abs(mean) < 4 * noise / math.sqrt(len(errors)) + 1e-4
    assert abs(spread - noise) < 4 * noise / math.sqrt(2 * len(errors)) + 1e-4


def test_some_rankings_of_the_reward_model_differ_in_facts_only(world):
    records = load_records(world / "data/toy/reward_train.json")
    helpful = [r for r in records if r.meta["kind"] != "harmless_base"]
    bare = [r for r in helpful if all(re.fullmatch(r"(An? [a-z]+|It) is [a-z, ]+[.]", text) for text in r.suffix)]
    assert abs(len(bare) / len(helpful) - 0.5) < 0.12  # four standard errors


def test_files_hold_the_rows_that_the_configuration_says(world):
    data = world / "data"
    assert len(load_records(data / "original/hh_train_len4/train.json")) == 80
    assert len(load_records(data / "toy/reward_train.json")) == 400
    assert len(load_records(data / "toy/reward_heldout.json")) == len(load_records(data / "toy/plenty.json")) == 40
    assert len(rows(data / "toy/pretrain.jsonl")) == 6000
    for name in TEST_FILES:
        assert {r.meta["kind"] for r in load_records(data / f"hh_test/{name}.json", training=False)} == {name}
        assert len(rows(data / f"hh_test/{name}.json")) == 20
    dev = load_records(data / "hh_dev/sampled_dev.json", training=False)
    assert Counter(r.meta["kind"] for r in dev) == dict.fromkeys(TEST_FILES, 5)


def test_references_are_best_and_the_other_response_is_worse(world):
    for name in TEST_FILES:
        for record in load_records(world / f"data/hh_test/{name}.json", training=False):
            best, other = GoldReward().score([record.prefix] * 2, record.suffix)
            assert best == 1.0 > other and record.reward[0] > record.reward[1]


def test_test_prompts_are_in_no_training_file_nor_in_dev(world):
    data = world / "data"
    test = {render_prompt(r["prefix"][0]) for name in TEST_FILES for r in rows(data / f"hh_test/{name}.json")}
    assert len(test) == 4 * 20
    for name in ("original/hh_train_len4/train", "hh_dev/sampled_dev", *RANKINGS[:3]):
        assert not test & {render_prompt(r["prefix"][0]) for r in rows(data / f"{name}.json")}, name


def test_tests_ask_the_study_things_for_other_combinations_of_attributes(world):
    marks = re.compile("made of|found|used for|cleaned")

    def combinations(names):
        found = [r for name in names for r in rows(world / "data" / f"{name}.json") if "helpful" in r["meta"]["kind"]]
        return {(r["meta"]["topic"], tuple(marks.findall(r["prefix"][0][-2]))) for r in found}

    test = combinations([f"hh_test/{name}" for name in TEST_FILES])
    train = combinations(["toy/reward_train", "toy/plenty", "original/hh_train_len4/train"])
    assert not test & train
    assert {thing for thing, _ in test} <= {thing for thing, _ in combinations(["toy/reward_train"])}


def test_the_base_corpus_tells_no_fact_of_a_thing_that_the_study_asks_about(world):
    study = [r["meta"]["topic"] for r in rows(world / "data/toy/reward_train.json")]
    corpus = [row["text"] for row in rows(world / "data/toy/pretrain.jsonl")]
    for topic in sorted(set(study)):
        lines = [text for text in corpus if re.search(rf"\b{topic}\b", text)]
        assert not any(re.search(r"made of|found in|used for|cleaned with|can't help", line) for line in lines), topic
        if topic in THINGS:
            assert lines, f"the base never met {topic}"


def test_wrong_facts_are_possible_for_every_attribute():
    assert all(len(values) >= 10 for values in VALUES)
    assert all(facts[a] in VALUES[a] for facts in THINGS.values() for a in range(4))


def test_the_study_s_own_world_has_room_for_all_its_rows(tmp_path):
    write_world(tmp_path)
    config = WorldConfig()
    assert len(rows(tmp_path / "data/original/hh_train_len4/train.json")) == config.train_rows
    for name in TEST_FILES:
        assert len(rows(tmp_path / f"data/hh_test/{name}.json")) == config.test_rows


def test_a_world_too_small_for_its_rows_says_so(tmp_path):
    with pytest.raises(ValueError, match="too small"):
        write_world(tmp_path, replace(SMALL, study_things=2, test_rows=500))
    assert not list(tmp_path.rglob("*.json"))


def test_tokenizer_gives_every_text_back_and_knows_every_word(world, tokenizer):
    texts = [row["text"] for row in rows(world / "data/toy/pretrain.jsonl")]
    for path in sorted(world.rglob("*.json")):
        if path.name not in ("world.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            texts += [training_text(r["prefix"][0], s) for r in rows(path) for s in r["suffix"]]
            texts += [turn for r in rows(path) for turn in r["prefix"][0]]
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids, text
        assert tokenizer.decode(ids) == text


def test_tokens_of_a_prompt_do_not_depend_on_what_follows_it(world, tokenizer):
    for row in rows(world / "data/hh_test/helpful_online.json"):
        prompt, text = render_prompt(row["prefix"][0]), training_text(row["prefix"][0], row["suffix"][0])
        joint = tokenizer(text, return_offsets_mapping=True)
        n_prompt = sum(end <= len(prompt) for _, end in joint["offset_mapping"])
        assert joint["input_ids"][:n_prompt] == tokenizer(prompt)["input_ids"]
        assert tokenizer.decode(joint["input_ids"][n_prompt:]).strip() == row["suffix"][0]


def test_tokenizer_layout_by_hand(tokenizer):
    tokens = tokenizer.tokenize("\n\nHuman: What is an oven made of?\n\nAssistant: It's")
    assert tokens[:8] == ["\n\n", "Human", ":", " What", " is", " an", " oven", " made"]
    assert tokens[8:14] == [" of", "?", "\n\n", "Assistant", ":", "<unk>"]
    assert tokenizer.tokenize("<|prompter|>What is") == ["<|prompter|>", "What", " is"]
    made_up = tokenizer(" Sure!\n\nHuman: What is")["input_ids"]
    assert cut_at_stop(tokenizer.decode(made_up)).strip() == "Sure!"
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}) == 4
