"""What is going on with an item lately: who bought it over several windows, and whether people come back for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from engine.interactions import Events

WINDOWS = (7, 14, 30, 90)  # days
PRIOR_BUYERS = 8.0  # worth of a shop where one in eight buys again: an item with two buyers says little


@dataclass(frozen=True)
class Trends:
    """recent: (windows, n_items) float32 buyers in the newest WINDOWS days. buyers: (n_items,) float32, ever, and whoever else had a
    positive event: of an item that people looked at, the sources know something.

    again: (n_items,) float32 share of an item's buyers who bought it on more than one day, drawn towards one in eight.
    """

    recent: np.ndarray
    buyers: np.ndarray
    again: np.ndarray

    @classmethod
    def fit(cls, events: Events) -> Trends:
        """Of users only: a guest is never seen coming back."""
        n, buying = events.n_items, events.buying
        pair = events.user[buying].astype(np.int64) * n + events.item[buying]
        pairs, place = np.unique(pair, return_inverse=True)
        newest = np.full(len(pairs), np.inf)
        np.minimum.at(newest, place, events.age[buying])
        item = pairs % max(n, 1)
        recent = [np.bincount(item[newest <= days], minlength=n) for days in WINDOWS]
        often = np.bincount(item[_days(place, events.day[buying], len(pairs)) > 1], minlength=n)
        again = (often + 1.0) / (np.bincount(item, minlength=n) + PRIOR_BUYERS)
        buyers = np.bincount(events.owned().indices, minlength=n)
        return cls(np.array(recent, np.float32), buyers.astype(np.float32), again.astype(np.float32))

    @cached_property
    def rise(self) -> np.ndarray:
        """(n_items,) float32: how much more people bought an item in the last week than the weeks before let expect, in standard
        deviations of a Poisson count."""
        week, _, month, _ = self.recent
        expected = (month - week) * 7 / 23
        found: np.ndarray = (week - expected) / np.sqrt(expected + 1)
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        return {"recent": self.recent, "buyers": self.buyers, "again": self.again}


def _days(place: np.ndarray, day: np.ndarray, n: int) -> np.ndarray:
    """(n,) on how many different days each pair had an event."""
    different = np.unique(np.stack([place, day]), axis=1)
    return np.bincount(different[0], minlength=n)
