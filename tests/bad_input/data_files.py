"""Bad input to what prepares data: raw HH-RLHF, trees, files of answers, files of rankings, records."""

import gzip
import json
from pathlib import Path

from bad_input.table import BadInput, Change, cut, edit, edit_line, rows, text

PREPARE = "prepare.py --dev_rows 0 --source {root}/in.jsonl"
RAW = "prepare.py --dev_rows 2 --raw {root}/raw"
JOIN = "prepare.py --dev_rows 0 --source {root}/p.jsonl --join {root}/a.csv"
JOIN_ROWS = "prepare.py --dev_rows 0 --source {root}/p.jsonl --join {root}/a.jsonl"
FULL, RECORD = "data/original/hh_train_len4/train.json", "data/record_hh_train.json"
TOKENIZERS = "data/record_hh_train_tokenizers.json"
SAMPLE = "sample.py 4 --sizes 12 --tokenizer {root}/model"
SOURCES = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")
PROMPTS = rows("p.jsonl", {"id": "p1", "prompt": "Name a fruit."}, {"id": "p2", "prompt": "Name a tree."})


def raw(name: str = "", content: bytes = b"") -> tuple[Change, ...]:
    """Raw HH-RLHF in small, one file of which holds something else."""

    def write(root: Path) -> None:
        for source in SOURCES:
            for split in ("train", "test"):
                asked = [f"\n\nHuman: What of {source} {split} {i}?\n\nAssistant: " for i in range(4)]
                pairs = [{"chosen": ask + "A plum.", "rejected": ask + "Rust."} for ask in asked]
                path = root / "raw" / source / f"{split}.jsonl"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")

    return (write, text(f"raw/{name}", content)) if name else (write,)


def packed(name: str, *parts: tuple[bytes, int]) -> Change:
    """Writes a gzipped file of parts, each repeated."""

    def write(root: Path) -> None:
        with gzip.open(root / name, "wb", compresslevel=1) as file:
            for part, times in parts:
                for _ in range(times):
                    file.write(part)

    return write


def replaced(name: str, old: str, new: str) -> Change:
    """Replaces a text where a file first has it."""

    def change(root: Path) -> None:
        (root / name).write_text((root / name).read_text().replace(old, new, 1))

    return change


def message(identity: str, parent: str | None, role: str = "prompter", **more) -> dict:
    return {"message_id": identity, "parent_id": parent, "role": role, "text": f"Say {identity}.", **more}


def tree(*changed: dict) -> Change:
    replies = [message(name, "m1", "assistant", rank=rank) for rank, name in enumerate(("m2", "m3"))]
    by_id = {row["message_id"]: row for row in (message("m1", None), *replies)}
    return rows("in.jsonl", *{**by_id, **{row["message_id"]: row for row in changed}}.values())


def pair(**more) -> bytes:
    dialogue = "\n\nHuman: Hi\n\nAssistant: "
    return json.dumps({"chosen": dialogue + "a", "rejected": dialogue + "b", **more}).encode() + b"\n"


def csv(content: str | bytes) -> tuple[Change, ...]:
    return PROMPTS, text("a.csv", content)


def returned(*answers: dict) -> tuple[Change, ...]:
    return PROMPTS, rows("a.jsonl", *answers)


def lines(content: bytes) -> tuple[Change, ...]:
    return (text("in.jsonl", content),)


GOOD = b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n'
TWICE = {"id": "p1", "response": "x", "answer": "0", "score": 1}

RAW_ROWS = [
    BadInput("raw test file empty", RAW, ("raw/helpful-base/test.jsonl: no rows",), raw("helpful-base/test.jsonl")),
    BadInput("raw train file empty", RAW, ("raw/helpful-base/train.jsonl: no rows",), raw("helpful-base/train.jsonl")),
    BadInput(
        "raw gz file empty", "prepare.py --raw {root}/raw --dev_rows 2", ("helpful-online/test.jsonl.gz: no rows",),
        (*raw(), lambda root: (root / "raw/helpful-online/test.jsonl").unlink(),
         packed("raw/helpful-online/test.jsonl.gz")),
    ),
    BadInput(
        "raw array empty", RAW, ("raw/helpful-base/test.jsonl: no rows",), raw("helpful-base/test.jsonl", b"[]")
    ),
    BadInput(
        "raw prompts all empty", RAW, ("helpful-base/train.jsonl: no pairs, all 1 lines are skipped",),
        raw("helpful-base/train.jsonl", pair(**dict.fromkeys(("chosen", "rejected"), "\n\nHuman: \n\nAssistant: a"))),
    ),
    BadInput(
        "raw field no text", RAW, ("helpful-base/test.jsonl:2: rejected is not a text",),
        raw("helpful-base/test.jsonl", pair() + pair(rejected=None)),
    ),
    BadInput(
        "raw key twice", RAW, ("helpful-base/test.jsonl:2: ", "duplicate key 'chosen' in one object"),
        raw("helpful-base/test.jsonl", pair() + b'{"chosen": "a", "chosen": "b", "rejected": "c"}\n'),
    ),
    BadInput(
        "raw not tagged", RAW, ("helpful-base/train.jsonl:1: no role tag in front",),
        raw("helpful-base/train.jsonl", GOOD),
    ),
]  # fmt: skip

TREE_ROWS = [
    BadInput("tree orphan", PREPARE, ("{root}/in.jsonl:2: parent_id 'm9'",), (tree(message("m2", "m9", "assistant")),)),
    BadInput("tree orphan alone", PREPARE, ("{root}/in.jsonl:1: parent_id 'm1'",),
             (rows("in.jsonl", message("m2", "m1", "assistant", rank=0)),)),
    BadInput("tree cycle", PREPARE, ("{root}/in.jsonl:1: message 'm1' is its own ancestor",),
             (tree(message("m1", "m2")),)),
    BadInput("tree own parent", PREPARE, ("{root}/in.jsonl:4: message 'm4' is its own ancestor",),
             (tree(message("m4", "m4")),)),
    BadInput("tree id twice", PREPARE, ("{root}/in.jsonl:2: message_id 'm1' is that of line 1",),
             (rows("in.jsonl", message("m1", None), message("m1", None)),)),
    BadInput("tree without rankings", PREPARE, ("{root}/in.jsonl:1: no message of the file has two replies",),
             (rows("in.jsonl", message("m1", None), message("m2", "m1", "assistant")),)),
    BadInput("tree prompt empty", PREPARE, ("{root}/in.jsonl:1: a prompt without text",),
             (tree({**message("m1", None), "text": " "}),)),
    BadInput("tree rank no number", PREPARE, ("{root}/in.jsonl:3: rank: 'first'",),
             (tree(message("m3", "m1", "assistant", rank="first")),)),
    BadInput("tree mixed with pairs", PREPARE, ("{root}/in.jsonl:2: no message of a tree",),
             (rows("in.jsonl", message("m1", None), json.loads(GOOD)),)),
]  # fmt: skip

JOIN_TABLE = [
    BadInput("csv empty", JOIN, ("{root}/a.csv:1: the file is empty",), csv("")),
    BadInput("csv of a mark alone", JOIN, ("{root}/a.csv:1: the file is empty",), csv("\ufeff")),
    BadInput("csv header alone", JOIN, ("{root}/a.csv: no rows",), csv("id,response,score\n")),
    BadInput("csv no header", JOIN, ("{root}/a.csv:1: no header, columns are 'p1'",),
             csv("p1,A plum.,0,1\np1,Rust.,1,0\n")),
    BadInput("csv bars", JOIN, ("{root}/a.csv:1: no header", "with commas"), csv("id|response|score\np1|x|1\n")),
    BadInput("csv semicolons, decimal comma", JOIN, ("{root}/a.csv:2: score: '1,5'",),
             csv("id;response;score\np1;x;1,5\n")),
    BadInput("csv column twice", JOIN, ("{root}/a.csv:1: two columns are called 'score'",),
             csv("id,response,score,score\np1,x,1,0\n")),
    BadInput("csv blank column twice", JOIN, ("{root}/a.csv:1: two columns are called 'id'",),
             csv("id, id,response\np1,p1,x\n")),
    BadInput("csv unknown columns alone", JOIN, ("{root}/a.csv:1: no header, columns are 'id', 'text'",),
             csv("id,text\np1,x\n")),
    BadInput("csv long row", JOIN, ("{root}/a.csv:3: more values than the 3 columns",),
             csv("id,response,score\np1,x,1\np1,y,0,9\n")),
    BadInput("csv open quote", JOIN, ("{root}/a.csv:3: not valid CSV",),
             csv('id,response,score\np1,x,1\np1,"y\n\n,0\n')),
    BadInput("csv score after many lines", JOIN, ("{root}/a.csv:5: score: 'high'",),
             csv('id,response,score\np1,"x\n\ny",1\np1,z,high\n')),
    BadInput("csv nul", JOIN, ("{root}/a.csv:2: a NUL byte",), csv("id,response,score\np1,a\0,1\n")),
    BadInput("csv utf-16", JOIN, ("{root}/a.csv:1: not UTF-8",), csv("id,response\n".encode("utf-16"))),
    BadInput("csv latin 1", JOIN, ("{root}/a.csv:2: not UTF-8",), csv("id,response\np1,\xe9\n".encode("latin-1"))),
    BadInput("csv answer twice", JOIN, ("{root}/a.csv:3: a second answer '0'",),
             csv("id,response,answer,score\np1,x,0,1\np1,y,0,0\n")),
    BadInput("csv unknown id", JOIN, ("{root}/a.csv:2: id 'p9'",), csv("id,response,score\np9,x,1\n")),
    BadInput("csv long answer alone", JOIN, ("--join", "no prompt has 2 distinct non-empty responses"),
             csv("id,response,answer,score\np1," + "x" * 140_000 + ",0,1\n")),
    BadInput("csv score beyond float32", JOIN, ("{root}/a.csv:2: score: '1e39'",),
             csv("id,response,score\np1,x,1e39\n")),
    BadInput("csv score nan", JOIN, ("{root}/a.csv:2: score: 'nan'",), csv("id,response,score\np1,x,nan\n")),
    BadInput("answers without judgement", JOIN, ("--join", "no prompt has a judged answer"),
             csv("id,response\np1,x\np1,y\n")),
    BadInput("joined file empty", JOIN_ROWS, ("{root}/a.jsonl: no rows",), returned()),
    BadInput("joined file absent", JOIN_ROWS, ("{root}/a.jsonl: no such file",), (PROMPTS,)),
    BadInput("joined answer twice", JOIN_ROWS, ("{root}/a.jsonl:2: a second answer '0'",), returned(TWICE, TWICE)),
    BadInput("joined score boolean", JOIN_ROWS, ("{root}/a.jsonl:1: score: True",),
             returned({**TWICE, "score": True})),
    BadInput("joined score huge", JOIN_ROWS, ("{root}/a.jsonl:1: score: 1000",), returned({**TWICE, "score": 10**400})),
    BadInput("joined vote alone", JOIN_ROWS, ("{root}/a.jsonl:1: answer 'x' to prompt p1",),
             returned({"id": "p1", "a": "x", "b": "y", "vote": "a"})),
    BadInput("joined key twice", JOIN_ROWS, ("{root}/a.jsonl:1: ", "duplicate key 'score' in one object"),
             (PROMPTS, text("a.jsonl", '{"id": "p1", "response": "x", "score": 1, "score": 0}\n'))),
    BadInput("prompts of two texts with one id", JOIN_ROWS, ("{root}/p.jsonl:2: id p1 is already used",),
             (rows("p.jsonl", {"id": "p1", "prompt": "a"}, {"id": "p1", "prompt": "b"}), rows("a.jsonl", TWICE))),
    BadInput("join and merge", f"{JOIN} --merge_prompts", ("--join and --merge_prompts",), csv("")),
]  # fmt: skip

LINE_ROWS = [
    BadInput("source empty", PREPARE, ("{root}/in.jsonl: no rows",), lines(b"")),
    BadInput("source of a mark alone", PREPARE, ("{root}/in.jsonl: no rows",), lines(b"\xef\xbb\xbf")),
    BadInput("source empty array", PREPARE, ("{root}/in.jsonl: no rows",), lines(b"[ ]\n")),
    BadInput("array cut", PREPARE, ("{root}/in.jsonl:2: not valid JSON",), lines(b"[" + GOOD)),
    BadInput("array element no object", PREPARE, ("{root}/in.jsonl:element 2: expected a JSON object",),
             lines(b"[" + GOOD + b", 3]")),
    BadInput("array then text", PREPARE, ("{root}/in.jsonl:2: text after the end",),
             lines(b"[" + GOOD + b"]\n" + GOOD)),
    BadInput("array comma missing", PREPARE, ("{root}/in.jsonl:2: not valid JSON", "','"),
             lines(b"[" + GOOD + GOOD + b"]")),
    BadInput("key twice", PREPARE, ("{root}/in.jsonl:2: ", "duplicate key 'prompt' in one object"),
             lines(GOOD + b'{"prompt": "a", "prompt": "b", "chosen": "c", "rejected": "d"}\n')),
    BadInput("half a surrogate pair", PREPARE, ("{root}/in.jsonl:2: holds an unpaired surrogate",),
             lines(GOOD + GOOD.replace(b'"b"', b'"\\ud800"'))),
    BadInput("deep", PREPARE, ("{root}/in.jsonl:2: lists or objects more than 100 deep",),
             lines(GOOD + GOOD.replace(b'"b"', b"[" * 500 + b"]" * 500))),
    BadInput("too deep for json", PREPARE, ("{root}/in.jsonl:2: not JSON that can be read",),
             lines(GOOD + b'{"prompt": ' + b"[" * 100_000)),
    BadInput("number of many digits", PREPARE, ("{root}/in.jsonl:2: not JSON that can be read",),
             lines(GOOD + GOOD.replace(b'"b"', b"1" * 5000))),
    BadInput("utf-16", PREPARE, ("{root}/in.jsonl:1: not UTF-8",), lines(GOOD.decode().encode("utf-16"))),
    BadInput("gz line of 100 MB", "prepare.py --source {root}/in.jsonl.gz", ("{root}/in.jsonl.gz:2: more than 64 MiB",),
             (packed("in.jsonl.gz", (GOOD, 1), (b'{"prompt": "', 1), (b"x" * 1_000_000, 100)),)),
    BadInput("gz array of 100 MB", "prepare.py --source {root}/in.json.gz", ("{root}/in.json.gz:1: more than 64 MiB",),
             (packed("in.json.gz", (b'[{"prompt": "', 1), (b"x" * 1_000_000, 100)),)),
    BadInput("line of 70 MB for diversity", "diversity.py {root}/in.jsonl --tokenizer {root}/model",
             ("{root}/in.jsonl:1: more than 64 MiB",), lines(b'{"prompt": "' + b"x" * 70_000_000 + b'"}\n')),
    BadInput("gz cut", "prepare.py --source {root}/in.jsonl.gz", ("{root}/in.jsonl.gz:1: damaged or truncated gzip",),
             (packed("in.jsonl.gz", (GOOD, 99)), cut("in.jsonl.gz", 30))),
    BadInput("no gz", "prepare.py --source {root}/in.jsonl.gz", ("{root}/in.jsonl.gz:1: damaged or truncated gzip",),
             (text("in.jsonl.gz", GOOD),)),
]  # fmt: skip

RANKING_ROWS = [
    BadInput("split reward beyond float32", "split.py", ("{root}/" + FULL + ":2: reward[0] is 1e+39", "float32"),
             (edit_line(FULL, 2, lambda row: row["reward"].__setitem__(0, 1e39)),)),
    BadInput("split rewards too far apart", "split.py", ("{root}/" + FULL + ":2: rewards from 3e+38 to -3e+38",),
             (edit_line(FULL, 2, lambda row: row.update(reward=[3e38, 0, 0, -3e38])),)),
    BadInput("split prompt without text", "split.py", ("{root}/" + FULL + ":3: a prompt without text",),
             (edit_line(FULL, 3, lambda row: row.update(prefix=[["<|prompter|> ", "<|assistant|>"]] * 4)),)),
    BadInput("split nan", "split.py", ("{root}/" + FULL + ":1: reward[0] is nan",),
             (edit_line(FULL, 1, lambda row: row["reward"].__setitem__(0, float("nan"))),)),
    BadInput("sample reward a text", SAMPLE, ("{root}/" + FULL + ":1: reward[0] is a string",),
             (edit_line(FULL, 1, lambda row: row["reward"].__setitem__(0, "2")),)),
    BadInput("sample reward true", SAMPLE, ("{root}/" + FULL + ":1: reward[0] is a boolean",),
             (edit_line(FULL, 1, lambda row: row["reward"].__setitem__(0, True)),)),
    BadInput("sample reward huge", SAMPLE, ("{root}/" + FULL + ":1: reward[0] is 1000",),
             (edit_line(FULL, 1, lambda row: row["reward"].__setitem__(0, 10**400)),)),
    BadInput("sample key twice", SAMPLE, ("{root}/" + FULL + ":1: ", "duplicate key 'meta' in one object"),
             (replaced(FULL, '"meta"', '"meta": 1, "meta"'),)),
    BadInput("sample record entry a number", SAMPLE, ("{root}/" + RECORD + ": entry '12' is 5",),
             (edit(RECORD, lambda it: {"12": 5}),)),
    BadInput("sample record a list", SAMPLE, ("{root}/" + RECORD + ":1: expected a JSON object",),
             (edit(RECORD, lambda it: [1]),)),
    BadInput("sample record cut", SAMPLE, ("{root}/" + RECORD, "not valid JSON"), (cut(RECORD, 20),)),
    BadInput("sample record deep", SAMPLE, ("{root}/" + RECORD + ": not JSON that can be read",),
             (text(RECORD, "[" * 100_000),)),
    BadInput("sample tokenizers entry null", SAMPLE, ("{root}/" + TOKENIZERS + ": entry '12' is None",),
             (edit(TOKENIZERS, lambda it: {"12": None}),)),
    BadInput("test file with a wrong row", PREPARE, ("data/hh_test/helpful_base.json:1: meta is a list",),
             (*lines(GOOD * 3), edit_line("data/hh_test/helpful_base.json", 1, lambda row: row.update(meta=[])))),
    BadInput("export of ties", "prepare.py --source {root}/in.jsonl --export trl --output {root}/out.parquet",
             ("{root}/out.parquet: no pairs",),
             (rows("in.jsonl", {"prompt": "a", "completions": ["b", "c"], "scores": [1, 1]}),)),
    BadInput("all prompts are dev", "prepare.py --source {root}/in.jsonl --dev_rows 1", ("no training prompts left",),
             lines(GOOD)),
]  # fmt: skip

ROWS = [*RAW_ROWS, *TREE_ROWS, *JOIN_TABLE, *LINE_ROWS, *RANKING_ROWS]
