"""Labels by models: responses sampled from a language model, and rewards from a reward model.

Both jobs are divided over the processes started by training/launch.py, resume a killed run, and are skipped if the
output exists and was made from the same inputs. In fp32 on the CPU results do not depend on batching, processes or
kills.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from data_preprocess.command import InputError, check_number
from data_preprocess.dialogue import CHAT, HH, split_system, with_system
from data_preprocess.files import read_jsonl
from data_preprocess.hub import load_tokenizer
from data_preprocess.preparing.candidates import Candidates
from eval_hh.cells import SERVED
from eval_hh.inference.decoding import Decoder, agreed_batch_size, plan_units
from eval_hh.inference.models import device, load_causal_lm, weights_dtype
from eval_hh.inference.prompt_format import prompt_format, resolved_format
from eval_hh.inference.resumable_jobs import Job, folder_identity, format_setting, make_rows, processes, waiting_jobs
from eval_hh.inference.seeded_sampling import Sampler, response_seeds
from eval_hh.inference.served_texts import ChatPrompts, Drawn, Endpoint, ServedTexts, TokenPrompts, ask_parts
from eval_hh.reward_model import check_finite, load_reward_model
from eval_hh.run_paths import recorded_precision
from labelling.sampling import Sampling


def sample_responses(
    prompts: list[list[str]], model_path: str, num_per_prompt: int, output: Path, sampling: Sampling,
    served: bool = False, names: Sequence[str] = (),
) -> list[list[str]]:  # fmt: skip
    """Samples responses to each prompt with temperature and top-p.

    A prompt is truncated from the left to 384 tokens. A response ends at EOS, before the first stop string (or, in chat
    format, at the end of turn), or after `sampling.max_new_tokens`, and is stripped; it may be empty. Random numbers
    depend on (seed, prompt, sample), not on the model: models with one seed share them, and related models would give
    the same responses, so vary the seed.

    Args:
        prompts: each a list of turns, the last one a bare tag; the first may be a system message.
        model_path: folder or hub name of any causal language model or, where it is served, its name at the endpoint.
        num_per_prompt: responses to each prompt.
        output: the JSONL file to write, a row {"index": i, "responses": [...]} per prompt.
        sampling: the settings; without a precision the weights are bf16 on a GPU and float32 on the CPU.
        served: ask the endpoint of `sampling`. Each prompt's seeds are sent, but only the server knows what it makes of
            them; after a kill no answer is drawn again.
        names: what errors call each prompt (default: prompt 1, ...).

    Returns:
        The responses, num_per_prompt per prompt, in every process.

    Raises:
        InputError: a model that cannot be loaded, or one with too few positions, or a prompt that its format refuses.
    """
    check_number("num_per_prompt", num_per_prompt, at_least=1)
    names = names or default_names(len(prompts))
    tokenizer = sampling.endpoint_tokenizer if served else model_path
    format_name = resolved_format(sampling.prompt_format, tokenizer) if tokenizer else CHAT
    if format_name == HH:  # the published text has no system message, so none may change the seeds
        prompts = [split_system(turns)[1] for turns in prompts]
    settings = {
        "step": "sampling",
        "prompts": _digest(prompts),
        "model": {"name": model_path} if served else folder_identity(model_path),
        **({"tokenizer": folder_identity(tokenizer)} if served and tokenizer else {}),
        "num_per_prompt": num_per_prompt,
        **{name: getattr(sampling, name) for name in ("seed", "temperature", "top_p", "max_new_tokens")},
        "mixed_precision": SERVED if served else recorded_precision(sampling.mixed_precision, "bf16"),
        **format_setting(format_name),
    }
    job = Job(f"sampling from {Path(model_path).name}", output, None, settings)
    if waiting_jobs([job], processes()):
        if served:
            _sample_served(job, prompts, names, model_path, sampling)
        else:
            _sample(job, prompts, names, model_path, sampling.batch_size)
    return [row["responses"] for _, row in read_jsonl(output)]


def default_names(count: int) -> list[str]:
    """Returns what errors call prompts that have no line in a file."""
    return [f"prompt {number}" for number in range(1, count + 1)]


def _sample(job: Job, prompts: list[list[str]], names: Sequence[str], model_path: str, given: int | None) -> None:
    """Runs a sampling job, in the batch size given if any. Its rows are numbered prompt * num_per_prompt + sample."""
    state = processes()
    count = job.settings["num_per_prompt"]
    model = load_causal_lm(model_path, weights_dtype(job.settings["mixed_precision"])).to(device())
    tokenizer = load_tokenizer(model_path)
    made_by = prompt_format(job.settings.get("prompt_format", HH), tokenizer)
    decoder = Decoder(model, tokenizer, job.settings["max_new_tokens"], made_by)
    decoder.check()
    encoded = [_named(name, decoder.encode, turns) for name, turns in zip(names, prompts, strict=True)]
    seeds = response_seeds(prompts, count, job.settings["seed"])
    batch_size = agreed_batch_size(given, decoder, len(encoded) * count, job.label, state)
    units = plan_units([len(ids) for ids in encoded for _ in range(count)], batch_size)

    def sample(unit: list[int]) -> list[str]:
        own = [seeds[row // count][row % count] for row in unit]
        sampler = Sampler(model, own, job.settings["temperature"], job.settings["top_p"])
        return decoder.decode([encoded[row // count] for row in unit], batch_size, sampler)

    make_rows(job, units, sample, "t", state, partial(_by_prompt, count=count))
    state.wait_for_everyone()


def _sample_served(job: Job, prompts: list[list[str]], names: Sequence[str], model: str, sampling: Sampling) -> None:
    """Like `_sample`, by asking the endpoint."""
    state, count = processes(), job.settings["num_per_prompt"]
    endpoint = Endpoint(sampling.endpoint, model, sampling.at_a_time)
    asked: TokenPrompts | ChatPrompts = ChatPrompts()
    if sampling.endpoint_tokenizer:
        asked = TokenPrompts(load_tokenizer(sampling.endpoint_tokenizer), job.settings.get("prompt_format", HH))
    encoded = [_named(name, asked.encode, turns) for name, turns in zip(names, prompts, strict=True)]
    drawn = Drawn(response_seeds(prompts, count, sampling.seed), sampling.temperature, sampling.top_p)
    ask = ServedTexts(endpoint, asked, encoded, sampling.max_new_tokens, drawn, names)
    fill = partial(ask_parts, endpoint=endpoint)
    make_rows(job, ask.units, ask, "t", state, partial(_by_prompt, count=count), fill)
    if state.is_main_process:
        print(ask.said())
    state.wait_for_everyone()


def _by_prompt(texts: list[str], count: int) -> list[dict]:
    """Returns the rows of a sampling job's output from `count` texts for each prompt."""
    return [{"index": i, "responses": texts[i * count : (i + 1) * count]} for i in range(len(texts) // count)]


def score_rankings(
    prompts: list[list[str]], responses: list[list[str]], reward_model: str, output: Path, batch_size: int,
    names: Sequence[str] = (),
) -> list[list[float]]:  # fmt: skip
    """Scores every response with a reward model.

    Args:
        prompts: each a list of turns, the last one a bare tag; the first may be a system message.
        responses: any number of responses per prompt.
        reward_model: folder or hub name, of a kind supported by load_reward_model.
        output: the JSONL file to write, a row {"index": i, "rewards": [...]} per prompt.
        batch_size: dialogues per batch and process.
        names: what errors call each prompt (default: prompt 1, ...).

    Returns:
        Raw logits, shaped as `responses`, in every process.

    Raises:
        InputError: a reward model that cannot be loaded, or a dialogue that it cannot read.
        RunError: a logit that is not finite.
        ValueError: different numbers of prompts and lists of responses.
    """
    if len(prompts) != len(responses):
        raise ValueError(f"{len(prompts)} prompts and {len(responses)} lists of responses")
    settings = {
        "step": "scoring",
        "prompts": _digest(prompts),
        "responses": _digest(responses),
        "reward_model": folder_identity(reward_model),
        "mixed_precision": "no",  # half precision blurs the scores
    }
    job = Job(f"scoring with {Path(reward_model).name}", output, None, settings)
    if waiting_jobs([job], processes()):
        _score(job, prompts, responses, names or default_names(len(prompts)), reward_model, batch_size)
    return [row["rewards"] for _, row in read_jsonl(output)]


def scored(pool: list[Candidates], reward_model: str, output: Path, batch_size: int) -> list[Candidates]:
    """Returns the prompts with the reward model's raw logits as rewards; arguments as for `score_rankings`."""
    prompts, responses = [with_system(one.prefix, one.meta) for one in pool], [one.responses for one in pool]
    rewards = score_rankings(prompts, responses, reward_model, output, batch_size, [one.where for one in pool])
    return [replace(one, rewards=row) for one, row in zip(pool, rewards, strict=True)]


def _score(
    job: Job, prompts: list[list[str]], responses: list[list[str]], names: Sequence[str], reward_model: str,
    batch_size: int,
) -> None:  # fmt: skip
    """Runs a scoring job. Its rows are all (prompt, response) pairs, concatenated."""
    state = processes()
    model = load_reward_model(reward_model, weights_dtype("no"))
    pairs = [(i, text) for i, group in enumerate(responses) for text in group]
    encoded = [_named(names[i], model.encode, prompts[i], text) for i, text in pairs]
    numbers = [number for number, _ in pairs]

    def score(batch: list[int]) -> list[float]:
        of_prompts = [numbers[row] for row in batch]
        logits = model.score_batch([encoded[row] for row in batch], of_prompts)
        check_finite(logits, [names[number] for number in of_prompts], f"{reward_model}: ")
        return logits

    def by_prompt(scores: list[float]) -> list[dict]:
        left = iter(scores)
        return [{"index": i, "rewards": [next(left) for _ in group]} for i, group in enumerate(responses)]

    make_rows(job, model.plan(encoded, numbers, batch_size), score, "score", state, by_prompt)
    state.wait_for_everyone()


def _named(name: str, encode: Callable[..., list[int]], *dialogue: Any) -> list[int]:
    """Returns the token ids of a dialogue. Raises InputError that names a bad one."""
    try:
        return encode(*dialogue)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _digest(value: Any) -> str:
    """Returns the sha256 of a JSON value."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
