"""Tiny models of the families that transformers knows as causal language models, for tests/test_families.py.

`training/README.md` has the table that is made of them: python tests/model_families.py prints it anew.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from data_preprocess.command import InputError
from eval_hh.inference.models import empty_causal_lm
from training.collator import EncodedRanking, collate
from training.losses import response_logps

SIZES = {
    "vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 1024, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
    "dropout": 0.0,
}  # fmt: skip
MOE = {
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "moe_shared_expert_intermediate_size": 16,
    "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
}  # fmt: skip
MLA = {"num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
       "v_head_dim": 8, "head_dim": 8}  # fmt: skip
MAMBA = {"mamba_d_ssm": 32, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
LINEAR = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
MIXED = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
ROPE = {"rope_theta": 1e4, "factor": 2.0}
LONGROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4}

# What a refusal says.
STATE = "carry more than keys and values"
ENCODER = "see later ones"
COLUMN = "takes no position_ids"
NO_SDPA = "no sdpa attention"
OWN_ATTENTION = "do not take their attention from"
NO_KEYWORDS = "hand no keyword arguments on"
DIFFERS = "differ from those of plain passes"
LENGTH = "RoPE depends on a text's length"


@dataclass(frozen=True)
class Family:
    """One tiny configuration, and whether it can be trained."""

    kind: str  # transformers' model_type
    variant: str = ""  # what is special of it
    settings: dict[str, Any] = field(default_factory=dict)
    refused: str = ""  # a part of the reason; "" for what is computed rightly

    def __str__(self) -> str:
        return f"{self.kind} {self.variant}".strip()

    def model(self) -> PreTrainedModel:
        """Random weights, large enough that every part of the model matters. InputError where there can be none."""
        config = AutoConfig.for_model(self.kind, **{**SIZES, **self.settings})
        with tempfile.TemporaryDirectory() as folder:
            config.save_pretrained(folder)
            empty_causal_lm(folder)
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=0.2)
        return model


def _right(*kinds: str, **settings: Any) -> list[Family]:
    return [Family(kind, settings=settings) for kind in kinds]


FAMILIES = [
    *_right("opt", "gpt2", "gpt_neox", "gpt_bigcode", "biogpt", "ctrl", "llama", "mistral", "qwen2", "qwen3", "gemma",
            "phi", "phi3", "persimmon", "olmo", "olmo2", "olmo3", "starcoder2", "smollm3", "granite", "cohere",
            "cohere2", "glm", "glm4", "apertus", "arcee", "bitnet", "diffllama", "ernie4_5", "exaone4", "hyperclovax",
            "jais2", "nanochat", "seed_oss", "modernbert-decoder", "ministral3", "cwm", "hrm_text", "llama4_text"),
    *_right("gemma3_text", "helium", "ministral", "hunyuan_v1_dense", "mixtral", "granitemoe", "granitemoeshared",
            "phimoe", "olmoe", "flex_olmo", "qwen2_moe", "qwen3_moe", "glm4_moe", "minimax_m2", "jetmoe", "afmoe",
            "ernie4_5_moe", "exaone_moe", "cohere2_moe", **MOE, head_dim=8),
    *_right("deepseek_v2", "deepseek_v3", "minicpm3", "glm4_moe_lite", "youtu", **MOE, **MLA),
    Family("llama", "tied embeddings", {"tie_word_embeddings": True}),
    Family("llama", "biases", {"attention_bias": True, "mlp_bias": True}),
    Family("llama", "one key-value head", {"num_key_value_heads": 1}),
    *(
        Family("llama", f"RoPE: {kind}", {"rope_parameters": {**ROPE, "rope_type": kind, **more}})
        for kind, more in (
            ("linear", {}), ("yarn", {}), ("dynamic", {}),
            ("llama3", {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}),
        )
    ),
    Family("phi3", "longrope, texts within its original length",
           {"rope_parameters": LONGROPE, "original_max_position_embeddings": 512}),
    Family("opt", "projected embeddings", {"word_embed_proj_dim": 16}),
    Family("bert", "as a decoder", {"is_decoder": True}),
    # Scales and caps behind the output embeddings, and elsewhere.
    Family("granite", "logit scale", {"logits_scaling": 8.0, "attention_multiplier": 0.3, "residual_multiplier": 0.5}),
    Family("granitemoe", "logit scale, router logits", {"logits_scaling": 8.0, "output_router_logits": True}),
    Family("mixtral", "router logits", {"output_router_logits": True}),
    Family("cohere", "logit scale", {"logit_scale": 0.5}),
    Family("gemma3_text", "logit cap", {"final_logit_softcapping": 2.0, "head_dim": 8}),
    # Windows and chunks shorter than a text.
    *(
        Family(kind, "window", {"sliding_window": 8, **more})
        for kind, more in (
            ("mistral", {}), ("mixtral", MOE), ("phi3", {}), ("phimoe", {}), ("starcoder2", {}), ("ministral3", {}),
            ("qwen2", {"use_sliding_window": True, "max_window_layers": 0}),
        )
    ),
    *(
        Family(kind, "window in some layers", {**MIXED, "use_sliding_window": True, "max_window_layers": 1, **more})
        for kind, more in (
            ("qwen2", {}), ("qwen3", {"head_dim": 8}), ("gemma3_text", {"head_dim": 8}), ("olmo3", {}), ("cohere2", {}),
            ("exaone4", {}), ("smollm3", {}), ("ministral", {"head_dim": 8}), ("modernbert-decoder", {}), ("cwm", {}),
        )
    ),
    Family("llama4_text", "chunks in some layers", {"attention_chunk_size": 8, "head_dim": 8,
           "layer_types": ["chunked_attention", "full_attention"]}),
    # Refused.
    *(
        Family(kind, variant, settings, STATE)
        for kind, variant, settings in (
            ("falcon_h1", "", {**MAMBA, "mamba_n_heads": 4}), ("bamba", "", {**MAMBA, "attn_layer_indices": [1]}),
            ("jamba", "", MOE), ("recurrent_gemma", "", {}), ("minimax", "", MOE), ("olmo_hybrid", "", {}),
            ("granitemoehybrid", "", {**MAMBA, **MOE, "layer_types": ["mamba", "attention"]}),
            ("lfm2", "", {"layer_types": ["conv", "full_attention"]}), ("axk2", "", {**MOE, **MLA}),
            ("qwen3_next", "", {**MOE, **LINEAR, "head_dim": 8, "layer_types": ["linear_attention", "full_attention"]}),
        )
    ),
    *(Family(kind, "as an encoder", {}, ENCODER) for kind in ("bert", "roberta", "electra", "ernie", "camembert")),
    *(Family(kind, "", {}, COLUMN) for kind in ("bart", "mbart", "pegasus", "blenderbot-small")),
    *(
        Family(kind, "", more, NO_SDPA)
        for kind, more in (
            ("gemma2", {}), ("gpt_oss", MOE), ("gptj", {"rotary_dim": 8}), ("codegen", {"rotary_dim": 8}),
            ("bloom", {}), ("mpt", {}), ("mamba", {}), ("rwkv", {}), ("xglm", {}), ("vaultgemma", {}),
            ("openai-gpt", {}),
        )
    ),
    Family("falcon", "", {"num_key_value_heads": 4}, OWN_ATTENTION),
    Family("stablelm", "", {}, NO_KEYWORDS),
    Family("nemotron", "", {}, NO_KEYWORDS),
    Family("roberta", "as a decoder", {"is_decoder": True}, DIFFERS),
    Family("llama4_text", "attention scaled by column", {"floor_scale": 4, "attn_temperature_tuning": True,
           "no_rope_layers": [0, 1], "head_dim": 8}, DIFFERS),
    Family("phi3", "longrope, longer texts",
           {"rope_parameters": LONGROPE, "original_max_position_embeddings": 8}, LENGTH),
    Family("llama", "RoPE: dynamic, longer texts",
           {"rope_parameters": {**ROPE, "rope_type": "dynamic"}, "max_position_embeddings": 8}, LENGTH),
    Family("doge", "", {"num_key_value_heads": 4}, "fails on a packed row"),
    Family("xmod", "", {}, "fails on a plain text"),
]  # fmt: skip


def rankings() -> list[EncodedRanking]:
    """Two rankings of three responses, of unequal lengths, prompts and some responses longer than the windows above."""
    generator = torch.Generator().manual_seed(1)

    def ids(count: int) -> list[int]:
        return torch.randint(3, 259, (count,), generator=generator).tolist()

    return [
        EncodedRanking(ids(n_prompt), [ids(n) for n in lengths], list(lengths), [1.0, 0.5, -1.0], 0)
        for n_prompt, *lengths in ((21, 12, 3, 9), (5, 14, 1, 6))
    ]


def plain_sums(model: PreTrainedModel) -> torch.Tensor:
    """[2, 3] summed log-probabilities of the responses, each in a pass of its own behind its prompt."""
    sums = []
    for ranking in rankings():
        for response in ranking.segments:
            ids = torch.tensor([ranking.prompt + response], device=model.device)
            logps = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
            steps = range(len(ranking.prompt), ids.shape[1])
            sums.append(sum(logps[step - 1, ids[0, step]] for step in steps))
    return torch.stack(sums).view(2, 3)


@cache
def outcome(number: int) -> str:
    """What becomes of FAMILIES[number]: "right", "wrong by ...", or "refused: ..."."""
    try:
        model = FAMILIES[number].model()
        with torch.no_grad():
            ours, _ = response_logps(model, collate(rankings()))
    except InputError as error:
        reason = str(error).rpartition("shared prompts: ")[2].rpartition("cannot be loaded (")[2].rstrip(")")
        return f"refused: {reason.partition(' (')[0]}"
    with torch.no_grad():
        error = (ours - plain_sums(model)).abs().max().item()
    return "right" if error < 1e-3 else f"wrong by {error:.3g}"


def table() -> Iterator[str]:
    """The lines of the table in training/README.md."""
    yield "| families (`model_type`) | with | outcome |"
    yield "|---|---|---|"
    rows: dict[tuple[str, str], list[str]] = {}
    for number, family in enumerate(FAMILIES):
        rows.setdefault((family.variant, outcome(number)), []).append(family.kind)
    for (variant, result), kinds in rows.items():
        yield f"| {', '.join(kinds)} | {variant} | {result} |"


if __name__ == "__main__":
    print("\n".join(table()))
