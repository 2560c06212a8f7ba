"""What this user buys often: in many shops the strongest signal there is, and useless for anything new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.interactions import Catalogue, Events
from engine.sources.base import Arrays, Source

if TYPE_CHECKING:
    from engine.history import OneUser


@dataclass(frozen=True)
class Personal(Source):
    """On how many days a user bought an item; ties by popularity, `tie` (n_items,) float32 in [0, 0.001].

    Days, not lines or units: a line split in two, or a pallet, is one decision. A day whose purchases were all sent back does
    not count, nor what is disliked by more than it was liked, nor a day of looking alone. Recency does not enter: on the data at hand it orders ties worse
    than popularity does, and the ranker reads it anyway.
    """

    tie: np.ndarray
    name = "personal"

    @classmethod
    def fit(cls, events: Events, catalogue: Catalogue) -> Personal:
        buyers = catalogue.numbers("n_buyers_30d")
        return cls((buyers / max(buyers.max(initial=0.0), 1.0) * 1e-3).astype(np.float32))

    def scores(self, events: Events) -> np.ndarray:
        days, net = events.lasting_days(), events.matrix()
        found = np.tile(self.tie, (events.n_users, 1))
        found[np.repeat(np.arange(events.n_users), np.diff(days.indptr)), days.indices] += days.data
        back = np.flatnonzero(net.data < 0)
        user, item = np.searchsorted(net.indptr, back, side="right") - 1, net.indices[back]
        found[user, item] = self.tie[item]
        return found

    def put(self, events: OneUser, out: np.ndarray) -> None:
        days, net = events.lasting_days(), events.matrix()
        out[:] = self.tie
        out[days.indices] += days.data
        back = net.indices[net.data < 0]
        out[back] = self.tie[back]

    def evidences(self, events: Events, items: np.ndarray) -> Sequence[dict | None]:
        """{'item', 'own': True}: what the user did with it is the events' to tell (engine.explain)."""
        mine = {*events.owned().indices.tolist()}
        return [{"item": item, "own": True} if item in mine else None for item in items.tolist()]

    def arrays(self) -> Arrays:
        return {"tie": self.tie}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Personal:
        return cls(arrays["tie"])
