"""Version 1 of the API."""

import time
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request

from aisle.errors import ServiceFailed
from aisle.settings import Settings
from engine.state import UserState
from serving import answers
from serving.answers import Answer
from serving.features import Unavailable
from serving.live import Loaded
from serving.schemas import (
    History,
    HistoryEvent,
    Item,
    NoQuestion,
    Problem,
    Recommendations,
    SimilarItems,
    questions,
)
from serving.telemetry import request_id

PROBLEMS: dict[int | str, dict[str, Any]] = {
    422: {"model": Problem, "description": "Every fault of the question."},
    503: {"model": Problem, "description": "No release is loaded yet."},
}
NOT_THERE: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such item."}}


def state_of(service: Any, user_id: str | None, country: str | None) -> tuple[UserState, str | None]:
    """What is known of a user, and why it is less than it should be.

    An unknown user is in the country that was asked.
    """
    if user_id is None:
        return UserState("", country), None
    try:
        found = service.histories.of(user_id)
    except Unavailable as why:
        return UserState(user_id, country), why.reason
    if found.country is None and country:
        return UserState(
            user_id, country, found.item_ids, found.event_types, found.event_times, found.quantities
        ), None
    return found, None


def recommend(service: Any, loaded: Loaded, user_id: str | None, country: str | None, k: int) -> Answer:
    """An answer, counted by its rung."""
    started = time.perf_counter()
    state, degraded = state_of(service, user_id, country)
    found = answers.answer(loaded.recommender, state, k)
    for reason in (degraded, found.degraded):
        if reason:
            service.figures.degraded.labels(reason).inc()
    if not found.items:
        service.figures.empty.inc()
    service.figures.answer.labels(found.rung).observe(time.perf_counter() - started)
    return found


def v1(settings: Settings, service: Any) -> APIRouter:
    """The routes of version 1, bounded by the settings' limits."""
    Id, CountQuestion, RecommendationQuestion = questions(settings)
    router = APIRouter(prefix="/v1", tags=["version 1"], responses=PROBLEMS)
    ItemId = Annotated[Id, Path(examples=["22423"])]

    @router.get("/recommendations", summary="What this user may like")
    def recommendations(
        request: Request, question: Annotated[RecommendationQuestion, Query()]
    ) -> Recommendations:
        """k items, best first.

        An unknown user gets what is popular in `country`, else everywhere; never an empty answer.
        """
        loaded = service.live.serving()
        found = recommend(service, loaded, question.user_id, question.country, question.k)
        version = loaded.pointer.version
        request.scope["aisle"] = {"rung": found.rung, "model_version": version}
        return Recommendations(
            request_id=request_id(), model_version=version, rung=found.rung, items=found.items
        )

    @router.get("/items/{item_id}/similar", summary="Items like this one", responses=NOT_THERE)
    def similar(item_id: ItemId, question: Annotated[CountQuestion, Query()]) -> SimilarItems:
        loaded = service.live.serving()
        items = answers.similar(loaded.recommender, item_id, question.k)
        return SimilarItems(
            request_id=request_id(), model_version=loaded.pointer.version, item_id=item_id, items=items
        )

    @router.get("/items/{item_id}", summary="One item, as the released model knows it", responses=NOT_THERE)
    def item(item_id: ItemId, _: Annotated[NoQuestion, Query()]) -> Item:
        return Item(item_id=item_id, **answers.known(service.live.serving().recommender, item_id))

    @router.get("/users/{user_id}/history", summary="What a user bought and did")
    def history(
        user_id: Annotated[Id, Path(examples=["12347"])], _: Annotated[NoQuestion, Query()]
    ) -> History:
        """Newest first, at most features.history_length events; an unknown user has none.

        503 while the store is down.
        """
        return history_of(service, service.live.serving(), user_id)

    return router


def history_of(service: Any, loaded: Loaded, user_id: str) -> History:
    """Raises ServiceFailed where the online store does not answer."""
    try:
        state = service.histories.of(user_id)
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
