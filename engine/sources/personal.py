"""What this user buys often: in many shops the strongest signal there is, and useless for anything new."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.interactions import Catalogue, Events
from engine.sources.base import Arrays


@dataclass(frozen=True)
class Personal:
    """On how many days a user bought an item; ties by popularity, `tie` (n_items,) float32 in [0, 0.001].

    Days, not lines or units: a line split in two, or a pallet, is one decision. What was sent back as often
    as it was bought counts as never bought. Recency does not enter: on the data at hand it orders ties worse
    than popularity does, and the ranker reads it anyway.
    """

    tie: np.ndarray
    name = "personal"

    @classmethod
    def fit(cls, events: Events, catalogue: Catalogue) -> Personal:
        buyers = catalogue.numbers("n_buyers_30d")
        return cls((buyers / max(buyers.max(initial=0.0), 1.0) * 1e-3).astype(np.float32))

    def scores(self, events: Events) -> np.ndarray:
        kept = events.days().toarray()
        kept[(events.matrix() < 0).toarray()] = 0.0
        return kept + self.tie

    def evidence(self, events: Events, item: int) -> dict | None:
        mine = (events.item == item) & (events.weight > 0)
        if not mine.any():
            return None
        times = len(np.unique(events.day[mine]))
        return {"times": times, "days_ago": round(float(events.age[mine].min()), 1)}

    def arrays(self) -> Arrays:
        return {"tie": self.tie}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Personal:
        return cls(arrays["tie"])
