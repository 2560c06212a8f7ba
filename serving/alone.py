"""Answers without a service: the ladder alone, for the smoke check and the console."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.recommender import Recommended
from engine.state import UserState
from serving import reasons
from serving.asking import Ask
from serving.ladder import climb
from serving.schemas import RecommendedItem
from serving.view import View


@dataclass(frozen=True)
class Answer:
    """A list as smoke check, console and page show it. degraded: why it has less than it should have; None where it has all."""

    rung: str
    items: list[RecommendedItem]
    degraded: str | None = None


def answer(view: View, state: UserState, k: int) -> Answer:
    """k items for a state, by the ladder alone."""
    listing = climb(view, Ask(k=k, user_id=state.user_id or None), state)
    told = listing.told(listing.rows(1, k), exact=True)
    degraded = listing.degraded[0] if listing.degraded else None
    return Answer(listing.rung, shown(view, told), degraded)


def similar(view: View, item_id: str, k: int) -> list[RecommendedItem]:
    """Raises NotThere for an item that the release does not know."""
    listing = climb(view, Ask("similar", k=k, item_id=item_id), UserState(""))
    return shown(view, listing.told(listing.rows(1, k)))


def shown(view: View, items: Sequence[Recommended]) -> list[RecommendedItem]:
    """With titles, prices and reasons in words."""
    index = view.recommender.catalogue.index
    return [
        RecommendedItem(
            item_id=each.item_id,
            title=view.titles[index[each.item_id]],
            price=view.prices[index[each.item_id]],
            score=round(float(each.score), 6) if np.isfinite(each.score) else 0.0,
            reason=reasons.of(each.reason),
        )
        for each in items
    ]
