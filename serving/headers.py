"""What every answer carries so that browsers are careful with it, and which pages elsewhere may read answers (CORS)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from serving.problems import defect, problem

ALWAYS = (
    (b"vary", b"Origin"),  # whoever asks: what a page elsewhere may read has another header, see Cors
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"referrer-policy", b"same-origin"),
)
DATA_POLICY = b"default-src 'none'; frame-ancestors 'none'"
DOCS_POLICY = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; frame-ancestors 'self'; base-uri 'none'"
)
OF_DATA = (*ALWAYS, (b"content-security-policy", DATA_POLICY), (b"cache-control", b"no-store"))
OF_DOCS = (*ALWAYS, (b"content-security-policy", DOCS_POLICY))
ASKED = ["Authorization", "Content-Type", "If-None-Match", "X-API-Key", "X-Request-ID", "X-User-Token"]
TOLD = ["ETag", "Retry-After", "X-Request-ID"]


def completed(headers: list[tuple[bytes, bytes]], path: str) -> list[tuple[bytes, bytes]]:
    """The headers, with those that are missing; what a route sets itself stays as it is. Data is for the one who asked: no cache
    keeps it unless its route says so.
    """
    there = {name.lower() for name, _ in headers}
    wanted = OF_DATA if path.startswith("/v1") else OF_DOCS if path.startswith("/docs") else ALWAYS
    if b"vary" in there:
        headers = [
            (name, _with_origin(value) if name.lower() == b"vary" else value) for name, value in headers
        ]
    return [*headers, *(each for each in wanted if each[0] not in there)]


def from_page(scope: Scope) -> bool:
    """Whether a browser says which page asks."""
    return any(name == b"origin" for name, _ in scope["headers"])


def _with_origin(vary: bytes) -> bytes:
    """
    >>> _with_origin(b"Accept"), _with_origin(b"Origin")
    (b'Accept, Origin', b'Origin')
    """
    named = [each.strip().lower() for each in vary.split(b",")]
    return vary if b"origin" in named else vary + b", Origin"


class Readable:
    """ASGI middleware: what nobody foresaw is answered below the headers of CORS, without which a page may not read it."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        begun = False

        async def sending(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            if begun:
                raise
            await defect(Request(scope), error)(scope, receive, send)


class Cors(CORSMiddleware):
    """Closed but for the origins of the settings and of the public keys, which may change while we run."""

    def __init__(self, app: Any, origins: Collection[str], of_keys: Callable[[], Collection[str]]):
        self.plain = app
        super().__init__(
            Readable(app),
            allow_origins=list(origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=ASKED,
            expose_headers=TOLD,
            max_age=600,
        )
        self.of_keys = of_keys

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Who sends no Origin is no page elsewhere: there is nothing to tell but Vary, which `completed` does for all."""
        if scope["type"] == "http" and not from_page(scope):
            await self.plain(scope, receive, send)
            return
        await super().__call__(scope, receive, send)

    def is_allowed_origin(self, origin: str) -> bool:
        return super().is_allowed_origin(origin) or origin in self.of_keys()

    def preflight_response(self, request_headers: Headers) -> Response:
        found = super().preflight_response(request_headers)
        if found.status_code < 400:
            return found
        request = Request({"type": "http", "method": "OPTIONS", "path": "/", "headers": request_headers.raw})
        told = "pages of this origin may not read answers: see serving.cors_origins and `aisle keys create --origin`"
        return problem(request, 403, "not-allowed", told)
