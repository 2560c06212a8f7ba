"""The paired bootstrap, as the gate uses it, against what is known of it."""

from __future__ import annotations

import numpy as np
import pytest

from engine.intervals import bounds, resampled_means
from monitoring.intervals import least_differing, relative


def test_the_interval_is_that_of_the_normal_approximation_on_many_users() -> None:
    values = np.random.default_rng(0).normal(2.0, 1.0, (4000, 1))
    low, high = bounds(resampled_means(values, 2000, seed=1), 0.95)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert low[0] == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert high[0] == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_pairing_cancels_what_both_models_share() -> None:
    rng = np.random.default_rng(0)
    hard = rng.uniform(0, 1, 1000)
    pairs = np.column_stack([hard * 1.02, hard])
    drawn = resampled_means(pairs, 500, seed=1)
    low, high = bounds(relative(drawn[:, :1], drawn[:, 1:]), 0.95)
    assert low[0] == pytest.approx(0.02)
    assert high[0] == pytest.approx(0.02)


def test_the_same_seed_gives_the_same_draws_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).uniform(size=(300, 2))
    first = resampled_means(values, 50, seed=3)
    monkeypatch.setattr("engine.intervals.CHUNK", 900)
    assert np.allclose(first, resampled_means(values, 50, seed=3))


@pytest.mark.parametrize(("confidence", "few"), [(0.9, 5), (0.95, 6), (0.99, 8)])
def test_fewer_differing_users_could_not_prove_anything(confidence: float, few: int) -> None:
    assert least_differing(confidence) == few
    assert 2 * 0.5**few <= 1 - confidence < 2 * 0.5 ** (few - 1)
