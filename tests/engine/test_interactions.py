"""Events, their weights and ages."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from engine.history import OneUser
from engine.interactions import Catalogue, Counting, Events, Types
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


def counted(*rows: tuple[str, str, float], **counting) -> Events:
    """As `events`, with exposures at -0.25 from the second ignored one on, and hides."""
    items, kinds, ages = zip(*rows, strict=True)
    times = [int(epoch(NOW) - age * DAY) for age in ages]
    rules = Counting(
        **{"never_again": ("hide",), "unclicked_impressions": 2, "unclicked_weight": -0.25} | counting
    )
    state = UserState("u", "Japan", items, kinds, times)
    return Events.of([UserState("first"), state], {"a": 0, "b": 1}, NOW, {"purchase": 1.0}, rules)


def total(found: Events) -> list[float]:
    return found.matrix().toarray()[1].tolist()


def test_exposures_without_interest_count_from_the_nth_on() -> None:
    shown = [("a", "impression", float(age)) for age in (2, 3, 4)]
    assert total(counted(shown[0])) == [0.0, 0.0]
    assert total(counted(*shown)) == [-0.5, 0.0]
    assert total(counted(*shown[:2], ("b", "impression", 5))) == [-0.25, 0.0], "of the same item"
    assert total(counted(*shown, unclicked_weight=0.0)) == [0.0, 0.0]


def test_an_exposure_that_was_answered_within_a_day_is_none() -> None:
    shown = [("a", "impression", float(age)) for age in (2, 4, 6)]
    for kind in ("click", "view", "cart"):
        assert total(counted(*shown, ("a", kind, 5.5))) == [-0.25, 0.0]
    assert total(counted(*shown, ("a", "click", 4.9))) == [-0.5, 0.0], (
        "too late for the one, too early for the next"
    )
    assert total(counted(*shown, ("b", "click", 5.5))) == [-0.5, 0.0], "of another item"
    assert total(counted(*shown, ("a", "click", 6.0))) == [-0.25, 0.0], "in the same second"


def test_the_last_days_exposures_are_still_open() -> None:
    assert total(counted(*[("a", "impression", age) for age in (0.1, 0.5, 0.9, 3.0)])) == [0.0, 0.0]


def test_exposures_together_weigh_at_most_a_dislike() -> None:
    shown = [("a", "impression", float(age)) for age in range(2, 40)]
    assert total(counted(*shown)) == [-1.0, 0.0]
    assert total(counted(*shown, ("a", "purchase", 60))) == [0.0, 0.0]
    found = counted(*shown)
    assert sorted(found.age.tolist()) == [2.0, 3.0, 4.0, 5.0], "and the newest are those that count"


def test_exposures_count_as_one_by_one_reading_says() -> None:
    """Against the definition, written out, on random histories."""
    rng = np.random.default_rng(2)
    for _ in range(30):
        rows = [
            (
                str(rng.choice(["a", "b"])),
                str(rng.choice(["impression", "click", "purchase"], p=[0.8, 0.1, 0.1])),
                age,
            )
            for age in np.sort(rng.uniform(0, 12, 30))
        ]
        wanted = []
        for item in "ab":
            ignored = [
                age
                for name, kind, age in rows
                if (name, kind) == (item, "impression")
                and age >= 1
                and not any(n == item and k != "impression" and 0 <= age - a <= 1 for n, k, a in rows)
            ]
            bought = sum((name, kind) == (item, "purchase") for name, kind, _ in rows)
            wanted.append(bought - 0.25 * min(max(len(ignored) - 1, 0), 4))
        assert total(counted(*rows)) == pytest.approx(wanted)


def test_what_was_hidden_stays_so_until_it_is_wanted_again() -> None:
    assert counted(("a", "hide", 3), ("a", "hide", 1), ("b", "view", 1)).hidden.tolist() == [[1], [0]]
    assert counted(("a", "hide", 3), ("a", "view", 1)).hidden.tolist() == [[1], [0]]
    assert counted(("a", "hide", 3), ("a", "purchase", 1)).hidden.tolist() == [[], []]
    assert counted(("a", "hide", 3), ("a", "purchase", 4)).hidden.tolist() == [[1], [0]]
    assert counted(("z", "hide", 3)).hidden.tolist() == [[], []], "an item that nobody knows"
    assert counted(("a", "hide", 3), never_again=()).hidden.tolist() == [[], []]


def test_among_the_first_items_only_their_events_are_left() -> None:
    found = counted(("a", "purchase", 1), ("b", "purchase", 1), ("b", "hide", 0.5)).among(1)
    assert (found.n_items, found.item.tolist(), found.hidden.tolist()) == (1, [0], [[], []])
    assert found.matrix().shape == (2, 1)


RATED = {"rating": 0.5, "like": 1.0, "hide": -1.0}


def weights_of(*rows: tuple[str, str, float]) -> list[float]:
    """(a, b) of one user's events as (item, type, days ago), newest first; the way of many users and that of one agree."""
    items, kinds, ages = zip(*rows, strict=True)
    times = [int(epoch(NOW) - age * DAY) for age in ages]
    state, index = UserState("u", None, items, kinds, times), {"a": 0, "b": 1}
    many = Events.of([UserState("o", None, ["b"], ["like"], times[:1]), state], index, NOW, RATED)
    one = OneUser.alone(state, index, NOW, Types.of(RATED, Counting()))
    found = many.matrix().toarray()[1].tolist()
    items, net = one.matrix().indices, one.matrix().data
    assert found == [float(net[items == row].sum()) for row in (0, 1)]
    assert many.matrix().toarray()[0].tolist() == [0.0, 1.0], "what one user says is no other's"
    return found


def test_of_ratings_the_newest_counts() -> None:
    assert weights_of(("a", "rating", 1), ("b", "rating", 2), ("a", "rating", 3), ("a", "rating", 3)) == [
        0.5,
        0.5,
    ]


def test_a_rating_that_was_taken_back_says_nothing_until_there_is_another_one() -> None:
    assert weights_of(("a", "unrate", 1), ("a", "rating", 2), ("b", "rating", 2)) == [0.0, 0.5]
    assert weights_of(("a", "rating", 1), ("a", "unrate", 2), ("a", "rating", 3)) == [0.5, 0.0]
    assert weights_of(("a", "unrate", 1), ("a", "rating", 1)) == [0.0, 0.0], "of one second it comes last"


def test_each_taking_back_is_of_its_own_kind() -> None:
    assert weights_of(("a", "unrate", 1), ("a", "like", 2), ("a", "rating", 3)) == [1.0, 0.0]
    assert weights_of(("a", "undo", 1), ("a", "like", 2), ("a", "rating", 3), ("b", "hide", 2)) == [0.5, -1.0]
    assert weights_of(("z", "unrate", 1), ("z", "rating", 2), ("b", "rating", 3)) == [0.0, 0.5]
