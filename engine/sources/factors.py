"""Implicit matrix factorisation without stored users: a user's factors are solved from the history that is brought."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from engine.interactions import Catalogue, Events
from engine.sources.base import Arrays
from engine.sources.neighbours import rows_of, strongest_of

PAIRS = 16_384  # of (user, item) whose factors are gathered at once
SOLVED = 256  # users whose systems are held at once: (SOLVED, factors, factors) float32


@dataclass(frozen=True)
class Factors:
    """iALS: Hu, Koren and Volinsky (2008), with the regularisation of Rendle et al., Revisiting iALS (2021).

    items: (n_items, factors) float32. unobserved: the weight of what did not happen, beside log1p(events).
    ridge: of a user, before it is scaled by (history + unobserved * n_items) ** scaling.
    An item without an event has zero factors: content speaks for it, this source does not.
    """

    items: np.ndarray
    unobserved: float
    ridge: float
    scaling: float
    half_life_days: float
    name = "factors"

    @classmethod
    def fit(
        cls,
        events: Events,
        catalogue: Catalogue,
        factors: int = 128,
        unobserved: float = 0.1,
        ridge: float = 1.0,
        scaling: float = 1.0,
        half_life_days: float = 60.0,
        rounds: int = 8,
        steps: int = 3,
        seed: int = 7,
    ) -> Factors:
        """`ridge`: of a typical user and a typical item; the paper's grows with the catalogue, which no default survives.

        Alternating least squares, each half by some steps of conjugate gradients from where it stands.

        Takács, Pilászy and Tikk (2011). Memory: 4 * factors * (4 users + 4 items) bytes and the events.
        """
        tastes = events.tastes(half_life_days)
        taken = sparse.csr_array(tastes.T.tocsr())
        rng = np.random.default_rng(seed)
        items = rng.normal(0, 0.1 / np.sqrt(factors), (tastes.shape[1], factors)).astype(np.float32)
        items[np.diff(taken.indptr) == 0] = 0.0
        users = np.zeros((tastes.shape[0], factors), np.float32)
        of_user, of_item = (
            ridge / (each.nnz / each.shape[0] + unobserved * each.shape[1] + 1e-9) ** scaling
            for each in (tastes, taken)
        )
        for _ in range(rounds):
            users = improve(users, items, tastes, unobserved, of_user, scaling, steps)
            items = improve(items, users, taken, unobserved, of_item, scaling, steps)
        return cls(items, unobserved, of_user, scaling, half_life_days)

    @cached_property
    def gram(self) -> np.ndarray:
        return np.float32(self.unobserved) * (self.items.T @ self.items)

    def scores(self, events: Events) -> np.ndarray:
        return self.users(events.tastes(self.half_life_days)) @ self.items.T

    def users(self, tastes: sparse.csr_array) -> np.ndarray:
        """(n_users, factors) float32: exactly what the least squares give each history; zeros for an empty one."""
        found = np.zeros((tastes.shape[0], self.items.shape[1]), np.float32)
        for start in range(0, len(found), SOLVED):
            some = tastes[start : start + SOLVED]
            systems = self._systems(some)
            wanted = some @ self.items
            found[start : start + SOLVED] = np.linalg.solve(systems, wanted[:, :, None])[:, :, 0]
        return found

    def _systems(self, tastes: sparse.csr_array) -> np.ndarray:
        """(n, factors, factors): each user's normal equations."""
        width = self.items.shape[1]
        systems = np.repeat(self.gram[None], tastes.shape[0], axis=0)
        weights = regularisation(tastes, self.unobserved, self.ridge, self.scaling)
        systems[:, np.arange(width), np.arange(width)] += weights[:, None]
        for row in range(tastes.shape[0]):
            mine = slice(tastes.indptr[row], tastes.indptr[row + 1])
            factors = self.items[tastes.indices[mine]]
            systems[row] += (factors * tastes.data[mine, None]).T @ factors
        return systems

    def evidence(self, events: Events, item: int) -> dict | None:
        """How much of the score each item of the history accounts for: Hu, Koren and Volinsky, section 5."""
        tastes = events.tastes(self.half_life_days)
        if not tastes.nnz:
            return None
        toward = np.linalg.solve(self._systems(tastes)[0], self.items[item])
        return strongest_of(tastes.indices, tastes.data * (self.items[tastes.indices] @ toward))

    def arrays(self) -> Arrays:
        parameters = [self.unobserved, self.ridge, self.scaling, self.half_life_days]
        return {"items": self.items, "parameters": np.array(parameters)}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Factors:
        return cls(arrays["items"], *arrays["parameters"].tolist())


def regularisation(tastes: sparse.csr_array, unobserved: float, ridge: float, scaling: float) -> np.ndarray:
    """(rows,) float32: more for who has more, so that the busy are not fitted closer than the rest."""
    frequency = np.diff(tastes.indptr) + unobserved * tastes.shape[1]
    return (ridge * np.maximum(frequency, 1e-9) ** scaling).astype(np.float32)


def improve(
    rows: np.ndarray,
    others: np.ndarray,
    tastes: sparse.csr_array,
    unobserved: float,
    ridge: float,
    scaling: float,
    steps: int,
) -> np.ndarray:
    """`rows` (n, factors) after `steps` of conjugate gradients on all rows' least squares at once."""
    gram = np.float32(unobserved) * (others.T @ others)
    weights = regularisation(tastes, unobserved, ridge, scaling)[:, None]
    row = rows_of(tastes)

    def applied(direction: np.ndarray) -> np.ndarray:
        seen = tastes.copy()
        seen.data *= dots(direction, others, row, tastes.indices)
        return direction @ gram + weights * direction + seen @ others

    rows = rows.copy()
    residual = tastes @ others - applied(rows)
    direction, size = residual.copy(), (residual**2).sum(axis=1, keepdims=True)
    for _ in range(steps):
        image = applied(direction)
        length = size / np.maximum((direction * image).sum(axis=1, keepdims=True), 1e-20)
        rows += length * direction
        residual -= length * image
        before, size = size, (residual**2).sum(axis=1, keepdims=True)
        direction = residual + size / np.maximum(before, 1e-20) * direction
    return rows


def dots(left: np.ndarray, right: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(pairs,) float32 inner products of the given rows of two matrices."""
    found = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), PAIRS):
        some = slice(start, start + PAIRS)
        found[some] = np.einsum("ij,ij->i", left[rows[some]], right[columns[some]])
    return found
