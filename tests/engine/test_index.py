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


def recall(index: Index, vectors, queries, allowed=None, rescored: int = 400) -> float:
    hits = 0
    for query in queries:
        products = vectors @ query
        if allowed is not None:
            products[~allowed] = -np.inf
        wanted = np.argsort(-products)[:K]
        rows, found = index.search(query, K, allowed, rescored)
        np.testing.assert_allclose(found, vectors[rows] @ query, rtol=1e-4, atol=1e-4)
        assert allowed is None or allowed[rows].all()
        hits += len(set(wanted) & set(rows[np.argsort(-found)[:K]]))
    return hits / K / len(queries)


def test_it_finds_what_the_scan_finds(vectors, queries) -> None:
    index = Index.of(vectors)
    assert recall(index, vectors, queries) >= 0.99
    assert recall(index, vectors, queries, rescored=100) >= 0.95  # no structure of a shop, and 16 codes alone


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_under_a_filter_as_well(vectors, queries, share: float) -> None:
    allowed = np.random.default_rng(3).random(N) < share
    assert (np.count_nonzero(allowed) <= SUBSET) == (share == 0.01)
    assert recall(Index.of(vectors), vectors, queries, allowed) >= (1.0 if share == 0.01 else 0.98)


def test_after_a_fifth_went_and_a_fifth_came(vectors, queries) -> None:
    fifth = N // 5
    index = Index.of(vectors[fifth:]).with_items(vectors[:fifth])
    now = np.vstack([vectors[fifth:], vectors[:fifth]])
    allowed = np.random.default_rng(4).random(N) > 0.2
    assert recall(index, now, queries, allowed) >= 0.98


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
