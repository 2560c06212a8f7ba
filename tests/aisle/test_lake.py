"""Rows of tables, read without Spark, whatever wrote their files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from aisle import lake
from aisle.tables import TABLES

MOMENT = datetime(2026, 11, 20, 8, tzinfo=UTC)


def write(name: str, rows: list[dict]) -> None:
    table = TABLES[name]
    found = pa.Table.from_pylist(rows, schema=lake.arrow_schema(name))
    write_deltalake(lake.table_path(name), found, mode="append", partition_by=list(table.partition) or None)


def event(number: int, user: str | None, month: str = "2026-11") -> dict:
    return {
        "event_id": f"e{number}",
        "user_id": user,
        "event_time": MOMENT,
        "event_month": month,
        "batch_id": "b",
    }


@pytest.fixture
def rewritten(aisle_home: Path) -> None:
    """Two months of events of which one delete took some: what is left of their files was written anew by it."""
    write("silver.interactions", [event(1, "ann"), event(2, "bob"), event(3, "gone"), event(4, None)])
    write("silver.interactions", [event(5, "ann", "2026-10"), event(6, "gone", "2026-10")])
    DeltaTable(lake.table_path("silver.interactions")).delete("user_id = 'gone'")


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ([("user_id", "=", "ann")], {"e1", "e5"}),
        ([("user_id", "in", ["bob", "nobody"])], {"e2"}),
        ([("user_id", "=", "nobody")], set()),
        ([("event_month", "=", "2026-11"), ("user_id", "=", "ann")], {"e1"}),
        ([("event_month", "in", ["2026-10"])], {"e5"}),
        ([("event_time", "<", MOMENT)], set()),
        ([("event_time", "<=", MOMENT), ("batch_id", "=", "b")], {"e1", "e2", "e4", "e5"}),
    ],
)
def test_rows_that_a_delete_left_are_found(rewritten: None, filters: list, found: set[str]) -> None:
    rows = lake.read("silver.interactions", columns=["event_id"], filters=filters)
    assert rows.column_names == ["event_id"]
    assert set(rows["event_id"].to_pylist()) == found
    whole = lake.read("silver.interactions", filters=filters)
    assert whole.column_names == list(TABLES["silver.interactions"].columns)
    assert set(whole["event_id"].to_pylist()) == found
    assert lake.read_frame("silver.interactions", filters=filters).shape[0] == len(found)
