"""Small chat templates in the formats of well-known models, and a tiny tokenizer that has their special tokens."""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TURN = "{{ '<|im_start|>' + m.role + '\n' }}"
ALTERNATE = (
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
)
INSTRUCTED = (
    "{% set first = messages[0].content + '\n\n' if messages[0].role == 'system' else '' %}"
    "{% for m in messages if m.role != 'system' %}" + ALTERNATE + "{% if m.role == 'user' %}"
    "{{ '[INST] ' + (first if loop.first else '') + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
LLAMA = (
    "{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim "
    "+ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
TEMPLATES = {
    "smollm2": (
        "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
        "{% for m in messages %}" + TURN + "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    # The last reply begins with its thoughts, here none; a generation prompt leaves them open unless told otherwise.
    "qwen3": (
        "{% for m in messages %}" + TURN + "{% if m.role == 'assistant' %}{% set text = m.content %}"
        "{% if '</think>' in text %}{% set text = text.split('</think>')[-1].lstrip('\n') %}{% endif %}"
        "{% if loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ text }}"
        "{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
        "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        "{% endif %}"
    ),
    "llama3": "{{ bos_token }}" + LLAMA,
    "llama3 dated": "{{ bos_token + strftime_now('%d %b %Y') }}" + LLAMA,
    "gemma": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{% for m in messages %}" + ALTERNATE +
        "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim "
        "+ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
    "mistral": "{{ bos_token }}" + INSTRUCTED,
    # Without a system role, and without special tokens but EOS behind a whole dialogue.
    "plain": (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{{ ('Q: ' if m.role == 'user' else 'A: ') + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'A:' }}{% endif %}"
    ),
    # A generation prompt that no reply in a dialogue begins with.
    "r1": (
        "{% for m in messages %}" + TURN + "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
    ),
}  # fmt: skip
SPECIAL = ["<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>",
           "<|eot_id|>", "<start_of_turn>", "<end_of_turn>"]  # fmt: skip
END = {"smollm2": "<|im_end|>", "qwen3": "<|im_end|>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>",
       "mistral": "</s>", "plain": "</s>"}  # fmt: skip
TEXT = ["user\nWhat is amber made of?\nassistant\nAmber is made of resin.\n\n", "[INST] Hi [/INST] Yes.", "Q: A: model"]


# Line breaks stay together with the white space before them, as in Llama 3's and Qwen's tokenizers. SmolLM2's are
# split as GPT-2's.
WORDS = Regex(r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+")


def chat_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 400 tokens with one of the templates; <think> and </think> are not declared special."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(WORDS, "isolated")
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name == "smollm2")
    tokenizer.pre_tokenizer = bytes_of if name == "smollm2" else pre_tokenizers.Sequence([split, bytes_of])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(TEXT * 3, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        additional_special_tokens=SPECIAL[3:],
    )  # fmt: skip
    made.add_tokens(["<think>", "</think>"])
    made.chat_template = TEMPLATES[name]
    return made
