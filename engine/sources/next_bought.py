"""What people with such a history bought next: their newest purchases, regressed on what they had before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve

from engine.interactions import Catalogue, Events
from engine.sources.base import Arrays, Source
from engine.sources.linear import WHOLE, co_occurrence, submatrix
from engine.sources.neighbours import (
    by_column,
    keep_largest,
    keep_largest_of_rows,
    pack,
    product,
    products,
    strongest,
    unpack,
)

if TYPE_CHECKING:
    from engine.history import OneUser


@dataclass(frozen=True)
class NextBought(Source):
    """Ridge regression of what was bought for the first time in the newest days on what its buyers had had by then.

    What they had is all that they bought or looked at; what they got are purchases alone.

    An item model such as `linear` asks which items people have; this one asks which they get next. Weights of a past that
    lies before its own future, as in next-basket models: Rendle et al., Factorizing Personalized Markov Chains (2010), here
    over the whole history and in closed form. It says nothing where all events are of one moment.

    weights: (n_items, n_items) sparse float32: row = item in the history, column = item scored.
    """

    weights: sparse.csr_array
    name = "next_bought"

    @classmethod
    def fit(
        cls,
        events: Events,
        catalogue: Catalogue,
        days: float = 28.0,
        ridge: float = 1000.0,
        neighbours: int = 400,
        nearby: int = 100,
    ) -> NextBought:
        """days: how long the newest purchases reach back; of people with a history before them alone.

        neighbours: weights kept of each item. Beyond WHOLE items each is regressed on the `nearby` ones that its buyers had
        most. Memory: two (n_items, n_items) float32 matrices up to WHOLE items, 8 nearby bytes an item beyond.
        """
        had = events.counts(events.positive & (events.age > days), clip=True).astype(np.float32)
        got = events.counts(events.buying & (events.age <= days), clip=True).astype(np.float32)
        both = (np.diff(had.indptr) > 0) & (np.diff(got.indptr) > 0)
        had, got = sparse.csr_array(had[both]), sparse.csr_array(got[both])
        first = sparse.csr_array(got - got.multiply(had))
        first.eliminate_zeros()
        if not first.nnz:
            return cls(sparse.csr_array((events.n_items, events.n_items), dtype=np.float32))
        if events.n_items > WHOLE:
            return cls(_local(had, first, ridge, nearby))
        gram = (had.T @ had).toarray()
        gram[np.diag_indices_from(gram)] += np.float32(ridge)
        crossed = (had.T @ first).toarray()
        solved = cho_solve(cho_factor(gram, lower=True, overwrite_a=True), crossed, overwrite_b=True)
        return cls(keep_largest(solved, neighbours))

    def scores(self, events: Events) -> np.ndarray:
        return product(_had(events), self.weights, events)

    def put(self, events: OneUser, out: np.ndarray) -> None:
        _had(events).put(self.weights, out)

    def evidences(self, events: Events, items: np.ndarray) -> Sequence[dict | None]:
        return strongest(self.weights, _had(events), items)

    def arrays(self) -> Arrays:
        return pack(self.weights)

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> NextBought:
        return cls(unpack(arrays))


def _had(events: Events) -> sparse.csr_array:
    return events.owned()


def _local(had: sparse.csr_array, first: sparse.csr_array, ridge: float, nearby: int) -> sparse.csr_array:
    """As `linear.local`: each item on the `nearby` items that its new buyers had most."""
    gram = co_occurrence(had)
    crossed = products(sparse.csr_array(first.T), had)
    found = sparse.csr_array(
        sparse.vstack([keep_largest_of_rows(part, nearby) for _, part in crossed], format="csr")
    )
    place = np.full(gram.shape[0], -1, np.int32)
    for item in range(gram.shape[0]):
        mine = slice(found.indptr[item], found.indptr[item + 1])
        chosen = found.indices[mine]
        if len(chosen):
            square = submatrix(gram, chosen, place)
            square[np.diag_indices_from(square)] += np.float32(ridge)
            found.data[mine] = np.linalg.solve(square, found.data[mine])
    return by_column(found)
