"""The graph source: its two filters against their definitions, and what a user's history moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine import bundle
from engine.blend import normalise
from engine.interactions import Catalogue, Events
from engine.sources.graph import Graph, directions
from engine.state import UserState, from_frame
from tests.engine.shop import CUT, N_ITEMS, WEIGHTS, frames


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.of(frames()[0])


@pytest.fixture(scope="module")
def events(catalogue: Catalogue) -> Events:
    return Events.of(from_frame(frames()[1]), catalogue.index, CUT, WEIGHTS)


def test_scores_are_both_filters_written_out(events: Events, catalogue: Catalogue) -> None:
    fitted = Graph.fit(events, catalogue, user=0.6, history=0.5, target=0.3, balance=0.4, rank=5, share=0.7)
    r = events.owned().toarray().astype(float)
    d_u, d_i = r.sum(axis=1), r.sum(axis=0)
    walk = np.diag(d_i**-0.5) @ r.T @ np.diag(d_u**-0.6) @ r @ np.diag(d_i**-0.3)
    np.fill_diagonal(walk, 0.0)
    _, _, v = np.linalg.svd(np.diag(d_u**-0.4) @ r @ np.diag(d_i**-0.4))
    smooth = np.diag(d_i**-0.4) @ v[:5].T @ v[:5] @ np.diag(d_i**0.2)
    tastes = events.tastes(60.0).toarray()
    wanted = normalise(tastes @ walk) + 0.7 * normalise(tastes @ smooth)
    np.testing.assert_allclose(fitted.scores(events), wanted, atol=2e-2)


def test_directions_span_the_leading_singular_vectors(events: Events) -> None:
    taken = events.owned()
    found = directions(taken, 4, seed=1, rounds=4)
    _, _, v = np.linalg.svd(taken.toarray())
    np.testing.assert_allclose(np.abs(found.T @ v[:4].T), np.eye(4), atol=1e-2)


def test_each_item_keeps_its_strongest_neighbours(events: Events, catalogue: Catalogue) -> None:
    few, many = (Graph.fit(events, catalogue, neighbours=n).steps.toarray() for n in (3, N_ITEMS))
    kept = few != 0
    assert (kept.sum(axis=0) >= 3).all()
    np.testing.assert_array_equal(few[kept], many[kept])
    least = np.where(kept, many, np.inf).min(axis=0)
    assert (np.where(kept, 0.0, many).max(axis=0) <= least).all()


def test_a_taste_is_led_to_its_own_half(events: Events, catalogue: Catalogue) -> None:
    fitted = Graph.fit(events, catalogue)
    when = [int(CUT.timestamp()) - 9]
    one = [UserState("u", "Japan", ["item 25"], ["purchase"], when, [1.0])]
    found = fitted.scores(Events.of(one, catalogue.index, CUT, WEIGHTS))[0]
    half = N_ITEMS // 2
    assert np.delete(found[half:], 25 - half).mean() > found[:half].mean() + 1.0


def test_evidence_is_of_the_history_and_of_the_same_half(events: Events, catalogue: Catalogue) -> None:
    fitted = Graph.fit(events, catalogue)
    states = [UserState("u", None, ["item 03", "item 30"], ["purchase"] * 2, [int(CUT.timestamp()) - 9] * 2)]
    mine = Events.of(states, catalogue.index, CUT, WEIGHTS)
    assert fitted.evidence(mine, 5)["item"] == 3
    assert fitted.evidence(mine, 35)["item"] == 30
    nobody = Events.of([UserState("n")], catalogue.index, CUT, WEIGHTS)
    assert fitted.evidence(nobody, 5) is None
    assert not fitted.scores(nobody).any()


def test_an_item_without_buyers_is_scored_and_stored_sound(events: Events, catalogue: Catalogue) -> None:
    kept = events.item != 7
    fields = {name: getattr(events, name)[kept] for name in ("user", "item", "weight", "age")}
    without = replace(events, **fields)
    fitted = Graph.fit(without, catalogue)
    assert np.isfinite(fitted.scores(without)).all()
    again = Graph.from_arrays(bundle.unpack_arrays(bundle.pack_arrays(fitted.arrays())))
    np.testing.assert_array_equal(again.scores(without), fitted.scores(without))
    assert fitted.after[7] == 0
    assert not fitted.steps[:, [7]].nnz


def test_a_shop_without_an_event_has_a_graph_that_knows_nothing(catalogue: Catalogue) -> None:
    nobody = Events.of([UserState("n")], catalogue.index, CUT, WEIGHTS)
    assert not Graph.fit(nobody, catalogue).scores(nobody).any()
