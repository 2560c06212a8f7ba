"""Scoring from an item x item weight matrix, and making one in bounded memory: shared by the item-based sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import _sparsetools

from engine.interactions import Events
from engine.sources.base import Arrays

BLOCK = 1024  # rows of an item x item matrix that are looked at together
LEAST = 1e-12  # smaller in absolute value is nothing


def keep_largest(weights: np.ndarray, n: int) -> sparse.csr_array:
    """The `n` largest absolute values of each column as CSR float32; more where values tie at the edge.

    A column is what speaks for one item, so every item keeps its best evidence.
    """
    columns = np.abs(weights.T.astype(np.float32))
    if n < len(columns):
        columns = np.ascontiguousarray(columns)
        least = np.partition(columns, len(columns) - n, axis=1)[:, len(columns) - n]
        weights = np.where(np.abs(weights) >= np.maximum(least, LEAST), weights, 0.0)
    found = sparse.csr_array(weights.astype(np.float32))
    found.eliminate_zeros()
    found.sort_indices()
    return found


def keep_largest_of_rows(weights: sparse.csr_array, n: int) -> sparse.csr_array:
    """As `keep_largest`, of each row of a sparse matrix, in place; ties at the edge up to 2 n values in all.

    On a large sparse catalogue an item has a thousand neighbours with one buyer in common: memory stays bounded.
    """
    absolute, ends = np.abs(weights.data), weights.indptr
    absolute[absolute < LEAST] = 0.0
    for row in np.flatnonzero(np.diff(ends) > n):
        values = absolute[ends[row] : ends[row + 1]]
        least = np.partition(values, len(values) - n)[len(values) - n]
        if np.count_nonzero(values >= least) <= 2 * n:
            values[values < least] = 0.0
        else:
            values[np.argsort(-values, kind="stable")[n:]] = 0.0
    weights.data[absolute == 0.0] = 0.0
    weights.eliminate_zeros()
    return weights


def nearest(
    left: sparse.csr_array,
    right: sparse.csr_array,
    n: int,
    weigh: Callable[[sparse.csr_array, int], None] | None = None,
    block: int = BLOCK,
) -> sparse.csr_array:
    """left @ right, (n_items, n_items), without the diagonal, `n` largest of each row: CSR float32.

    `weigh` changes a block's values in place, before the cut; it is told the block's first row. Memory: the
    product of `block` rows, and 8 n bytes an item.
    """
    parts = []
    for start, product_ in products(left, right, block):
        if weigh:
            weigh(product_, start)
        product_.data[product_.indices == rows_of(product_) + start] = 0.0
        parts.append(keep_largest_of_rows(product_, n))
    return sparse.csr_array(sparse.vstack(parts, format="csr"))


def products(
    left: sparse.csr_array, right: sparse.csr_array, block: int = BLOCK
) -> Iterator[tuple[int, sparse.csr_array]]:
    """left @ right, some rows at a time, each with the number of its first row."""
    for start in range(0, left.shape[0], block):
        yield start, sparse.csr_array(left[start : start + block] @ right)


def rows_of(matrix: sparse.csr_array) -> np.ndarray:
    """The row of each stored value."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def by_column(rows: sparse.csr_array) -> sparse.csr_array:
    """Transposed, columns in order: rows that speak for one item become columns that do."""
    found = sparse.csr_array(rows.T.tocsr())
    found.sort_indices()
    return found


class Taste:
    """A history of one user, (1, n_items) float32, that becomes a sparse row only where somebody asks for one, and remembers
    the rows of weights that it has looked up.

    indices: (n,) int32, ascending. data: (n,) float32.
    """

    def __init__(self, indices: np.ndarray, data: np.ndarray, n_items: int):
        self.indices, self.data, self.shape = indices, data, (1, n_items)
        self.nnz = len(indices)
        self.indptr = np.array([0, len(indices)], np.int32)
        self._looked_up: dict[int, tuple[Rows, sparse.csr_array]] = {}

    @cached_property
    def matrix(self) -> sparse.csr_array:
        return sparse.csr_array((self.data, self.indices, self.indptr), shape=self.shape)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.matrix, name)

    def __matmul__(self, other: Any) -> Any:
        return self.matrix @ other

    def __getitem__(self, key: Any) -> Any:
        return self.matrix[key]

    def rows_of(self, weights: sparse.csr_array) -> Rows:
        """What the weights say of each item of the history."""
        held = self._looked_up.get(id(weights))
        if held is None:  # the weights are held as well: an id is used again
            held = self._looked_up[id(weights)] = Rows.of(weights, self.indices), weights
        return held[0]


@dataclass(frozen=True)
class Rows:
    """Some rows of a sparse matrix, one after the other: the row k lies in [start[k], start[k + 1]) of indices and data."""

    indices: np.ndarray
    data: np.ndarray
    start: np.ndarray

    @classmethod
    def of(cls, matrix: sparse.csr_array, rows: np.ndarray) -> Rows:
        rows = rows.astype(matrix.indptr.dtype, copy=False)
        start = np.zeros(len(rows) + 1, matrix.indptr.dtype)
        np.cumsum(matrix.indptr[rows + 1] - matrix.indptr[rows], out=start[1:])
        indices, data = np.empty(start[-1], matrix.indices.dtype), np.empty(start[-1], matrix.data.dtype)
        # Slicing a csr_array does the same, and checks three times as long as it works.
        _sparsetools.csr_row_index(len(rows), rows, matrix.indptr, matrix.indices, matrix.data, indices, data)
        return cls(indices, data, start)

    def weighted(self, by: np.ndarray, n_columns: int) -> np.ndarray:
        """(n_columns,) float32: the sum of the rows, each times its `by`."""
        found = np.zeros(n_columns, np.float32)
        by = by.astype(np.float32, copy=False)
        _sparsetools.csc_matvec(n_columns, len(by), self.start, self.indices, self.data, by, found)
        return found


def strongest(weights: sparse.csr_array, tastes: sparse.csr_array, item: int) -> dict | None:
    """The item of a one-row history that adds most to `item`'s score."""
    if isinstance(tastes, Taste):
        rows = tastes.rows_of(weights)
        place = np.flatnonzero(rows.indices == item)
        mine = np.searchsorted(rows.start, place, side="right") - 1
        return strongest_of(tastes.indices[mine], tastes.data[mine] * rows.data[place])
    mine = tastes.indices
    return strongest_of(mine, tastes.data * np.asarray(weights[mine, np.full(len(mine), item)]).ravel())


def strongest_of(items: np.ndarray, parts: np.ndarray) -> dict | None:
    """The item that adds most, and its share of all that speaks for the score; None where nothing does."""
    if not len(parts) or parts.max() <= 0:
        return None
    return {
        "item": int(items[parts.argmax()]),
        "share": round(float(parts.max() / parts[parts > 0].sum()), 3),
    }


def pack(weights: sparse.csr_array) -> Arrays:
    return {
        "data": weights.data,
        "indices": weights.indices.astype(np.int32),
        "indptr": weights.indptr.astype(np.int64),
        "shape": np.array(weights.shape),
    }


def unpack(arrays: Arrays) -> sparse.csr_array:
    return sparse.csr_array(
        (arrays["data"], arrays["indices"], arrays["indptr"]), shape=tuple(arrays["shape"].tolist())
    )


def product(tastes: sparse.csr_array, weights: sparse.csr_array, events: Events) -> np.ndarray:
    """(users, items) float32, dense."""
    if isinstance(tastes, Taste):  # the same sums in the same order, without a sparse result
        return tastes.rows_of(weights).weighted(tastes.data, events.n_items)[None]
    return np.asarray((tastes @ weights).toarray(), dtype=np.float32).reshape(events.n_users, events.n_items)
