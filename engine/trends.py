"""What is going on with an item lately: who bought it over several windows, and whether people come back for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.interactions import Events

WINDOWS = (7, 14, 30, 90)  # days
PRIOR_BUYERS = 8.0  # worth of a shop where one in eight buys again: an item with two buyers says little


@dataclass(frozen=True)
class Trends:
    """recent: (windows, n_items) float32 buyers in the newest WINDOWS days. buyers: (n_items,) float32, ever.

    again: (n_items,) float32 share of an item's buyers who bought it on more than one day, drawn towards one in eight.
    """

    recent: np.ndarray
    buyers: np.ndarray
    again: np.ndarray

    @classmethod
    def fit(cls, events: Events) -> Trends:
        """Positive events of users only: a guest is never seen coming back."""
        positive = events.weight > 0
        pair = events.user[positive].astype(np.int64) * events.n_items + events.item[positive]
        pairs, place = np.unique(pair, return_inverse=True)
        newest = np.full(len(pairs), np.inf)
        np.minimum.at(newest, place, events.age[positive])
        item = pairs % max(events.n_items, 1)
        recent = [np.bincount(item[newest <= days], minlength=events.n_items) for days in WINDOWS]
        buyers = np.bincount(item, minlength=events.n_items)
        often = np.bincount(
            item[_days(place, events.day[positive], len(pairs)) > 1], minlength=events.n_items
        )
        again = (often + 1.0) / (buyers + PRIOR_BUYERS)
        return cls(np.array(recent, np.float32), buyers.astype(np.float32), again.astype(np.float32))

    def arrays(self) -> dict[str, np.ndarray]:
        return {"recent": self.recent, "buyers": self.buyers, "again": self.again}


def _days(place: np.ndarray, day: np.ndarray, n: int) -> np.ndarray:
    """(n,) on how many different days each pair had an event."""
    different = np.unique(np.stack([place, day]), axis=1)
    return np.bincount(different[0], minlength=n)
