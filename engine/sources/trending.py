"""What is bought more lately than before: the same for everybody, and gone next month."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.interactions import Catalogue, Events
from engine.sources.base import Arrays, Source
from engine.trends import Trends

if TYPE_CHECKING:
    from engine.history import OneUser


@dataclass(frozen=True)
class Trending(Source):
    """How far an item's buyers of the last week are above those that the weeks before let expect: `Trends.rise`, below zero for what
    goes out of fashion.

    rise, week, month: (n_items,) float32; the last two are buyers of the newest 7 and 30 days.
    """

    rise: np.ndarray
    week: np.ndarray
    month: np.ndarray
    name = "trending"

    @classmethod
    def fit(cls, events: Events, catalogue: Catalogue) -> Trending:
        trends = Trends.fit(events)
        week, _, month, _ = trends.recent
        return cls(trends.rise, week, month)

    def scores(self, events: Events) -> np.ndarray:
        return np.tile(self.rise, (events.n_users, 1))

    def put(self, events: OneUser, out: np.ndarray) -> None:
        out[:] = self.rise

    def evidences(self, events: Events, items: np.ndarray) -> Sequence[dict | None]:
        """Nothing of what is not on the rise: another source is why it is here."""
        told = zip(
            self.week[items].tolist(), self.month[items].tolist(), self.rise[items].tolist(), strict=True
        )
        return [
            {"buyers_7d": int(week), "buyers_30d": int(month), "trending": True} if rise > 0 else None
            for week, month, rise in told
        ]

    def arrays(self) -> Arrays:
        return {"rise": self.rise, "week": self.week, "month": self.month}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Trending:
        return cls(arrays["rise"], arrays["week"], arrays["month"])
