"""Item-item cosine: people who bought this also bought that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from engine.interactions import Catalogue, Events
from engine.sources.base import Arrays, Source
from engine.sources.neighbours import Over, by_column, nearest, pack, product, strongest, unpack

if TYPE_CHECKING:
    from engine.history import OneUser


@dataclass(frozen=True)
class ItemItem(Source):
    """Cosine of buyers, shrunk for pairs with few: common / (|i| |j| + shrinkage). Sarwar et al. (2001).

    Who looked at an item without buying it counts as a part of a buyer, see `Events.strength`.

    similarity: (n_items, n_items) sparse float32, the largest of each column; zero diagonal.
    half_life_days: of the history that it is scored from.
    """

    similarity: sparse.csr_array
    half_life_days: float
    name = "item_item"

    @classmethod
    def fit(
        cls,
        events: Events,
        catalogue: Catalogue,
        shrinkage: float = 5.0,
        neighbours: int = 200,
        half_life_days: float = 60.0,
    ) -> ItemItem:
        taken = events.strength()
        norm = np.sqrt(np.asarray(taken.power(2).sum(axis=0)).ravel().astype(np.float32))
        similarity = nearest(sparse.csr_array(taken.T), taken, neighbours, Over(norm, norm, shrinkage))
        return cls(by_column(similarity), half_life_days)

    def scores(self, events: Events) -> np.ndarray:
        return product(events.tastes(self.half_life_days), self.similarity, events)

    def put(self, events: OneUser, out: np.ndarray) -> None:
        events.tastes(self.half_life_days).put(self.similarity, out)

    @cached_property
    def by_target(self) -> sparse.csr_array:
        """Transposed, so that an item's own neighbours lie in one row."""
        return sparse.csr_array(self.similarity.T.tocsr())

    def similar(self, item: int) -> np.ndarray:
        """(n_items,) similarity to one item."""
        return self.by_target[[item]].toarray().ravel()

    def evidences(self, events: Events, items: np.ndarray) -> Sequence[dict | None]:
        return strongest(self.similarity, events.tastes(self.half_life_days), items)

    def arrays(self) -> Arrays:
        return {**pack(self.similarity), "parameters": np.array([self.half_life_days])}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> ItemItem:
        return cls(unpack(arrays), float(arrays["parameters"][0]))
