"""Published preference data sets become rankings by recipe: two rows in each one's columns, the rankings by hand."""

import gzip
import json
from pathlib import Path

import pytest

from data_preprocess import hub
from data_preprocess.command import InputError
from data_preprocess.hub import load_data_set
from data_preprocess.prepare import main
from data_preprocess.preparing import rows
from data_preprocess.preparing.prepare_config import DataConfig
from data_preprocess.preparing.recipes import RECIPES, Mapping, recognised_recipe
from data_preprocess.records import load_records

FOLDER = Path(__file__).parent / "fixtures" / "recipes"
HELLO = ["<|prompter|>Hi", "<|assistant|>Hello."]
FRUIT = ["<|prompter|>Name a fruit.", "<|assistant|>"]
TREE = ["<|prompter|>Name a tree.", "<|assistant|>"]
# By recipe: flags that the two rows need, and (prompt, [(response, reward), best first]) of each ranking.
EXPECTED = {
    "hh-rlhf": (
        [],
        [(FRUIT, [("A plum.", 1), ("Rice.", 0)]), (HELLO + TREE, [("An oak.", 1), ("No.", 0)])],
    ),
    # One response of the first prompt has no rating, so that three are left.
    "ultrafeedback": (
        ["--ranking_len", "3"],
        [(FRUIT, [("A plum.", 5), ("Bread.", 2.5), ("Rice.", 1.25)])],
    ),
    "ultrafeedback-binarized": (
        [],
        [(FRUIT, [("A plum.", 8.5), ("Rice.", 2)]), (TREE, [("An oak.", 7.5), ("An elm.", 7.5)])],
    ),
    "ultrafeedback-cleaned": (
        [],
        [(FRUIT, [("A plum.", 5), ("Rice.", 1.5)]), (TREE, [("An oak.", 4.25), ("A stone.", 3.75)])],
    ),
    "helpsteer2": ([], [(HELLO + FRUIT, [("A plum.", 4), ("Rice.", 1)])]),
    "helpsteer2-preference": (
        [],
        [(HELLO + FRUIT, [("A plum.", 1), ("Rice.", 0)]), (TREE, [("An oak.", 1), ("A stone.", 0)])],
    ),
    "helpsteer3": (
        [],
        [(HELLO + FRUIT, [("A plum.", 1), ("Rice.", 0)]), (TREE, [("An oak.", 0.5), ("An elm.", 0.5)])],
    ),
    "nectar": (
        [],
        [
            (
                FRUIT,
                list(
                    zip(
                        ["A plum.", "A fig.", "A pear?", "Fruit.", "Food.", "Bread.", "Rice."],
                        range(-1, -8, -1),
                        strict=True,
                    )
                ),
            ),
            (
                HELLO + TREE,
                list(
                    zip(
                        ["An oak.", "An elm.", "A fir.", "A log.", "A bush.", "A leaf.", "A stone."],
                        range(-1, -8, -1),
                        strict=True,
                    )
                ),
            ),
        ],
    ),  # fmt: skip
    # Two votes that the plum wins: Copeland scores.
    "pku-saferlhf": ([], [(FRUIT, [("A plum.", 2), ("Rice.", -1), ("A fig.", -1)])]),
    "shp": ([], [(FRUIT, [("A plum.", 2), ("A fig.", -1), ("A nut.", -1)])]),
    "webgpt": (
        [],
        [(FRUIT, [("A plum [1].", 0.5), ("Rice.", -0.5)]), (TREE, [("An oak.", 0), ("An elm.", 0)])],
    ),
    "oasst": ([], [(FRUIT, [("A plum.", 0), ("Rice.", -1)])]),
    "skywork": (
        [],
        [(FRUIT, [("A plum.", 1), ("Rice.", 0)]), (HELLO + TREE, [("An oak.", 1), ("A stone.", 0)])],
    ),
}


def fixture(name):
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def prepared(root, *flags):
    """The rankings that prepare.py makes, as in EXPECTED."""
    main([*map(str, flags), "--dev_rows", "0"])
    [path] = (root / "data" / "original").glob("*/train.json")
    records = load_records(path)
    path.unlink()
    return [(record.prefix, list(zip(record.suffix, record.reward, strict=True))) for record in records]


def test_each_recipe_has_rows_and_a_ranking():
    names = [recipe.name for recipe in RECIPES]
    assert names == list(EXPECTED) and sorted(names) == sorted(path.stem for path in FOLDER.glob("*.jsonl"))


def test_each_recipe_is_documented():
    text = (Path(rows.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    table = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `") and line.count("|") == 4}
    for recipe in RECIPES:
        for name in recipe.hub:
            assert name in table[recipe.name] or name.rpartition("-")[2] in table[recipe.name]
        assert recipe.split in ("train", *table[recipe.name].split("`")) and (recipe.subset or "") in table[recipe.name]


@pytest.mark.parametrize("name", EXPECTED)
def test_rows_become_rankings(name, tmp_path):
    flags, expected = EXPECTED[name]
    found = prepared(tmp_path, "--source", FOLDER / f"{name}.jsonl", "--recipe", name, *flags)
    assert found[: len(expected)] == expected
    assert len(found) == (2 if name == "ultrafeedback" else len(expected))  # of whose second prompt 3 of 4 are drawn


@pytest.mark.parametrize("name", EXPECTED)
def test_parquet_and_json_array_give_the_same(name, tmp_path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(fixture(name)), tmp_path / "rows.parquet")
    (tmp_path / "rows.json").write_text(json.dumps(fixture(name), indent=1), encoding="utf-8-sig")
    flags = ["--recipe", name, *EXPECTED[name][0]]
    expected = prepared(tmp_path, "--source", FOLDER / f"{name}.jsonl", *flags)
    assert prepared(tmp_path, "--source", tmp_path / "rows.parquet", *flags) == expected
    assert prepared(tmp_path, "--source", tmp_path / "rows.json", *flags) == expected


@pytest.mark.parametrize("recipe, hub", [(recipe, hub) for recipe in RECIPES for hub in recipe.hub])
def test_a_name_on_the_hub_chooses_its_recipe(recipe, hub, tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(
        rows, "load_data_set", lambda *where, subset: asked.append((*where, subset)) or fixture(recipe.name)
    )
    flags, expected = EXPECTED[recipe.name]
    assert prepared(tmp_path, "--source", hub, *flags)[: len(expected)] == expected
    assert prepared(tmp_path, "--source", hub.lower(), "--split", "test", "--subset", "b", *flags)
    split = "train_prefs" if hub == "HuggingFaceH4/ultrafeedback_binarized" else "train"
    assert asked == [(hub, split, "preference" if recipe.name == "helpsteer3" else None), (hub.lower(), "test", "b")]
    assert f"recipe {recipe.name}: " in capsys.readouterr().out
    assert f"recipe {recipe.name}: " in (tmp_path / "data" / "README.md").read_text()


OWN_COLUMNS = [recipe.name for recipe in RECIPES if recipe.mapping.responses]


@pytest.mark.parametrize("name", OWN_COLUMNS)
def test_rows_are_recognised_by_their_columns(name, tmp_path):
    source, flags = FOLDER / f"{name}.jsonl", EXPECTED[name][0]
    assert prepared(tmp_path, "--source", source, *flags) == prepared(
        tmp_path, "--source", source, "--recipe", name, *flags
    )
    with pytest.raises(InputError, match=rf"{name}.jsonl:.*(response|expected)"):
        prepared(tmp_path, "--source", source, "--recipe", "none")


def test_no_recipe_takes_the_rows_of_another():
    for name in EXPECTED:
        for row in fixture(name):
            found = recognised_recipe(row)
            assert (found.name if found else None) == (name if name in OWN_COLUMNS else None)


def test_flags_come_before_the_recipe(tmp_path, capsys):
    source = ["--source", FOLDER / "pku-saferlhf.jsonl", "--recipe", "pku-saferlhf"]
    safer = prepared(tmp_path, *source, "--winner_from", "safer_response_id")
    assert safer == [(FRUIT, [("Rice.", 1), ("A fig.", 1), ("A plum.", -2)])]
    assert "better response from safer_response_id" in capsys.readouterr().out
    rating = "completions.annotations.helpfulness.Rating"  # texts "1" to "5" and "N/A", which is missing by rule
    source = ["--source", FOLDER / "ultrafeedback.jsonl", "--recipe", "ultrafeedback", "--ranking_len", "3"]
    assert prepared(tmp_path, *source, "--rewards_from", rating)[0] == (
        FRUIT, [("A plum.", 5), ("Bread.", 2), ("Rice.", 1)]
    )  # fmt: skip
    # Flags that name columns without a recipe read the file as they say.
    source = ["--source", FOLDER / "ultrafeedback.jsonl", "--ranking_len", "4"]
    overall = prepared(tmp_path, *source, "--rewards_from", "completions.overall_score")
    assert overall[0] == (FRUIT, [("Rice.", 10), ("A plum.", 8.5), ("Fruit.", 3), ("Bread.", 2)])


def test_a_model_that_judges_reads_no_rewards():
    """annotate.py, whose settings these are, takes prompt and responses from the recipe."""
    [recipe] = [recipe for recipe in RECIPES if recipe.name == "nectar"]
    mapping = DataConfig(source="berkeley-nest/Nectar").mapping(recipe)
    assert mapping == Mapping(prompt=("prompt",), responses=("answers.answer",), needs_rewards=False)


def test_columns_of_ones_own(tmp_path):
    """A winner by name, by index and by sign, with ties, and one that is not given."""
    path = tmp_path / "arena.jsonl"
    both = {"q": "Name a fruit.", "a": "A plum.", "b": "Rice."}
    wins = [("model_b", 1, 2.5), ("tie (bothbad)", "tie", 0), ("model_a", 0.0, -1), (None, "n/a", None)]
    path.write_text("".join(json.dumps({**both, "name": x, "id_": y, "by": z}) + "\n" for x, y, z in wins))
    columns = ["--source", path, "--prompt_from", "q", "--responses_from", "a", "b"]
    expected = [[("Rice.", 1), ("A plum.", 0)], [("A plum.", 0.5), ("Rice.", 0.5)], [("A plum.", 1), ("Rice.", 0)]]
    for flags in (
        ["name", "--winner_values", "model_a", "model_b"],
        ["id_"],
        ["by", "--winner_values", "negative", "positive"],
    ):
        assert [ranked for _, ranked in prepared(tmp_path, *columns, "--winner_from", *flags)] == expected
        # One vote for each and a tie: nobody wins.
        assert prepared(tmp_path, *columns, "--winner_from", *flags, "--merge_prompts") == [
            (FRUIT, [("A plum.", 0), ("Rice.", 0)])
        ]


def test_csv_gives_what_jsonl_gives(tmp_path):
    said = json.dumps([{"role": "user", "content": "Name a fruit."}])
    texts = ["prompt,chosen,rejected,score_a,score_b", '"Name a fruit.","A plum,\nripe.",Rice.,4.5,2']
    (tmp_path / "a.csv").write_text("\ufeff" + "\n".join(texts) + "\n")
    expected = [(FRUIT, [("A plum,\nripe.", 4.5), ("Rice.", 2)])]
    flags = ["--rewards_from", "score_a", "score_b"]
    assert prepared(tmp_path, "--source", tmp_path / "a.csv", *flags) == expected
    # Messages and lists are JSON in their cells; a response that is JSON of another kind stays a text.
    cells = [said, json.dumps(["[1, 2]", "Rice."]), "[1, 0]"]
    (tmp_path / "b.tsv").write_text(
        "prompt\tcompletions\tscores\n" + "\t".join('"' + cell.replace('"', '""') + '"' for cell in cells) + "\n"
    )
    assert prepared(tmp_path, "--source", tmp_path / "b.tsv") == [(FRUIT, [("[1, 2]", 1), ("Rice.", 0)])]
    (tmp_path / "d.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    assert prepared(tmp_path, "--source", tmp_path / "d.csv.gz", *flags) == expected
    (tmp_path / "c.csv").write_text('prompt,chosen,rejected\nName a fruit.,"[1, 2]",Rice.\n')
    assert prepared(tmp_path, "--source", tmp_path / "c.csv") == [(FRUIT, [("[1, 2]", 1), ("Rice.", 0)])]


def test_invalid_rows_are_skipped_on_demand_and_counted(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    good, bad = {"prompt": "Name a fruit.", "chosen": "A plum.", "rejected": "Rice."}, {"prompt": "", "chosen": "a"}
    path.write_text("".join(json.dumps(row) + "\n" for row in (good, bad, {**good, "rejected": 3}, good)))
    assert len(prepared(tmp_path, "--source", path, "--skip_invalid")) == 2
    assert f"2 of 4 rows skipped (--skip_invalid), the first: {path}:2: " in capsys.readouterr().out
    path.write_text(json.dumps(bad) + "\n")
    with pytest.raises(InputError, match="rows.jsonl:1: .*; so are all 1 rows"):
        prepared(tmp_path, "--source", path, "--skip_invalid")


@pytest.fixture
def data_cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_a_subset_is_a_configuration_or_a_folder(tmp_path, data_cache):
    folder = tmp_path / "set"
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
        (folder / name / "train.jsonl").write_text(json.dumps({"prompt": name}) + "\n")
    assert list(load_data_set(str(folder), "train", subset="two")) == [{"prompt": "two"}]
    config = (
        "configs:\n- config_name: first\n  data_files: one/train.jsonl\n- config_name: second\n  data_files: two/*\n"
    )
    (folder / "README.md").write_text(f"---\n{config}---\n")
    assert list(load_data_set(str(folder), "train", subset="second")) == [{"prompt": "two"}]
    with pytest.raises(InputError, match="set: cannot be loaded as a data set"):
        load_data_set(str(folder), "train", subset="third")


def test_images_and_sounds_are_not_decoded(tmp_path, data_cache):
    """Their bytes may be damaged, and a library to decode them missing: nothing here uses them."""
    import pyarrow
    import pyarrow.parquet
    from datasets import Audio, Features, Image, Value

    stored = {"image": {"bytes": b"none", "path": "x.png"}, "sound": {"bytes": b"none", "path": "x.wav"}}
    row = {"prompt": "Hi", **stored, "more": [stored["image"]]}
    features = Features({"prompt": Value("string"), "image": Image(), "sound": Audio(), "more": [Image()]})
    known = {"huggingface": json.dumps({"info": {"features": features.to_dict()}})}
    table = pyarrow.Table.from_pylist([row] * 1001).replace_schema_metadata(known)
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    assert list(load_data_set(str(tmp_path / "in.parquet"), "train")) == [row] * 1001


def test_a_damaged_row_of_a_data_set_is_named(tmp_path):
    import pyarrow

    class Damaged:
        def with_format(self, name):
            return self

        def iter(self, size):
            yield pyarrow.table({"prompt": ["a", "b"]})
            raise pyarrow.ArrowInvalid("a page is cut")

    read = hub._plain_rows(Damaged(), "set")
    assert [next(read), next(read)] == [{"prompt": "a"}, {"prompt": "b"}]
    with pytest.raises(
        InputError, match="set:3: the rows from this one on cannot be read .ArrowInvalid: a page is cut"
    ):
        next(read)


def test_a_saved_split_is_read_by_its_name_or_none(tmp_path):
    from datasets import Dataset, NamedSplit

    Dataset.from_list([{"prompt": "Hi"}], split=NamedSplit("dev")).save_to_disk(tmp_path / "one")
    for split in ("dev", "train"):
        assert [row for _, row in rows.source_rows(str(tmp_path / "one"), split)] == [{"prompt": "Hi"}]
    with pytest.raises(InputError, match="--split test: .*one is a data set saved as one split"):
        next(rows.source_rows(str(tmp_path / "one"), "test"))


def test_a_data_set_made_by_a_script_is_read_from_the_hubs_parquet_copy(tmp_path, monkeypatch):
    import datasets

    asked = []

    def load(source, **options):
        asked.append(options)
        if "revision" not in options:
            raise RuntimeError("Dataset scripts are no longer supported, but found webgpt_comparisons.py")
        return fixture("webgpt")

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert load_data_set(str(tmp_path), "train") == fixture("webgpt")
    assert [options.get("revision") for options in asked] == [None, "refs/convert/parquet"]
