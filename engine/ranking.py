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

DEPTH = 50  # best items of each source, once over all items and once over those new to the user
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
) -> Candidates:
    """All that a user had, unless not `repeat`, and each source's best, of every user with a history.

    normalised: scores by source, (n_users, n_items) each. sources: whose scores are features, in this order; one that
    is not in `normalised` is NaN.
    """
    user, item = union(events, normalised, repeat)
    own, people = _Own.of(events), _people(events)
    columns: dict[str, np.ndarray] = {}
    for name in sources:
        scores = normalised.get(name)
        columns[f"{SCORE}{name}"] = np.full(len(user), np.nan) if scores is None else scores[user, item]
    columns |= own.at(user, item)
    columns["share_of_days"] = columns["days"] / np.maximum(people["order_days"][user], 1)
    columns |= {name: people[name][user] for name in USER}
    columns |= {name: values[item] for name, values in _things(trends, catalogue).items()}
    columns["since_order_with"] = columns["last"] - columns["since_order"]
    usual = _usual_price(events, catalogue)
    columns["price_over_usual"] = columns["price"] - usual[user]
    names = names_of(sources)
    features = np.column_stack([columns[name] for name in names]).astype(np.float32)
    return Candidates(user, item, features, names)


def union(
    events: Events, normalised: Mapping[str, np.ndarray], repeat: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) users and items, ordered: each source's DEPTH best, and with `repeat` all that a user had."""
    had = events.owned().toarray() > 0
    chosen = had & repeat
    for scores in normalised.values():
        fresh = np.where(had, -np.inf, scores)
        for among in (scores, fresh) if repeat else (fresh,):
            best = top_k(among, DEPTH)
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
        different = np.unique(np.stack([place, day]), axis=1)[0] if len(codes) else place
        days = np.bincount(different, minlength=len(codes)).astype(float)
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
    order_days = np.unique(np.stack([events.user[positive], events.day[positive]]), axis=1)[0]
    days = np.bincount(order_days.astype(int), minlength=n).astype(float)
    items = np.bincount(events.owned().nonzero()[0], minlength=n).astype(float)
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


def _things(trends: Trends, catalogue: Catalogue) -> dict[str, np.ndarray]:
    """ITEM features, (n_items,) each."""
    found = {f"buyers_{days}d": np.log1p(row) for days, row in zip(WINDOWS, trends.recent, strict=True)}
    week, _, month, quarter = trends.recent
    return {
        **found,
        "buyers": np.log1p(trends.buyers),
        "rise_7d": (week * 30 / 7 + 1) / (month + 1),
        "rise_30d": (month * 3 + 1) / (quarter + 1),
        "bought_again": trends.again,
        "age": catalogue.numbers("days_since_first"),
        "price": np.log1p(np.maximum(catalogue.numbers("price"), 0.0)),
    }


def _usual_price(events: Events, catalogue: Catalogue) -> np.ndarray:
    """(n_users,) mean log price of a user's events."""
    price = np.log1p(np.maximum(catalogue.numbers("price"), 0.0))[events.item]
    total = np.bincount(events.user, weights=price, minlength=events.n_users)
    return total / np.maximum(np.bincount(events.user, minlength=events.n_users), 1)
