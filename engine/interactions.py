"""Histories as flat arrays: the one place where an event's type and age become a weight."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from itertools import chain, islice
from operator import lt
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from aisle.columns import LOW_RATING, RATINGS, TAKES_BACK
from engine.returns import sent_back
from engine.state import DAY, UserState, epoch


@dataclass(frozen=True)
class Catalogue:
    """The items that can be recommended: row i of every item array is item_ids[i].

    frame: one row per item, in the same order: title, categories, price, n_buyers_30d and whatever else is
    known. gone: rows of items that were deleted since, which are not shown any more. fitted: how many rows the
    sources were fitted to, where new items came since (engine.new_items); None where there are none.
    """

    item_ids: list[str]
    frame: pd.DataFrame
    gone: tuple[int, ...] = ()
    fitted: int | None = None

    @classmethod
    def of(cls, items: pd.DataFrame) -> Catalogue:
        """From an items frame, sorted by id whatever the reader's order; deleted items are no candidates."""
        gone = items["deleted"].fillna(False).astype(bool) if "deleted" in items else None
        shown = items[~gone] if gone is not None and gone.any() else items
        ids = shown["item_id"].astype(str).tolist()
        if not all(map(lt, ids, islice(ids, 1, None))):
            shown = shown.drop_duplicates("item_id").sort_values("item_id")
            ids = shown["item_id"].astype(str).tolist()
        return cls(ids, shown.reset_index(drop=True))

    @cached_property
    def _values(self) -> dict[str, np.ndarray]:
        """Columns whose values somebody asked for, one at a time: a frame takes ten times as long to find one."""
        return {}

    @cached_property
    def index(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.item_ids)}

    def __len__(self) -> int:
        return len(self.item_ids)

    def value(self, column: str, row: int) -> Any:
        """One item's value; None where it is unknown. Lists come as lists."""
        values = self._values.get(column)
        if values is None:
            if column not in self.frame:
                return None
            values = self._values[column] = self.frame[column].to_numpy(object)
        found: Any = values[row]
        if isinstance(found, str):
            return found
        if isinstance(found, (list, tuple, np.ndarray)):
            return list(found)
        return None if pd.isna(found) else found

    def numbers(self, column: str) -> np.ndarray:
        """A numeric column as float64, with 0 where nothing is known."""
        if column not in self.frame:
            return np.zeros(len(self))
        return pd.to_numeric(self.frame[column], errors="coerce").fillna(0.0).to_numpy(float)


IMPRESSION = "impression"
PURCHASE, RETURN = "purchase", "return"
INTEREST = ("click", "view", "cart", "purchase", "like")  # what answers an exposure
WANTED = ("cart", "purchase", "like", "undo")  # what takes a hide back
WANTED_OF_RATED = ("cart", "purchase", "like")  # what takes a low rating back, beside a newer one
ANSWER_SECONDS = 24 * 3600.0  # as of an outcome: later interest has other reasons


@dataclass(frozen=True)
class Counting:
    """How events count beyond the weight of their type.

    never_again: types after which an item is not recommended to that user, until a newer event of WANTED.
    unclicked_impressions: from so many impressions of an item on that had no INTEREST within ANSWER_SECONDS, each weighs
    unclicked_weight; all of an item together at most one dislike. bought: types after which a user has an item: purchases, or what
    stands for them in a shop that knows none (aisle.goal).
    """

    never_again: Collection[str] = ()
    unclicked_impressions: int = 3
    unclicked_weight: float = 0.0
    bought: Collection[str] = (PURCHASE,)


PAST, MERE = np.uint8(1), np.uint8(2)  # events that depend on others; interest that is no purchase


@dataclass(frozen=True)
class Types:
    """Event types by number. code: of a name, `other` of those that nobody named. weights: (types,) float32.

    bought: (types,) bool, those after which a user has the item: Counting.bought, where one weighs above zero; for a shop that weighs
    none, whatever does. asks: (types,) uint8, for what a history is looked through besides weights: PAST, MERE or both.
    """

    counting: Counting
    code: Mapping[str, int]
    weights: np.ndarray
    bought: np.ndarray
    asks: np.ndarray

    @classmethod
    def of(cls, event_weights: Mapping[str, float], counting: Counting) -> Types:
        taking = (*RATINGS, *TAKES_BACK, *chain.from_iterable(TAKES_BACK.values()))
        names = (
            *event_weights,
            *counting.never_again,
            *counting.bought,
            IMPRESSION,
            RETURN,
            *INTEREST,
            *WANTED,
            *taking,
            "",
        )
        code = {name: number for number, name in enumerate(dict.fromkeys(names))}
        past = {*counting.never_again, RETURN, *RATINGS, *TAKES_BACK}
        past |= {IMPRESSION} if counting.unclicked_weight else set()
        weights = np.array([event_weights.get(name, 0.0) for name in code], np.float32)
        goal = np.array([name in counting.bought for name in code])
        bought = (weights > 0) & (goal if (weights[goal] > 0).any() else True)
        asks = PAST * np.array([name in past for name in code], np.uint8)
        asks += MERE * ((weights > 0) & ~bought).astype(np.uint8)
        return cls(counting, code, weights, bought, asks)

    @cached_property
    def other(self) -> int:
        return self.code[""]


NO_PAIRS = np.empty((2, 0), np.int32)


def _no_pairs() -> np.ndarray:
    return NO_PAIRS


@dataclass(frozen=True)
class Events:
    """Events of many users in parallel arrays, those with unknown items or weightless types left out.

    states: whose events these are. user, item: int32 rows. weight: float32 by event type. age: float64 days
    before `now`, never negative. countries: one name a user, '' where unknown. hidden: (2, pairs) int32 user and item
    of what must not be recommended, see Counting. sent_back: (n,) bool, purchases of which nothing was kept; None where there are none.
    purchases: (n,) bool, see Types.bought; None where every positive event is one.
    """

    states: Sequence[UserState]
    n_items: int
    user: np.ndarray
    item: np.ndarray
    weight: np.ndarray
    age: np.ndarray
    countries: np.ndarray
    now: datetime
    hidden: np.ndarray = field(default_factory=_no_pairs)
    sent_back: np.ndarray | None = None
    purchases: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        states: Sequence[UserState],
        index: Mapping[str, int],
        now: datetime,
        event_weights: Mapping[str, float],
        counting: Counting = Counting(),
    ) -> Events:
        """Flattens states at a moment. `index`: item id -> row."""
        lengths = [len(state.item_ids) for state in states]
        total = sum(lengths)

        def flat(values, kind) -> np.ndarray:
            return np.fromiter(values, kind, total)

        user = np.repeat(np.arange(len(states), dtype=np.int32), lengths)
        item = flat((index.get(i, -1) for i in chain.from_iterable(s.item_ids for s in states)), np.int32)
        types = Types.of(event_weights, counting)
        kinds = chain.from_iterable(s.event_types for s in states)
        kind = flat((types.code.get(each, types.other) for each in kinds), np.int16)
        weight = types.weights[kind]
        moment = epoch(now)
        times = flat(chain.from_iterable(s.event_times for s in states), np.float64)
        past = Past(user.astype(np.int64) * max(len(index), 1) + item, item >= 0, kind, times, types.code)
        weight = past.standing(weight)
        if counting.unclicked_weight:
            weight = weight + past.unclicked(counting, moment)
        hidden = past.hidden(counting.never_again)
        gone = past.sent_back(states)
        keep = (item >= 0) & (weight != 0)
        positive, bought = keep & (weight > 0), types.bought[kind]
        mere = (positive & ~bought).any()
        return cls(
            states,
            len(index),
            user[keep],
            item[keep],
            weight[keep],
            np.maximum(moment - times[keep], 0.0) / DAY,
            np.array([s.country or "" for s in states], dtype=object),
            now,
            np.stack([user[hidden], item[hidden]]),
            None if gone is None else gone[keep],
            (positive & bought)[keep] if mere else None,
        )

    def among(self, n_items: int) -> Events:
        """Only what happened to the first `n_items` items, for who knows no others."""
        keep, shown = self.item < n_items, self.hidden[1] < n_items
        return replace(
            self,
            n_items=n_items,
            user=self.user[keep],
            item=self.item[keep],
            weight=self.weight[keep],
            age=self.age[keep],
            hidden=self.hidden[:, shown],
            sent_back=None if self.sent_back is None else self.sent_back[keep],
            purchases=None if self.purchases is None else self.purchases[keep],
        )

    @property
    def n_users(self) -> int:
        return len(self.states)

    @cached_property
    def positive(self) -> np.ndarray:
        """(n,) bool."""
        return self.weight > 0

    @property
    def buying(self) -> np.ndarray:
        """(n,) bool: purchases."""
        return self.positive if self.purchases is None else self.purchases

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
        return self._days(self.positive)

    def lasting_days(self) -> sparse.csr_array:
        """As `days`, of purchases alone, without those that were sent back. Where none lasts there is nothing left to store."""
        return self._days(self.buying if self.sent_back is None else self.buying & ~self.sent_back)

    def _days(self, which: np.ndarray) -> sparse.csr_array:
        positive = np.flatnonzero(which)
        day = self.day[positive]
        start = day.min(initial=0)
        span = int(day.max(initial=0) - start) + 1
        pair = self.user[positive].astype(np.int64) * self.n_items + self.item[positive]
        _, first = np.unique(pair * span + (day - start), return_index=True)
        counted = np.zeros(len(self.user), bool)
        counted[positive[first]] = True
        return self.counts(counted)

    def owned(self) -> sparse.csr_array:
        """(users, items) 1 where the user ever had a positive event with the item: what the blend's two sets of weights go by.

        Not `bought`: what somebody looked at twice this week is like what they buy again, and unlike what they never saw.
        """
        return self.counts(self.positive, clip=True)

    def bought(self) -> sparse.csr_array:
        """(users, items) 1 where the user ever bought the item: what is not new to them, and what `repeat` is about."""
        return self.counts(self.buying, clip=True)

    def strength(self) -> sparse.csr_array:
        """(users, items) float32: how sure it is that the user likes the item, 1 after a purchase, whatever came back since.

        The sum of positive weights as a share of a purchase's, 1 at most. Weights for confidence: Hu, Koren and Volinsky (2008).
        """
        whole = self.weight[self.buying].max(initial=0.0)
        found = self._sum(np.where(self.positive, self.weight / max(whole, np.float32(1e-9)), 0))
        found.eliminate_zeros()
        np.minimum(found.data, 1.0, out=found.data)
        return found

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


@dataclass(frozen=True)
class Past:
    """Every event as it came, in parallel arrays. pair: int64, one number a user and item. time: epoch seconds.

    known: whether the item is in the catalogue. kind: int16 of `code`, by name.
    """

    pair: np.ndarray
    known: np.ndarray
    kind: np.ndarray
    time: np.ndarray
    code: Mapping[str, int]

    def of(self, kinds: Collection[str]) -> np.ndarray:
        """Mask of the events of known items that are of these types."""
        wanted = np.zeros(len(self.code), bool)
        wanted[[self.code[name] for name in kinds]] = True
        return self.known & wanted[self.kind]

    def standing(self, weight: np.ndarray) -> np.ndarray:
        """The weights, 0 for what is `gone`."""
        return weight if self.gone is None else np.where(self.gone, np.float32(0), weight)

    @cached_property
    def gone(self) -> np.ndarray | None:
        """Mask of what its user took back afterwards, and of ratings that a newer one of the same item replaces; None where nobody rates.

        Of one second the first counts as the newest, as in a history; what takes back comes last.
        """
        if not self.of([*RATINGS, *TAKES_BACK]).any():
            return None
        pairs, place = np.unique(self.pair, return_inverse=True)
        gone = np.zeros(len(self.pair), bool)
        for by, kinds in TAKES_BACK.items():
            said, taking, newest = self.of(kinds), self.of([by]), np.full(len(pairs), -np.inf)
            np.maximum.at(newest, place[taking], self.time[taking])
            gone |= said & (self.time <= newest[place])
        rated = np.flatnonzero(self.of(RATINGS))
        newest_first = rated[np.lexsort((rated, -self.time[rated], place[rated]))]
        gone[newest_first[1:][np.diff(place[newest_first]) == 0]] = True
        return gone

    def sent_back(self, states: Sequence[UserState]) -> np.ndarray | None:
        """Mask of the purchases of which no unit was kept; None where nothing was sent back."""
        back = self.of([RETURN])
        if not back.any():
            return None
        units = chain.from_iterable(
            s.quantities if len(s.quantities) else [1.0] * len(s.item_ids) for s in states
        )
        quantity = np.abs(np.fromiter(units, np.float64, len(self.pair)))
        quantity = np.where(quantity > 0, quantity, 1.0)  # who tells no number means one
        return sent_back(self.pair, self.time, self.of([PURCHASE]), back, quantity)

    def hidden(self, never_again: Collection[str]) -> np.ndarray:
        """Places, one a pair, of the events that hide their item: none of WANTED is newer, and no newer rating of a low one."""
        found = self._unwanted(self.of([kind for kind in never_again if kind != LOW_RATING]), WANTED)
        if LOW_RATING not in never_again or self.gone is None:
            return found
        low = self._unwanted(self.of([LOW_RATING]) & ~self.gone, WANTED_OF_RATED)
        return np.concatenate([found, low[~np.isin(self.pair[low], self.pair[found])]])

    def _unwanted(self, said: np.ndarray, wanting: Collection[str]) -> np.ndarray:
        """Places, one a pair, of the events `said` (n,) bool of pairs of which none of `wanting` is newer."""
        places = np.flatnonzero(said)
        if not len(places):
            return places
        pairs, first, place = np.unique(self.pair[places], return_index=True, return_inverse=True)
        newest = np.full(len(pairs), -np.inf)
        np.maximum.at(newest, place, self.time[places])
        wanted = np.flatnonzero(self.of(wanting) & np.isin(self.pair, pairs))
        again = np.full(len(pairs), -np.inf)
        np.maximum.at(again, np.searchsorted(pairs, self.pair[wanted]), self.time[wanted])
        return places[first[newest >= again]]

    def unclicked(self, counting: Counting, moment: float) -> np.ndarray:
        """(n,) float32: unclicked_weight of each exposure that counts. The last day's are open still, and do not."""
        found = np.zeros(len(self.pair), np.float32)
        exposed = self.of([IMPRESSION])
        if not exposed.any():
            return found
        rows = np.flatnonzero(exposed | self.of(INTEREST))
        rows = rows[np.lexsort((~exposed[rows], self.time[rows], self.pair[rows]))]  # exposures first
        pair, time, shown = self.pair[rows], self.time[rows], exposed[rows]
        answer = np.where(shown, len(rows), np.arange(len(rows)))
        answer = np.minimum(np.minimum.accumulate(answer[::-1])[::-1], len(rows) - 1)  # the next one, if any
        soon = (time[answer] - time <= ANSWER_SECONDS) & (pair[answer] == pair) & ~shown[answer]
        ignored = shown & ~soon & (moment - time >= ANSWER_SECONDS)
        start = np.searchsorted(pair, pair)  # of each pair's rows
        end = np.searchsorted(pair, pair, side="right")
        counted = np.concatenate([[0], np.cumsum(ignored)])
        nth, newer = counted[1:] - counted[start], counted[end] - counted[1:]
        most = max(int(1.0 / -counting.unclicked_weight + 1e-6), 1)
        counts = ignored & (nth >= counting.unclicked_impressions) & (newer < most)
        found[rows[counts]] = counting.unclicked_weight
        return found
