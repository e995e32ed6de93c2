import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from data_preprocess.dialogue import cut_at_stop, render_prompt
from data_preprocess.files import InputError
from data_preprocess.toy_tokenizer import write_tokenizer
from eval_hh.decoding import Decoder, generate, plan_batches
from eval_hh.models import load_causal_lm, load_tokenizer, prompt_ids

PROMPTS = [
    ["<|prompter|>How do I fix a leaking tap?", "<|assistant|>"],
    ["<|prompter|>Hi", "<|assistant|>"],
    ["<|prompter|>Tell me about whales.", "<|assistant|>They sing.", "<|prompter|>Where?", "<|assistant|>"],
    ["<|prompter|>What is amber made of? " + "And where is it found? " * 60, "<|assistant|>"],
    ["<|prompter|>Can you help me?", "<|assistant|>"],
]


def test_plan_batches_sorts_by_length_and_keeps_ties_in_order():
    assert plan_batches([3, 9, 3, 7, 1], 2) == [[1, 3], [0, 2], [4]]
    assert plan_batches([3, 9, 3], 8) == [[1, 0, 2]]
    assert plan_batches([], 4) == []


def greedy_by_hand(model, tokenizer, turns, max_new_tokens):
    """One prompt, no cache, no padding, the whole sequence recomputed for every token."""
    ids = prompt_ids(tokenizer, render_prompt(turns))
    new = []
    while len(new) < max_new_tokens:
        with torch.no_grad():
            logits = model(torch.tensor([ids + new])).logits[0, -1]
        token = int(logits.argmax())
        if token == tokenizer.eos_token_id:
            break
        new.append(token)
    return cut_at_stop(tokenizer.decode(new, skip_special_tokens=True)).strip()


@pytest.mark.parametrize("family", ["opt", "gpt_neox", "llama", "gpt2", "qwen2"])
def test_batches_decode_what_one_by_one_without_cache_does(family, tiny_causal_lm_dir):
    folder = tiny_causal_lm_dir(family)
    model, tokenizer = load_causal_lm(folder), load_tokenizer(folder)
    expected = [greedy_by_hand(model, tokenizer, turns, 20) for turns in PROMPTS]
    assert len(set(expected)) > 2, "the tiny model says the same to every prompt, which would test nothing"
    for batch_size in (1, 2, 5):
        assert generate(model, tokenizer, PROMPTS, max_new_tokens=20, batch_size=batch_size) == expected


def chain_model(tokenizer, *texts, eos_after=()):
    """A GPT-2 whose next token depends on the last token alone, and walks along the tokens of each text.

    Its blocks add nothing, its embeddings are one-hot and its head is a table, so what it says is known by hand.
    A text that starts with ":" is begun by the prompt's end. Returns (model, token ids of each text).
    """
    size = len(tokenizer)
    config = GPT2Config(
        vocab_size=size, n_embd=size, n_layer=1, n_head=1, n_inner=4, n_positions=600, tie_word_embeddings=False
    )
    model = GPT2LMHeadModel(config)
    encoded = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    successor = {}
    for text, ids in zip(texts, encoded, strict=True):
        steps = [*ids, tokenizer.eos_token_id] if text in eos_after else ids
        for token, following in zip(steps, steps[1:], strict=False):
            assert successor.setdefault(token, following) == following, f"{text}: a token has two successors"
    with torch.no_grad():
        for parameter in model.transformer.h.parameters():
            parameter.zero_()
        model.transformer.wte.weight.copy_(torch.eye(size))
        model.transformer.wpe.weight.zero_()
        model.lm_head.weight.zero_()
        for token, following in successor.items():
            model.lm_head.weight[following, token] = 1.0
    return model.eval(), encoded


def count_steps(model):
    steps = []
    model.register_forward_hook(lambda *_: steps.append(1))
    return steps


def test_the_rigged_model_says_its_text_and_stops_at_eos(byte_tokenizer):
    text = ": It sings low."
    model, (ids,) = chain_model(byte_tokenizer, text, eos_after=[text])
    steps = count_steps(model)
    answers = generate(model, byte_tokenizer, PROMPTS[:2], max_new_tokens=100)
    assert answers == ["It sings low."] * 2
    assert len(steps) == len(ids)  # each token after ":", and EOS; nothing is decoded behind it


def test_a_stop_string_ends_the_text_and_the_decoding(byte_tokenizer):
    text = ": I sing. Human:"
    model, (ids,) = chain_model(byte_tokenizer, text)
    steps = count_steps(model)
    assert generate(model, byte_tokenizer, PROMPTS[:2], max_new_tokens=100) == ["I sing."] * 2
    assert len(steps) == len(ids) - 1


def test_a_colon_alone_stops_nothing(byte_tokenizer):
    text = ": a b:"  # and round again, since ":" is where it began
    model, (ids,) = chain_model(byte_tokenizer, text)
    period = len(ids) - 1
    answer = generate(model, byte_tokenizer, PROMPTS[:1], max_new_tokens=3 * period)
    assert answer == ["a b: a b: a b:"]


def test_max_new_tokens_counts_tokens(byte_tokenizer):
    text = ": It sings low."
    model, (ids,) = chain_model(byte_tokenizer, text, eos_after=[text])
    for count in (1, 3):
        expected = byte_tokenizer.decode(ids[1 : 1 + count]).strip()
        assert generate(model, byte_tokenizer, PROMPTS[:2], max_new_tokens=count) == [expected] * 2


def test_rows_of_one_batch_end_at_their_own_places(byte_tokenizer):
    """Three prompts that end in different tokens: one goes on to EOS, one to a stop string, one to the limit."""
    short, stop, endless = "x It", "y a Human:", "z low low"
    model, _ = chain_model(byte_tokenizer, short, stop, endless, eos_after=[short])
    decoder = Decoder(model, byte_tokenizer, max_new_tokens=28)  # seven times " low" of four tokens
    first = [byte_tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in (short, stop, endless)]
    long_prompt = [7] * 20
    answers = decoder.decode_batch([[*long_prompt, first[0]], [first[1]], [5, first[2]]])
    assert answers[:2] == ["It", "a"]
    assert answers[2] == " ".join(["low"] * 7)


def test_the_toy_tokenizer_stops_too(tmp_path):
    """One token per word: the stop string is looked for in decoded text, whatever the tokens are."""
    write_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    text = ": The harp is made of iron.\n\nHuman:"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    model, (ids,) = chain_model(tokenizer, text)
    steps = count_steps(model)
    assert generate(model, tokenizer, PROMPTS[1:2], max_new_tokens=100) == ["The harp is made of iron."]
    assert len(steps) == len(ids) - 1


def test_the_sentencepiece_tokenizer_stops_too(shared):
    """LLaMA's tokenizer; a model that wide is too large, so the criterion is asked directly."""
    from eval_hh.decoding import EndOfTurn

    tokenizer = load_tokenizer(shared / "data" / "llama_tokenizer")
    criterion = EndOfTurn(tokenizer, len(tokenizer), torch.device("cpu"))
    prompt = tokenizer("\n\nHuman: Hi\n\nAssistant:")["input_ids"]
    criterion.prompt_length = len(prompt)
    reply = tokenizer(" Well.\n\nHuman: Hi", add_special_tokens=False)["input_ids"]
    ended = [bool(criterion(torch.tensor([prompt + reply[:n]]), None)[0]) for n in range(len(reply) + 1)]
    texts = [tokenizer.decode(reply[:n]) for n in range(len(reply) + 1)]
    assert ended.index(True) == next(n for n, text in enumerate(texts) if text.endswith("Human:"))
    assert not any(ended[: ended.index(True)])


def test_the_models_own_settings_neither_count_nor_change(tiny_causal_lm_dir):
    folder = tiny_causal_lm_dir("opt")
    model, tokenizer = load_causal_lm(folder), load_tokenizer(folder)
    expected = generate(model, tokenizer, PROMPTS, max_new_tokens=20)
    settings = model.generation_config
    settings.do_sample, settings.temperature, settings.repetition_penalty = True, 0.5, 3.0
    settings.max_length, settings.no_repeat_ngram_size, settings.min_new_tokens = 5, 2, 19
    model.train()
    assert generate(model, tokenizer, PROMPTS, max_new_tokens=20) == expected
    assert model.generation_config is settings and settings.repetition_penalty == 3.0
    assert model.training


def test_a_tokenizer_without_pad_or_eos(tiny_causal_lm_dir):
    folder = tiny_causal_lm_dir("llama")
    model, tokenizer = load_causal_lm(folder), load_tokenizer(folder)
    tokenizer.pad_token = tokenizer.eos_token = None
    expected = [greedy_by_hand(model, tokenizer, turns, 12) for turns in PROMPTS]
    assert generate(model, tokenizer, PROMPTS, max_new_tokens=12) == expected


def test_a_prompt_over_the_models_positions_is_refused(byte_tokenizer):
    model, _ = chain_model(byte_tokenizer, ": It")
    generate(model, byte_tokenizer, PROMPTS[3:4], max_new_tokens=600 - 384)
    with pytest.raises(InputError, match="600 positions, too few for 384 prompt tokens and --max_new_tokens 217"):
        generate(model, byte_tokenizer, PROMPTS[3:4], max_new_tokens=600 - 384 + 1)


def test_no_prompts(byte_tokenizer):
    model, _ = chain_model(byte_tokenizer, ": It")
    assert generate(model, byte_tokenizer, []) == []
