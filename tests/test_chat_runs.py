"""Runs in chat format, from training to annotate.py: what is stored, saved, generated, refused."""

import json
import shutil

import pytest
from chat_templates import TEMPLATES, chat_tokenizer
from eval_study import read_lines, write_lines
from test_decoding import chain_model, count_steps
from test_generation import output

from data_preprocess.command import InputError
from data_preprocess.hub import load_tokenizer
from eval_hh import generation
from eval_hh.analysis.comparable import evaluation_summary
from eval_hh.inference.decoding import Decoder
from eval_hh.inference.models import load_causal_lm
from eval_hh.inference.prompt_format import prompt_format
from eval_hh.reward_model import load_reward_model
from labelling.model_labels import sample_responses
from labelling.sampling import Sampling
from tests.test_going_on import train  # noqa: F401
from tests.test_trainer import run_folder, study  # noqa: F401
from training import train_reward

ONE = ["<|prompter|>What is amber?", "<|assistant|>"]


@pytest.fixture
def chat_study(study):  # noqa: F811
    """The study of test_trainer, whose model's tokenizer has SmolLM2's kind of template."""
    chat_tokenizer("smollm2").save_pretrained(study / "model")
    return study


def stored(root, exp):
    return json.loads((run_folder(root, exp) / "run.json").read_text())["config"]["prompt_format"]


def test_a_run_in_chat_format_is_stored_validated_generated_and_chats(chat_study, train, capsys):  # noqa: F811
    root = chat_study
    status, error = train("a", "--prompt_format", "auto", "--max_train_steps", "2")
    assert status == 0, error
    assert stored(root, "a") == "chat"
    assert "chat template" not in train.error
    checkpoint = run_folder(root, "a") / "best_checkpoint"
    model, tokenizer = load_causal_lm(checkpoint), load_tokenizer(checkpoint)
    assert tokenizer.chat_template == TEMPLATES["smollm2"]
    over, eos = tokenizer.convert_tokens_to_ids(["<|im_end|>", "</s>"])
    assert model.generation_config.eos_token_id == sorted([over, eos])
    # The same run with "chat" is this one; in another format it is another.
    assert train("a", "--prompt_format", "chat", "--max_train_steps", "2")[0] == 0
    status, error = train("a", "--max_train_steps", "2")
    assert status == 2 and "prompt_format was 'chat', is 'hh'" in error

    # generation.py says what plain transformers say in a chat.
    rows = [{"prefix": [ONE] * 2, "suffix": ["a", "b"], "reward": [1, 0], "meta": {"system": "Be brief."}},
            {"prefix": [ONE] * 2, "suffix": ["a", "b"], "reward": [1, 0], "meta": {}}]  # fmt: skip
    write_lines(root / "data/hh_test/harmless_base.json", rows)
    flags = ["--index", "a", "--stage", "4", "--max_new_tokens", "12", "--test_files", "harmless_base"]
    generation.main(flags)
    made = root / "eval_hh/inference_res/cache/infer_generate_main_a_4_best_checkpoint_harmless_base.json"
    for row, system in zip(read_lines(made), ([{"role": "system", "content": "Be brief."}], []), strict=True):
        ids = tokenizer.apply_chat_template(
            [*system, {"role": "user", "content": "What is amber?"}], add_generation_prompt=True, return_tensors="pt",
            return_dict=False,
        )  # fmt: skip
        whole = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
        assert row["infer"]["t"] == tokenizer.decode(whole, skip_special_tokens=True).strip()
    note = json.loads(made.with_name(made.name + ".done.json").read_text())
    assert note["settings"]["prompt_format"] == "chat"
    generation.main([*flags, "--prompt_format", "chat"])
    assert "0 of 1 test files newly generated" in capsys.readouterr().out
    with pytest.raises(InputError, match="--prompt_format hh: .*run.json says that the run was trained in chat"):
        generation.main([*flags, "--prompt_format", "hh", "--check"])


def test_the_published_format_warns_and_saves_no_template(chat_study, train):  # noqa: F811
    assert train("b", "--max_train_steps", "2")[0] == 0
    warnings = [line for line in train.error.splitlines() if "chat template" in line]
    assert len(warnings) == 1 and "model has a chat template, but --prompt_format hh trains" in warnings[0]
    checkpoint = run_folder(chat_study, "b") / "best_checkpoint"
    assert stored(chat_study, "b") == "hh" and load_tokenizer(checkpoint).chat_template is None
    settings = json.loads((checkpoint / "generation_config.json").read_text())
    assert settings["eos_token_id"] == json.loads((chat_study / "model/config.json").read_text())["eos_token_id"]


def test_a_run_from_before_there_were_formats_goes_on(train):  # noqa: F811
    assert train("c", "--max_train_steps", "2")[0] == 0
    record = run_folder(train.root, "c") / "run.json"
    saved = json.loads(record.read_text())
    del saved["config"]["prompt_format"]
    record.write_text(json.dumps(saved))
    assert train("c", "--max_train_steps", "3")[0] == 0
    assert (run_folder(train.root, "c") / "step_3").is_dir()
    write_lines(train.root / "data/hh_test/harmless_base.json",
                [{"prefix": [ONE], "suffix": ["a"], "reward": [1], "meta": {}}])  # fmt: skip
    record.write_text(json.dumps(saved))
    generation.main(["--index", "c", "--stage", "4", "--max_new_tokens", "2", "--test_files", "harmless_base"])
    status, error = train("c", "--max_train_steps", "3", "--prompt_format", "auto")
    assert status == 0, error  # the model has no template, so this is hh


def test_a_model_of_no_run_is_asked_in_the_flags_format(tmp_path, chat_study):
    write_lines(tmp_path / "data/hh_test/harmless_base.json",
                [{"prefix": [ONE], "suffix": ["a"], "reward": [1], "meta": {}}])  # fmt: skip
    flags = ["--index", "x", "--stage", "1", "--model_path", str(chat_study / "model"), "--max_new_tokens", "9",
             "--test_files", "harmless_base"]  # fmt: skip
    cache, texts = tmp_path / "eval_hh/inference_res/cache", {}
    for name in ("hh", "auto", "chat", None):
        generation.main([*flags, *(["--prompt_format", name] if name else [])])
        (row,) = read_lines(cache / "infer_generate_main_x_1_best_checkpoint_harmless_base.json")
        texts[name] = row["infer"]["t"]
    assert texts["hh"] == texts[None] != texts["chat"] == texts["auto"]


def test_decoding_stops_at_the_end_of_turn_and_at_no_stop_string():
    tokenizer = chat_tokenizer("mistral")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role + ':' + m.content + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    )
    model, (ids,) = chain_model(tokenizer, ": Human:")  # and so on
    decoder = Decoder(model, tokenizer, 2 * len(ids) - 2, prompt_format("chat", tokenizer))
    assert decoder.decode([decoder.encode(ONE)], 1) == ["Human: Human:"]
    hh = Decoder(model, tokenizer, 40)
    assert hh.decode([hh.encode(ONE)], 1) == [""]
    model, (ids,) = chain_model(tokenizer, ":yes<|eot_id|>no")
    steps = count_steps(model)
    decoder = Decoder(model, tokenizer, 40, prompt_format("chat", tokenizer))
    assert decoder.decode([decoder.encode(ONE)], 1) == ["yes"]
    assert len(steps) == ids.index(tokenizer.convert_tokens_to_ids("<|eot_id|>"))


def test_a_row_that_the_template_refuses_is_named_before_anything_is_written(chat_study, train, capsys):  # noqa: F811
    tokenizer = chat_tokenizer("gemma")
    tokenizer.save_pretrained(chat_study / "model")
    for name, folder in (("hh_train_len4_20/train.json", "d"), ("hh_dev/sampled_dev.json", "e")):
        path = chat_study / "data" / name
        rows = read_lines(path)
        write_lines(path, [*rows[:2], {**rows[2], "meta": {"system": "Be brief."}}, *rows[3:]])
        status, error = train(folder, "--prompt_format", "chat")
        assert status == 2 and f"{path}:3: the chat template refuses the dialogue (no system role)" in error
        assert not run_folder(chat_study, folder).exists()
        assert train(folder, "--max_train_steps", "2")[0] == 0  # the published text leaves it out
        write_lines(path, rows)
    test = chat_study / "data/hh_test/harmless_base.json"
    write_lines(test, [{"prefix": [ONE], "suffix": ["a"], "reward": [1], "meta": {"system": "Be brief."}}])
    with pytest.raises(InputError, match="harmless_base.json:1: the chat template refuses"):
        generation.main(["--index", "x", "--stage", "1", "--model_path", str(chat_study / "model"), "--prompt_format",
                         "chat", "--test_files", "harmless_base"])  # fmt: skip
    assert not output(chat_study).exists()


def test_a_template_that_a_prompt_has_no_room_for_is_refused(chat_study, train):  # noqa: F811
    status, error = train("f", "--prompt_format", "chat", "--max_prompt", "9")
    assert status == 2 and "--max_prompt 9: the chat template alone takes more than the 9 tokens" in error


def test_candidates_are_sampled_in_the_asked_format(chat_study, tmp_path):
    model = str(chat_study / "model")
    system = ["<|system|>Be brief.", *ONE]

    def sampled(name, prompts, file):
        return sample_responses(
            prompts, model, 2, tmp_path / f"{file}.jsonl", Sampling(prompt_format=name, max_new_tokens=9)
        )

    plain = sampled("hh", [ONE], 1)
    assert sampled("hh", [system], 1) == plain  # not even the seeds depend on what the format leaves out
    chat = sampled("chat", [ONE], 2)
    assert sampled("auto", [ONE], 2) == chat != plain
    assert sampled("chat", [system], 3) != chat
    note = json.loads((tmp_path / "1.jsonl.done.json").read_text())
    assert "prompt_format" not in note["settings"]
    chat_tokenizer("gemma").save_pretrained(chat_study / "model")
    with pytest.raises(InputError, match="prompt 2: the chat template refuses the dialogue"):
        sampled("chat", [ONE, system], 4)


def test_a_cell_says_its_format_and_is_not_mixed_with_others():
    evaluation = {"checkpoint": "best", "generation": {"max_new_tokens": 1, "mixed_precision": "no", "model": "m"},
                  "rewarding": {"reward_model": "r", "mixed_precision": "no"}}  # fmt: skip
    plain = evaluation_summary({"evaluation": evaluation})
    evaluation["generation"]["prompt_format"] = "chat"
    assert evaluation_summary({"evaluation": evaluation}) == plain.replace("(no), ", "(no), prompt format chat, ", 1)


def test_a_reward_model_keeps_its_format(chat_study, tmp_path, tiny_reward_dir):
    folder = shutil.copytree(tiny_reward_dir, tmp_path / "start")
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    tokenizer.save_pretrained(folder)
    data = chat_study / "data/hh_train_len4_20/train.json"

    def trained(name, start=folder):
        out = tmp_path / f"out_{name}"
        flags = [] if name is None else ["--prompt_format", name]
        train_reward.main(["--train_file", str(data), "--heldout_file", str(data), "--model_name_or_path", str(start),
                           "--output_dir", str(out), "--max_steps", "1", "--batch_size", "2", *flags])  # fmt: skip
        return load_reward_model(out)

    text = "[user] What is amber?\n[assistant] Resin.\n"
    as_chat = tokenizer(text, add_special_tokens=False)["input_ids"]
    tagged = tokenizer("<|prompter|>What is amber?</s><|assistant|>Resin.</s>", add_special_tokens=False)["input_ids"]
    assert trained(None).encode(ONE, "Resin.") == as_chat
    assert trained("chat").encode(ONE, "Resin.") == as_chat
    assert trained("hh").encode(ONE, "Resin.") == tagged
    assert trained("auto", tmp_path / "out_hh").encode(ONE, "Resin.") == tagged  # as its start was
    settings = json.loads((tmp_path / "out_None/training_settings.json").read_text())["settings"]
    assert "prompt_format" not in settings  # older models are known by their settings without it
    with pytest.raises(InputError, match="--prompt_format chat: its tokenizer has no chat template"):
        trained("chat", tiny_reward_dir)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"prompt_format": "nope"}))
    with pytest.raises(InputError, match="config.json: prompt_format is 'nope'"):
        load_reward_model(folder)
