"""What every answer carries so that browsers are careful with it, and which pages elsewhere may read answers (CORS)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from serving.problems import problem

ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"referrer-policy", b"same-origin"),
)
DATA_POLICY = b"default-src 'none'; frame-ancestors 'none'"
DOCS_POLICY = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; frame-ancestors 'self'; base-uri 'none'"
)
ASKED = ["Authorization", "Content-Type", "If-None-Match", "X-API-Key", "X-Request-ID", "X-User-Token"]
TOLD = ["ETag", "Retry-After", "X-Request-ID"]


class SafeHeaders:
    """ASGI middleware. What a route sets itself stays as it is."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]

        async def sending(message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = completed(message["headers"], path)
            await send(message)

        await self.app(scope, receive, sending)


def completed(headers: list[tuple[bytes, bytes]], path: str) -> list[tuple[bytes, bytes]]:
    """The headers, with those that are missing. Data is for the one who asked: no cache keeps it unless its route says so."""
    there = {name.lower() for name, _ in headers}
    wanted = list(ALWAYS)
    if path.startswith("/v1"):
        wanted += [(b"content-security-policy", DATA_POLICY), (b"cache-control", b"no-store")]
    elif path.startswith("/docs"):
        wanted.append((b"content-security-policy", DOCS_POLICY))
    return [*headers, *(each for each in wanted if each[0] not in there)]


class Cors(CORSMiddleware):
    """Closed but for the origins of the settings and of the public keys, which may change while we run."""

    def __init__(self, app: Any, origins: Collection[str], of_keys: Callable[[], Collection[str]]):
        super().__init__(
            app,
            allow_origins=list(origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=ASKED,
            expose_headers=TOLD,
            max_age=600,
        )
        self.of_keys = of_keys

    def is_allowed_origin(self, origin: str) -> bool:
        return super().is_allowed_origin(origin) or origin in self.of_keys()

    def preflight_response(self, request_headers: Headers) -> Response:
        found = super().preflight_response(request_headers)
        if found.status_code < 400:
            return found
        request = Request({"type": "http", "method": "OPTIONS", "path": "/", "headers": request_headers.raw})
        told = "pages of this origin may not read answers: see serving.cors_origins and `aisle keys create --origin`"
        return problem(request, 403, "not-allowed", told)
