"""A moment of a shop's past and what was bought after it: what choosing, learning and judging all start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import pandas as pd

from aisle.goal import PURCHASES
from engine.sources import Export


@dataclass(frozen=True)
class Window:
    """items and histories as known before `at`; truth: distinct user_id, item_id bought after it.

    exports: learned models by the name of their source, which saw nothing from `at` on. goal: what is meant by bought, see aisle.goal.
    """

    at: datetime
    items: pd.DataFrame
    histories: pd.DataFrame
    truth: pd.DataFrame
    exports: Mapping[str, Export] = field(default_factory=dict)
    goal: tuple[str, ...] = PURCHASES

    def buyers(self, most: int, seed: int) -> pd.DataFrame:
        """Histories of a seeded sample of those who bought in the window, by user id."""
        wanted = self.histories["user_id"].isin(set(self.truth["user_id"]))
        known = self.histories[wanted].sort_values("user_id")
        return known.sample(min(most, len(known)), random_state=seed).sort_index()
