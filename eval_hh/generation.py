"""Generates a checkpoint's responses to the test prompts.

Run from this folder: python generation.py --index EXP --stage RANKING_LEN
or, for a model of no run: python generation.py --name NAME --model_path MODEL
or, with a server that has the model: ... --endpoint URL --endpoint_model NAME_THERE

For each data/hh_test/FILE.json, writes eval_hh/inference_res/cache/infer_generate_main_EXP_RANKING_LEN_
best_checkpoint_FILE.json: the test rows, each with "infer": {"t": text}; for --name, eval_hh/inference_res/models/NAME/
cache/infer_generate_main_FILE.json. With --best_responses a row's text is its own first response: the ceiling; with
--worst_responses its last one, the only one where it has no other: the floor. A run that was killed or stopped by a
signal resumes when started again; a finished file is not made again.

With --endpoint nothing is loaded but the tokenizer of the checkpoint or of --model_path, whose token ids are sent; a
--name without --model_path is a model known to the server alone, which gets the dialogues as chat messages.

Prompts are in the format in which the run was trained, which its run.json holds (training/README.md, "Prompt formats");
--prompt_format names it where --model_path names another model.
"""

import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import InputError, check_one_given, environment_count, parse_settings, run, setting
from data_preprocess.dialogue import CHAT, HH, PROMPT_FORMATS
from eval_hh.cells import BEST_RESPONSES, SERVED, WORST_RESPONSES
from eval_hh.inference.endpoint import AT_A_TIME, EndpointFlags, reach
from eval_hh.inference.resumable_jobs import Job, folder_identity, format_setting, read_note, run_job, run_step
from eval_hh.run_paths import (
    GIVEN,
    MAX_NEW_TOKENS,
    PRECISIONS,
    Evaluation,
    check_same_model,
    encode_rows,
    recorded_precision,
)

if TYPE_CHECKING:
    from accelerate import PartialState


@dataclass(frozen=True, kw_only=True)
class Generation(Evaluation, EndpointFlags):
    """How responses are generated."""

    model_path: str | None = setting("folder or hub name to test instead of the run's checkpoint",
                                     default=None)  # fmt: skip
    best_responses: bool = setting("with --name: no model, but the test rows' own first responses", default=False)
    worst_responses: bool = setting("with --name: the test rows' own last responses", default=False)
    max_new_tokens: int = setting("maximum tokens decoded per prompt", default=MAX_NEW_TOKENS)
    batch_size: int | None = setting(
        "prompts decoded or asked at a time, per process ($BATCH_SIZE; default: 16, or up to 64 on a GPU)",
        default_factory=lambda: environment_count("BATCH_SIZE", None),
    )
    mixed_precision: str | None = setting(
        "precision of the weights (default: bf16 on a GPU, no, which is float32, on the CPU)",
        choices=PRECISIONS,
        default=None,
    )
    prompt_format: str | None = setting("hh, chat or auto; by default the format of the run, else hh",
                                        choices=PROMPT_FORMATS, default=None)  # fmt: skip

    @property
    def precision(self) -> str:
        """As results record it, see `recorded_precision`."""
        return SERVED if self.endpoint else recorded_precision(self.mixed_precision, "bf16")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_endpoint()
        if self.endpoint and (self.own_responses or self.mixed_precision):
            flag = f"--{self.own_responses}" if self.own_responses else "--mixed_precision"
            raise InputError(f"--endpoint: its server has model and precision (expected no {flag})")
        if self.is_remote and self.prompt_format == HH:
            raise InputError("--prompt_format hh: needs the tokenizer of the served model (expected its --model_path)")
        own = self.own_responses
        if self.worst_responses:
            check_one_given(self, "best_responses", "worst_responses", "which of the test rows' responses")
        if not self.endpoint and (self.name or own):
            check_one_given(self, "model_path", own or "best_responses", "what --name is the row of")
        if own and not self.name:
            raise InputError(f"--{own}: is no run's (expected --name NAME)")
        if own and self.prompt_format:
            raise InputError(f"--prompt_format and --{own}: give one of them (no model reads a prompt)")

    @property
    def own_responses(self) -> str:
        """The flag by which the test rows' own responses are taken; empty if a model generates them."""
        return "best_responses" if self.best_responses else "worst_responses" if self.worst_responses else ""

    @property
    def is_remote(self) -> bool:
        """Whether the tested model is known to the endpoint alone."""
        return bool(self.endpoint and self.name and not self.model_path)


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(Generation, argv, __doc__)
    model_path, tests = checked_inputs(config)
    format_name = tested_format(config, model_path)
    jobs = plan_jobs(config, model_path, format_name)
    check_rows(config, jobs)
    if config.check:
        return
    did = f"newly generated for {config.names}"
    run_step(jobs, lambda todo, state: generate_files(todo, tests, model_path, format_name, config, state), did)


def checked_inputs(config: Generation) -> tuple[str | Path | None, dict[str, list[dict]]]:
    """Returns the path of the tested model and the rows of each test file. Raises InputError if one is unusable.

    The path is None for the test rows' own responses and for a model known to the endpoint alone.
    """
    from data_preprocess.hub import source_options
    from data_preprocess.records import read_rows, why_unranked

    names = config.names
    model_path = config.model_path
    if config.index and not model_path:
        model_path = names.run_folder / config.checkpoint
        if not model_path.is_dir():
            hint = f"train experiment {config.index} first, with the launchers in training/"
            raise InputError(f"{model_path}: no such checkpoint ({hint})")
    if model_path is not None:
        source_options(model_path)
        _ = config.precision  # which this machine may not have
    if config.endpoint:
        reach(config.endpoint)
    for name in config.test_files:
        if not names.test_file(name).is_file():
            hint = "run first: cd data_preprocess; python prepare.py"
            raise InputError(f"{names.test_file(name)}: no such test file ({hint})")
    tests = {name: read_rows(names.test_file(name), training=False) for name in config.test_files}
    for name, rows in tests.items() if config.own_responses else ():
        for number, row in enumerate(rows, 1):
            if why := why_unranked(row):
                raise InputError(f"{names.test_file(name)}:{number}: {why}")
    return model_path, tests


def tested_format(config: Generation, model_path: str | Path | None) -> str:
    """Returns the prompt format, "hh" or "chat": the run's, or that of the flag.

    Raises:
        InputError: the flag contradicts the format in which the tested checkpoint was trained.
    """
    trained, asked = config.names.trained_format() if config.index else None, config.prompt_format
    if config.is_remote:
        return CHAT
    if asked is None:
        return trained or HH
    from eval_hh.inference.prompt_format import resolved_format

    name = resolved_format(asked, model_path)
    if not config.model_path and trained not in (None, name):
        found = f"{config.names.run_record} says that the run was trained in {trained}"
        raise InputError(f"--prompt_format {asked}: {found} (expected the same, or no flag)")
    return name


def plan_jobs(config: Generation, model_path: str | Path | None, format_name: str) -> dict[str, Job]:
    """Returns the job of each test file. The batch size is left out: it changes texts by float error only."""
    own = WORST_RESPONSES if config.worst_responses else BEST_RESPONSES
    unloaded = {"name": config.endpoint_model if config.endpoint else own}
    settings = {
        "step": "generation",
        "model": unloaded if model_path is None else folder_identity(model_path),
        "max_new_tokens": config.max_new_tokens,
        "mixed_precision": config.precision,
        **({"endpoint_model": config.endpoint_model} if config.endpoint else {}),
        **({GIVEN: True} if config.index and config.model_path else {}),
        **format_setting(format_name),
    }
    names = config.names
    return {
        name: Job(f"generating {name}", names.generated(name), names.test_file(name), settings)
        for name in config.test_files
    }


def check_rows(config: Generation, jobs: dict[str, Job]) -> None:
    """Raises InputError if another model's texts or result would be overwritten.

    A run's own checkpoint may change, as when it is trained further.
    """
    names, settings = config.names, next(iter(jobs.values())).settings
    ours = settings["model"]["name"]
    found = {}
    for job in jobs.values():
        with suppress(InputError):  # of a damaged note, whose output is made again
            made = read_note(job.output)["settings"] if job.output.is_file() else {}
            model = made.get("model", {})
            if isinstance(model, dict) and (config.name or GIVEN in settings or GIVEN in made):
                found[job.output] = model.get("name", ours)
    for path, theirs in found.items():
        if theirs != ours:
            flag = f"--{config.own_responses}" if config.own_responses else f"--model {ours}"
            hint = f"the new one gets a row of its own by: sh eval.sh {flag} NAME"
            raise InputError(f"{path}: was generated by {theirs}, which {ours} would overwrite ({hint})")
    if config.model_path or config.name:
        check_same_model(names.cell(), settings["model"])


def generate_files(
    jobs: dict[str, Job],
    tests: dict[str, list[dict]],
    model_path: str | Path | None,
    format_name: str,
    config: Generation,
    state: "PartialState",
) -> int:
    """Loads the model once and generates for each job's test file; returns how many were made."""
    if config.endpoint:
        return ask_files(jobs, tests, model_path, format_name, config, state)
    if model_path is None:
        place = -1 if config.worst_responses else 0
        return sum(copy_own(job, tests[name], place, state) for name, job in jobs.items())
    from data_preprocess.hub import load_tokenizer
    from eval_hh.inference.decoding import Decoder, agreed_batch_size, plan_units
    from eval_hh.inference.models import device, load_causal_lm, weights_dtype
    from eval_hh.inference.prompt_format import prompt_format

    model = load_causal_lm(model_path, weights_dtype(config.precision)).to(device())
    tokenizer = load_tokenizer(model_path)
    decoder = Decoder(model, tokenizer, config.max_new_tokens, prompt_format(format_name, tokenizer))
    decoder.check()
    encoded = {name: encode_rows(decoder.encode, tests[name], job.source) for name, job in jobs.items()}
    made = 0
    for name, job in jobs.items():
        prompts = encoded[name]
        batch_size = agreed_batch_size(config.batch_size, decoder, len(prompts), job.label, state)
        units = plan_units([len(ids) for ids in prompts], batch_size)

        def decode(unit: list[int], prompts: list[list[int]] = prompts, batch_size: int = batch_size) -> list[str]:
            return decoder.decode([prompts[row] for row in unit], batch_size)

        made += run_job(job, tests[name], units, decode, "t", state)
    return made


def ask_files(
    jobs: dict[str, Job],
    tests: dict[str, list[dict]],
    model_path: str | Path | None,
    format_name: str,
    config: Generation,
    state: "PartialState",
) -> int:
    """Asks the endpoint for each job's test file; returns how many were made."""
    from data_preprocess.hub import load_tokenizer
    from eval_hh.inference.served_texts import ChatPrompts, Endpoint, ServedTexts, TokenPrompts, ask_parts

    prompts = ChatPrompts() if model_path is None else TokenPrompts(load_tokenizer(model_path), format_name)
    endpoint = Endpoint(config.endpoint, config.endpoint_model, config.batch_size or AT_A_TIME)
    fill = partial(ask_parts, endpoint=endpoint)
    encoded = {name: encode_rows(prompts.encode, tests[name], job.source) for name, job in jobs.items()}
    made = 0
    for name, job in jobs.items():
        ask = ServedTexts(endpoint, prompts, encoded[name], config.max_new_tokens)
        made += run_job(job, tests[name], ask.units, ask, "t", state, fill)
        if state.is_main_process:
            print(f"{name}: {ask.said()}")
    return made


def copy_own(job: Job, rows: list[dict], place: int, state: "PartialState") -> bool:
    """Makes a test file's own responses, those at a place in their rankings, the generated texts."""
    return run_job(
        job, rows, [list(range(len(rows)))], lambda unit: [rows[row]["suffix"][place] for row in unit], "t", state
    )


if __name__ == "__main__":
    run(main)
