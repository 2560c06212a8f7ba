"""The GraphQL types of a page's reads, and how each field is answered: by the questions and answers of the REST routes."""

from __future__ import annotations

from typing import Any

import strawberry
from pydantic_core import from_json
from strawberry import ID, Info

from aisle.errors import NotThere
from serving import answers
from serving.graph_asking import OF_LISTS, OF_ONE, OF_SEARCH, OF_SUBJECTS, Reason, field, reason
from serving.search_graph import SearchResult, search
from serving.shedding import let_others_go
from serving.telemetry import request_id


def listing(kind: str, question: str, arguments: dict[str, Any], description: str) -> Any:
    """A field that is the list of the REST path of this name. question: its model, see serving.asking."""

    async def listed(self: Any, info: Info, **given: Any) -> List:
        """Raises ValidationError, NotThere, ServiceFailed, TurnedAway: the error's problem."""
        context = info.context
        if isinstance(self, Item):
            given["item_id"] = self.item_id
        ask = getattr(context["asked"], question)(**given).ask(kind)
        await let_others_go()
        found = await context["service"].answers.ask(ask, f"{request_id()}.{next(context['numbers'])}")
        return List.of(from_json(found.body))

    return field(listed, arguments, "List | None", description)


@strawberry.type
class Item:
    """An item, as the released model knows it."""

    item_id: ID
    title: str
    price: float | None
    categories: list[str]

    similar: List | None = listing("similar", "SimilarQuestion", OF_LISTS, "Items like this one.")


@strawberry.type
class Recommended:
    """An item of a list. score compares within one list only."""

    item_id: ID
    title: str
    price: float | None
    position: int
    score: float
    pinned: bool
    reason: Reason

    @strawberry.field(description="More of the item; null where it was deleted just now.")
    async def item(self, info: Info) -> Item | None:
        try:
            return await _item(info, self.item_id)
        except NotThere:
            return None


@strawberry.type
class List:
    """An answer. requestId: send it along with impressions and clicks, and with `page` to turn the page; nextPage: null where
    nothing is left."""

    request_id: str
    model_version: str
    variant: str
    rules_version: int
    rung: str
    degraded: list[str]
    page: int
    next_page: int | None
    items: list[Recommended]

    @classmethod
    def of(cls, told: dict[str, Any]) -> List:
        """told: the REST answer, see schemas.Recommendations."""
        items = [
            Recommended(
                item_id=ID(each["item_id"]),
                title=each["title"],
                price=each.get("price"),
                position=each["position"],
                score=each["score"],
                pinned=each.get("pinned", False),
                reason=reason(each["reason"]),
            )
            for each in told["items"]
        ]
        return cls(
            request_id=told["request_id"],
            model_version=told["model_version"],
            variant=told["variant"],
            rules_version=told["rules_version"],
            rung=told["rung"],
            degraded=told["degraded"],
            page=told["page"],
            next_page=told["next_page"],
            items=items,
        )


@strawberry.type
class Query:
    """What a page may ask for. A field that cannot be answered is null, with its error beside; the others are answered."""

    recommendations: List | None = listing(
        "recommendations",
        "RecommendationQuestion",
        OF_SUBJECTS,
        "What a user, a session, an item's or a basket's visitor may like.",
    )
    similar: List | None = listing("similar", "SimilarQuestion", OF_ONE, "Items like one.")
    together: List | None = listing(
        "together", "RelatedQuestion", OF_SUBJECTS, "What is bought together with an item or a basket."
    )
    popular: List | None = listing(
        "popular", "ListQuestion", OF_LISTS, "What is bought most, overall, in a country or a category."
    )
    trending: List | None = listing(
        "trending", "ListQuestion", OF_LISTS, "What is on the rise, overall, in a country or a category."
    )
    search: SearchResult | None = field(
        search,
        OF_SEARCH,
        "SearchResult | None",
        "What a text finds, with facets; without one, what filters let through.",
    )

    @strawberry.field(description="One item.")
    async def item(self, info: Info, item_id: ID) -> Item | None:
        return await _item(info, item_id)


async def _item(info: Info, item_id: str) -> Item:
    """As GET /v1/items/{item_id}. Raises NotThere, ServiceFailed."""
    service = info.context["service"]
    view = await service.answers.view(service.live.serving())
    try:
        told = answers.known(view.recommender, item_id)
    except NotThere:
        told = service.overlay.item(item_id)  # a new one, whose place among the others takes a moment
        if told is None:
            raise
    return Item(item_id=ID(item_id), **told)
