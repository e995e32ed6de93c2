"""--push_to_hub: uploads a run's best checkpoint to the Hugging Face hub, with a model card made from the run.

Everything is sent in one commit. No path of this machine is in the card: folders are named by their last part.
"""

from pathlib import Path
from typing import Any

from data_preprocess.command import InputError, RunError
from data_preprocess.dialogue import ASSISTANT, CHAT, PROMPTER, render_prompt
from data_preprocess.files import read_json
from data_preprocess.hub import describe, looks_like_path
from data_preprocess.records import data_file
from training.config import TrainConfig
from training.saving.checkpoints import RunFolder
from training.saving.manifest import MANIFEST, file_names
from training.tracking.metrics import RANKING_ACCURACY, SFT_LOSS, mean_of_ends, read_metrics

CARD = "README.md"
# Settings that the card lists, where they have a value.
LISTED = (
    "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "weight_decay", "max_grad_norm",
    "global_batch_size", "stop_criterion", "max_train_steps", "num_train_epochs", "sft_weight", "block_size",
    "max_prompt", "append_eos", "prompt_format", "lora_r", "seed",
)  # fmt: skip
EXAMPLE = [f"{PROMPTER}What is amber?", ASSISTANT]


def check_hub(repository: str) -> None:
    """Raises InputError if the name is no hub name, or the hub does not know who we are: before a run, not after."""
    import httpx2
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
    from huggingface_hub.utils import validate_repo_id

    flag = f"--push_to_hub {repository}"
    try:
        validate_repo_id(repository)
    except HFValidationError:
        raise InputError(f"{flag}: is not a hub name (expected OWNER/NAME)") from None
    if constants.HF_HUB_OFFLINE:
        raise InputError(f"{flag}: HF_HUB_OFFLINE is set")
    try:
        HfApi().whoami()
    except (HfHubHTTPError, LocalTokenNotFoundError, httpx2.HTTPError, OSError) as error:
        raise InputError(f"{flag}: the hub accepts no login ({describe(error)}; run hf auth login)") from error


def upload(repository: str, folder: Path, card: str, message: str) -> None:
    """Uploads a model's folder with its card in one commit, and prints the commit's address.

    Args:
        repository: OWNER/NAME, made private if it does not exist.
        folder: written by save_pretrained; its manifest is left out.
        card: the model card.
        message: of the commit.

    Raises:
        RunError: the hub refuses it or cannot be reached; the folder stays as it is.
    """
    import httpx2
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    names = [name for name in file_names(folder) if name not in (MANIFEST, CARD)]
    files = [CommitOperationAdd(name, str(folder / name)) for name in names]
    api = HfApi()
    try:
        made = api.create_repo(repository, private=True, exist_ok=True)
        added = [*files, CommitOperationAdd(CARD, card.encode())]
        commit = api.create_commit(made.repo_id, added, commit_message=message)
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        kept = f"{folder} is kept; run the same command to upload it"
        raise RunError(f"--push_to_hub {repository}: {describe(error)} ({kept})") from error
    print(f"uploaded: {commit.commit_url}")


def model_card(title: str, base: str, how: str, tags: list[str], task: str, tables: dict[str, dict[str, Any]]) -> str:
    """Returns a model card in Markdown with the hub's YAML header.

    Args:
        title: the model's name.
        base: hub name or path of the model that was trained; of a path the last part is shown.
        how: the sentence on its training, after the name of the base model.
        tags, task: for the hub's search.
        tables: rows {name: value} by heading.
    """
    from huggingface_hub import ModelCardData

    local = Path(base).exists() or looks_like_path(base)
    data = ModelCardData(
        base_model=None if local else base, library_name="transformers", pipeline_tag=task, tags=["alignment", *tags]
    )
    lines = ["---", data.to_yaml(), "---", "", f"# {title}", "", f"{Path(base).name if local else base}, {how}"]
    for heading, rows in tables.items():
        lines += [
            "",
            f"## {heading}",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in rows.items()),
        ]
    return "\n".join(lines) + "\n"


def push_run(config: TrainConfig, run: RunFolder) -> None:
    """Uploads the best checkpoint of a finished run if --push_to_hub is given. RunError as `upload`."""
    if config.push_to_hub is not None:
        best = run.step_folder(run.best_step())
        upload(config.push_to_hub, best, run_card(config, run), f"{config.index}, {best.name}")


def run_card(config: TrainConfig, run: RunFolder) -> str:
    """Returns the model card of a finished run."""
    record, k = read_json(run.record), config.training_stage_num
    algorithm = "PRO" if k > 1 else "SFT"
    what = f"rankings of which the first {k} responses were used" if k > 1 else "the best response to each prompt"
    how = f"fine-tuned with {algorithm} on {what}.\n\n{_prompt_text(config)}"
    tables = {"Results": _results(config, run), "Training": _training(config, record)}
    return model_card(config.index, config.model_name_or_path, how, [algorithm.lower()], "text-generation", tables)


def _prompt_text(config: TrainConfig) -> str:
    """Returns how the model reads a prompt, in words."""
    if config.prompt_format == CHAT:
        return "A prompt is written by the tokenizer's chat template."
    prompt = render_prompt(EXAMPLE).strip("\n")
    return f"A prompt is written as\n\n```\n{prompt}\n```"


def _results(config: TrainConfig, run: RunFolder) -> dict[str, Any]:
    """Returns what the run measured: means over the first and last steps, and the dev reward of each checkpoint."""
    best, logged = run.best_step(), read_metrics(config.metrics_file, SFT_LOSS)
    rows: dict[str, Any] = {"checkpoint": f"after step {best} of {logged[-1]['step'] if logged else best}"}
    for name, meaning in ((SFT_LOSS, "SFT loss, nats per response"), (RANKING_ACCURACY, "ranking accuracy")):
        if values := [row[name] for row in logged if name in row]:
            first, last, n = mean_of_ends(values)
            rows[meaning] = f"{first:.4g} → {last:.4g} (mean of the first and last {n} steps)"
    for step, reward in sorted(run.dev_rewards().items()):
        rows[f"dev reward after step {step}"] = f"{reward:.4f}"
    return rows


def _training(config: TrainConfig, record: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings of the run, and what it was made with."""
    file = data_file(config.train_file_path)
    rows: dict[str, Any] = {"data": f"{file.parent.name}/{file.name}"}
    rows |= {f"sha256 of {name}": digest for name, digest in record["data_sha256"].items()}
    rows |= {name: record["config"][name] for name in LISTED if record["config"].get(name) not in (None, "")}
    rows |= {name: value for name, value in record["launch"].items()}
    return rows | {"commit": record["git"], **record["versions"]}
