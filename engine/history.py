"""One user's events, the way of every request: sums that every source asks for, each made once.

What is compiled is imported where it is asked for: a job that answers nobody need not load a compiler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cached_property
from itertools import repeat
from typing import Any

import numpy as np

from engine.interactions import MERE, NO_PAIRS, PAST, Events, Past, Types
from engine.sources.neighbours import Taste
from engine.state import DAY, UserState, epoch


@dataclass(frozen=True)
class OneUser(Events):
    """Events of one question. Nobody changes in place what it makes. `matrix` and what is like it are a `Taste`."""

    kept: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def alone(cls, state: UserState, index: Mapping[str, int], now: datetime, types: Types) -> OneUser:
        """As `Events.of` of one state. index: item id -> row."""
        from engine.compiled.history import counting

        n, moment = len(state.item_ids), epoch(now)
        item = np.fromiter(map(index.get, state.item_ids, repeat(-1)), np.int32, n)
        kind = np.fromiter(map(types.code.get, state.event_types, repeat(types.other)), np.int16, n)
        time = np.array(state.event_times, np.float64)
        weight, hidden, back, bought = types.weights[kind], NO_PAIRS, None, None
        asks = np.bitwise_or.reduce(types.asks[kind])
        if asks & PAST:
            past = Past(item.astype(np.int64), item >= 0, kind, time, types.code)
            weight = past.standing(weight)
            if types.counting.unclicked_weight:
                weight = weight + past.unclicked(types.counting, moment)
            never = item[past.hidden(types.counting.never_again)]
            hidden = np.stack([np.zeros_like(never), never])
            back = past.sent_back([state])
            back = None if back is None else back[(item >= 0) & (weight != 0)]
        if asks & MERE:
            bought = types.bought[kind][(item >= 0) & (weight != 0)]
        item, weight, age = counting(item, weight, time, moment)
        countries = np.array([state.country or ""], dtype=object)
        user = np.zeros(len(item), np.int32)
        bought = None if bought is None else bought & (weight > 0)
        return cls([state], len(index), user, item, weight, age, countries, now, hidden, back, bought)

    @classmethod
    def over(cls, events: Events) -> OneUser:
        return cls(**{each.name: getattr(events, each.name) for each in fields(Events)})

    def among(self, n_items: int) -> OneUser:
        found = self.kept.get(("among", n_items))
        if found is None:
            plain = Events(**{each.name: getattr(self, each.name) for each in fields(Events)})
            found = self.kept["among", n_items] = OneUser.over(plain.among(n_items))
        return found

    @cached_property
    def day(self) -> np.ndarray:
        return np.floor(epoch(self.now) / DAY - self.age).astype(np.int64)

    @cached_property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Different items, ascending int32, and the place of each event's item among them."""
        from engine.compiled.history import places

        return places(self.item)

    def matrix(self, half_life_days: float | None = None) -> Any:
        return self._once("matrix", half_life_days, self._matrix)

    def _matrix(self, half_life_days: float | None) -> Taste:
        from engine.compiled.history import net

        items, place = self.places
        half_life = np.inf if half_life_days is None else float(half_life_days)
        net = net(place, self.weight, self.age, half_life, len(items))
        return Taste(items, net, self.n_items)

    def tastes(self, half_life_days: float | None = None) -> Any:
        return self._once("tastes", half_life_days, self._tastes)

    def _tastes(self, half_life_days: float | None) -> Taste:
        from engine.compiled.history import taste

        whole = self._matrix(half_life_days)
        indices, data = taste(whole.indices, whole.data)
        return Taste(indices, data, self.n_items)

    @cached_property
    def days_of_places(self) -> np.ndarray:
        """(items,) float32, by `places`: on how many different days there was a positive event."""
        return self._days_of(self.positive)

    @cached_property
    def bought_days_of_places(self) -> np.ndarray:
        """As `days_of_places`, of purchases alone."""
        return self.days_of_places if self.purchases is None else self._days_of(self.buying)

    def owned(self) -> Any:
        return self._once("owned", None, lambda _: self._some(self.days_of_places, np.ones_like))

    def bought(self) -> Any:
        if self.purchases is None:
            return self.owned()
        return self._once("bought", None, lambda _: self._some(self.bought_days_of_places, np.ones_like))

    def days(self) -> Any:
        return self._once("days", None, lambda _: self._some(self.days_of_places))

    def lasting_days(self) -> Any:
        if self.sent_back is not None:
            return self._some(self._days_of(self.buying & ~self.sent_back))
        return self.days() if self.purchases is None else self._some(self.bought_days_of_places)

    def _days_of(self, which: np.ndarray) -> Any:
        from engine.compiled.history import different_days

        items, place = self.places
        return different_days(place, self.day, which, len(items))

    def _some(self, days: np.ndarray, made: Any = np.asarray) -> Taste:
        some = days > 0
        return Taste(self.places[0][some], made(days[some]), self.n_items)

    def _once(self, name: str, key: float | None, make: Any) -> Any:
        found = self.kept.get((name, key))
        if found is None:
            found = self.kept[name, key] = make(key)
        return found
