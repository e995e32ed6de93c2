"""--push_to_hub: uploads a run's best checkpoint to the Hugging Face hub, with a model card made from the run.

Everything is sent in one commit. No path of this machine is in the card: folders are named by their last part.
"""

from pathlib import Path
from typing import Any

from data_preprocess.command import InputError, RunError
from data_preprocess.dialogue import render_prompt
from data_preprocess.files import read_json
from data_preprocess.hub import describe, looks_like_path
from data_preprocess.records import data_file
from training.checkpoints import RunFolder
from training.config import TrainConfig
from training.manifest import MANIFEST, file_names
from training.metrics import RANKING_ACCURACY, SFT_LOSS, mean_of_ends, read_metrics

CARD = "README.md"
# Settings that the card lists, where they have a value.
LISTED = (
    "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "weight_decay", "max_grad_norm",
    "global_batch_size", "stop_criterion", "max_train_steps", "num_train_epochs", "sft_weight", "block_size",
    "max_prompt", "append_eos", "seed",
)  # fmt: skip
EXAMPLE = ["<|prompter|>What is amber?", "<|assistant|>"]


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


def push_run(config: TrainConfig, run: RunFolder) -> None:
    """Uploads the best checkpoint if --push_to_hub is given; prints its address.

    Raises:
        RunError: the hub refuses it or cannot be reached; the checkpoint stays as it is.
    """
    if config.push_to_hub is None:
        return
    import httpx2
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    best = run.step_folder(run.best_step())
    files = [CommitOperationAdd(name, str(best / name)) for name in file_names(best) if name not in (MANIFEST, CARD)]
    card = CommitOperationAdd(CARD, model_card(config, run).encode())
    api = HfApi()
    try:
        made = api.create_repo(config.push_to_hub, private=True, exist_ok=True)
        commit = api.create_commit(made.repo_id, [*files, card], commit_message=f"{config.index}, {best.name}")
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        kept = f"{best} is kept; run the same command to upload it"
        raise RunError(f"--push_to_hub {config.push_to_hub}: {describe(error)} ({kept})") from error
    print(f"uploaded: {commit.commit_url}")


def model_card(config: TrainConfig, run: RunFolder) -> str:
    """Returns the model card of a finished run, in Markdown with the hub's YAML header."""
    from huggingface_hub import ModelCardData

    record, k = read_json(run.record), config.training_stage_num
    algorithm = "PRO" if k > 1 else "SFT"
    base = config.model_name_or_path
    local = Path(base).exists() or looks_like_path(base)
    data = ModelCardData(
        base_model=None if local else base, library_name="transformers", pipeline_tag="text-generation",
        tags=[algorithm.lower(), "alignment", "preference-ranking"],
    )  # fmt: skip
    what = f"rankings of which the first {k} responses were used" if k > 1 else "the best response to each prompt"
    lines = [
        "---", data.to_yaml(), "---", "", f"# {config.index}", "",
        f"{Path(base).name if local else base}, fine-tuned with {algorithm} on {what}.", "",
        "The prompt of a question and its answer is written as", "", "```", render_prompt(EXAMPLE).strip("\n"), "```",
        *_section("Results", _results(config, run)),
        *_section("Training", _training(config, record)),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _section(title: str, rows: dict[str, Any]) -> list[str]:
    return ["", f"## {title}", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]


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
