"""Errors of the API as problem documents (RFC 9457): what is wrong, every fault of it, and the way out."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from aisle.errors import (
    AnotherQuestion,
    DiskFull,
    NotThere,
    RaceLost,
    ServiceFailed,
    TamperedRecord,
    TurnedAway,
)
from serving.telemetry import request_id

MEDIA_TYPE = "application/problem+json"
log = logging.getLogger("aisle.api")


def problem(
    request: Request,
    status: int,
    name: str,
    detail: str,
    errors: list[dict] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """name: of the kind of problem, stable; `type` is made of it. errors: [{"where", "detail", "value"}]."""
    body = {
        "type": f"urn:aisle:problem:{name}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.scope.get("raw_path", b"").decode("ascii", "replace") or request.url.path,
        "request_id": request_id(),
    }
    if errors:
        body["errors"] = errors
    return JSONResponse(body, status, headers, MEDIA_TYPE)


def shown(value: object, longest: int = 80) -> str:
    """A value as it may be shown again: printable and short.

    >>> shown("a\\x00b")
    'a\\\\x00b'
    """
    text = str(value)
    text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[: longest + 1])
    return text if len(text) <= longest else f"{text[:longest]}… ({len(str(value))} characters)"


def _faults(error: RequestValidationError) -> list[dict]:
    return [
        {
            "where": ".".join(map(str, fault["loc"])),
            "detail": fault["msg"].removeprefix("Value error, ") + _unread(fault.get("input")),
            "value": None if fault["type"] == "missing" else shown(fault.get("input")),
        }
        for fault in error.errors()
    ]


def _unread(value: object) -> str:
    """A body that FastAPI did not read as JSON, since nothing said that it is."""
    return "; send JSON, with the header Content-Type: application/json" if isinstance(value, bytes) else ""


def _placed(request: Request, faults: list[dict]) -> list[dict]:
    """With where in this request each field stands."""
    others = "query" if request.method == "GET" else "body"
    return [
        {**each, "where": f"{'path' if each['where'] in request.path_params else others}.{each['where']}"}
        for each in faults
    ]


def defect(request: Request, error: Exception) -> JSONResponse:
    """What nobody foresaw: the log gets it whole, the sender the id to find it by."""
    log.error("a request failed", exc_info=error)
    return problem(request, 500, "defect", f"this is a defect of Aisle; its log has request {request_id()}")


def install(app: FastAPI) -> None:
    """Every error of `app` becomes a problem document."""

    def unsound(request: Request, faults: list[dict]) -> JSONResponse:
        told = "; ".join(f"{fault['where']}: {fault['detail']}" for fault in faults)
        return problem(request, 422, "invalid-request", told, faults)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return unsound(request, _faults(error))

    @app.exception_handler(AnotherQuestion)
    async def another_question(request: Request, error: AnotherQuestion) -> JSONResponse:
        return unsound(request, _placed(request, error.faults))

    @app.exception_handler(NotThere)
    async def not_there(request: Request, error: NotThere) -> JSONResponse:
        return problem(request, 404, "not-there", str(error))

    @app.exception_handler(ServiceFailed)
    async def not_ready(request: Request, error: ServiceFailed) -> JSONResponse:
        return problem(request, 503, "not-ready", str(error), headers={"Retry-After": "5"})

    @app.exception_handler(TurnedAway)
    async def turned_away(request: Request, error: TurnedAway) -> JSONResponse:
        headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        if error.status == 401:  # browsers ask for a password where Basic is offered: on our pages only
            realm = "Bearer" if request.url.path.startswith("/v1") else "Basic"
            headers["WWW-Authenticate"] = f'{realm} realm="Aisle"'
        if error.status in (408, 413, 431):
            headers["Connection"] = "close"  # the rest of what is sent is not read
        faults = getattr(error, "faults", None)
        return problem(request, error.status, error.kind, str(error), faults, headers)

    @app.exception_handler(DiskFull)
    async def disk_full(request: Request, error: DiskFull) -> JSONResponse:
        return problem(request, 503, "disk-full", str(error), headers={"Retry-After": "30"})

    @app.exception_handler(RaceLost)
    async def race_lost(request: Request, error: RaceLost) -> JSONResponse:
        return problem(request, 409, "conflict", str(error))

    @app.exception_handler(TamperedRecord)
    async def tampered(request: Request, error: TamperedRecord) -> JSONResponse:
        return problem(request, 503, "tampered-record", str(error))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        name = {404: "no-such-path", 405: "no-such-method"}.get(error.status_code, "http")
        return problem(
            request,
            error.status_code,
            name,
            f"{shown(error.detail)}; the paths are at /docs",
            headers=error.headers,
        )
