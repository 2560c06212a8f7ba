"""Sources whose score is the product of a user's vector with an item's: what an index over their items needs of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from engine.cold import SPEAK_FOR_THEMSELVES, Cold
from engine.index import INDEXED_FROM, Indexed
from engine.new_items import Grown
from engine.sources.factors import Factors
from engine.sources.neighbours import Taste
from engine.sources.two_tower import TwoTower

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.interactions import Events
    from engine.sources.base import Source


def indexed(
    sources: Mapping[str, Source], n_items: int, cold: Cold | None, like: Mapping[str, Indexed] | None = None
) -> dict[str, Indexed]:
    """By source, its items behind an index; nothing for a catalogue of fewer than INDEXED_FROM items, whose scan is cheap.

    like: those of a model over fewer items, to which the others are added.
    """
    if n_items < INDEXED_FROM:
        return {}
    found = {name: vectors_of(source) for name, source in sources.items()}
    return {
        name: Indexed.of(filled(name, vectors, cold), (like or {}).get(name))
        for name, vectors in found.items()
        if vectors is not None
    }


def vectors_of(source: Any) -> np.ndarray | None:
    """(n_items, d) float32 whose products with `query_of` are the source's scores; None for a source of another kind."""
    if isinstance(source, Grown):
        inner = vectors_of(source.inner)
        return None if inner is None else np.pad(inner, ((0, source.n_items - source.n_fitted), (0, 0)))
    if isinstance(source, Factors):
        return source.items
    if isinstance(source, TwoTower):  # what the tower does not know scores -1, as `TwoTower.scores` says
        return np.hstack([source.vectors, -(source.rows < 0)[:, None].astype(np.float32)])
    return None


def query_of(source: Any, events: Events) -> np.ndarray:
    """(d,) float32 of the one user of `events`, for a source that has `vectors_of`."""
    if isinstance(source, Grown):
        return query_of(source.inner, events.among(source.n_fitted))
    if isinstance(source, Factors):
        tastes = events.tastes(source.half_life_days)
        return source.user(tastes) if isinstance(tastes, Taste) else source.users(tastes)[0]
    return np.append(source.users(events)[0], np.float32(1.0)).astype(np.float32)


def filled(name: str, vectors: np.ndarray, cold: Cold | None) -> np.ndarray:
    """With the vectors of items without a buyer as the source is read for them: `Cold.fill` is linear in the items."""
    if cold is None or name in SPEAK_FOR_THEMSELVES or not len(cold.items):
        return vectors
    found = np.array(vectors, np.float32)
    found[cold.items] = cold.alike @ vectors
    return found
