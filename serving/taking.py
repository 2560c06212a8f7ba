"""How a request's rows are taken in: the body read within its limit, each row judged, the sound ones on disk before the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooSlow
from typing import Annotated, Any

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import from_json

from aisle.errors import BadRows, TooBusy, TooLarge
from aisle.settings import Settings
from serving import examples
from serving.problems import shown
from serving.received import Judged, judge
from serving.schemas import Problem
from serving.shedding import parked

Schema = dict[str, Any]
HERE = 50  # rows that are judged on the event loop; more go to a thread, so that nobody waits for them


class Fault(BaseModel):
    where: str
    detail: str
    value: str | None = None


class Refused(BaseModel):
    index: Annotated[int, Field(description="Of the row in the request, from 0.")]
    errors: list[Fault]


class Taken(BaseModel):
    """What became of the rows of a request. What is accepted is on disk."""

    model_config = ConfigDict(json_schema_extra={"example": examples.TAKEN})

    accepted: int = Field(description="New rows.", examples=[2])
    duplicates: int = Field(0, description="Rows whose event_id had come before; they count once.")
    refused: list[Refused] = Field(
        [], description="Faulty rows, each with all its faults; the others were taken."
    )
    version: int | None = Field(None, description="Of the catalogue: rises with every change.")


PROBLEMS: dict[int | str, dict[str, Any]] = {
    413: {"model": Problem, "description": "The body, or the number of its rows, is above its limit."},
    422: {"model": Problem, "description": "No row is sound; every fault of every row."},
    503: {
        "model": Problem,
        "description": "The disk cannot follow, or is full. Nothing was kept: send it again after Retry-After.",
    },
}
ONE: dict[int | str, dict[str, Any]] = {
    **PROBLEMS,
    422: {"model": Problem, "description": "Every fault of it."},
}
MISSING: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such item."}}
ANSWERS: dict[int | str, dict[str, Any]] = {
    207: {
        "model": Taken,
        "description": "Some rows are faulty; the others were taken.",
        "content": {"application/json": {"example": examples.TAKEN_IN_PART}},
    },
    **PROBLEMS,
}


def body_of(
    *schemas: Schema, media: Iterable[str] = ("application/json",), examples: Schema | None = None
) -> Schema:
    """What OpenAPI says of a body that a route reads itself."""
    schema = schemas[0] if len(schemas) == 1 else {"oneOf": list(schemas)}
    content = {each: {"schema": schema, **({"examples": examples} if examples else {})} for each in media}
    return {"requestBody": {"required": True, "content": content}}


def one_or_many(model: type[BaseModel], most: int) -> tuple[Schema, Schema]:
    """The schemas of a row, and of a list of them."""
    found = model.model_json_schema()
    return found, {"type": "array", "items": found, "minItems": 1, "maxItems": most}


Responses = dict[int | str, dict[str, Any]]


def takes_one(model: type[BaseModel], responses: Responses = ONE) -> dict[str, Any]:
    """What FastAPI is told of a route whose body is one row, whose thing the path names."""
    return _takes(responses, body_of(model.model_json_schema()))


def takes_many(
    model: type[BaseModel], most: int, responses: Responses = ANSWERS, examples: Schema | None = None
) -> dict[str, Any]:
    """As `takes_one`, of one whose body is a row or a list of them."""
    return _takes(responses, body_of(*one_or_many(model, most), examples=examples))


def _takes(responses: Responses, body: Schema) -> dict[str, Any]:
    return {"status_code": 202, "response_model": Taken, "responses": responses, "openapi_extra": body}


class Taking:
    """The doors' common part. service: its landing and overlay are written through."""

    def __init__(self, settings: Settings, service: Any):
        self.limits, self.service = settings.writes, service

    async def rows(self, request: Request, model: Any) -> tuple[Judged, bool]:
        """The rows of a request, judged, and whether it is a single one. Raises BadRows where none is sound."""
        found = await self.json(request)
        rows = self.many(found)
        judged = judge(rows, model) if len(rows) <= HERE else await run_in_threadpool(judge, rows, model)
        single = not isinstance(found, list)
        self.sound(judged, single)
        return judged, single

    async def one(self, request: Request, model: Any) -> dict[str, str]:
        """The columns of a body that is one row, whose thing the path names. Raises BadRows."""
        judged = judge([await self.json(request)], model)
        self.sound(judged, single=True)
        columns: dict[str, str] = judged.rows[0][1].columns()
        return columns

    async def changes(self, request: Request, model: Any) -> dict[str, str]:
        """As `one`, of a PATCH: one that changes nothing is a mistake. Raises BadRows."""
        found = await self.one(request, model)
        if not found:
            told = "says nothing: name what changes"
            raise BadRows(f"body: {told}", [{"where": "body", "detail": told, "value": "{}"}])
        return found

    async def json(self, request: Request) -> Any:
        """The body. Raises TooLarge, BadRows. Numbers beyond 4,300 digits and nesting beyond 200 are no JSON here."""
        most, parts, size = self.limits.max_body_bytes, [], 0
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise TooLarge(f"the body is above writes.max_body_bytes = {most:,}: send it in parts")
            parts.append(part)
        try:
            return from_json(b"".join(parts), allow_inf_nan=False)
        except ValueError as error:
            fault = {"where": "body", "detail": f"is no JSON: {error}", "value": None}
            raise BadRows(f"body: {fault['detail']}", [fault]) from None

    def many(self, found: Any) -> list[Any]:
        """One row or a list of them, as a list. Raises TooLarge, BadRows."""
        rows = found if isinstance(found, list) else [found]
        if len(rows) > self.limits.max_batch:
            raise TooLarge(
                f"{len(rows):,} rows are above writes.max_batch = {self.limits.max_batch:,}: send them in parts"
            )
        if not rows:
            raise BadRows(
                "body: the list is empty", [{"where": "body", "detail": "the list is empty", "value": "[]"}]
            )
        return rows

    def sound(self, judged: Judged, single: bool) -> None:
        """Raises BadRows where no row is sound."""
        if judged.rows:
            return
        faults = [
            {
                **fault,
                "where": f"body.{fault['where']}" if single else f"body.{each['index']}.{fault['where']}",
            }
            for each in sorted(judged.faults, key=lambda each: each["index"])
            for fault in each["errors"]
        ]
        told = "; ".join(f"{fault['where']}: {fault['detail']}" for fault in faults[:20])
        more = f"; and {len(faults) - 20} more" if len(faults) > 20 else ""
        raise BadRows(told + more, faults)

    async def keep_one(self, kind: str, row: dict[str, Any], version: bool = False) -> Response:
        """One sound row, kept and told."""
        return self.told(Judged(), await self.keep(kind, [row]), version)

    async def keep(self, kind: str, rows: list[dict[str, Any]]) -> list[bool]:
        """On disk and in memory when it returns: which rows are new. Raises TooBusy, DiskFull."""
        asked = asyncio.wrap_future(self.service.landing.append(kind, rows))
        try:
            with parked():  # who waits for the disk is not at work; how many may wait is writes.queue_rows
                return await asyncio.wait_for(asyncio.shield(asked), self.limits.queue_seconds)
        except TimeoutError:
            asked.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise TooBusy(self._slow(), retry_after=1) from None

    def keep_now(self, kind: str, rows: list[dict[str, Any]]) -> list[bool]:
        """As `keep`, for a route that runs in a thread of its own."""
        asked: Future[list[bool]] = self.service.landing.append(kind, rows)
        try:
            with parked():
                return asked.result(self.limits.queue_seconds)
        except TooSlow:
            raise TooBusy(self._slow(), retry_after=1) from None

    def _slow(self) -> str:
        return (
            f"the disk took longer than writes.queue_seconds = {self.limits.queue_seconds:g}: send it again in a second; "
            "it may have been kept, and with the same event_id it counts once"
        )

    def told(self, judged: Judged, fresh: list[bool], version: bool = False) -> Response:
        """202 where all rows were taken, 207 where some are faulty."""
        found = Taken(
            accepted=fresh.count(True),
            duplicates=fresh.count(False),
            refused=sorted(judged.faults, key=lambda each: each["index"]),
            version=self.service.overlay.version if version else None,
        )
        return JSONResponse(found.model_dump(exclude_none=True), 207 if judged.faults else 202)


def unknown(item_id: str) -> str:
    return f"no item {shown(item_id)!r} is known that this could change: PUT /v1/items/{{item_id}} makes it"
