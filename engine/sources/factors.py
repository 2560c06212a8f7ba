"""Implicit matrix factorisation without stored users: a user's factors are solved from the history that is brought."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from engine.interactions import Catalogue, Events
from engine.sources.base import Arrays, Source
from engine.sources.neighbours import Taste, arrays_of, strongest_of

TOGETHER = 2_048  # rows whose least squares are improved together: what a step reads stays in the cache
SOLVED = 256  # users whose systems are held at once: (SOLVED, factors, factors) float32


if TYPE_CHECKING:
    from engine.history import OneUser


@dataclass(frozen=True)
class Factors(Source):
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

        Takács, Pilászy and Tikk (2011). On all cores that the process has. Memory: 8 * factors * (users + items) bytes and the events.
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
        tastes = events.tastes(self.half_life_days)
        users = self.user(tastes)[None] if isinstance(tastes, Taste) else self.users(tastes)
        return users @ self.items.T

    def put(self, events: OneUser, out: np.ndarray) -> None:
        np.dot(self.items, self.user(events.tastes(self.half_life_days)), out=out)

    def user(self, taste: Taste) -> np.ndarray:
        """(factors,) float32: as `users` of one, from systems that are as small as the history."""
        if not taste.nnz:
            return np.zeros(self.items.shape[1], np.float32)
        own, root = self._own(taste), np.sqrt(taste.data)
        solved = own.small(root) @ own.rows if own.few else own.small(own.rows.T @ root)
        found: np.ndarray = self.axes[0] @ (solved / own.scale)
        return found

    @cached_property
    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Main directions of the items, (factors, factors), a column each, and the Gram matrix along them, (factors,)."""
        sizes, directions = np.linalg.eigh(self.gram.astype(np.float64))
        return np.ascontiguousarray(directions, np.float32), np.maximum(sizes, 0.0).astype(np.float32)

    def _own(self, taste: Taste) -> _Own:
        held = taste.kept.get(id(self.items))
        if held is None:
            axes, sizes = self.axes
            frequency = taste.nnz + self.unobserved * len(self.items)  # as `regularisation` has it
            scale = np.sqrt(sizes + np.float32(self.ridge * frequency**self.scaling))
            rows = (self.items[taste.indices] * np.sqrt(taste.data)[:, None]) @ axes / scale
            held = taste.kept[id(self.items)] = _Own.of(rows, scale)
        return held

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

    def evidences(self, events: Events, items: np.ndarray) -> Sequence[dict | None]:
        """How much of the score each item of the history accounts for: Hu, Koren and Volinsky, section 5."""
        tastes = events.tastes(self.half_life_days)
        if not tastes.nnz:
            return [None] * len(items)
        if isinstance(tastes, Taste):
            own, root = self._own(tastes), np.sqrt(tastes.data)
            wanted = (self.items[items] @ self.axes[0] / own.scale).T
            # With few rows, rows (I + rows' rows)^-1 = (I + rows rows')^-1 rows.
            parts = own.small(own.rows @ wanted) if own.few else own.rows @ own.small(wanted)
            return strongest_of(tastes.indices, root[:, None] * parts)
        toward = np.linalg.solve(self._systems(tastes)[0], self.items[items].T)
        return strongest_of(tastes.indices, tastes.data[:, None] * (self.items[tastes.indices] @ toward))

    def arrays(self) -> Arrays:
        parameters = [self.unobserved, self.ridge, self.scaling, self.half_life_days]
        return {"items": self.items, "parameters": np.array(parameters)}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Factors:
        return cls(arrays["items"], *arrays["parameters"].tolist())


@dataclass(frozen=True)
class _Own:
    """A user's normal equations in the items' main directions, each divided by `scale` (factors,): there they are I + rows' rows.

    rows: (n, factors) the history's items, times the square root of what they weigh. A history of fewer items than factors is solved
    by the system I + rows rows' of its own size (Woodbury, 1950), of which, as of the other, no eigenvalue is below 1.
    factor: upper Cholesky factor of the smaller one.
    """

    rows: np.ndarray
    scale: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, scale: np.ndarray) -> _Own:
        system = rows @ rows.T if len(rows) <= len(scale) else rows.T @ rows
        system.flat[:: len(system) + 1] += np.float32(1.0)
        return cls(rows, scale, lapack.spotrf(system.T, lower=False, overwrite_a=True)[0])

    @property
    def few(self) -> bool:
        return len(self.factor) == len(self.rows)

    def small(self, wanted: np.ndarray) -> np.ndarray:
        found: np.ndarray = lapack.spotrs(self.factor, wanted, lower=False)[0]
        return found


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

    def some(start: int) -> np.ndarray:
        mine = slice(start, start + TOGETHER)
        return _improved(rows[mine], others, sparse.csr_array(tastes[mine]), gram, weights[mine], steps)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as cores:
        return np.vstack([rows[:0], *cores.map(some, range(0, len(rows), TOGETHER))])


def _improved(
    rows: np.ndarray,
    others: np.ndarray,
    tastes: sparse.csr_array,
    gram: np.ndarray,
    weights: np.ndarray,
    steps: int,
) -> np.ndarray:
    from engine.sources.kernels import pulled  # where it is asked for: who answers needs none

    seen = others, *arrays_of(tastes)
    rows = rows.copy()
    residual = pulled(rows, *seen, np.float32(1.0)) - rows @ gram - weights * rows
    direction, size = residual.copy(), (residual**2).sum(axis=1, keepdims=True)
    for _ in range(steps):
        image = direction @ gram + weights * direction - pulled(direction, *seen, np.float32(0.0))
        length = size / np.maximum((direction * image).sum(axis=1, keepdims=True), 1e-20)
        rows += length * direction
        residual -= length * image
        before, size = size, (residual**2).sum(axis=1, keepdims=True)
        direction = residual + size / np.maximum(before, 1e-20) * direction
    return rows
