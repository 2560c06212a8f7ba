"""Candidates of a source that multiplies a user's vector with every item's: found by an index, scored exactly.

A scan of 4-bit product-quantised codes in registers (André, Kermarrec and Le Scouarnec, Quick ADC, 2017; FAISS' fast scan) says
which few hundred items are worth their exact product. It looks at every item, so that items which come are one code more, items
that went and filters cost no recall, and there is no graph or list of cells that ages. Where a filter leaves few items, those are
multiplied exactly. docs/engine.md has the alternatives that were measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

INDEXED_FROM = (
    20_000  # items; below, a scan takes less than half a millisecond and needs no second copy of the vectors
)
PER_CODE = 2  # dimensions of a 4-bit code: 32 bytes an item of 128 dimensions
TRAINED = 50_000  # vectors that the codes are learnt from
RESCORED = 200  # items whose exact products are made, beside twice as many as are wanted
SUBSET = 4_096  # items that a filter leaves over, up to which they are all multiplied
NORM_CAP = 1e-12


@dataclass(frozen=True)
class Index:
    """vectors: (n_items, d) float32, held and not copied. codes: FAISS' index of them. May be read from many threads."""

    vectors: np.ndarray
    codes: Any

    @classmethod
    def of(cls, vectors: np.ndarray, seed: int = 7) -> Index:
        """Learns the codes from a seeded sample: 1 s for 100,000 items of 128 dimensions on one core. Raises ValueError without items."""
        if not len(vectors):
            raise ValueError("no index over no items")
        import faiss

        padded = _padded(vectors)
        codes = faiss.IndexPQFastScan(
            padded.shape[1], padded.shape[1] // PER_CODE, 4, faiss.METRIC_INNER_PRODUCT
        )
        chosen = np.random.default_rng(seed).permutation(len(padded))[:TRAINED]
        codes.pq.cp.seed = seed
        codes.train(padded[np.sort(chosen)])
        codes.add(padded)
        return cls(np.ascontiguousarray(vectors, np.float32), codes)

    def with_items(self, vectors: np.ndarray) -> Index:
        """With more items behind those that there are, by the codes that were learnt."""
        import faiss

        codes = faiss.clone_index(self.codes)
        codes.add(_padded(vectors))
        return Index(np.vstack([self.vectors, np.asarray(vectors, np.float32)]), codes)

    def __len__(self) -> int:
        return len(self.vectors)

    def search(
        self, query: np.ndarray, k: int, allowed: np.ndarray | None = None, rescored: int = RESCORED
    ) -> tuple[np.ndarray, np.ndarray]:
        """(rows, products): at least the k allowed items with the largest products, as far as they are found; in no order.

        query: (d,). allowed: (n_items,) bool. rescored: more find more, 0.1 µs each. Up to SUBSET allowed items come all, exactly. Never fewer than min(k, allowed).
        """
        wanted = rescored + 2 * k
        n, left = len(self.vectors), len(self.vectors)
        if allowed is not None:
            left = int(np.count_nonzero(allowed))
            if left <= max(SUBSET, wanted):
                rows = np.flatnonzero(allowed)
                return rows, self.vectors[rows] @ query
        padded = _padded(query[None])
        looked = min(int(wanted * n / left * 1.2) + 1 if left < n else wanted, n)
        while True:
            rows = self.codes.search(padded, looked)[1][0]
            rows = rows[rows >= 0]
            if allowed is not None:
                rows = rows[allowed[rows]]
            if len(rows) >= min(k, left) or looked == n:
                return rows, self.vectors[rows] @ query
            looked = min(4 * looked, n)


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
    def of(cls, vectors: np.ndarray) -> Indexed:
        found = cls(Index.of(vectors))
        found.moments  # noqa: B018 - made now, not at the first question
        return found

    @cached_property
    def moments(self) -> Moments:
        return Moments.of(self.index.vectors)

    def standard(self, query: np.ndarray, products: np.ndarray) -> np.ndarray:
        """Products with `query` as standard scores over all items, float32."""
        mean, spread = self.moments.of_query(query)
        if spread <= max(1e-6 * abs(mean), NORM_CAP):
            return np.zeros(len(products), np.float32)
        return ((products - mean) / spread).astype(np.float32)


def _padded(vectors: np.ndarray) -> np.ndarray:
    """float32 in C order, with a zero where the dimensions do not divide by PER_CODE."""
    found = np.ascontiguousarray(vectors, np.float32)
    over = -found.shape[1] % PER_CODE
    return np.pad(found, ((0, 0), (0, over))) if over else found
