"""The door before every path: who asks, how often, with what; then a place at work. All of it before a byte is parsed."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from fastapi import FastAPI
from fastapi.dependencies.utils import get_flat_dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from aisle.errors import TooManyHeaders, TurnedAway
from aisle.settings import Settings
from serving import policy, proof
from serving.figures import Figures
from serving.keys import Caller, Keyring, Receive, Scope, Send, local
from serving.limits import LARGE, MADE, WHOLE, Bodies, Rates
from serving.policy import LOCAL, OPEN
from serving.shedding import Gate
from serving.telemetry import stage

PAGES = ("/", "/docs")  # whose visitors may ask from them for a while
SLASH = (
    "\U0010fffd"  # a private character: stands for an encoded slash while a path is matched with the routes
)


class Doors:
    """What all doors of an app share."""

    def __init__(self, settings: Settings, keys: Keyring, figures: Figures):
        limits = self.limits = settings.serving.limits
        self.keys, self.figures = keys, figures
        self.reading = Gate(limits, limits.at_work, self._shed)
        self.other = Gate(limits, limits.others_at_work, self._shed)
        self.rates, self.bodies = Rates(limits, settings.serving.workers), Bodies(limits)

    def hang(self, app: FastAPI) -> None:
        """A door before every route of an app, which is whole by now."""
        for route in app.routes:
            route.app = Door(route.app, policy.wanted(route), self, takes_none(route))  # type: ignore[attr-defined]

    def _shed(self, why: str) -> None:
        self.figures.shed.labels(why).inc()

    def watch(self) -> None:
        self.figures.at_work.set(self.reading.at_work + self.other.at_work)
        self.figures.waiting.set(self.reading.waiting + self.other.waiting)


class Door:
    """Before one route. wanted: a scope, OPEN or LOCAL. plain: it takes no parameter in its query."""

    def __init__(self, app: Any, wanted: str, doors: Doors, plain: bool = False):
        self.app, self.wanted, self.doors, self.plain = app, wanted, doors, plain
        self.gate = doors.reading if wanted == "read" else doors.other  # an export holds no recommendation up

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        doors = self.doors
        for name, value in scope.get("path_params", {}).items():
            if isinstance(value, str):
                scope["path_params"][name] = value.replace(SLASH, "/")
        caller = self._admitted(scope)
        proof.note(doors.keys.claim(scope, caller))
        if self.plain and scope["query_string"]:
            refuse_parameters(scope)
        if self.wanted in (OPEN, LOCAL):
            await self.app(scope, receive, self._with_cookie(scope, send))
            return
        if caller.name:
            scope["aisle"] = {"key": caller.name}
        headers = dict(scope["headers"])
        size = 0
        if b"content-length" in headers or b"transfer-encoding" in headers:
            body = await doors.bodies.read(headers, receive, scope.get(WHOLE, False))
            size, receive = len(body), replayed(body, receive)
        try:
            await self._at_work(scope, receive, send)
        finally:
            doors.bodies.done(size)

    def _admitted(self, scope: Scope) -> Caller:
        """The caller. Who has no good key is counted by address all the same. Raises TurnedAway."""
        doors, client = self.doors, scope.get("client")
        self._require_short_headers(scope)
        try:
            caller = doors.keys.admit(scope, self.wanted)
        except TurnedAway:
            doors.rates.take(Caller(), client)
            raise
        if self.wanted not in (OPEN, LOCAL) or not local(
            scope
        ):  # whoever watches this machine from itself may look often
            doors.rates.take(caller, client)
        return caller

    def _require_short_headers(self, scope: Scope) -> None:
        headers, limits = scope["headers"], self.doors.limits
        size = sum(len(name) + len(value) + 4 for name, value in headers) + len(scope["query_string"])
        if len(headers) > limits.max_headers or size > limits.max_header_bytes:
            raise TooManyHeaders(
                f"{len(headers)} headers of {size} bytes; at most {limits.max_headers} of {limits.max_header_bytes} are read"
            )

    async def _at_work(self, scope: Scope, receive: Receive, send: Send) -> None:
        """In a place, which is given back when the answer is made, not when a slow caller has taken it."""
        doors = self.doors
        with stage("waiting"):
            place = await self.gate.enter()
        doors.watch()

        async def sending(message: dict[str, Any]) -> None:
            place.leave()
            size = len(message.get("body", b""))
            if size > LARGE:
                scope[MADE] = size
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            place.leave()
            doors.watch()

    def _with_cookie(self, scope: Scope, send: Send) -> Send:
        if scope["path"] not in PAGES or self.doors.keys.auth == "open" or not local(scope):
            return send
        cookie = (b"set-cookie", self.doors.keys.page_cookie().encode())

        async def sending(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], cookie]
            await send(message)

        return sending


def takes_none(route: Any) -> bool:
    """Whether a path of ours has no parameter in its query; those that have some judge what they get."""
    if not isinstance(route, APIRoute) or not route.path.startswith("/v1"):
        return False
    return not get_flat_dependant(route.dependant).query_params


def refuse_parameters(scope: Scope) -> None:
    """One that is given all the same is a mistake, and told. Raises RequestValidationError."""
    asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    told = {"type": "extra_forbidden", "msg": "Extra inputs are not permitted"}
    if asked:
        raise RequestValidationError(
            [{**told, "loc": ("query", name), "input": value} for name, value in asked]
        )


class Slashes:
    """ASGI middleware: an id may have a slash, which a path has as %2F; uvicorn decodes it, and no route would match."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path") or b""
        if b"%2f" in raw or b"%2F" in raw:
            scope["path"] = unquote(re.sub("%2[fF]", quote(SLASH), raw.decode("ascii")))
        await self.app(scope, receive, send)


def replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` that gives a body which was read already, then what comes after it."""
    given = False

    async def again() -> dict[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
