"""The largest products of a user's vector with every item's, exactly, without multiplying them all.

Items lie in the order of their lengths, and a product is at most that of both lengths: where this falls below the worst of the
best that were found, the rest need not be looked at. Vectors are turned to their main directions, so that the first half of a
product says most of it; the second half is at most the product of what is left of both lengths, and is multiplied only where
that could lift an item among the best. Teflioudi et al., LEMP (2015); Li et al., FEXIPRO (2017), section 3.

Nothing is learnt: items that come are put in where their length says, and filters and deletions cost no recall.
docs/engine.md has the alternatives that were measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from engine.pauses import breathe

INDEXED_FROM = (
    20_000  # items; below, a scan takes less than half a millisecond and needs no second copy of the vectors
)
SUBSET = 4_096  # items that a filter leaves over, up to which they are all multiplied
NORM_CAP = 1e-12
SLACK = np.float32(1 + 2e-5)  # of a length: a bound must hold for products in float32, too
EVERY = np.empty(0, bool)


@dataclass(frozen=True)
class Index:
    """vectors: (n_items, d) float32, held and not copied. May be read from many threads.

    turn: (d, d) float32, to the main directions. Longest vector first: order (n_items,) int32 the row of each; first, second: its
    halves, turned; length, rest: (n_items,) float32 of it, and of its second half.
    """

    vectors: np.ndarray
    turn: np.ndarray
    order: np.ndarray
    first: np.ndarray
    second: np.ndarray
    length: np.ndarray
    rest: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> Index:
        """0.2 s for 100,000 items of 128 dimensions on one core. Raises ValueError without items."""
        if not len(vectors):
            raise ValueError("no index over no items")
        vectors = np.ascontiguousarray(vectors, np.float32)
        _, directions = np.linalg.eigh((vectors.T @ vectors).astype(np.float64))
        turn = np.ascontiguousarray(directions[:, ::-1], np.float32)
        return cls._sorted(vectors, turn, np.arange(len(vectors), dtype=np.int32), *_turned(vectors, turn))

    @classmethod
    def _sorted(cls, vectors: np.ndarray, turn: np.ndarray, order: np.ndarray, *parts: np.ndarray) -> Index:
        """parts: first, second, length and rest, each in the order of `order`."""
        by_length = np.argsort(-parts[2], kind="stable")
        placed = []
        for each in parts:
            breathe()
            placed.append(np.take(each, by_length, axis=0))
        return cls(vectors, turn, order[by_length], *placed)

    def with_items(self, vectors: np.ndarray) -> Index:
        """With more items behind those that there are."""
        return self.grown(np.vstack([self.vectors, np.asarray(vectors, np.float32)]))

    def grown(self, vectors: np.ndarray) -> Index:
        """Over vectors whose first ones are those of this index: the others alone are turned."""
        n, held = len(self.vectors), (self.first, self.second, self.length, self.rest)
        order = np.concatenate([self.order, np.arange(n, len(vectors), dtype=np.int32)])
        parts = [np.concatenate(both) for both in zip(held, _turned(vectors[n:], self.turn), strict=True)]
        return self._sorted(np.ascontiguousarray(vectors, np.float32), self.turn, order, *parts)

    def begins(self, vectors: np.ndarray) -> bool:
        """Whether the first ones of `vectors` are those of this index."""
        n = len(self.vectors)
        return len(vectors) >= n and np.array_equal(vectors[:n], self.vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    def search(
        self,
        query: np.ndarray,
        k: int,
        allowed: np.ndarray | None = None,
        besides: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """(rows, products) of the k allowed items with the largest products, in no order; more where few are allowed.

        query: (d,) finite. allowed: (n_items,) bool; up to SUBSET allowed items come all. besides: rows that come in any case, as
        far as they are allowed, and do not count among the k.
        """
        # Where it is asked for: a job that answers nobody need not load a compiler.
        from engine.scan import largest

        if allowed is not None:
            left = int(np.count_nonzero(allowed))
            if left <= max(SUBSET, k):
                rows = np.flatnonzero(allowed)
                return rows, self.vectors[rows] @ query
        looked = EVERY if allowed is None else allowed
        if besides is not None and len(besides):
            mine = besides if allowed is None else besides[allowed[besides]]
            looked = np.ones(len(self), bool) if allowed is None else allowed.copy()
            looked[mine] = False
        turned = np.asarray(query, np.float32) @ self.turn
        wanted = max(min(k, len(self)), 1)
        rows, products = largest(
            self.first, self.second, self.length, self.rest, self.order, looked, turned, wanted
        )
        if rows.min() < 0:  # fewer are looked at than are wanted
            rows, products = rows[rows >= 0], products[rows >= 0]
        if looked is not allowed and len(looked):
            rows = np.concatenate([rows, mine])
            products = np.concatenate([products, self.vectors[mine] @ query])
        return rows, products


def _turned(vectors: np.ndarray, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """first, second, length and rest of vectors, see Index."""
    turned = np.asarray(vectors, np.float32) @ turn
    first, second = (
        np.ascontiguousarray(half) for half in np.split(turned, [-(-turned.shape[1] // 2)], axis=1)
    )
    length, rest = (SLACK * np.sqrt(np.einsum("ij,ij->i", each, each)) for each in (turned, second))
    return first, second, length, rest


@dataclass(frozen=True)
class Moments:
    """Mean and spread of all items' products with any query, in closed form. mean: (d,). spread: (d, d) float64 covariance."""

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> Moments:
        mean = vectors.mean(axis=0, dtype=np.float64)
        # Of vectors close together a difference of squares would leave rounding alone.
        apart = vectors - mean.astype(np.float32)
        return cls(mean, (apart.T @ apart).astype(np.float64) / max(len(vectors), 1))

    def of_query(self, query: np.ndarray) -> tuple[float, float]:
        """mean and standard deviation of (n_items,) products."""
        wide = query.astype(np.float64)
        return float(wide @ self.mean), float(np.sqrt(max(wide @ self.covariance @ wide, 0.0)))


@dataclass(frozen=True)
class Indexed:
    """A source's items behind an index, with what `blend.normalise` needs to know of all of them."""

    index: Index

    @classmethod
    def of(cls, vectors: np.ndarray, like: Indexed | None = None) -> Indexed:
        """like: an earlier one. Where its vectors are the first ones of these, the others are put in among them."""
        held = like.index if like else None
        found = cls(held.grown(vectors) if held and held.begins(vectors) else Index.of(vectors))
        found.moments  # noqa: B018 - made now, not at the first question
        return found

    @cached_property
    def moments(self) -> Moments:
        return Moments.of(self.index.vectors)

    def arrays(self) -> dict[str, np.ndarray]:
        """Plain numeric arrays, which are stored without pickle; `from_arrays` is the inverse."""
        return {**vars(self.index), **vars(self.moments)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Indexed:
        found = cls(Index(**{each.name: arrays[each.name] for each in fields(Index)}))
        vars(found)["moments"] = Moments(**{each.name: arrays[each.name] for each in fields(Moments)})
        return found

    def standard(
        self, query: np.ndarray, products: np.ndarray, of_all: tuple[float, float] | None = None
    ) -> np.ndarray:
        """Products with `query` as standard scores over all items, float32. of_all: `moments.of_query`, where it is known."""
        mean, spread = of_all or self.moments.of_query(query)
        if spread <= max(1e-6 * abs(mean), NORM_CAP):
            return np.zeros(len(products), np.float32)
        return ((products - mean) / spread).astype(np.float32)
