"""The grid of points in time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from jobs import grid


def day(month: int, number: int) -> datetime:
    return datetime(2011, month, number, tzinfo=UTC)


def test_every_moment_of_training_has_a_point_at_most_a_week_before() -> None:
    first, as_of = day(1, 5) + timedelta(hours=9), day(6, 20)
    points = grid.points(first, as_of, 30, (28, 56))
    assert points == sorted(set(points))
    assert first < points[0]
    assert points[-1] == as_of
    assert all(later - earlier <= timedelta(days=7) for earlier, later in pairwise(points))
    assert {as_of - timedelta(days=days) for days in (0, 1, 29, 30, 28, 56)} <= set(points)


def test_a_later_as_of_keeps_the_weekly_points() -> None:
    """What was built stays of use: only the daily tail moves."""
    first = day(1, 5)
    before, after = (set(grid.points(first, as_of, 3, ())) for as_of in (day(3, 1), day(4, 1)))
    weekly = {point for point in before if point.weekday() == 0}
    assert weekly <= after


@pytest.mark.spark
def test_values_stand_until_the_next_change(spark) -> None:
    points = [day(1, number) for number in (3, 10, 17)]
    cells = spark.createDataFrame(
        [("a", 0, 1), ("a", 2, 5), ("b", 1, 7)], "key string, next_built int, n int"
    )
    rows = grid.carried_forward(cells, "key", grid.Grid(points, points)).collect()
    found = {(row["key"], row["as_of"].day): row["n"] for row in rows}
    assert found == {("a", 3): 1, ("a", 10): 1, ("a", 17): 5, ("b", 10): 7, ("b", 17): 7}
