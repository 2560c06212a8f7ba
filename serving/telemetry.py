"""What the API tells of itself: JSON log lines with request ids, Prometheus figures, and the times of a request's stages.

No user id, no key and no query is written to any of them.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import uuid
from contextvars import ContextVar
from datetime import UTC, datetime

from serving import tracing
from serving.figures import Figures

_request_id: ContextVar[str] = ContextVar("request_id", default="")
_stages: ContextVar[dict[str, float] | None] = ContextVar("stages", default=None)
_EXTRA = ("method", "path", "status", "ms", "stages", "key", "rung", "model_version")
QUIET = ("/healthz", "/readyz", "/metrics")
log = logging.getLogger("aisle.api")

__all__ = ["Figures", "JsonLines", "RequestLog", "log_as_json", "request_id", "stage"]


def request_id() -> str:
    """The id of the request that is being answered; empty outside of one."""
    return _request_id.get()


class stage:
    """Times a part of a request's work: aisle_stage_seconds{stage}, the log line, and a span where traces are on.

    Within one request, times of one name add up. Outside of a request, as in the command, it does nothing.
    """

    __slots__ = ("_name", "_span", "_started")

    def __init__(self, name: str):
        self._name = name

    def __enter__(self) -> None:
        self._started = time.perf_counter()
        self._span = tracing.begin(self._name)

    def __exit__(self, *_: object) -> None:
        tracing.end(self._span)
        found = _stages.get()
        if found is not None:
            found[self._name] = found.get(self._name, 0.0) + time.perf_counter() - self._started


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, message, request_id, and what the record carries besides."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id():
            line["request_id"] = request_id()
        line |= {name: getattr(record, name) for name in _EXTRA if hasattr(record, name)}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_as_json() -> None:
    """Sends every logger's lines, uvicorn's too, to stdout as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True


class RequestLog:
    """ASGI middleware: an id for every request (the caller's X-Request-ID if plain), its figures, and one log line."""

    def __init__(self, app, figures: Figures):
        self.app, self.figures = app, figures

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        found = given if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", given) else uuid.uuid4().hex
        _request_id.set(found)
        stages: dict[str, float] = {}
        _stages.set(stages)
        span = tracing.begin_request(scope, headers)
        started, status = time.perf_counter(), 500

        async def sending(message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", found.encode())]
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", None) or "unmatched"
            tracing.end_request(span, route, status, found)
            told = stages.copy()  # work that was given up at its deadline may still write into the other one
            self._told(scope, route, status, time.perf_counter() - started, told)

    def _told(self, scope, route: str, status: int, seconds: float, stages: dict[str, float]) -> None:
        self.figures.requests.labels(route, str(status)).inc()
        self.figures.request_seconds.labels(route).observe(seconds)
        for name, took in stages.items():
            self.figures.stage.labels(name).observe(took)
        shed = status in (
            429,
            503,
        )  # counted, and not told one by one: a flood is not to fill the disk as well
        level = logging.DEBUG if shed or (route in QUIET and status < 400) else logging.INFO
        if not log.isEnabledFor(level):
            return
        told = {"method": scope["method"], "path": route, "status": status, "ms": round(seconds * 1000, 2)}
        if stages:
            told["stages"] = {name: round(took * 1000, 2) for name, took in stages.items()}
        log.log(level, "answered", extra={**told, **scope.get("aisle", {})})
