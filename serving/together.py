"""What is bought in the same orders: `gold.co_visits` in memory, as new as the table.

Read without Spark by a thread after a release came, and again when the table has another version. Until then, and in a
shop without orders, the release's own item-item similarities speak.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import numpy as np

from aisle import clock, features, lake
from engine.recommender import Recommender

log = logging.getLogger("aisle.together")
TABLE = "gold.co_visits"
LOOK_SECONDS = 60.0


class Together:
    """`neighbours`: item id -> (ids, cosines over orders), best first. Swapped as a whole."""

    def __init__(self) -> None:
        self.neighbours: dict[str, tuple[list[str], np.ndarray]] = {}
        self.version = -1
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="together", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout=10)

    def refresh(self) -> None:
        """Looks at the table soon; called when a release was swapped in."""
        self._wake.set()

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except Exception:  # lists go on with what is in memory
                log.exception("reading %s failed", TABLE)
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()

    def look(self) -> bool:
        """One look; True where the table was read anew."""
        version, built = lake.version(TABLE), features.built()
        if version < 0 or built is None or version == self.version:
            return False
        rows = lake.read(
            TABLE,
            columns=["item_id", "neighbours", "scores"],
            filters=[("as_of", "=", clock.parse(built.as_of))],
        ).to_pylist()
        self.neighbours = {
            row["item_id"]: (row["neighbours"] or [], np.array(row["scores"] or [], np.float32))
            for row in rows
        }
        self.version = version
        return True

    def scores(self, recommender: Recommender, items: list[str]) -> tuple[np.ndarray, str]:
        """(n_items,) float32 sums over `items`, of which at least one must be in the catalogue, and who said it."""
        catalogue = recommender.catalogue
        found = np.zeros(len(catalogue), np.float32)
        neighbours = self.neighbours
        for item in items:
            ids, scores = neighbours.get(item, ((), ()))
            for other, score in zip(ids, scores, strict=True):
                row = catalogue.index.get(other)
                if row is not None:
                    found[row] += score
        if found.any():
            return found, "together"
        source: Any = recommender.sources["item_item"]
        for item in items:
            if item in catalogue.index:
                found += source.similar(catalogue.index[item]).astype(np.float32)
        return found, "item_item"
