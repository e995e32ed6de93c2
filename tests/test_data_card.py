"""The data card's numbers by hand."""

from data_preprocess.preparing.data_card import render_card, tie_share, word_lengths

ONE = ["<|prompter|>Name a fruit.", "<|assistant|>"]
TWO = ["<|prompter|>Hi", "<|assistant|>Hello.", "<|prompter|>Bye", "<|assistant|>"]
ROWS = [
    {"prefix": [ONE] * 3, "suffix": ["A plum.", "Figs.", "No"], "reward": [2.0, 1.0, 1.0],
     "meta": {"source": "s", "response_from": ["m", "data", "data"]}},
    {"prefix": [TWO] * 3, "suffix": ["Bye.", "Bye bye now.", "Go"], "reward": [1.0, 0.0, -2.0],
     "meta": {"source": "t"}},
]  # fmt: skip


def test_numbers():
    card = render_card("python prepare.py", {"a/train.json": ROWS}, ["seed 42"], word_lengths, "words")
    lines = card.splitlines()
    # Prompts of 5 words ("Human: Name a fruit. Assistant:") and 7, so 95% lie below 6.9; replies of 1 1 1 1 2 3.
    [row] = [line for line in lines if line.startswith("| a/train.json | 2 |")]
    assert row.startswith("| a/train.json | 2 | 6 | 2.00 | 50.0% | 6.0 (7) | 1.5 (3) |")
    assert "| a/train.json | 1.500 | 0.500 | -0.500 | 25.0% |" in lines
    assert "| a/train.json | s 1, t 1 | data 2, m 1 |" in lines
    assert "    python prepare.py" in lines and "- seed 42" in lines
    assert any(line.startswith("- git ") and "python 3." in line for line in lines)


def test_lengths_of_scripts_without_blanks_are_in_characters():
    # A sign that a letter bears or is followed by is no word of its own.
    assert word_lengths(["A plum.", "\u597d\u7684\u3002 ok", "\u0e01\u0e34\u0e19", ""]) == [2, 3, 2, 0]


def test_names_of_others_stay_in_their_line_and_cell():
    rows = [{**ROWS[0], "meta": {"source": "a|b\n# c", "response_from": ["m\tn", "data", "data"]}}]
    lines = render_card("c\nd", {"x": rows}, ["e\n\nf \x1b[0m"], word_lengths, "words").splitlines()
    assert "| x | a\\|b # c 1 | data 2, m n 1 |" in lines
    assert "    c d" in lines and "- e  f  [0m" in lines


def test_ties():
    assert tie_share(ROWS) == 0.25
    assert tie_share([]) == 0.0


def test_a_file_without_rows_or_with_one():
    card = render_card("c", {"x": [], "y": ROWS[:1]}, [], word_lengths, "words")
    assert "| x | 0 | 0 |  |  |  |  |" in card.splitlines()
