"""Histories as flat arrays: the one place where an event's type and age become a weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from engine.state import DAY, UserState, epoch


@dataclass(frozen=True)
class Catalogue:
    """The items that can be recommended: row i of every item array is item_ids[i].

    frame: one row per item, in the same order: title, categories, price, n_buyers_30d and whatever else is
    known.
    """

    item_ids: list[str]
    frame: pd.DataFrame

    @classmethod
    def of(cls, items: pd.DataFrame) -> Catalogue:
        """From an items frame, sorted by id whatever the reader's order; deleted items are no candidates."""
        shown = items[~items["deleted"].fillna(False).astype(bool)] if "deleted" in items else items
        shown = shown.drop_duplicates("item_id").sort_values("item_id").reset_index(drop=True)
        return cls(shown["item_id"].astype(str).tolist(), shown)

    @cached_property
    def index(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.item_ids)}

    def __len__(self) -> int:
        return len(self.item_ids)

    def value(self, column: str, row: int) -> Any:
        """One item's value; None where it is unknown. Lists come as lists."""
        if column not in self.frame:
            return None
        found: Any = self.frame[column].iat[row]
        if isinstance(found, (list, tuple, np.ndarray)):
            return list(found)
        return None if pd.isna(found) else found

    def numbers(self, column: str) -> np.ndarray:
        """A numeric column as float64, with 0 where nothing is known."""
        if column not in self.frame:
            return np.zeros(len(self))
        return pd.to_numeric(self.frame[column], errors="coerce").fillna(0.0).to_numpy(float)


@dataclass(frozen=True)
class Events:
    """Events of many users in parallel arrays, those with unknown items or weightless types left out.

    states: whose events these are. user, item: int32 rows. weight: float32 by event type. age: float64 days
    before `now`, never negative. countries: one name a user, '' where unknown.
    """

    states: Sequence[UserState]
    n_items: int
    user: np.ndarray
    item: np.ndarray
    weight: np.ndarray
    age: np.ndarray
    countries: np.ndarray
    now: datetime

    @classmethod
    def of(
        cls,
        states: Sequence[UserState],
        index: Mapping[str, int],
        now: datetime,
        event_weights: Mapping[str, float],
    ) -> Events:
        """Flattens states at a moment. `index`: item id -> row."""
        lengths = [len(state.item_ids) for state in states]
        total = sum(lengths)

        def flat(values, kind) -> np.ndarray:
            return np.fromiter(values, kind, total)

        user = np.repeat(np.arange(len(states), dtype=np.int32), lengths)
        item = flat((index.get(i, -1) for i in chain.from_iterable(s.item_ids for s in states)), np.int32)
        kinds = chain.from_iterable(s.event_types for s in states)
        weight = flat((event_weights.get(kind, 0.0) for kind in kinds), np.float32)
        moment = epoch(now)
        times = flat(chain.from_iterable(s.event_times for s in states), np.float64)
        keep = (item >= 0) & (weight != 0)
        return cls(
            states,
            len(index),
            user[keep],
            item[keep],
            weight[keep],
            np.maximum(moment - times[keep], 0.0) / DAY,
            np.array([s.country or "" for s in states], dtype=object),
            now,
        )

    @property
    def n_users(self) -> int:
        return len(self.states)

    @cached_property
    def day(self) -> np.ndarray:
        """Whole days since 1970 of each event, UTC."""
        return np.floor(epoch(self.now) / DAY - self.age).astype(np.int64)

    def matrix(self, half_life_days: float | None = None) -> sparse.csr_array:
        """(users, items) float32: sums of weights, halved every `half_life_days`; a return takes one back."""
        values = self.weight if half_life_days is None else self.weight * 0.5 ** (self.age / half_life_days)
        return self._sum(values)

    def tastes(self, half_life_days: float | None = None) -> sparse.csr_array:
        """(users, items) float32: log1p of the positive part of `matrix`: n purchases say more, not n
        times.
        """
        found = self.matrix(half_life_days)
        found.data = np.log1p(np.maximum(found.data, 0.0))
        found.eliminate_zeros()
        return found

    def days(self) -> sparse.csr_array:
        """(users, items) float32: on how many different days a user had a positive event with an item."""
        positive = np.flatnonzero(self.weight > 0)
        triples = np.stack([self.user[positive], self.item[positive], self.day[positive]])
        _, first = np.unique(triples, axis=1, return_index=True)
        which = np.zeros(len(self.user), bool)
        which[positive[first]] = True
        return self.counts(which)

    def owned(self) -> sparse.csr_array:
        """(users, items) 1 where the user ever had a positive event with the item."""
        return self.counts(self.weight > 0, clip=True)

    def counts(self, which: np.ndarray, clip: bool = False) -> sparse.csr_array:
        """(users, items) float32: how many of the chosen events each pair has; 1 at most with `clip`."""
        found = self._sum(which.astype(np.float32))
        found.eliminate_zeros()
        if clip:
            found.data[:] = 1.0
        return found

    def _sum(self, values: np.ndarray) -> sparse.csr_array:
        shape = (self.n_users, self.n_items)
        found = sparse.coo_array((values.astype(np.float32), (self.user, self.item)), shape=shape).tocsr()
        found.sum_duplicates()
        return found
