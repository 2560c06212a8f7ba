"""Events, their weights and ages."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from engine.interactions import Catalogue, Events
from engine.state import UserState, epoch, from_frame

NOW = datetime(2024, 1, 31, tzinfo=UTC)
DAY = 86_400


def events(*rows: tuple[str, str, float]) -> Events:
    """One user's events as (item, type, days ago)."""
    items, kinds, ages = zip(*rows, strict=True)
    times = [int(epoch(NOW) - age * DAY) for age in ages]
    state = UserState("u", "Japan", items, kinds, times, [1.0] * len(items))
    return Events.of([state], {"a": 0, "b": 1}, NOW, {"purchase": 1.0, "return": -1.0, "search": 0.0})


def test_a_return_takes_a_purchase_back() -> None:
    found = events(("a", "purchase", 1), ("b", "purchase", 1), ("b", "return", 1))
    assert found.matrix().toarray().tolist() == [[1.0, 0.0]]
    assert found.tastes().toarray()[0, 1] == 0.0
    assert found.owned().toarray().tolist() == [[1.0, 1.0]]


def test_weights_halve_with_age() -> None:
    assert events(("a", "purchase", 30)).matrix(30.0).toarray()[0, 0] == pytest.approx(0.5)


def test_days_count_a_day_once() -> None:
    found = events(("a", "purchase", 3.1), ("a", "purchase", 3.2), ("a", "purchase", 9))
    assert found.days().toarray().tolist() == [[2.0, 0.0]]


def test_unknown_items_and_weightless_types_are_left_out() -> None:
    found = events(("z", "purchase", 1), ("a", "search", 1), ("a", "wink", 1))
    assert len(found.item) == 0
    assert found.days().toarray().tolist() == [[0.0, 0.0]]


def test_an_event_from_the_future_has_no_negative_age() -> None:
    assert events(("a", "purchase", -2)).age.tolist() == [0.0]


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Events.of([UserState("u")], {}, datetime(2024, 1, 1), {})


def test_unequal_lists_are_refused() -> None:
    with pytest.raises(ValueError, match="equally long"):
        UserState("u", None, ["a"], [], [], [])


def test_a_frame_with_missing_lists_is_a_user_without_a_history() -> None:
    frame = pd.DataFrame(
        {
            "user_id": ["u"],
            "item_ids": [None],
            "event_types": [None],
            "event_times": [None],
            "country": [np.nan],
        }
    )
    assert from_frame(frame) == [UserState("u", None, (), (), (), ())]


def test_the_catalogue_is_sorted_and_shows_nothing_deleted() -> None:
    frame = pd.DataFrame({"item_id": ["b", "a", "c"], "deleted": [False, None, True], "price": [1, None, 2]})
    found = Catalogue.of(frame)
    assert found.item_ids == ["a", "b"]
    assert found.numbers("price").tolist() == [0.0, 1.0]
    assert found.value("price", 0) is None
