"""The GraphQL types of a page's reads, and how each field is answered: by the questions and answers of the REST routes."""

from __future__ import annotations

from typing import Any

import strawberry
from pydantic_core import from_json
from strawberry import ID, Info
from strawberry.scalars import JSON

from aisle.errors import NotThere
from serving import answers
from serving.search_graph import SearchResult, search
from serving.shedding import let_others_go
from serving.telemetry import request_id


@strawberry.type
class Reason:
    """Why an item is on the list."""

    source: str
    text: str
    evidence: JSON | None
    parts: JSON


@strawberry.type
class Item:
    """An item, as the released model knows it."""

    item_id: ID
    title: str
    price: float | None
    categories: list[str]

    @strawberry.field(description="Items like this one.")
    async def similar(self, info: Info, k: int | None = None) -> List | None:
        return await _list("similar", "SimilarQuestion", info, item_id=self.item_id, k=k)


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
    """An answer. requestId: send it along with impressions and clicks."""

    request_id: str
    model_version: str
    variant: str
    rung: str
    degraded: list[str]
    items: list[Recommended]


def ranking(kind: str, description: str) -> Any:
    """A field that lists what everybody does."""

    async def listed(
        info: Info,
        k: int | None = None,
        country: str | None = None,
        category: str | None = None,
        rules: JSON | None = None,
    ) -> List | None:
        return await _list(kind, "ListQuestion", info, k=k, country=country, category=category, rules=rules)

    return strawberry.field(listed, description=description)


@strawberry.type
class Query:
    """What a page may ask for. A field that cannot be answered is null, with its error beside; the others are answered."""

    @strawberry.field(description="What a user, a session, an item's or a basket's visitor may like.")
    async def recommendations(
        self,
        info: Info,
        k: int | None = None,
        user_id: ID | None = None,
        session_id: ID | None = None,
        item_id: ID | None = None,
        basket: list[ID] | None = None,
        country: str | None = None,
        category: str | None = None,
        placement: str | None = None,
        rules: JSON | None = None,
    ) -> List | None:
        return await _list("recommendations", "RecommendationQuestion", **locals())

    @strawberry.field(description="Items like one.")
    async def similar(
        self,
        info: Info,
        item_id: ID,
        k: int | None = None,
        user_id: ID | None = None,
        category: str | None = None,
        rules: JSON | None = None,
    ) -> List | None:
        return await _list("similar", "SimilarQuestion", **locals())

    @strawberry.field(description="What is bought together with an item or a basket.")
    async def together(
        self,
        info: Info,
        k: int | None = None,
        item_id: ID | None = None,
        basket: list[ID] | None = None,
        rules: JSON | None = None,
    ) -> List | None:
        return await _list("together", "RelatedQuestion", **locals())

    popular: List | None = ranking("popular", "What is bought most, overall, in a country or a category.")
    trending: List | None = ranking("trending", "What is on the rise, overall, in a country or a category.")

    @strawberry.field(description="What a text finds, with facets; without one, what filters let through.")
    async def search(
        self,
        info: Info,
        q: str | None = None,
        k: int | None = None,
        user_id: ID | None = None,
        session_id: ID | None = None,
        country: str | None = None,
        category: str | None = None,
        placement: str | None = None,
        typing: bool | None = None,
        page: int | None = None,
        request_id: str | None = None,
        rules: JSON | None = None,
    ) -> SearchResult | None:
        asked = {name: value for name, value in locals().items() if name not in ("self", "info")}
        return await search(info, **asked)

    @strawberry.field(description="One item.")
    async def item(self, info: Info, item_id: ID) -> Item | None:
        return await _item(info, item_id)


async def _list(kind: str, question: str, info: Info, self: Any = None, **given: Any) -> List:
    """given: the field's arguments. Raises ValidationError, NotThere, ServiceFailed, TurnedAway: the error's problem."""
    context = info.context
    model = getattr(context["asked"], question)
    ask = model(**{name: value for name, value in given.items() if value is not None}).ask(kind)
    await let_others_go()
    found = await context["service"].answers.ask(ask, f"{request_id()}.{next(context['numbers'])}")
    told = from_json(found.body)
    items = [
        Recommended(
            item_id=ID(each["item_id"]),
            title=each["title"],
            price=each.get("price"),
            position=each["position"],
            score=each["score"],
            pinned=each.get("pinned", False),
            reason=Reason(
                source=each["reason"]["source"],
                text=each["reason"]["text"],
                evidence=each["reason"].get("evidence"),
                parts=each["reason"].get("parts", {}),
            ),
        )
        for each in told["items"]
    ]
    return List(
        request_id=told["request_id"],
        model_version=told["model_version"],
        variant=told["variant"],
        rung=told["rung"],
        degraded=told["degraded"],
        items=items,
    )


async def _item(info: Info, item_id: str) -> Item:
    service = info.context["service"]
    view = await service.answers.view(service.live.serving())
    return Item(item_id=ID(item_id), **answers.known(view.recommender, item_id))
