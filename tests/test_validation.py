"""The model that validation decodes with, and the one that saves weights in the background, against the folder's."""

import pytest
import torch
from model_families import FAMILIES, rankings

from eval_hh.inference.models import load_causal_lm
from tests.test_families import RIGHT, numbers
from training.collator import collate
from training.losses import response_logps
from training.saving.checkpoint_writer import without_weights
from training.validation import keeps_float32, live_model


def check(number, folder):
    FAMILIES[number].model().save_pretrained(folder / "base")
    model = load_causal_lm(folder / "base").train()
    trained = [p.requires_grad for p in model.parameters()]  # hrm_text has one that is not
    with torch.no_grad():
        response_logps(model, collate(rankings()))  # which sets the attention of training
    attention = model.config._attn_implementation
    model.save_pretrained(folder / "plain")
    without_weights(model).save_pretrained(folder / "background", state_dict=model.state_dict())
    for path in (folder / "plain").iterdir():
        assert (folder / "background" / path.name).read_bytes() == path.read_bytes(), path.name
    ids = torch.arange(3, 20).unsqueeze(0)
    for dtype in (torch.float32, torch.bfloat16):
        if dtype == torch.bfloat16 and keeps_float32(model):
            continue
        live, read = live_model(model, dtype), load_causal_lm(folder / "plain", dtype)
        ours, theirs = live.state_dict(), read.state_dict()
        assert ours.keys() == theirs.keys() and not live.training
        for name in theirs:
            assert ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]), name
        with torch.inference_mode():
            logits = [each(input_ids=ids, use_cache=False).logits for each in (live, read)]
        assert torch.equal(*logits), (dtype, (logits[0] - logits[1]).abs().max())
        shared = {p.data_ptr() for p in live.parameters()} & {p.data_ptr() for p in model.parameters()}
        assert len(shared) == (len(list(live.parameters())) if dtype == torch.float32 else 0)
    assert model.training and model.config._attn_implementation == attention
    assert [p.requires_grad for p in model.parameters()] == trained


@pytest.mark.parametrize("number", numbers("opt", "gpt2", "gpt_neox", "mixtral", "gemma3_text logit cap"))
def test_a_model_in_training_is_that_of_its_folder(number, tmp_path):
    check(number, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", RIGHT, ids=lambda number: str(FAMILIES[number]))
def test_a_model_of_any_family_is_that_of_its_folder(number, tmp_path):
    check(number, tmp_path)
