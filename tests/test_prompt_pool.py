"""A pool of prompts: every form of source, ids, and the lines that a refusal names."""

import json

import pytest

from data_preprocess import prepare
from data_preprocess.command import InputError
from data_preprocess.dialogue import render_prompt
from data_preprocess.preparing import rows
from data_preprocess.preparing.candidates import prompt_id
from data_preprocess.preparing.export import write_prompts
from data_preprocess.preparing.prepare_config import TO_LABEL, DataConfig, PrepareConfig
from data_preprocess.preparing.prepared_data import read_pool
from data_preprocess.preparing.prompt_pool import load_pool, read_prompts
from data_preprocess.preparing.row_formats import LeftOut, load_texts
from labelling.selecting.prompt_filters import wanted
from tests.test_recipes import EXPECTED, FOLDER, fixture

AMBER = ["<|prompter|>What is amber?", "<|assistant|>"]
RANKING = {"prefix": [AMBER] * 2, "suffix": ["Resin.", "A tree."], "reward": [1, 0], "meta": {"id": "r1"}}


@pytest.fixture
def source(tmp_path):
    def write(*rows):
        path = tmp_path / "pool.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


def counted(path, column=None):
    """The prompts as diversity.py reads them."""
    return [prompt for prompt, _ in load_texts(path, column, "train", LeftOut())]


def test_the_texts_are_those_that_diversity_py_counts(source):
    path = source(
        RANKING,
        {"id": 7, "prompt": "Name a fruit."},
        {"prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]},
        {"prompt": "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Go on.\n\nAssistant:", "prompt_id": "p"},
    )
    pool, dropped, left_out = load_pool(path)
    assert [render_prompt(one.prefix) for one in pool] == counted(path) and dropped == 0
    assert [one.meta["id"] for one in pool] == ["r1", "7", prompt_id(["<|system|>Be kind.", *pool[2].prefix]), "p"]


@pytest.mark.parametrize("scores", [["N/A", 1], [None, None], [1], "good", [[0, 7]]])
def test_scores_that_nobody_reads_are_no_error(source, tmp_path, scores):
    """Neither where prompts alone are counted or chosen, nor where people or models judge all responses anew."""
    path = source({"id": "p", "prompt": "Hi", "completions": ["x", "y"], "scores": scores})
    assert load_pool(path)[0][0].responses == ["x", "y"] and counted(path) == ["\n\nHuman: Hi\n\nAssistant:"]
    to_judge = [DataConfig(source=path), *(PrepareConfig(source=path, export=name, output=tmp_path / "o.csv")
                                           for name in TO_LABEL), PrepareConfig(source=path, join=("j",))]  # fmt: skip
    for config in to_judge:
        [one] = read_pool(config)[0]
        assert (one.responses, one.rewards) == (["x", "y"], None)
    if scores != [None, None]:
        with pytest.raises(InputError, match="pool.jsonl:1: scores"):
            read_pool(PrepareConfig(source=path))


def test_system_messages_tell_prompts_apart(source, tmp_path):
    """Two prompts of one text are answered under different instructions: neither is lost, here or on the way back."""
    rows = [{"system": f"Answer in {language}.", "prompt": "Hi"} for language in ("French", "German")]
    path = source(*rows, {"prompt": "Hi"}, rows[0])
    pool, dropped, _ = load_pool(path, drop_duplicates=True)
    assert [one.meta.get("system") for one in pool] == ["Answer in French.", "Answer in German.", None]
    assert dropped == 1 and len({one.meta["id"] for one in pool}) == 3
    copies = wanted(pool, [pool[1].turns], 0.5)[0]
    assert copies == [pool[0], pool[2]]
    prepare.main(["--source", path, "--export", "prompts", "--output", str(tmp_path / "out.jsonl")])
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [one.meta["id"] for one in pool]


def test_an_id_for_two_system_messages_is_refused(source, tmp_path):
    path = source(*({"id": "p", "system": system, "prompt": "Hi"} for system in ("Be kind.", "Be curt.")))
    with pytest.raises(InputError, match="pool.jsonl:2: id p is already used by the prompt in line 1"):
        prepare.main(["--source", path, "--export", "prompts", "--output", str(tmp_path / "out.jsonl")])


def test_a_column_is_named_as_for_diversity_py(source):
    path = source({"text": "Name a fruit."}, {"text": "Name a tree."})
    assert [render_prompt(one.prefix) for one in load_pool(path, "text")[0]] == counted(path, "text")


@pytest.mark.parametrize("name", EXPECTED)
def test_published_data_sets_are_pools_by_their_recipe(name, tmp_path):
    """Their responses are responses, to be ranked, and no columns; rows of one prompt are one prompt."""
    pool, dropped, _ = load_pool(str(FOLDER / f"{name}.jsonl"))
    expected = EXPECTED[name][1]
    assert dropped == 0 and [one.prefix for one in pool][: len(expected)] == [prefix for prefix, _ in expected]
    for one, (_, ranked) in zip(pool, expected, strict=False):
        texts = [text for text, _ in ranked]
        # One of UltraFeedback's responses has no rating; a pool needs none.
        assert sorted(one.responses) == sorted([*texts, "Fruit."] if name == "ultrafeedback" else texts)
        assert not set(texts) & set(map(str, one.columns().values()))


def test_a_split_is_the_recipe_s_and_augment_reads_as_plan_does(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        rows, "load_data_set", lambda *where, subset: asked.append((*where, subset)) or fixture("helpsteer3")
    )
    [one, _] = load_pool("nvidia/HelpSteer3")[0]
    assert load_pool("nvidia/HelpSteer3", split="test") and one.columns()["domain"] == "general"
    [(_, same), _] = read_prompts("nvidia/HelpSteer3", keep=False)[0]
    assert asked == [("nvidia/HelpSteer3", split, "preference") for split in ("train", "test", "train")]
    assert same.prefix == one.prefix and same.columns() == {}


def test_the_columns_of_a_message_of_a_tree_are_kept():
    """So that --quota lang and a tool's metadata have them."""
    path = str(FOLDER / "oasst.jsonl")
    [one] = read_pool(DataConfig(source=path, keep_columns=True))[0]
    assert one.columns()["lang"] == "en" and one.columns()["review_count"] == 3
    assert not {"text", "role", "message_id", "parent_id", "rank"} & one.columns().keys()
    assert load_pool(path)[0][0].columns() == one.columns() and read_pool(DataConfig(source=path))[0][0].columns() == {}


def test_duplicates_are_named_or_dropped(source):
    rows = [{"prompt": text} for text in ["a", "b", "a", "c", "b", "a"]]
    with pytest.raises(InputError, match=r"3 prompts repeat a prompt .* line 3 .as 1., 5 .as 2., 6 .as 1.$"):
        load_pool(source(*rows))
    pool, dropped, _ = load_pool(source(*rows), drop_duplicates=True)
    assert [one.prefix[0] for one in pool] == [f"<|prompter|>{text}" for text in "abc"] and dropped == 3
    with pytest.raises(InputError, match=r"8 prompts repeat .* 5 .as 1., 6 .as 1. and 3 more$"):
        load_pool(source(*[{"prompt": "a"}] * 9))


@pytest.mark.parametrize(
    "rows, message",
    [
        ([{"prompt": "a"}, {"prompt": " \n"}, {"prompt": ""}], r"pool.jsonl:2: prompt: a prompt without text$"),
        ([{"prompt": "a"}, {"prompt": ["<|prompter|>a", "<|assistant|>b", "<|prompter|>"]}], r"user speaks .* line 2$"),
        (
            [{"id": 1, "prompt": "a"}, {"id": 1, "prompt": "b"}],
            r"pool.jsonl:2: id 1 is already used by the prompt in line 1",
        ),
        ([{"prompt": "a"}, {"words": "b"}], r"pool.jsonl:2: fields are words"),
        ([], r"pool.jsonl: no rows"),
    ],
)
def test_what_makes_no_pool_is_named_by_line(source, rows, message):
    with pytest.raises(InputError, match=message):
        load_pool(source(*rows))


def test_a_line_that_is_cut_short_is_named(tmp_path):
    path = tmp_path / "pool.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "b\n')
    with pytest.raises(InputError, match="pool.jsonl:2: not valid JSON"):
        load_pool(str(path))


def test_what_is_written_reads_back_even_where_a_role_speaks_twice(source, tmp_path):
    twice = ["<|prompter|>Hi", "<|prompter|>Are you there?", "<|assistant|>"]
    odd = {"prefix": [twice] * 2, "suffix": ["a", "b"], "reward": [1, 0], "meta": {"id": "odd", "system": "Be kind."}}
    kind = {"id": "k", "prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]}
    pool, _, _ = load_pool(source(odd, RANKING, {**kind, "topic": "food", "level": 2}))
    write_prompts(tmp_path / "out.jsonl", pool)
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert written == [
        {"id": "odd", "prompt": "\n\nHuman: Hi\n\nHuman: Are you there?\n\nAssistant:", "system": "Be kind."},
        {"id": "r1", "prompt": [{"role": "user", "content": "What is amber?"}]},
        {**kind, "topic": "food", "level": 2},
    ]
    again, _, _ = load_pool(str(tmp_path / "out.jsonl"))
    for name in ("id", "system", "columns"):
        assert [(one.prefix, one.meta.get(name)) for one in again] == [(one.prefix, one.meta.get(name)) for one in pool]
    copy = tmp_path / "copy.jsonl"
    prepare.main(["--source", str(tmp_path / "out.jsonl"), "--export", "prompts", "--output", str(copy)])
    assert copy.read_text() == (tmp_path / "out.jsonl").read_text()
