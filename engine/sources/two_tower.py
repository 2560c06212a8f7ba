"""A trained two-tower model as a source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from engine.interactions import Catalogue, Events
from engine.sources.base import Arrays, Source
from engine.sources.neighbours import strongest_of
from engine.towers import TowerExport, read, vectors_of, without_each

OCCLUDED = 20  # newest different items of a history that are tried as evidence


@dataclass(frozen=True)
class TwoTower(Source):
    """Products of user vectors (unit length) and item vectors (length 1 at most), for the items of the catalogue.

    rows: (n_items,) the tower's row of each catalogue item, -1 where it was not there when the tower was
    trained: such items score -1, which no item scores less than.
    """

    export: TowerExport
    rows: np.ndarray
    name = "two_tower"

    @classmethod
    def fit(cls, export: TowerExport, catalogue: Catalogue) -> TwoTower:
        rows = [export.item_index.get(item, -1) for item in catalogue.item_ids]
        return cls(export, np.array(rows, np.int64))

    @cached_property
    def vectors(self) -> np.ndarray:
        """(n_items, d) in the catalogue's order; zeros for items that the tower does not know."""
        return self.export.item_vectors[self.rows] * (self.rows >= 0)[:, None]

    @cached_property
    def places(self) -> np.ndarray:
        """(tower's items,) the catalogue's row of each, -1 where it has none: the inverse of `rows`."""
        found = np.full(len(self.export.item_ids), -1)
        known = np.flatnonzero(self.rows >= 0)
        found[self.rows[known]] = known
        return found

    def users(self, events: Events) -> np.ndarray:
        """(n_users, d) float32."""
        return vectors_of(self.export, events.states, *self._read(events))

    def _read(self, events: Events) -> tuple[np.ndarray, np.ndarray]:
        """The histories as the tower reads them; of one user's question once for scores and reasons."""
        kept: dict = getattr(events, "kept", {})
        key = (self.name, id(self.export))
        if key not in kept:
            kept[key] = read(self.export, events.states, events.now)
        found: tuple[np.ndarray, np.ndarray] = kept[key]
        return found

    def scores(self, events: Events) -> np.ndarray:
        users = self.users(events)
        found = users @ self.vectors.T
        found[:, self.rows < 0] = np.where(np.isfinite(users).all(axis=1, keepdims=True), -1.0, np.nan)
        return found.astype(np.float32, copy=False)

    def evidences(self, events: Events, items: np.ndarray) -> Sequence[dict | None]:
        """The item of the history without which the score falls most and its share of all that falls, where there is one, and
        'taste': True."""
        if not len(events.item):
            return [None] * len(items)
        rows, weights = self._read(events)
        tried, users = without_each(self.export, events.states[0], rows[0], weights[0], OCCLUDED)
        named = self.places[tried]  # what the catalogue does not have can be no reason
        score = users @ self.vectors[items].T
        found = strongest_of(named[named >= 0], (score[0] - score[1:])[named >= 0])
        return [{**(each or {}), "taste": True} for each in found]

    def arrays(self) -> Arrays:
        tower = self.export
        layers = {f"kernel_{i}": kernel for i, (kernel, _, _) in enumerate(tower.layers)}
        layers |= {f"bias_{i}": bias for i, (_, bias, _) in enumerate(tower.layers)}
        return {
            "rows": self.rows,
            "item_ids": np.array(tower.item_ids, dtype=np.str_),
            "item_vectors": tower.item_vectors,
            "history_embeddings": tower.history_embeddings,
            "countries": np.array(tower.countries, dtype=np.str_),
            "country_embeddings": tower.country_embeddings,
            "activations": np.array([activation for _, _, activation in tower.layers], dtype=np.str_),
            "parameters": np.array([tower.half_life_days, tower.history_items]),
            "event_types": np.array(list(tower.event_weights), dtype=np.str_),
            "event_weights": np.array(list(tower.event_weights.values()), np.float64),
            **layers,
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> TwoTower:
        activations = arrays["activations"].tolist()
        half_life_days, history_items = arrays["parameters"].tolist()
        export = TowerExport(
            item_ids=arrays["item_ids"].tolist(),
            item_vectors=arrays["item_vectors"],
            history_embeddings=arrays["history_embeddings"],
            countries=arrays["countries"].tolist(),
            country_embeddings=arrays["country_embeddings"],
            layers=[(arrays[f"kernel_{i}"], arrays[f"bias_{i}"], kind) for i, kind in enumerate(activations)],
            half_life_days=half_life_days,
            history_items=int(history_items),
            event_weights=dict(
                zip(arrays["event_types"].tolist(), arrays["event_weights"].tolist(), strict=True)
            ),
        )
        return cls(export, arrays["rows"])
