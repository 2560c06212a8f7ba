"""The largest products of many users' vectors with all items', exactly, and most of them never multiplied out.

Vectors are also kept as bytes with a scale, of which a processor with AVX-512 VNNI multiplies four in place of one float (`engine.vnni`). How far
such a product can be off is known, so that it says of nearly every item that it is not among a user's best; the few that it leaves
are multiplied exactly. Items lie in the order of their lengths, and where the product of both lengths falls below the worst of a
user's best, this user is done. Without the instruction the cheap product is that of floats, by BLAS.

`engine.index` answers one user; this is for jobs that ask for thousands. docs/engine.md has what was measured beside it.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import sparse

LARGEST, ZERO = 127, 128  # of a byte; what stands for 0 in an unsigned one
USERS = 512  # a thread's, at a time: their marks and heaps stay in its cache
FLOATS = 4_096  # items that are multiplied at once where there are no bytes
WIDEST = 2**15  # dimensions whose sums 32 bits hold
ROUNDED, SMALLEST = (
    2.0**-23,
    2.0**-120,
)  # of a float: what a product of two is off by, in proportion and near 0


@dataclass(frozen=True)
class TopProducts:
    """vectors: (n_items, d) float32, held and not copied. May be read from many threads.

    order: (n_items,) the row of each place, longest vector first; place: the other way round. groups: (., 3) of GROUP items each:
    scale, error and length of the bytes, none of the items beyond. codes: of all, a byte each dimension; none without the instruction.
    """

    vectors: np.ndarray
    order: np.ndarray
    place: np.ndarray
    groups: np.ndarray
    codes: np.ndarray | None

    @classmethod
    def of(cls, vectors: np.ndarray, by_bytes: bool | None = None) -> TopProducts:
        """by_bytes: None where the machine decides. Raises ValueError without items, or where one is not finite."""
        from engine import vnni

        vectors = np.ascontiguousarray(vectors, np.float32)
        if not len(vectors) or not vectors.shape[1]:
            raise ValueError(f"no largest products of items of shape {vectors.shape}")
        _finite("item", vectors)
        order = np.argsort(-_lengths(vectors), kind="stable")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        if by_bytes is None:
            by_bytes = vnni.here() and vectors.shape[1] <= WIDEST
        return cls(vectors, order, place, *_coded(vectors, order, by_bytes))

    def top(
        self, users: np.ndarray, k: int, without: sparse.csr_array | None = None, threads: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(n, k) rows of the k items with the largest products, best first, ties by row, and (n, k) float64 products.

        -1 and -inf where a user has fewer. users: (n, d). without: (n, n_items), whose stored places are left out. threads: None for
        all cores that the process has. Raises ValueError where a user is not finite, or the shapes do not fit.
        """
        n, n_items = len(users), len(self.vectors)
        if users.shape[1:] != self.vectors.shape[1:]:
            raise ValueError(f"users of shape {users.shape} for items of shape {self.vectors.shape}")
        if without is not None and without.shape != (n, n_items):
            raise ValueError(f"what is left out has shape {without.shape}, not {(n, n_items)}")
        users = np.ascontiguousarray(users, np.float32)
        _finite("user", users)
        k = max(min(k, n_items), 0)
        values, rows = np.full((n, k), -np.inf), np.full((n, k), n_items)
        if k and n:
            if without is not None:
                without = sparse.csr_array(without)
            nothing = np.zeros(n + 1, np.int32), np.empty(0, np.int32)
            left_out = nothing if without is None else (without.indptr, without.indices)
            with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as cores:
                for _ in cores.map(
                    lambda mine: self._some(users[mine], *_rows_of(left_out, mine), values[mine], rows[mine]),
                    [slice(start, min(start + USERS, n)) for start in range(0, n, USERS)],
                ):
                    pass
        best = np.lexsort((rows, -values))
        rows, values = (np.take_along_axis(each, best, axis=1) for each in (rows, values))
        return np.where(rows < n_items, rows, -1), values

    def _some(
        self, users: np.ndarray, indptr: np.ndarray, indices: np.ndarray, values: np.ndarray, rows: np.ndarray
    ) -> None:
        # Where it is asked for: a job that answers nobody need not load a compiler.
        from engine import screen

        out, lengths = screen.marked(indptr, indices, self.place), _lengths(users)
        for user in np.flatnonzero(lengths == 0):
            screen.first_rows(user, self.place, out, values, rows)
        left, heaps = np.flatnonzero(lengths), (self.order, self.vectors, users)
        if self.codes is not None:
            coded, people = _bytes_of(users, lengths)
            screen.by_bytes(left, self.codes, self.groups, *heaps, coded, people, out, values, rows)
            return
        for start in range(0, len(self.order), FLOATS):
            some = self.vectors[self.order[start : start + FLOATS]]
            longest = float(_lengths(some[:1])[0])
            left = left[lengths[left] * longest >= values[left, 0]]
            if not len(left):
                return
            products = users[left] @ some.T
            slack = users.shape[1] * (ROUNDED * longest * lengths[left] + SMALLEST)
            screen.by_floats(left, start, products, slack, *heaps, out, values, rows)


def _rows_of(csr: tuple[np.ndarray, np.ndarray], mine: slice) -> tuple[np.ndarray, np.ndarray]:
    indptr, indices = csr[0][mine.start : mine.stop + 1], csr[1]
    return indptr - indptr[0], indices[indptr[0] : indptr[-1]]


def _coded(vectors: np.ndarray, order: np.ndarray, by_bytes: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """groups and codes, see TopProducts."""
    from engine.screen import GROUP
    from engine.vnni import BLOCK

    n, width = vectors.shape
    if not by_bytes:
        return np.empty((0, 3)), None
    quads, blocks = -(-width // 4), -(-n // BLOCK)
    codes = _aligned(blocks * quads * BLOCK * 4).reshape(blocks, quads, BLOCK, 4)
    groups = np.empty((-(-n // GROUP), 3))
    for group in range(len(groups)):
        some = vectors[order[group * GROUP : (group + 1) * GROUP]].astype(np.float64)
        scale = np.abs(some).max() / LARGEST or 1.0
        whole = np.rint(some / scale)
        groups[group] = scale, _lengths(some - whole * scale).max(), _lengths(some).max()
        padded = np.full((-(-len(some) // BLOCK) * BLOCK, 4 * quads), ZERO, np.uint8)
        padded[: len(some), :width] = whole + ZERO
        found = padded.reshape(-1, BLOCK, quads, 4).swapaxes(1, 2)
        codes[group * GROUP // BLOCK :][: len(found)] = found
    return groups, codes.reshape(-1)


def _bytes_of(users: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 4 * quads) int8, and (n, 4) what `screen` reads of a user: scale, error, length, what an item's ZERO adds."""
    scale = np.abs(users).max(axis=1).astype(np.float64) / LARGEST
    scale[scale == 0] = 1.0
    whole = np.rint(users / scale[:, None])
    coded = np.zeros((len(users), -(-users.shape[1] // 4) * 4), np.int8)
    coded[:, : users.shape[1]] = whole
    error = _lengths(users - whole * scale[:, None])
    return coded, np.column_stack([scale, error, lengths, ZERO * whole.sum(axis=1)])


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """(n,) float64, a trace too long, so that a bound by them holds whatever is rounded."""
    wide = np.asarray(vectors, np.float64)
    return np.sqrt(np.einsum("ij,ij->i", wide, wide)) * (1 + 1e-9)


def _aligned(size: int) -> np.ndarray:
    """(size,) uint8 that begin at a multiple of 64 bytes."""
    found = np.empty(size + 64, np.uint8)
    start = -found.ctypes.data % 64
    return found[start : start + size]


def _finite(what: str, vectors: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise ValueError(f"the vectors of {len(bad)} {what}s are not finite, the first of {what} {bad[0]}")
