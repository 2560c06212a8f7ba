"""Histories that who asks reads for themselves: the same states, and a store that is slow, locked or away makes nobody wait."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from aisle import features
from aisle.settings import Settings
from engine.state import UserState
from serving import promptly
from serving.features import Histories, OnlineStore, Unavailable
from serving.promptly import Promptly
from tests.serving.test_online import ONE, publish_two

STALL = 0.05  # seconds for which a busy machine may hold a thread up


@pytest.fixture
def histories(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Histories]:
    monkeypatch.setattr(promptly, "OWED_SECONDS", 10.0)  # whatever else this machine does
    publish_two(settings)
    found = Histories(settings.model_copy(update={"serving": uncached(settings)}), OnlineStore(settings))
    found.start()
    assert found.settled.wait(30)
    yield found
    found.stop()


def uncached(settings: Settings) -> object:
    return settings.serving.model_copy(update={"feature_cache_seconds": 0, "feature_deadline_seconds": 0.25})


def test_who_asks_reads_what_the_thread_reads(histories: Histories) -> None:
    assert histories.at_once("1") == ONE == histories.of("1")
    assert histories.at_once("nobody") == UserState("nobody")
    asked = threading.active_count()
    assert histories.at_once("2") == histories.of("2")
    assert threading.active_count() == asked


def test_what_was_read_at_once_is_held(settings: Settings) -> None:
    publish_two(settings)
    found = Histories(settings, OnlineStore(settings))
    found.state = "open"  # no thread runs
    assert found.at_once("1") == ONE
    assert found.at_once("1") is found.held("1")


def test_a_locked_store_is_left_to_the_thread_and_its_deadline(histories: Histories) -> None:
    assert histories.at_once("1") == ONE
    with sqlite3.connect(features.folder() / "online.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        assert histories.at_once("1") is None
        assert time.monotonic() - started < STALL
        with pytest.raises(Unavailable, match="features_slow"):
            histories.of("1")
        other.execute("ROLLBACK")
    until = time.monotonic() + 20
    while histories.at_once("1") is None and time.monotonic() < until:
        time.sleep(0.01)
    assert histories.at_once("1") == ONE


def test_a_store_that_is_taken_away_is_told_by_the_thread(histories: Histories) -> None:
    assert histories.at_once("1") == ONE
    os.remove(features.folder() / "online.db")
    assert histories.at_once("1") is None
    with pytest.raises(Unavailable, match="features_down"):
        histories.of("1")
    assert histories.at_once("1") is None


def test_only_one_thread_reads_at_once(histories: Histories) -> None:
    """Another one that tries meanwhile asks the thread; both get the state."""
    store = histories.store
    assert isinstance(store, OnlineStore)
    with store._prompt_lock:
        assert store.at_once("retrieval_v1", "1") is None
    assert store.at_once("retrieval_v1", "1") == ONE


def test_a_store_that_is_not_at_hand_is_asked_by_the_thread(settings: Settings) -> None:
    class Elsewhere:
        def check(self, service: str) -> None: ...

        def read(self, service: str, users: Sequence[str]) -> list[UserState]:
            return [UserState(user) for user in users]

    found = Histories(settings, Elsewhere())
    found.start()
    assert found.settled.wait(5)
    assert found.at_once("u") is None
    assert found.of("u") == UserState("u") == found.at_once("u")
    found.stop()


@pytest.mark.parametrize(("seconds", "least", "most"), [(0.2, 23, 28), (0.015, 340, 390)])
def test_a_slow_store_has_a_small_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch, seconds: float, least: int, most: int
) -> None:
    now, tried = [1000.0], []

    def slow(service: str, user_id: str) -> UserState:
        tried.append(now[0])
        now[0] += seconds
        return UserState(user_id)

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    reads = Promptly(slow)
    while now[0] < 1100:
        reads.read("retrieval_v1", "u")
        now[0] += 0.01
    assert least <= len(tried) <= most


def test_a_read_that_was_held_up_once_is_no_slow_store(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]

    def quick(service: str, user_id: str) -> UserState:
        now[0] += 0.03 if user_id == "held up" else 0.0001
        return UserState(user_id)

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    reads = Promptly(quick)
    assert all(reads.read("retrieval_v1", user) for user in ["held up", *"abc"])


def test_the_event_loop_goes_on_while_the_store_is_locked(histories: Histories) -> None:
    """Two hundred requests of a locked store, each at most some microseconds of the loop's."""

    async def worst_gap() -> float:
        gaps, last = [], time.perf_counter()
        for _ in range(200):
            assert histories.at_once("1") is None
            await asyncio.sleep(0)
            gaps.append(time.perf_counter() - last)
            last = time.perf_counter()
        return sorted(gaps)[190]

    with sqlite3.connect(features.folder() / "online.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert asyncio.run(worst_gap()) < STALL
        other.execute("ROLLBACK")
