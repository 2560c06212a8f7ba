"""What the API takes in, through the real ingest: nothing of it is quarantined, and silver and gold say what the API said."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aisle import lake, status, steps
from aisle.columns import EVENT_TYPES
from aisle.settings import Settings
from aisle.stages import StepContext
from engine.interactions import Events
from engine.state import UserState, from_frame
from jobs import gold
from serving.landing import Landing
from serving.overlay import Overlay
from serving.received import event_row, judge
from serving.rows import models
from serving.sessions import Sessions, without_undone
from serving.told import Row

pytestmark = pytest.mark.spark
NOW = datetime.now(UTC).replace(microsecond=0)
USERS = [f"u{number}" for number in range(8)]
ODD = ["plain", "Zoë 'x'", '用户 "1"', "a,b;c\\n", "<b>", "1e5", "true", "null", "a\u2028b", "🛒" * 20]


def random_event(choice: random.Random, number: int) -> dict[str, Any]:
    """As a sender may word it: edge values of every column that the API lets through."""
    kind = choice.choice(EVENT_TYPES)
    event: dict[str, Any] = {
        "event_id": f"e{number}",
        "event_type": kind,
        "event_time": (NOW - timedelta(seconds=choice.randrange(3_000_000))).isoformat(),
        "user_id": choice.choice([*USERS, None]),
        "session_id": choice.choice(["s1", "s2", *ODD]),
        "item_id": None if kind == "search" and choice.random() < 0.5 else choice.choice([*ODD, "i1", "i2"]),
        "quantity": choice.choice([None, 1e-9, 1, 2.5, 1_000_000]),
        "price": choice.choice([None, 0.005, 0.01, 12, 1_000_000]),
        "value": choice.choice([0, 2.5, 5] if kind == "rating" else [0, -3.5, 1e300]),
        "query": choice.choice([None, "", "a\tb\r\n", *ODD]),
        "position": choice.choice([None, 0, 2**31 - 1]),
        "properties": choice.choice([None, {}, dict(zip(ODD, reversed(ODD), strict=True))]),
    }
    if choice.random() < 0.1:
        event["event_time"] = choice.choice(["1990-01-01T00:00:00Z", (NOW + timedelta(hours=23)).isoformat()])
    return {name: value for name, value in event.items() if value is not None or choice.random() < 0.5}


@pytest.fixture
def shop(spark: Any, settings: Settings) -> Iterator[tuple[Settings, Sessions, Overlay, Landing]]:
    overlay = Overlay()
    sessions = Sessions(settings, overlay.profile)
    log = Landing(settings, [overlay.take, sessions.take], folded=overlay.rows)
    log.start()
    yield settings, sessions, overlay, log
    if log._writer.is_alive():
        log.stop()


def rows_of(found: list[Any], model: Any) -> list[Row]:
    judged = judge(found, model)
    assert not judged.faults, judged.faults
    return [row.columns() for _, row in judged.rows]


def ingest(settings: Settings) -> None:
    steps.run("ingest", settings, StepContext(run_id="test"))


def parts(state: UserState) -> list[tuple[Any, ...]]:
    """Events in the order of their seconds; within one, gold knows the microsecond and the store does not."""
    return sorted(zip(state.event_times, state.item_ids, state.event_types, state.quantities, strict=True))


def test_silver_and_gold_say_what_the_api_said(shop: tuple[Settings, Sessions, Overlay, Landing]) -> None:
    settings, _, overlay, log = shop
    accepted, choice = models(settings), random.Random(20261125)
    events = [random_event(choice, number) for number in range(400)]
    sent = [event_row(row) for row in rows_of(events + events[:50], accepted.event)]
    choice.shuffle(sent)
    halves = sent[:200], sent[200:]
    for part in halves:
        log.append("events", part).result(20)
    items = [
        {
            "item_id": name,
            "title": name,
            "price": price,
            "categories": ODD,
            "attributes": {"a": name},
            "stock": 2**31 - 1,
        }
        for name, price in zip(ODD, [0.005, 1, 1.5, 2.25, 1e6, 3, 4, 5, 6, 7], strict=True)
    ]
    log.append("items", [{"deleted": "false", **row} for row in rows_of(items, accepted.item)]).result(5)
    log.append(
        "items",
        [{"title": "plain", **row} for row in rows_of([{"item_id": "plain", "stock": 3}], accepted.stock)],
    ).result(5)
    log.append("items", [{"item_id": "<b>", "title": "<b>", "deleted": "true"}]).result(5)
    users = [
        {"user_id": user, "country": odd, "attributes": {"a": odd}}
        for user, odd in zip(USERS, ODD, strict=False)
    ]
    log.append("users", rows_of(users, accepted.user)).result(5)
    log.append(
        "users", rows_of([{"user_id": "u1", "language": "fr", "consent": True}], accepted.user)
    ).result(5)
    log.stop()
    ingest(settings)

    for kind, n in (("events", 400), ("items", 12), ("users", 9)):
        row = status.rows()[kind]
        assert (row["rows_in"], row["silver"], row["duplicates"], row["quarantined"]) == (n, n, 0, 0), kind

    silver = lake.read_frame("silver.items").set_index("item_id")
    for item, told in overlay.items.items():
        assert silver["title"][item] == told.get("title")
        assert silver["stock"][item] == overlay.stock(item)
        assert bool(silver["deleted"][item]) == told.get("deleted")
        assert abs(float(silver["price"][item]) - told.get("price")) <= 0.005
        assert list(silver["categories"][item]) == told.get("categories")
    people = lake.read_frame("silver.users").set_index("user_id")
    for user in USERS:
        assert people["country"][user] == overlay.profile(user).country
    assert people["language"]["u1"] == "fr"

    gold.run(
        settings,
        StepContext(as_of=(NOW + timedelta(days=2)).replace(hour=0, minute=0, second=0), run_id="test"),
    )
    history = (
        lake.read_frame("gold.user_history").sort_values("as_of").drop_duplicates("user_id", keep="last")
    )
    states = {state.user_id: state for state in from_frame(history)}
    assert set(states) == set(USERS)
    silently = Sessions(
        settings
    )  # without the sessions that anonymous events came from: gold knows users' own alone
    silently.take(
        "events",
        [{"at": place, **row, "session_id": None} for place, row in enumerate(sent, 1) if row.get("user_id")],
    )
    for user, state in states.items():
        assert parts(silently.merged(UserState(user), user, None)) == parts(without_undone(state))
        assert parts(silently.merged(state, user, None)) == parts(
            silently.merged(UserState(user), user, None)
        )


def test_what_was_cleared_or_taken_back_is_so_in_silver_and_gold(
    shop: tuple[Settings, Sessions, Overlay, Landing],
) -> None:
    settings, _, overlay, log = shop
    accepted = models(settings)

    def patched(model: Any, **change: Any) -> Row:
        (row,) = rows_of([change], model)
        return row

    lamp = {
        "item_id": "i1",
        "title": "Lamp",
        "categories": ["Lights"],
        "brand": "Own",
        "description": "Bright",
    }
    log.append(
        "items", [{"deleted": "false", **row} for row in rows_of([{**lamp, "price": 2}], accepted.item)]
    )
    cleared = patched(accepted.patch, categories=None, brand=None, tags=None, attributes=None)
    log.append("items", [{"item_id": "i1", "title": "Lamp", **cleared}])
    people = [{"user_id": user, "country": "France", "language": "fr"} for user in ("u1", "u2")]
    log.append("users", rows_of(people, accepted.user))
    log.append("users", [{"user_id": "u1", **patched(accepted.profile, country=None)}])
    then = [NOW - timedelta(days=days) for days in (9, 8, 7)]
    said = [
        ("u1", "rating", then[0]),
        ("u1", "unrate", then[1]),
        ("u2", "unrate", then[0]),
        ("u2", "rating", then[2]),
    ]
    events = [
        {"event_type": kind, "user_id": user, "item_id": "i1", "event_time": moment.isoformat()}
        | ({"value": 4} if kind == "rating" else {})
        for user, kind, moment in said
    ]
    log.append("events", [event_row(row) for row in rows_of(events, accepted.event)]).result(20)
    log.stop()
    ingest(settings)

    assert {kind: status.rows()[kind]["quarantined"] for kind in ("events", "items", "users")} == {
        "events": 0,
        "items": 0,
        "users": 0,
    }
    item = lake.read_frame("silver.items").set_index("item_id").loc["i1"]
    assert (list(item["categories"]), item["brand"], item["description"]) == ([], "", "Bright")
    assert (overlay.items["i1"].get("categories"), overlay.items["i1"].get("brand")) == ([], "")
    known = lake.read_frame("silver.users").set_index("user_id")
    assert (known["country"]["u1"], known["language"]["u1"], known["country"]["u2"]) == ("", "fr", "France")

    midnight = NOW.replace(hour=0, minute=0, second=0)
    gold.run(settings, StepContext(as_of=midnight - timedelta(days=6), run_id="test"))
    newest = lake.read_frame("gold.user_stats").sort_values("as_of").drop_duplicates("user_id", keep="last")
    countries = newest.set_index("user_id")["country"]
    assert countries["u1"] is None
    history = (
        lake.read_frame("gold.user_history").sort_values("as_of").drop_duplicates("user_id", keep="last")
    )
    weights = {"rating": 0.5}
    states = from_frame(history)
    net = Events.of(states, {"i1": 0}, NOW, weights).matrix().toarray().ravel()
    assert dict(zip((state.user_id for state in states), net.tolist(), strict=True)) == {"u1": 0.0, "u2": 0.5}
