"""What a shop without purchases is learnt and judged by."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest

from aisle import goal, lake, purchases
from aisle.purchases import WindowDays
from aisle.settings import Settings
from engine.interactions import Types
from engine.recipe import Recipe
from tests.shop import write_interactions

MAY = datetime(2026, 5, 1, tzinfo=UTC)


def silver(*rows: tuple[str, str | None, float | None]) -> int:
    """The version of a silver.interactions with an event a day of these (type, user, value)."""
    frame = pd.DataFrame(rows, columns=["event_type", "user_id", "value"])
    days = pd.date_range(MAY, periods=len(frame), freq="D")
    names = [f"e{number}" for number in range(len(frame))]
    write_interactions(frame.assign(event_id=names, event_time=days, item_id="i", session_id="s"))
    return lake.version("silver.interactions")


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["view", "click", "purchase", "rating"], ["purchase"]),
        (["view", "like", "rating"], ["rating", "like"]),
        (["view", "rating", "cart"], ["rating"]),
        (["view", "cart"], ["cart"]),
        (["view", "click"], ["click"]),
        (["view", "impression"], ["view"]),
        (["impression"], ["purchase"]),
    ],
)
def test_the_strongest_that_people_do_is_what_lists_are_for(
    settings: Settings, kinds: list[str], expected: list[str]
) -> None:
    version = silver(*[(kind, "u", 5.0) for kind in kinds])
    assert goal.settled(settings, version).training.goal == expected


def test_what_guests_buy_teaches_nobody(settings: Settings) -> None:
    assert goal.of_shop(settings, silver(("purchase", None, None), ("view", "u", None))) == ("view",)
    assert goal.of_shop(settings, -1) == goal.PURCHASES


def test_a_goal_that_is_set_stands(settings: Settings) -> None:
    training = settings.training.model_copy(update={"goal": ["cart"]})
    asked = settings.model_copy(update={"training": training})
    assert goal.of_shop(asked, silver(("purchase", "u", None))) == ("cart",)


def test_of_ratings_the_good_ones_are_wanted(settings: Settings) -> None:
    version = silver(("rating", "u", 5.0), ("rating", "v", 1.0), ("rating", "w", None))
    found = purchases.bought(version, goal.settled(settings, version))
    assert sorted(found["user_id"].to_pylist()) == ["u", "w"]
    assert purchases.bought(version).num_rows == 0, "without settings it is purchases"
    assert purchases.first(version, goal.settled(settings, version)) == MAY


def test_the_strongest_event_weighs_what_a_purchase_would(settings: Settings) -> None:
    asked = goal.towards(settings, ["click"])
    weights, before = asked.training.event_weights, settings.training.event_weights
    assert weights["click"] == before["purchase"]
    assert weights["view"] / weights["click"] == pytest.approx(before["view"] / before["click"])
    sells = goal.towards(settings, goal.PURCHASES)
    assert sells.training.event_weights == before, "a shop that sells stays as it was"


@pytest.mark.parametrize(("kinds", "had"), [(["rating"], {"rating", "fair_rating"}), (["view"], {"view"})])
def test_somebody_has_what_the_goal_says(settings: Settings, kinds: list[str], had: set[str]) -> None:
    recipe = Recipe.of(goal.towards(settings, kinds))
    types = Types.of(recipe.event_weights, recipe.counting)
    assert {name for name, code in types.code.items() if types.bought[code]} == had


def test_a_young_shop_gets_shorter_windows(settings: Settings) -> None:
    def days(age: int) -> WindowDays:
        return WindowDays.of(settings, MAY, MAY + pd.Timedelta(days=age))

    assert days(84) == WindowDays(28, 28)
    assert days(14) == WindowDays(4, 4, 6)
    assert days(3) == WindowDays(1, 1, 1)
    assert days(2) == WindowDays(28, 28), "who asks for windows says what is missing"
