"""The towers' forward pass, against the same sums written out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from engine.state import UserState, epoch
from engine.towers import history_arrays, user_vectors
from tests.engine.shop import CUT, WEIGHTS, tower


def state(*rows: tuple[str, str, float], country: str | None = "Japan") -> UserState:
    items, kinds, ages = zip(*rows, strict=True) if rows else ((), (), ())
    return UserState("u", country, items, kinds, [int(epoch(CUT) - age * 86_400) for age in ages])


def test_a_user_vector_is_the_sum_of_its_parts() -> None:
    export = tower()
    asked = state(("item 03", "purchase", 60), ("nowhere", "purchase", 1), ("item 05", "return", 0))
    e = export.history_embeddings
    pooled = (0.5 * e[3] - 1.0 * e[5]) / 1.5
    x = np.concatenate([pooled, export.country_embeddings[2], [np.log1p(2)]])
    (first, bias, _), (second, last, _) = export.layers
    expected = np.maximum(x @ first + bias, 0) @ second + last
    found = user_vectors(export, [asked], CUT)
    np.testing.assert_allclose(found[0], expected / np.linalg.norm(expected), rtol=1e-5)
    assert found.dtype == np.float32


def test_nobody_from_nowhere_has_a_vector() -> None:
    found = user_vectors(tower(), [state(country="Atlantis")], CUT)
    assert np.isfinite(found).all()
    assert np.linalg.norm(found[0]) == pytest.approx(1.0, rel=1e-5)


def test_only_the_newest_known_items_are_read() -> None:
    rows = [("nowhere", "purchase", 0.0)] + [(f"item {i:02d}", "purchase", float(i)) for i in range(9)]
    found, weights = history_arrays([state(*rows)], CUT, tower().item_index, WEIGHTS, 60.0, 5)
    assert found.tolist() == [[0, 1, 2, 3, 4]]
    assert (np.diff(weights[0]) < 0).all()


def test_each_state_may_have_its_own_moment() -> None:
    asked = state(("item 01", "purchase", 0))
    moments = [CUT, CUT + timedelta(days=60)]
    _, weights = history_arrays([asked, asked], moments, tower().item_index, WEIGHTS, 60.0, 1)
    assert weights.ravel().tolist() == pytest.approx([1.0, 0.5])


def test_users_do_not_see_each_other() -> None:
    export = tower()
    alone = user_vectors(export, [state(("item 01", "purchase", 3))], CUT)
    beside = user_vectors(export, [state(), state(("item 01", "purchase", 3))], CUT)
    np.testing.assert_allclose(alone[0], beside[1], rtol=1e-6)
    assert not np.allclose(
        user_vectors(replace(export, event_weights={}), [state(("item 01", "purchase", 3))], CUT), alone
    )
