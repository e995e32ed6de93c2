"""Properties that hold for every input: of records on disk, of dialogues, and of collation, against slow oracles."""

import json
import re
from dataclasses import asdict
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_collator import BOS, EOS, WordTokenizer

from data_preprocess.command import InputError
from data_preprocess.dialogue import (
    ASSISTANT,
    PROMPTER,
    parse_pair,
    parse_prompt,
    render_prompt,
    split_turn,
    training_text,
)
from data_preprocess.files import write_jsonl
from data_preprocess.records import Record, load_records, read_rows
from training.collator import RankingCollator, collate

# A few seconds each, the same inputs in every run.
settings.register_profile(
    "bounded", max_examples=300, derandomize=True, database=None, deadline=timedelta(seconds=5),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip
settings.load_profile("bounded")

# Records: any JSON value may stand anywhere.

NUMBERS = st.one_of(
    st.integers(), st.floats(), st.sampled_from([True, 0, -0.0, 1e-320, 3.5e38, 10**400, float("nan"), float("-inf")])
)
TEXTS = st.one_of(st.text(), st.sampled_from(["", " ", "\u2028", "\x00", "\ud800", PROMPTER, ASSISTANT]))
VALUES = st.recursive(
    st.one_of(st.none(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)


@st.composite
def rankings(draw):
    """A row that is a ranking."""
    count = draw(st.integers(1, 4))
    turns = [draw(st.sampled_from([PROMPTER, ASSISTANT])) + draw(TEXTS) for _ in range(draw(st.integers(0, 3)))]
    rewards = draw(st.lists(st.floats(-1e30, 1e30) | st.integers(-9, 9), min_size=count, max_size=count))
    row = {
        "prefix": [[*turns, ASSISTANT]] * count,
        "suffix": draw(st.lists(TEXTS, min_size=count, max_size=count)),
        "reward": sorted(rewards, reverse=True),
        "meta": draw(st.dictionaries(TEXTS, VALUES, max_size=2)),
    }
    if draw(st.booleans()):
        row["sft_index"] = draw(st.integers(0, count - 1))
    return row


@st.composite
def spoilt(draw):
    """A ranking in which some value, or some part of one, is another."""
    row = json.loads(json.dumps(draw(rankings())))
    place = row
    key = draw(st.sampled_from([*row, "other"]))
    while key in ("prefix", "suffix", "reward") or isinstance(key, int):
        below = place[key]
        if not isinstance(below, list) or not below or draw(st.booleans()):
            break
        place, key = below, draw(st.integers(0, len(below) - 1))
    place[key] = draw(VALUES)
    return row


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("records") / "rows.json"


def load(path, training):
    """The records of a file, or None where it is refused; the message then names the line, or the array's element."""
    try:
        return load_records(path, training)
    except InputError as error:
        assert re.match(r":([12]|element 1): ", str(error).removeprefix(str(path))), error
        return None


@given(row=st.one_of(rankings(), spoilt(), VALUES), escaped=st.booleans(), training=st.booleans())
def test_any_json_value_is_a_record_or_refused_by_line(row, escaped, training, path):
    line = json.dumps(row, ensure_ascii=escaped)
    path.write_text(line + "\n", encoding="utf-8", errors="surrogatepass")
    loaded = load(path, training)
    if loaded is None:
        return
    (record,) = loaded
    assert asdict(record) == {
        "prefix": row["prefix"][0], "suffix": row["suffix"], "reward": row["reward"], "meta": record.meta,
        "sft_index": row.get("sft_index", 0),
    }  # fmt: skip
    assert json.dumps(record.meta) == json.dumps(row["meta"])  # as texts: NaN is not equal to itself
    (read,) = read_rows(path, training)
    write_jsonl(path, [read])
    again = load(path, training)
    assert again is not None and json.dumps(asdict(again[0])) == json.dumps(asdict(record))


@given(line=st.binary() | st.text().map(str.encode))
@example(line=b"[" * 100_000)
@example(line=b'{"prefix": [["<|assistant|>"]], "suffix": ["a"], "reward": [1], "meta": ' + b"[" * 5000)
@example(line=b"9" * 5000)
@example(line=b"[\xff")
def test_any_bytes_are_refused_by_line(line, path):
    path.write_bytes(line.replace(b"\n", b" ") + b"\n")
    assert load(path, True) is None


# Dialogues. Texts are made of the pieces that could be taken for the format's own.

PIECES = ["\n\nHuman:", "\n\nAssistant:", "Human:", "Assistant:", "\n", "\n\n", " ", "a", "b", PROMPTER, ASSISTANT]
RAW = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
DIALOGUES = st.lists(
    st.tuples(st.sampled_from(["\n\nHuman:", "\n\nAssistant:"]), RAW), max_size=4
).map(lambda turns: "".join(tag + " " + text for tag, text in turns))  # fmt: skip
NAMES = {"Human:": PROMPTER, "Assistant:": ASSISTANT}


def slow_turns(text):
    """[[tag, text]] of a raw dialogue, read one character after another; None where it opens without a tag."""
    turns, place = [], 0
    while place < len(text):
        name = next((name for name in NAMES if text.startswith("\n\n" + name, place)), None)
        if name:
            turns.append([NAMES[name], ""])
            place += 2 + len(name)
            place += text.startswith(" ", place)
        elif not turns:
            return None
        else:
            turns[-1][1] += text[place]
            place += 1
    return turns or None


def slow_pair(chosen, rejected):
    """parse_pair by its docstring: what both share is the prompt, what is left is of one role."""
    both = [slow_turns(chosen), slow_turns(rejected)]
    if None in both:
        return None
    prefix = []
    while all(len(turns) > 1 for turns in both) and both[0][0] == both[1][0]:
        prefix.append("".join(both[0][0]))
        both = [turns[1:] for turns in both]
    roles = {tag for turns in both for tag, _ in turns}
    return None if len(roles) > 1 else (prefix + list(roles), [[text for _, text in turns] for turns in both])


def slow_published(text):
    """The published rule: paragraphs without a role are dropped, those of one role in a row are one."""
    turns = []
    for paragraph in text.split("\n\n"):
        for name, tag in NAMES.items():
            if paragraph[: len(name)] == name:
                same = turns and turns[-1][0] == tag
                turns = turns[:-1] + [(tag, turns[-1][1] + [paragraph])] if same else turns + [(tag, [paragraph])]
    return [(tag, "\n".join(one.partition(":")[2].strip() for one in found)) for tag, found in turns]


def openings(text):
    """How often a text opens a turn, for a reader of the plain format."""
    return text.count("\n\nHuman:") + text.count("\n\nAssistant:")


@given(chosen=DIALOGUES, rejected=DIALOGUES, shared=DIALOGUES)
@example(chosen="\n\nAssistant: a\n\nAssistant:Human: b", rejected="\n\nAssistant: c", shared="\n\nHuman: q")
@settings(max_examples=500)
def test_a_pair_is_parsed_as_the_docstring_says_and_no_turn_is_forged(chosen, rejected, shared):
    found, expected = parse_pair(shared + chosen, shared + rejected), slow_pair(shared + chosen, shared + rejected)
    assert (found is None) == (expected is None)
    if found is None:
        return
    prefix, suffix = found
    assert prefix == expected[0]
    for response, texts in zip(suffix, expected[1], strict=True):
        assert response.split() == " ".join(texts).split()  # every word, in order
        assert openings(training_text(prefix, response)) == len(prefix)
    text = render_prompt(prefix)
    assert openings(text) == len(prefix)
    parsed = parse_prompt(text)
    assert [turn.rstrip() for turn in parsed] == [turn.rstrip() for turn in prefix]
    assert render_prompt(parsed) == text


@given(chosen=DIALOGUES, rejected=DIALOGUES, shared=DIALOGUES)
def test_a_pair_is_parsed_by_the_published_rule(chosen, rejected, shared):
    found = parse_pair(shared + chosen, shared + rejected, published=True)
    both = [slow_published(text) for text in (shared + chosen, shared + rejected)]
    if not all(both) or len(both[0]) != len(both[1]):
        assert found is None
        return
    assert found is not None
    prefix = [tag + text for tag, text in both[0][:-1]] + [both[0][-1][0]]
    assert found == (prefix, [turns[-1][1] for turns in both])


@given(tag=st.sampled_from([PROMPTER, ASSISTANT]), text=RAW | st.text())
def test_only_the_tag_at_the_start_of_a_turn_counts(tag, text):
    assert split_turn(tag + text) == (tag, text)
    if not text.startswith((PROMPTER, ASSISTANT)):
        with pytest.raises(ValueError, match="a turn must start with"):
            split_turn(text)


# Collation. One id per piece, so that every boundary is somewhere a token's own, and somewhere inside one.

WORDS = {"\n\nHuman:": 10, "\n\nAssistant:": 11, "\n\nAssistant: yes": 12, " yes": 13, " no": 14, " ": 15, "yes": 16,
         "no": 17, "no yes": 18, "\n": 19, "Human:": 20}  # fmt: skip
SAID = st.lists(st.sampled_from(["yes", " yes", "no", " ", "no yes", "\n"]), min_size=1, max_size=6).map("".join)


@st.composite
def records(draw, ranking_len):
    turns = [PROMPTER + draw(SAID), *(tag + draw(SAID) for tag in draw(st.sampled_from([(), (ASSISTANT, PROMPTER)])))]
    suffix = draw(st.lists(SAID, min_size=ranking_len, max_size=ranking_len + 1))
    rewards = sorted(draw(st.lists(st.floats(-9, 9), min_size=len(suffix), max_size=len(suffix))), reverse=True)
    return Record([*turns, ASSISTANT], suffix, rewards, {}, draw(st.integers(0, ranking_len - 1)))


@st.composite
def collations(draw):
    ranking_len = draw(st.integers(1, 3))
    block = draw(st.integers(3, 24))
    collator = RankingCollator(
        WordTokenizer(WORDS), ranking_len, block, draw(st.integers(2, block - 1)), draw(st.booleans())
    )
    return collator, draw(st.lists(records(ranking_len), min_size=1, max_size=3))


def slow_sequences(collator, record):
    """[(prompt ids, response ids)] of each response, cut as the collator's docstring says."""
    prompt_text = render_prompt(record.prefix)
    found = []
    for response in record.suffix[: collator.ranking_len]:
        ids, offsets = WordTokenizer(WORDS).encode(prompt_text + " " + response)
        prompt = [id for id, (_, end) in zip(ids, offsets, strict=True) if end <= len(prompt_text)]
        rest = ids[len(prompt) :] + ([EOS] if collator.append_eos else [])
        while len(prompt) + 1 > collator.max_prompt:  # BOS is counted
            prompt = prompt[1:]
        prompt = [BOS, *prompt]
        while len(prompt) + len(rest) > collator.block_size:
            rest = rest[:-1]
        found.append((prompt, rest))
    return found


@given(collations())
def test_targets_are_the_responses_tokens_and_each_is_predicted_from_the_token_before_it(case):
    collator, found = case
    batch = {name: tensor.tolist() for name, tensor in collator(found).items()}
    (ids,), (positions,) = batch["input_ids"], batch["position_ids"]
    expected = [pair for record in found for pair in slow_sequences(collator, record)]
    targets = list(zip(batch["response_index"], batch["source_index"], batch["target_ids"], strict=True))
    for number, (prompt, response) in enumerate(expected):
        mine = [(source, target) for index, source, target in targets if index == number]
        assert [target for _, target in mine] == response
        before = (prompt + response)[len(prompt) - 1 : -1] if response else []
        assert [ids[source] for source, _ in mine] == before
        assert [positions[source] + 1 for source, _ in mine] == list(range(len(prompt), len(prompt) + len(response)))
    assert sum(map(sum, batch["lengths"])) == len(ids) == len(positions)
    start = 0
    for (n_prompt, *segments), record in zip(batch["lengths"], found, strict=True):
        shared = ids[start : start + n_prompt]
        assert positions[start : start + n_prompt] == list(range(n_prompt))
        start += n_prompt
        for length, (prompt, response) in zip(segments, slow_sequences(collator, record), strict=True):
            assert shared + ids[start : start + length] == prompt + response
            assert positions[start : start + length] == list(range(n_prompt, n_prompt + length))
            start += length
    assert batch["sft_index"] == [record.sft_index for record in found]


@given(collations())
def test_a_batch_is_its_rankings_one_after_another(case):
    collator, found = case
    batch = {name: tensor.tolist() for name, tensor in collator(found).items()}
    row, responses = 0, 0
    joined = {name: [] for name in batch}
    for record in found:
        one = {name: tensor.tolist() for name, tensor in collate([collator.encode(record)]).items()}
        one["source_index"] = [place + row for place in one["source_index"]]
        one["response_index"] = [index + responses for index in one["response_index"]]
        row += len(one["input_ids"][0])
        responses += collator.ranking_len
        for name in ("input_ids", "position_ids"):
            one[name] = one[name][0]
        for name, values in one.items():
            joined[name] += values
    for name in ("input_ids", "position_ids"):
        joined[name] = [joined[name]]
    assert batch == joined
