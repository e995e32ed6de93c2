"""Bad rows of preference data: forms, roles, numbers, ids and marks, and text that a prompt would lose."""

from typing import Any

from bad_input.table import BadInput, Change, rows

PREPARE = "prepare.py --dev_rows 0 --source {root}/in.jsonl"
LINE = "{root}/in.jsonl:2: "
PAIR = {"prompt": "Name a fruit.", "chosen": "A plum.", "rejected": "Rust."}
LIST = {"prompt": "Name a fruit.", "completions": ["A plum.", "Rust."], "scores": [1, 0]}
TURNS = ["<|prompter|>Name a fruit.", "<|assistant|>"]
RANKING = {"prefix": [TURNS] * 2, "suffix": ["A plum.", "Rust."], "reward": [1, 0], "meta": {}}
USER = {"role": "user", "content": "Name a fruit."}
REPLY = {"role": "assistant", "content": "A plum."}
IMAGE = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "u"}}]


def after(first: dict, second: Any) -> tuple[Change]:
    """A file of a good row and a bad one."""
    return (rows("in.jsonl", first, second),)


def pair(expected: str, **changes: Any) -> tuple[tuple[str, ...], tuple[Change]]:
    return (LINE, expected), after(PAIR, {**PAIR, **changes})


def scores(expected: str, values: Any, **changes: Any) -> tuple[tuple[str, ...], tuple[Change]]:
    return (LINE, expected), after(LIST, {**LIST, "scores": values, **changes})


def meta(expected: str, **values: Any) -> tuple[tuple[str, ...], tuple[Change]]:
    return (LINE, expected), after(RANKING, {**RANKING, "meta": values})


NAMED = {
    # Prompts without text.
    "empty prompt": pair("prompt: a prompt without text", prompt=""),
    "prompt of characters without width": pair("prompt: a prompt without text", prompt="\u200b\ufeff"),
    "a message of characters without width": pair("a message without text",
                                                  prompt=[USER, {**REPLY, "content": "\u200b"}, USER]),
    "blank prompt": pair("prompt: a prompt without text", prompt=" \t\n"),
    "null prompt": pair("prompt is None", prompt=None),
    "rendered prompt without text": pair("a prompt without text", prompt="\n\nHuman: \n\nAssistant:"),
    "tagged turns without text": pair("a prompt without text", prompt=["<|prompter|>", "<|assistant|>"]),
    "messages without a user": pair("no message by a user", prompt=[{"role": "system", "content": "a"}]),
    "an empty message": pair("a message without text", prompt=[USER, {**REPLY, "content": ""}, USER]),
    "a blank user": pair("a message without text", prompt=[{"role": "user", "content": " "}]),
    "no messages": pair("prompt is []", prompt=[]),
    # Forms of messages.
    "image part": pair("prompt: content: part {{'type': 'image_url'", prompt=[{**USER, "content": IMAGE}]),
    "sound part": pair("expected text parts only", prompt=[{**USER, "content": [{"type": "audio", "text": "a"}]}]),
    "image beside the text of a part": pair("prompt: content: image_url {{'url': 'u'}}",
                                            prompt=[{**USER, "content": [{**IMAGE[1], **IMAGE[0]}]}]),
    "images of a message": pair("prompt: images ['u']", prompt=[{**USER, "images": ["u"]}]),
    "a call in a reply": pair("chosen: tool_calls [{{'id': 'c'}}] (expected text parts only",
                              chosen=[{**REPLY, "tool_calls": [{"id": "c"}]}]),
    "a call in a response object": scores("expected text parts only", [1, 0],
                                          completions=[{"text": "a", "function_call": {"name": "f"}}, "b"]),
    "empty content": pair("content is []", prompt=[{**USER, "content": []}]),
    "null content": pair("content is None", prompt=[USER, {**REPLY, "content": None, "tool_calls": []}, USER]),
    "unknown role": pair("role 'tool' (expected system, developer, user, human, prompter, assistant, gpt,",
                         prompt=[USER, {"role": "tool", "content": "3"}]),
    "unknown role of from and value": pair("role 'observation' (expected system,",
                                           prompt=[{"from": "observation", "value": "3"}]),
    "neither form": pair("expected role and content, or from and value", prompt=[{"speaker": "user", "text": "a"}]),
    "roles do not alternate": pair("two turns of one role in a row", prompt=[USER, USER]),
    "reply by a user": pair("expected a message by the assistant", chosen=[USER]),
    "reply by a human": pair("expected a message by the assistant", rejected={"from": "human", "value": "a"}),
    "response a number": pair("chosen is 3", chosen=3),
    # Text that would be lost from the prompt.
    "input beside prompt": pair("input holds text that the prompt would lose", input="plum"),
    "context beside prompt": pair("--ignore context", context="A plum is a fruit."),
    "history a text": pair("history holds text that the prompt would lose", history="Hi"),
    "history not in pairs": pair("history is", history=[["Hi"]]),
    "history with an empty turn": pair("history: a turn without text", history=[["Hi", ""]]),
    "instruction beside prompt": pair("instruction holds text that the prompt would lose", instruction="Be short."),
    "prompt of other words than its dialogues": pair("prompt holds text that the prompt would lose",
                                                     chosen=[USER, REPLY], rejected=[USER, REPLY], prompt="Why?"),
    "dialogues of other system messages": pair("expected the same messages but for the last reply",
                                               chosen=[{"role": "system", "content": "Be kind."}, USER, REPLY],
                                               rejected=[{"role": "system", "content": "Be curt."}, USER, REPLY]),
    # Numbers.
    "score not given": scores("'N/A' (expected a finite number; --drop_unrated leaves out", [1, "N/A"]),
    "score nan": scores("nan (expected a finite number; --drop_unrated", [float("nan"), 1]),
    "score infinite": scores("inf (expected a finite number)", [float("inf"), 1]),
    "score beyond float32": scores("1e+39 (expected at most 3.403e+38, of float32)", [1e39, 1]),
    "scores too far apart": scores("rewards from 3e+38 to -3e+38 (expected differences of at most", [-3e38, 3e38]),
    "score huge": scores("(expected a finite number)", [10**400, 1]),
    "score true": scores("True (expected a finite number)", [True, 1]),
    "score words": scores("'good' (expected a finite number)", ["good", 1]),
    "scores too few": scores("1 values for 2 responses", [1]),
    "scores an object": scores("expected a number per response", {"a": 1}),
    "vote between a response and itself": scores("expected [winner, loser]", [[0, 0]]),
    "vote beyond the responses": scores("expected responses 0 to 1", [[0, 2]]),
    # Marks.
    "meta.source a list": meta("meta.source is [1] (expected a text)", source=[1]),
    "meta.source an object": meta("meta.source is {{}} (expected a text)", source={}),
    "meta.id a list": meta("meta.id is ['a']", id=["a"]),
    "meta nan": meta("meta cannot be written as JSON", quality=float("nan")),
    "meta infinite inside": meta("meta cannot be written as JSON", quality=[{"a": float("-inf")}]),
    "meta.response_from too short": meta("meta.response_from is ['m']", response_from=["m"]),
    "meta.response_from of lists": meta("meta.response_from is", response_from=[["m"], ["n"]]),
    "id a list": pair("id is ['a'] (expected a text or a whole number)", id=["a"]),
    "id a fraction": pair("id is 1.5", id=1.5),
}  # fmt: skip
ROWS = [BadInput(name, PREPARE, expected, change) for name, (expected, change) in NAMED.items()]

ONE_RESPONSE = [{"prompt": "Name a fruit.", "response": text, "help": 3} for text in ("A plum.", "Rust.")]
ROWS += [
    BadInput(
        "one response per row", f"{PREPARE} --responses_from response --rewards_from help",
        ("{root}/in.jsonl: ", "--merge_prompts"), (rows("in.jsonl", *ONE_RESPONSE),),
    ),
    BadInput(
        "merged scores too far apart", f"{PREPARE} --merge_prompts --rewards_from help",
        ("{root}/in.jsonl:1: rewards from 3e+38 to -3e+38",),
        after(*({"prompt": "Name a fruit.", "response": text, "help": score}
                for text, score in (("A plum.", 3e38), ("Rust.", -3e38)))),
    ),
    BadInput(
        "merged rows with and without scores", f"{PREPARE} --merge_prompts", (LINE, "no rewards, and another row"),
        after(LIST, {"prompt": "Name a fruit.", "completions": ["Fig."]}),
    ),
    BadInput(
        "rating not given in an object", f"{PREPARE} --rewards_from completions.by.Rating",
        (LINE, "completions.by.Rating: 'N/A'", "--drop_unrated"),
        after(*({"prompt": "a", "completions": [{"response": text, "by": {"Rating": rating}} for text in "bc"]}
                for rating in ("5", "N/A"))),
    ),
    BadInput(
        "ratings by several raters per response", f"{PREPARE} --responses_from a b --rewards_from ra rb",
        (LINE, "ra rb: [1, 0] (expected a finite number)"),
        after(*({"prompt": "Q", "a": "A", "b": "B", "ra": ratings, "rb": ratings} for ratings in (1, [1, 0]))),
    ),
    BadInput(
        "ratings by several raters in the objects of a list", f"{PREPARE} --rewards_from completions.ratings",
        (LINE, "completions.ratings: [1, 0] (expected a finite number)"),
        after(*({"prompt": "a", "completions": [{"text": text, "ratings": ratings} for text in "bc"]}
                for ratings in (1, [1, 0]))),
    ),
    BadInput(
        "all ratings left out", f"{PREPARE} --drop_unrated", ("no prompt has 2 distinct non-empty responses",),
        after({**LIST, "scores": ["N/A", 1]}, {**LIST, "scores": ["", None]}),
    ),
    BadInput(
        "prompt of several fields, one a list", f"{PREPARE} --prompt_from prompt more",
        (LINE, "more is ['a'] (expected a text, as one of several fields)"),
        after({**PAIR, "more": "b"}, {**PAIR, "more": ["a"]}),
    ),
    BadInput(
        "id_from null", f"{PREPARE} --id_from key", (LINE, "key is None"),
        after({**PAIR, "key": 1}, {**PAIR, "key": None}),
    ),
    BadInput(
        "empty prompt for diversity", "diversity.py {root}/in.jsonl --tokenizer {root}/model",
        (LINE, "a prompt without text"), after({"prompt": "a"}, {"prompt": ""}),
    ),
    BadInput(
        "context for diversity", "diversity.py {root}/in.jsonl --tokenizer {root}/model",
        (LINE, "context holds text that the prompt would lose"), after(PAIR, {**PAIR, "context": "b"}),
    ),
    BadInput(
        "empty prompt for the plan",
        "plan.py {root}/in.jsonl --responses 4 --law paper-pro --tokenizer {root}/model --trust_tokenizer",
        (LINE, "a prompt without text"), after({"prompt": "a"}, {"prompt": "\n"}),
    ),
    BadInput(
        "image for the plan",
        "plan.py {root}/in.jsonl --responses 4 --law paper-pro --tokenizer {root}/model --trust_tokenizer",
        (LINE, "expected text parts only"), after({"prompt": "a"}, {"prompt": [{**USER, "content": IMAGE}]}),
    ),
]  # fmt: skip
