"""Work beside requests rests as it is told to, and does not where nobody told it."""

from __future__ import annotations

import threading
import time

import pytest

from engine import pauses
from engine.pauses import breathe, resting


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(pauses.time, "sleep", found.append)
    return found


def work(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_it_rests_in_proportion_to_its_work(rests: list[float]) -> None:
    with resting(0.25):
        work(0.004)
        breathe()
        breathe()  # nothing was done since
    assert len(rests) == 1
    assert 0.012 <= rests[0] <= pauses.LONGEST
    with resting(0.01):
        work(0.004)
        breathe()
    assert rests[1] == pauses.LONGEST


def test_nobody_else_rests(rests: list[float]) -> None:
    breathe()
    with resting(None):
        work(0.003)
        breathe()
    with resting(0.5):
        other = threading.Thread(target=lambda: (work(0.003), breathe()))
        other.start()
        other.join()
        with resting(None):
            work(0.003)
            breathe()
    work(0.003)
    breathe()
    assert rests == []
