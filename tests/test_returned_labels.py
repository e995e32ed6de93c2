"""Answers and judgements come back by id: hand-made files end in hand-made rewards, and gaps are named."""

import gzip
import json

import pytest

from data_preprocess.command import InputError
from data_preprocess.preparing.candidates import Candidates
from data_preprocess.preparing.returned_labels import join, read_table, unique_prompts

PROMPTS = [
    Candidates([f"<|prompter|>{text}", "<|assistant|>"], ["old"], [0.0], {"id": key, "source": "s", "line": i})
    for i, (key, text) in enumerate([("p1", "Hi"), ("p2", "Rice?"), ("p3", "Why?")], start=1)
]
ANSWERS = [
    {"id": "p1", "answer": "x", "response": "Hello.", "from": "m1"},
    {"id": "p1", "answer": "y", "response": "Hey, you!"},
    {"id": "p1", "answer": "z", "response": ""},
    {"id": "p2", "response": "Boil it."},
    {"id": "p2", "response": "Rinse it.\n\nThen boil it."},
]


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def joined(tmp_path, judgements, answers=ANSWERS):
    paths = [lines(tmp_path / "answers.jsonl", answers), lines(tmp_path / "judgements.jsonl", judgements)]
    return join(PROMPTS, paths)


def test_scores_of_several_judges_are_averaged(tmp_path):
    scores = [("p1", "x", 1), ("p1", "x", 2), ("p1", "y", "2.5"), ("p1", "z", 0), ("p2", 0, 1), ("p2", 1, -1)]
    pool, missing, _ = joined(tmp_path, [{"id": i, "answer": a, "score": s} for i, a, s in scores])
    assert [c.meta["id"] for c in pool] == ["p1", "p2"]
    assert pool[0].responses == ["Hello.", "Hey, you!", ""] and pool[0].rewards == [1.5, 2.5, 0.0]
    assert pool[0].origins == ["m1", "data", "data"]
    assert pool[1].rewards == [1.0, -1.0] and pool[1].prefix == PROMPTS[1].prefix
    assert missing == ["prompts without an answer: 1 (p3)"]


def test_ranks_are_negated_and_answers_without_a_judgement_named(tmp_path):
    ranks = [("p1", "x", 2), ("p1", "y", 1), ("p2", "0", 1), ("p2", "0", 2)]
    pool, missing, _ = joined(tmp_path, [{"id": i, "answer": a, "rank": r} for i, a, r in ranks])
    assert pool[0].responses == ["Hello.", "Hey, you!"] and pool[0].rewards == [-2.0, -1.0]
    assert pool[1].responses == ["Boil it."] and pool[1].rewards == [-1.5]
    assert missing == [
        "answers without a judgement: 2 (p1: z, p2: 1)",
        "prompts without an answer: 1 (p3)",
    ]


def test_votes_become_copeland_counts_and_missing_pairs_are_named(tmp_path):
    votes = [("p1", "x", "y", "a"), ("p1", "y", "x", "b"), ("p1", "x", "y", "b"), ("p1", "y", "z", "a")]
    votes += [("p2", 0, 1, "tie")]
    pool, missing, _ = joined(tmp_path, [{"id": i, "a": a, "b": b, "vote": v} for i, a, b, v in votes])
    # x beats y by 2 votes to 1; y beats z; nobody compared x and z.
    assert pool[0].rewards == [1.0, 0.0, -1.0] and pool[1].rewards == [0.0, 0.0]
    assert missing == ["pairs of answers without a vote: 1 (p1: x and z)", "prompts without an answer: 1 (p3)"]


def test_csv_gives_what_jsonl_gives(tmp_path):
    path = tmp_path / "answers.csv"
    text = '\ufeffid,answer,response,score\np1,x,"Say ""Hi"",\nthen go.",1\np1,y,,0.5\np2,,Boil.,3\n'
    path.write_text(text, encoding="utf-8")
    assert [row for _, row in read_table(str(path))] == [
        {"id": "p1", "answer": "x", "response": 'Say "Hi",\nthen go.', "score": "1"},
        {"id": "p1", "answer": "y", "response": "", "score": "0.5"},
        {"id": "p2", "response": "Boil.", "score": "3"},
    ]
    assert [where.rpartition(":")[2] for where, _ in read_table(str(path))] == ["2", "4", "5"]
    pool, _, _ = join(PROMPTS, [str(path)])
    assert pool[0].responses == ['Say "Hi",\nthen go.', ""] and pool[0].rewards == [1.0, 0.5]


def test_judgements_may_come_before_the_answers(tmp_path):
    judgements = lines(tmp_path / "j.jsonl", [{"id": "p2", "a": "0", "b": "1", "vote": "b"}])
    pool, _, _ = join(PROMPTS, [judgements, lines(tmp_path / "a.jsonl", ANSWERS)])
    assert [c.rewards for c in pool] == [[-1.0, 1.0]]


@pytest.mark.parametrize(
    "row, message",
    [
        ({"id": "p9", "answer": "x", "score": 1}, "judgements.jsonl:2: id 'p9' .*expected the id of a prompt"),
        ({"answer": "x", "score": 1}, "judgements.jsonl:2: id ''"),
        ({"id": "p1", "answer": "q", "score": 1}, "answer 'q' to prompt p1 .*one of: x, y, z"),
        ({"id": "p1", "answer": "x", "score": "high"}, "judgements.jsonl:2: score: 'high' .*finite number"),
        ({"id": "p1", "answer": "x", "score": 1, "rank": 1}, "judgements.jsonl:2: fields are"),
        ({"id": "p1", "answer": "x"}, "judgements.jsonl:2: fields are id, answer"),
        ({"id": "p1", "answer": "x", "rank": 1}, "different kinds: score .*, rank .*judgements.jsonl:2"),
        ({"id": "p1", "a": "x", "b": "x", "vote": "a"}, "between answer 'x' and itself"),
        ({"id": "p1", "a": "x", "b": "y", "vote": "x"}, "vote is 'x' .*expected a, b or tie"),
        ({"id": "p1", "answer": "x", "response": "Ho"}, "a second answer 'x' to prompt p1"),
        ({"id": "p1", "response": 3}, "response is 3"),
    ],
)
def test_what_does_not_fit_is_named_by_line(tmp_path, row, message):
    with pytest.raises(InputError, match=message):
        joined(tmp_path, [{"id": "p1", "answer": "x", "score": 1}, row])


@pytest.mark.parametrize(
    "content, message",
    [
        ("id,score\np1,1,2\n", "a.csv:2: more values than the 2 columns"),
        ('id,score\np1,1\n\np2,"1\n1\n', r"a.csv:4: not valid CSV in the record that starts here .unexpected end"),
        ('id,response,score\np1,"a\nb\nc",1\np2,"x"y,1\n', "a.csv:5: not valid CSV"),
        ("", "a.csv:1: the file is empty .expected id and others of id, answer"),
        ("\ufeff\n \n", r"a.csv:2: no header, columns are ''"),
        ("p1,A plum.,0,1\n", "a.csv:1: no header, columns are 'p1', 'A plum.', '0', '1' .expected id and others"),
        ("id|answer|score\np1|0|1\n", r"a.csv:1: no header, columns are 'id\|answer\|score' .*with commas between"),
        ("id;answer,score\np1;0;1\n", "a.csv:1: no header, columns are 'id;answer', 'score'"),
        ("id,score,\np1,1,\np1,1,note\n", "a.csv:3: more values than the 2 columns"),
        ("id,score,,x\np1,1,,2\n,,\np1\n,,,,0", "a.csv:5: more values than the 4 columns"),
        ("id,text\np1,x\n", "a.csv:1: no header, columns are 'id', 'text'"),
        ("id,score,response,score\np1,1,x,2\n", "a.csv:1: two columns are called 'score'"),
        ("id,response,score\n", "a.csv: no rows"),
        ("id,response,score\np1,a\0b,1\n", "a.csv:2: a NUL byte"),
    ],
)
def test_bad_csv(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        list(read_table(str(path)))


def test_whole_numbers_with_a_point_are_the_names_they_were(tmp_path):
    """As pandas writes numbers beside gaps; a name that has such an end itself stays."""
    pool = [
        Candidates(PROMPTS[0].prefix, ["a", "b"], None, {**PROMPTS[0].meta, "id": "7"}),
        Candidates(PROMPTS[1].prefix, ["c", "d"], None, {**PROMPTS[1].meta, "id": "8.0"}),
    ]
    (tmp_path / "a.csv").write_text("id,answer,score\n7.0,0.0,1\n7.0,1.0,2\n8.0,0,4\n8.0,1,3\n")
    assert [one.rewards for one in join(pool, [str(tmp_path / "a.csv")]).pool] == [[1.0, 2.0], [4.0, 3.0]]
    votes = [{"id": 7.0, "a": 0.0, "b": 1.0, "vote": "b"}]
    assert join(pool, [lines(tmp_path / "v.jsonl", votes)]).pool[0].rewards == [-1.0, 1.0]
    with pytest.raises(InputError, match=r"v.jsonl:1: answer '5.0' to prompt"):
        join(pool, [lines(tmp_path / "v.jsonl", [{"id": 7.0, "answer": 5.0, "score": 1}])])


@pytest.mark.parametrize(
    "content",
    [
        "id;answer;score\np1;0;1\n",  # where the comma is the decimal mark
        '\ufeffid;"answer";score\r\np1;0;1\r\n',
        "id,answer,score,,\np1,0,1,,\n,,,,\n , ,,,\n",  # what spreadsheets write around the cells that were used
        "id;answer;score;\n;;;\np1;0;1;\n",
    ],
)
def test_tables_as_spreadsheets_write_them(tmp_path, content):
    (tmp_path / "a.csv").write_text(content, newline="")
    assert [row for _, row in read_table(str(tmp_path / "a.csv"))] == [{"id": "p1", "answer": "0", "score": "1"}]


def test_line_ends_and_blanks_that_a_spreadsheet_changed_are_as_they_were(tmp_path):
    texts = ["one\ntwo\n\nthree", "  indented\n", "a\rb", "plain", "same"]
    pool = [Candidates(PROMPTS[0].prefix, texts, None, {**PROMPTS[0].meta, "id": "p1"})]
    given = ["one\r\ntwo\r\n\r\nthree", "indented", "a\nb", "plain, edited", "same"]
    rows = [{"id": "p1", "answer": i, "response": text, "rank": i} for i, text in enumerate(given)]
    found = join(pool, [lines(tmp_path / "a.jsonl", rows)])
    assert found.pool[0].responses == [*texts[:3], "plain, edited", "same"]
    assert "answers that differ from the response of --source" in found.notes[0] and ": 1 (p1: 3)" in found.notes[0]


def test_a_text_may_be_long_and_a_file_gzipped(tmp_path):
    path, long = tmp_path / "a.csv.gz", "x, " * 100_000
    path.write_bytes(gzip.compress(f'ID ignored,id , response,score\n1,p1,"{long}",1\n'.encode()))
    [(where, row)] = read_table(str(path))
    assert where == f"{path}:2" and row == {"ID ignored": "1", "id": "p1", "response": long, "score": "1"}


def test_fields_that_mean_nothing_are_named(tmp_path):
    rows = [{**row, "who": "me", "score": 1} for row in ANSWERS] + [{"id": "p1", "answer": "x", "score": 2, "note": ""}]
    (tmp_path / "b.csv").write_text("id,answer,score\np1,x,3\n")
    pool, _, unread = join(PROMPTS, [lines(tmp_path / "a.jsonl", rows), str(tmp_path / "b.csv")])
    assert pool[0].rewards[0] == 2.0
    assert unread == [
        f"{tmp_path / 'a.jsonl'}: fields that are not read: who (5 rows), note (1 rows)",
        "warning: prompts with all answers tied, which give no pairs: 1 (p2)",
    ]


def test_no_judged_answer_is_refused(tmp_path):
    with pytest.raises(
        InputError,
        match=r"no prompt has a judged answer .prompts without a judgement: 2 .p1, p2.; prompts without an answer: 1 ",
    ):
        join(PROMPTS, [lines(tmp_path / "a.jsonl", ANSWERS)])
    with pytest.raises(InputError, match="a.jsonl: no rows .expected answers or judgements"):
        join(PROMPTS, [lines(tmp_path / "a.jsonl", [])])


def test_prompts_once_by_id():
    assert unique_prompts([*PROMPTS, PROMPTS[0]]) == PROMPTS
    other = Candidates(PROMPTS[1].prefix, [], None, {"id": "p1", "source": "s", "line": 8})
    with pytest.raises(InputError, match="s:8: id p1 is already used by the prompt in line 1"):
        unique_prompts([*PROMPTS, other])
    other = Candidates(PROMPTS[0].prefix, ["new"], None, {"id": "p1", "source": "s", "line": 9})
    assert unique_prompts([*PROMPTS, other]) == PROMPTS
    with pytest.raises(InputError, match="s:9: prompt p1 has other responses than in line 1"):
        unique_prompts([*PROMPTS, other], to_rank=True)


THREE = ["x", "y", "z"]


def ranked(*rows):
    return [{"id": "p1", "annotator": name, "ranking": ranking} for name, ranking in rows]


def test_rankings_of_several_people_become_mean_ranks(tmp_path):
    rows = ranked(("ann", ["x", "y", "z"]), ("bob", "y > x = z"), ("ann", [["y"], ["x"], ["z"]]))
    pool, _, notes = joined(tmp_path, rows)
    # ann's second ranking replaces her first: y 1, x 2, z 3; bob: y 1, x and z 2.5 each.
    assert pool[0].responses == ["Hello.", "Hey, you!", ""] and pool[0].rewards == [-2.25, -1.0, -2.75]
    assert any("annotators: 2; Krippendorff's alpha (ordinal)" in line for line in notes)


def test_a_later_ranking_replaces_all_of_the_earlier_one(tmp_path):
    pool, missing, _ = joined(tmp_path, ranked(("ann", "z > x > y"), ("ann", "x > y")))
    assert pool[0].responses == ["Hello.", "Hey, you!"] and pool[0].rewards == [-1.0, -2.0]
    assert missing[0] == "answers without a judgement: 1 (p1: z)"


def test_a_later_vote_replaces_the_earlier_one_on_its_pair(tmp_path):
    """ann's three votes on x and y are one, for x, and her vote on y and z stays; bob's makes x and y a tie."""
    votes = [("ann", "y", "x", "a"), ("ann", "x", "y", "a"), ("ann", "y", "z", "a"), ("ann", "x", "y", "a"),
             ("bob", "x", "y", "b")]  # fmt: skip
    rows = [{"id": "p1", "annotator": name, "a": a, "b": b, "vote": vote} for name, a, b, vote in votes]
    pool, _, notes = joined(tmp_path, rows)
    assert pool[0].rewards == [0.0, 1.0, -1.0]
    assert not any("voted both ways" in line for line in notes)


def test_spellings_of_a_name(tmp_path):
    """Blanks around a name are dropped; other spellings stay two people, and a line says so."""
    given = joined(tmp_path, ranked(("ann", "x > y > z"), (" ann ", "y > x > z"), ("Ann", "z > y > x"))).notes
    assert given[0].startswith("warning: annotators Ann and ann count as different people")
    given = joined(tmp_path, ranked(("Zo\u00eb", "x > y > z"), ("Zoe\u0308", "y > x > z"))).notes
    assert given[0].startswith("warning: annotators Zoe\u0308 and Zo\u00eb count as different people")
    assert given[1].startswith("annotators: 2;")


def test_best_and_worst_are_counted(tmp_path):
    rows = [{"id": "p1", "annotator": a, "best": b, "worst": w} for a, b, w in [("ann", "x", "z"), ("bob", "x", "y")]]
    assert joined(tmp_path, rows)[0][0].rewards == [1.0, -0.5, -0.5]


def test_combined_by_pairs(tmp_path):
    rows = ranked(("ann", "x > y > z"), ("bob", "x > z > y"), ("eve", "z > x > y"))
    paths = [lines(tmp_path / "a.jsonl", ANSWERS), lines(tmp_path / "j.jsonl", rows)]
    assert join(PROMPTS, paths, "copeland").pool[0].rewards == [2.0, -2.0, 0.0]
    strengths = join(PROMPTS, paths, "bradley_terry").pool[0].rewards
    assert strengths[0] > strengths[2] > strengths[1] and sum(strengths) == pytest.approx(0, abs=1e-6)
    votes = lines(tmp_path / "v.jsonl", [{"id": "p1", "a": "x", "b": "y", "vote": "a"}])
    with pytest.raises(InputError, match="--combine mean: the judgements are votes .expected copeland"):
        join(PROMPTS, [paths[0], votes], "mean")


def test_the_pools_own_responses_are_judged_where_no_file_holds_answers(tmp_path):
    pool = [Candidates(PROMPTS[0].prefix, ["a", "b"], None, PROMPTS[0].meta, ["m1", "m2"])]
    [one], missing, _ = join(pool, [lines(tmp_path / "j.jsonl", [{"id": "p1", "ranking": "1 > 0"}])])
    assert (one.responses, one.rewards, one.origins, missing) == (["a", "b"], [-2.0, -1.0], ["m1", "m2"], [])
    other = lines(tmp_path / "k.jsonl", [{"id": "p1", "ranking": "1 > 0", "digest": "0"}])
    with pytest.raises(InputError, match="k.jsonl:1: prompt p1 had other responses when it was ranked"):
        join(pool, [other])


def test_warnings_about_what_says_little(tmp_path):
    votes = [("x", "y", "a"), ("y", "z", "a"), ("z", "x", "a"), ("x", "y", "b"), ("x", "y", "a")]
    rows = [{"id": "p1", "a": a, "b": b, "vote": v} for a, b, v in votes]
    notes = joined(tmp_path, [*rows, {"id": "p2", "a": "0", "b": "1", "vote": "tie"}]).notes
    assert notes == [
        "warning: prompts with all answers tied, which give no pairs: 2 (p1, p2)",
        "warning: prompts where one judge voted both ways on a pair: 1 (p1)",
        "warning: prompts where the majority prefers in a circle (a over b, b over c, c over a): 1 (p1)",
    ]


def test_gaps_are_counted_not_listed(tmp_path):
    prompts = [Candidates(PROMPTS[0].prefix, ["a", "b"], None, {"id": str(i), "source": "s"}) for i in range(900)]
    _, missing, _ = join(prompts, [lines(tmp_path / "j.jsonl", [{"id": "7", "ranking": "1 > 0"}])])
    assert missing == ["prompts without a judgement: 899 (0, 1, 2, 3, 4 and 894 more)"]


@pytest.mark.parametrize(
    "row, message",
    [
        ({"id": "p1", "ranking": "x > x"}, "ranking is 'x > x' .expected each answer once"),
        ({"id": "p1", "ranking": []}, "ranking is .. .expected each answer once"),
        ({"id": "p1", "ranking": "x > q"}, "answer 'q' to prompt p1"),
        ({"id": "p1", "best": "x", "worst": "x"}, "answer 'x' is both best and worst"),
        ({"id": "p1", "best": "x"}, "answer '' to prompt p1"),
        ({"id": "p1", "ranking": "x > y", "annotator": ""}, "j.jsonl:2: no annotator .expected a name"),
    ],
)
def test_bad_rankings(tmp_path, row, message):
    first = {"id": "p2", "ranking": "0 > 1", "annotator": "ann"}
    paths = [lines(tmp_path / "a.jsonl", ANSWERS), lines(tmp_path / "j.jsonl", [first, row])]
    with pytest.raises(InputError, match=message):
        join(PROMPTS, paths)
