"""Products that keep each row's strongest, and least squares of sparse rows, against what libraries compute."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from engine.interactions import Catalogue, Events
from engine.sources import kernels
from engine.sources.content import Content
from engine.sources.factors import Factors
from engine.sources.graph import Graph
from engine.sources.item_item import ItemItem
from engine.sources.kernels import pulled
from engine.sources.linear import local
from engine.sources.neighbours import Over, arrays_of, keep_largest_of_rows, nearest
from engine.state import from_frame
from tests.engine.shop import CUT, WEIGHTS, frames


def matrix(rows: int, columns: int, density: float, seed: int) -> sparse.csr_array:
    found = sparse.random_array(
        (rows, columns), density=density, rng=np.random.default_rng(seed), format="csr"
    )
    return sparse.csr_array(found.astype(np.float32))


@pytest.mark.parametrize("density", [0.02, 0.6], ids=["met columns are noted", "all columns are looked at"])
@pytest.mark.parametrize("most", [1, 5, 200])
def test_as_a_whole_product_that_is_cut_afterwards(density: float, most: int) -> None:
    left, right = matrix(120, 40, density, 1), matrix(40, 120, density, 2)
    left.data -= np.float32(0.3)  # some weights are below zero: the largest are by absolute value
    whole = sparse.csr_array(left @ right)
    whole.setdiag(0.0)
    expected = keep_largest_of_rows(whole, most).toarray()
    np.testing.assert_allclose(nearest(left, right, most, block=50).toarray(), expected, rtol=1e-5, atol=1e-6)


def test_ties_are_kept_up_to_twice_as_many_and_cut_beyond() -> None:
    some = sparse.csr_array(np.ones((6, 1), np.float32))
    assert np.diff(nearest(some, sparse.csr_array(some.T), 3).indptr).tolist() == [5] * 6
    many = sparse.csr_array(np.ones((9, 1), np.float32))
    found = nearest(many, sparse.csr_array(many.T), 3)
    assert np.diff(found.indptr).tolist() == [3] * 9
    assert found[[8]].indices.tolist() == [0, 1, 2]
    many.data[4] = 2.0  # stands above the ties, and is not cut with them
    assert nearest(many, sparse.csr_array(many.T), 3)[[8]].indices.tolist() == [0, 1, 4]


def test_what_is_divided_by_nothing_is_nothing() -> None:
    some = matrix(5, 3, 0.9, 3)
    zeros = np.zeros(5, np.float32)
    assert nearest(some, sparse.csr_array(some.T), 3, Over(zeros, zeros)).nnz == 0


@pytest.mark.parametrize("shape", [(0, 3), (4, 0)])
def test_of_nothing_there_is_no_product(shape: tuple[int, int]) -> None:
    empty = sparse.csr_array(shape, dtype=np.float32)
    assert nearest(empty, sparse.csr_array(empty.T), 2).shape == (shape[0], shape[0])


@pytest.mark.parametrize("wanted", [0.0, 1.0])
def test_the_pull_of_a_rows_items(wanted: float) -> None:
    rng = np.random.default_rng(5)
    rows, others = (rng.normal(size=(n, 7)).astype(np.float32) for n in (30, 20))
    tastes = matrix(30, 20, 0.3, 6)
    weights = tastes.toarray()
    expected = (weights * (wanted - rows @ others.T)) @ others
    found = pulled(rows, others, *arrays_of(tastes), np.float32(wanted))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_what_setup_compiles_is_what_sources_ask_for() -> None:
    kernels.make()
    made = {each: list(each.signatures) for each in (kernels.strongest, kernels.pulled)}
    items, histories, _ = frames()
    catalogue = Catalogue.of(items)
    events = Events.of(from_frame(histories), catalogue.index, CUT, WEIGHTS)
    for source in (Content, ItemItem, Graph, Factors):
        source.fit(events, catalogue)
    local(events.tastes(30.0), 30.0, 5)
    assert {each: list(each.signatures) for each in made} == made
