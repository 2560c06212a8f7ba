"""A low rating is a dislike: its item does not come back and pulls nothing like it up, and a shop whose ratings say so gets better lists."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from aisle.columns import RATINGS
from engine.evaluation import HeldOut, evaluate
from engine.interactions import Counting, Events, Types
from engine.one_user import OneUser
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.rules import Already, Rules, had
from engine.state import DAY, UserState, epoch
from tests.engine.shop import CUT, frames, ids

NOW = int(epoch(CUT))
WEIGHTS = {"purchase": 1.0, "like": 1.0, "rating": 0.5, "fair_rating": 0.2, "low_rating": -1.0, "hide": -1.0}
COUNTING = Counting(never_again=("hide", "low_rating"))
RECIPE = Recipe(event_weights=WEIGHTS, never_again=["hide", "low_rating"])


def said(*rows: tuple[str, float], item: str = "a") -> UserState:
    """One user's events of an item as (type, days ago), newest first."""
    kinds, ages = zip(*rows, strict=True)
    return UserState("u", None, [item] * len(rows), kinds, [int(NOW - age * DAY) for age in ages])


def found(*rows: tuple[str, float]) -> tuple[float, bool]:
    """(net weight, whether it is hidden) of the item; the way of many users and that of one agree."""
    state, index = said(*rows), {"a": 0}
    many = Events.of([said(("like", 1)), state], index, CUT, WEIGHTS, COUNTING)
    one = OneUser.alone(state, index, CUT, Types.of(WEIGHTS, COUNTING))
    net, hidden = round(float(many.matrix().toarray()[1, 0]), 6), many.hidden.tolist() == [[1], [0]]
    assert (net, hidden) == (round(float(np.sum(one.matrix().data)), 6), one.hidden.tolist() == [[0], [0]])
    return net, hidden


def test_a_rating_counts_by_its_kind() -> None:
    assert found(("rating", 1)) == (0.5, False)
    assert found(("fair_rating", 1)) == (0.2, False)
    assert found(("low_rating", 1)) == (-1.0, True)


def test_the_newest_rating_counts_whatever_was_said_before() -> None:
    assert found(("rating", 1), ("low_rating", 2)) == (0.5, False)
    assert found(("low_rating", 1), ("rating", 2)) == (-1.0, True)
    assert found(("fair_rating", 1), ("low_rating", 2), ("rating", 3)) == (0.2, False)
    assert found(("rating", 1), ("low_rating", 1)) == (0.5, False), "of one second the first is the newest"


def test_a_low_rating_that_was_taken_back_hides_nothing() -> None:
    assert found(("unrate", 1), ("low_rating", 2)) == (0.0, False)
    assert found(("low_rating", 1), ("unrate", 2)) == (-1.0, True)
    assert found(("undo", 1), ("low_rating", 2)) == (-1.0, True), "undo is of likes, dislikes and hides"


def test_what_somebody_buys_or_likes_afterwards_is_shown_again() -> None:
    assert found(("purchase", 1), ("low_rating", 2)) == (0.0, False)
    assert found(("low_rating", 1), ("purchase", 2)) == (0.0, True)
    assert found(("rating", 1), ("hide", 2)) == (-0.5, True), "a hide is taken back by what takes hides back"


def test_in_a_recipe_of_before_a_fair_rating_is_a_rating_and_a_low_one_a_dislike() -> None:
    old = {"event_weights": {"rating": 0.5, "dislike": -0.8}, "never_again": ["dislike"]}
    found = Recipe.model_validate_json(json.dumps(old))
    assert found.event_weights == {"rating": 0.5, "fair_rating": 0.5, "low_rating": -0.8, "dislike": -0.8}
    assert found.never_again == ["dislike", "low_rating"]
    assert Recipe.model_validate(found.model_dump()) == found
    assert Recipe().event_weights == {"purchase": 1.0, "return": -1.0}
    told = Recipe(event_weights={"rating": 0.5, "low_rating": 0.1}, never_again=["dislike"])
    assert told.never_again == ["dislike"], "a shop that says otherwise is heard"


def test_a_rule_against_what_was_rated_means_every_rating() -> None:
    rules = [Rules(already=Already(event_types=("rating",)))]
    for kind in RATINGS:
        assert had(said((kind, 1)), rules, NOW) == {"a"}
    assert had(said(("view", 1)), rules, NOW) == set()


@pytest.fixture(scope="module")
def model() -> Recommender:
    items, histories, _ = frames()
    return Recommender.fit(items, histories, CUT, RECIPE)


def test_one_star_pulls_nothing_like_it_up(model: Recommender) -> None:
    """The shop's two halves: five stars pull the item's own half up, one star does not, and the item itself is gone."""
    half, item = set(ids()[:20]), ids()[3]

    def listed(*rows: tuple[str, float]) -> list[str]:
        return [each.item_id for each in model.recommend(said(*rows, item=item), 10, CUT)]

    loved, hated = listed(("rating", 1)), listed(("low_rating", 1))
    popular = [each.item_id for each in model.recommend(UserState("nobody", None), 10, CUT)]
    assert len(half & {*loved}) > len(half & {*popular}) >= len(half & {*hated})
    assert item not in hated


def test_no_reason_speaks_of_an_item_that_was_rated_low(model: Recommender) -> None:
    low, good = ids()[3], ids()[7]
    state = UserState(
        "u", None, [low, low, good], ["low_rating", "view", "rating"], [NOW - 60, NOW - 90, NOW - 120]
    )
    reasons = [each.reason["evidence"] for each in model.recommend(state, 20, CUT)]
    assert any(each.get("item_id") == good for each in reasons)
    assert not any(each.get("item_id") == low or each.get("event_type") == "low_rating" for each in reasons)


def rated(seed: int = 3) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """items, histories and truth of a shop where people try what they come across and half of it disappoints.

    120 items of six styles. A user tries 30 items, drawn by fame from all styles, and rates those of their two styles 4 or 5 mostly,
    the others 1 or 2 mostly. What they rate after the cut with 4 or 5 is what a list should have held.
    """
    rng, n_users, n_items = np.random.default_rng(seed), 200, 120
    style, fame = np.arange(n_items) % 6, rng.dirichlet(np.full(n_items, 2.0))
    rows = []
    for user in range(n_users):
        liked = rng.choice(6, 2, replace=False)
        tried = rng.choice(n_items, 45, replace=False, p=fame)
        pleased = np.isin(style[tried], liked) ^ (rng.random(45) < 0.1)
        stars = np.where(pleased, rng.choice([4, 5], 45), rng.choice([1, 2], 45))
        rows += [
            (f"u{user:03d}", f"i{item:03d}", star, 45 - n)
            for n, (item, star) in enumerate(zip(tried, stars, strict=True))
        ]
    lines = pd.DataFrame(rows, columns=["user_id", "item_id", "stars", "back"])
    before, after = lines[lines["back"] > 15], lines[lines["back"] <= 15]
    items = pd.DataFrame({"item_id": [f"i{item:03d}" for item in range(n_items)]})
    items["n_buyers"] = items["item_id"].map(before.groupby("item_id").size()).fillna(0)
    items = items.assign(n_buyers_30d=items["n_buyers"], title="", price=1.0, brand=None, deleted=False)
    items["categories"] = [[] for _ in range(n_items)]
    newest = before.sort_values("back", kind="stable").assign(
        time=lambda each: NOW - each["back"] * 3600, q=1.0
    )
    columns = {"item_ids": "item_id", "event_times": "time", "stars": "stars", "quantities": "q"}
    histories = newest.groupby("user_id").agg(**{name: (each, list) for name, each in columns.items()})
    truth = after[after["stars"] >= 4][["user_id", "item_id"]]
    return items, histories.reset_index().assign(country=None), truth


def test_a_shop_where_half_of_the_ratings_are_low_gets_better_lists_by_them() -> None:
    items, histories, truth = rated()
    recipe = Recipe(
        event_weights={"rating": 0.5, "low_rating": -1.0}, never_again=["low_rating"], repeat=False
    )

    def value(low: str) -> float:
        kinds = [["rating" if star >= 4 else low for star in each] for each in histories["stars"]]
        known = histories.assign(event_types=kinds)
        recommender = Recommender.fit(items, known, CUT, recipe)
        lists = HeldOut.of(recommender, known, truth, CUT)
        rows = evaluate(lists, lists.lists(recommender))
        rows = rows[(rows["slice"] == "all") & (rows["column"] == "all") & (rows["metric"] == "ndcg@10")]
        return float(rows["value"].mean())

    alike, told = value("rating"), value("low_rating")
    assert told > 1.2 * alike
