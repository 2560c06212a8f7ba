"""Who asked to be forgotten: their rows go from landing and the lake, those of others and of who came back stay. Real Delta tables, without Spark."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aisle import erasures, lake
from aisle.settings import Settings
from aisle.stages import StepContext
from aisle.tables import TABLES
from jobs import maintain
from jobs.erasing import ERASED, erase

BEFORE = datetime(2026, 11, 1, tzinfo=UTC)
ERASURE = datetime(2026, 11, 10, tzinfo=UTC)
AFTER = datetime(2026, 11, 20, tzinfo=UTC)
ODD = "o'neil; --"


def write(name: str, rows: list[dict[str, Any]]) -> None:
    from deltalake import write_deltalake

    table = TABLES[name]
    found = pa.Table.from_pylist(rows, schema=lake.arrow_schema(name))
    write_deltalake(
        lake.table_path(name),
        found,
        mode="append",
        partition_by=list(table.partition) or None,
        configuration=table.properties or None,
    )


def event(number: int, user: str | None, moment: datetime, session: str | None = None) -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "user_id": user,
        "session_id": session,
        "event_time": moment,
        "event_month": f"{moment:%Y-%m}",
        "ingested_at": moment + timedelta(hours=1),
        "batch_id": "b",
    }


def tombstone(user: str, sessions: tuple[str, ...] = (), at: datetime = ERASURE) -> None:
    erasures.folder().mkdir(parents=True, exist_ok=True)
    row = {"at": int(at.timestamp() * 1e6), "user_id": user, "sessions": list(sessions)}
    with (erasures.folder() / "0-1-a.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def left(name: str, column: str = "event_id") -> set[str]:
    return set(lake.read(name)[column].to_pylist())


@pytest.fixture
def shop(settings: Settings) -> Settings:
    events = [
        event(1, ODD, BEFORE, "s1"),
        event(2, None, BEFORE, "s1"),  # before they were known
        event(3, ODD, AFTER, "s1"),  # they came back
        event(4, None, AFTER, "s1"),
        event(5, "other", BEFORE, "s2"),
        event(6, "other", BEFORE, "s1"),  # on the same machine
        event(7, None, BEFORE, "s3"),
        event(8, ODD, BEFORE) | {"ingested_at": AFTER},  # came late
    ]
    write("silver.interactions", events)
    told = [{**row, "event_time": row["event_time"].isoformat()} for row in events]
    write(
        "bronze.events", [{name: row.get(name) for name in TABLES["bronze.events"].columns} for row in told]
    )
    for name in ("silver.users", "silver.user_updates", "gold.user_stats"):
        moment = "as_of" if name.startswith("gold") else "updated_at"
        write(name, [{"user_id": user, moment: BEFORE, "country": "Spain"} for user in (ODD, "other")])
    links = [("s1", ODD, BEFORE), ("s8", ODD, AFTER), ("s2", "other", BEFORE)]
    names = ("session_id", "user_id", "linked_at")
    write("silver.session_users", [dict(zip(names, row, strict=True)) for row in links])
    return settings


def test_rows_of_before_go_and_others_stay(shop: Settings) -> None:
    tombstone(ODD)
    removed = erase(shop)
    assert left("silver.interactions") == left("bronze.events") == {"e3", "e4", "e5", "e6", "e7"}
    for name in ("silver.users", "silver.user_updates", "gold.user_stats"):
        assert left(name, "user_id") == {"other"}
    assert left("silver.session_users", "session_id") == {"s2", "s8"}
    assert removed["silver.interactions"] == removed["bronze.events"] == 3
    versions = {name: lake.version(name) for name in TABLES}
    assert not any(erase(shop).values())
    assert {name: lake.version(name) for name in TABLES} == versions, "done is done"


def test_what_is_made_anew_for_who_came_back_stays(shop: Settings) -> None:
    tombstone(ODD)
    erase(shop)
    write("gold.user_stats", [{"user_id": ODD, "as_of": AFTER}])
    erase(shop)
    assert left("gold.user_stats", "user_id") == {"other", ODD}
    tombstone(ODD, at=AFTER + timedelta(days=1))  # and once more
    erase(shop)
    assert left("gold.user_stats", "user_id") == {"other"}
    assert left("silver.interactions") == {"e5", "e6", "e7"}


def test_many_people_and_a_session_that_only_the_tombstone_knows(shop: Settings) -> None:
    for number in range(250):
        tombstone(f"p{number}")
    tombstone("stranger", ("s3",))
    erase(shop)
    assert left("silver.interactions") == {"e1", "e2", "e3", "e4", "e5", "e6", "e8"}


def landed(kind: str, batch: str, rows: list[dict[str, Any]], at: datetime) -> None:
    folder = lake.landing(kind) / batch
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    (folder / "manifest.json").write_text(
        json.dumps({"rows": len(rows), "landed_at": at.isoformat(), "batch_id": batch})
    )


def test_landed_rows_are_emptied_and_still_counted(shop: Settings) -> None:
    rows = [
        {
            "event_id": f"e{number}",
            "user_id": user,
            "session_id": "s1",
            "event_time": moment.isoformat(),
            "row_number": number,
            "set_aside_reason": None,
        }
        for number, (user, moment) in enumerate(
            [(ODD, BEFORE), ("other", BEFORE), (None, BEFORE), (ODD, AFTER)], 1
        )
    ]
    rows[1]["set_aside_reason"] = "postage"
    landed("events", "mixed", rows, AFTER)
    landed("events", "others", [rows[1]], BEFORE)
    untouched = (lake.landing("events") / "others" / "rows.parquet").stat().st_mtime_ns
    tombstone(ODD)
    assert erase(shop)["landing"] == 2
    found = pq.read_table(lake.landing("events") / "mixed" / "rows.parquet").to_pylist()
    assert [row["event_id"] for row in found] == [None, "e2", None, "e4"]
    assert [row["set_aside_reason"] for row in found] == [ERASED, "postage", ERASED, None]
    assert [row["row_number"] for row in found] == [1, 2, 3, 4]
    assert (lake.landing("events") / "others" / "rows.parquet").stat().st_mtime_ns == untouched
    assert erase(shop)["landing"] == 0


def test_maintain_does_it(shop: Settings) -> None:
    tombstone(ODD)
    done = maintain.run(shop, StepContext())
    assert done["erased_rows"] == 10
    assert left("silver.interactions") == {"e3", "e4", "e5", "e6", "e7"}


def test_nobody_asked(shop: Settings) -> None:
    assert erase(shop) == {}
    assert maintain.run(shop, StepContext())["erased_rows"] == 0
