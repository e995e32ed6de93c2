"""Models in the shapes of published ones, with random weights, and a tokenizer for the text of hh_like.

Library of the benchmarks. What a step costs does not depend on the weights, so none are fetched. The tokenizer is
OPT's own where ../shared is present, else a byte-level BPE of its kind, trained here on hh_like's text.
"""

from functools import cache
from typing import TYPE_CHECKING

from benchmarks import hh_like

if TYPE_CHECKING:
    from transformers import OPTForCausalLM, PreTrainedTokenizerBase

    from eval_hh.reward_model import RewardModel

OPT_FOLDER = hh_like.SHARED / "golden" / "tiny_opt"
# OPT's own, in the order that gives it OPT's ids: </s> is 2, and BOS, EOS and unknown at once.
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>"]
BPE_SIZE = 8000  # about what words that are made up can fill
TRAINING_TEXTS = 2000


@cache
def tokenizer() -> "PreTrainedTokenizerBase":
    """OPT's tokenizer, or one trained on hh_like's text with the same special tokens. No id is 50272 or more."""
    if OPT_FOLDER.is_dir():
        from data_preprocess.hub import load_tokenizer

        return load_tokenizer(OPT_FOLDER)
    return _trained()


def _trained() -> "PreTrainedTokenizerBase":
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=BPE_SIZE, special_tokens=SPECIAL_TOKENS, initial_alphabet=alphabet, show_progress=False
    )
    texts = hh_like.rendered(hh_like.prompts(TRAINING_TEXTS)) + hh_like.replies(TRAINING_TEXTS)
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="</s>", eos_token="</s>", unk_token="</s>", pad_token="<pad>"
    )


def opt_125m(layers: int = 12, width: int = 768, seed: int = 0) -> "OPTForCausalLM":
    """A random OPT of the shape of facebook/opt-125m in evaluation mode, float32, under sdpa, without dropout.

    Args:
        layers: 12 in OPT-125M; fewer for a quick look.
        width: of the hidden states, a multiple of 12; the inner layers are four times as wide.
        seed: of the weights.
    """
    import torch
    from transformers import OPTConfig, OPTForCausalLM

    torch.manual_seed(seed)
    config = OPTConfig(
        vocab_size=50272,
        hidden_size=width,
        word_embed_proj_dim=width,
        ffn_dim=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=12,
        dropout=0.0,
        attn_implementation="sdpa",
    )
    return OPTForCausalLM(config).eval()


def reward_model(layers: int = 12, width: int = 768, seed: int = 0) -> "RewardModel":
    """A random GPT-NeoX of the shape of EleutherAI/pythia-160m under OpenAssistant's reward head, ready to score.

    It reads text by this module's tokenizer, whose ids its vocabulary holds.

    Args:
        layers: 12 in pythia-160m.
        width: of the hidden states, a multiple of 12; the inner layers are four times as wide.
        seed: of the weights.
    """
    import torch
    from transformers import GPTNeoXConfig

    from eval_hh.reward_model import GPTNeoXReward, as_reward_model

    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=50304,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=12,
        max_position_embeddings=2048,
        pooling="last",
        attn_implementation="sdpa",
    )
    return as_reward_model(GPTNeoXReward(config), tokenizer(), "the stand-in reward model")
