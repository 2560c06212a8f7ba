"""A person's own: what they like and hide, all that is known of them, and that it goes when they ask."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from aisle.settings import Settings
from serving import examples, export
from serving.received import event_row
from serving.rows import models
from serving.schemas import NoQuestion, questions
from serving.taking import ONE, PROBLEMS, Taking, takes_many

PREFERENCE_EXAMPLE = {
    "hide": {"summary": "Never show it again", "value": {"item_id": "22423", "preference": "hide"}}
}


class Preferences(BaseModel):
    """What a user said last of each item; an item whose preference was taken back is in none."""

    model_config = ConfigDict(json_schema_extra={"example": examples.PREFERENCES})

    user_id: str
    like: list[str] = []
    dislike: list[str] = []
    hide: list[str] = []


class Erasure(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": examples.ERASURE})

    user_id: str
    erased_at: str = Field(description="What was known until then is used and shown no more, from now on.")
    sessions: list[str] = Field(description="That were known to be this person's, and go with them.")
    rows_gone: str = (
        "with the next `maintain`; the files that still hold them, after maintain.retention_hours"
    )


def routes(settings: Settings, service: Any) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["people"])
    accepted = models(settings)
    taking = Taking(settings, service)
    Id, _, _ = questions(settings)
    UserId = Annotated[Id, Path(examples=["12347"])]

    @router.post(
        "/users/{user_id}/preferences",
        summary="Like, dislike, hide, or take back",
        **takes_many(accepted.preference, settings.writes.max_batch, examples=PREFERENCE_EXAMPLE),
    )
    async def prefer(request: Request, user_id: UserId) -> Response:
        """Kept as events; the next answer goes by them. A hidden item is not shown again until it is liked, put into the cart or bought."""
        judged, _ = await taking.rows(request, accepted.preference)
        rows = []
        for _, row in judged.rows:
            columns = row.columns()
            columns |= {"event_type": columns.pop("preference"), "user_id": user_id}
            rows.append(event_row(columns))
        return taking.told(judged, await taking.keep("events", rows))

    @router.get("/users/{user_id}/preferences", summary="What a user likes and hides", responses=PROBLEMS)
    def preferences(user_id: UserId, _: Annotated[NoQuestion, Query()]) -> Preferences:
        """The last word on each item, however long ago: of the newest features.history_lasting things that a user said, bought or put
        into the cart.
        """
        state, _complete = export.state_of(service, user_id)
        return Preferences(user_id=user_id, **export.preferences(state))

    @router.get(
        "/users/{user_id}/export",
        summary="All that is known of a person",
        response_model=export.Export,
        responses=ONE,
    )
    def everything(user_id: UserId, _: Annotated[NoQuestion, Query()]) -> Response:
        """Profile, preferences, every event and update that the lake and the journal hold, and the answers that were given.

        Read from disk: seconds on a large lake. An unknown or erased user has nothing.
        """
        found = export.of(service, user_id)
        return JSONResponse(
            found.model_dump(), headers={"Content-Disposition": 'attachment; filename="export.json"'}
        )

    @router.delete(
        "/users/{user_id}", status_code=202, summary="A person who wants to be forgotten", responses=ONE
    )
    def erase(user_id: UserId) -> Erasure:
        """A tombstone at once: from the next answer on nothing that was known is used or shown, here and in other
        processes within a second; a restart changes nothing in that. Who comes back later starts anew.
        """
        sessions = service.sessions.sessions_of(user_id)
        taking.keep_now("erasures", [{"user_id": user_id, "sessions": sessions}])
        told = service.sessions.erasure(user_id)
        return Erasure(user_id=user_id, erased_at=told.moment.isoformat(), sessions=sessions)

    return router
