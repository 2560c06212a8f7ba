"""Discovery slots: the last places of a list's first DEPTH, kept for items that hardly any list shows otherwise.

A list made for its user alone shows what is best for each, and most of a catalogue never comes up. A few places in a hundred are
enough to show nearly all of it, if each such item goes to those for whom it is least far from their list. Which they are is a
transport problem, every list gives places and every item needs some; its dual is a price for each item, found at the fit for a
sample of users, and a request only adds the prices to the scores that it has: one user at a time, and the same list for the same
history. docs/engine.md has what it costs and brings.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from engine.metrics import top_k
from engine.state import from_frame

if TYPE_CHECKING:
    from engine.recommender import Recommender
    from engine.sources.base import Arrays

DEPTH = 20  # places of a list whose last ones may be slots
RARE = 0.002  # of all lists: an item that more of them show needs no slot
SPREAD = 0.3  # of what lies between a list's first and last score, at the mean: the unit of the prices
USERS, CELLS = 2000, 40_000_000  # sampled users at most, and scores of theirs that are held at once: 160 MB
ROUNDS, LEAST = 40, np.float32(1e-30)
MARK = "discovery"  # in an item's evidence, and its source in the exposure log


@dataclass(frozen=True)
class Discovery:
    """price: (n_items,) float32 in units of scores, -inf for items that lists show anyway. unit: of scores, what a
    difference counts for beside the lot. May be read from many threads."""

    price: np.ndarray
    unit: float

    @classmethod
    def fit(cls, model: Recommender, histories: pd.DataFrame) -> Discovery:
        """For lists as `model` makes them without slots, of a seeded sample of users at its cut; both with what they had and of
        what is new to them, since requests ask for either."""
        n, now = len(model.catalogue), cast(datetime, model.recipe.cut)
        most = min(USERS, max(CELLS // (2 * n), 1), len(histories))
        states = from_frame(histories.sort_values("user_id").sample(most, random_state=model.recipe.seed))
        shown, behind, spans, start = np.zeros(n, np.int64), [], [], 0
        for scores in model.chunks(states, now):
            bought = model.events(states[start : start + len(scores)], now).bought().nonzero()
            start += len(scores)
            for view in range(2):
                listed, some, span = _behind(scores)
                behind.append(some)
                if view:
                    spans.append(span)
                else:
                    np.add.at(shown, listed[listed >= 0], 1)
                    scores[bought] = -np.inf
        rare = shown <= RARE * len(states)
        price, unit = np.full(n, -np.inf, np.float32), 0.0
        if rare.any() and behind:
            unit = SPREAD * float(np.concatenate(spans).mean())
            price[rare] = prices(np.vstack([each[:, rare] for each in behind]), unit)
        return cls(price, unit)

    @cached_property
    def _priced(self) -> np.ndarray:
        return np.flatnonzero(np.isfinite(self.price))

    def insert(self, order: np.ndarray, scores: np.ndarray, slots: int) -> np.ndarray:
        """The order with its slots filled: rows, best first, at most `slots` of them new in it; the others keep their order.

        scores: (n_items,), not finite where an item must not be shown. A list that ends before its slots has none.
        """
        first = DEPTH - slots
        if not slots or len(order) < first:
            return order
        above, rows = order[:first], self._priced
        worth = scores[rows] + self.price[rows] + self._lot(above)
        taken = np.zeros(len(scores), bool)
        taken[above] = True
        worth[~np.isfinite(worth) | taken[rows]] = -np.inf
        best = np.argpartition(-worth, slots)[:slots] if slots < len(rows) else np.arange(len(rows))
        best = best[np.lexsort((best, -worth[best]))]
        picked = rows[best[worth[best] > -np.inf]]
        taken[picked] = True
        after = order[first:]
        return np.concatenate([above, picked, after[~taken[after]]])

    def _lot(self, above: np.ndarray) -> np.ndarray:
        """(priced items,) float32 that spreads users out who are alike: Gumbel's distribution in the prices' unit, so that items get the
        shares that the prices are made for. Drawn by the list itself, so that nothing is left to chance."""
        mixed = self._priced.astype(np.uint32) * np.uint32(2654435761) + np.uint32(
            above @ np.arange(1, len(above) + 1) & 0xFFFFFFFF
        )
        mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(2246822519)
        mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(3266489917)
        mixed ^= mixed >> np.uint32(16)
        even = (mixed.astype(np.float32) + np.float32(1)) * np.float32(1 / (2**32 + 512))
        return np.float32(-self.unit) * np.log(-np.log(even))

    def at(self, order: np.ndarray, slots: int) -> np.ndarray:
        """Rows of an order that `insert` made which stand there as discoveries: all with a price that were left are in the slots."""
        if not slots:
            return order[:0]
        rows = order[DEPTH - slots : DEPTH]
        return rows[np.isfinite(self.price[rows])]

    def over(self, n_items: int) -> Discovery:
        """With items that came after the fit, which have no price before the next."""
        new = np.full(n_items - len(self.price), -np.inf, np.float32)
        return Discovery(np.concatenate([self.price, new]), self.unit) if len(new) else self

    def arrays(self) -> Arrays:
        """Of finite numbers alone, as a bundle holds them."""
        items = np.flatnonzero(np.isfinite(self.price))
        return {"items": items, "price": self.price[items], "unit": np.array([self.unit])}

    @classmethod
    def from_arrays(cls, arrays: Arrays, n_items: int) -> Discovery:
        """Raises KeyError, IndexError or ValueError for what is none."""
        price = np.full(n_items, -np.inf, np.float32)
        price[arrays["items"]] = arrays["price"]
        return cls(price, float(arrays["unit"][0]))


def _behind(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lists (n_users, DEPTH); how far each item is behind its user's last place, (n_users, n_items) float32, not finite where it may
    not be shown or is in the list; and what lies between a list's first and last score, (n_users,)."""
    listed = top_k(scores, DEPTH)
    users, there = np.arange(len(scores)), listed >= 0
    last = np.maximum(there.sum(axis=1) - 1, 0)
    least, most = scores[users, listed[users, last]], scores[users, listed[:, 0]]
    empty = ~there[:, 0]
    least[empty] = most[empty] = 0.0
    found = np.where(np.isfinite(scores), scores - least[:, None], -np.inf).astype(np.float32)
    found[np.nonzero(there)[0], listed[there]] = -np.inf
    return listed, found, most - least


def prices(behind: np.ndarray, temperature: float) -> np.ndarray:
    """(n_items,) float32 by which every item gets the same share of the places, each user giving as many as the others.

    Sinkhorn and Knopp's scaling of exp(scores / temperature), see Cuturi, Sinkhorn Distances (2013). behind: (n_users, n_items),
    not finite where a user must not get an item.
    """
    best = behind.max(axis=1, initial=-np.inf)
    behind = behind[np.isfinite(best)]
    if temperature <= 0 or not len(behind):
        return np.zeros(behind.shape[1], np.float32)
    likely = np.exp((behind - best[np.isfinite(best), None]) / np.float32(temperature))
    scale = np.ones(behind.shape[1], np.float32)
    for _ in range(ROUNDS):
        given = 1.0 / np.maximum(likely @ scale, LEAST)
        scale = 1.0 / np.maximum(given @ likely, LEAST)
        scale /= scale.mean()
    return (temperature * np.log(np.maximum(scale, LEAST))).astype(np.float32)
