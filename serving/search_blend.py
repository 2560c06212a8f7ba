"""Text and preference in one ranking:

    score = (1 - w) * text + w * preference                w: search.preference
    preference = 1 - ln(place) / ln(number of items)       1 for the first place, 0 for the last

text is how well an item fits the query (serving.search_match), place where the shopper's own list has the item among all
items. A place and not a score, because scores of ranker, blend and popularity have no common scale; its logarithm,
because between the first and the tenth lies as much as between the hundredth and the thousandth.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from engine.recommender import Ranked
from engine.state import UserState
from serving import reasons
from serving.cached import fingerprint
from serving.ladder import hidden, speaks
from serving.search_view import SearchView
from serving.view import View

log = logging.getLogger("aisle.search")


@dataclass(frozen=True)
class Preference:
    """Of one shopper. places: (n_items,) int32 from 1 on. fits: (n_items,) float32, 1 for the first place and 0 for the last.

    rung: what it goes by. ranked: where it is the shopper's own.
    """

    rung: str
    places: np.ndarray
    fits: np.ndarray
    country: str | None = None
    ranked: Ranked | None = None

    @classmethod
    def of(
        cls,
        rung: str,
        view: SearchView,
        scores: np.ndarray,
        country: str | None,
        ranked: Ranked | None = None,
    ) -> Preference:
        places = placed(view, scores)
        fits = 1 - np.log(places.astype(np.float32)) / max(np.log(len(places)), 1e-9)
        return cls(rung, places, fits.astype(np.float32), country, ranked)

    def reason(self, view: View, row: int) -> dict[str, Any] | None:
        """Why the shopper may like an item; None of one that the model has not placed yet."""
        if row >= len(view):
            return None
        if self.ranked is not None:
            return reasons.plain(view.recommender.told(self.ranked, np.array([row]), exact=False)[0].reason)
        named = view.recommender.popularity.named(self.country, row)
        return reasons.plain({"source": "popularity", "evidence": {"popular_in": named}})


def preference(
    view: SearchView, state: UserState, now: datetime, known: bool, degraded: list[str], hurried: bool = False
) -> Preference:
    """known: whether the history is the user's own. hurried: there is no time for it."""
    recommender = view.view.recommender
    if not hurried and speaks(recommender, state):
        key = fingerprint(state), now
        held = view.places.get(key)
        if held is not None:
            return held
        try:
            ranked = view.view.ranked(state, now)
            scores = ranked.scores.copy()
            scores[hidden(recommender, state, now)] = -np.inf
            rung = "personalised" if known else "session"
            found = Preference.of(rung, view, scores, state.country, ranked)
            view.places.put(key, found)
            return found
        except Exception:  # what is popular is left; the log gets the traceback
            log.exception("a shopper's places failed on a history of %d events", len(state.item_ids))
            degraded.append("engine_failed")
    country = state.country if view.view.knows_country(state.country) else None
    held = view.places.get(country)
    if held is None:
        rung = "segment" if country else "popular"
        held = Preference.of(rung, view, view.view.popular_scores(country), country)
        view.places.put(country, held)
    return held


def placed(view: SearchView, scores: np.ndarray) -> np.ndarray:
    """(n_items,) places by score; ties, and what is not to be shown, by popularity; items that no score knows yet come last."""
    order = view.view.popular_order(None)
    ranked = np.where(np.isfinite(scores), scores, -np.inf)[order]
    places = np.empty(len(view), np.int32)
    places[order[np.argsort(-ranked, kind="stable")]] = np.arange(1, len(order) + 1)
    places[len(order) :] = np.arange(len(order) + 1, len(view) + 1)
    return places


def blended(text: np.ndarray | None, preferred: np.ndarray, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """(share of the text, share of the preference) of each item; without a text the preference is all."""
    if text is None:
        return np.zeros_like(preferred), preferred
    return np.float32(1 - weight) * text, np.float32(weight) * preferred
