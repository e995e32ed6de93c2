"""Which columns of a data set hold the prompt, the responses and the preference, and recipes for published data sets.

A `Mapping` names the columns of one row. A `Recipe` is the mapping of a published data set, with its split and subset.
prepare.py chooses the recipe by the data set's name on the hub, by --recipe, or by the columns of its first row.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_preprocess.command import InputError
from data_preprocess.preparing.votes import BY_SIGN


@dataclass(frozen=True)
class Mapping:
    """Which fields of a row hold what; None means the usual names. Dots address fields inside objects."""

    prompt: tuple[str, ...] | None = None  # one field in any format, or several text fields to join
    responses: tuple[str, ...] | None = None  # one field with a list, or several with a text each
    rewards: tuple[str, ...] | None = None  # likewise with numbers; or one field with votes
    ranks: bool = False  # the numbers are ranks, lowest is best
    id: str | None = None  # field of the prompt's id
    ignore: tuple[str, ...] = ()  # fields whose text is not read
    keep: bool = False  # keep the other plain fields of a row in meta.columns
    drop_unrated: bool = False  # treat a missing reward ("N/A") as null instead of an error
    winner: str | None = None  # instead of rewards: the field that says which response is better
    winner_values: tuple[str, ...] | None = None  # its value for each response, see votes.rewards_of_winner
    needs_rewards: bool = True  # False: rewards that are no numbers are no error; a row that has such has none

    def paths(self) -> tuple[str, ...]:
        """Returns the fields of prompt, responses and rewards that are named."""
        winner = (self.winner,) if self.winner else ()
        return (*(self.prompt or ()), *(self.responses or ()), *(self.rewards or ()), *winner)


@dataclass(frozen=True)
class Recipe:
    """How a published preference data set is read."""

    name: str  # of the recipe
    hub: tuple[str, ...]  # names of the data set on the hub
    mapping: Mapping = Mapping()
    columns: tuple[str, ...] = ()  # further columns that its rows have
    split: str = "train"
    subset: str | None = None  # configuration or folder of the data set on the hub
    merge: bool = False  # rows of one prompt are one ranking

    def fits(self, row: dict) -> bool:
        """Returns whether a row has every column that is read."""
        return all(path in row or _has(row, path.split(".")) for path in (*self.mapping.paths(), *self.columns))


NONE = "none"  # --recipe none: no recipe, whatever the data set's name and columns
PAIR = ("chosen", "rejected")
RECIPES = (
    # Texts "\n\nHuman: ...\n\nAssistant: ..."; `prepare.py --raw` also makes the test files.
    Recipe("hh-rlhf", ("Anthropic/hh-rlhf",), columns=PAIR),
    # Four responses with ratings by GPT-4. The mean of the four aspects, since some overall scores of 1 read 10.
    Recipe(
        "ultrafeedback",
        ("openbmb/UltraFeedback",),
        Mapping(("instruction",), ("completions.response",), ("completions.fine-grained_score",), drop_unrated=True),
    ),
    Recipe(
        "ultrafeedback-binarized",
        ("HuggingFaceH4/ultrafeedback_binarized",),
        Mapping(rewards=("score_chosen", "score_rejected"), drop_unrated=True),
        columns=("prompt", *PAIR),
        split="train_prefs",
    ),
    Recipe(
        "ultrafeedback-cleaned",
        ("argilla/ultrafeedback-binarized-preferences-cleaned",),
        Mapping(rewards=("chosen-rating", "rejected-rating"), drop_unrated=True),
        columns=("prompt", *PAIR),
    ),
    # One response per row, rated by people from 0 to 4; preferences from -3 (the first is better) to 3.
    Recipe(
        "helpsteer2",
        ("nvidia/HelpSteer2",),
        Mapping(("prompt",), ("response",), ("helpfulness",), drop_unrated=True),
        columns=("correctness", "coherence"),
        merge=True,
    ),
    Recipe(
        "helpsteer2-preference",
        (),
        Mapping(("prompt",), ("response_1", "response_2"), winner="preference_strength", winner_values=BY_SIGN),
        subset="preference",
    ),
    Recipe(
        "helpsteer3",
        ("nvidia/HelpSteer3",),
        Mapping(("context",), ("response1", "response2"), winner="overall_preference", winner_values=BY_SIGN),
        subset="preference",
    ),
    # Seven responses ranked by GPT-4.
    Recipe(
        "nectar", ("berkeley-nest/Nectar",), Mapping(("prompt",), ("answers.answer",), ("answers.rank",), ranks=True)
    ),
    # --winner_from safer_response_id ranks by safety instead of helpfulness.
    Recipe(
        "pku-saferlhf",
        ("PKU-Alignment/PKU-SafeRLHF",),
        Mapping(("prompt",), ("response_0", "response_1"), winner="better_response_id"),
        merge=True,
    ),
    # Pairs of comments on one post; label 1 says that A has more votes although it is not older.
    Recipe(
        "shp",
        ("stanfordnlp/SHP", "stanfordnlp/SHP-2"),
        Mapping(("history",), ("human_ref_A", "human_ref_B"), winner="labels", winner_values=("1", "0")),
        merge=True,
    ),
    Recipe(
        "webgpt",
        ("openai/webgpt_comparisons",),
        Mapping(("question.full_text",), ("answer_0", "answer_1"), ("score_0", "score_1")),
        merge=True,
    ),
    # Message trees, see oasst.py.
    Recipe(
        "oasst",
        ("OpenAssistant/oasst1", "OpenAssistant/oasst2"),
        columns=("message_id", "parent_id", "role", "text", "rank"),
    ),
    Recipe(
        "skywork",
        ("Skywork/Skywork-Reward-Preference-80K-v0.1", "Skywork/Skywork-Reward-Preference-80K-v0.2"),
        columns=PAIR,
    ),
)


def named_recipe(name: str | None, source: str) -> Recipe | None:
    """Returns the recipe of --recipe, else that of the data set that `source` names on the hub, if it is known."""
    if name:
        return next((recipe for recipe in RECIPES if recipe.name == name), None)
    known = {hub.lower(): recipe for recipe in RECIPES for hub in recipe.hub}
    return None if Path(source).exists() else known.get(source.lower())


def recognised_recipe(row: dict) -> Recipe | None:
    """Returns the recipe of the data set whose columns a row has; None for rows of the usual formats."""
    return next((recipe for recipe in RECIPES if recipe.mapping.responses and recipe.fits(row)), None)


def check_columns(recipe: Recipe, row: dict, where: str) -> None:
    """Raises InputError, naming the columns found, unless a row has those of the recipe."""
    if not recipe.fits(row):
        expected = ", ".join((*recipe.mapping.paths(), *recipe.columns))
        raise InputError(f"{where}: columns are {', '.join(row)} (expected those of recipe {recipe.name}: {expected})")


def describe(recipe: Recipe, mapping: Mapping) -> str:
    """Returns one line on what is read from where.

    Args:
        recipe: the recipe.
        mapping: its mapping, or what flags have made of it.
    """
    kinds = {"prompt": mapping.prompt, "responses": mapping.responses, "rewards": mapping.rewards}
    parts = [f"{kind} from {', '.join(paths)}" for kind, paths in kinds.items() if paths]
    parts += [f"better response from {mapping.winner}"] if mapping.winner else []
    parts += ["rows of one prompt are one ranking"] if recipe.merge else []
    return f"recipe {recipe.name}: {'; '.join(parts) or 'the usual fields'}"


def _has(value: Any, path: list[str]) -> bool:
    if not path:
        return True
    if isinstance(value, list):
        return all(_has(item, path) for item in value)
    return isinstance(value, dict) and path[0] in value and _has(value[path[0]], path[1:])
