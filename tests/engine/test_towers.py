"""The towers' forward pass, against the same sums written out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from engine.interactions import Catalogue, Events
from engine.sources.two_tower import TwoTower
from engine.state import UserState, epoch
from engine.towers import history_arrays, read, user_vectors, without_each
from tests.engine.shop import CUT, WEIGHTS, frames, tower


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


def test_without_an_item_a_user_is_who_never_had_it() -> None:
    rows = [
        ("item 01", "purchase", 1),
        ("item 02", "return", 2),
        ("item 03", "purchase", 3),
        ("item 01", "purchase", 4),
    ]
    asked = state(*rows)
    told = [each[0] for each in read(tower(), [asked], CUT)]
    tried, found = without_each(tower(), asked, *told, 5)
    assert tried.tolist() == [1, 3], "newest first, and only what speaks for something"
    for vector, item in zip(found, ("", "item 01", "item 03"), strict=True):
        alone = user_vectors(tower(), [state(*(row for row in rows if row[0] != item))], CUT)[0]
        np.testing.assert_allclose(vector, alone, rtol=1e-4, atol=1e-6)
    assert without_each(tower(), asked, *told, 1)[0].tolist() == [1]
    assert without_each(tower(), asked, told[0], told[1] * 0, 5)[1].shape == (1, 6)


def test_the_towers_evidence_is_the_item_that_the_score_falls_most_without() -> None:
    catalogue = Catalogue.of(frames()[0][1:])  # the shop took item 00 out
    source = TwoTower.fit(tower(), catalogue)
    rows = [(f"item {n:02d}", "purchase", float(n)) for n in (0, 4, 7, 11)]
    asked = state(*rows)
    events = Events.of([asked], catalogue.index, CUT, WEIGHTS)
    whole = source.scores(events)[0]
    fall = np.array(
        [
            whole - source.scores(Events.of([state(*(each for each in rows if each != row))], catalogue.index, CUT, WEIGHTS))[0]
            for row in rows[1:]
        ]
    )  # fmt: skip
    items = np.arange(15)
    for item, told in enumerate(source.evidences(events, items)):
        assert told["taste"]
        if fall[:, item].max() <= 0:
            assert "item" not in told
            continue
        best = fall[:, item].argmax()
        assert catalogue.item_ids[told["item"]] == rows[1:][best][0]
        share = fall[best, item] / np.maximum(fall[:, item], 0).sum()
        assert told["share"] == pytest.approx(share, abs=2e-3)
    assert len({each.get("item") for each in source.evidences(events, items)}) > 1
    assert source.evidences(Events.of([state()], catalogue.index, CUT, WEIGHTS), items) == [None] * 15


def test_users_do_not_see_each_other() -> None:
    export = tower()
    alone = user_vectors(export, [state(("item 01", "purchase", 3))], CUT)
    beside = user_vectors(export, [state(), state(("item 01", "purchase", 3))], CUT)
    np.testing.assert_allclose(alone[0], beside[1], rtol=1e-6)
    assert not np.allclose(
        user_vectors(replace(export, event_weights={}), [state(("item 01", "purchase", 3))], CUT), alone
    )
