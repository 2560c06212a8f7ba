"""Histories within a deadline: a store that is slow, down or back again costs an answer its history only."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from aisle.settings import Settings
from engine.state import UserState
from serving import features
from serving.features import Histories, Unavailable


class Slow:
    """An online store whose speed and health a test sets."""

    def __init__(self) -> None:
        self.seconds, self.healthy = 0.0, True
        self.reads: list[list[str]] = []

    def check(self, service: str) -> None: ...

    def read(self, service: str, users: Sequence[str]) -> list[UserState]:
        self.reads.append(list(users))
        time.sleep(self.seconds)
        if not self.healthy:
            raise ConnectionError("the store is away")
        return [UserState(user, "France", ["i1"], ["purchase"], [1], [1.0]) for user in users]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Slow:
    monkeypatch.setattr(features, "RETRY_SECONDS", 0.05)
    return Slow()


@pytest.fixture
def histories(settings: Settings, store: Slow) -> Iterator[Histories]:
    found = Histories(settings, store)
    found.start()
    assert found.settled.wait(5)
    yield found
    found.stop()


def test_a_history_is_read_once_for_a_while(histories: Histories, store: Slow) -> None:
    assert histories.of("u1").item_ids == ["i1"]
    assert histories.of("u1") is histories.of("u1")
    assert store.reads[1:] == [["u1"]]


def test_users_that_come_together_are_read_together(histories: Histories, store: Slow) -> None:
    store.seconds = 0.1
    with ThreadPoolExecutor(30) as pool:
        users = [f"u{number % 20}" for number in range(30)]
        assert [state.user_id for state in pool.map(histories.of, users)] == users
    assert len(store.reads) <= 4
    assert len({user for read in store.reads for user in read}) == 21


def test_a_slow_store_costs_the_deadline_and_no_more(histories: Histories, store: Slow) -> None:
    store.seconds = 1.0
    started = time.monotonic()
    with pytest.raises(Unavailable, match="features_slow"):
        histories.of("u1")
    assert time.monotonic() - started < 0.6


def test_a_store_that_goes_away_comes_back(histories: Histories, store: Slow) -> None:
    store.healthy = False
    with pytest.raises(Unavailable, match="features_down"):
        histories.of("u1")
    started = time.monotonic()
    with pytest.raises(Unavailable, match="features_down"):
        histories.of("u1")
    assert time.monotonic() - started < 0.05
    store.healthy = True
    until = time.monotonic() + 5
    while histories.state != "open" and time.monotonic() < until:
        time.sleep(0.01)
    assert histories.of("u1").country == "France"


def test_before_it_is_open_nobody_waits(settings: Settings) -> None:
    gate = threading.Event()

    class Opening(Slow):
        def read(self, service: str, users: Sequence[str]) -> list[UserState]:
            gate.wait(5)
            return [UserState(user) for user in users]

    histories = Histories(settings, Opening())
    histories.start()
    with pytest.raises(Unavailable, match="features_opening"):
        histories.of("u1")
    gate.set()
    assert histories.settled.wait(5)
    assert histories.of("u1") == UserState("u1")
    histories.stop()


def test_a_new_service_forgets_what_was_read(histories: Histories, store: Slow) -> None:
    histories.of("u1")
    histories.follow("retrieval_v2")
    histories.of("u1")
    assert store.reads[1:] == [["u1"], ["u1"]]
