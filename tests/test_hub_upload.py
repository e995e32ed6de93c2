"""--push_to_hub, with the hub's client replaced at its edge: what is sent, in which order, and what goes wrong."""

from types import SimpleNamespace

import httpx2
import pytest
import yaml
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError

from data_preprocess.command import InputError
from tests.chat_templates import chat_tokenizer
from tests.test_going_on import train  # noqa: F401
from tests.test_trainer import metrics, run_folder, study  # noqa: F401
from training.saving.hub_upload import check_hub, model_card

SHORT = ("--max_train_steps", "2", "--checkpointing_step", "1")


def http_error(status):
    request = httpx2.Request("POST", "https://hub.test/api")
    return HfHubHTTPError("refused", response=httpx2.Response(status, request=request))


@pytest.fixture
def hub(monkeypatch):
    """The hub: its calls, each (name, positional arguments, named arguments); `hub.error` is raised by commits."""
    made = SimpleNamespace(calls=[], error=None)

    def call(name, result):
        def act(self, *args, **named):
            made.calls.append((name, args, named))
            if made.error and name == "create_commit":
                raise made.error
            return result

        monkeypatch.setattr(HfApi, name, act)

    call("whoami", {"name": "me"})
    call("create_repo", SimpleNamespace(repo_id="me/amber"))
    call("create_commit", SimpleNamespace(commit_url="https://hub.test/me/amber/commit/1"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return made


def sent(hub):
    name, args, named = hub.calls[-1]
    assert name == "create_commit" and args[0] == "me/amber"
    return {
        operation.path_in_repo: operation.path_or_fileobj
        if isinstance(operation.path_or_fileobj, bytes)
        else open(operation.path_or_fileobj, "rb").read()
        for operation in args[1]
    }, named["commit_message"]


def test_the_best_checkpoint_and_its_card_are_sent_in_one_commit(train, hub, capsys):  # noqa: F811
    assert train("run", *SHORT, "--push_to_hub", "me/amber")[0] == 0, train.error
    assert [name for name, *_ in hub.calls] == ["whoami", "create_repo", "create_commit"]
    assert hub.calls[1][1:] == (("me/amber",), {"private": True, "exist_ok": True})
    files, message = sent(hub)
    run = run_folder(train.root, "run")
    best = (run / "best_checkpoint").resolve()
    own = {path.name: path.read_bytes() for path in best.iterdir() if path.name != "manifest.json"}
    assert {name: content for name, content in files.items() if name != "README.md"} == own
    assert message == f"run, {best.name}" and not (best / "README.md").exists()

    header, card = files["README.md"].decode().split("---\n")[1:]
    described = yaml.safe_load(header)
    assert described["tags"] == ["alignment", "pro"] and described["library_name"] == "transformers"
    assert "base_model" not in described and str(train.root) not in card  # no path of this machine
    last = metrics(train.root, "run")[-1]
    for line in (
        "# run", "model, fine-tuned with PRO on rankings of which the first 4 responses were used.",
        "Human: What is amber?", f"| checkpoint | after step {best.name[5:]} of 2 |", "| learning_rate | 0.01 |",
        "| data | hh_train_len4_20/train.json |", "| weight_decay | 0.01 |", "| num_processes | 1 |",
    ):  # fmt: skip
        assert line in card.splitlines(), line
    assert f"→ {last['ranking_accuracy']:.4g} (mean of" in card and "| dev reward after step 2 |" in card


def test_a_finished_run_is_sent_by_the_same_command(train, hub):  # noqa: F811
    train("run", *SHORT)
    assert not hub.calls
    assert train("run", *SHORT, "--push_to_hub", "me/amber")[0] == 0
    assert "model.safetensors" in sent(hub)[0]


@pytest.mark.parametrize("error", [http_error(403), httpx2.ConnectError("no route"), OSError("no disk")])
def test_what_the_hub_refuses_is_one_line_and_nothing_is_lost(train, hub, error):  # noqa: F811
    hub.error = error
    status, line = train("run", *SHORT, "--push_to_hub", "me/amber")
    assert status == 1 and line.startswith("error: --push_to_hub me/amber: ")
    assert "is kept; run the same command to upload it" in line
    hub.error = None
    assert train("run", *SHORT, "--push_to_hub", "me/amber")[0] == 0 and sent(hub)[0]


def test_a_name_and_a_login_are_checked_before_the_run(train, hub, monkeypatch):  # noqa: F811
    with pytest.raises(InputError, match="^--push_to_hub a/b/c: is not a hub name"):
        check_hub("a/b/c")
    for error in (http_error(401), httpx2.ConnectError("no route")):

        def refuse(self, error=error):
            raise error

        monkeypatch.setattr(HfApi, "whoami", refuse)
        status, line = train("run", *SHORT, "--push_to_hub", "me/amber")
        assert status == 2 and line.startswith("error: --push_to_hub me/amber: the hub accepts no login (")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert train("run", *SHORT, "--push_to_hub", "me/amber") == (
        2, "error: --push_to_hub me/amber: HF_HUB_OFFLINE is set"
    )  # fmt: skip
    assert not (train.root / "checkpoints").exists() and not hub.calls


def test_a_base_model_on_the_hub_is_named():
    card = model_card("x", "facebook/opt-1.3b", "fine-tuned", ["sft"], "text-generation", {"Training": {"seed": 1}})
    assert yaml.safe_load(card.split("---")[1])["base_model"] == "facebook/opt-1.3b"
    assert card.endswith("## Training\n\n| | |\n|---|---|\n| seed | 1 |\n")


def test_the_card_of_a_chat_model_names_its_template_and_its_rank(study, train, hub):  # noqa: F811
    chat_tokenizer("smollm2").save_pretrained(study / "model")
    flags = ("--prompt_format", "auto", "--lora_r", "2", "--push_to_hub", "me/amber")
    assert train("run", *SHORT, *flags)[0] == 0, train.error
    files, _ = sent(hub)
    card = files["README.md"].decode()
    assert "A prompt is written by the tokenizer's chat template." in card and "Human:" not in card
    assert "| prompt_format | chat |" in card and "| lora_r | 2 |" in card
    assert "adapter_model.safetensors" in files and "model.safetensors" not in files
