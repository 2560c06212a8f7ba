"""Bootstrap intervals."""

from __future__ import annotations

import numpy as np
import pytest

from engine import intervals


def test_the_interval_is_that_of_the_normal_law_for_many_users() -> None:
    values = np.random.default_rng(0).normal(1.0, 2.0, 2_000)
    found = intervals.of_mean(values, samples=2_000)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)
    assert found == intervals.of_mean(values, samples=2_000)


def test_a_paired_difference_sees_what_two_intervals_do_not() -> None:
    hard = np.random.default_rng(0).normal(0.0, 5.0, 500)
    found = intervals.of_difference(hard + 0.1, hard)
    assert found.above_zero
    assert not intervals.of_mean(hard + 0.1).above_zero


def test_chunks_do_not_change_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(10.0)
    whole = intervals.of_mean(values, samples=50)
    monkeypatch.setattr(intervals, "CHUNK", 40)
    assert intervals.of_mean(values, samples=50) == whole


def test_no_users_no_interval() -> None:
    found = intervals.of_mean(np.array([]))
    assert found.n == 0
    assert np.isnan(found.mean)


def test_other_users_are_refused() -> None:
    with pytest.raises(ValueError, match="same users"):
        intervals.of_difference(np.zeros(2), np.zeros(3))
