"""Graph filtering: what lies two steps away on the graph of users and items, smoothed by its main directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from engine.blend import normalise
from engine.interactions import Catalogue, Events
from engine.sources.base import Arrays, Source
from engine.sources.neighbours import (
    Over,
    by_column,
    nearest,
    pack,
    product,
    rows_of,
    strongest_of,
    unpack,
)

EXTRA = 32  # directions beyond `rank` that keep the last ones of a randomized decomposition true


@dataclass(frozen=True)
class Graph(Source):
    """A linear filter and an ideal low-pass one: GF-CF, Shen et al. (2021); the sharper exponents are LinkProp's.

    steps: (n_items, n_items) sparse float32, row = item in the history, column = item scored: the two-step walk
    d_i^-history (R' D_u^-user R) d_j^-target, the largest of each column; zero diagonal. Fu et al. (2022), Revisiting
    Neighborhood-based Link Prediction. vectors: (n_items, rank) float32, right singular vectors V of D_u^-a R
    D_i^-a; `before` and `after` (n_items,) float32 scale what goes into and what comes out of V V'.
    share: weight of the low-pass score beside the linear one, both in standard deviations of a user's scores.
    """

    steps: sparse.csr_array
    vectors: np.ndarray
    before: np.ndarray
    after: np.ndarray
    share: float
    half_life_days: float
    name = "graph"

    @classmethod
    def fit(
        cls,
        events: Events,
        catalogue: Catalogue,
        user: float = 0.6,
        history: float = 0.6,
        target: float = 0.3,
        balance: float = 0.35,
        rank: int = 512,
        share: float = 0.6,
        neighbours: int = 1000,
        half_life_days: float = 60.0,
        seed: int = 7,
    ) -> Graph:
        """user, history, target: exponents of the degrees that damp the walk. balance: the exponent `a`.

        R: `Events.strength`, so that an edge of somebody who only looked is thinner than a buyer's.

        Memory: 12 * neighbours bytes an item at most for the walk, 8 * rank bytes a user and an item for the
        decomposition. 30 s for 810,000 events of 30,000 users and 41,000 items on one core.
        """
        taken = events.strength()
        users, items = degrees(taken)
        damped = scaled(taken, power(users, -user / 2), np.ones_like(items))
        over = Over(power(items, target), power(items, history))
        steps = by_column(nearest(sparse.csr_array(damped.T), damped, neighbours, over))
        smooth = scaled(taken, power(users, -balance), power(items, -balance))
        vectors = directions(smooth, min(rank, max(1, min(smooth.shape) // RANK_SHARE)), seed)
        return cls(steps, vectors, power(items, -0.4), power(items, 0.2), share, half_life_days)

    def scores(self, events: Events) -> np.ndarray:
        tastes = events.tastes(self.half_life_days)
        found = normalise(product(tastes, self.steps, events))
        found += np.float32(self.share) * normalise(self._low_pass(tastes))
        return found

    @cached_property
    def _weighed(self) -> np.ndarray:
        return self.before[:, None] * self.vectors

    def _low_pass(self, tastes: sparse.csr_array) -> np.ndarray:
        return ((tastes @ self._weighed) @ self.vectors.T) * self.after

    def evidences(self, events: Events, items: np.ndarray) -> Sequence[dict | None]:
        """The item of the history that adds most, to both filters together."""
        tastes = events.tastes(self.half_life_days)
        mine = tastes.indices
        if not len(mine):
            return [None] * len(items)
        walk = tastes.data[:, None] * self.steps[mine][:, items].toarray()
        smooth = (tastes.data * self.before[mine])[:, None] * (self.vectors[mine] @ self.vectors[items].T)
        smooth *= self.after[items]
        spread = [each.std() for each in (product(tastes, self.steps, events), self._low_pass(tastes))]
        walk, smooth = (part / max(std, 1e-12) for part, std in zip((walk, smooth), spread, strict=True))
        return strongest_of(mine, walk + self.share * smooth)

    def arrays(self) -> Arrays:
        return {
            **pack(self.steps),
            "vectors": self.vectors,
            "before": self.before,
            "after": self.after,
            "parameters": np.array([self.share, self.half_life_days]),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Graph:
        share, half_life_days = arrays["parameters"].tolist()
        return cls(
            unpack(arrays), arrays["vectors"], arrays["before"], arrays["after"], share, half_life_days
        )


RANK_SHARE = 6  # of the smaller side of the matrix that the rank may be, at most


def degrees(taken: sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """(n_users,) and (n_items,) float64 row and column sums."""
    return np.asarray(taken.sum(axis=1), float).ravel(), np.asarray(taken.sum(axis=0), float).ravel()


def power(degree: np.ndarray, exponent: float) -> np.ndarray:
    """float32; 0 where nobody is."""
    return np.where(degree > 0, np.maximum(degree, 1e-9) ** exponent, 0.0).astype(np.float32)


def scaled(matrix: sparse.csr_array, rows: np.ndarray, columns: np.ndarray) -> sparse.csr_array:
    found = matrix.copy()
    found.data = found.data * rows[rows_of(found)] * columns[found.indices]
    return found


def directions(matrix: sparse.csr_array, rank: int, seed: int, rounds: int = 2) -> np.ndarray:
    """(columns, rank) float32: leading right singular vectors, by randomized subspace iteration.

    Halko, Martinsson and Tropp, Finding Structure with Randomness (2011), algorithm 4.4.
    """
    width = min(rank + EXTRA, *matrix.shape)
    turned = sparse.csr_array(matrix.T.tocsr())
    basis = np.random.default_rng(seed).standard_normal((matrix.shape[1], width)).astype(np.float32)
    for _ in range(rounds):
        basis, _ = np.linalg.qr(turned @ (matrix @ basis))
    image = matrix @ basis
    _, rotation = np.linalg.eigh(image.T @ image)
    return np.ascontiguousarray(basis @ rotation[:, ::-1][:, :rank])
