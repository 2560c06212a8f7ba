"""What the API tells of itself: JSON log lines with request ids, Prometheus figures, and the times of a request's stages.

No user id, no key and no query is written to any of them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from serving import tracing
from serving.figures import Figures

_request_id: ContextVar[str] = ContextVar("request_id", default="")
_stages: ContextVar[dict[str, float] | None] = ContextVar("stages", default=None)
_EXTRA = ("method", "path", "status", "ms", "stages", "key", "rung", "model_version")
QUIET = ("/healthz", "/readyz", "/metrics")
log = logging.getLogger("aisle.api")
PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")  # an id of a request as a caller may give it
LINES_SECONDS = 0.2  # after which a line about a request is written
Completed = Callable[[list[tuple[bytes, bytes]], str], list[tuple[bytes, bytes]]]
Defect = Callable[[Request, Exception], Response]

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

    _json = json.JSONEncoder(ensure_ascii=False).encode

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        carried = record.__dict__
        if of := carried.get("request_id") or request_id():
            line["request_id"] = of
        for name in _EXTRA:
            if name in carried:
                line[name] = carried[name]
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return self._json(line)


def log_as_json() -> None:
    """Sends every logger's lines, uvicorn's too, to stdout as JSON.

    What is in no line of ours is not looked up for it: who logged it, thread, process and task, see
    docs.python.org/3/howto/logging.html#optimization.
    """
    logging._srcfile = None  # type: ignore[attr-defined]
    for name in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, name, False)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True


class Lines:
    """Lines about requests, written together a moment later, which is cheaper than one by one between other work.

    For one event loop.
    """

    def __init__(self) -> None:
        self._held: list[tuple[float, int, dict[str, object]]] = []

    def tell(self, level: int, told: dict[str, object]) -> None:
        self._held.append((time.time(), level, told))
        if len(self._held) == 1:
            asyncio.get_running_loop().call_later(LINES_SECONDS, self.write)

    def write(self) -> None:
        held, self._held = self._held, []
        for at, level, told in held:
            record = log.makeRecord(log.name, level, "", 0, "answered", (), None, extra=told)
            record.created = at
            log.handle(record)


class RequestLog:
    """ASGI middleware around all of an answer: an id (the caller's X-Request-ID if plain), the headers that every answer carries, its
    figures, and one log line.

    completed: see serving.headers. defect: the answer where nobody has another one.
    """

    def __init__(self, app, figures: Figures, completed: Completed, defect: Defect):
        self.app, self.figures, self.completed, self.defect = app, figures, completed, defect
        self._lines = Lines()

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            try:
                await self.app(scope, self._ending(receive), send)
            finally:
                self._lines.write()
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        found = given if PLAIN.fullmatch(given) else secrets.token_hex(16)
        _request_id.set(found)
        stages: dict[str, float] = {}
        _stages.set(stages)
        span = tracing.begin_request(scope, headers)
        started, status, path, begun = time.perf_counter(), 500, scope["path"], False

        async def sending(message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                message["headers"] = [
                    *self.completed(message["headers"], path),
                    (b"x-request-id", found.encode()),
                ]
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:  # here, where the answer still gets its id and headers
            if begun:
                raise
            await self.defect(Request(scope), error)(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", None) or "unmatched"
            tracing.end_request(span, route, status, found)
            told = stages.copy()  # work that was given up at its deadline may still write into the other one
            self._told(scope, route, status, time.perf_counter() - started, told)

    def _ending(self, receive):
        """Of the app's life: what is held is written before the service takes its time to end."""

        async def receiving():
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                self._lines.write()
            return message

        return receiving

    def _told(self, scope, route: str, status: int, seconds: float, stages: dict[str, float]) -> None:
        self.figures.answered(route, status, seconds)
        for name, took in stages.items():
            self.figures.staged(name, took)
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
        self._lines.tell(level, {"request_id": request_id(), **told, **scope.get("aisle", {})})
