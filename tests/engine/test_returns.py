"""A purchase that was sent back is found by its units, and its day is no repeat purchase."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from engine.interactions import Events
from engine.one_user import OneUser
from engine.returns import sent_back
from engine.sources.personal import Personal
from engine.state import UserState

NOW = datetime(2024, 5, 1, tzinfo=UTC)
INDEX = {"a": 0, "b": 1}
WEIGHTS = {"purchase": 1.0, "return": -1.0, "view": 0.1}


def events(*rows: tuple[str, str, float, float], told: bool = True) -> Events:
    """rows: item, type, days ago, units; newest first, as a state has them."""
    rows = tuple(sorted(rows, key=lambda row: row[2]))
    items, types, ago, units = zip(*rows, strict=True)
    times = [int((NOW - timedelta(days=each)).timestamp()) for each in ago]
    state = UserState("u", None, items, types, times, units if told else ())
    return Events.of([state], INDEX, NOW, WEIGHTS)


@pytest.mark.parametrize(
    ("rows", "days"),
    [
        ([("a", "purchase", 9, 6), ("a", "return", 8, 6)], 0),
        ([("a", "purchase", 9, 6), ("a", "return", 8, 1)], 1),  # five were kept
        ([("a", "purchase", 9, 6), ("a", "return", 8, 4), ("a", "return", 7, 2)], 0),
        ([("a", "purchase", 9, 6), ("a", "purchase", 5, 6), ("a", "return", 4, 6)], 1),
        ([("a", "purchase", 9, 6), ("a", "purchase", 5, 6), ("a", "return", 7, 6)], 1),
        ([("a", "return", 20, 50), ("a", "purchase", 9, 6)], 1),  # bought before we looked
        ([("a", "purchase", 9.1, 1), ("a", "purchase", 9.2, 1), ("a", "return", 8, 1)], 1),
        (
            [("a", "purchase", 9, 1), ("a", "view", 3, 1), ("a", "return", 2, 1)],
            0,
        ),  # a day of looking is none
        ([("b", "purchase", 9, 1), ("a", "purchase", 8, 1), ("b", "return", 1, 1)], 1),
    ],
)
def test_days_that_last(rows: list[tuple[str, str, float, float]], days: int) -> None:
    found = events(*rows)
    assert found.lasting_days().toarray()[0, 0] == days
    assert OneUser.over(found).lasting_days().toarray()[0, 0] == days


def test_a_return_alone_leaves_what_was_bought_for_good_above_what_came_back() -> None:
    found = events(
        ("a", "purchase", 9, 1), ("a", "purchase", 8, 1), ("a", "return", 7, 1), ("a", "return", 6, 1),
        ("b", "purchase", 5, 1),
    )  # fmt: skip
    scores = Personal(np.array([1e-3, 0.0], np.float32)).scores(found)[0]
    assert scores.tolist() == pytest.approx([1e-3, 1.0])


def test_without_quantities_each_event_is_one_unit() -> None:
    found = events(("a", "purchase", 9, 6), ("a", "return", 8, 1), told=False)
    assert found.lasting_days().nnz == 0


def test_who_returned_nothing_pays_nothing() -> None:
    assert events(("a", "purchase", 9, 6)).sent_back is None


def test_an_unknown_items_return_touches_no_other() -> None:
    found = events(("z", "return", 1, 1), ("a", "purchase", 9, 1))
    assert found.lasting_days().toarray().tolist() == [[1.0, 0.0]]
    assert found.among(1).lasting_days().toarray().tolist() == [[1.0]]


def test_as_units_taken_off_a_pile_one_return_after_the_other() -> None:
    random = np.random.default_rng(11)
    n = 600
    pair, time = random.integers(0, 40, n).astype(np.int64), random.integers(0, 300, n).astype(float)
    back = random.random(n) < 0.35
    quantity = random.integers(1, 6, n).astype(float)
    expected = np.zeros(n, bool)
    for each in range(40):
        pile: list[list[float]] = []
        mine = np.flatnonzero(pair == each)
        for row in mine[np.lexsort((back[mine], time[mine]))]:
            if not back[row]:
                pile.append([row, quantity[row]])
                continue
            left = quantity[row]
            while pile and left:
                taken = min(left, pile[-1][1])
                pile[-1][1] -= taken
                left -= taken
                if not pile[-1][1]:
                    expected[int(pile.pop()[0])] = True
    assert expected.any()
    assert sent_back(pair, time, ~back, back, quantity).tolist() == expected.tolist()


def test_nothing_at_all() -> None:
    empty = Events.of([UserState("u")], INDEX, NOW, WEIGHTS)
    assert empty.lasting_days().nnz == 0
