"""Bad input to recipes and to the flags that name columns: other schemas, winners, ratings, subsets, and CSV files."""

from pathlib import Path
from typing import Any

from bad_input.table import BadInput, Change, rows, text

PREPARE = "prepare.py --dev_rows 0 --source {root}/in.jsonl"
CSV = "prepare.py --dev_rows 0 --source {root}/in.csv"
FIRST, SECOND = "{root}/in.jsonl:1: ", "{root}/in.jsonl:2: "
PAIR = {"prompt": "Name a fruit.", "chosen": "A plum.", "rejected": "Rust."}
SAFE = {"prompt": "Name a fruit.", "response_0": "A plum.", "response_1": "Rust.", "better_response_id": 0}
SIGNED = {"context": [{"role": "user", "content": "Name a fruit."}], "response1": "A plum.", "response2": "Rust.",
          "overall_preference": -2}  # fmt: skip
RATED = {"prompt": "Name a fruit.", "response": "A plum.", "helpfulness": 4, "correctness": 4, "coherence": 4}
LONG = f"{PREPARE} --recipe helpsteer2"
OWN = f"{PREPARE} --prompt_from prompt --responses_from chosen rejected"


def after(*objects: Any) -> tuple[Change]:
    return (rows("in.jsonl", *objects),)


def parquet(name: str, *objects: dict) -> Change:
    """Writes a Parquet file of the study root, of the columns of PAIR."""

    def change(root: Path) -> None:
        from pyarrow import Table, parquet

        parquet.write_table(Table.from_pylist([PAIR, *objects]).slice(1), root / name)

    return change


def csv(content: str) -> tuple[Change]:
    return (text("in.csv", content),)


ROWS = [
    BadInput(
        "recipe on another schema", f"{PREPARE} --recipe nectar",
        (FIRST, "columns are prompt, chosen, rejected (expected those of recipe nectar: prompt, answers.answer"),
        after(PAIR, PAIR),
    ),
    BadInput(
        "recipe of pairs on another schema", f"{PREPARE} --recipe skywork",
        (FIRST, "columns are prompt, response, helpfulness", "recipe skywork: chosen, rejected"), after(RATED),
    ),
    BadInput(
        "recipe on objects of another schema", f"{PREPARE} --recipe ultrafeedback",
        (FIRST, "columns are instruction, completions", "completions.fine-grained_score"),
        after({"instruction": "Hi", "completions": [{"response": "Ho", "fine-grained_score": 1}, {"response": "Ha"}]}),
    ),
    BadInput("mixed rows", f"{PREPARE} --recipe pku-saferlhf", (SECOND, "no field response_0 (fields are prompt"),
             after(SAFE, PAIR)),
    BadInput("mixed rows of trees", f"{PREPARE} --recipe helpsteer3", (SECOND, "no field response1"),
             after(SIGNED, {"message_id": "a", "parent_id": None, "role": "prompter", "text": "Hi"})),
    BadInput("column that is not there", f"{OWN} --rewards_from score", (FIRST, "no field score (fields are prompt"),
             after(PAIR)),
    BadInput("winner column that is not there", f"{OWN} --winner_from best", (FIRST, "no field best (fields are"),
             after(PAIR)),
    BadInput("columns of responses that are not named", f"{PREPARE} --recipe none",
             ("no row has a response", "not read: response_0", "--responses_from with"), after(SAFE)),
    # Winners.
    BadInput("winner out of range", f"{PREPARE} --recipe pku-saferlhf", (SECOND, "id is 2", "0, 1 or tie"),
             after(SAFE, {**SAFE, "better_response_id": 2})),
    BadInput("winner below range", f"{PREPARE} --recipe pku-saferlhf", (SECOND, "better_response_id is -1"),
             after(SAFE, {**SAFE, "better_response_id": -1})),
    BadInput("winner true", f"{PREPARE} --recipe pku-saferlhf", (SECOND, "better_response_id is True"),
             after(SAFE, {**SAFE, "better_response_id": True})),
    BadInput("winner between", f"{PREPARE} --recipe pku-saferlhf", (SECOND, "better_response_id is 0.5"),
             after(SAFE, {**SAFE, "better_response_id": 0.5})),
    BadInput("winner a list", f"{PREPARE} --recipe pku-saferlhf", (SECOND, "better_response_id is [0]"),
             after(SAFE, {**SAFE, "better_response_id": [0]})),
    BadInput("winner of another name", f"{OWN} --winner_from by --winner_values model_a model_b",
             (SECOND, "by is 'model_c' (expected model_a, model_b or tie)"),
             after({**PAIR, "by": "model_a"}, {**PAIR, "by": "model_c"})),
    BadInput("preference a word", f"{PREPARE} --recipe helpsteer3", (SECOND, "overall_preference: 'first' ("),
             after(SIGNED, {**SIGNED, "overall_preference": "first"})),
    BadInput("preference infinite", f"{PREPARE} --recipe helpsteer3", (SECOND, "overall_preference: inf"),
             after(SIGNED, {**SIGNED, "overall_preference": float("inf")})),
    BadInput("values of a winner too many", f"{OWN} --winner_from by --winner_values a b c",
             (FIRST, "by: 2 responses (expected 3: a, b, c)"), after({**PAIR, "by": "a"})),
    BadInput("winner and rewards", f"{OWN} --winner_from by --rewards_from by", ("--rewards_from and --winner_from",),
             after({**PAIR, "by": 0})),
    BadInput("winner and ranks", f"{OWN} --winner_from by --ranks", ("--ranks and --winner_from",),
             after({**PAIR, "by": 0})),
    BadInput("values without a winner", f"{OWN} --winner_values a b", ("--winner_values needs --winner_from",),
             after({**PAIR, "by": 0})),
    BadInput("one value of a winner twice", f"{OWN} --winner_from by --winner_values a a",
             ("--winner_values a a: one value twice",), after({**PAIR, "by": "a"})),
    # Ratings.
    BadInput("rating a word", LONG, (SECOND, "helpfulness: 'good' (expected a finite number)"),
             after(RATED, {**RATED, "helpfulness": "good"})),
    BadInput("rating of stars", LONG, (SECOND, "helpfulness: '4/5' (expected a finite number)"),
             after(RATED, {**RATED, "helpfulness": "4/5"})),
    BadInput("rating a list", LONG, (SECOND, "helpfulness"), after(RATED, {**RATED, "helpfulness": [1, 2]})),
    BadInput("all ratings not given", LONG, ("no row has a response",),
             after({**RATED, "helpfulness": "N/A"}, {**RATED, "helpfulness": None})),
    # Where a data set is.
    BadInput("subset of a file", f"{PREPARE} --subset default", ("--subset default", "in.jsonl is a file"),
             after(PAIR)),
    BadInput("split of a file", f"{PREPARE} --split test", ("--split test", "in.jsonl is a file"), after(PAIR)),
    BadInput("split of a Parquet file", "prepare.py --source {root}/in.parquet --split test",
             ("--split test", "in.parquet is a file"), (parquet("in.parquet", PAIR),)),
    BadInput("split of a file of prompts",
             "select_prompts.py {root}/in.jsonl --size 1 --select random --output {root}/out.jsonl --split test",
             ("--split test", "in.jsonl is a file"), after(PAIR)),
    BadInput("split of a folder of rankings", "diversity.py {root}/in --split test --tokenizer {root}/model",
             ("--split test", "in is a folder with train.json"), (rows("in/train.json", PAIR),)),
    BadInput("split of a saved split", "prepare.py --source {root}/in --split test",
             ("--split test", "in is a data set saved as one split"), (text("in/state.json", '{"_split": "dev"}'),)),
    BadInput("subset of a saved split", "prepare.py --source {root}/in --split dev --subset b",
             ("--subset b", "in is a data set saved as one split"), (text("in/state.json", '{"_split": "dev"}'),)),
    BadInput("subset of saved splits", "prepare.py --source {root}/in --subset b",
             ("--subset b", "in is a data set saved by save_to_disk"), (text("in/dataset_dict.json", "{}"),)),
    BadInput("no such file", "prepare.py --source nowhere.jsonl", ("nowhere.jsonl: no such file or folder",)),
    BadInput("no such packed file", "prepare.py --source nowhere.json.gz", ("nowhere.json.gz: no such file",)),
    BadInput("Parquet without rows", "prepare.py --source {root}/in.parquet", ("{root}/in.parquet: no rows",),
             (parquet("in.parquet"),)),
    BadInput("subset of raw", "prepare.py --raw {root} --subset default", ("--subset applies to --source",)),
    BadInput("recipe of raw", "prepare.py --raw {root} --recipe hh-rlhf", ("--recipe applies to --source",)),
    BadInput("invalid rows of a tree", f"{PREPARE} --skip_invalid", ("--skip_invalid applies to rows",),
             after({"message_id": "a", "parent_id": None, "role": "prompter", "text": "Hi"})),
    *(BadInput(f"flag {flag.split()[0]} for trees", f"{PREPARE} --{flag}",
               (f"--{flag.split()[0]} applies to rows that stand alone",),
               after({"message_id": "a", "parent_id": None, "role": "prompter", "text": "Hi", "quality": 1}))
      for flag in ("rewards_from quality", "ranks", "winner_from quality", "id_from quality")),
    BadInput("ranks of a pair", f"{PREPARE} --ranks", (FIRST, "--ranks: the row has no numbers"), after(PAIR)),
    BadInput("ranks of a ranking", f"{PREPARE} --ranks", (FIRST, "--ranks: the row has no numbers"),
             after({"prefix": [["<|prompter|>Hi", "<|assistant|>"]] * 2, "suffix": ["a", "b"], "reward": [1, 0]})),
    BadInput("only invalid rows", f"{PREPARE} --skip_invalid", (FIRST, "so are all 2 rows"),
             after({**PAIR, "prompt": ""}, {**PAIR, "prompt": " "})),
    # Lists of messages written as text.
    BadInput("messages as a Python list", PREPARE, (SECOND, "prompt is", "a list of messages written as text"),
             after(PAIR, {**PAIR, "prompt": "[{'role': 'user', 'content': 'Hi'}]"})),
    BadInput("messages as JSON in JSON", PREPARE, (SECOND, "chosen is", "a list of messages written as text"),
             after(PAIR, {**PAIR, "chosen": '[ {"from": "gpt", "value": "Hi"}]'})),
    BadInput("messages with the content first", PREPARE, (SECOND, "rejected is", "a list of messages written as text"),
             after(PAIR, {**PAIR, "rejected": "[{'content': 'Hi', 'role': 'assistant'}]"})),
    # Other forms of files.
    BadInput("Parquet by another name", PREPARE, ("{root}/in.jsonl:1: not UTF-8 text but a Parquet file", ".parquet"),
             (text("in.jsonl", b"PAR1\x15\x04PAR1"),)),
    BadInput("ZIP archive", "prepare.py --source {root}/in.jsonl", ("{root}/in.jsonl:1: not UTF-8 text but a ZIP",),
             (text("in.jsonl", b"PK\x03\x04\x14"),)),
    BadInput("gzip by another name", PREPARE, ("{root}/in.jsonl:1: not UTF-8 text but a gzip file", ".gz"),
             (text("in.jsonl", b"\x1f\x8b\x08"),)),
    BadInput("Zstandard", "prepare.py --source {root}/in.jsonl.zst",
             ("{root}/in.jsonl.zst:1: not UTF-8 text but a Zstandard file (expected text, .gz or .xz)",),
             (text("in.jsonl.zst", b"\x28\xb5\x2f\xfd\x00"),)),
    BadInput("bzip2", "prepare.py --source {root}/in.csv.bz2",
             ("{root}/in.csv.bz2:1: not UTF-8 text but a bzip2 file",), (text("in.csv.bz2", b"BZh91AY\x90"),)),
    BadInput("damaged workbook", "prepare.py --source {root}/in.xlsx", ("{root}/in.xlsx: not an Excel workbook",),
             (text("in.xlsx", b"PK\x03\x04\x14"),)),
    BadInput("csv source in UTF-16", CSV, ("{root}/in.csv:1: not UTF-8 text but UTF-16 (expected UTF-8)",),
             (text("in.csv", "prompt,chosen,rejected\na,b,c\n".encode("utf-16")),)),
    # CSV.
    BadInput("empty csv source", CSV, ("{root}/in.csv:1: the file is empty",), csv("")),
    BadInput("csv source header alone", CSV, ("{root}/in.csv: no rows",), csv("prompt,chosen,rejected\n")),
    BadInput("tsv source with semicolons", "prepare.py --source {root}/in.tsv",
             ("{root}/in.tsv:1: one column, 'prompt;chosen;rej", "tabs in .tsv"),
             (text("in.tsv", "prompt;chosen;rejected\na;b;c\n"),)),
    BadInput("csv source column twice", CSV, ("{root}/in.csv:1: two columns are called 'chosen'",),
             csv("prompt,chosen,chosen\na,b,c\n")),
    BadInput("csv source without header", CSV, ("{root}/in.csv:2: ", "fields are Hi, A plum., Rust."),
             csv("Hi,A plum.,Rust.\nHo,A fig.,Rice.\n")),
    BadInput("csv source long row", CSV, ("{root}/in.csv:3: more values than the 3 columns",),
             csv("prompt,chosen,rejected\na,b,c\na,b,c,d\n")),
    BadInput("csv source short row", CSV, ("{root}/in.csv:3: 2 values for the 3 columns",),
             csv("prompt,chosen,rejected\na,b,c\na,b\n")),
    BadInput("csv source open quote", CSV, ("{root}/in.csv:3: not valid CSV",),
             csv('prompt,chosen,rejected\na,b,c\n"a,b,c\n')),
    BadInput("csv source list of Python", CSV, ("{root}/in.csv:2: completions is \"['a', 'b']\"", "written as JSON"),
             csv('prompt,completions,scores\na,"[\'a\', \'b\']","[1, 0]"\n')),
    BadInput("csv source nested deep", CSV, ("{root}/in.csv:2: completions is '[[[", "a list written as JSON"),
             csv(f"prompt,completions\na,{'[' * 100_000}\n")),
    BadInput("csv source nested too deep", CSV, ("{root}/in.csv:2: completions: lists or objects more than 100 deep",),
             csv(f"prompt,completions\na,{'[' * 200 + ']' * 200}\n")),
    BadInput("csv source half a surrogate", CSV, ("{root}/in.csv:2: prompt: holds an unpaired surrogate",),
             csv('prompt,chosen,rejected\n"[{""role"": ""user"", ""content"": ""\\ud800""}]",b,c\n')),
    BadInput("csv source half a surrogate in a list", CSV, ("{root}/in.csv:2: completions: holds an unpaired",),
             csv('prompt,completions\na,"[""\\udfff"", ""b""]"\n')),
    BadInput("csv source key twice", CSV, ("{root}/in.csv:2: prompt: ", "duplicate key 'content'"),
             csv('prompt,chosen,rejected\n'
                 '"[{""role"": ""user"", ""content"": ""Hi"", ""content"": ""Ho""}]",b,c\n')),
    BadInput("csv source messages of Python", CSV, ("{root}/in.csv:2: prompt is", "messages written as text"),
             csv("prompt,chosen,rejected\n\"[{'role': 'user', 'content': 'Hi'}]\",b,c\n")),
]  # fmt: skip
