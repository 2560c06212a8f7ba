"""GraphQL's `search`: the REST answer as types."""

from __future__ import annotations

from typing import Any

import strawberry
from strawberry import ID, Info
from strawberry.scalars import JSON

from serving.graph_asking import Reason, reason
from serving.shedding import let_others_go
from serving.telemetry import request_id


@strawberry.type
class TextShare:
    """fit: how well the text fits, 0 to 1. share: what of the score that is."""

    fit: float
    share: float


@strawberry.type
class PreferenceShare:
    """place: the item's, from 1 on, among all items by what this shopper may like."""

    place: int
    fit: float
    share: float


@strawberry.type
class FoundItem:
    """An item that a search found. textShare and preferenceShare add up to the score, but for boosts. text: null where there was
    none. reason: with `explain`."""

    item_id: ID
    title: str
    price: float | None
    position: int
    score: float
    text_share: float
    preference_share: float
    text: TextShare | None
    preference: PreferenceShare
    matched: JSON
    pinned: bool
    reason: Reason | None


@strawberry.type
class FacetValue:
    value: str
    count: int


@strawberry.type
class FacetRange:
    """Both ends included; null: open."""

    min: float | None
    max: float | None
    count: int


@strawberry.type
class SearchFacets:
    """Counts over all items that were found, not of the page."""

    categories: list[FacetValue]
    brands: list[FacetValue]
    prices: list[FacetRange]
    without_price: int


@strawberry.type
class SearchResult:
    """What a text finds. corrected: the text as it was understood, where that is another one. matching: all, some, none, browse."""

    request_id: str
    model_version: str
    variant: str
    rules_version: int
    rung: str
    degraded: list[str]
    query: str
    corrected: str | None
    suggestion: str | None
    matching: str
    words: JSON
    total: int
    total_unfiltered: int
    note: str | None
    page: int
    next_page: int | None
    facets: SearchFacets
    items: list[FoundItem]


AS_TOLD = (
    *(
        "request_id",
        "model_version",
        "variant",
        "rules_version",
        "rung",
        "degraded",
        "query",
        "corrected",
        "suggestion",
    ),
    *("matching", "words", "total", "total_unfiltered", "note", "page", "next_page"),
)


async def search(self: Any, info: Info, **given: Any) -> SearchResult:
    """Raises ValidationError, NotThere, ServiceFailed, which become the error's problem."""
    context = info.context
    question = context["search_question"](**given)
    await let_others_go()
    number = next(context["numbers"])
    told = (await context["service"].searching.ask(question.searched(), f"{request_id()}.{number}")).plain
    facets = told["facets"]
    return SearchResult(
        **{name: told[name] for name in AS_TOLD},
        facets=SearchFacets(
            categories=[FacetValue(**each) for each in facets["categories"]],
            brands=[FacetValue(**each) for each in facets["brands"]],
            prices=[FacetRange(**each) for each in facets["prices"]],
            without_price=facets["without_price"],
        ),
        items=[_found(each) for each in told["items"]],
    )


def _found(told: dict[str, Any]) -> FoundItem:
    """told: an item of the REST answer."""
    text, preference, why = told["text"], told["preference"], told["reason"]
    return FoundItem(
        item_id=ID(told["item_id"]),
        **{name: told[name] for name in ("title", "price", "position", "score", "matched", "pinned")},
        text_share=text["share"] if text else 0.0,
        preference_share=preference["share"],
        text=TextShare(**text) if text else None,
        preference=PreferenceShare(**preference),
        reason=reason(why) if why else None,
    )
