"""Every answer is on record with what was shown, and nobody waits for it."""

from __future__ import annotations

import json
import threading
import time

import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry

from aisle import lake
from serving.exposures import EVERY, Exposure, Exposures, Shown
from tests.serving.test_ladder import Slow, api_over

ONE = Exposure("r", 0.0, "u", None, "1", "", "popular", None, "popular", [Shown("i", 1, "popularity", 0.5)])


def landed() -> list[dict]:
    return [
        row
        for path in lake.landing("exposures").glob("*/rows.parquet")
        for row in pq.read_table(path).to_pylist()
    ]


def test_answers_land_with_all_that_outcomes_need(aisle_home, monkeypatch: pytest.MonkeyPatch) -> None:
    with api_over(Slow(), monkeypatch) as (client, _):
        body = {
            "user_id": "u001",
            "session_id": "s",
            "k": 3,
            "placement": "home",
            "rules": {"exclude": ["i001"]},
        }
        first = client.post("/v1/recommendations", json=body).json()
        turned = {"user_id": "u001", "session_id": "s", "page": 2, "request_id": first["request_id"]}
        second = client.post("/v1/recommendations", json=turned).json()
        client.get("/v1/popular", params={"k": 2})
        client.post("/v1/explain", json={"question": body})
        client.get("/", params={"user_id": "u001"})
        cached = client.get("/v1/popular", params={"k": 2})
        assert (
            client.get(
                "/v1/popular", params={"k": 2}, headers={"If-None-Match": cached.headers["etag"]}
            ).status_code
            == 304
        )
    rows = sorted(landed(), key=lambda row: row["served_at"])
    assert [row["kind"] for row in rows] == ["recommendations", "recommendations", "popular", "popular"]
    row = rows[0]
    wanted = {"request_id": first["request_id"], "user_id": "u001", "session_id": "s", "model_version": "1"}
    assert wanted | {"rung": "personalised", "placement": "home", "variant": ""} == {
        name: row[name] for name in (*wanted, "rung", "placement", "variant")
    }
    items = json.loads(row["items"])
    assert [each["item_id"] for each in items] == [each["item_id"] for each in first["items"]]
    assert [each["position"] for each in items] == [1, 2, 3]
    assert [each["score"] for each in items] == [each["score"] for each in first["items"]]
    assert {each["propensity"] for each in items} == {1.0}
    assert [each["source"] for each in items] == [each["reason"]["source"] for each in first["items"]]
    assert rows[1]["request_id"] == first["request_id"]
    assert [each["position"] for each in json.loads(rows[1]["items"])] == [4, 5, 6]
    assert second["page"] == 2
    assert (rows[2]["user_id"], rows[2]["rung"]) == ("", "popular")


def test_a_full_log_drops_and_counts_and_holds_up_nobody() -> None:
    go_on, taken = threading.Event(), []

    def offer(kind: str, rows: list[dict]) -> bool:
        go_on.wait(10)
        taken.extend(rows)
        return True

    exposures = Exposures(50, offer, CollectorRegistry())
    exposures.start()
    exposures.log(ONE)
    time.sleep(EVERY * 2)  # it is at work now, and waits
    started = time.monotonic()
    for _ in range(80):
        exposures.log(ONE)
    assert time.monotonic() - started < 0.5
    go_on.set()
    exposures.stop()
    assert len(taken) == 51
    assert exposures.dropped._value.get() == 30
    assert exposures.logged._value.get() == 51


def test_what_the_journal_turns_away_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    exposures = Exposures(50, lambda kind, rows: False, CollectorRegistry())
    exposures.start()
    exposures.log(ONE)
    exposures.stop()
    assert exposures.dropped._value.get() == 1
