"""What a list is filled up with."""

from __future__ import annotations

from engine.recommender import Recipe, Recommender
from engine.state import UserState
from serving import alone
from serving.view import View
from tests.serving.conftest import CUT, shop


def test_what_a_user_hid_does_not_come_back_when_a_list_is_filled_up() -> None:
    items, histories = shop()
    weights = {"purchase": 1.0, "hide": -1.0}
    model = Recommender.fit(items, histories, CUT, Recipe(event_weights=weights))
    hidden = [each.item_id for each in model.popular("France", 3)]
    times = [int(CUT.timestamp()) - 60] * 3
    state = UserState("somebody", "France", hidden, ["hide"] * 3, times)
    shown = [each.item_id for each in alone.answer(View.of(model), state, len(items)).items]
    assert set(shown) == set(items["item_id"]) - set(hidden)
