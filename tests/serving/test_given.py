"""The answers that a person was given, wherever they are on their way into the lake, each once."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from aisle import erasures, lake
from aisle.settings import Settings
from jobs import erasing, outcomes
from serving import given, segments
from serving.exposures import KIND, Exposure, Shown
from tests.serving.conftest import Kept, Release, asking, running
from tests.serving.test_people import wait_for

AT = datetime(2026, 11, 20, 8, tzinfo=UTC)


def answer(number: int, user: str | None = "ann", session: str | None = None) -> dict[str, Any]:
    shown = [Shown("i1", 1, "popularity", 0.5), Shown("i2", 2, "content", 0.25, 0.5)]
    at = AT.timestamp() + number
    tests = {"ab": "b"} if number % 2 else {}
    made = Exposure(f"r{number}", at, user, session, "1", "", "popular", None, "popular", shown, tests)
    return {"at": round(at * 1e6), **made.row()}


def write(*rows: dict[str, Any]) -> segments.Segment:
    """An open segment."""
    found = segments.Segment(KIND)
    found.write([segments.encoded(row) for row in rows])
    return found


def land(segment: segments.Segment) -> None:
    segment.let_go()
    segments.close(segment.path, KIND, erasures.read())


def numbers(rows: list[dict[str, Any]]) -> list[str]:
    return [row["request_id"] for row in rows]


def test_an_answer_counts_once_wherever_it_is(aisle_home) -> None:
    first = write(
        answer(1), answer(2, "bob"), answer(3, None, "s"), answer(4, "bob", "s"), answer(5, "annabel")
    )
    segment = write(answer(6), answer(7, None, "elsewhere"))
    with segment.path.open("ab") as file:
        file.write(segments.encoded(answer(8))[:-9])  # half a line, as of who was killed
    assert numbers(given.answers("ann", [])) == ["r1", "r6"]
    assert numbers(given.answers("ann", ["s"])) == ["r1", "r3", "r6"]
    land(first)
    assert numbers(given.answers("ann", ["s"])) == ["r1", "r3", "r6"]
    (batch,) = [each.name for each in lake.landing(KIND).iterdir()]
    stored = [
        {
            "request_id": f"r{number}",
            "user_id": user,
            "session_id": session,
            "served_at": AT,
            "batch_id": batch,
        }
        for number, user, session in ((1, "ann", None), (3, None, "s"))
    ]
    schema = lake.arrow_schema(given.SHOWN)
    write_deltalake(lake.table_path(given.SHOWN), pa.Table.from_pylist(stored, schema=schema))
    assert numbers(given.answers("ann", ["s"])) == ["r1", "r3", "r6"]
    assert numbers(given.answers("ann", ["s"], AT + timedelta(seconds=2))) == ["r6"]


@pytest.mark.spark
def test_it_reads_as_the_table_will_have_it(spark, settings: Settings) -> None:
    land(write(answer(1), answer(2), answer(3, None, "s")))
    before = given.answers("ann", ["s"])
    outcomes.append(spark, outcomes.waiting())
    after = given.answers("ann", ["s"])
    assert [{**row, "batch_id": None} for row in after] == [{"batch_id": None, **row} for row in before]


def shown(client: httpx.Client, user: str) -> list[dict[str, Any]]:
    return client.get(f"/v1/users/{user}/export").json()["other"].get(given.SHOWN, [])


def ask(client: httpx.Client, user: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/v1/recommendations", params={"user_id": user, "k": 3}).json()
    return found


def test_an_export_has_the_answers_that_were_just_given(settings: Settings, stage_release: Release) -> None:
    stage_release("1")
    asked: list[dict[str, Any]] = []
    for _ in range(2):  # the second time the first ones have landed
        with running(settings, Kept()) as url, asking(url) as client:
            wait_for(lambda: client.get("/readyz").status_code == 200)
            asked += [ask(client, "u001") for _ in range(3)]
            ask(client, "u002")
            wait_for(lambda: len(shown(client, "u001")) >= len(asked))  # noqa: B023 - it is called in this turn
            found = shown(client, "u001")
            assert numbers(found) == [each["request_id"] for each in asked]
            assert found[-1]["item_ids"] == [each["item_id"] for each in asked[-1]["items"]]
            assert found[-1]["scores"] == [each["score"] for each in asked[-1]["items"]]
            assert {"batch_id", "at"}.isdisjoint(found[-1])


def test_who_came_back_has_what_was_given_since(settings: Settings, stage_release: Release) -> None:
    stage_release("1")
    with running(settings, Kept()) as url, asking(url) as client:
        wait_for(lambda: client.get("/readyz").status_code == 200)
        ask(client, "u001")
        wait_for(lambda: shown(client, "u001"))
        client.delete("/v1/users/u001")
        assert client.get("/v1/users/u001/export").json()["other"] == {}
        time.sleep(0.01)
        again = ask(client, "u001")
        client.patch("/v1/users/u001", json={"country": "Spain"})
        wait_for(lambda: shown(client, "u001"))
        assert numbers(shown(client, "u001")) == [again["request_id"]]


def test_rows_without_a_time_are_theirs_once_the_old_ones_are_gone(
    settings: Settings, stage_release: Release
) -> None:
    stage_release("1")

    def others(client: httpx.Client) -> list[str]:
        return sorted(client.get("/v1/users/u001/export").json()["other"])

    with running(settings, Kept()) as url, asking(url) as client:
        stats = [{"user_id": "u001", "as_of": AT, "n_events": 1}]
        served = [{"request_id": "r1", "user_id": "u001", "item_id": "i1", "served_at": AT}]
        for name, rows in (("gold.user_stats", stats), ("ops.outcomes", served)):
            write_deltalake(lake.table_path(name), pa.Table.from_pylist(rows, schema=lake.arrow_schema(name)))
        assert others(client) == ["gold.user_stats", "ops.outcomes"]
        client.delete("/v1/users/u001")
        assert others(client) == []
        erasing.erase(settings)
        later = datetime.now(UTC) + timedelta(days=1)
        for name, rows in (
            ("gold.user_stats", [{**stats[0], "as_of": later}]),
            ("ops.outcomes", [{**served[0], "served_at": later}]),
        ):
            new = pa.Table.from_pylist(rows, schema=lake.arrow_schema(name))
            write_deltalake(lake.table_path(name), new, mode="append")
        assert others(client) == ["gold.user_stats", "ops.outcomes"]
