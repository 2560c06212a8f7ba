"""Scoring from an item x item weight matrix, and making one in bounded memory: shared by the item-based sources."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

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


@dataclass(frozen=True)
class Over:
    """What a product's value is divided by: rows[row] * columns[column] + plus. rows, columns: (n_items,) float32."""

    rows: np.ndarray
    columns: np.ndarray
    plus: float = 0.0


def nearest(
    left: sparse.csr_array,
    right: sparse.csr_array,
    n: int,
    over: Over | None = None,
    block: int = BLOCK,
) -> sparse.csr_array:
    """left @ right, (n_items, n_items), without the diagonal, `n` largest of each row after the division: CSR float32.

    Ties as in `keep_largest_of_rows`. On all cores that the process has; memory: 16 n bytes an item, 17 n_items bytes a core.
    """
    from engine.sources import kernels  # where it is asked for: who answers from what was fitted needs none

    n_items, width = left.shape[0], min(2 * n, right.shape[1])
    if not n_items or not width:
        return sparse.csr_array((n_items, right.shape[1]), dtype=np.float32)
    over = over or Over(np.ones(n_items, np.float32), np.ones(right.shape[1], np.float32))
    divided = (*(each.astype(np.float32) for each in (over.rows, over.columns)), np.float32(over.plus))
    sides = [arrays_of(each) for each in (left, right)]

    def some(start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        last = min(start + block, n_items)
        indices, data = (np.zeros((last - start, width), kind) for kind in (np.int32, np.float32))
        counts = kernels.strongest(start, last, *sides, *divided, min(n, width), indices, data)
        kept = np.arange(width) < counts[:, None]
        return counts, indices[kept], data[kept]

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as cores:
        counts, indices, data = zip(*cores.map(some, range(0, n_items, block)), strict=True)
    ends = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    shape = (n_items, right.shape[1])
    return sparse.csr_array((np.concatenate(data), np.concatenate(indices), ends), shape=shape)


def arrays_of(matrix: sparse.csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """indptr, indices and data in the types that the kernels are compiled for, without a copy where they have them."""
    kinds = (np.int64, np.int32, np.float32)
    arrays = (matrix.indptr, matrix.indices, matrix.data)
    indptr, indices, data = (each.astype(kind, copy=False) for each, kind in zip(arrays, kinds, strict=True))
    return indptr, indices, data


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
    """A history of one user, (1, n_items) float32, that becomes a sparse row only where somebody asks for one.

    indices: (n,) int32, ascending. data: (n,) float32. kept: what a source made of it and asks for again.
    """

    def __init__(self, indices: np.ndarray, data: np.ndarray, n_items: int):
        self.kept: dict[Any, Any] = {}
        self.indices, self.data, self.shape = indices, data, (1, n_items)
        self.nnz = len(indices)

    @cached_property
    def indptr(self) -> np.ndarray:
        return np.array([0, len(self.indices)], np.int32)

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

    def times(self, weights: sparse.csr_array) -> np.ndarray:
        """(n_columns,) float32, this row times a sparse matrix: the same sums in the same order, without a sparse result."""
        from engine import (
            compiled,  # where it is asked for: a job that answers nobody need not load a compiler
        )

        found = np.empty(weights.shape[1], np.float32)
        compiled.sum_rows(self.indices, self.data, weights.indptr, weights.indices, weights.data, found)
        return found

    def put(self, weights: sparse.csr_array, out: np.ndarray) -> None:
        """`times`, into `out` (n_columns,) float32."""
        from engine.compiled.rows import sum_rows

        sum_rows(self.indices, self.data, weights.indptr, weights.indices, weights.data, out)


def strongest(weights: sparse.csr_array, tastes: sparse.csr_array, items: np.ndarray) -> list[dict | None]:
    """The item of a one-row history that adds most to each of `items` (n,), see `strongest_of`."""
    mine = tastes.indices
    if not weights.has_sorted_indices:
        return strongest_of(mine, tastes.data[:, None] * weights[mine][:, items].toarray())
    from engine import compiled  # where it is asked for: a job that answers nobody need not load a compiler

    found = compiled.strongest(items, mine, tastes.data, weights.indptr, weights.indices, weights.data)
    return strongest_told(mine, *found)


def strongest_told(mine: np.ndarray, places: np.ndarray, shares: np.ndarray) -> list[dict | None]:
    """As `strongest_of`, from places in a history, -1 for none, and shares."""
    return [
        {"item": int(mine[place]), "share": round(share, 3)} if place >= 0 else None
        for place, share in zip(places.tolist(), shares.tolist(), strict=True)
    ]


def strongest_of(mine: np.ndarray, parts: np.ndarray) -> list[dict | None]:
    """Of each column of `parts` (history, n), what the items `mine` of a history add to a score: the item that adds most, and its share
    of all that speaks for the score; None where nothing does."""
    if not len(parts):
        return [None] * parts.shape[1]
    best, most = parts.argmax(axis=0), parts.max(axis=0)
    shares = most / np.maximum(np.maximum(parts, 0.0).sum(axis=0), 1e-30)
    return [
        {"item": item, "share": round(share, 3)} if large > 0 else None
        for item, share, large in zip(mine[best].tolist(), shares.tolist(), most.tolist(), strict=True)
    ]


def pack(weights: sparse.csr_array) -> Arrays:
    return {
        "data": weights.data,
        "indices": weights.indices.astype(np.int32, copy=False),
        "indptr": weights.indptr.astype(np.int64, copy=False),
        "shape": np.array(weights.shape),
    }


def unpack(arrays: Arrays) -> sparse.csr_array:
    ends = arrays["indptr"]
    if ends[-1] <= np.iinfo(np.int32).max:  # else scipy makes the indices as wide
        ends = ends.astype(np.int32)
    return sparse.csr_array((arrays["data"], arrays["indices"], ends), shape=tuple(arrays["shape"].tolist()))


def product(tastes: sparse.csr_array, weights: sparse.csr_array, events: Events) -> np.ndarray:
    """(users, items) float32, dense."""
    if isinstance(tastes, Taste):
        return tastes.times(weights)[None]
    return np.asarray((tastes @ weights).toarray(), dtype=np.float32).reshape(events.n_users, events.n_items)
