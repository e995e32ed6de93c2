"""Every family of tests/model_families.py is computed rightly or refused, and training/README.md says which."""

import re
from dataclasses import replace

import pytest
import torch
from model_families import FAMILIES, outcome, plain_sums, rankings, table

from data_preprocess.command import InputError
from eval_hh.inference import varlen_attention
from eval_hh.inference.decoding import Decoder
from training.collator import collate
from training.losses import response_logps
from training.model_check import check_model

README = "training/README.md"
RIGHT = [number for number, family in enumerate(FAMILIES) if not family.refused]


def numbers(*names):
    """FAMILIES' numbers by name."""
    return [pytest.param(n, id=str(family)) for n, family in enumerate(FAMILIES) if str(family) in names]


@pytest.mark.parametrize("number", range(len(FAMILIES)), ids=lambda number: str(FAMILIES[number]))
def test_a_family_is_right_or_refused(number):
    expected = FAMILIES[number].refused
    found = outcome(number)
    assert found == "right" if not expected else found.startswith("refused: ") and expected in found


def test_there_are_enough_families():
    assert len({str(family) for family in FAMILIES}) == len(FAMILIES) >= 80


def test_the_readme_has_the_table():
    from pathlib import Path

    text = (Path(__file__).resolve().parents[1] / README).read_text(encoding="utf-8")
    between = re.search(r"<!-- families -->\n(.*)\n<!-- /families -->", text, re.DOTALL)
    assert between and between[1].splitlines() == list(table()), "run python tests/model_families.py"


GRADIENTS = (
    "opt", "granite logit scale", "gemma3_text logit cap", "mistral window", "olmo3 window in some layers", "mixtral",
    "cohere2 window in some layers", "llama4_text chunks in some layers", "phi3 window", "deepseek_v3",
)  # fmt: skip


@pytest.mark.parametrize("number", numbers(*GRADIENTS))
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_those_of_separate_passes(number, checkpointing):
    """In training mode, with and without activations recomputed in the backward pass."""
    gradients = []
    for sums in (lambda model: response_logps(model, collate(rankings()))[0], plain_sums):
        model = FAMILIES[number].model().train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        weights = torch.arange(1.0, 7.0).view(2, 3)
        (sums(model) * weights).sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    ours, separate = gradients
    assert ours.keys() == separate.keys()
    for name, gradient in separate.items():
        assert (ours[name] - gradient).abs().max() <= 2e-3 * gradient.abs().max().clamp(min=0.1), name


def one_by_one(query, key, value, of, scaling):
    """What the kernel of varlen_attention computes on a GPU: each sequence alone, its last query at its last key."""
    parts = []
    for n in range(len(of.query_ends) - 1):
        rows, seen = (slice(int(ends[n]), int(ends[n + 1])) for ends in (of.query_ends, of.key_ends))
        q, k, v = query[rows].transpose(0, 1), key[seen].transpose(0, 1), value[seen].transpose(0, 1)
        assert q.shape[1] <= of.longest_query and k.shape[1] <= of.longest_key
        mask = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril(k.shape[1] - q.shape[1])
        parts.append(torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling))
    return torch.cat(parts, dim=1).transpose(0, 1)


@pytest.mark.parametrize("number", numbers("opt", "qwen2", "llama one key-value head", "granite logit scale"))
def test_attention_in_one_call_is_that_of_separate_passes(number, monkeypatch):
    """The GPU's path, with its kernel written out."""
    calls = []
    monkeypatch.setattr("eval_hh.inference.shared_prompt.usable", lambda query, value, dropout: True)
    monkeypatch.setattr(varlen_attention, "_kernel", lambda *given: calls.append(1) or one_by_one(*given))
    found = []
    for sums in (lambda model: response_logps(model, collate(rankings()))[0], plain_sums):
        model = FAMILIES[number].model()
        logps = sums(model)
        (logps * torch.arange(1.0, 7.0).view(2, 3)).sum().backward()
        found.append([logps, *(p.grad for p in model.parameters() if p.grad is not None)])
    assert calls
    for ours, separate in zip(*found, strict=True):
        assert (ours - separate).abs().max() <= 2e-3 * separate.abs().max().clamp(min=0.1)


def test_a_kernel_is_used_only_if_it_is_right(monkeypatch):
    """A kernel that aligns the first query with the first key, as sdpa does, would let responses see other tokens."""
    probe = varlen_attention._kernel_is_right.__wrapped__
    monkeypatch.setattr(varlen_attention, "_kernel", one_by_one)
    assert probe(torch.device("cpu"), torch.bfloat16, 16)

    def from_the_start(query, key, value, of, scaling):
        return one_by_one(query, key, value, replace(of, key_ends=of.query_ends), scaling)

    def absent(*given):
        raise ImportError("no varlen_attn")

    for wrong in (from_the_start, absent):
        monkeypatch.setattr(varlen_attention, "_kernel", wrong)
        assert not probe(torch.device("cpu"), torch.bfloat16, 16)


@pytest.mark.parametrize("number", RIGHT, ids=lambda number: str(FAMILIES[number]))
def test_what_is_trained_is_decoded_rightly_or_refused(number, byte_tokenizer):
    """Rows of unequal lengths, side by side and longer than the windows, against a plain pass for each token."""
    model = FAMILIES[number].model()
    try:
        decoder = Decoder(model, _small(byte_tokenizer), max_new_tokens=3)
    except InputError as error:
        assert "cannot be decoded here" in str(error)
        return
    decoder.check()
    generator = torch.Generator().manual_seed(2)
    prompts = [torch.randint(3, 259, (length,), generator=generator).tolist() for length in (19, 1, 11)]
    errors = []

    def compare(logits, rows):
        for row, own in zip(rows, logits, strict=True):
            alone = model(torch.tensor([row.prompt + row.response]), use_cache=False).logits[0, -1]
            errors.append((own - alone).abs().max().item())
        return logits.argmax(dim=-1)

    decoder.decode(prompts, 2, compare)
    assert max(errors) < 1e-3


def _small(tokenizer):
    """A tokenizer whose ids the tiny models' embeddings hold: only what Decoder asks for."""

    class Small:
        eos_token_id = bos_token_id = None
        all_special_ids, added_tokens_decoder = [], {}

        def get_vocab(self):
            return {}

        def decode(self, ids, **options):
            return tokenizer.decode(ids, **options)

    return Small()


@pytest.mark.parametrize("number", numbers("opt", "granite logit scale", "gemma3_text window in some layers"))
def test_the_check_leaves_the_model_as_it_was(number):
    model = FAMILIES[number].model().train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.lm_head.eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    check_model(model, 64)
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in model.modules()] == modes and model.is_gradient_checkpointing
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("number", numbers("opt", "mixtral", "gemma3_text logit cap"))
def test_half_precision_is_checked_in_float32_and_stays_half(number):
    model = FAMILIES[number].model().bfloat16()
    pointers = [parameter.data_ptr() for parameter in model.parameters()]
    check_model(model, 64)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert [parameter.data_ptr() for parameter in model.parameters()] == pointers


@pytest.mark.parametrize("number", RIGHT[::6], ids=lambda number: str(FAMILIES[number]))
def test_half_precision_without_room_for_float32(number, monkeypatch):
    """What is right stays right to the error of half precision."""
    monkeypatch.setattr("training.model_check.free_memory", lambda device: 0)
    check_model(FAMILIES[number].model().bfloat16(), 64)


def test_half_precision_without_room_still_refuses(monkeypatch):
    monkeypatch.setattr("training.model_check.free_memory", lambda device: 0)
    number = numbers("roberta as a decoder")[0].values[0]
    with pytest.raises(InputError, match="RobertaForCausalLM cannot be trained.*differ from those of plain passes"):
        check_model(FAMILIES[number].model().bfloat16(), 64)


@pytest.mark.parametrize("longest", [2, 5, 12, 13, 64])
def test_a_model_is_checked_up_to_its_last_position(longest):
    """Learned positions: one more would be out of the table."""
    from model_families import Family

    for kind in ("gpt2", "opt"):
        check_model(Family(kind, settings={"max_position_embeddings": longest}).model(), longest)


def test_a_longer_text_is_checked_anew():
    """RoPE that changes at 512 tokens: texts of 512 pass, and one of 513 does not, whatever was asked before."""
    number = numbers("phi3 longrope, texts within its original length")[0].values[0]
    model = FAMILIES[number].model()
    check_model(model, 64)
    check_model(model, 512)
    with pytest.raises(InputError, match="beyond 512 tokens"):
        check_model(model, 513)


def test_a_row_of_too_many_columns_is_refused():
    """Llama 4 scales attention by a token's column from floor_scale on, whatever its position id."""
    number = numbers("llama4_text")[0].values[0]
    model = FAMILIES[number].model()
    batch = collate(rankings())
    response_logps(model, batch)
    model = FAMILIES[number].model()
    model.config.attn_temperature_tuning, model.config.floor_scale = True, batch["input_ids"].numel()
    with pytest.raises(InputError, match="packed row of 71 tokens .at most 70"):
        response_logps(model, batch)


def test_a_cap_that_small_logits_do_not_show_is_seen():
    """A cap of 1e4 changes logits near 1 by less than float32 holds: the head alone would seem to be equal."""
    from model_families import Family

    model = Family("gemma3_text", settings={"final_logit_softcapping": 1e4, "head_dim": 8}).model()
    assert not check_model(model, 32).head_alone
    assert check_model(Family("gemma3_text", settings={"head_dim": 8}).model(), 32).head_alone


def test_own_logits_in_chunks_change_nothing():
    number = numbers("gemma3_text logit cap")[0].values[0]
    model, batch = FAMILIES[number].model(), collate(rankings())
    whole = response_logps(model, batch)[0]
    chunks = response_logps(model, batch, max_logits=1000)[0]
    torch.testing.assert_close(chunks, whole)
