"""One score from many: each source's scores made comparable per user, then weighted.

There are two sets of weights, because "again" and "something new" are different questions: one for items
that the user already had, one for items new to them, and an offset that says how much the first group is
lifted over the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

Scores = Mapping[str, np.ndarray]
TIED = np.float32(1e-6)  # of the mean: a smaller spread is what rounding leaves of a tie


@dataclass(frozen=True)
class Weights:
    """Weights by source, for items the user had and for items new to them; `offset` lifts the former."""

    again: Mapping[str, float] = field(default_factory=dict)
    new: Mapping[str, float] = field(default_factory=dict)
    offset: float = 0.0


def normalise(scores: np.ndarray) -> np.ndarray:
    """Per user, standard scores over the catalogue: (n_users, n_items) float32; 0 for a user whose items tie.

    What is not finite stays so: it must not be shown, and a mean over it would hide it.
    """
    scores = np.asarray(scores, np.float32)
    found = np.empty_like(scores)
    broken = standardise(scores, found)
    if broken.any():
        found[broken] = _where_finite(scores[broken])
    return found


def standardise(scores: np.ndarray, out: np.ndarray) -> np.ndarray:
    """`normalise` of float32 scores into `out`, the same numbers for a user alone and among others.

    (n_users,) bool: whose scores are not all finite, and what is in `out` is of no use.
    """
    n = np.float32(max(scores.shape[1], 1))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        mean = scores.sum(axis=1, keepdims=True) / n
        np.subtract(scores, mean, out=out)
        spread = np.sqrt(np.einsum("ij,ij->i", out, out)[:, None] / n)
        some = spread > np.maximum(TIED * np.abs(mean), np.float32(1e-12))
        out *= np.where(some, np.float32(1.0) / spread, np.float32(0.0))
    return ~np.isfinite(spread[:, 0])  # a mean that is not finite makes the spread so as well


def _where_finite(scores: np.ndarray) -> np.ndarray:
    """`normalise` in double precision, of what is finite."""
    finite = np.isfinite(scores)
    known = np.maximum(finite.sum(axis=1, keepdims=True), 1)
    clean = np.where(finite, scores, 0.0)
    mean = clean.sum(axis=1, keepdims=True) / known
    spread = np.sqrt((np.where(finite, clean - mean, 0.0) ** 2).sum(axis=1, keepdims=True) / known)
    return np.where(finite, (clean - mean) / np.where(spread > 1e-12, spread, 1.0), scores).astype(np.float32)


def combine(normalised: Scores, owned: sparse.csr_array, weights: Weights) -> np.ndarray:
    """(n_users, n_items) float32: `again` and the offset where the user had the item, else `new`."""
    had = owned.toarray() > 0
    found = np.where(had, np.float32(weights.offset), np.float32(0.0))
    for source, scores in normalised.items():
        again, new = weights.again.get(source, 0.0), weights.new.get(source, 0.0)
        if again or new:
            found += np.where(had, np.float32(again), np.float32(new)) * scores
    return found
