"""The straight way from a question in a JSON body to its endpoint: read, validated by its model, asked.

FastAPI documents these routes as it does all others, and answers whenever something is wrong, so that a problem reads the same
on every path. Where nothing is wrong its dependencies, exit stacks and second parsing would be for nothing, on the event loop that
all requests share.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aisle.checked import of_sound
from serving.headers import from_page

JSON = b"application/json"
Ways = dict[tuple[str, bytes], tuple[APIRoute, ASGIApp]]


class Straight(APIRoute):
    """A route class. Goes straight where the endpoint is a coroutine that takes the request and one model as its body, and nothing
    else; all other endpoints are FastAPI's."""

    def __init__(self, *args: Any, **more: Any):
        super().__init__(*args, **more)
        found = question_of(self.dependant)
        if found is not None:
            self._name, model = found
            self._sound = of_sound(model)
            self._by_fastapi = AsyncExitStackMiddleware(self.app)
            self.app = self._straight

    async def _straight(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        question = self._question(scope, message)
        if question is None:
            await self._by_fastapi(scope, again(message, receive), send)
            return
        given = {str(self.dependant.request_param_name): Request(scope, receive), self._name: question}
        response = await self.endpoint(**given)
        await response(scope, receive, send)

    def _question(self, scope: Scope, message: Message) -> BaseModel | None:
        """None for what FastAPI has to judge."""
        if message["type"] != "http.request" or message.get("more_body") or not _says_json(scope):
            return None
        try:
            question: BaseModel = self._sound.validate_json(message.get("body", b""))
            return question
        except ValidationError:
            return None


def question_of(dependant: Dependant) -> tuple[str, type[BaseModel]] | None:
    """(name, model) of the one thing beside the request that an endpoint takes."""
    others = (dependant.path_params, dependant.query_params, dependant.header_params, dependant.cookie_params)
    if any(others) or dependant.dependencies or len(dependant.body_params) != 1:
        return None
    if dependant.request_param_name is None or not dependant.is_coroutine_callable:
        return None
    (body,) = dependant.body_params
    model = body.field_info.annotation
    return (body.name, model) if isinstance(model, type) and issubclass(model, BaseModel) else None


class Shortcuts:
    """ASGI middleware: straight routes by their exact path, without what a path needs that has to be looked for.

    ways: of `ways`, filled when the app is whole.
    """

    def __init__(self, app: ASGIApp, ways: Ways):
        self.app, self.ways = app, ways

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        way = self.ways.get((scope.get("method", ""), scope.get("raw_path", b"")))
        if way is None or from_page(scope):
            await self.app(scope, receive, send)
            return
        route, app = way
        scope["route"], scope["endpoint"], scope["path_params"] = route, route.endpoint, {}
        await app(scope, receive, send)


def ways(app: FastAPI) -> Ways:
    """By method and path as it is sent: the straight routes of an app, each with the app's own answers to errors around it."""
    handlers = {kind: each for kind, each in app.exception_handlers.items() if kind not in (500, Exception)}
    return {
        (method, route.path.encode()): (route, ExceptionMiddleware(route.app, handlers))
        for route in app.routes
        if isinstance(route, Straight) and question_of(route.dependant)
        for method in route.methods
    }


def _says_json(scope: Scope) -> bool:
    """In so many words; FastAPI knows the others."""
    return next((value for name, value in scope["headers"] if name == b"content-type"), b"") == JSON


def again(message: Message, receive: Receive) -> Receive:
    """`receive` that gives a message which was read already, then what comes after it."""
    held: Iterator[Message] = iter((message,))

    async def receiving() -> Message:
        for each in held:
            return each
        return await receive()

    return receiving
