"""What the ranker reads: the union of the sources' candidates, and the features of each user and item beside each other.

Training and serving call the same `candidates`, so both see the same numbers (docs/adr/0006).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.interactions import Catalogue, Events
from engine.metrics import top_k
from engine.trends import WINDOWS, Trends

DEPTH = 50  # best items of each source among those that the user had nothing to do with
HALF_LIVES = (10.0, 30.0, 90.0)  # days
SCORE = "score_"
PAIR = (
    "days",
    "last",
    "first",
    "gap",
    "overdue",
    *(f"sum_{days:.0f}d" for days in HALF_LIVES),
    "share_of_days",
)
USER = ("events", "order_days", "since_order", "since_first", "order_gap", "items", "repeats", "basket")
ITEM = (
    *(f"buyers_{days}d" for days in WINDOWS),
    "buyers",
    "rise_7d",
    "rise_30d",
    "bought_again",
    "age",
    "price",
)
BOTH = ("since_order_with", "price_over_usual")


@dataclass(frozen=True)
class Candidates:
    """user, item: (n,) rows, ordered by user. features: (n, len(names)) float32, NaN where a thing is not known."""

    user: np.ndarray
    item: np.ndarray
    features: np.ndarray
    names: tuple[str, ...]


def names_of(sources: Sequence[str]) -> tuple[str, ...]:
    """Every feature's name, in order."""
    return (*(f"{SCORE}{name}" for name in sources), *PAIR, *USER, *ITEM, *BOTH)


def candidates(
    events: Events,
    normalised: Mapping[str, np.ndarray],
    trends: Trends,
    catalogue: Catalogue,
    sources: Sequence[str],
    repeat: bool = True,
    things: Things | None = None,
) -> Candidates:
    """All that a user had, without `repeat` but for what they bought, and each source's best, of every user with a history.

    normalised: scores by source, (n_users, n_items) each. sources: whose scores are features, in this order; one that
    is not in `normalised` is NaN. things: of `trends` and `catalogue`, where they are made already.
    """
    user, item = union(events, normalised, repeat)
    scores = {name: normalised[name][user, item] for name in sources if name in normalised}
    return described(events, user, item, scores, things or Things.of(trends, catalogue), sources)


def described(
    events: Events,
    user: np.ndarray,
    item: np.ndarray,
    scores: Mapping[str, np.ndarray],
    things: Things,
    sources: Sequence[str],
) -> Candidates:
    """The features of pairs. scores: by source, (n,) each."""
    features = np.empty((len(sources) + len(PAIR) + len(USER) + len(ITEM) + len(BOTH), len(user)), np.float32)
    for row, name in enumerate(sources):
        features[row] = scores.get(name, np.nan)
    people = _people(events)
    pair = _Own.of(events).at(user, item)
    pair["share_of_days"] = pair["days"] / np.maximum(people["order_days"][user], 1)
    row = len(sources)
    for each in (*(pair[name] for name in PAIR), *(people[name][user] for name in USER)):
        features[row] = each
        row += 1
    features[row : row + len(ITEM)] = things.features[item].T
    features[row + len(ITEM)] = pair["last"] - people["since_order"][user]
    features[row + len(ITEM) + 1] = things.price[item] - _usual_price(events, things.price)[user]
    return Candidates(user, item, features.T, names_of(sources))


def union(
    events: Events, normalised: Mapping[str, np.ndarray], repeat: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) users and items, ordered: all that a user had, without `repeat` but for what they bought, and each source's DEPTH best of
    the others: the best of all are among the two."""
    had = events.owned().toarray() > 0
    chosen = had.copy()
    if not repeat:
        chosen[events.bought().nonzero()] = False
    for scores in normalised.values():
        best = top_k(np.where(had, -np.inf, scores), DEPTH)
        users, places = np.nonzero(best >= 0)
        chosen[users, best[users, places]] = True
    chosen[np.bincount(events.user, minlength=events.n_users) == 0] = False
    return np.nonzero(chosen)


@dataclass(frozen=True)
class _Own:
    """A user's own past with an item, for the pairs that have one: `code` (user * n_items + item) sorted, values by name."""

    n_items: int
    code: np.ndarray
    values: dict[str, np.ndarray]

    @classmethod
    def of(cls, events: Events) -> _Own:
        code = events.user.astype(np.int64) * events.n_items + events.item
        positive = events.weight > 0
        codes, place = np.unique(code[positive], return_inverse=True)
        age, day = events.age[positive], events.day[positive]
        last, first = np.full(len(codes), np.inf), np.zeros(len(codes))
        np.minimum.at(last, place, age)
        np.maximum.at(first, place, age)
        days = different_days(place, day, len(codes))
        gap = np.where(days > 1, (first - last) / np.maximum(days - 1, 1), np.nan)
        values = {"days": days, "last": last, "first": first, "gap": gap}
        values["overdue"] = last / np.where(gap > 0, gap, np.nan)
        # Returns count here: what was sent back is taken off.
        where = np.minimum(np.searchsorted(codes, code), max(len(codes) - 1, 0))
        known = codes[where] == code if len(codes) else np.zeros(len(code), bool)
        for half_life, name in zip(HALF_LIVES, PAIR[5:], strict=False):
            weight = events.weight * 0.5 ** (events.age / half_life)
            values[name] = np.bincount(where[known], weights=weight[known], minlength=len(codes))
        return cls(events.n_items, codes, values)

    def at(self, user: np.ndarray, item: np.ndarray) -> dict[str, np.ndarray]:
        """The values of pairs. Without a past: no days and no sums, and nothing is known of times."""
        wanted = user.astype(np.int64) * self.n_items + item
        if not len(self.code):
            where, known = np.zeros(len(wanted), int), np.zeros(len(wanted), bool)
        else:
            where = np.minimum(np.searchsorted(self.code, wanted), len(self.code) - 1)
            known = self.code[where] == wanted
        found = {}
        for name, values in self.values.items():
            absent = np.nan if name in ("last", "first", "gap", "overdue") else 0.0
            found[name] = np.full(len(wanted), absent)
            found[name][known] = values[where[known]]
        return found


def _people(events: Events) -> dict[str, np.ndarray]:
    """USER features, (n_users,) each."""
    n, positive = events.n_users, events.weight > 0
    lines = np.bincount(events.user[positive], minlength=n).astype(float)
    days = different_days(events.user[positive], events.day[positive], n)
    items = np.diff(events.owned().indptr).astype(float)
    newest, oldest = np.full(n, np.inf), np.zeros(n)
    np.minimum.at(newest, events.user, events.age)
    np.maximum.at(oldest, events.user, events.age)
    newest[~np.isfinite(newest)] = np.nan
    return {
        "events": np.bincount(events.user, minlength=n).astype(float),
        "order_days": days,
        "since_order": newest,
        "since_first": oldest,
        "order_gap": (oldest - newest) / np.maximum(days - 1, 1),
        "items": items,
        "repeats": 1 - items / np.maximum(lines, 1),
        "basket": lines / np.maximum(days, 1),
    }


def different_days(group: np.ndarray, day: np.ndarray, n: int) -> np.ndarray:
    """(n,) float64: how many different days each group has."""
    if not len(group):
        return np.zeros(n)
    first = day.min()
    span = int(day.max() - first) + 1
    different = np.unique(group.astype(np.int64) * span + (day - first)) // span
    return np.bincount(different, minlength=n).astype(float)


@dataclass(frozen=True)
class Things:
    """What does not depend on who asks. features: (n_items, ITEM) float32. price: (n_items,) float64, log1p."""

    features: np.ndarray
    price: np.ndarray

    @classmethod
    def of(cls, trends: Trends, catalogue: Catalogue) -> Things:
        week, _, month, quarter = trends.recent
        price = np.log1p(np.maximum(catalogue.numbers("price"), 0.0))
        columns = {
            **{f"buyers_{days}d": np.log1p(row) for days, row in zip(WINDOWS, trends.recent, strict=True)},
            "buyers": np.log1p(trends.buyers),
            "rise_7d": (week * 30 / 7 + 1) / (month + 1),
            "rise_30d": (month * 3 + 1) / (quarter + 1),
            "bought_again": trends.again,
            "age": catalogue.numbers("days_since_first"),
            "price": price,
        }
        return cls(np.column_stack([columns[name] for name in ITEM]).astype(np.float32), price)


def _usual_price(events: Events, price: np.ndarray) -> np.ndarray:
    """(n_users,) mean log price of a user's events."""
    total = np.bincount(events.user, weights=price[events.item], minlength=events.n_users)
    return total / np.maximum(np.bincount(events.user, minlength=events.n_users), 1)
