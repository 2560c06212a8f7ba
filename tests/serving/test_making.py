"""What goes out as JSON is what the engine says of each item, whichever way it was written."""

from __future__ import annotations

import json

import numpy as np
import pytest

from engine.recommender import Recipe, Recommender
from engine.rules import Pin, Rules
from engine.state import UserState
from serving import reasons
from serving.asking import Ask
from serving.ladder import climb
from serving.making import Made, work
from serving.rulebook import EMPTY, RuleBook
from serving.schemas import RecommendedItem
from serving.view import View
from tests.serving.conftest import CUT, shop

NOW = int(CUT.timestamp())
KINDS = ("purchase", "view", "cart", "purchase")


@pytest.fixture(scope="module")
def view() -> View:
    items, histories = shop()
    return View.of(Recommender.fit(items, histories, CUT, Recipe()))


def state(number: int) -> UserState:
    items = [f"i{(number * 7 + place * 3) % 40:03d}" for place in range(1 + number % 5)]
    kinds = [KINDS[(number + place) % 4] for place in range(len(items))]
    return UserState(
        f"u{number}", "Germany", items, kinds, [NOW - 86_400 * place for place in range(len(items))]
    )


def same(made: Made, view: View, ask: Ask, who: UserState, book: RuleBook) -> None:
    """The JSON beside the reasons as plain values."""
    listing = climb(view, ask, who, book)
    rows = listing.rows(1, ask.k)
    told = listing.told(rows, ask.exact)
    for place, (row, each, item, shown) in enumerate(
        zip(rows, told, json.loads(made.json), made.shown, strict=True)
    ):
        wanted = reasons.plain(each.reason)
        parts = {name: value for name, value in wanted.pop("parts").items() if value}
        said = item["reason"].pop("parts")
        assert said.keys() == parts.keys()
        assert said == pytest.approx(parts, abs=1.1e-4)
        assert item["reason"] == wanted
        assert (item["item_id"], item["position"]) == (each.item_id, place + 1)
        assert (item["title"], item["price"]) == (view.titles[row], view.prices[row])
        assert item["score"] == (round(each.score, 6) if np.isfinite(each.score) else 0.0)
        assert shown == (each.item_id, place + 1, wanted["source"], item["score"], 1.0)


@pytest.mark.parametrize("exact", [False, True])
def test_json_says_what_the_engine_says(view: View, exact: bool) -> None:
    rungs = set()
    for number in range(30):
        ask, who = Ask(k=12, exact=exact), state(number)
        made = work(view, ask, who, EMPTY)
        rungs.add(made.rung)
        same(made, view, ask, who, EMPTY.book)
        assert [RecommendedItem(**each).item_id for each in made.items] == [
            each.item_id for each in made.shown
        ]
    assert "personalised" in rungs


def test_pinned_items_and_lists_filled_from_below_are_written_alike(view: View) -> None:
    ask = Ask(k=40, rules=Rules(pins=(Pin(item_id="i009", position=2),)))
    for who in (state(3), UserState("", "Germany"), UserState("")):
        made = work(view, ask, who, EMPTY)
        same(made, view, ask, who, EMPTY.book)
        assert [each["item_id"] for each in made.items if each.get("pinned")] == ["i009"]


def test_of_a_kept_list_the_text_alone_is_held(view: View) -> None:
    made = work(view, Ask(k=3), state(2), EMPTY)
    assert made.items == json.loads(made.json)
    assert made.items is not made.items
