"""Scoring from an item x item weight matrix: shared by item-item cosine and the linear model."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from engine.interactions import Events
from engine.sources.base import Arrays


def keep_largest(weights: np.ndarray, n: int) -> sparse.csr_array:
    """The `n` largest absolute values of each column as CSR float32; more where values tie at the edge.

    A column is what speaks for one item, so every item keeps its best evidence.
    """
    columns = np.abs(weights.T.astype(np.float32))
    if n < len(columns):
        columns = np.ascontiguousarray(columns)
        least = np.partition(columns, len(columns) - n, axis=1)[:, len(columns) - n]
        weights = np.where(np.abs(weights) >= np.maximum(least, 1e-12), weights, 0.0)
    found = sparse.csr_array(weights.astype(np.float32))
    found.eliminate_zeros()
    found.sort_indices()
    return found


def strongest(weights: sparse.csr_array, tastes: sparse.csr_array, item: int) -> dict | None:
    """The item of a one-row history that adds most to `item`'s score."""
    mine = tastes.indices
    parts = tastes.data * np.asarray(weights[mine, np.full(len(mine), item)]).ravel()
    if not len(parts) or parts.max() <= 0:
        return None
    return {"item": int(mine[parts.argmax()]), "share": round(float(parts.max() / parts[parts > 0].sum()), 3)}


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
    return np.asarray((tastes @ weights).toarray(), dtype=np.float32).reshape(events.n_users, events.n_items)
