"""A person's own rows: all of them for them, and none of them once they asked to be forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from aisle import erasures, lake
from aisle.lake import home
from aisle.settings import Settings
from tests.serving.conftest import Kept, Release, asking, running


def wait_for(check: Callable[[], object], seconds: float = 90.0) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def served(settings: Settings, stage_release: Release) -> Iterator[httpx.Client]:
    stage_release("1")
    with running(settings, Kept()) as url, asking(url) as client:
        wait_for(lambda: client.get("/readyz").status_code == 200)
        yield client


def rung(client: httpx.Client, **params: object) -> str:
    return client.get("/v1/recommendations", params=params).json()["rung"]


def test_an_export_has_everything(served: httpx.Client) -> None:
    served.patch("/v1/users/u001", json={"country": "Spain", "attributes": {"size": "M"}})
    served.patch("/v1/users/u001", json={"language": "es"})
    view = {
        "event_type": "view",
        "user_id": "u001",
        "session_id": "s1",
        "item_id": "i001",
        "properties": {"a": "b"},
    }
    served.post("/v1/events", json=view)
    served.post("/v1/events", json={"event_type": "search", "user_id": "u001", "query": "lamp"})
    served.post("/v1/users/u001/preferences", json={"item_id": "i002", "preference": "like"})
    answer = served.get("/v1/users/u001/export")
    assert answer.headers["content-disposition"].startswith("attachment")
    found = answer.json()
    assert (found["complete"], found["erased_at"], found["sessions"]) == (True, None, ["s1"])
    assert found["profile"]["country"] == "Spain"
    assert found["profile"]["language"] == "es"
    assert found["profile"]["attributes"] == {"size": "M"}
    assert found["preferences"] == {"like": ["i002"], "dislike": [], "hide": []}
    assert [event["event_type"] for event in found["events"]] == ["like", "search", "view"]
    assert len(found["history"]) == 2 + len(Kept().states["u001"].item_ids)
    assert all("batch_id" not in event and "at" not in event for event in found["events"])
    other = served.get("/v1/users/u002/export").json()
    assert (other["events"], other["profile"]) == ([], {})


def test_an_export_has_what_the_lake_has(served: httpx.Client) -> None:
    moment = datetime(2026, 11, 20, 8, tzinfo=UTC)
    bought = {
        "event_id": "old",
        "event_type": "purchase",
        "event_time": moment,
        "user_id": "u001",
        "item_id": "i009",
    }
    bought |= {"price": Decimal("2.50"), "quantity": 2.0, "event_month": "2026-11", "ingested_at": moment}
    people = [{"user_id": user, "country": "France", "updated_at": moment} for user in ("u001", "u002")]
    told = {"request_id": "r1", "user_id": "u001", "served_at": moment, "item_ids": ["i009"]}
    for name, rows in (
        ("silver.interactions", [bought, {**bought, "event_id": "other", "user_id": "u002"}]),
        ("silver.user_updates", people),
        ("ops.recommendations", [told]),
    ):
        write_deltalake(lake.table_path(name), pa.Table.from_pylist(rows, schema=lake.arrow_schema(name)))
    again = {name: bought[name] for name in ("event_id", "event_type", "user_id", "item_id")}
    served.post("/v1/events", json={**again, "event_time": moment.isoformat(), "price": 2.5})
    served.patch("/v1/users/u001", json={"language": "fr"})
    found = served.get("/v1/users/u001/export").json()
    (event,) = found["events"]  # silver's and the journal's are one
    assert (event["item_id"], event["price"], event["event_time"]) == (
        "i009",
        2.5,
        "2026-11-20T08:00:00.000000+00:00",
    )
    assert (found["profile"]["country"], found["profile"]["language"]) == ("France", "fr")
    assert found["other"]["ops.recommendations"][0]["item_ids"] == ["i009"]
    served.delete("/v1/users/u001")
    gone = served.get("/v1/users/u001/export").json()
    assert (gone["events"], gone["profile"], gone["other"]) == ([], {}, {})
    assert served.get("/v1/users/u002/export").json()["events"]


def test_an_export_has_what_was_done_before_the_login(served: httpx.Client) -> None:
    moment = datetime(2026, 11, 20, 8, tzinfo=UTC)
    event = {"event_type": "view", "event_time": moment, "event_month": "2026-11", "ingested_at": moment}
    stored = [
        {**event, "event_id": f"{session}-{user}", "session_id": session, "user_id": user, "item_id": "i009"}
        for session, user in (("old", None), ("old", "u001"), ("elsewhere", None))
    ]
    links = [{"session_id": "old", "user_id": "u001", "linked_at": moment}]
    for name, rows in (("silver.interactions", stored), ("silver.session_users", links)):
        write_deltalake(lake.table_path(name), pa.Table.from_pylist(rows, schema=lake.arrow_schema(name)))
    for session, users in (("new", [None, "u001"]), ("shared", [None, "u001", "u002"])):
        for user in users:
            who = {"session_id": session, **({"user_id": user} if user else {})}
            served.post("/v1/events", json={"event_type": "view", "item_id": "i008", **who})
    found = served.get("/v1/users/u001/export").json()
    assert found["sessions"] == ["new", "old"]
    told = sorted((event["session_id"], event.get("user_id") or "") for event in found["events"])
    assert told == [("new", ""), ("new", "u001"), ("old", ""), ("old", "u001"), ("shared", "u001")]
    served.delete("/v1/users/u001")
    assert served.get("/v1/users/u001/export").json()["events"] == []


def test_an_export_reads_what_has_landed(settings: Settings, stage_release: Release) -> None:
    stage_release("1")
    with running(settings, Kept()) as url, asking(url) as client:
        client.post("/v1/events", json={"event_type": "view", "user_id": "z", "item_id": "i001"})
    with running(settings, Kept()) as url, asking(url) as client:
        wait_for(lambda: client.get("/readyz").status_code == 200)
        client.post("/v1/events", json={"event_type": "view", "user_id": "z", "item_id": "i002"})
        found = client.get("/v1/users/z/export").json()["events"]
        assert [event["item_id"] for event in found] == ["i002", "i001"]


def test_who_is_erased_is_unknown_at_once_and_may_come_back(served: httpx.Client) -> None:
    session = {"session_id": "s-of-u001"}
    served.post("/v1/events", json={"event_type": "purchase", **session, "item_id": "i003"})
    served.post("/v1/events", json={"event_type": "view", **session, "user_id": "u001", "item_id": "i004"})
    served.patch("/v1/users/u001", json={"country": "Germany"})
    assert rung(served, user_id="u001") == "personalised"
    assert rung(served, **session) != "popular"
    gone = served.delete("/v1/users/u001")
    assert gone.status_code == 202
    assert gone.json()["sessions"] == ["s-of-u001"]
    assert rung(served, user_id="u001") == "popular"
    assert rung(served, **session) == "popular"
    assert served.get("/v1/users/u001/history").json()["events"] == []
    found = served.get("/v1/users/u001/export").json()
    assert found["erased_at"]
    assert (found["events"], found["history"], found["profile"], found["other"]) == ([], [], {}, {})
    served.post("/v1/events", json={"event_type": "purchase", "user_id": "u001", "item_id": "i009"})
    assert [each["item_id"] for each in served.get("/v1/users/u001/history").json()["events"]] == ["i009"]
    assert served.delete("/v1/users/u001").status_code == 202
    assert served.get("/v1/users/u001/history").json()["events"] == []


def test_no_further_page_is_made_of_what_was_erased_or_is_to_be_used_no_more(served: httpx.Client) -> None:
    def pages(user: str) -> list[int]:
        asked = {"user_id": user, "page": 2, "request_id": firsts[user][0]}
        searched = {"user_id": user, "page": 2, "request_id": firsts[user][1]}
        return [
            served.get("/v1/recommendations", params=asked).status_code,
            served.get("/v1/search", params=searched).status_code,
        ]

    wait_for(lambda: served.get("/v1/search", params={"q": "title"}).status_code == 200)
    users = ("u001", "u002", "u003")
    firsts = {
        user: [
            served.get(path, params={"user_id": user}).json()["request_id"]
            for path in ("/v1/recommendations", "/v1/search")
        ]
        for user in users
    }
    assert [pages(user) for user in users] == [[200, 200]] * 3
    served.delete("/v1/users/u001")
    served.patch("/v1/users/u002", json={"consent": False})
    assert [pages(user) for user in users] == [[404, 404], [404, 404], [200, 200]]


def test_a_tombstone_survives_a_restart_and_keeps_rows_from_landing(
    settings: Settings, stage_release: Release
) -> None:
    stage_release("1")
    with running(settings, Kept()) as url, asking(url) as client:
        wait_for(lambda: client.get("/readyz").status_code == 200)
        for user in ("u001", "u002"):
            client.post("/v1/events", json={"event_type": "view", "user_id": user, "item_id": "i001"})
            client.patch(f"/v1/users/{user}", json={"country": "Spain"})
        client.delete("/v1/users/u001")
    assert set(erasures.read()) == {"u001"}
    for kind in ("events", "users"):
        (landed,) = Path(home() / "lake" / "landing" / kind).glob("*/rows.parquet")
        assert pq.read_table(landed)["user_id"].to_pylist() == ["u002"]
    with running(settings, Kept()) as url, asking(url) as client:
        wait_for(lambda: client.get("/readyz").status_code == 200)
        assert rung(client, user_id="u001") == "popular"
        assert client.get("/v1/users/u001/export").json()["events"] == []
        assert rung(client, user_id="u002") == "personalised"


def test_an_erasure_keeps_no_other_s_rows_from_landing(settings: Settings, stage_release: Release) -> None:
    """Who took the session over since: on a shared machine."""
    stage_release("1")
    view = {"event_type": "view", "session_id": "shared", "item_id": "i001"}
    with running(settings, Kept()) as url, asking(url) as client:
        wait_for(lambda: client.get("/readyz").status_code == 200)
        client.post("/v1/events", json=view)
        client.post("/v1/events", json={**view, "user_id": "u001"})
        client.post("/v1/events", json={**view, "user_id": "u002"})
        assert client.delete("/v1/users/u001").json()["sessions"] == ["shared"]
    (landed,) = Path(home() / "lake" / "landing" / "events").glob("*/rows.parquet")
    assert pq.read_table(landed)["user_id"].to_pylist() == ["u002"]


def test_without_consent_nothing_is_personal(served: httpx.Client) -> None:
    assert rung(served, user_id="u003") == "personalised"
    served.patch("/v1/users/u003", json={"consent": False})
    assert rung(served, user_id="u003") != "personalised"
    served.patch("/v1/users/u003", json={"consent": True})
    assert rung(served, user_id="u003") == "personalised"
