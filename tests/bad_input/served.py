"""Bad input to what asks a server, and to judge.py; nothing listens on port 9 of this machine."""

from bad_input.table import BadInput, edit, text

DEAD = "http://localhost:9/v1"
ASK = "generation.py --index trained --stage 4 --max_new_tokens 2"
JUDGE = "judge.py trained_4 data"
RESULT = "eval_hh/results/trained_4.json"
ANNOTATE = "annotate.py --source {root}/prompts.jsonl --reward_model {root}/reward_model --dev_rows 2"
AUGMENT = "augment.py hh_train_len4_12 --pool {root}/prompts.jsonl --add 2 --reward_model {root}/reward_model"
ROWS = [
    BadInput("no server", f"{ASK} --endpoint {DEAD} --endpoint_model m",
             (f"--endpoint {DEAD}", "ConnectError", "expected a running server")),
    BadInput("no server at a check", f"{ASK} --check --endpoint {DEAD} --endpoint_model m", (f"--endpoint {DEAD}",)),
    BadInput("no address", f"{ASK} --endpoint localhost:9 --endpoint_model m", ("--endpoint 'localhost:9'", "/v1")),
    BadInput("a file for an address", f"{ASK} --endpoint file:///etc/passwd --endpoint_model m",
             ("--endpoint 'file:",)),
    BadInput("a password in the address", f"{ASK} --endpoint http://me:secret@h/v1 --endpoint_model m",
             ("--endpoint: holds a name or password",)),
    BadInput("no name of the model", f"{ASK} --endpoint {DEAD}", ("--endpoint and --endpoint_model: give both",)),
    BadInput("no address of the model", f"{ASK} --endpoint_model m", ("--endpoint and --endpoint_model: give both",)),
    BadInput("precision of a served model", f"{ASK} --endpoint {DEAD} --endpoint_model m --mixed_precision bf16",
             ("--endpoint", "--mixed_precision")),
    BadInput("hh without a tokenizer",
             f"generation.py --name far --prompt_format hh --endpoint {DEAD} --endpoint_model m",
             ("--prompt_format hh", "--model_path")),
    BadInput("no seed for the second model", f"{ANNOTATE} --candidates {{root}}/model {{root}}/model --seed 4294967295",
             ("--seed 4294967295: model i samples with seed + i (expected at most 4294967294)",)),
    BadInput("candidates of no server", f"{ANNOTATE} --endpoint {DEAD} --endpoint_model m", (f"--endpoint {DEAD}",)),
    BadInput("tokenizer without a server", f"{ANNOTATE} --endpoint_tokenizer {{root}}/model",
             ("--endpoint_tokenizer", "--endpoint")),
    BadInput("tokenizer that is none",
             f"{ANNOTATE} --endpoint {DEAD} --endpoint_model m --endpoint_tokenizer {{root}}/nope",
             ("{root}/nope: no such folder",)),
    BadInput("nobody answers", AUGMENT, ("--answer_model", "--endpoint")),
    BadInput("a server that is not asked",
             f"{AUGMENT} --answer_model {{root}}/model --endpoint {DEAD} --endpoint_model m",
             ("--endpoint: is not asked",)),
    BadInput("two servers' models answer", f"{AUGMENT} --endpoint {DEAD} --endpoint_model m n",
             ("--endpoint_model: several",)),
    BadInput("no judge", JUDGE, ("--reward_model or --endpoint: give one",)),
    BadInput("two judges", f"{JUDGE} --reward_model {{root}}/reward_model --endpoint {DEAD} --endpoint_model m",
             ("--reward_model or --endpoint: give one",)),
    BadInput("judge on no server", f"{JUDGE} --endpoint {DEAD} --endpoint_model m", (f"--endpoint {DEAD}",)),
    BadInput("judge that is no model", f"{JUDGE} --reward_model {{root}}/nope", ("{root}/nope: no such folder",)),
    BadInput("no such result", "judge.py nope data --reward_model x", ("A 'nope': no such result", "trained_4")),
    BadInput("a model against itself", "judge.py trained_4 trained_4 --reward_model x", ("the same model, trained_4",)),
    BadInput("damaged result", f"{JUDGE} --reward_model x", ("{root}/" + RESULT, "not valid JSON"),
             (text(RESULT, "{"),)),
    BadInput("result of other texts", f"{JUDGE} --reward_model x", ("its texts are not those of trained_4.json",),
             (edit(RESULT, lambda cell: _shift(cell["files"]["harmless_base"])),)),
    BadInput("no prompts", f"{JUDGE} --reward_model x --prompts 0", ("--prompts 0",)),
    BadInput("a name that is a path", f"{JUDGE} --reward_model x --name a/b", ("--name 'a/b'",)),
]  # fmt: skip


def _shift(entry: dict) -> None:
    """Gives a file's entry other, consistent BLEU scores."""
    entry["bleu"] = [50.0] * entry["n"]
    entry["mean"]["bleu"] = 50.0
