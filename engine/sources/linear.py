"""EASE: a linear model of items from items, in closed form; on large catalogues from each item's neighbourhood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from engine.interactions import Catalogue, Events
from engine.sources.base import Arrays, Source
from engine.sources.neighbours import (
    Over,
    by_column,
    keep_largest,
    keep_largest_of_rows,
    nearest,
    pack,
    product,
    products,
    strongest,
    unpack,
)

WHOLE = 15_000  # items whose (n_items, n_items) matrices still fit: two of 900 MB, and half a minute
REACH = 1_000  # co-occurrences kept of each item of a larger catalogue


if TYPE_CHECKING:
    from engine.history import OneUser


@dataclass(frozen=True)
class Linear(Source):
    """Ridge regression of each item on all others: EASE. Steck, Embarrassingly Shallow Autoencoders (2019).

    weights: (n_items, n_items) sparse float32: row = item in the history, column = item scored.
    It is fitted to, and scored from, histories with the same time decay: newer purchases say more of the
    next one.
    """

    weights: sparse.csr_array
    half_life_days: float
    name = "linear"

    @classmethod
    def fit(
        cls,
        events: Events,
        catalogue: Catalogue,
        ridge: float = 30.0,
        half_life_days: float = 30.0,
        neighbours: int = 400,
        nearby: int = 100,
    ) -> Linear:
        """Up to WHOLE items exactly, beyond by `local` regressions on the `nearby` items of each.

        neighbours: weights kept of each item where the regression is exact.
        """
        tastes = events.tastes(half_life_days)
        if tastes.shape[1] > WHOLE:
            return cls(local(tastes, ridge, nearby), half_life_days)
        return cls(keep_largest(whole(tastes, ridge), neighbours), half_life_days)

    def scores(self, events: Events) -> np.ndarray:
        return product(events.tastes(self.half_life_days), self.weights, events)

    def put(self, events: OneUser, out: np.ndarray) -> None:
        events.tastes(self.half_life_days).put(self.weights, out)

    def evidences(self, events: Events, items: np.ndarray) -> Sequence[dict | None]:
        return strongest(self.weights, events.tastes(self.half_life_days), items)

    def arrays(self) -> Arrays:
        return {**pack(self.weights), "parameters": np.array([self.half_life_days])}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Linear:
        return cls(unpack(arrays), float(arrays["parameters"][0]))


def whole(tastes: sparse.csr_array, ridge: float) -> np.ndarray:
    """(n_items, n_items) float32 by one inversion: 1 s for 3,700 items on two cores, two such matrices.

    Single precision is enough: the ridge keeps the condition number below some hundreds.
    """
    gram = (tastes.T @ tastes).toarray().astype(np.float32)
    gram[np.diag_indices_from(gram)] += np.float32(ridge)
    precision = inverse(gram)
    weights = precision / -np.diag(precision)
    np.fill_diagonal(weights, 0.0)
    return weights


def local(tastes: sparse.csr_array, ridge: float, nearby: int) -> sparse.csr_array:
    """Each item regressed on the `nearby` items that it is found with most, for their popularity.

    A sparse Markov random field: Steck (2019), Markov Random Fields for Collaborative Filtering, section 3.2, a
    neighbourhood an item. Memory: 8 (REACH + 2 nearby) bytes an item at most. 25 s for 41,000 items on one core.
    """
    gram = co_occurrence(tastes)
    size = np.sqrt(np.maximum(gram.diagonal(), 1e-9)).astype(np.float32)
    found = nearest(sparse.csr_array(tastes.T), tastes, nearby, Over(size, size))
    place = np.full(gram.shape[0], -1, np.int32)
    for item in range(gram.shape[0]):
        mine = slice(found.indptr[item], found.indptr[item + 1])
        chosen = np.append(found.indices[mine], item)
        square = submatrix(gram, chosen, place)
        square[np.diag_indices_from(square)] += np.float32(ridge)
        found.data[mine] = np.linalg.solve(square[:-1, :-1], square[:-1, -1])
    return by_column(found)


def co_occurrence(tastes: sparse.csr_array) -> sparse.csr_array:
    """tastes.T @ tastes, the REACH largest of each row: (n_items, n_items) CSR float32, diagonal included."""
    parts = [keep_largest_of_rows(part, REACH) for _, part in products(sparse.csr_array(tastes.T), tastes)]
    return sparse.csr_array(sparse.vstack(parts, format="csr"))


def submatrix(matrix: sparse.csr_array, chosen: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The chosen rows and columns, dense and symmetric. `place` (n,) of -1 is scratch, left as it was found.

    What the cut left in one of two mirrored places counts in both.
    """
    n, first = len(chosen), matrix.indptr[chosen]
    length = matrix.indptr[chosen + 1] - first
    row = np.repeat(np.arange(n), length)
    at = np.arange(len(row)) + (first - np.cumsum(length) + length)[row]
    place[chosen] = np.arange(n)
    column = place[matrix.indices[at]]
    place[chosen] = -1
    inside = column >= 0
    found = np.zeros((n, n), np.float32)
    found[row[inside], column[inside]] = matrix.data[at[inside]]
    return np.maximum(found, found.T)


def inverse(gram: np.ndarray) -> np.ndarray:
    """The inverse of a symmetric positive definite matrix, by Cholesky: a third of the work of a general inverse.

    Raises numpy.linalg.LinAlgError where the matrix is not positive definite.
    """
    factor, info = lapack.spotrf(gram, lower=True, overwrite_a=True)
    if info == 0:
        lower, info = lapack.spotri(factor, lower=True, overwrite_c=True)
    if info != 0:
        raise np.linalg.LinAlgError(f"not positive definite at row {info}: a ridge above zero makes it so")
    return np.tril(lower) + np.tril(lower, -1).T
