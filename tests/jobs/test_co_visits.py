"""Items bought together, from lines of orders alone."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from aisle.lake import arrow_schema
from jobs.co_visits import neighbours_of

NOON = datetime(2024, 6, 1, tzinfo=UTC)


def test_without_orders_there_are_no_neighbours() -> None:
    none = pa.table({"order_id": pa.array([], pa.string()), "item_id": pa.array([], pa.string())})
    found = neighbours_of(none, NOON, 5)
    assert (len(found), found.schema) == (0, arrow_schema("gold.co_visits"))


def test_orders_of_one_item_each_have_no_neighbours() -> None:
    assert len(neighbours_of(pa.table({"order_id": ["o1", "o2"], "item_id": ["a", "b"]}), NOON, 5)) == 0


def test_the_score_is_the_cosine_of_the_sets_of_orders() -> None:
    lines = pa.table({"order_id": ["o1", "o1", "o2", "o2", "o3"], "item_id": ["a", "b", "a", "c", "a"]})
    found = {row["item_id"]: row for row in neighbours_of(lines, NOON, 5).to_pylist()}
    assert found["a"]["neighbours"] == ["b", "c"]
    assert found["b"]["scores"] == pytest.approx([3**-0.5])
