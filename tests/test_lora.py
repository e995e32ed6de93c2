"""LoRA: packed rows equal separate passes in every family, peft reads what is saved, and every entry merges it."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from model_families import FAMILIES, plain_sums, rankings
from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from data_preprocess.command import InputError
from data_preprocess.hub import load_tokenizer, source_options
from eval_hh import merge_adapter
from eval_hh.inference import models
from eval_hh.inference.models import empty_causal_lm, load_causal_lm
from eval_hh.inference.resumable_jobs import folder_identity
from eval_hh.reward_model import load_reward_model
from training import main as training
from training import train_reward
from training.collator import collate
from training.lora import WITHOUT_LORA, LoraSettings, add_lora, load_adapter, save_adapter, trainable
from training.losses import response_logps
from training.saving.checkpoints import RunFolder

RIGHT = [number for number, family in enumerate(FAMILIES) if not family.refused]
IDS = torch.tensor([[7, 40, 41, 9, 100, 5]])


def with_lora(model, base="base", **more):
    """The model with LoRA's matrices, none of them zero."""
    add_lora(model, LoraSettings(lora_r=4, lora_alpha=32, **more), str(base), seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in trainable(model):
            parameter.normal_(std=0.1)
    return model


def saved(model, folder: Path) -> Path:
    folder.mkdir()
    save_adapter(model, folder, model.state_dict())
    return folder


@pytest.mark.parametrize("number", RIGHT, ids=lambda number: str(FAMILIES[number]))
def test_a_packed_row_is_that_of_separate_passes(number, tmp_path):
    """Under LoRA too, and merged; LoRA matters, and its first step starts from the base model."""
    FAMILIES[number].model().save_pretrained(tmp_path / "base")
    model = load_causal_lm(tmp_path / "base")
    with torch.no_grad():
        before = plain_sums(model)
        add_lora(model, LoraSettings(lora_r=4), str(tmp_path / "base"), seed=0)
        assert torch.equal(plain_sums(model), before)
        model = with_lora(load_causal_lm(tmp_path / "base"), tmp_path / "base")
        separate = plain_sums(model)
        assert (separate - before).abs().max() > 0.1
        assert (response_logps(model, collate(rankings()))[0] - separate).abs().max() < 1e-3
        again = load_causal_lm(saved(model, tmp_path / "adapter"))
        assert (plain_sums(again) - separate).abs().max() < 1e-3


@pytest.mark.parametrize("kind", ["opt", "gemma3_text", "mixtral", "deepseek_v3", "llama"])
def test_gradients_are_those_of_separate_passes(kind):
    number = next(n for n in RIGHT if FAMILIES[n].kind == kind)
    gradients = []
    for sums in (lambda model: response_logps(model, collate(rankings()))[0], plain_sums):
        model = with_lora(FAMILIES[number].model()).train()
        (sums(model) * torch.arange(1.0, 7.0).view(2, 3)).sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    ours, separate = gradients
    assert ours.keys() == separate.keys() and all("lora_" in name for name in ours) and len(ours) > 8
    for name, gradient in separate.items():
        assert (ours[name] - gradient).abs().max() <= 2e-3 * gradient.abs().max().clamp(min=0.1), name


def test_what_is_added_to_a_layer_is_alpha_over_r_times_b_a_x():
    """By hand, on one layer."""
    model = with_lora(FAMILIES[0].model(), lora_target_modules=["fc1"])
    layer = model.model.decoder.layers[0].fc1
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert a.shape == (4, 32) and b.shape == (layer.out_features, 4)
    x = torch.randn(3, 32)
    expected = x @ layer.base_layer.weight.T + layer.base_layer.bias + (32 / 4) * (x @ a.T) @ b.T
    torch.testing.assert_close(layer(x), expected)


def test_rankings_share_a_draw_of_dropout():
    """The prompt is computed once for its responses: each response's tokens have draws of their own, so that two equal
    ones differ, and the prompt's tokens, which both see, have one."""
    model = with_lora(FAMILIES[0].model(), lora_dropout=0.5).train()
    layer, seen = model.model.decoder.layers[0].self_attn.q_proj, []
    layer.lora_dropout["default"].register_forward_hook(lambda module, inputs, output: seen.append((*inputs, output)))
    ranking = rankings()[1]
    ranking.segments[1:] = [ranking.segments[0]] * 2
    ranking.n_targets[:] = [len(ranking.segments[0])] * 3
    sums = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        sums.append(response_logps(model, collate([ranking]))[0])
    assert torch.equal(sums[0], sums[1]) and not torch.equal(sums[0], sums[2])
    assert len(set(sums[0][0].tolist())) == 3  # three equal responses
    (given, kept) = seen[-1]
    n_tokens = len(ranking.prompt) + 3 * len(ranking.segments[0])
    assert given.shape == kept.shape == (1, n_tokens, 32)
    assert torch.equal(kept, torch.where(kept == 0, 0, 2 * given))  # each number of each token once: 0 or doubled
    assert 0.4 < (kept == 0).float().mean() < 0.6


def test_an_adapter_is_small_and_peft_itself_reads_it(tiny_causal_lm_dir, tmp_path):
    base = tiny_causal_lm_dir("llama")
    model = with_lora(load_causal_lm(base), base)
    folder = saved(model, tmp_path / "adapter")
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base) and config["r"] == 4
    assert config["target_modules"] == sorted(config["target_modules"]) and "lm_head" not in config["target_modules"]
    theirs = AutoPeftModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model.eval()(IDS).logits
        torch.testing.assert_close(theirs(input_ids=IDS).logits, expected)
        ours = load_causal_lm(folder)
        torch.testing.assert_close(ours(IDS).logits, expected, rtol=1e-4, atol=1e-4)
    assert type(ours) is type(load_causal_lm(base)) and all(p.requires_grad for p in ours.parameters())
    other = with_lora(load_causal_lm(base), base)
    for parameter in trainable(other):
        parameter.data.zero_()
    load_adapter(other, folder)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_what_others_made_is_read(tiny_causal_lm_dir, tmp_path):
    """An adapter by peft alone, without a tokenizer, of another kind than ours (IA3), against peft's own logits."""
    from peft import IA3Config, get_peft_model

    base = tiny_causal_lm_dir("llama")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), IA3Config(
        task_type="CAUSAL_LM", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]))  # fmt: skip
    with torch.no_grad():
        for parameter in trainable(model):
            parameter.uniform_(0.5, 2)
    model.save_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(
            load_causal_lm(tmp_path / "adapter")(IDS).logits, model.eval()(input_ids=IDS).logits, rtol=1e-4, atol=1e-4
        )
    assert load_tokenizer(tmp_path / "adapter").get_vocab() == load_tokenizer(base).get_vocab()


def test_one_seed_draws_one_a(tiny_causal_lm_dir):
    drawn = []
    for seed in (0, 0, 1):
        model = load_causal_lm(tiny_causal_lm_dir("opt"))
        torch.manual_seed(len(drawn))
        before = torch.get_rng_state()
        add_lora(model, LoraSettings(lora_r=2), "base", seed)
        assert torch.equal(torch.get_rng_state(), before)
        drawn.append(next(p for name, p in model.named_parameters() if "lora_A" in name))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


# What is refused, in one line.


@pytest.fixture
def adapter(tiny_causal_lm_dir, tmp_path) -> Path:
    """An adapter of a base model of its own, with its tokenizer."""
    base = shutil.copytree(tiny_causal_lm_dir("opt"), tmp_path / "base")
    folder = saved(with_lora(load_causal_lm(base), base), tmp_path / "adapter")
    load_tokenizer(base).save_pretrained(folder)
    return folder


def edit(folder: Path, **fields) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("load", [source_options, load_causal_lm, empty_causal_lm])
def test_a_moved_base_is_named(load, adapter):
    (adapter.parent / "base").rename(adapter.parent / "moved")
    with pytest.raises(InputError, match=f"{adapter}/adapter_config.json: base_model_name_or_path: .*/base: no such"):
        load(adapter)
    edit(adapter, base_model_name_or_path=str(adapter.parent / "moved"))
    load(adapter)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"base_model_name_or_path": None}, "base_model_name_or_path: None"),
        ({"peft_type": "NOTHING"}, "adapter cannot be read"),
        ({"target_modules": ["nothing"]}, "does not fit its base model"),
        ({"r": 3}, "weights cannot be loaded .*size mismatch"),
        ({"target_modules": ["q_proj", "v_proj"]}, "lacks, or has too many of, 16 weights"),
        ({"task_type": "SEQ_CLS", "modules_to_save": ["score"]}, "was trained as SEQ_CLS"),
        ({"alora_invocation_tokens": [1]}, "cannot be merged into its base model .NotImplementedError"),
        ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3}, "PROMPT_TUNING, which cannot be merged"),
    ],
)
def test_a_spoilt_adapter_is_one_line(fields, message, adapter):
    edit(adapter, **fields)
    with pytest.raises(InputError, match=message) as error:
        load_causal_lm(adapter)
    assert str(error.value).startswith(str(adapter)) and "\n" not in str(error.value)


def test_an_adapter_of_an_adapter_is_refused(adapter, tmp_path):
    edit(shutil.copytree(adapter, tmp_path / "second"), base_model_name_or_path=str(adapter))
    with pytest.raises(InputError, match="is an adapter itself"):
        load_causal_lm(tmp_path / "second")


def test_tied_output_embeddings_are_not_merged(tmp_path, monkeypatch):
    family = next(family for family in FAMILIES if str(family) == "llama tied embeddings")
    family.model().save_pretrained(tmp_path / "base")
    base, targets = tmp_path / "base", ["lm_head", "q_proj"]
    with pytest.raises(InputError, match="--lora_target_modules lm_head q_proj: .* tied to the input's"):
        with_lora(load_causal_lm(base), base, lora_target_modules=targets)
    with monkeypatch.context() as other_program:
        other_program.setattr(models, "adapts_tied_head", lambda model: False)
        model = with_lora(load_causal_lm(base), base, lora_target_modules=targets)
    with pytest.raises(InputError, match="tied"):
        load_causal_lm(saved(model, tmp_path / "adapter"))


def test_an_adapter_is_not_a_reward_model(adapter):
    with pytest.raises(InputError, match="was trained as CAUSAL_LM .expected SEQ_CLS."):
        load_reward_model(adapter)


@pytest.fixture
def without_bitsandbytes(monkeypatch):
    """As if it were not installed: it is optional."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "bitsandbytes" else found(name, *more)
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--lora_alpha 8", "--lora_alpha: has no effect without LoRA"),
        ("--lora_target_modules q_proj", "--lora_target_modules: has no effect without LoRA"),
        ("--load_in_4bit", "--load_in_4bit: has no effect without LoRA"),
        ("--lora_r -1", "--lora_r -1: expected a number of at least 0"),
        ("--lora_r 4 --lora_dropout 1", "--lora_dropout 1.0: expected a number"),
        ("--lora_r 4 --lora_alpha 0", "--lora_alpha 0.0: expected a number"),
        ("--lora_r 4 --lora_target_modules q_proj queries",
         "--lora_target_modules queries: no such module (the linear modules of a OPTForCausalLM are k_proj, v_proj, "
         "q_proj, out_proj, fc1, fc2, lm_head; or all-linear)"),
        ("--lora_r 4 --load_in_4bit", "--load_in_4bit: bitsandbytes, which keeps weights in 4 bits, is not installed"),
        ("--lora_r 4 --model_name_or_path {root}/adapter", "is an adapter, and --lora_r would put another on it"),
    ],
)  # fmt: skip
def test_flags_that_cannot_be_are_one_line_before_a_run(flags, message, study, adapter, without_bitsandbytes):
    shutil.copytree(adapter, study / "adapter")
    with pytest.raises(InputError) as error:
        run_main(study, "bad", *flags.format(root=study).split())
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (study / "checkpoints/index_bad").exists()


def test_a_module_that_is_not_linear_is_named(tiny_causal_lm_dir):
    with pytest.raises(InputError, match="--lora_target_modules final_layer_norm: .*not supported.*the linear"):
        add_lora(load_causal_lm(tiny_causal_lm_dir("opt")),
                 LoraSettings(lora_r=2, lora_target_modules=["final_layer_norm"]), "base", 0)  # fmt: skip


# Runs


def run_main(root: Path, exp: str, *more: str) -> Path:
    training.main([
        "--do_train", "--index", exp, "--model_name_or_path", str(root / "model"), "--training_stage_num", "4",
        "--train_file_path", str(root / "data/hh_train_len4_12"), "--max_train_steps", "2", "--checkpointing_step", "1",
        "--global_batch_size", "2", "--learning_rate", "1e-2", *more,
    ])  # fmt: skip
    return root / f"checkpoints/index_{exp}/stage_4"


def test_a_run_s_checkpoints_are_used_by_every_entry(study, tmp_path):
    """Trained with validation, evaluated, merged, and gone on from: the merged model answers as the adapter does."""
    from eval_hh import generation
    from labelling.sampling import Sampling, check_models

    folder = run_main(
        study, "lora", "--lora_r", "4", "--do_validation", "--dev_reward_model", str(study / "reward_model"),
        "--max_new_tokens", "2",
    )  # fmt: skip
    best = folder / "best_checkpoint"
    whole = (study / "model" / "model.safetensors").stat().st_size
    for path in [*folder.glob("step_*/*.safetensors"), *folder.glob("state_*/*.safetensors")]:
        assert path.stat().st_size < whole / 2, path
    assert json.loads((best / "adapter_config.json").read_text())["base_model_name_or_path"] == str(study / "model")
    generation.main(["--index", "lora", "--stage", "4", "--max_new_tokens", "4"])
    check_models([str(best)], Sampling())
    merge_adapter.main([str(best), str(tmp_path / "merged")])
    generation.main(["--index", "again", "--stage", "4", "--max_new_tokens", "4", "--model_path",
                     str(tmp_path / "merged")])  # fmt: skip
    cache = study / "eval_hh/inference_res/cache"
    ours, merged = (
        (cache / f"infer_generate_main_{exp}_4_best_checkpoint_harmless_base.json").read_text()
        for exp in ("lora", "again")
    )
    assert ours == merged
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    for name, value in load_causal_lm(best).state_dict().items():
        assert torch.equal(plain.state_dict()[name], value), name
    on = run_main(study, "on", "--model_name_or_path", str(best))
    assert (on / "step_2" / "model.safetensors").stat().st_size == whole


def test_frozen_weights_in_four_bits(study):
    """QLoRA on a CPU: losses near LoRA's, and two steps and then two more are four, bit for bit."""
    pytest.importorskip("bitsandbytes")
    four = ("--lora_r", "4", "--max_train_steps", "4")
    whole = run_main(study, "four", "--load_in_4bit", *four)
    run_main(study, "lora", *four)
    run_main(study, "halted", "--load_in_4bit", "--lora_r", "4")
    halted = run_main(study, "halted", "--load_in_4bit", *four)
    name = "step_4/adapter_model.safetensors"
    assert (halted / name).read_bytes() == (whole / name).read_bytes()
    losses = [
        [json.loads(line)["loss"] for line in (study / f"logs/{exp}/4/metrics.jsonl").read_text().splitlines()]
        for exp in ("four", "lora")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.05) and losses[0] != losses[1]


def test_a_changed_base_is_another_run_and_another_model(study):
    """The run's own files hold the adapter only: it must not go on from another base."""
    from safetensors.torch import load_file, save_file

    folder = run_main(study, "lora", "--lora_r", "4")
    identity = folder_identity(folder / "step_2")
    weights = load_file(study / "model" / "model.safetensors")
    changed = {name: value + 1 for name, value in weights.items()}
    save_file(changed, study / "model" / "model.safetensors", {"format": "pt"})
    assert folder_identity(folder / "step_2") != identity
    with pytest.raises(InputError, match="other settings: base_model was .* is "):
        run_main(study, "lora", "--lora_r", "4", "--max_train_steps", "3")


def test_a_run_from_before_lora_goes_on(study):
    """Its run.json lacks the new settings."""
    folder = run_main(study, "old")
    record = json.loads((folder / "run.json").read_text())
    for name in WITHOUT_LORA:
        del record["config"][name]
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="lora_r was 0, is 4"):
        run_main(study, "old", "--lora_r", "4")
    run_main(study, "old", "--max_train_steps", "3")
    assert RunFolder(folder).latest_state() == 3


# Reward models


def run_reward(root: Path, name: str, source: Path, *more: str) -> Path:
    train_reward.main([
        "--train_file", str(root / "reward_train.json"), "--heldout_file", str(root / "reward_heldout.json"),
        "--model_name_or_path", str(source), "--output_dir", str(root / name), "--batch_size", "4",
        "--max_steps", "4", "--learning_rate", "1e-2", *more,
    ])  # fmt: skip
    return root / name


@pytest.mark.parametrize("start", ["model", "reward_model"])
def test_a_reward_model_s_adapter_scores_as_peft_s_and_as_the_merged_folder(start, study, capsys):
    """From a causal LM, whose head is new, and from a reward model."""
    folder = run_reward(study, "lora", study / start, "--lora_r", "4")
    accuracy = json.loads((folder / "metrics.json").read_text())["pair_accuracy"]
    theirs = AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=1).eval()
    merge_adapter.main([str(folder), str(study / "merged")])
    plain = AutoModelForSequenceClassification.from_pretrained(study / "merged", dtype=torch.float32).eval()
    assert plain.num_labels == 1 and plain.config.pad_token_id is not None
    rows = [json.loads(line) for line in (study / "reward_heldout.json").read_text().splitlines()]
    pairs = [(row["prefix"][0], text) for row in rows for text in row["suffix"]]
    scores = {}
    for name in ("lora", "merged"):
        scorer = load_reward_model(study / name)
        scores[name] = scorer.score([turns for turns, _ in pairs], [text for _, text in pairs])
    ids = [torch.tensor([scorer.encode(*pair)]) for pair in pairs]
    with torch.no_grad():
        assert scores["lora"] == pytest.approx([theirs(input_ids=one).logits.item() for one in ids], abs=1e-4)
        assert scores["merged"] == pytest.approx([plain(input_ids=one).logits.item() for one in ids], abs=1e-4)
    assert scores["lora"] == pytest.approx(scores["merged"], abs=1e-5)
    right = [scores["lora"][4 * n + i] > scores["lora"][4 * n + j] for n in range(len(rows)) for i in range(4)
             for j in range(i + 1, 4)]  # fmt: skip
    assert sum(right) / len(right) == pytest.approx(accuracy)
    base = AutoModelForSequenceClassification.from_pretrained(study / start, num_labels=1).state_dict()
    trained = plain.state_dict()
    same = {name: torch.equal(base[name].float(), trained[name]) for name in base}
    assert not same["score.weight"] and any(same.values())


def test_a_reward_run_with_lora_stopped_and_gone_on_is_the_same(study, monkeypatch):
    from data_preprocess.command import Stopped
    from training.reward import trainer

    whole = run_reward(study, "whole", study / "model", "--lora_r", "2", "--lora_dropout", "0.3")
    original = trainer.Pace.on_step_end

    def stop_at_two(self, args, state, control, **more):
        self.trainer.stop.number = 15 if state.global_step == 2 else None
        original(self, args, state, control, **more)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Pace, "on_step_end", stop_at_two)
        with pytest.raises(Stopped, match="after step 2"):
            run_reward(study, "halted", study / "model", "--lora_r", "2", "--lora_dropout", "0.3")
    halted = run_reward(study, "halted", study / "model", "--lora_r", "2", "--lora_dropout", "0.3")
    for name in ("adapter_model.safetensors", "adapter_config.json", "losses.jsonl", "metrics.json"):
        assert (halted / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_reward_model_from_before_lora_is_kept(study, capsys):
    """Its training_settings.json has no setting of LoRA, as today's without LoRA; one with LoRA is another model."""
    folder = run_reward(study, "old", study / "reward_model")
    written = json.loads((folder / "training_settings.json").read_text())
    assert not set(WITHOUT_LORA) & set(written["settings"])
    run_reward(study, "old", study / "reward_model")
    assert "already trained with these settings" in capsys.readouterr().out
    run_reward(study, "old", study / "reward_model", "--lora_r", "2")
    assert (folder / "adapter_model.safetensors").exists() and not (folder / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("source", "more", "message"),
    [
        ("adapter", (), "was trained as CAUSAL_LM"),
        ("adapter", ("--lora_r", "2"), "is an adapter, and --lora_r would put another on it"),
        ("model", ("--lora_r", "2", "--lora_target_modules", "queries"), "queries: no such module"),
        ("model", ("--lora_r", "2", "--load_in_4bit"), "bitsandbytes, which keeps weights in 4 bits, is not installed"),
        ("model", ("--lora_dropout", "0.5"), "--lora_dropout: has no effect without LoRA"),
    ],
)
def test_what_a_reward_model_cannot_start_from_is_one_line(source, more, message, study, adapter, without_bitsandbytes):
    shutil.copytree(adapter, study / "adapter")
    with pytest.raises(InputError, match=message):
        run_reward(study, "bad", study / source, *more)
    assert not (study / "bad").exists()


# merge_adapter.py


def test_merging_refuses_what_is_whole_and_what_is_there(adapter, tmp_path):
    with pytest.raises(InputError, match="base: holds no adapter_config.json"):
        merge_adapter.main([str(tmp_path / "base"), str(tmp_path / "merged")])
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="there: exists already"):
        merge_adapter.main([str(adapter), str(tmp_path / "there")])
    assert not list((tmp_path / "there").iterdir())


def test_a_merged_model_has_its_base_s_precision(adapter, tmp_path):
    model = load_causal_lm(tmp_path / "base", torch.bfloat16)
    model.save_pretrained(tmp_path / "base")
    merge_adapter.main([str(adapter), str(tmp_path / "merged")])
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert merged.dtype == torch.bfloat16
    exact = load_causal_lm(adapter)  # of the base in float32
    for name, value in merged.state_dict().items():
        assert torch.equal(value, exact.state_dict()[name].to(torch.bfloat16)), name
