"""What is kept of answers: bounded, exact, and made again before it is asked for."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import numpy as np
import pytest

from aisle import features, lake
from aisle.features import Built
from engine.state import UserState
from serving.asking import Ask
from serving.cached import Asked, Lru, Named, etag_of, fingerprint, key_of
from serving.prepared import busiest
from tests.serving.test_beside import until
from tests.serving.test_ladder import Slow, api_over

STATE = UserState("u", "France", ["a", "b"], ["view", "view"], [2, 1])


def test_an_lru_is_bounded_in_number_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("serving.cached.time.monotonic", lambda: now[0])
    held: Lru[int] = Lru(2, 10.0)
    held.put("a", 1)
    held.put("b", 2)
    assert held.get("a") == 1
    held.put("c", 3)
    assert (held.get("a"), held.get("b"), held.get("c"), len(held)) == (1, None, 3, 2)
    now[0] = 10.0
    assert (held.get("a"), len(held)) == (None, 1)
    none: Lru[int] = Lru(0, 10.0)
    none.put("a", 1)
    assert none.get("a") is None


def test_an_lru_stands_many_threads() -> None:
    held: Lru[int] = Lru(50, 10.0)

    def work(start: int) -> None:
        for number in range(2000):
            held.put((start + number) % 80, number)
            held.get(number % 80)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(held) == 50


def test_ids_are_those_of_the_rows_in_their_order() -> None:
    found = Named(["a", "b", "c"], np.array([2, 0]))
    assert (list(found), len(found), "c" in found, "b" in found) == (["c", "a"], 2, True, False)


def test_a_key_changes_with_all_that_an_answer_depends_on() -> None:
    ask = Ask(user_id="u")
    key = key_of(ask, STATE, ("1", "d", 0), 3, ())
    others = [
        key_of(Ask(user_id="u", k=9), STATE, ("1", "d", 0), 3, ()),
        key_of(ask, STATE, ("2", "d", 0), 3, ()),
        key_of(ask, STATE, ("1", "d", 1), 3, ()),
        key_of(ask, STATE, ("1", "d", 0), 4, ()),
        key_of(ask, UserState("u", "France", ["a", "c"], ["view", "view"], [2, 1]), ("1", "d", 0), 3, ()),
        key_of(ask, STATE, ("1", "d", 0), 3, ("features_slow",)),
    ]
    assert len({key, *others}) == len({etag_of(each) for each in (key, *others)}) == 7
    assert fingerprint(STATE) == "26497b28493f51ee98f3743c", "the same in every process"


def test_strangers_of_a_country_share_a_list_whatever_they_are_called() -> None:
    keys = {
        key_of(
            Ask(user_id=user, session_id=session, country="France"),
            UserState(user or "", "France"),
            (),
            0,
            (),
        )
        for user, session in (("x", None), ("y", "s"), (None, "s"), (None, None))
    }
    assert len(keys) == 1


def test_the_most_asked_are_counted_in_bounded_memory() -> None:
    asked = Asked(10)
    for number in range(100):
        asked.count(Ask(k=1 + number % 3 if number % 2 else number))
    assert len(asked._counts) <= 10
    assert {ask.k for ask in asked.most_common(3)} <= {1, 2, 3}


def test_lists_are_made_again_after_a_stock_change_every_so_often(
    aisle_home, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = {"ANSWERS__CACHED": "100", "ANSWERS__PREPARED_USERS": "0", "ANSWERS__PREPARED_SECONDS": "2.5"}
    with api_over(Slow(), monkeypatch, **every) as (client, app):
        service = app.state.service
        made = service.prepared.made._value.get
        whole = 2 * (1 + len(service.live.current.recommender.countries))
        until(lambda: made() >= whole)
        began = time.monotonic()
        for pieces in range(5):
            assert client.put("/v1/items/i003/stock", json={"stock": pieces}).status_code == 202
        until(lambda: made() >= 2 * whole)
        misses = service.figures.cache.labels("lists", "miss")._value.get
        before = misses()
        assert client.get("/v1/recommendations", params={"country": "France"}).status_code == 200
        assert misses() == before, "it was made beforehand, with the stock as it is"
        for pieces in range(10):
            client.put("/v1/items/i003/stock", json={"stock": pieces})
            time.sleep(0.1)
        until(lambda: made() >= 3 * whole)
        rounds = made() / whole
        assert rounds - 1 <= 1 + (time.monotonic() - began) / 2.5


def test_lists_are_made_before_they_are_asked_for(aisle_home, monkeypatch: pytest.MonkeyPatch) -> None:
    as_of = datetime(2011, 11, 1, tzinfo=UTC)
    rows = [{"user_id": f"u{n:03d}", "as_of": as_of, "n_events": n} for n in range(10)]
    lake.append("gold.user_stats", rows)
    features.note_built(Built(as_of.isoformat(), [as_of.isoformat()], {}))
    assert busiest(3) == ["u009", "u008", "u007"]
    with api_over(Slow(), monkeypatch, ANSWERS__CACHED="100", ANSWERS__PREPARED_USERS="3") as (client, app):
        service = app.state.service
        until(lambda: service.prepared.made._value.get() >= 11)
        for params in ({"user_id": "u009"}, {"country": "France"}, {}):
            assert client.get("/v1/recommendations", params=params).status_code == 200
        assert service.figures.cache.labels("lists", "hit")._value.get() == 3
        assert service.figures.cache.labels("lists", "miss")._value.get() == 0
        client.get("/v1/popular", params={"category": "c1"})
        made = service.prepared.made._value.get()
        assert client.put("/v1/rules", json={"all": {"exclude": ["i001"]}}).status_code == 200
        until(lambda: service.prepared.made._value.get() >= made + 12)
        hits = service.figures.cache.labels("lists", "hit")._value.get()
        again = client.get("/v1/popular", params={"category": "c1", "k": 10})
        assert "i001" not in {each["item_id"] for each in again.json()["items"]}
        assert service.figures.cache.labels("lists", "hit")._value.get() == hits + 1
