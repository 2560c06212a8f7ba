"""What a shop tells of its visitors: events, reviews, users. In the journal and in memory before it is acknowledged."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.concurrency import run_in_threadpool

from aisle.columns import RATING, UNRATE
from aisle.errors import NotThere
from aisle.settings import Settings
from serving import reviews
from serving.problems import shown
from serving.received import Judged, event_row
from serving.rows import models
from serving.schemas import Problem, questions
from serving.taking import ONE, PROBLEMS, Taken, Taking, body_of, one_or_many, takes_many, takes_one

UNRATED: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "This user has no rating of it."}
}


def routes(settings: Settings, service: Any) -> APIRouter:
    """The writing routes, bounded by the settings' limits."""
    router = APIRouter(prefix="/v1", tags=["writes"])
    accepted = models(settings)
    taking = Taking(settings, service)
    Id, _, _ = questions(settings)
    ItemId = Annotated[Id, Path(examples=["22423"])]
    UserId = Annotated[Id, Path(examples=["12347"])]
    most = settings.writes.max_batch

    async def events_of(request: Request) -> tuple[Judged, list[bool]]:
        judged, _ = await taking.rows(request, accepted.event)
        return judged, await taking.keep("events", [event_row(row.columns()) for _, row in judged.rows])

    @router.post(
        "/events",
        summary="Events in: one or a list",
        **takes_many(accepted.event, most),
    )
    async def events(request: Request) -> Response:
        """On disk when it answers, and in the next recommendation. A repeated `event_id` counts once."""
        judged, fresh = await events_of(request)
        return taking.told(judged, fresh)

    @router.post(
        "/events/beacon",
        status_code=204,
        summary="Events in, from navigator.sendBeacon",
        response_class=Response,
        responses=PROBLEMS,
        openapi_extra=body_of(*one_or_many(accepted.event, most), media=("text/plain", "application/json")),
    )
    async def beacon(request: Request) -> Response:
        """As /v1/events, whatever the body's type is called; nobody reads the answer, so there is none."""
        await events_of(request)
        return Response(status_code=204)

    async def keep_rating(told: dict[str, str], item_id: str) -> Response:
        words = {name: told.pop(name) for name in ("title", "text") if name in told}
        row = {**told, "event_type": RATING, "item_id": item_id}
        row |= {"properties": json.dumps(words, ensure_ascii=False)} if words else {}
        return await taking.keep_one("events", event_row(row))

    @router.post(
        "/items/{item_id}/reviews",
        summary="A rating, with words or without",
        **takes_one(accepted.review),
    )
    async def review(request: Request, item_id: ItemId) -> Response:
        """An event of type rating; its title and text are kept in the event's properties. The newest one of a user counts."""
        return await keep_rating(await taking.one(request, accepted.review), item_id)

    @router.put(
        "/items/{item_id}/reviews/{user_id}",
        summary="What a user thinks of an item now",
        **takes_one(accepted.opinion),
    )
    async def put_review(request: Request, item_id: ItemId, user_id: UserId) -> Response:
        """As POST /v1/items/{item_id}/reviews: it takes the place of what the user said before."""
        return await keep_rating({"user_id": user_id, **await taking.one(request, accepted.opinion)}, item_id)

    @router.patch(
        "/items/{item_id}/reviews/{user_id}",
        summary="What changes of a review",
        **takes_one(accepted.revision, {**ONE, **UNRATED}),
    )
    async def patch_review(request: Request, item_id: ItemId, user_id: UserId) -> Response:
        """Value, title or text; the rest stays, and null clears title and text (RFC 7396). It is a rating of now.

        404 where the user has no rating of the item, or took it back. What it was is read from disk: seconds on a large lake.
        """
        changed = await taking.changes(request, accepted.revision)
        known = await run_in_threadpool(reviews.standing, service, user_id, item_id)
        if known is None:
            raise NotThere(
                f"{shown(user_id)!r} has no rating of {shown(item_id)!r} that this could change: PUT makes one"
            )
        return await taking.keep_one("events", reviews.revised(known, changed))

    @router.delete(
        "/items/{item_id}/reviews/{user_id}",
        status_code=202,
        summary="A rating taken back",
        response_model=Taken,
        responses=ONE,
    )
    async def delete_review(item_id: ItemId, user_id: UserId) -> Response:
        """From the next answer on no rating that the user gave the item counts, nor in training: an event of type unrate.

        What the user likes and hides stays. Harmless where there is no rating.
        """
        row = {"event_type": UNRATE, "item_id": item_id, "user_id": user_id}
        return await taking.keep_one("events", event_row(row))

    @router.post(
        "/users",
        tags=["people"],
        summary="Users in: one or a list",
        **takes_many(accepted.user, most),
    )
    async def users(request: Request) -> Response:
        """Country, language, attributes, consent; a field that is left out keeps its value."""
        judged, _ = await taking.rows(request, accepted.user)
        fresh = await taking.keep("users", [row.columns() for _, row in judged.rows])
        return taking.told(judged, fresh, version=True)

    @router.patch(
        "/users/{user_id}",
        tags=["people"],
        summary="What changes of a user",
        **takes_one(accepted.profile),
    )
    async def patch_user(request: Request, user_id: UserId) -> Response:
        """Country, language, attributes, consent; the rest stays, and null clears what can be empty (RFC 7396)."""
        row = {"user_id": user_id, **await taking.changes(request, accepted.profile)}
        return await taking.keep_one("users", row, version=True)

    return router
