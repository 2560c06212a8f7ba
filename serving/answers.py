"""The ladder of answers: personalised, else popular in the country, else popular everywhere; never empty."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from aisle.errors import NotThere
from engine.recommender import Recommended, Recommender
from engine.state import UserState
from serving import reasons
from serving.schemas import RecommendedItem

log = logging.getLogger("aisle.answers")


@dataclass(frozen=True)
class Answer:
    """degraded: why the answer has less than it should have; None where it has all."""

    rung: str
    items: list[RecommendedItem]
    degraded: str | None = None


def moment(recommender: Recommender, state: UserState) -> datetime:
    """The time of an answer by the data's own clock: the model's cut, or the user's newest event if later.

    Ages decide on weights, and a shop whose data ends last week must not look as if nobody bought any more.
    """
    newest = max(state.event_times, default=0)
    return max(recommender.recipe.cut, datetime.fromtimestamp(newest, UTC))


def answer(recommender: Recommender, state: UserState, k: int) -> Answer:
    """k items for a state; what is popular where its history says nothing, or the engine fails on it."""
    found: list[Recommended] = []
    never: list[str] = []
    degraded = None
    if speaks(recommender, state):
        try:
            now = moment(recommender, state)
            never, found = recommender.hidden(state, now), recommender.recommend(state, k, now)
        except (
            Exception
        ):  # a shopper gets an answer whatever one history does to the engine; the log gets the traceback
            log.exception("the engine failed on a history of %d events", len(state.item_ids))
            degraded = "engine_failed"
    if found:
        return Answer(
            "personalised", shown(recommender, topped_up(recommender, found, state.country, k, never))
        )
    country = state.country if knows_country(recommender, state.country) else None
    popular = topped_up(recommender, [], country, k, never)
    return Answer("popular_country" if country else "popular", shown(recommender, popular), degraded)


def speaks(recommender: Recommender, state: UserState) -> bool:
    """Whether the history has an event that the model gives weight, of an item that it knows."""
    index, weights = recommender.catalogue.index, recommender.recipe.event_weights
    return any(
        item in index and weights.get(kind)
        for item, kind in zip(state.item_ids, state.event_types, strict=True)
    )


def knows_country(recommender: Recommender, country: str | None) -> bool:
    return country is not None and country in recommender.countries


def topped_up(
    recommender: Recommender,
    found: list[Recommended],
    country: str | None,
    k: int,
    never: Collection[str] = (),
) -> list[Recommended]:
    """At most k items: what was found, then what is popular in the country, then everywhere, without the items of `never`."""
    items = {each.item_id: each for each in found}
    for where in dict.fromkeys((country, None)):
        if len(items) < k:
            for each in recommender.popular(where, k + len(items), never):
                items.setdefault(each.item_id, each)
    return list(items.values())[:k]


def similar(recommender: Recommender, item_id: str, k: int) -> list[RecommendedItem]:
    """Raises NotThere for an item that the release does not know."""
    known(recommender, item_id)
    return shown(recommender, recommender.similar(item_id, k))


def known(recommender: Recommender, item_id: str) -> dict:
    """title, price (None where unknown) and categories of an item. Raises NotThere."""
    try:
        found = recommender.item(item_id)
    except KeyError:
        raise NotThere(
            f"no item {item_id!r} in the released model; it may be new, deleted or misspelt"
        ) from None
    price = found.get("price")
    return {
        "title": str(found.get("title") or item_id),
        "price": float(price) if price is not None and math.isfinite(price) else None,
        "categories": [str(each) for each in found.get("categories") if each]
        if found.get("categories") is not None
        else [],
    }


def shown(recommender: Recommender, items: Iterable[Recommended]) -> list[RecommendedItem]:
    """With titles, prices and reasons in words."""
    return [_shown(recommender, each) for each in items]


def _shown(recommender: Recommender, each: Recommended) -> RecommendedItem:
    item = known(recommender, each.item_id)
    return RecommendedItem(
        item_id=each.item_id,
        title=item["title"],
        price=item["price"],
        score=round(float(each.score), 6),
        reason=reasons.of(each.reason),
    )
