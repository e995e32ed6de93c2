"""Reward models that read by a chat template: joined turns, what is kept of a long dialogue, what is refused."""

import json

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from data_preprocess.command import InputError, RunError
from eval_hh.inference.prompt_format import ChatTemplate, chat_messages
from eval_hh.reward_model import check_finite, load_reward_model
from tests.test_reward_model import REPLIES, TURNS, classifier_by_hand

SPECIAL = ["<bos>", "<eos>", "<start>", "<end>", "[INST]", "[/INST]"]
WORDS = ["user", "assistant", "system", "kind", *"abcdefgh"]
ID = {token: number for number, token in enumerate(["<unk>", *SPECIAL, *WORDS])}
TEMPLATES = {
    "llama3": (
        "{{ bos_token }} {% for m in messages %}<start> {{ m['role'] }} <end> {{ m['content'] }} <eos> {% endfor %}"
    ),
    "chatml": (
        "<start> system kind <end> "
        "{% for m in messages %}<start> {{ m['role'] }} {{ m['content'] }} <end> {% endfor %}"
    ),
    "mistral": (
        "{{ bos_token }} {% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}"
        "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST] {% else %}{{ m['content'] }} <eos> {% endif %}"
        "{% endfor %}"
    ),
}  # fmt: skip


def tokenizer_of(template: str) -> PreTrainedTokenizerFast:
    """A tokenizer of the words above, each an id, with one of the templates."""
    made = Tokenizer(models.WordLevel(ID, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, additional_special_tokens=SPECIAL[2:], **special)
    tokenizer.chat_template = TEMPLATES[template]
    return tokenizer


def encoded(template: str, turns: list[str], response: str, max_length: int) -> list[int]:
    tokenizer = tokenizer_of(template)
    return ChatTemplate(tokenizer).encode_dialogue(turns, response, max_length)


def ids(text: str) -> list[int]:
    return [ID[word] for word in text.split()]


ONE = ["<|prompter|>a b c d", "<|assistant|>"]
TWO = ["<|prompter|>a b", "<|assistant|>c", "<|prompter|>d", "<|assistant|>"]


@pytest.mark.parametrize(
    ("template", "turns", "max_length", "expected"),
    [
        ("llama3", ONE, 99, "<bos> <start> user <end> a b c d <eos> <start> assistant <end> g h <eos>"),
        # behind the head, BOS and the first turn's header, the oldest words go
        ("llama3", ONE, 13, "<bos> <start> user <end> c d <eos> <start> assistant <end> g h <eos>"),
        ("llama3", ONE, 8, "<bos> <start> user <end> <end> g h <eos>"),
        # the oldest exchange goes as a whole
        ("llama3", TWO, 14, "<bos> <start> user <end> d <eos> <start> assistant <end> g h <eos>"),
        ("llama3", TWO, 99, "<bos> <start> user <end> a b <eos> <start> assistant <end> c <eos> "
                            "<start> user <end> d <eos> <start> assistant <end> g h <eos>"),
        ("chatml", ONE, 13, "<start> system kind <end> <start> user d <end> <start> assistant g h <end>"),
        ("chatml", TWO, 14, "<start> system kind <end> <start> user d <end> <start> assistant g h <end>"),
        ("mistral", ONE, 99, "<bos> [INST] a b c d [/INST] g h <eos>"),
        ("mistral", ONE, 8, "<bos> [INST] c d [/INST] g h <eos>"),
        ("mistral", TWO, 8, "<bos> [INST] d [/INST] g h <eos>"),
        ("mistral", TWO, 3, "<bos> [INST] <eos>"),
    ],
)  # fmt: skip
def test_a_long_dialogue_keeps_the_templates_head_and_its_own_end(template, turns, max_length, expected):
    found = encoded(template, turns, "g h", max_length)
    assert found == ids(expected) and len(found) <= max_length


def test_turns_of_one_role_in_a_row_are_one():
    turns = ["<|prompter|>a", "<|prompter|>b", "<|assistant|>c", "<|assistant|>"]
    assert chat_messages(turns, "d") == [
        {"role": "user", "content": "a\nb"}, {"role": "assistant", "content": "c\nd"},
    ]  # fmt: skip
    assert encoded("mistral", turns, "d", 99) == ids("<bos> [INST] a b [/INST] c d <eos>")
    assert chat_messages(["<|prompter|>a", "<|assistant|>"], "b") == [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
    ]  # fmt: skip


def test_a_dialogue_that_the_template_refuses_is_an_input_error():
    with pytest.raises(InputError, match="chat template refuses the dialogue .roles must alternate"):
        encoded("mistral", ["<|assistant|>a", "<|prompter|>b", "<|assistant|>"], "c", 99)


FAMILIES = {
    "gpt_neox": {},
    "llama": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 2},
    "mistral": {"num_key_value_heads": 2, "sliding_window": 8},  # shorter than every dialogue
    "gemma3_text": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8},
}


def build(folder, tokenizer, family, **more):
    """A random classifier of one label with weights large enough to tell dialogues apart."""
    torch.manual_seed(2)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    own = {name + "_id": getattr(tokenizer, name + "_id") for name in ("bos_token", "eos_token", "pad_token")}
    config = AutoConfig.for_model(family, **{"vocab_size": len(tokenizer), "num_labels": 1, **sizes, **own, **more})
    model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_classifiers_scores_are_those_of_each_dialogue_alone(family, chat, tmp_path, byte_tokenizer):
    folder = build(tmp_path / "model", byte_tokenizer, family, **FAMILIES[family])
    if chat:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        turn = "[{{ m['role'] }}] {{ m['content'] }}\n"
        tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}" + turn + "{% endfor %}"
        tokenizer.save_pretrained(folder)
    model = load_reward_model(folder)
    expected = classifier_by_hand(folder, model.encode)
    assert max(expected) - min(expected) > 0.01
    for batch_size in (1, 2, 5):
        assert model.score(TURNS, REPLIES, batch_size=batch_size) == pytest.approx(expected, abs=1e-4)


def test_a_classifier_whose_scores_hang_on_the_batch_is_refused(tmp_path, byte_tokenizer, monkeypatch):
    """One that reads its padding, as a model without masks would."""
    from transformers import GPTNeoXForSequenceClassification

    forward = GPTNeoXForSequenceClassification.forward

    def unmasked(self, input_ids, attention_mask):
        output = forward(self, input_ids=input_ids, attention_mask=attention_mask)
        output.logits = output.logits + input_ids.shape[1]
        return output

    folder = build(tmp_path / "model", byte_tokenizer, "gpt_neox")
    monkeypatch.setattr(GPTNeoXForSequenceClassification, "forward", unmasked)
    with pytest.raises(InputError, match="a GPTNeoXForSequenceClassification gives a dialogue another score"):
        load_reward_model(folder)


def test_a_classifier_that_needs_other_rows_is_refused(tmp_path, byte_tokenizer):
    """BART pools at its rows' last EOS and wants as many in each; a dialogue has one for every turn."""
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
             "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}  # fmt: skip
    folder = build(tmp_path / "model", byte_tokenizer, "bart", **sizes)
    with pytest.raises(InputError, match="a BartForSequenceClassification cannot score dialogues here"):
        load_reward_model(folder)


def test_a_token_beyond_the_embedding_is_an_input_error(tmp_path, byte_tokenizer):
    folder = build(tmp_path / "model", byte_tokenizer, "gpt_neox", vocab_size=300)
    with pytest.raises(InputError, match=r"token id \d+ is outside the reward model's embedding of 300 rows"):
        load_reward_model(folder)


@pytest.mark.parametrize("family", ["gpt_neox", "llama"])
@pytest.mark.parametrize("pad", [-1, 10**6])
def test_a_padding_id_that_is_no_row_of_the_embedding_is_an_input_error(pad, family, tmp_path, byte_tokenizer):
    folder = build(tmp_path / "model", byte_tokenizer, family)
    config = json.loads((folder / "config.json").read_text()) | {"pad_token_id": pad}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=rf"pad_token_id is {pad} "):
        load_reward_model(folder)


def test_scores_that_are_not_finite_are_named_by_their_rows():
    check_finite([0.0, -1e30], [3, 4], "file:")
    with pytest.raises(RunError, match=r"^file:2, 9: the reward model's score is not finite$"):
        check_finite([float("nan"), 0.0, float("inf")], [9, 5, 2], "file:")
