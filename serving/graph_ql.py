"""GraphQL for what a page reads, in one round trip: POST /v1/graphql. The answers are those of the REST routes.

A list's arguments are the fields of the REST question of the same name, checked by the same models; errors carry a problem
(RFC 9457) in their extensions.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Annotated, Any

import strawberry
from fastapi import APIRouter, Request, Response
from graphql import GraphQLError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json
from strawberry.extensions import MaxTokensLimiter
from strawberry.schema.config import StrawberryConfig

from aisle.errors import AnotherQuestion, NotThere, ServiceFailed, TurnedAway
from aisle.settings import Settings
from serving import examples
from serving.asking import bodies
from serving.graph_bounds import Bounded
from serving.graph_types import Query
from serving.problems import shown
from serving.search_asking import bodies as search_bodies
from serving.telemetry import request_id

log = logging.getLogger("aisle.api")
TOKENS = 2000  # of a query's text
EXAMPLE = """query Home($user: ID!) {
  forYou: recommendations(userId: $user, k: 10) { requestId rung items { itemId title price reason { text } } }
  popular(k: 5) { items { itemId title item { categories } } }
}"""


class Schema(strawberry.Schema):
    def process_errors(self, errors: Sequence[GraphQLError], execution_context: Any = None) -> None:
        """Only what is a defect of ours goes to the log; the rest is the caller's own, and told to them."""
        for error in errors:
            if told(error)["status"] == 500:
                log.error("a field of a GraphQL query failed", exc_info=error.original_error)


def told(error: GraphQLError) -> dict[str, Any]:
    """The problem of an error: type, status, and every fault where the question has some."""
    cause = error.original_error
    if cause is None:
        return {"type": "urn:aisle:problem:invalid-request", "status": 400}
    if isinstance(cause, ValidationError):
        faults = [
            {
                "where": ".".join(map(str, fault["loc"])),
                "detail": fault["msg"].removeprefix("Value error, "),
                "value": shown(fault.get("input")),
            }
            for fault in cause.errors()
        ]
        return {"type": "urn:aisle:problem:invalid-request", "status": 422, "errors": faults}
    if isinstance(cause, NotThere):
        return {"type": "urn:aisle:problem:not-there", "status": 404}
    if isinstance(cause, ServiceFailed):
        return {"type": "urn:aisle:problem:not-ready", "status": 503}
    if isinstance(cause, TurnedAway):
        faults = {"errors": cause.faults} if isinstance(cause, AnotherQuestion) else {}
        return {"type": f"urn:aisle:problem:{cause.kind}", "status": cause.status, **faults}
    if isinstance(
        cause, GraphQLError | ValueError | RecursionError
    ):  # of the query's text, or a value that is none
        return {"type": "urn:aisle:problem:invalid-request", "status": 400}
    return {"type": "urn:aisle:problem:defect", "status": 500}


def formatted(error: GraphQLError) -> dict[str, Any]:
    problem = {**told(error), "request_id": request_id()}
    message = shown(error.message, 500)
    if problem["status"] == 422:
        message = "; ".join(f"{fault['where']}: {fault['detail']}" for fault in problem["errors"])
    elif problem["status"] == 500:
        message = f"this is a defect of Aisle; its log has request {request_id()}"
    found: dict[str, Any] = {"message": message, "extensions": {"problem": {**problem, "detail": message}}}
    if error.locations:
        found["locations"] = [{"line": each.line, "column": each.column} for each in error.locations]
    if error.path:
        found["path"] = error.path
    return found


class Asked(BaseModel):
    """A GraphQL request."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"query": EXAMPLE, "variables": {"user": "12347"}}}
    )
    query: Annotated[str, Field(min_length=1, max_length=20_000)]
    variables: dict[str, Any] | None = None
    operationName: Annotated[str | None, Field(max_length=200)] = None


class Told(BaseModel):
    """data: null where the query was refused as a whole. errors: each with a problem in its extensions."""

    model_config = ConfigDict(json_schema_extra={"example": examples.GRAPHQL})

    data: dict[str, Any] | None = None
    errors: list[dict[str, Any]] | None = None


def routes(settings: Settings, service: Any) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["GraphQL"])
    limits, usual, most = settings.serving.limits, settings.serving.k, settings.serving.max_k

    def bound() -> Bounded:
        return Bounded(limits.graph_depth, limits.graph_items, limits.graph_values, usual, most)

    schema = Schema(
        Query,
        extensions=[lambda: MaxTokensLimiter(max_token_count=TOKENS), bound],
        config=StrawberryConfig(disable_field_suggestions=True),
    )
    asked = bodies(settings)
    search_question = search_bodies(settings, asked).SearchQuestion

    @router.post("/graphql", summary="Several reads of a page in one", response_model=Told)
    async def graphql(request: Request, question: Asked) -> Response:
        """What a page reads in one round trip: lists, items and items of lists, at a bounded depth and cost."""
        named = question.operationName
        context = {"service": service, "asked": asked, "numbers": itertools.count(1), "named": named}
        context["search_question"] = search_question
        found = await schema.execute(question.query, question.variables, context, operation_name=named)
        told: dict[str, Any] = {"data": found.data}
        if found.errors:
            told["errors"] = [formatted(each) for each in found.errors]
        return Response(to_json(told), media_type="application/json")

    @router.get(
        "/graphql",
        summary="The GraphQL schema",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"example": examples.SDL}}}},
    )
    def sdl() -> Response:
        """In GraphQL's own language, for code generators."""
        return Response(schema.as_str(), media_type="text/plain; charset=utf-8")

    return router
