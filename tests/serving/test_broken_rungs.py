"""Each rung of the ladder broken in turn: the next one answers, no list is empty, and the answer says what failed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.recommender import Recipe, Recommender
from engine.rules import Rules
from engine.state import UserState
from serving.asking import Ask
from serving.ladder import climb
from serving.rulebook import RuleBook
from serving.together import Together
from serving.view import View
from tests.serving.conftest import CUT, shop
from tests.serving.test_ladder import KNOWN, STRANGER, Raises, broken, listed


@pytest.fixture(scope="module")
def model() -> Recommender:
    items, histories = shop()
    return Recommender.fit(items, histories, CUT, Recipe())


def test_a_broken_engine_hands_down_to_the_country(model: Recommender) -> None:
    rung, items, degraded = listed(broken(model, "linear"), Ask(), KNOWN)
    assert (rung, len(items), degraded) == ("segment", 10, ("engine_failed",))


def test_broken_neighbours_hand_down_to_the_user(model: Recommender) -> None:
    rung, items, degraded = listed(broken(model, "item_item"), Ask(item_id="i003"), STRANGER)
    assert (rung, len(items), degraded) == ("segment", 10, ("related_failed",))
    assert "i003" not in items


def test_broken_popularity_leaves_the_shops_own_list(model: Recommender) -> None:
    book = RuleBook(curated=("i009", "i004", "gone"), all=Rules(exclude=("i004",)))
    without = Recommender(model.recipe, model.catalogue, dict(model.sources), model.trends)
    view = View.of(without)
    view.recommender.sources["popularity"] = Raises(model.sources["popularity"].countries)
    found = climb(view, Ask(k=5), STRANGER, book)
    ids = [view.assortment.catalogue.item_ids[row] for row in found.rows(1, 5)]
    assert found.rung == "curated"
    assert ids[0] == "i009"
    assert len(ids) == 5
    assert "i004" not in ids
    assert found.degraded == ("segment_failed", "popular_failed")


class _RaisesForCountries:
    """Popularity that knows what everybody buys, and of no country what it buys."""

    def __init__(self, whole: Any):
        self.whole, self.countries = whole, whole.countries

    def of_country(self, country: str | None) -> np.ndarray:
        if country is not None:
            raise RuntimeError("broken")
        return self.whole.of_country(None)

    def named(self, country: str | None, item: int) -> str | None:
        return self.whole.named(None, item)


class _BrokenTogether(Together):
    def scores(self, recommender: Recommender, items: list[str]) -> tuple[np.ndarray, str]:
        raise RuntimeError("broken")


def test_a_broken_engine_hands_a_session_down(model: Recommender) -> None:
    """Of a visitor whom no store knows; without a country what everybody buys is left."""
    for country, rung in (("Germany", "segment"), ("", "popular")):
        state = replace(KNOWN, user_id="", country=country)
        assert listed(model, Ask(), state, known=False)[0] == "session"
        found, items, degraded = listed(broken(model, "linear"), Ask(), state, known=False)
        assert (found, len(items), degraded) == (rung, 10, ("engine_failed",))


def test_broken_trends_hand_down_to_the_country(model: Recommender) -> None:
    for state, rung in ((STRANGER, "segment"), (KNOWN, "segment"), (UserState(""), "popular")):
        view = View.of(broken(model))
        view.recommender.trends = None
        found = climb(view, Ask(kind="trending"), state)
        assert (found.rung, found.degraded) == (rung, ("trending_failed",))
        assert len(found.told(found.rows(1, 10))) == 10


def test_broken_orders_hand_down_from_bought_together(model: Recommender) -> None:
    for ask, rung in (
        (Ask("together", item_id="i003"), "segment"),
        (Ask("together", basket=("i003", "i004")), "segment"),
        (Ask(basket=("i003", "i004")), "personalised"),
    ):
        found = climb(View.of(model), ask, KNOWN, together=_BrokenTogether())
        assert (found.rung, found.degraded) == (rung, ("related_failed",))
        assert len(found.told(found.rows(1, 10))) == 10


def test_a_broken_country_hands_down_to_everybody(model: Recommender) -> None:
    view = View.of(broken(model))
    view.recommender.sources["popularity"] = _RaisesForCountries(model.sources["popularity"])
    found = climb(view, Ask(), STRANGER)
    assert (found.rung, found.degraded) == ("popular", ("segment_failed",))
    assert len(found.told(found.rows(1, 10))) == 10


def test_broken_popularity_breaks_no_list_that_it_only_fills_up(model: Recommender) -> None:
    """What is bought together is four items; the others have no better reason than that they may be shown."""
    view = View.of(broken(model))
    view.recommender.sources["popularity"] = Raises(model.sources["popularity"].countries)
    found = climb(view, Ask("together", item_id="i003", k=40), UserState(""), together=_Four())
    told = found.told(found.rows(1, 40))
    assert (found.rung, found.degraded, len(told)) == ("related", ("popular_failed",), 39)
    assert all(np.isfinite(each.score) and each.reason["source"] for each in told)


class _Four(Together):
    """Orders that four items were in together, whatever else there is."""

    def scores(self, recommender: Recommender, items: list[str]) -> tuple[np.ndarray, str]:
        found = np.zeros(len(recommender.catalogue), np.float32)
        found[[4, 5, 6, 7]] = 4, 3, 2, 1
        return found, "together"


def test_where_every_rung_is_broken_what_may_be_shown_is_shown(model: Recommender) -> None:
    """The last one, too: a list of the shop's own that cannot be read."""
    view = View.of(broken(model, "linear"))
    view.recommender.sources["popularity"] = Raises(model.sources["popularity"].countries)
    book = RuleBook.model_construct(curated=None, all=Rules(exclude=("i004",)), categories={}, placements={})
    found = climb(view, Ask(k=5), KNOWN, book)
    told = found.told(found.rows(1, 5))
    assert found.rung == "curated"
    assert found.degraded == ("engine_failed", "segment_failed", "popular_failed", "curated_failed")
    assert len(told) == 5
    assert "i004" not in {each.item_id for each in told}
    assert all(np.isfinite(each.score) and each.reason["source"] for each in told)
