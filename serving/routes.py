"""Version 1 of the API: what is read."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Path, Query, Request, Response
from pydantic_core import to_json

from aisle.errors import NotThere, ServiceFailed
from aisle.settings import Settings
from serving import answers
from serving.alone import Answer
from serving.asking import EXAMPLES, Ask, bodies
from serving.features import Unavailable
from serving.live import Loaded
from serving.making import Answered
from serving.same_question import sent
from serving.schemas import (
    Batched,
    History,
    HistoryEvent,
    Item,
    NoQuestion,
    Problem,
    Recommendations,
    RecommendedItem,
)
from serving.shedding import let_others_go
from serving.straight import Straight
from serving.telemetry import request_id

PROBLEMS: dict[int | str, dict[str, Any]] = {
    422: {"model": Problem, "description": "Every fault of the question."},
    503: {
        "model": Problem,
        "description": "No release is loaded yet, or there is too much to do; see Retry-After.",
    },
}
NOT_THERE: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "No such item or category, or an answer that is not kept."}
}
SAME: dict[int | str, dict[str, Any]] = {
    304: {"description": "The list that If-None-Match names is the answer still."}
}
JSON = "application/json"
IfNoneMatch = Annotated[
    str | None, Header(max_length=1000, description="The ETag of the answer that you have.")
]


def v1(settings: Settings, service: Any) -> APIRouter:
    """The routes of version 1, bounded by the settings' limits."""
    asked = bodies(settings)
    router = APIRouter(prefix="/v1", tags=["version 1"], responses=PROBLEMS, route_class=Straight)
    Id = asked.Id
    ItemId = Annotated[Id, Path(examples=["22423"])]
    answer = answering(service)

    @router.get(
        "/recommendations",
        summary="What this user may like",
        response_model=Recommendations,
        responses={**NOT_THERE, **SAME},
    )
    async def recommendations(
        request: Request,
        question: Annotated[asked.RecommendationParameters, Query()],
        if_none_match: IfNoneMatch = None,
    ) -> Response:
        """k items, best first, for a user, a session, an item, a basket or a category.

        Who is unknown gets what is popular in `country`, else everywhere; never an empty answer while one item may be shown.
        """
        return await answer(request, question.ask(), if_none_match)

    @router.post(
        "/recommendations",
        summary="What this user may like, under rules",
        response_model=Recommendations,
        responses=NOT_THERE,
    )
    async def recommendations_post(
        request: Request, question: Annotated[asked.RecommendationQuestion, Body(openapi_examples=EXAMPLES)]
    ) -> Response:
        """As the GET, with all the rules that there are."""
        return await answer(request, question.ask())

    @router.post(
        "/recommendations/batch", summary="Lists of many users", response_model=Batched, responses=NOT_THERE
    )
    async def batch(
        request: Request,
        question: Annotated[
            asked.BatchQuestion,
            Body(openapi_examples={"users": {"value": {"users": ["12347", "12348"], "k": 5}}}),
        ],
    ) -> Response:
        """One answer a user, each with a request id of its own."""
        asks = question.asks()
        found = []
        for place, ask in enumerate(asks, 1):
            await let_others_go()
            found.append(await service.answers.ask(ask, f"{request_id()}.{place}"))
        noted(request, found[0])
        text = b",".join(each.body for each in found)
        users = to_json([ask.user_id for ask in asks])
        return Response(b'{"answers":[' + text + b'],"users":' + users + b"}", media_type=JSON)

    for kind, path, summary in (
        ("similar", "/items/{item_id}/similar", "Items like this one"),
        ("together", "/items/{item_id}/together", "What is bought together with this one"),
    ):
        _of_item(router, answer, asked, ItemId, kind, path, summary)
    for kind, question, summary in (
        ("similar", asked.SimilarQuestion, "Items like one, under rules"),
        ("together", asked.RelatedQuestion, "What is bought together with an item or a basket"),
        ("popular", asked.ListQuestion, "What is bought most, overall, in a country or a category"),
        ("trending", asked.ListQuestion, "What is on the rise, overall, in a country or a category"),
    ):
        _posted(router, answer, question, kind, summary)
    for kind, summary in (("popular", "What is bought most"), ("trending", "What is on the rise")):
        _listed(router, answer, asked, kind, summary)

    @router.get("/items/{item_id}", summary="One item, as the released model knows it", responses=NOT_THERE)
    def item(item_id: ItemId, _: Annotated[NoQuestion, Query()]) -> Item:
        view = service.answers.views.of(service.live.serving())
        try:
            return Item(item_id=item_id, **answers.known(view.recommender, item_id))
        except NotThere:
            told = service.overlay.item(item_id)  # its place among the others takes a moment
            if told is None:
                raise
            return Item(item_id=item_id, **told)

    @router.get("/users/{user_id}/history", summary="What a user bought and did")
    def history(
        user_id: Annotated[Id, Path(examples=["12347"])], _: Annotated[NoQuestion, Query()]
    ) -> History:
        """Newest first, cut by kind at features.history_length; an unknown user has none.

        503 while the store is down.
        """
        return history_of(service, service.live.serving(), user_id)

    return router


Answering = Callable[..., Awaitable[Response]]


def answering(service: Any) -> Answering:
    """What all routes end in: the answer as a response, with its entity tag, or that it is the same still."""

    async def answer(request: Request, ask: Ask, if_none_match: str | None = None) -> Response:
        ask = sent(ask, request)
        tagged = request.method == "GET"  # who asks by POST has no use for a tag: RFC 9110, 13.1.2
        found = await service.answers.ask(ask, request_id(), if_none_match, tagged)
        if isinstance(found, str):
            return Response(status_code=304, headers={"ETag": found, "Cache-Control": "private, no-cache"})
        noted(request, found)
        return Listed(found.body, found.etag)

    return answer


class Listed(Response):
    """A list as JSON. etag: None where it has none."""

    def __init__(self, body: bytes, etag: str | None = None):
        self.status_code, self.background, self.body = 200, None, body
        tag = [(b"etag", etag.encode())] if etag else []
        self.raw_headers = [
            (b"cache-control", b"private, no-cache"),
            *tag,
            (b"content-length", str(len(body)).encode()),
            (b"content-type", b"application/json"),
        ]


def noted(request: Request, found: Answered) -> None:
    """For the log line of the request."""
    told = {"rung": found.made.rung, "model_version": found.version}
    request.scope["aisle"] = {**request.scope.get("aisle", {}), **told}


def _of_item(
    router: APIRouter, answer: Answering, asked: Any, ItemId: Any, kind: Any, path: str, summary: str
) -> None:
    @router.get(
        path, summary=summary, response_model=Recommendations, responses={**NOT_THERE, **SAME}, name=kind
    )
    async def of_item(
        request: Request,
        item_id: ItemId,
        question: Annotated[asked.ListParameters, Query()],
        if_none_match: IfNoneMatch = None,
    ) -> Response:
        return await answer(request, question.ask(kind, item_id), if_none_match)


def _posted(router: APIRouter, answer: Answering, question: Any, kind: Any, summary: str) -> None:
    @router.post(
        f"/{kind}", summary=summary, response_model=Recommendations, responses=NOT_THERE, name=f"{kind}_post"
    )
    async def posted(request: Request, asked: question) -> Response:
        return await answer(request, asked.ask(kind))


def _listed(router: APIRouter, answer: Answering, asked: Any, kind: Any, summary: str) -> None:
    responses = {**NOT_THERE, **SAME}

    @router.get(f"/{kind}", summary=summary, response_model=Recommendations, responses=responses, name=kind)
    async def listed(
        request: Request,
        question: Annotated[asked.ListParameters, Query()],
        if_none_match: IfNoneMatch = None,
    ) -> Response:
        return await answer(request, question.ask(kind), if_none_match)


def recommend(service: Any, loaded: Loaded, user_id: str | None, country: str | None, k: int) -> Answer:
    """An answer for our own pages: neither logged nor counted."""
    found = service.answers.now(Ask(k=k, user_id=user_id, country=country), loaded).made
    degraded = found.pool.degraded
    items = [RecommendedItem(**each) for each in found.items]
    return Answer(found.rung, items, degraded[0] if degraded else None)


def history_of(service: Any, loaded: Loaded, user_id: str) -> History:
    """Raises ServiceFailed where the online store does not answer."""
    try:
        state = service.sessions.merged(service.histories.of(user_id), user_id, None)
    except Unavailable as why:
        raise ServiceFailed(
            f"the online store has no answer now ({why.reason}); ask again, or see /readyz"
        ) from None
    quantities = state.quantities if len(state.quantities) else [None] * len(state.item_ids)
    events = [
        HistoryEvent(
            item_id=item,
            title=_title(loaded, item),
            event_type=kind,
            event_time=datetime.fromtimestamp(when, UTC).isoformat(),
            quantity=quantity,
        )
        for item, kind, when, quantity in zip(
            state.item_ids, state.event_types, state.event_times, quantities, strict=True
        )
    ]
    return History(user_id=user_id, country=state.country, events=events)


def _title(loaded: Loaded, item_id: str) -> str | None:
    try:
        return loaded.recommender.item(item_id).get("title")
    except KeyError:
        return None
