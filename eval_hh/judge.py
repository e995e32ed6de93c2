"""Judges which of two models answers better, prompt by prompt: by a reward model, or by an LLM behind an endpoint.

Run from this folder, after both were evaluated (eval.sh):
    python judge.py A B --reward_model PATH_OR_NAME
    python judge.py A B --endpoint URL --endpoint_model NAME [--dry_run]

A and B are names of result files in eval_hh/results or its models/, without .json. Several names with commas between
them, or a pattern like 'pro_len4_120_draw*', are the replicates of one setting: they are paired by draw and seed.
`data` stands for the test data's own first responses. Writes eval_hh/results/judged/NAME.json, which report.py shows:
win rates of A, raw and at equal length, with 95% intervals over replicates or, for one pair, over prompts. An LLM sees
every pair in both orders; its prompt and how its answer is read are in judging/rubric.yaml ("ours": the paper's is not
known). --dry_run counts pairs and tokens and asks nothing. A killed run resumes; no answer is asked for twice.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import (
    MAX_NAME,
    InputError,
    check_name,
    check_seed,
    check_settings,
    count,
    parse_settings,
    run,
    setting,
    stop_requests,
    study_root,
)
from data_preprocess.ranking import SEED
from eval_hh.inference.endpoint import EndpointFlags

if TYPE_CHECKING:
    from accelerate import PartialState

    from eval_hh.judging.pairs import Answers, Model


@dataclass(frozen=True, kw_only=True)
class Judging(EndpointFlags):
    """What is compared, and by which judge."""

    a: str = setting("result file without .json, or several, or a pattern", positional=True)
    b: str = setting("the same, or `data`", positional=True)
    reward_model: str | None = setting("judge: folder or hub name of a reward model", default=None)
    prompts: int | None = setting("judge N prompts of each test file, drawn with --seed (default: all)", count(),
                                  metavar="N", default=None)  # fmt: skip
    seed: int = setting("seed that draws the prompts", check_seed, default=SEED)
    judge_tokens: int = setting("maximum tokens of an LLM's answer", default=256)
    batch_size: int = setting("pairs asked, or dialogues scored, at a time", default=16)
    name: str | None = setting("of the result (default: A_vs_B_by_JUDGE)", check_name, default=None)
    dry_run: bool = setting("print pairs and tokens, and ask nothing", default=False)

    def __post_init__(self) -> None:
        check_settings(self)
        self.check_endpoint()
        if bool(self.reward_model) == bool(self.endpoint):
            raise InputError("--reward_model or --endpoint: give one of them (the judge)")

    @property
    def judge(self) -> str:
        """The judge's name."""
        return self.endpoint_model or Path(str(self.reward_model)).name

    @property
    def place(self) -> str | None:
        """Where a reward model is, since folders may share a name; None for a served one, whose server may move."""
        if self.endpoint:
            return None
        folder, root = Path(str(self.reward_model)), study_root().resolve()
        if not folder.is_dir():
            return str(folder)
        folder = folder.resolve()  # within the study root from there, since a study may be moved
        return str(folder.relative_to(root) if folder.is_relative_to(root) else folder)

    @property
    def output(self) -> Path:
        """The result file."""
        name = self.name or plain_name(f"{self.a}_vs_{self.b}_by_{self.judge}")
        return study_root() / "eval_hh" / "results" / "judged" / f"{name}.json"


def plain_name(text: str) -> str:
    """Returns a file name of letters, digits and _.- alone; a * is left out.

    What is longer than MAX_NAME bytes ends with a fingerprint of the whole in place of its end.
    """
    name = re.sub(r"[^\w.-]+", "_", text.replace("*", ""), flags=re.ASCII).strip("._-") or "judged"
    if len(name) <= MAX_NAME:
        return name
    from data_preprocess.provenance import fingerprint

    end = "_" + fingerprint({"name": text})[:12]
    return name[: MAX_NAME - len(end)] + end


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(Judging, argv, __doc__)
    from eval_hh.judging.pairs import both_answers, common_files, find_models, paired

    pairs = paired(find_models("A", config.a), find_models("B", config.b))
    files = common_files(pairs)
    answers = {
        (index, file): both_answers(pair, file, config.prompts, config.seed)
        for index, pair in enumerate(pairs)
        for file in files
    }
    n_prompts = sum(len(a.texts) for a, _ in answers.values())
    if len(pairs) == 1 and n_prompts < 2:
        expected = "expected two prompts or more, or several replicates"
        raise InputError(f"A, B: one pair of models and {n_prompts} prompt ({expected}: an interval needs them)")
    if config.dry_run:
        print(planned(config, list(answers.values())))
        return
    check_judge(config)
    check_output(config, pairs)
    with stop_requests():
        judged = judged_columns(config, answers)
    result = described(config, pairs, [{file: judged[index, file] for file in files} for index in range(len(pairs))])
    write_result(config, result)


def check_judge(config: Judging) -> None:
    """Raises InputError for a judge that cannot be had."""
    if config.endpoint:
        from eval_hh.inference.endpoint import reach

        reach(config.endpoint)
        return
    from data_preprocess.hub import source_options

    source_options(config.reward_model)


def check_output(config: Judging, pairs: "list[tuple[Model, Model]]") -> None:
    """Raises InputError if the result file holds another judge's verdicts, or pairs that are not among these."""
    from data_preprocess.files import read_json
    from eval_hh.analysis.judgements import PLACE, validate_judgement

    if not config.output.exists():
        return
    kept, expected = read_json(config.output), "expected another --name, or the file away"
    validate_judgement(kept, str(config.output))
    now = {(a.name, b.name) for a, b in pairs}
    for pair in kept["pairs"]:
        if (pair["a"], pair["b"]) not in now:
            raise InputError(f"{config.output}: compares {pair['a']} and {pair['b']} ({expected})")
    judge = kept["judge"]
    if judge["name"] != config.judge or (judge.get(PLACE) or config.place) != config.place:
        raise InputError(f"{config.output}: its judge is {judge.get(PLACE) or judge['name']} ({expected})")


def planned(config: Judging, answers: "list[tuple[Answers, Answers]]") -> str:
    """Returns the line on what would be asked, and on the tokens that it takes."""
    from eval_hh.judging.rubric import load_rubric
    from eval_hh.judging.verdicts_of_llm import CHARACTERS_PER_TOKEN, differing, estimated_tokens, questions

    n_pairs = sum(len(a.texts) for a, _ in answers)
    n_asked = sum(len(differing(a, b)) for a, b in answers)
    line = f"{n_pairs} pairs of responses; {n_pairs - n_asked} are equal, a tie that needs no judge"
    if not config.endpoint:
        return f"{line}; a reward model takes no tokens"
    rubric = load_rubric()
    tokens = sum(estimated_tokens(asked) for a, b in answers for asked in questions(rubric, a, b))
    most = 2 * n_asked * config.judge_tokens
    return (
        f"{line}\n{2 * n_asked} requests, both orders of {n_asked} pairs: about {tokens:,} prompt tokens "
        f"({CHARACTERS_PER_TOKEN} characters each), at most {most:,} new tokens"
    )


def judged_columns(
    config: Judging, answers: "dict[tuple[int, str], tuple[Answers, Answers]]"
) -> dict[tuple[int, str], dict[str, Any]]:
    """Returns the columns of the result file for each pair and test file, with the tokens used."""
    from eval_hh.inference.resumable_jobs import processes

    state = processes()
    folder = study_root() / "eval_hh" / "inference_res" / "judged" / config.output.stem
    places = {key: (folder / f"{key[0]}_{key[1]}.jsonl", f"judging {key[1]}") for key in answers}
    judge = by_llm if config.endpoint else by_reward_model
    return judge(config, answers, places, state)


def by_llm(config: Judging, answers: dict, places: dict, state: "PartialState") -> dict:
    """Returns the columns from an LLM's verdicts. Raises RunError if most of its answers hold none."""
    from eval_hh.inference.served_texts import Endpoint
    from eval_hh.judging.rubric import load_rubric
    from eval_hh.judging.verdicts_of_llm import check_read, judged_by_llm

    rubric = load_rubric()
    endpoint = Endpoint(config.endpoint, config.endpoint_model, config.batch_size)
    found = {
        key: judged_by_llm(endpoint, rubric, *both, config.judge_tokens, *places[key], state)
        for key, both in answers.items()
    }
    check_read(list(found.values()), config.judge, rubric)
    return {
        key: {
            **columns(*answers[key], one.preference), "a_first": one.a_first, "b_first": one.b_first,
            "tokens": (one.prompt_tokens, one.completion_tokens),
        }
        for key, one in found.items()
    }  # fmt: skip


def by_reward_model(config: Judging, answers: dict, places: dict, state: "PartialState") -> dict:
    """Returns the columns from the scores of a reward model."""
    from eval_hh.judging.verdicts_of_reward_model import RewardJudge

    judge = RewardJudge(config.reward_model, config.batch_size)
    return {key: columns(*both, judge.preference(*both, *places[key], state)) for key, both in answers.items()}


def columns(a: "Answers", b: "Answers", preference: list[float]) -> dict[str, Any]:
    """Returns one test file's columns, see eval_hh/analysis/judgements.py."""
    known = a.rewards is not None and b.rewards is not None
    rewards = [one - other for one, other in zip(a.rewards, b.rewards, strict=True)] if known else None
    lengths = [len(one) - len(other) for one, other in zip(a.texts, b.texts, strict=True)]
    return {
        "row_id": a.row_ids, "preference": preference, "a_first": None, "b_first": None, "reward_difference": rewards,
        "length_difference": lengths, "tokens": (0, 0),
    }  # fmt: skip


def described(config: Judging, pairs: "list[tuple[Model, Model]]", files: list[dict[str, dict]]) -> dict[str, Any]:
    """Returns the content of the result file."""
    from data_preprocess.provenance import git_hash, versions
    from eval_hh.analysis.judgements import ENDPOINT, PLACE, REWARD_MODEL, SCHEMA
    from eval_hh.judging.rubric import load_rubric

    cell = next(model.cell for pair in pairs for model in pair if model.cell)
    spent = [one.pop("tokens") for its in files for one in its.values()]
    return {
        "schema": SCHEMA,
        "a": pairs[0][0].setting,
        "b": pairs[0][1].setting,
        "judge": {
            "kind": ENDPOINT if config.endpoint else REWARD_MODEL,
            "name": config.judge,
            "rubric": load_rubric().version if config.endpoint else None,
            PLACE: config.place,
        },
        "profile": cell["profile"],
        "world": cell["world"],
        "pairs": [
            {"a": a.name, "b": b.name, **dict(zip(("draw", "seed"), replicate_of(a, b), strict=True)), "files": its}
            for (a, b), its in zip(pairs, files, strict=True)
        ],
        "tokens": dict(zip(("prompt", "completion"), map(sum, zip(*spent, strict=True)), strict=True)),
        "git": git_hash(),
        "versions": versions(),
    }


def replicate_of(a: "Model", b: "Model") -> tuple[int | None, int | None]:
    """Returns the (draw, seed) of a pair's replicate, of the side that has one."""
    return a.replicate or b.replicate or (None, None)


def write_result(config: Judging, result: dict[str, Any]) -> None:
    """Writes the result file and prints what the report will show."""
    from data_preprocess.files import write_json
    from eval_hh.analysis.judgements import summarised, validate_judgement
    from eval_hh.inference.resumable_jobs import is_main_process
    from eval_hh.reporting.sections_judged import population, rate_interval, rate_text, remarks_on

    if not is_main_process():
        return
    validate_judgement(result, str(config.output))
    if not says_the_same(config.output, result):
        write_json(config.output, result)
    one = summarised(result)
    print(f"{one.a} against {one.b}, judged by {one.judge}: {one.n_prompts} prompts, {population(one)}")
    print(f"win rate {rate_text(one.win_rate)} ({rate_interval(one.win_rate)})")
    print(f"at equal length {rate_text(one.controlled)} ({rate_interval(one.controlled)})")
    print(f"ties {one.ties:.1%}; " + "; ".join(
        f"{what} {share:.1%}" for what, share in (
            ("agrees with the reward", one.with_reward), ("agrees in both orders", one.between_orders),
        ) if share == share
    ))  # fmt: skip
    if config.endpoint:
        print("tokens: {prompt:,} of prompts, {completion:,} new".format(**result["tokens"]))
    print("".join(f"warning: {line}\n" for line in remarks_on(one)), end="")
    print(f"written: {config.output}")


def says_the_same(path: Path, result: dict[str, Any]) -> bool:
    """Returns whether a result file holds this result, whatever the versions it was made with."""
    from data_preprocess.files import read_json

    try:
        kept = read_json(path)
    except (OSError, ValueError):
        return False
    made_with = {"git": None, "versions": None}
    return isinstance(kept, dict) and {**kept, **made_with} == {**json.loads(json.dumps(result)), **made_with}


if __name__ == "__main__":
    run(main)
