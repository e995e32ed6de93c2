"""Bad inputs of selecting prompts, ranking them on a page, and bringing back what people judged."""

from bad_input.table import BadInput, rows, text

SELECT = "select_prompts.py {root}/in.jsonl --size 2 --embeddings {root}/model --output {root}/out.jsonl"
RANK = "rank.py {root}/in.jsonl --output {root}/out.jsonl"
JOIN = "prepare.py --dev_rows 0 --source {root}/in.jsonl --join {root}/j.jsonl"
EXPORT = "prepare.py --source {root}/in.jsonl --export"
ASKED = [{"id": f"p{i}", "prompt": f"What is number {i} of the list?"} for i in range(3)]
TO_RANK = [{**row, "completions": ["A plum.", "Rust."]} for row in ASKED]
PROMPTS, RANKED = rows("in.jsonl", *ASKED), rows("in.jsonl", *TO_RANK)
GIVEN = {"id": "p0", "annotator": "ann", "ranking": "0 > 1"}


def joined(name: str, expected: str, *judgements: dict) -> BadInput:
    return BadInput(name, JOIN, (expected,), (RANKED, rows("j.jsonl", *judgements)))


ROWS = [
    BadInput("select: duplicates only", SELECT, ("--size 2: only 1 prompts are left",),
             (rows("in.jsonl", *[ASKED[0]] * 4),)),
    BadInput("select: more than there are", SELECT.replace("--size 2", "--size 9"), ("--size 9: only 3",), (PROMPTS,)),
    BadInput("select: size 0", SELECT.replace("--size 2", "--size 0"), ("--size 0: expected a number",), (PROMPTS,)),
    BadInput("select: no such column", f"{SELECT} --quota topic",
             ("{root}/in.jsonl:1: no text or number in a column topic for --quota",), (PROMPTS,)),
    BadInput("select: unknown language", f"{SELECT} --languages xx", ("--languages xx: expected one of",), (PROMPTS,)),
    BadInput("select: no model", SELECT.replace("{root}/model", "{root}/data"), ("holds no tokenizer.json",),
             (PROMPTS,)),
    BadInput("select: no folder", SELECT.replace("{root}/model", "{root}/none"), ("no such folder",), (PROMPTS,)),
    BadInput("select: output is the pool", SELECT.replace("out.jsonl", "in.jsonl"), ("is read as --source",),
             (PROMPTS,)),
    BadInput("select: one file twice", f"{SELECT} --report {{root}}/out.jsonl", ("one file twice",), (PROMPTS,)),
    BadInput("select: vectors of another name", f"{SELECT} --vectors {{root}}/v.txt", ("ends in .npz",), (PROMPTS,)),
    BadInput("select: damaged vectors", f"{SELECT} --vectors {{root}}/v.npz",
             ("{root}/v.npz: not a file of embeddings",),
             (PROMPTS, text("v.npz", "x"))),
    BadInput("select: jaccard", f"{SELECT} --max_jaccard 1", ("--max_jaccard 1",), (PROMPTS,)),
    BadInput("select: no rewards", f"{SELECT} --select preference_variance",
             ("{root}/in.jsonl:1: no rewards of two responses",), (RANKED,)),
    BadInput("show: no reward model", "annotate.py --source {root}/in.jsonl --to_rank {root}/out.jsonl --show closest",
             ("--show closest: expected --reward_model",), (RANKED,)),
    BadInput("to rank: more than there can be", "annotate.py --source {root}/in.jsonl --to_rank {root}/out.jsonl "
             "--candidates {root}/model --num_per_model 2 --ranking_len 5",
             ("no prompt has 5 different responses, but at most 4",), (RANKED,)),
    BadInput("show: one response", "annotate.py --source {root}/in.jsonl --to_rank {root}/out.jsonl --candidates "
             "{root}/model --show closest --reward_model {root}/reward_model",
             ("no prompt has 2 different responses, but at most 1",), (PROMPTS,)),
    BadInput("rank: prompts without responses", RANK, ("{root}/in.jsonl:1: 0 responses (expected at least two",),
             (PROMPTS,)),
    BadInput("rank: ten responses", RANK, ("a prompt has 10 responses (expected at most 9",),
             (rows("in.jsonl", {**ASKED[0], "completions": list("abcdefghij")}),)),
    BadInput("rank: a prompt in two rows", RANK, ("{root}/in.jsonl:2: prompt p0 has other responses than in line 1",),
             (rows("in.jsonl", TO_RANK[0], {**TO_RANK[0], "completions": ["c", "d"]}),)),
    BadInput("rank: another file", RANK, ("{root}/out.jsonl:1: annotator is None",),
             (RANKED, rows("out.jsonl", {"a": 1}))),
    BadInput("rank: another pool", RANK, ("{root}/out.jsonl:1: prompt p0 had other responses then",),
             (RANKED, rows("out.jsonl", {**GIVEN, "digest": "0"}))),
    BadInput("rank: another ending", RANK.replace("out.jsonl", "out.csv"), ("--output {root}/out.csv: the ending",),
             (RANKED,)),
    BadInput("rank: an array", RANK, ("{root}/out.jsonl:1: a JSON array",),
             (RANKED, text("out.jsonl", "[]"))),
    BadInput("rank: somebody's text", RANK, ("{root}/out.jsonl:1: not valid JSON",),
             (RANKED, text("out.jsonl", "{ x"))),
    BadInput("select: another ending", SELECT.replace("out.jsonl", "out.csv"), ("--output {root}/out.csv: the ending",),
             (PROMPTS,)),
    BadInput("rank: nobody per prompt", f"{RANK} --per_prompt 0", ("--per_prompt 0: expected",), (RANKED,)),
    BadInput("rank: port", f"{RANK} --port 70000", ("--port 70000",), (RANKED,)),
    BadInput("rank: blank name", f"{RANK} --annotators ' '", ("--annotators ' ': expected a name",), (RANKED,)),
    BadInput("rank: output is the pool", RANK.replace("out.jsonl", "in.jsonl"), ("is read as --source",), (RANKED,)),
    joined("join: unknown prompt", "{root}/j.jsonl:2: id 'p9'", GIVEN, {**GIVEN, "id": "p9"}),
    joined("join: unknown response", "{root}/j.jsonl:1: answer '7' to prompt p0", {**GIVEN, "ranking": "7 > 0"}),
    joined("join: nameless annotator", "{root}/j.jsonl:2: no annotator", GIVEN, {**GIVEN, "id": "p1", "annotator": ""}),
    joined("join: a response twice", "{root}/j.jsonl:1: ranking is '0 > 0'", {**GIVEN, "ranking": "0 > 0"}),
    joined("join: scores too far apart", "{root}/in.jsonl:1: rewards from 3e+38 to -3e+38",
           {"id": "p0", "answer": 0, "score": 3e38}, {"id": "p0", "answer": 1, "score": -3e38}),
    joined("join: best is worst", "{root}/j.jsonl:1: answer '0' is both best and worst",
           {"id": "p0", "best": 0, "worst": 0}),
    joined("join: other responses", "{root}/j.jsonl:1: prompt p0 had other responses", {**GIVEN, "digest": "0"}),
    joined("join: Label Studio without a list", "{root}/j.jsonl:1: ranking is 'x'",
           {"prompt_id": "p0", "annotator": 1, "ranking": "x"}),
    joined("join: Argilla without values", "{root}/j.jsonl:1: ranking is 3",
           {"id": "p0", "fields": {}, "responses": {"ranking": [{"value": 3, "user_id": "u"}]}}),
    joined("join: nothing filled in", "no prompt has a judged answer (prompts without a judgement: 3 (p0, p1, p2))",
           {"id": "p0", "fields": {}, "responses": {}}, {"id": "p1", "fields": {}, "responses": {}}),
    BadInput("join: mean of votes", f"{JOIN} --combine mean", ("--combine mean: the judgements are votes",),
             (RANKED, rows("j.jsonl", {"id": "p0", "a": 0, "b": 1, "vote": "a"}))),
    BadInput("join: damaged workbook", JOIN.replace("j.jsonl", "j.xlsx"), ("{root}/j.xlsx: not an Excel workbook",),
             (RANKED, text("j.xlsx", "x"))),
    BadInput("combine alone", "prepare.py --source {root}/in.jsonl --combine mean", ("--combine mean needs --join",),
             (RANKED,)),
    BadInput("export: another ending", f"{EXPORT} table --output {{root}}/a.txt", ("expected .csv, .tsv, .xlsx",),
             (RANKED,)),
    BadInput("export: pairs of another ending", f"{EXPORT} axolotl --output {{root}}/a.csv",
             ("expected .jsonl, .json, .parquet",), (RANKED,)),
    BadInput("export: form of another tool", f"{EXPORT} axolotl --form standard --output {{root}}/a.json",
             ("--form standard applies to --export trl",), (RANKED,)),
    BadInput("export: somebody's configuration", f"{EXPORT} label_studio --output {{root}}/a.json",
             ("{root}/a.xml: was not written by this command",), (RANKED, text("a.xml", "<View><Audio/></View>"))),
    BadInput("export: nothing to rank", f"{EXPORT} label_studio --output {{root}}/a.json",
             ("{root}/in.jsonl:1: 0 responses",), (PROMPTS,)),
    BadInput("export: somebody's folder", f"{EXPORT} argilla --output {{root}}/mine",
             ("contains files not written by this command (first: thesis.txt)",),
             (RANKED, text("mine/thesis.txt", "x"))),
]  # fmt: skip
