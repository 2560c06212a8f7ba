"""The last stage over a ranked list: boosts, caps and diversity. Off by default; a part of the recipe, so that it can be measured.

Boosts move scores, before anything is cut off. Then the best `depth` items of each list are picked anew, one place after the
other: what is like the items above it, or over a cap, waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from aisle.settings import Boost, Final
from engine.discovery import DEPTH, Discovery
from engine.history import OneUser
from engine.interactions import Catalogue, Events
from engine.metrics import top_k

DISLIKE_DEPTH = 100  # places that a dislike, weight -1, costs an item that would have been first
DISLIKE_HALF_LIFE = 30.0  # days
BARRED = 1e3  # taken off the worth of what is over a cap: it comes after all else


def demote(scores: np.ndarray, events: Events) -> None:
    """Lowers, in place, each user's own items whose weights sum below zero: returned, disliked, shown again and again in vain.

    scores: (n_users, n_items) of the users of `events`. A weight of -1 costs what lies between the user's best score and
    the one at DISLIKE_DEPTH, halved with DISLIKE_HALF_LIFE: scores of blend and trees have no common scale, places do.
    """
    if not (events.weight < 0).any():
        return
    if isinstance(events, OneUser):
        _demote_one(scores[0], events)
        return
    net, recent = events.matrix().tocoo(), events.matrix(DISLIKE_HALF_LIFE).tocsr()
    below = net.data < -1e-6
    user, item = net.coords[0][below], net.coords[1][below]
    if not len(user):
        return
    weight = np.asarray(recent[user, item]).ravel()
    whose, place = np.unique(user, return_inverse=True)
    rows = np.where(np.isfinite(scores[whose]), scores[whose], -np.inf)
    depth = min(DISLIKE_DEPTH, rows.shape[1])
    best = -np.partition(-rows, depth - 1, axis=1)[:, :depth]
    some = np.isfinite(best)
    span = np.where(some, best, -1e30).max(axis=1) - np.where(some, best, 1e30).min(axis=1)
    span[~some.any(axis=1)] = 0.0
    scores[user, item] += (np.minimum(weight, 0.0) * span[place]).astype(scores.dtype)


def _demote_one(scores: np.ndarray, events: OneUser) -> None:
    """`demote` of one user's scores, (n_items,)."""
    from engine.compiled.best import span  # where it is asked for, as in engine.one_user

    net = events.matrix()
    below = np.flatnonzero(net.data < -1e-6)
    if len(below):
        weight = np.minimum(events.matrix(DISLIKE_HALF_LIFE).data[below], 0.0)
        scores[net.indices[below]] += weight * span(scores, DISLIKE_DEPTH)


@dataclass(frozen=True)
class LastStage:
    """A `Final` over one catalogue.

    codes: by capped column, (n_items,) int, -1 where unknown. factor, addend: (n_items,) float32 of the boosts. similarity:
    (n_items, n_items) sparse, symmetric; None without diversity. discovery: None where there are no prices, and so no slots.
    May be read from many threads.
    """

    asked: Final
    codes: dict[str, np.ndarray]
    factor: np.ndarray
    addend: np.ndarray
    similarity: sparse.csr_array | None
    discovery: Discovery | None = None

    @classmethod
    def of(
        cls,
        asked: Final,
        catalogue: Catalogue,
        sources: Mapping[str, Any],
        discovery: Discovery | None = None,
    ) -> LastStage:
        """Raises ValueError for a column that the catalogue lacks, or a source that was not fitted."""
        wanted = [*asked.caps, *(boost.column for boost in asked.boosts)]
        unknown = sorted({column for column in wanted if column not in catalogue.frame})
        if unknown:
            there = ", ".join(map(str, catalogue.frame.columns))
            raise ValueError(f"last stage: items have no column {', '.join(unknown)}; there are: {there}")
        similarity = None
        if asked.strength:
            if asked.similar_by not in sources:
                raise ValueError(f"last stage: similar_by {asked.similar_by!r} is none of {sorted(sources)}")
            found = sparse.csr_array(sources[asked.similar_by].similarity)
            similarity = sparse.csr_array(found.maximum(found.T))
        return cls(
            asked,
            {column: codes_of(catalogue.frame[column]) for column in asked.caps},
            *_boosts(asked.boosts, catalogue),
            similarity,
            discovery,
        )

    @cached_property
    def moved(self) -> np.ndarray:
        """Rows of the items that the boosts move."""
        return np.flatnonzero((self.factor != 1) | (self.addend != 0))

    def boost(self, scores: np.ndarray) -> None:
        """Moves (n_users, n_items) scores in place; what is not finite stays so."""
        moved = self.moved
        if not len(moved):
            return
        least = np.where(np.isfinite(scores), scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
        before = scores[:, moved]
        clean = np.where(np.isfinite(before), before, 0.0)
        least = np.where(np.isfinite(least), least, 0.0)
        after = least + (clean - least) * self.factor[moved] + self.addend[moved]
        scores[:, moved] = np.where(np.isfinite(before), after, before)

    @property
    def slots(self) -> int:
        return self.asked.discovery_slots if self.discovery else 0

    def discover(self, order: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """One user's order, rows best first, with its discovery slots filled; scores: (n_items,)."""
        return self.discovery.insert(order, scores, self.slots) if self.discovery and self.slots else order

    def discovered(self, order: np.ndarray) -> set[int]:
        """Rows of such an order that stand in a slot."""
        return set(self.discovery.at(order, self.slots).tolist()) if self.discovery else set()

    def top(self, scores: np.ndarray, k: int) -> np.ndarray:
        """(n_users, k) item rows as `metrics.top_k`, with caps, diversity and discovery slots."""
        if not self.slots or k <= DEPTH - self.slots:
            return self._picked(scores, k)
        found = np.full((len(scores), min(k, scores.shape[1])), -1, np.int64)
        for user, order in enumerate(self._picked(scores, max(k, DEPTH))):
            order = self.discover(order[order >= 0], scores[user])[:k]
            found[user, : len(order)] = order
        return found

    def _picked(self, scores: np.ndarray, k: int) -> np.ndarray:
        if not self.asked.reorders:
            return top_k(scores, k)
        pools = top_k(scores, max(self.asked.depth, k))
        found = np.full((len(scores), min(k, scores.shape[1])), -1, np.int64)
        for user, pool in enumerate(pools):
            pool = pool[pool >= 0]
            places = rerank(
                pool, self.similarity, self.asked.strength, self.codes, self.asked.caps, found.shape[1]
            )
            found[user, : len(places)] = pool[places]
        return found


def rerank(
    pool: np.ndarray,
    similarity: sparse.csr_array | None,
    strength: float,
    codes: Mapping[str, np.ndarray],
    caps: Mapping[str, int],
    k: int,
) -> np.ndarray:
    """Places in `pool` (item rows, best first) of a list of k: greedily, by maximal marginal relevance within the caps.

    Carbonell and Goldstein, The Use of MMR, Diversity-Based Reranking (1998): each place takes the item that maximises
    (1 - strength) * relevance - strength * its largest similarity to an item above it. Relevance is the discount of the
    place in `pool`, 1 / log2(1 + place): scores of blend and trees have no common scale, and what a place is worth to a
    shopper has. A cap is broken only where the pool has nothing else for a place.
    """
    n = len(pool)
    worth = (1.0 - strength) / np.log2(np.arange(2, n + 2))
    nearest = np.zeros(n)
    limits = [(codes[column][pool], cap) for column, cap in caps.items()]
    chosen: list[int] = []
    near = _Near.of(similarity, pool) if similarity is not None else None
    for _ in range(min(k, n)):
        best = int(np.argmax(worth - strength * nearest))
        chosen.append(best)
        worth[best] = -np.inf
        for values, cap in limits:
            same = values == values[best]
            if values[best] >= 0 and np.count_nonzero(same[chosen]) == cap:
                worth[same] -= BARRED
        if near is not None:
            near.raise_to(nearest, int(pool[best]))
    return np.array(chosen, np.int64)


@dataclass(frozen=True)
class _Near:
    """Similarities to the items of one pool. place: (n_items,) each item's place in it, -1 outside."""

    similarity: sparse.csr_array
    place: np.ndarray

    @classmethod
    def of(cls, similarity: sparse.csr_array, pool: np.ndarray) -> _Near:
        place = np.full(similarity.shape[0], -1, np.int32)
        place[pool] = np.arange(len(pool))
        return cls(similarity, place)

    def raise_to(self, nearest: np.ndarray, item: int) -> None:
        """Raises `nearest`, by place, to the similarity with `item`. Read from the row itself: slicing costs ten times this."""
        start, end = self.similarity.indptr[item : item + 2]
        places = self.place[self.similarity.indices[start:end]]
        inside = places >= 0
        places = places[inside]
        nearest[places] = np.maximum(nearest[places], self.similarity.data[start:end][inside])


def codes_of(column: pd.Series) -> np.ndarray:
    """(n_items,) a number for each different value, -1 where there is none; of a list, its last value."""
    values = [_last(value) for value in column]
    numbers: dict[str, int] = {}
    return np.array(
        [-1 if value is None else numbers.setdefault(value, len(numbers)) for value in values], np.int64
    )


def _last(value: Any) -> str | None:
    found = _listed(value)
    return found[-1] if found else None


def _listed(value: Any) -> list[str]:
    """A cell's values as text: of a list all, of anything else its one; none where it is unknown."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return [str(each) for each in value]
    return [] if value is None or value is pd.NA or value != value or value == "" else [str(value)]


def _boosts(boosts: Sequence[Boost], catalogue: Catalogue) -> tuple[np.ndarray, np.ndarray]:
    """factor and addend of each item, in the boosts' order."""
    factor, addend = np.ones(len(catalogue), np.float32), np.zeros(len(catalogue), np.float32)
    for boost in boosts:
        cells = catalogue.frame[boost.column]
        there = np.fromiter((boost.value in _listed(each) for each in cells), bool, len(catalogue))
        factor[there] *= boost.times
        addend[there] = addend[there] * boost.times + boost.add
    return factor, addend
