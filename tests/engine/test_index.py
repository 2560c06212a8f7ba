"""The index beside the exact scan, on vectors with clusters and long and short items."""

from __future__ import annotations

import numpy as np
import pytest

from engine.index import SUBSET, Index, Indexed, Moments

N, WIDTH, K = 12_000, 32, 10


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    rng = np.random.default_rng(7)
    centres = rng.normal(size=(60, WIDTH))
    found = centres[rng.integers(0, 60, N)] + 0.6 * rng.normal(size=(N, WIDTH))
    return (found * rng.lognormal(0, 0.4, (N, 1))).astype(np.float32)


@pytest.fixture(scope="module")
def queries(vectors) -> np.ndarray:
    rng = np.random.default_rng(8)
    return (vectors[rng.integers(0, N, 80)] + 0.5 * rng.normal(size=(80, WIDTH))).astype(np.float32)


def same(index: Index, vectors, queries, allowed=None, k: int = K) -> None:
    """The index finds what the scan finds, all of it, with the same products."""
    for query in queries:
        products = vectors @ query
        if allowed is not None:
            products[~allowed] = -np.inf
        rows, found = index.search(query, k, allowed)
        best = np.argsort(-found)[:k]
        np.testing.assert_allclose(found, vectors[rows] @ query, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found[best], np.sort(products)[::-1][:k], rtol=1e-5, atol=1e-5)
        assert len(set(rows.tolist())) == len(rows)
        assert allowed is None or allowed[rows].all()


@pytest.mark.parametrize("k", [1, K, 300])
def test_it_finds_what_the_scan_finds(vectors, queries, k: int) -> None:
    same(Index.of(vectors), vectors, queries, k=k)


def test_it_looks_at_a_part_of_the_items_only(vectors, queries) -> None:
    """Where what is beyond the first few thousand is made unreadable, nothing is amiss."""
    index = Index.of(vectors)
    for half in (index.first, index.second):
        half[N // 2 :] = np.nan
    same(index, vectors, queries[:40])


def test_items_of_no_length_and_products_below_zero(vectors) -> None:
    some = np.vstack([np.zeros((5, WIDTH), np.float32), -np.abs(vectors[:100])])
    index, query = Index.of(some), np.ones(WIDTH, np.float32)
    rows, found = index.search(query, 5)
    assert sorted(rows.tolist()) == [0, 1, 2, 3, 4]
    assert not found.any()
    same(index, some, [query], k=20)
    assert len(index.search(np.zeros(WIDTH, np.float32), 7)[0]) == 7
    assert len(index.search(query, 999)[0]) == 105


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_under_a_filter_as_well(vectors, queries, share: float) -> None:
    allowed = np.random.default_rng(3).random(N) < share
    assert (np.count_nonzero(allowed) <= SUBSET) == (share == 0.01)
    same(Index.of(vectors), vectors, queries, allowed)


def test_after_a_fifth_went_and_a_fifth_came(vectors, queries) -> None:
    fifth = N // 5
    index = Index.of(vectors[fifth:]).with_items(vectors[:fifth])
    now = np.vstack([vectors[fifth:], vectors[:fifth]])
    allowed = np.random.default_rng(4).random(N) > 0.2
    same(index, now, queries)
    same(index, now, queries, allowed)


def test_one_that_grows_is_put_in_among_what_there_is(
    vectors, queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Indexed.of(vectors[:-3])
    grown = Indexed.of(vectors, held)
    assert grown.index.turn is held.index.turn
    same(grown.index, vectors, queries)
    changed = vectors.copy()
    changed[7] += 1.0
    assert Indexed.of(changed, held).index.turn is not held.index.turn
    same(Indexed.of(changed, held).index, changed, queries)


def test_some_come_besides(vectors, queries) -> None:
    index, allowed = Index.of(vectors), np.ones(N, bool)
    best = np.argsort(-(vectors @ queries[0]))
    besides = np.array([best[0], best[3], best[-1], best[-2]])
    allowed[best[-2]] = False
    for given, wanted in ((None, {*besides, *best[:12]}), (allowed, {*besides[:3], *best[:12]})):
        rows, found = index.search(queries[0], 10, given, besides)
        assert set(rows.tolist()) == {int(each) for each in wanted}
        np.testing.assert_allclose(found, vectors[rows] @ queries[0], rtol=1e-4, atol=1e-4)


def test_few_that_are_allowed_all_come(vectors, queries) -> None:
    index = Index.of(vectors)
    allowed = np.zeros(N, bool)
    assert len(index.search(queries[0], K, allowed)[0]) == 0
    allowed[[5, 77]] = True
    assert index.search(queries[0], K, allowed)[0].tolist() == [5, 77]


def test_mean_and_spread_are_those_of_all_products(vectors, queries) -> None:
    products = vectors @ queries[0]
    mean, spread = Moments.of(vectors).of_query(queries[0])
    assert mean == pytest.approx(products.mean(), abs=1e-3)
    assert spread == pytest.approx(products.std(), rel=1e-3)
    standard = Indexed.of(vectors).standard(queries[0], products)
    assert standard.mean() == pytest.approx(0.0, abs=1e-3)


def test_the_spread_of_vectors_that_lie_close_together() -> None:
    rng = np.random.default_rng(5)
    close = (rng.normal(size=WIDTH) + 1e-4 * rng.normal(size=(N, WIDTH))).astype(np.float32)
    query = (close[0] + rng.normal(size=WIDTH)).astype(np.float32)
    _, spread = Moments.of(close).of_query(query)
    assert spread == pytest.approx((close.astype(float) @ query.astype(float)).std(), rel=1e-3)


def test_an_odd_number_of_dimensions(vectors) -> None:
    index = Index.of(vectors[:, :31])
    rows, found = index.search(vectors[3, :31], 5)
    np.testing.assert_allclose(found, vectors[rows, :31] @ vectors[3, :31], rtol=1e-4)


def test_no_items() -> None:
    with pytest.raises(ValueError, match="no items"):
        Index.of(np.empty((0, 8), np.float32))
