"""Each source finds the structure of the shop, and comes back from its arrays unchanged."""

from __future__ import annotations

import numpy as np
import pytest

from engine import bundle
from engine.interactions import Catalogue, Events
from engine.sources import FROM_HISTORIES
from engine.sources.linear import Linear
from engine.sources.neighbours import keep_largest
from engine.sources.popularity import Popularity
from engine.sources.two_tower import TwoTower
from engine.state import UserState, from_frame
from tests.engine.shop import CUT, N_ITEMS, WEIGHTS, frames, tower


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.of(frames()[0])


@pytest.fixture(scope="module")
def events(catalogue: Catalogue) -> Events:
    return Events.of(from_frame(frames()[1]), catalogue.index, CUT, WEIGHTS)


@pytest.fixture(scope="module", params=[*FROM_HISTORIES, TwoTower.name])
def source(request, catalogue: Catalogue, events: Events):
    if request.param == TwoTower.name:
        return TwoTower.fit(tower(), catalogue)
    return FROM_HISTORIES[request.param].fit(events, catalogue)


def test_scores_are_whole(source, events: Events) -> None:
    found = source.scores(events)
    assert found.shape == (events.n_users, N_ITEMS)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_arrays_bring_the_source_back(source, events: Events) -> None:
    again = type(source).from_arrays(bundle.unpack_arrays(bundle.pack_arrays(source.arrays())))
    np.testing.assert_array_equal(again.scores(events), source.scores(events))


def test_users_are_scored_alone_as_in_company(source, events: Events, catalogue: Catalogue) -> None:
    alone = Events.of(events.states[5:6], catalogue.index, CUT, WEIGHTS)
    np.testing.assert_allclose(source.scores(alone)[0], source.scores(events)[5], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["item_item", "linear"])
def test_neighbours_are_of_the_same_taste(name: str, events: Events, catalogue: Catalogue) -> None:
    found = FROM_HISTORIES[name].fit(events, catalogue).scores(events)
    half = N_ITEMS // 2
    own = np.where(
        np.arange(events.n_users) % 2 == 0, found[:, :half].mean(axis=1), found[:, half:].mean(axis=1)
    )
    other = np.where(
        np.arange(events.n_users) % 2 == 0, found[:, half:].mean(axis=1), found[:, :half].mean(axis=1)
    )
    assert (own > other).all()


def test_linear_solves_the_ridge_of_each_item_on_the_others(events: Events, catalogue: Catalogue) -> None:
    x = events.tastes(90.0).toarray().astype(float)
    fitted = Linear.fit(
        events, catalogue, ridge=3.0, half_life_days=90.0, neighbours=N_ITEMS
    ).weights.toarray()
    others = np.arange(1, N_ITEMS)
    gram = x[:, others].T @ x[:, others] + 3.0 * np.eye(len(others))
    np.testing.assert_allclose(fitted[others, 0], np.linalg.solve(gram, x[:, others].T @ x[:, 0]), atol=1e-4)
    assert not np.diag(fitted).any()


def test_a_small_country_is_drawn_to_the_whole(catalogue: Catalogue) -> None:
    one = UserState("u", "Malta", ["item 39"], ["purchase"], [int(CUT.timestamp()) - 9], [1.0])
    fitted = Popularity.fit(Events.of([one], catalogue.index, CUT, WEIGHTS), catalogue)
    assert fitted.of_country("Malta").argmax() == fitted.overall.argmax()
    assert fitted.of_country("Malta")[39] > fitted.overall[39]
    np.testing.assert_array_equal(fitted.of_country("Atlantis"), fitted.overall)


def test_the_tower_never_prefers_what_it_does_not_know(events: Events, catalogue: Catalogue) -> None:
    found = TwoTower.fit(tower(), catalogue).scores(events)
    assert (found[:, N_ITEMS // 2 :] <= found[:, : N_ITEMS // 2].min(axis=1, keepdims=True)).all()


def test_keep_largest_keeps_each_columns_best() -> None:
    weights = np.array([[0.0, 5.0, 1.0], [-3.0, 0.0, 2.0], [2.0, 4.0, 0.0]])
    assert keep_largest(weights, 1).toarray().tolist() == [[0, 5, 0], [-3, 0, 2], [0, 0, 0]]


def buyers(country: str, item: str, count: int) -> list[UserState]:
    when = [int(CUT.timestamp()) - 9]
    return [
        UserState(f"{country}-{item}-{number}", country, [item], ["purchase"], when, [1.0])
        for number in range(count)
    ]


def test_a_country_is_named_where_enough_buy_it_and_more_than_elsewhere(catalogue: Catalogue) -> None:
    states = [
        *buyers("Iceland", "item 01", 1),
        *buyers("Malta", "item 02", 5),
        *buyers("Malta", "item 03", 5),
        *buyers("Spain", "item 03", 30),
        *buyers("Spain", "item 04", 4),
    ]
    events = Events.of(states, catalogue.index, CUT, WEIGHTS)
    fitted = Popularity.fit(events, catalogue)
    named = {
        (country, item): fitted.named(country, catalogue.index[f"item {item}"])
        for country in ("Iceland", "Malta", "Spain", "Nowhere", None)
        for item in ("01", "02", "03", "04")
    }
    assert {key for key, country in named.items() if country} == {("Malta", "02"), ("Spain", "03")}
    assert named["Malta", "02"] == "Malta"
    first = Events.of(states[:1], catalogue.index, CUT, WEIGHTS)
    assert fitted.evidence(first, catalogue.index["item 01"]) == {"popular_in": None}


def test_a_bundle_of_before_names_no_country(events: Events, catalogue: Catalogue) -> None:
    fitted = Popularity.fit(events, catalogue)
    older = {name: array for name, array in fitted.arrays().items() if name != "local"}
    again = Popularity.from_arrays(older)
    np.testing.assert_array_equal(again.scores(events), fitted.scores(events))
    assert fitted.local.any()
    assert not again.local.any()
