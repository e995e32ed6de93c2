import random

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, GPT2Config, GPT2LMHeadModel

from data_preprocess.command import InputError
from data_preprocess.dialogue import cut_at_stop, render_prompt
from data_preprocess.hub import load_tokenizer
from data_preprocess.toy_world.word_tokenizer import write_tokenizer
from eval_hh.inference import decoding, kv_slots, packed_weights
from eval_hh.inference.decoding import Decoder, generate, most_likely, plan_batches, plan_units, settings_with_ends
from eval_hh.inference.models import load_causal_lm, prompt_ids
from eval_hh.inference.prompt_format import EndOfTurn

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


def test_plan_units_holds_eight_batches_of_like_lengths():
    units = plan_units(list(range(40)), 2)
    assert [len(unit) for unit in units] == [16, 16, 8]
    assert units[0] == list(range(39, 23, -1))


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


@pytest.mark.parametrize("home", ["generation_config", "config"])
def test_every_eos_that_the_settings_name_ends_a_reply(home, byte_tokenizer):
    """As a list, as chat models have it: the reply ends before the first of them, which is not a part of it."""
    text = ": It sings low."
    model, (ids,) = chain_model(byte_tokenizer, text)
    getattr(model, home).eos_token_id = [byte_tokenizer.eos_token_id, ids[-2]]
    steps = count_steps(model)
    expected = byte_tokenizer.decode(ids[1:-2]).strip()
    assert generate(model, byte_tokenizer, PROMPTS[:2], max_new_tokens=100) == [expected] * 2
    assert len(steps) == len(ids) - 2
    model.generation_config.eos_token_id = "</s>"
    with pytest.raises(InputError, match="eos_token_id '</s>'"):
        generate(model, byte_tokenizer, PROMPTS[:1])


def test_a_model_that_sees_later_tokens_fails_the_check(byte_tokenizer):
    """An encoder: alone, a row's tokens see one another; with a cache they cannot."""
    from model_families import Family

    model = Family("bert", settings={"vocab_size": len(byte_tokenizer)}).model()
    with pytest.raises(InputError, match="a bert model cannot be decoded here: .*than alone"):
        Decoder(model, byte_tokenizer, 3).check()
    Decoder(Family("llama", settings={"vocab_size": len(byte_tokenizer)}).model(), byte_tokenizer, 3).check()


def test_a_window_that_is_none_of_the_models_fails_the_check(byte_tokenizer):
    """llama has no windows, whatever its configuration says; the check's rows are longer than that."""
    from model_families import Family

    model = Family("llama", settings={"vocab_size": len(byte_tokenizer), "sliding_window": 12}).model()
    with pytest.raises(InputError, match="a llama model cannot be decoded here: .*than alone"):
        Decoder(model, byte_tokenizer, 3).check()
    model = Family("mistral", settings={"vocab_size": len(byte_tokenizer), "sliding_window": 12}).model()
    Decoder(model, byte_tokenizer, 3).check()


@pytest.mark.parametrize("settings", [{"temperature": 0.7}, {"pad_token_id": -1}, {"top_k": 5, "do_sample": True}, {}])
def test_settings_with_other_ends_can_be_saved(settings, byte_tokenizer, tmp_path):
    """Such a configuration is loaded with a warning, and refused by save_pretrained once it is changed."""
    from model_families import Family

    model = Family("llama", settings={"vocab_size": len(byte_tokenizer)}).model()
    for name, value in {"bos_token_id": 7, **settings}.items():
        setattr(model.generation_config, name, value)
    model.generation_config = settings_with_ends(model, frozenset({5, 3}))
    model.save_pretrained(tmp_path)
    saved = GenerationConfig.from_pretrained(tmp_path)
    assert (saved.eos_token_id, saved.bos_token_id, saved.top_k) == ([3, 5], 7, settings.get("top_k"))


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
    answers = decoder.decode([[*long_prompt, first[0]], [first[1]], [5, first[2]]], batch_size=3)
    assert answers[:2] == ["It", "a"]
    assert answers[2] == " ".join(["low"] * 7)


def test_the_toy_tokenizer_stops_too(tmp_path):
    """One token per word: the stop string is looked for in decoded text, whatever the tokens are."""
    write_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    text = ": The harp is damaged by insects.\n\nHuman:"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    model, (ids,) = chain_model(tokenizer, text)
    steps = count_steps(model)
    assert generate(model, tokenizer, PROMPTS[1:2], max_new_tokens=100) == ["The harp is damaged by insects."]
    assert len(steps) == len(ids) - 1


def test_the_sentencepiece_tokenizer_stops_too(shared):
    """LLaMA's tokenizer; a model that wide is too large, so the criterion is asked directly."""
    tokenizer = load_tokenizer(shared / "data" / "llama_tokenizer")
    end_of_turn = EndOfTurn(tokenizer)
    reply = tokenizer(" Well.\n\nHuman: Hi", add_special_tokens=False)["input_ids"]
    ended = [end_of_turn(reply[:n]) for n in range(1, len(reply) + 1)]
    texts = [tokenizer.decode(reply[:n]) for n in range(1, len(reply) + 1)]
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


class EndsAt:
    """Greedy but for the rows' ends: EOS is the n-th token of a row, never an earlier one. Keeps the rows."""

    def __init__(self, eos, lengths):
        self.eos, self.lengths, self.rows, self.together = eos, lengths, {}, []

    def __call__(self, logits, rows):
        self.together.append(len(rows))
        self.rows.update((row.number, row) for row in rows)
        logits[:, self.eos] = -torch.inf
        tokens = most_likely(logits, rows)
        over = [len(row.response) + 1 == self.lengths[row.number] for row in rows]
        return torch.where(torch.tensor(over), self.eos, tokens)


def said_alone(model, prompt, length, eos):
    """`length` tokens of which the last is EOS, the whole sequence recomputed for each of them."""
    said = []
    while len(said) < length - 1:
        with torch.no_grad():
            logits = model(torch.tensor([prompt + said])).logits[0, -1]
        logits[eos] = -torch.inf
        said.append(int(logits.argmax()))
    return [*said, eos]


@pytest.mark.parametrize("family", ["opt", "gpt_neox", "llama", "gpt2", "qwen2"])
@pytest.mark.parametrize("slots", [1, 3, 8, 40])
def test_many_rows_through_few_slots_say_what_they_say_alone(slots, family, tiny_causal_lm_dir):
    """Lengths and ends are mixed, so that rows leave, move and are replaced everywhere; one prompt is BOS alone."""
    folder = tiny_causal_lm_dir(family)
    model, tokenizer = load_causal_lm(folder), load_tokenizer(folder)
    rng = random.Random(4)
    lengths = [1, 60, 60, 2, *(rng.randint(2, 50) for _ in range(20))]
    prompts = [[tokenizer.bos_token_id, *rng.choices(range(3, 400), k=length - 1)] for length in lengths]
    ends = EndsAt(tokenizer.eos_token_id, [rng.choice((1, 2, 5, 12)) for _ in prompts])
    texts = Decoder(model, tokenizer, 12).decode(prompts, slots, ends)
    for number, prompt in enumerate(prompts):
        expected = said_alone(model, prompt, ends.lengths[number], ends.eos)
        assert ends.rows[number].response == expected
        assert texts[number] == cut_at_stop(tokenizer.decode(expected[:-1], skip_special_tokens=True)).strip()
    assert max(ends.together) == min(slots, len(prompts))
    assert sum(ends.together) == sum(ends.lengths), "a row that has ended is computed on"


def test_a_free_slot_is_taken_while_the_others_go_on(tiny_causal_lm_dir):
    """Ten tokens for one row, one for each of nine: with two slots, ten steps are enough."""
    folder = tiny_causal_lm_dir("opt")
    decoder = Decoder(load_causal_lm(folder), load_tokenizer(folder), 10)
    ends = EndsAt(decoder.tokenizer.eos_token_id, [1] * 4 + [10] + [1] * 5)
    decoder.decode([[5, 6, 7]] * 4 + [[5, 6, 7, 8]] + [[5, 6]] * 5, 2, ends)
    assert ends.together == [2] * 9 + [1]


def test_new_rows_wait_for_an_eighth_of_the_slots(tiny_causal_lm_dir):
    """Of 16 slots one is free after the first step, which is too few, and two are after the second."""
    folder = tiny_causal_lm_dir("opt")
    decoder = Decoder(load_causal_lm(folder), load_tokenizer(folder), 6)
    ends = EndsAt(decoder.tokenizer.eos_token_id, [1, 2, *[4] * 14, 1, 1, 1])
    decoder.decode([[5, 6, 7]] * 19, 16, ends)
    assert ends.together == [16, 15, 16, 15]


def prompt_tokens(model):
    """Counts the tokens that are read as parts of prompts: those of passes over more than one column."""
    read = []
    model.base_model.register_forward_pre_hook(
        lambda _, args, given: read.append(given["input_ids"].numel()) if given["input_ids"].shape[1] > 1 else None,
        with_kwargs=True,
    )
    return read


@pytest.mark.parametrize("slots", [1, 2, 3, 5, 16, 40])
def test_samples_of_a_prompt_read_it_once(slots, tiny_causal_lm_dir):
    """Four rows for each of six prompts, with ends of their own: each says what it says alone, slots filled or not."""
    folder = tiny_causal_lm_dir("llama")
    model, tokenizer = load_causal_lm(folder), load_tokenizer(folder)
    rng = random.Random(slots)
    distinct = [rng.choices(range(3, 400), k=length) for length in (30, 30, 30, 12, 12, 1)]
    prompts = [prompt for prompt in distinct for _ in range(4)]
    lengths = [rng.choice((1, 2, 5, 9)) for _ in prompts]
    expected = [
        said_alone(model, prompt, n, tokenizer.eos_token_id) for prompt, n in zip(prompts, lengths, strict=True)
    ]
    ends, read = EndsAt(tokenizer.eos_token_id, lengths), prompt_tokens(model)
    Decoder(model, tokenizer, 9).decode(prompts, slots, ends)
    assert [ends.rows[number].response for number in range(24)] == expected
    if slots <= 3:  # otherwise the tokens of a prompt may be padded to another one's length
        assert sum(read) == sum(len(prompt) - 1 for prompt in distinct)
    assert sum(read) <= 6 * 29


def test_new_rows_are_read_in_passes_of_limited_size(tiny_causal_lm_dir, monkeypatch):
    folder = tiny_causal_lm_dir("opt")
    model, tokenizer = load_causal_lm(folder), load_tokenizer(folder)
    expected = generate(model, tokenizer, PROMPTS, max_new_tokens=8)
    monkeypatch.setattr(decoding, "PASS_TOKENS", 60)
    read = prompt_tokens(model)
    assert generate(model, tokenizer, PROMPTS, max_new_tokens=8) == expected
    lengths = sorted((len(Decoder(model, tokenizer, 8).encode(turns)) for turns in PROMPTS), reverse=True)
    assert read[0] == lengths[0] - 1 and len(read) > 1 and max(read[1:]) <= 60


@pytest.mark.parametrize(
    ("most", "memory", "rows", "processes", "expected"),
    [
        (16, 10**12, 10**6, 1, 16),  # a CPU
        (64, 10**12, 10**6, 1, 64),  # a GPU
        (64, 10**12, 10**6, 8, 64),
        (64, 10**12, 320, 1, 40),  # eight batches are left to refill from
        (64, 10**12, 320, 2, 20),
        (64, 10**12, 5, 1, 16),
        (64, 4 * 33, 10**6, 1, 33),  # in rows' keys and values: a quarter holds 33
        (16, 4 * 3, 10**6, 1, 3),
        (16, 1, 10**6, 1, 1),
    ],
)
def test_the_batch_size_where_none_is_given(most, memory, rows, processes, expected, tiny_causal_lm_dir, monkeypatch):
    """The tiny OPT has 2 layers whose keys and values are 2 * 16 float32 each."""
    folder = tiny_causal_lm_dir("opt")
    model = load_causal_lm(folder)
    decoder = Decoder(model, load_tokenizer(folder), 16)
    config = model.config
    row = config.num_hidden_layers * 2 * config.hidden_size * 4 * (384 + 16)
    monkeypatch.setattr(decoding, "whole_memory", lambda _: memory * row)
    if most == decoding.LARGE_BATCHES["cuda"]:
        monkeypatch.setitem(decoding.LARGE_BATCHES, "cpu", most)
    assert decoder.batch_size(rows, processes) == expected


@pytest.mark.parametrize("family", ["opt", "gpt_neox", "llama", "gpt2", "qwen2"])
@pytest.mark.parametrize("dtype, slack", [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_packed_weights_give_the_models_logits(family, dtype, slack, tiny_causal_lm_dir, monkeypatch):
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN packs no bfloat16 weights on this CPU")
    model = load_causal_lm(tiny_causal_lm_dir(family), dtype)
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    with torch.inference_mode():
        plain = model(ids).logits
        packed = packed_weights.PackedLinears(model)
        with packed:
            assert any("forward" in module.__dict__ for module in model.modules())
            found = model(ids).logits
        again = model(ids).logits
    assert (found - plain).norm() <= slack * plain.norm()
    assert torch.equal(again, plain) and not any("forward" in module.__dict__ for module in model.modules())
    monkeypatch.setattr(packed_weights, "whole_memory", lambda _: 1000)
    with packed_weights.PackedLinears(model):
        assert not any("forward" in module.__dict__ for module in model.modules())


def test_weights_that_a_cpu_cannot_pack_stay_as_they_are(tiny_causal_lm_dir, monkeypatch):
    model = load_causal_lm(tiny_causal_lm_dir("opt"), torch.bfloat16)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    with packed_weights.PackedLinears(model):
        assert not any("forward" in module.__dict__ for module in model.modules())


@pytest.mark.parametrize("family", ["opt", "gpt_neox", "llama", "gpt2", "qwen2"])
def test_half_precision_is_as_near_to_float32_as_each_row_alone(family, tiny_causal_lm_dir):
    """A column too many or too few, or a position by one, changes logits by their own size."""
    folder = tiny_causal_lm_dir(family)
    model, tokenizer = load_causal_lm(folder, torch.bfloat16), load_tokenizer(folder)
    exact = load_causal_lm(folder, torch.bfloat16).float()  # the same weights
    decoder, errors = Decoder(model, tokenizer, 8), []

    def compare(logits, rows):
        for row, own in zip(rows, logits.float(), strict=True):
            ids = torch.tensor([row.prompt + row.response])
            alone, right = (each(ids, use_cache=False).logits[0, -1].float() for each in (model, exact))
            errors.append([float((found - right).norm() / right.norm()) for found in (own, alone)])
        return most_likely(logits, rows)

    decoder.decode([decoder.encode(turns) for turns in PROMPTS * 2], 4, compare)
    ours, alone = torch.tensor(errors).T
    assert len(errors) > 20 and ours.max() < 0.05 and ours.mean() < 1.2 * alone.mean()


def test_slots_of_half_precision_hold_float32_on_a_cpu(tiny_causal_lm_dir):
    """Each token's attention is sdpa's of the same keys and values in float32; eager attention stays as it is."""
    folder = tiny_causal_lm_dir("llama")
    model, tokenizer = load_causal_lm(folder, torch.bfloat16), load_tokenizer(folder)
    plain = model(torch.tensor([[5, 6, 7, 8]])).logits
    decoder = Decoder(model, tokenizer, 4)
    cache = decoder.new_cache(2, 8)
    decoder._begin([decoding.Row(0, [5, 6, 7, 8]), decoding.Row(1, [9, 10])], cache, 0)
    assert cache.layers[0].keys.dtype == cache.layers[0].values.dtype == torch.float32
    assert torch.equal(model(torch.tensor([[5, 6, 7, 8]])).logits, plain)  # a pass without slots is sdpa's own
    query, key, value = (torch.randn(2, 2, length, 8) for length in (1, 5, 5))
    states = query.bfloat16(), key, value
    found, _ = kv_slots.attention(model.model.layers[0].self_attn, *states, None)
    expected = torch.nn.functional.scaled_dot_product_attention(states[0].float(), key, value).transpose(1, 2)
    assert torch.equal(found, expected.bfloat16())
    assert Decoder(model, tokenizer, 4).new_cache(1, 1).dtype == torch.float32  # and so for the next decoder
    model.set_attn_implementation("eager")
    assert Decoder(model, tokenizer, 4).new_cache(1, 1).dtype == torch.bfloat16
    assert Decoder(load_causal_lm(folder), tokenizer, 4).new_cache(1, 1).dtype == torch.float32


def of_kind(kind, **settings):
    """A model without weights."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, num_hidden_layers=2, **settings))


DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}


@pytest.mark.parametrize(
    ("kind", "settings", "why"),
    [
        ("mamba", {}, "LinearAttentionLayer"),  # a recurrent state
        ("bloom", {}, "no position ids"),  # a token's place is its column
        ("falcon", {"alibi": True}, "no position ids"),
        ("llama", {"rope_parameters": DYNAMIC, "max_position_embeddings": 511}, "RoPE.*511 tokens"),
    ],
)
def test_a_model_that_slots_do_not_serve_is_refused(kind, settings, why, byte_tokenizer):
    with pytest.raises(InputError, match=f"a {kind} model cannot be decoded here .*{why}.*512 tokens"):
        Decoder(of_kind(kind, **settings), byte_tokenizer, max_new_tokens=128)


def test_a_window_that_holds_every_row_is_no_hindrance(byte_tokenizer):
    """And where a window is shorter, each type of layer has its own."""
    longest = Decoder(of_kind("mistral", sliding_window=512), byte_tokenizer, max_new_tokens=128).layers
    assert (longest.count, set(longest.windows.values())) == (2, {None})
    types = ["sliding_attention", "full_attention"]
    mixed = Decoder(of_kind("olmo3", sliding_window=511, layer_types=types), byte_tokenizer, max_new_tokens=128).layers
    assert mixed.windows == {"sliding_attention": 511, "full_attention": None}
