"""Models with the shapes of published ones and random weights, and tokenizers for the text of hh_like.

The cost of a step does not depend on the weights, so none are downloaded. The tokenizers are OPT's and LLaMA's own if
../shared exists, else similar ones trained here on hh_like's text.
"""

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from benchmarks import hh_like
from data_preprocess.hub import load_tokenizer
from data_preprocess.ngrams.piecewise_bpe import BYTE_TOKENS, MARK, PIECE

if TYPE_CHECKING:
    import torch
    from transformers import OPTForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

    from benchmarks.flops import Shape
    from eval_hh.reward_model import RewardModel

OPT_FOLDER = hh_like.SHARED / "golden" / "tiny_opt"
LLAMA_FOLDER = hh_like.SHARED / "data" / "llama_tokenizer"
# OPT's, in the order of OPT's ids: </s> is 2 and serves as BOS, EOS and unknown.
OPT_SPECIAL_TOKENS = ["<s>", "<pad>", "</s>"]
LLAMA_SPECIAL_TOKENS = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
BPE_SIZE = 8000  # about as many as made-up words can fill
TRAINING_TEXTS = 2000


@cache
def tokenizer() -> "PreTrainedTokenizerBase":
    """Returns OPT's tokenizer, or a byte-level BPE with the same special tokens. All ids are below 50272."""
    if OPT_FOLDER.is_dir():
        return load_tokenizer(OPT_FOLDER)
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=BPE_SIZE, special_tokens=OPT_SPECIAL_TOKENS, initial_alphabet=alphabet, show_progress=False
    )
    texts = hh_like.rendered(hh_like.prompts(TRAINING_TEXTS)) + hh_like.replies(TRAINING_TEXTS)
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="</s>", eos_token="</s>", unk_token="</s>", pad_token="<pad>"
    )


@cache
def llama_tokenizer() -> "PreTrainedTokenizerBase":
    """Returns LLaMA's tokenizer, or a similar one. All ids are below 32000."""
    if LLAMA_FOLDER.is_dir():
        return load_tokenizer(LLAMA_FOLDER)
    return trained_like_llama(hh_like.rendered(hh_like.corpus()[0]), BPE_SIZE)


def trained_like_llama(texts: Iterable[str], size: int) -> "PreTrainedTokenizerBase":
    """Trains a BPE of `size` tokens like LLaMA's: byte fallback, marked blanks, no pre-tokenizer."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    learning = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    learning.normalizer = normalizers.Sequence([normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)])
    learning.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE.pattern), "isolated")
    reserved = [*LLAMA_SPECIAL_TOKENS.values(), *sorted(BYTE_TOKENS)]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=reserved, show_progress=False)
    learning.train_from_iterator(texts, trainer)
    learnt = Tokenizer(learning.model)  # byte tokens must not be matched in a text as special tokens
    learnt.normalizer = learning.normalizer
    return PreTrainedTokenizerFast(tokenizer_object=learnt, **LLAMA_SPECIAL_TOKENS)


def opt_125m(layers: int = 12, width: int = 768, positions: int = 2048) -> "OPTForCausalLM":
    """Returns a random OPT of the shape of facebook/opt-125m: evaluation mode, float32, sdpa, no dropout.

    Args:
        layers: 12 in OPT-125M; fewer for quick runs.
        width: hidden size, a multiple of 12; the feed-forward layers are four times as wide.
        positions: the longest text, in tokens.
    """
    import torch
    from transformers import OPTConfig, OPTForCausalLM

    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=50272, hidden_size=width, word_embed_proj_dim=width, ffn_dim=4 * width, num_hidden_layers=layers,
        num_attention_heads=12, dropout=0.0, max_position_embeddings=positions, attn_implementation="sdpa",
    )  # fmt: skip
    return OPTForCausalLM(config).eval()


def causal_lm(
    shape: "Shape", where: "torch.device", dtype: "torch.dtype", layers: int | None = None
) -> "PreTrainedModel":
    """Returns a random OPT or LLaMA of a shape, made on `where`: evaluation mode, sdpa, no dropout.

    Args:
        shape: one of benchmarks.flops; gated for LLaMA.
        where: the device.
        dtype: of the weights.
        layers: fewer than the shape's, for quick runs.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from eval_hh.inference.models import without_plans

    without_plans()  # as load_causal_lm does
    sizes = {"vocab_size": shape.vocabulary, "hidden_size": shape.width, "num_hidden_layers": layers or shape.layers}
    if shape.gated:
        more = {"intermediate_size": shape.inner, "num_attention_heads": shape.width // 128}
    else:
        more = {"ffn_dim": shape.inner, "word_embed_proj_dim": shape.width, "dropout": 0.0}
        more["num_attention_heads"] = shape.width // 64
    config = AutoConfig.for_model("llama" if shape.gated else "opt", **sizes, **more)
    torch.manual_seed(0)
    with where:
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa").eval()


def reward_model(layers: int = 12, width: int = 768, heads: int = 12) -> "RewardModel":
    """Returns a random GPT-NeoX of the shape of EleutherAI/pythia-160m with OpenAssistant's head, ready to score.

    It reads text by `tokenizer`, whose ids fit its vocabulary; layers and width as in `opt_125m`.
    """
    import torch
    from transformers import GPTNeoXConfig

    from eval_hh.inference.models import without_plans
    from eval_hh.reward_model import GPTNeoXReward, as_reward_model

    without_plans()  # as load_reward_model does
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=50304, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=heads, max_position_embeddings=2048, pooling="last", attn_implementation="sdpa",
    )  # fmt: skip
    return as_reward_model(GPTNeoXReward(config), tokenizer(), "the stand-in reward model")
