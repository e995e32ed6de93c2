"""Near-duplicates against a slow comparison of every pair with fractions, on made-up and real prompts."""

import json
import random
import re
from fractions import Fraction

from data_preprocess import words as word_rules
from data_preprocess.preparing.near_duplicates import METHOD, NearDuplicates, shingles, without_near_copies
from data_preprocess.preparing.raw_hh import read_split


def turns(text):
    return ["<|prompter|>" + text, "<|assistant|>"]


def slow_has(reference, prompt):
    """Every pair's Jaccard similarity, as a fraction, by a plain loop over the words."""

    def grams(prompt):
        text = " ".join(turn.removeprefix("<|prompter|>").removeprefix("<|assistant|>") for turn in prompt).lower()
        words = "".join(c if c.isalnum() or c == "_" else " " for c in text).split()
        return {" ".join(words[i : i + 3]) for i in range(max(len(words) - 2, 1))}

    one = grams(prompt)
    return any(Fraction(len(one & grams(o)), len(one | grams(o))) >= Fraction(4, 5) for o in reference)


def test_shingles_by_hand():
    prompt = ["<|prompter|>How do I boil rice?", "<|assistant|>Rinse it.", "<|prompter|>Why?", "<|assistant|>"]
    words = "how do i boil rice rinse it why".split()
    assert shingles(prompt) == {tuple(words[i : i + 3]) for i in range(6)}
    assert shingles(turns("Hi!")) == {("hi",)} and shingles(turns("")) == {()}


def test_a_script_without_blanks_is_compared_by_characters():
    """46 characters are 44 three-grams; another one in their midst leaves 41 of 47, and three others 35 of 53."""
    text = "".join(chr(0x4E00 + i) for i in range(46))
    near = NearDuplicates([turns(text)])
    assert near.has(turns(text[:20] + "\u6728" + text[21:]))
    assert not near.has(turns(text[:8] + "\u6728" + text[9:20] + "\u6c34" + text[21:30] + "\u706b" + text[31:]))
    assert shingles(turns("GPT\u6a21\u578b\u597d")) == {("gpt", "\u6a21", "\u578b"), ("\u6a21", "\u578b", "\u597d")}
    # Thai with its vowel signs, kana with its long vowel, Korean by its blanks.
    assert shingles(turns("\u0e01\u0e34\u0e19")) == {("\u0e01", "\u0e34", "\u0e19")}
    assert shingles(turns("\u30bf\u30ef\u30fc")) == {("\u30bf", "\u30ef", "\u30fc")}
    assert shingles(turns("\ud55c\uad6d \ub9d0")) == {("\ud55c\uad6d", "\ub9d0")}
    assert "of characters where a script has no blanks" in METHOD


def test_the_marks_on_letters_are_part_of_a_word():
    """Hindi and Tamil vowel signs, a virama with a joiner, Persian's joiner, and an accent in both of its forms."""
    day, gift = "\u0926\u093f\u0928", "\u0926\u093e\u0928"
    assert word_rules.words(f"{day}, {gift} \u0995\u09cd\u200d\u09af") == [day, gift, "\u0995\u09cd\u200d\u09af"]
    assert not NearDuplicates([turns(day)]).has(turns(gift))
    assert not NearDuplicates([turns("\u0b95\u0bbf")]).has(turns("\u0b95\u0bc0"))
    assert word_rules.words("\u0645\u06cc\u200c\u0631\u0648") == ["\u0645\u06cc\u200c\u0631\u0648"]
    assert NearDuplicates([turns("caf\u00e9")]).has(turns("cafe\u0301"))
    # A mark on no letter is no word, the keycap of a digit is that digit, and a joiner needs a letter on both sides.
    assert word_rules.words("\u2764\ufe0f \u0301 1\ufe0f\u20e3 a\u200d") == ["1", "a"]


def test_prompts_without_words_are_compared_by_characters():
    near = NearDuplicates([turns("\U0001f600"), turns("+ ?")])
    assert near.has(turns("\U0001f600")) and near.has(turns("+?"))
    assert not near.has(turns("\U0001f680")) and not near.has(turns("- ?")) and not near.has(turns(""))


def test_words_with_blanks_are_those_of_a_plain_pattern(shared):
    """Of all real prompts without such a character: the same words as ever, and as many as str.split gives."""
    lines = (shared / "data" / "finegrained_len4" / "train.json").read_text(encoding="utf-8").splitlines()
    texts = [text for line in lines for text in json.loads(line)["suffix"]]
    texts.append("na\u00efve caf\u00e9\u2019s -- \u2026 x\u2028y")
    for text in (text for text in texts if not any("\u0e00" <= c <= "\u109f" or "\u3000" < c for c in text)):
        assert word_rules.words(text) == re.findall(r"\w+", text) and word_rules.count_words(text) == len(text.split())


def test_the_threshold_itself_is_near():
    """11 words are 9 three-grams; another last word makes 8 shared of 10 in all, 0.8; 10 words: 7 of 9."""
    words = [f"w{i}" for i in range(11)]
    near = NearDuplicates([turns(" ".join(words))])
    assert near.has(turns(" ".join(words[:-1] + ["other"])))
    assert near.has(turns(" ".join(words).upper() + "!"))
    assert not near.has(turns(" ".join(words[1:-1] + ["other"])))
    short = NearDuplicates([turns(" ".join(words[:10]))])
    assert not short.has(turns(" ".join(words[:9] + ["other"])))


def test_short_and_empty_prompts():
    near = NearDuplicates([turns("Hi"), turns("")])
    assert near.has(turns("hi!")) and near.has(turns("  ")) and not near.has(turns("Hi there"))
    assert not NearDuplicates([]).has(turns("Hi"))


def test_as_the_slow_loop_on_edited_prompts():
    rng = random.Random(0)
    vocabulary = [f"w{i}" for i in range(30)]
    texts = [[rng.choice(vocabulary) for _ in range(rng.randrange(1, 40))] for _ in range(60)]
    reference = [turns(" ".join(words)) for words in texts]
    near = NearDuplicates(reference)
    found = 0
    for words in texts * 5:
        edited = list(words)
        for _ in range(rng.randrange(4)):
            edited[rng.randrange(len(edited))] = rng.choice(vocabulary)
        probe = turns(" ".join(edited))
        expected = slow_has(reference, probe)
        assert near.has(probe) == expected
        found += expected
    assert 80 < found < 280  # both answers are common, so both are tested


def test_as_the_slow_loop_on_real_prompts(shared):
    prompts = [c.prefix for c in read_split(str(shared / "data" / "hh_rlhf"), "harmless-base", "test", False).pairs]
    reference, probes = prompts[:150], prompts[100:200]
    near = NearDuplicates(reference)
    assert [near.has(prompt) for prompt in probes] == [slow_has(reference, prompt) for prompt in probes]


def slow_kept(pool, base, limit):
    """One prompt after another against the base and all that were kept, by fractions of sets of words."""
    kept = []
    for index, prompt in enumerate(pool):
        one = shingles(prompt)
        others = [shingles(other) for other in [*base, *(pool[i] for i in kept)]]
        if all(Fraction(len(one & other), len(one | other)) <= limit for other in others):
            kept.append(index)
    return kept


def test_near_copies_of_the_base_and_of_one_another_go():
    rng = random.Random(5)
    prompts = [turns(" ".join(rng.choices("abcd", k=rng.randint(1, 8)))) for _ in range(120)]
    base, pool = prompts[:20], prompts[20:]
    sizes = set()
    for limit in ("0", "0.25", "0.5", "0.8", "0.999"):
        kept = without_near_copies(pool, base, float(limit))
        assert kept == slow_kept(pool, base, Fraction(limit))
        sizes.add(len(kept))
    assert len(sizes) > 3


def test_a_pair_right_at_the_limit_stays_and_an_equal_one_never_does():
    words = [f"w{i}" for i in range(11)]
    prompt, near = turns(" ".join(words)), turns(" ".join([*words[:-1], "other"]))  # 8 of 10 three-grams shared
    assert without_near_copies([near], [prompt], 0.8) == [0]
    assert without_near_copies([near], [prompt], 0.79) == []
    assert without_near_copies([prompt, prompt, turns("W0, " + " ".join(words[1:]))], [], 0.99) == [0]
