"""What flags may be: numbers of any size, texts, names, environment variables, and dataclasses made of flags."""

import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from data_preprocess.command import (
    InputError,
    available_cores,
    check_flags,
    check_name,
    check_number,
    check_one_given,
    check_seed,
    check_settings,
    check_text,
    count,
    environment_count,
    parse_settings,
    setting,
    within,
    words_of,
)


@pytest.mark.parametrize("value", [1, 1.0, 0.5, 10**9, 1e300, 10**400])
def test_numbers_within_their_bounds_pass(value):
    check_number("x", value)
    check_number("x", value, above=0, at_least=0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_whatever_the_bounds(value):
    for bounds in ({}, {"at_least": 0}, {"at_most": 1}):
        with pytest.raises(InputError, match=rf"^--x {value}: expected a "):
            check_number("x", value, **bounds)


def test_a_huge_number_is_shown_in_part():
    with pytest.raises(InputError, match=r"^--x 1(0{39})\.\.\.: expected a number of at most 1,000$"):
        check_number("x", 10**400, at_most=1000)
    with pytest.raises(InputError, match=r"--seed 1(0{39})\.\.\.: expected a whole number from 0 to 4294967295"):
        check_seed("seed", 10**400)


def test_flags_are_checked_one_by_one_and_what_was_not_given_passes():
    checks = {"a": count(), "b": within(above=0, below=1), "c": check_text, "d": check_name}
    check_flags({"a": None, "b": 0.5, "c": None, "d": ["x", "y"]}, checks)
    for bad, message in (
        ({"a": 0}, "--a 0"), ({"a": [1, 0]}, "--a 0"), ({"b": 1}, "--b 1"), ({"c": " "}, "--c ' '"),
        ({"d": ["x", ".."]}, r"--d '\.\.'"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            check_flags({"a": 1, "b": 0.5, "c": "c", "d": "d", **bad}, checks)


@dataclass(frozen=True)
class Settings:
    file: str = setting("a file", check_text)
    names: list[str] = setting("names", check_name)
    size: int = setting("how many", count(), default=3)
    rate: float | None = setting("how quickly", within(above=0), default=None)
    quick: bool = setting("at once", default=False)

    def __post_init__(self) -> None:
        check_settings(self)


def test_settings_come_from_a_command_line():
    made = parse_settings(Settings, ["--file", "f", "--names", "a", "b", "--rate", "2"], "")
    assert made == Settings("f", ["a", "b"], 3, 2.0, False)
    for bad, message in ((["--file", ""], "--file ''"), (["--names", "a", "b/c"], "--names 'b/c'"),
                         (["--size", "0"], "--size 0"), (["--rate", "-1"], "--rate -1")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            parse_settings(Settings, ["--file", "f", "--names", "a", *bad], "")
    with pytest.raises(SystemExit):
        parse_settings(Settings, ["--names", "a"], "")


@dataclass(frozen=True, kw_only=True)
class Wider(Settings):
    place: Path = setting("where", positional=True)
    sizes: tuple[int, ...] | None = setting("numbers", count(), default=None)
    way: str = setting("how", choices=("a", "b"), default="a")
    other: str | None = setting("instead of --place", default=None)
    part: int | None = setting("how much, or all of it", count(at_least=0), bare=0, default=None)


def test_settings_may_be_positional_several_or_a_choice(capsys):
    flags = ["--file", "f", "--names", "n"]
    made = parse_settings(Wider, ["here", "--sizes", "3", "4", "--way", "b", *flags], "")
    assert (made.place, made.sizes, made.way) == (Path("here"), (3, 4), "b")
    assert parse_settings(Wider, ["here", *flags], "").sizes is None
    given = [parse_settings(Wider, ["here", *flags, *part], "").part for part in ([], ["--part"], ["--part", "7"])]
    assert given == [None, 0, 7]
    with pytest.raises(InputError, match="--sizes 0"):
        parse_settings(Wider, ["here", *flags, "--sizes", "3", "0"], "")
    with pytest.raises(SystemExit):
        parse_settings(Wider, ["here", *flags, "--way", "c"], "")
    assert "invalid choice: 'c'" in capsys.readouterr().err
    check_one_given(made, "way", "other", "this, or that")
    with pytest.raises(InputError, match="--way or --place: give one of them .this, or that"):
        check_one_given(made, "way", "place", "this, or that")


@pytest.mark.parametrize("text", ["0", "-1", "four", "1.5", "1e3", " 8", "9" * 30, "nan"])
def test_a_bad_variable_is_named(text, monkeypatch):
    monkeypatch.setenv("BATCH_SIZE", text)
    with pytest.raises(InputError, match=r"^BATCH_SIZE .*: expected a whole number from 1 to 1000000000$"):
        environment_count("BATCH_SIZE", 16)


def test_a_variable_that_is_not_set_or_empty_means_the_default(monkeypatch):
    monkeypatch.delenv("BATCH_SIZE", raising=False)
    assert environment_count("BATCH_SIZE", 16) == 16
    monkeypatch.setenv("BATCH_SIZE", "")
    assert environment_count("BATCH_SIZE", 16) == 16
    monkeypatch.setenv("BATCH_SIZE", "4")
    assert environment_count("BATCH_SIZE", 16) == 4


def test_settings_have_the_command_line_that_they_are_parsed_from():
    words = ["--file", "f g", "--names", "a", "b", "--rate", "2.5"]
    made = parse_settings(Settings, words, "")
    assert words_of(made) == words and parse_settings(Settings, words_of(made), "") == made


def test_cores_are_those_of_the_job_or_of_the_cpu_set(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(6), raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    assert available_cores() == 6
    for given, expected in (("4", 4), ("8", 6)):  # more than the set has where a job's cores are not enforced
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", given)
        assert available_cores() == expected
