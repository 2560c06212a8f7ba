"""Each source finds the structure of the shop, and comes back from its arrays unchanged."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from engine import bundle
from engine.interactions import Catalogue, Events
from engine.sources import FROM_HISTORIES
from engine.sources import linear as linear_module
from engine.sources import next_bought as next_module
from engine.sources.factors import Factors
from engine.sources.graph import Graph
from engine.sources.item_item import ItemItem
from engine.sources.linear import Linear
from engine.sources.neighbours import Over, keep_largest, keep_largest_of_rows, nearest
from engine.sources.next_bought import NextBought
from engine.sources.people import People
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


HISTORIES = {**FROM_HISTORIES, **{kind.name: kind for kind in (Graph, Factors, People)}}


@pytest.fixture(scope="module", params=[*HISTORIES, TwoTower.name])
def source(request, catalogue: Catalogue, events: Events):
    if request.param == TwoTower.name:
        return TwoTower.fit(tower(), catalogue)
    return HISTORIES[request.param].fit(events, catalogue)


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


@pytest.mark.parametrize("name", ["item_item", "linear", "graph", "factors", "people"])
def test_neighbours_are_of_the_same_taste(name: str, events: Events, catalogue: Catalogue) -> None:
    found = HISTORIES[name].fit(events, catalogue).scores(events)
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


def test_a_neighbourhood_of_all_items_is_the_whole_regression(
    events: Events, catalogue: Catalogue, monkeypatch
) -> None:
    exact = Linear.fit(events, catalogue, neighbours=N_ITEMS).weights.toarray()
    monkeypatch.setattr(linear_module, "WHOLE", N_ITEMS - 1)
    near = Linear.fit(events, catalogue, nearby=N_ITEMS).weights.toarray()
    common = (events.owned().T @ events.owned()).toarray() > 0
    assert (near[~common] == 0).all()
    np.testing.assert_allclose(near[common], exact[common], atol=0.02)
    few = Linear.fit(events, catalogue, nearby=4).weights.toarray()
    assert (np.count_nonzero(few, axis=0) <= 8).all()


def test_a_submatrix_is_read_from_what_the_cut_left(events: Events) -> None:
    gram = sparse.csr_array([[4.0, 2.0, 0.0], [0.0, 3.0, 1.0], [5.0, 1.0, 6.0]], dtype=np.float32)
    place = np.full(3, -1, np.int32)
    found = linear_module.submatrix(gram, np.array([2, 0]), place)
    assert found.tolist() == [[6.0, 5.0], [5.0, 4.0]]
    assert (place == -1).all()


def test_blocks_give_what_the_dense_matrix_gave(events: Events, catalogue: Catalogue) -> None:
    """The formula of item-item cosine, all at once, as it was computed before it went block by block."""
    common = (events.owned().T @ events.owned()).toarray()
    norm = np.sqrt(np.diag(common))
    similarity = common / (np.outer(norm, norm) + np.float32(5.0))
    np.fill_diagonal(similarity, 0.0)
    found = ItemItem.fit(events, catalogue, shrinkage=5.0, neighbours=6).similarity.toarray()
    np.testing.assert_allclose(found, keep_largest(similarity, 6).toarray(), rtol=1e-6)


@pytest.mark.parametrize("block", [1, 7, 100])
def test_nearest_does_not_depend_on_the_block(block: int) -> None:
    left = sparse.random_array((30, 12), density=0.3, random_state=3, dtype=np.float32).tocsr()
    right = sparse.csr_array(left.T)
    below, beside = (np.arange(1, 31, dtype=np.float32) ** power for power in (0.5, -0.3))
    found = nearest(left, right, 4, Over(below, beside, 2.0), block).toarray()
    whole = (left @ right).toarray() / (np.outer(below, beside) + np.float32(2.0))
    np.fill_diagonal(whole, 0.0)
    np.testing.assert_allclose(found, keep_largest(whole.T, 4).toarray().T, rtol=1e-6)


def test_ties_are_kept_while_they_are_few() -> None:
    few = sparse.csr_array(np.array([[3.0, 1.0, 1.0, 0.0, 0.0]], np.float32))
    assert keep_largest_of_rows(few, 2).nnz == 3
    many = sparse.csr_array(np.ones((1, 50), np.float32))
    assert keep_largest_of_rows(many, 2).nnz == 2


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


def test_what_comes_next_is_regressed_on_what_came_before(
    events: Events, catalogue: Catalogue, monkeypatch
) -> None:
    days = float(np.median(events.age))
    fitted = NextBought.fit(events, catalogue, days=days, ridge=2.0, neighbours=N_ITEMS).weights.toarray()
    positive, old = events.weight > 0, events.age > days
    had, got = np.zeros((events.n_users, N_ITEMS)), np.zeros((events.n_users, N_ITEMS))
    had[events.user[positive & old], events.item[positive & old]] = 1
    got[events.user[positive & ~old], events.item[positive & ~old]] = 1
    both = had.any(axis=1) & got.any(axis=1)
    had, first = had[both], (got * (1 - had))[both]
    assert first.sum() > 10
    ridge = had.T @ had + 2.0 * np.eye(N_ITEMS)
    np.testing.assert_allclose(fitted, np.linalg.solve(ridge, had.T @ first), atol=1e-4)
    monkeypatch.setattr(next_module, "WHOLE", N_ITEMS - 1)
    near = NextBought.fit(events, catalogue, days=days, ridge=2.0, nearby=N_ITEMS).weights.toarray()
    common = had.T @ first > 0
    assert (near[~common] == 0).all()
    assert np.corrcoef(near[common], fitted[common])[0, 1] > 0.9


def test_nothing_comes_next_where_all_came_at_once(events: Events, catalogue: Catalogue) -> None:
    found = NextBought.fit(events, catalogue, days=1e6)
    assert not found.scores(events).any()
    assert found.evidence(events, 0) is None
