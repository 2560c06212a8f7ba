"""GraphQL's `search`: the REST answer as types."""

from __future__ import annotations

from typing import Any

import strawberry
from strawberry import ID, Info
from strawberry.scalars import JSON

from serving.shedding import let_others_go
from serving.telemetry import request_id


@strawberry.type
class FoundItem:
    """An item that a search found. textShare and preferenceShare add up to the score, but for boosts."""

    item_id: ID
    title: str
    price: float | None
    position: int
    score: float
    text_share: float
    preference_share: float
    matched: JSON
    pinned: bool


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
    rung: str
    degraded: list[str]
    query: str
    corrected: str | None
    suggestion: str | None
    matching: str
    total: int
    note: str | None
    next_page: int | None
    facets: SearchFacets
    items: list[FoundItem]


async def search(info: Info, **given: Any) -> SearchResult:
    """Raises ValidationError, NotThere, ServiceFailed, which become the error's problem."""
    context = info.context
    question = context["search_question"](**{name: each for name, each in given.items() if each is not None})
    await let_others_go()
    number = next(context["numbers"])
    told = (await context["service"].searching.ask(question.searched(), f"{request_id()}.{number}")).plain
    facets = told["facets"]
    names = ("request_id", "model_version", "variant", "rung", "degraded", "query", "corrected", "suggestion")
    return SearchResult(
        **{name: told[name] for name in (*names, "matching", "total", "note", "next_page")},
        facets=SearchFacets(
            categories=[FacetValue(**each) for each in facets["categories"]],
            brands=[FacetValue(**each) for each in facets["brands"]],
            prices=[FacetRange(**each) for each in facets["prices"]],
            without_price=facets["without_price"],
        ),
        items=[
            FoundItem(
                **{name: each[name] for name in ("title", "price", "position", "score", "matched", "pinned")},
                item_id=ID(each["item_id"]),
                text_share=each["text"]["share"] if each["text"] else 0.0,
                preference_share=each["preference"]["share"],
            )
            for each in told["items"]
        ],
    )
