"""The embedded world's tokenizer: one token per word, including the space before it, so decoding is concatenation.

Text is split before every space and around punctuation and line breaks: "\\n\\nHuman: What is" becomes "\\n\\n",
"Human", ":", " What", " is". A word outside the vocabulary is one unknown token.
"""

import re
from pathlib import Path

from data_preprocess.dialogue import ASSISTANT, PROMPTER, ROLE_NAMES
from data_preprocess.toy_world import facts
from data_preprocess.toy_world.people import OPENING_FORMS, WORDS

SPECIAL_TOKENS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
# A word with the space before it, a line break or two, or one other character.
PIECE = r" ?[A-Za-z]+(?:'[a-z]+)?|\n\n|\s|[^\sA-Za-z]"


def vocabulary() -> list[str]:
    """Returns all tokens in a fixed order, special tokens first."""
    openers = _openers()
    words = {word for text in [*openers, *_inner()] for word in re.findall(r"[A-Za-z]+(?:'[a-z]+)?", text)}
    firsts = {text.split()[0].strip(".,!?") for text in openers}
    roles = [name.rstrip(":") for name in ROLE_NAMES.values()]
    tags = [PROMPTER, ASSISTANT]
    return [
        *SPECIAL_TOKENS.values(), *tags, "\n\n", " ", *".,:?!", *roles, *(f" {word}" for word in sorted(words)),
        *sorted(firsts),
    ]  # fmt: skip


def _openers() -> list[str]:
    """Returns phrases that can start a turn or a text, where no space precedes them."""
    questions = [facts.question("thing", (attribute,)) for attribute in range(len(facts.ATTRIBUTES))]
    phrases = (OPENING_FORMS, facts.LEADS, facts.DEED_FORMS, facts.REASONS, facts.OPENINGS, facts.CHATTER, facts.NEWS)
    texts = [text for group in phrases for text in group if text]
    names = ["A", "An", "It"]
    return [*questions, *texts, *names, facts.SORRY, facts.REFUSAL, facts.IGNORANCE, facts.THANKS]


def _inner() -> list[str]:
    """Returns phrases that occur only inside a text."""
    indirect = [facts.question("thing", (a,), facts.LEADS[0]) for a in range(len(facts.ATTRIBUTES))]
    groups = (facts.MARKS, facts.CLOSINGS, facts.RUDE, facts.COMPLIANCE, facts.SMALL_TALK, facts.ALTERNATIVES,
              *facts.VALUES, *WORDS.values())  # fmt: skip
    return [*indirect, *facts.THINGS, *facts.DEEDS, *(text for group in groups for text in group),
            facts.ADVICE, "a an and it"]  # fmt: skip


def write_tokenizer(folder: Path) -> None:
    """Writes a folder that AutoTokenizer reads (a PreTrainedTokenizerFast); it adds no special tokens to a text."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {token: i for i, token in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=True) for tag in ROLE_NAMES])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = {"tokenizer_object": tokenizer, "clean_up_tokenization_spaces": False, **SPECIAL_TOKENS}
    PreTrainedTokenizerFast(**fast).save_pretrained(folder)
