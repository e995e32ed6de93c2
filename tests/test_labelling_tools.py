"""Exports for Argilla, Label Studio and spreadsheets, and the way back: literal files in each tool's form."""

import csv
import json
import zipfile
from dataclasses import replace

import pytest

from data_preprocess import prepare
from data_preprocess.command import InputError
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.preparing.labelling_tools import write_argilla, write_label_studio, write_table
from data_preprocess.preparing.prompt_pool import load_pool
from data_preprocess.preparing.returned_labels import join, read_table
from data_preprocess.preparing.tool_exports import own_rows

PREFIX = ["<|prompter|>Hi", "<|assistant|>Hello.", "<|prompter|>=Rice?", "<|assistant|>"]
META = {"source": "s", "line": 1}
POOL = [
    Candidates(PREFIX, ["Boil it.", "=No."], None, {**META, "id": "p1", "columns": {"topic": "food", "level": 2}}),
    Candidates(
        ["<|prompter|>Why?", "<|assistant|>"], ["a", "b", "c"], None, {**META, "id": "p2", "system": "Be kind."}
    ),
]


def test_argilla_folder(tmp_path):
    write_argilla(tmp_path / "out", POOL, "rice")
    settings = json.loads((tmp_path / "out/.argilla/settings.json").read_text())
    assert [(field["name"], field["type"], field["required"]) for field in settings["fields"]] == [
        ("prompt", "chat", True),
        ("response_0", "text", True),
        ("response_1", "text", True),
        ("response_2", "text", False),
    ]
    [question] = settings["questions"]
    options = [{"value": f"response_{i}", "text": f"response_{i}"} for i in range(3)]
    assert question["name"] == "ranking" and question["settings"] == {"type": "ranking", "options": options}
    first, second = json.loads((tmp_path / "out/records.json").read_text())
    order = first["metadata"].pop("response_order").split()
    assert first["id"] == "p1" and first["metadata"] == {"topic": "food", "level": 2}
    assert first["fields"][f"response_{order.index('1')}"] == "=No." and first["fields"]["prompt"][-1] == {
        "role": "user",
        "content": "=Rice?",
    }
    assert second["fields"]["prompt"][0] == {"role": "system", "content": "Be kind."}
    assert json.loads((tmp_path / "out/.argilla/dataset.json").read_text())["name"] == "rice"


def ranks(*names):
    return [{"value": f"response_{name}", "rank": rank} for name, rank in names]


ARGILLA = {"id": "p1", "fields": {}, "metadata": {}, "suggestions": {}, "responses": {"ranking": [
    {"value": ranks(("0", 2), ("1", 1)), "user_id": "u1"}, {"value": ranks(("0", 1), ("1", 1)), "user_id": "u2"},
    {"value": ranks(("0", 1), ("1", 2)), "user_id": "u3", "status": "draft"}]}}  # fmt: skip
ARGILLA_FLAT = {"id": "p1", "topic": "food", "ranking.responses.users": ["u1", "u2", "u3"],
                "ranking.responses": [one["value"] for one in ARGILLA["responses"]["ranking"]],
                "ranking.responses.status": ["submitted", "submitted", "discarded"]}  # fmt: skip


def given(value, **fields):
    """The record of one ranking of two responses."""
    texts = {"response_0": "x", "response_1": "y"}
    return {**ARGILLA, "fields": texts, "responses": {"ranking": [{"value": value, "user_id": "u"}]}, **fields}


STUDIO = {"id": 7, "data": {"prompt_id": "p1", "topic": "food"}, "annotations": [
    {"completed_by": 3, "result": [{"type": "ranker", "from_name": "ranking", "value": {"ranker": ["1", "0"]}}]},
    {"completed_by": {"id": 4, "email": "a@b.c"}, "was_cancelled": False,
     "result": [{"type": "ranker", "value": {"ranker": {"ranking": ["0", "1"]}}}]},
    {"completed_by": 5, "was_cancelled": True,
     "result": [{"type": "ranker", "value": {"ranker": ["0", "1"]}}]}]}  # fmt: skip
STUDIO_MIN = {"id": 7, "prompt_id": "p1", "topic": "food", "prompt": "x", "annotator": 3, "annotation_id": 1,
              "ranking": [{"ranker": ["1", "0"]}], "created_at": "t", "updated_at": "t", "lead_time": 2.5}  # fmt: skip


@pytest.mark.parametrize(
    "row, expected",
    [
        (ARGILLA, [("u1", [["1"], ["0"]]), ("u2", [["0", "1"]])]),
        (ARGILLA_FLAT, [("u1", [["1"], ["0"]]), ("u2", [["0", "1"]])]),
        ({**ARGILLA, "fields": {"response_1": "x", "response_0": None}}, [("u1", [["1"]]), ("u2", [["1"]])]),
        (STUDIO, [(3, ["1", "0"]), ("a@b.c", ["0", "1"])]),
        (STUDIO_MIN, [(3, ["1", "0"])]),
        ({**STUDIO_MIN, "ranking": '["1", "0"]', "score": 3.5, "digest": "x"}, [(3, ["1", "0"])]),
        ({**STUDIO_MIN, "ranking": {"ranking": ["1", "0"]}}, [(3, ["1", "0"])]),
        ({name: value for name, value in STUDIO_MIN.items() if name != "ranking"}, []),  # skipped
        ({**STUDIO, "annotations": []}, []),
        ({**ARGILLA, "responses": {}}, []),
        (given([{"value": "response_0", "rank": 2.0}, {"value": "response_1", "rank": "1"}]), [("u", [["1"], ["0"]])]),
        (given([{"value": "response_0", "rank": None}, {"value": "response_1", "rank": 1}]), [("u", [["1"]])]),
        (given(ranks(("0", 1), ("1", 2)), metadata={"response_order": "1 0"}), [("u", [["1"], ["0"]])]),
        ({**STUDIO, "annotations": None}, []),
        ({**ARGILLA, "fields": None}, [("u1", [["1"], ["0"]]), ("u2", [["0", "1"]])]),
        ({**ARGILLA_FLAT, "fields": "x"}, [("u1", [["1"], ["0"]]), ("u2", [["0", "1"]])]),  # a column of the pool
    ],
)
def test_what_tools_export_becomes_our_rows(row, expected):
    rows = [row for _, row in own_rows("f:1", row)]
    assert [(one["annotator"], one["ranking"]) for one in rows] == expected
    assert {one["id"] for one in rows} <= {"p1"} and not any({"score", "digest"} & one.keys() for one in rows)


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".csv"])
def test_exports_are_joined_as_files(tmp_path, ending):
    path = tmp_path / f"export{ending}"
    if ending == ".csv":
        path.write_text('id,prompt_id,annotator,ranking,lead_time\n7,p1,3,"[""1"", ""0""]",2.5\n')
    else:
        path.write_text(json.dumps([STUDIO]) if ending == ".json" else json.dumps(STUDIO) + "\n")
    joined = join(POOL, [str(path)])
    assert joined.pool[0].responses == ["Boil it.", "=No."]
    assert joined.pool[0].rewards == ([-2.0, -1.0] if ending == ".csv" else [-1.5, -1.5])
    assert joined.missing == ["prompts without a judgement: 1 (p2)"]
    assert joined.pool[0].meta["columns"]["topic"] == "food"


@pytest.mark.parametrize(
    "row, message",
    [
        ({**ARGILLA, "responses": [1]}, "f:1: responses is .1. .expected Argilla's"),
        (
            {**ARGILLA, "responses": {"ranking": [{"value": "response_1"}]}},
            "f:1: ranking is 'response_1' .expected a list",
        ),
        ({**ARGILLA_FLAT, "ranking.responses.users": []}, None),
        ({**ARGILLA_FLAT, "ranking.responses.users": ["u1"]}, "f:1: ranking.responses has 3 values for 1 users"),
        ({**STUDIO_MIN, "ranking": "1,0"}, "f:1: ranking is '1,0' .expected Label Studio's list of ids"),
        ({**STUDIO_MIN, "ranking": {"good": ["1"], "bad": ["0"]}}, "expected Label Studio's list of ids"),
        ({**STUDIO_MIN, "ranking": "[" * 100_000}, "f:1: ranking is '.* .expected Label Studio's list of ids"),
        ({**ARGILLA, "fields": ["x"]}, "f:1: fields is .'x'. .expected Argilla's texts by name"),
        ({**ARGILLA, "responses": {"ranking": [5]}}, "f:1: responses.ranking holds 5 .expected objects"),
        ({**ARGILLA_FLAT, "ranking.responses": 5}, "f:1: ranking.responses is 5 .expected a list"),
        ({**ARGILLA_FLAT, "ranking.responses.users": "u"}, "f:1: ranking.responses.users is 'u' .expected a list"),
        (given(ranks(("0", 1), ("1", "x"))), "f:1: ranking has the rank 'x' .expected a whole number"),
        (given(ranks(("0", 1), ("1", 1.5))), "f:1: ranking has the rank 1.5 .expected a whole number"),
        (given(ranks(("0", 1), ("1", True))), "f:1: ranking has the rank True .expected a whole number"),
        (given([{"value": "B", "rank": 1}]), "f:1: ranking of 'B' .expected one of: response_0, response_1"),
        (
            given(ranks(("0", 1), ("1", 2)), metadata={"response_order": "1"}),
            "f:1: response_order is '1' .expected a number for response_1 too",
        ),
        (given(ranks(("0", 1)), metadata={"response_order": [1, 0]}), "f:1: response_order is .1, 0."),
        ({**STUDIO, "annotations": "x"}, "f:1: annotations is 'x' .expected a list"),
        ({**STUDIO, "annotations": [5]}, "f:1: annotations holds 5 .expected objects"),
        ({**STUDIO, "annotations": [{"result": 5}]}, "f:1: result is 5 .expected a list"),
        ({**STUDIO, "annotations": [{"result": ["x"]}]}, "f:1: result holds 'x' .expected objects"),
    ],
)
def test_rankings_in_other_forms_are_refused(row, message):
    if message is None:
        assert [one["annotator"] for _, one in own_rows("f:1", row)] == [None, None]
        return
    with pytest.raises(InputError, match=message):
        list(own_rows("f:1", row))


def test_label_studio_tasks(tmp_path):
    config = write_label_studio(tmp_path / "tasks.json", POOL)
    first, second = json.loads((tmp_path / "tasks.json").read_text())
    first["data"]["items"].sort(key=lambda item: item["id"])
    items = [{"id": "0", "title": "", "body": "Boil it."}, {"id": "1", "title": "", "body": "=No."}]
    text = "User: Hi\n\nAssistant: Hello.\n\nUser: =Rice?"
    assert first["data"] == {"topic": "food", "level": 2, "prompt_id": "p1", "prompt": text, "items": items}
    assert second["data"]["prompt"] == "System: Be kind.\n\nUser: Why?"
    assert config == tmp_path / "tasks.xml" and '<Ranker name="ranking" toName="responses"/>' in config.read_text()


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".xlsx"])
def test_tables_come_back_filled_in(tmp_path, ending):
    path = tmp_path / f"table{ending}"
    if ending == ".xlsx":
        pytest.importorskip("openpyxl")
    write_table(path, POOL)
    rows = [row for _, row in read_table(str(path))]
    assert sorted((row["id"], row["answer"], row["response"]) for row in rows)[:2] == [
        ("p1", "0", "Boil it."),
        ("p1", "1", "=No."),
    ]
    assert rows[0]["topic"] == "food" and "topic" not in rows[2] and "rank" not in rows[0]
    fill_in(path, {"Boil it.": ("2", "ann"), "=No.": ("1", "ann")})
    joined = join(POOL, [str(path)])
    assert joined.pool[0].rewards == [-2.0, -1.0] and joined.missing == ["prompts without a judgement: 1 (p2)"]
    assert joined.notes == ["annotators: 1; no answer was judged by two of them, so agreement is not known"]


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_line_ends_inside_a_text_survive(tmp_path, ending):
    """And of Windows: an editor's own line ends change nothing else."""
    texts = ["a\rb", "c\r\nd", "e\nf", "g\r", '\t,"', "plain"]
    pool = [Candidates(["<|prompter|>Why?", "<|assistant|>"], texts, None, {**META, "id": "p1"})]
    path = tmp_path / f"t{ending}"
    write_table(path, pool)
    content = path.read_bytes()
    assert {row["answer"]: row["response"] for _, row in read_table(str(path))} == dict(
        zip("012345", texts, strict=True)
    )
    assert content.count(b"\n") == 7 + 2 and b"plain" in content and b'"plain"' not in content
    path.write_bytes(b"id,answer,score\r\np1,0,2\r\n\r\np1,1,3".replace(b",", b"\t" if ending == ".tsv" else b","))
    assert [(where.rpartition(":")[2], row["score"]) for where, row in read_table(str(path))] == [
        ("2", "2"),
        ("4", "3"),
    ]


def test_copies_of_a_sheet_by_several_people(tmp_path):
    """Each fills in what they judged; the answers are there twice, and mean ranks are over those who ranked."""
    paths = [tmp_path / f"{name}.csv" for name in ("ann", "bob")]
    ranked = ["Boil it.", "=No.", "a", "b", "c"], ["=No.", "Boil it."]
    for path, best_first in zip(paths, ranked, strict=True):
        write_table(path, POOL)
        ranks = [1, 2, 1, 2, 3][: len(best_first)]
        fill_in(path, {text: (str(rank), path.stem) for text, rank in zip(best_first, ranks, strict=True)})
    joined = join(POOL, [str(path) for path in paths])
    assert [one.rewards for one in joined.pool] == [[-1.5, -1.5], [-1.0, -2.0, -3.0]] and joined.missing == []
    paths[1].write_text(paths[1].read_text().replace("Boil it.", "Fry it."))
    with pytest.raises(InputError, match=r"bob\.csv:[27]: a second answer '0' to prompt p1"):
        join(POOL, [str(path) for path in paths])


def fill_in(path, given):
    """Writes ranks and annotators into a table as a person would, by the response's text."""
    if path.suffix == ".xlsx":
        import openpyxl

        book = openpyxl.load_workbook(path)
        for row in book.active.iter_rows(min_row=2):
            assert row[3].data_type == "s"  # no formula
            if row[3].value in given:
                rank, name = given[row[3].value]
                row[4].value, row[5].value = int(rank), name
        book.save(path)
        return
    delimiter = {".csv": ",", ".tsv": "\t"}[path.suffix]
    with open(path, newline="") as file:
        table = list(csv.reader(file, delimiter=delimiter))
    for row in table[1:]:
        row[4:6] = given.get(row[3], row[4:6])
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(table)


def test_no_place_is_the_better_response_s(tmp_path):
    """Data sets list the better response first; people must see it in the first place half of the time only."""
    pool = [Candidates(PREFIX, ["good", "bad"], None, {**META, "id": f"p{number}"}) for number in range(400)]
    write_argilla(tmp_path / "argilla", pool, "x")
    write_label_studio(tmp_path / "tasks.json", pool)
    write_table(tmp_path / "table.csv", pool)
    records = json.loads((tmp_path / "argilla/records.json").read_text())
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    with open(tmp_path / "table.csv", newline="") as file:
        responses = [row["response"] for row in csv.DictReader(file)]
    shown = (
        [record["fields"]["response_0"] for record in records],
        [task["data"]["items"][0]["body"] for task in tasks],
        responses[::2],
    )
    for first in shown:  # 200 with a standard deviation of 10
        assert 160 < first.count("good") < 240


@pytest.mark.parametrize("flat", [False, True])
def test_a_shuffled_argilla_record_comes_back_as_the_data_has_it(tmp_path, flat):
    """Whatever place each response was shown in, the answer that people put first is the one with its text."""
    pool = [Candidates(PREFIX, ["x", "y", "z"], None, {**META, "id": f"p{number}"}) for number in range(20)]
    write_argilla(tmp_path / "out", pool, "x")
    back = []
    for record in json.loads((tmp_path / "out/records.json").read_text()):
        place = {text: name for name, text in record["fields"].items() if name != "prompt"}
        value = [{"value": place[text], "rank": rank} for rank, text in enumerate("zxy", 1)]
        if flat:
            fields = {"id": record["id"], **record["fields"], **record["metadata"]}
            back.append({**fields, "ranking.responses": [value], "ranking.responses.users": ["u"]})
        else:
            back.append({**record, "responses": {"ranking": [{"value": value, "user_id": "u"}]}})
    (tmp_path / "export.json").write_text(json.dumps(back))
    joined = join(pool, [str(tmp_path / "export.json")])
    assert all(one.responses == ["x", "y", "z"] and one.rewards == [-2.0, -3.0, -1.0] for one in joined.pool)


def test_a_table_s_texts_may_be_formulas_to_a_spreadsheet(tmp_path):
    """A CSV file cannot say that "=No." is a text: the export says so, and so does the join if it came back changed."""
    path = tmp_path / "t.csv"
    assert write_table(path, POOL) == 1
    path.write_text(path.read_text().replace("=No.", "#NAME?"))
    fill_in(path, {"Boil it.": ("2", "ann"), "#NAME?": ("1", "ann")})
    changed = "differ from the response of --source (written anew, or changed by a spreadsheet): 1 (p1: 1)"
    assert any(changed in note for note in join(POOL, [str(path)]).notes)


def test_texts_that_excel_cannot_hold_are_refused(tmp_path):
    pytest.importorskip("openpyxl")
    for text, message in (
        ("x" * 32_768, "a text of 32,768 characters"),
        ("a\x01", "has control characters"),
        ("a\uffff", "has control characters"),
    ):
        pool = [Candidates(PREFIX, [text, "b"], None, {**META, "id": "p"})]
        with pytest.raises(InputError, match=f"t.xlsx:2: .*{message}"):
            write_table(tmp_path / "t.xlsx", pool)
    assert list(tmp_path.iterdir()) == []


def test_whole_numbers_that_excel_would_round_are_texts(tmp_path):
    pytest.importorskip("openpyxl")
    numbers = [2**53, 2**53 + 1, 10**399]
    pool = [replace(POOL[0], meta={**META, "id": f"p{i}", "columns": {"n": n}}) for i, n in enumerate(numbers)]
    write_table(tmp_path / "t.xlsx", pool)
    assert {row["n"] for _, row in read_table(str(tmp_path / "t.xlsx"))} == set(map(str, numbers))


@pytest.mark.parametrize("names", [("topic", " topic"), ("topic ", "topic")])
def test_columns_that_differ_in_blanks_only_are_refused(tmp_path, names):
    pool = [replace(one, meta={**one.meta, "columns": dict.fromkeys(names, "x")}) for one in POOL]
    with pytest.raises(InputError, match="--export table: the columns 'topic ?' and ' ?topic' differ in blanks only"):
        write_table(tmp_path / "t.csv", pool)
    pool = [replace(one, meta={**one.meta, "columns": {" id": "x", " ": "y", "topic": "z"}}) for one in POOL]
    write_table(tmp_path / "t.csv", pool)
    header = (tmp_path / "t.csv").read_text(encoding="utf-8-sig").split()[0]
    assert header == "id,prompt,answer,response,rank,annotator,topic"


def test_a_column_called_score_is_no_judgement(tmp_path):
    pool = [Candidates(one.prefix, one.responses, None, {**one.meta, "columns": {"score": 3.5, "from": "web"}})
            for one in POOL]  # fmt: skip
    path = tmp_path / "sheet.csv"
    write_table(path, pool)
    fill_in(path, {"Boil it.": ("2", "ann"), "=No.": ("1", "ann")})
    joined = join(pool, [str(path)])
    assert joined.pool[0].rewards == [-2.0, -1.0] and joined.pool[0].meta["columns"]["score"] == 3.5
    assert joined.pool[0].response_from() == ["data", "data"]


def test_columns_survive_from_pool_to_training_row(tmp_path, capsys):
    """Out for labelling and back: the pool's topic and level are in the rankings."""
    source, sheet = tmp_path / "pool.jsonl", tmp_path / "sheet.csv"
    rows = [
        {"prompt": f"What of {i}?", "completions": [f"a{i}", f"b{i}"], "topic": "food", "level": i} for i in range(3)
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare.main(["--source", str(source), "--export", "table", "--output", str(sheet)])
    fill_in(sheet, {"a0": ("2", "ann"), "b0": ("1", "ann"), "a1": ("1", "ann"), "b1": ("2", "ann")})
    prepare.main(["--source", str(source), "--join", str(sheet), "--dev_rows", "0"])
    written = [
        json.loads(line) for line in (tmp_path / "data/original/hh_train_len2/train.json").read_text().splitlines()
    ]
    assert [row["meta"]["columns"] for row in written] == [{"topic": "food", "level": i} for i in range(2)]
    assert [row["suffix"] for row in written] == [["b0", "a0"], ["a1", "b1"]]
    assert "missing: prompts without a judgement: 1 (" in capsys.readouterr().out


def test_a_workbook_is_a_pool(tmp_path):
    """As other files: texts, whole numbers without a point, blank rows left out."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["prompt", "id", "level"], ["Why?", 7, 2.5], [None, None, None], ["=Rice?", "p", None]):
        book.active.append(row)
    book.active["A4"].data_type = "s"
    book.save(tmp_path / "pool.xlsx")
    first, second = load_pool(str(tmp_path / "pool.xlsx"))[0]
    assert first.meta["id"] == "7" and first.prefix[0] == "<|prompter|>Why?" and first.columns() == {"level": "2.5"}
    assert second.meta == {"columns": {"level": ""}, "id": "p", "source": str(tmp_path / "pool.xlsx"), "line": 4}


@pytest.fixture
def judged(tmp_path):
    """A workbook of three scores of p2's answers, and what gives a copy of it whose sheet is changed as bytes."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["id", "answer", "score"], ["p2", "a", 1], ["p2", "b", 2], ["p2", "c", 9]):
        book.active.append(row)
    book.save(tmp_path / "whole.xlsx")

    def copy(change):
        path = tmp_path / "copy.xlsx"
        with zipfile.ZipFile(tmp_path / "whole.xlsx") as whole, zipfile.ZipFile(path, "w") as file:
            for name in whole.namelist():
                content = whole.read(name)
                file.writestr(name, change(content) if name.endswith("sheet1.xml") else content)
        return str(path)

    return book, copy


def test_rows_after_those_that_a_workbook_says_it_has_are_read(judged):
    """Writers other than Excel keep the size that a sheet once had."""
    path = judged[1](lambda sheet: sheet.replace(b'ref="A1:C4"', b'ref="A1:B3"'))
    assert [(row["answer"], row["score"]) for _, row in read_table(path)] == [("a", "1"), ("b", "2"), ("c", "9")]


@pytest.mark.parametrize(
    "change", [lambda sheet: sheet[: len(sheet) // 2], lambda sheet: sheet.replace(b"<v>9</v>", b"<v>x</v>")]
)
def test_a_damaged_sheet_is_refused_at_its_row(judged, change):
    with pytest.raises(InputError, match=r"copy\.xlsx:\d: sheet Sheet is damaged \(\w+\)"):
        list(read_table(judged[1](change)))


def test_blank_cells_of_a_workbook_are_no_rows_and_no_columns(judged, tmp_path, capsys):
    """Clicking and a blank leave such cells, also on a sheet that nobody uses."""
    book, path = judged[0], tmp_path / "blank.xlsx"
    expected = [row for _, row in read_table(judged[1](lambda text: text))]
    book.create_sheet("Empty").append([" ", None, ""])
    book.active.append([None, " "])
    book.active.append([None, None, None, None, None, None, None, "  "])
    book.save(path)
    assert [row for _, row in read_table(str(path))] == expected and capsys.readouterr().err == ""


def test_no_further_sheet_is_lost_without_a_word(judged, tmp_path, capsys):
    """A sheet per person is refused; other sheets are named."""
    book, path = judged[0], tmp_path / "two.xlsx"
    book.create_sheet("Empty")
    book.create_sheet("Notes").append(["Ask Bob"])
    book.save(path)
    assert len(list(read_table(str(path)))) == 3
    assert capsys.readouterr().err == f"warning: {path}: sheet Notes is not read (only the first one is)\n"
    sheet = book.create_sheet("Bob")
    for row in (["answer", "id", "score"], ["a", "p2", 5]):
        sheet.append(row)
    book.save(path)
    with pytest.raises(InputError, match=r"two\.xlsx: sheet Bob has the columns of the first one"):
        list(read_table(str(path)))
