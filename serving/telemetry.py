"""What the API tells of itself: JSON log lines with request ids, and Prometheus figures.

No user id is written to either.
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

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_request_id: ContextVar[str] = ContextVar("request_id", default="")
_EXTRA = ("method", "path", "status", "ms", "rung", "model_version")
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
log = logging.getLogger("aisle.api")


def request_id() -> str:
    """The id of the request that is being answered; empty outside of one."""
    return _request_id.get()


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


class Figures:
    """The Prometheus figures of one app, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        make = {"registry": self.registry}
        self.answer = Histogram(
            "aisle_answer_seconds", "Time to an answer, by rung", ["rung"], buckets=BUCKETS, **make
        )
        self.requests = Counter("aisle_requests", "Requests by route and status", ["route", "status"], **make)
        self.empty = Counter("aisle_empty_answers", "Answers without an item", **make)
        self.degraded = Counter(
            "aisle_degraded_answers", "Answers with less than they should have, and why", ["reason"], **make
        )
        self.features = Histogram(
            "aisle_feature_read_seconds", "One batched read of the online store", buckets=BUCKETS, **make
        )
        self.swaps = Counter("aisle_release_swaps", "Looks that found a new release", ["outcome"], **make)
        self.model = Gauge("aisle_model_info", "1 for the version that is served", ["version"], **make)
        self.age = Gauge("aisle_model_age_seconds", "Since the served version was released", **make)


class RequestLog:
    """ASGI middleware: an id for every request (the caller's X-Request-ID if plain), and one log line."""

    def __init__(self, app, figures: Figures):
        self.app, self.figures = app, figures

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        found = given if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", given) else uuid.uuid4().hex
        _request_id.set(found)
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
            self._told(scope, status, time.perf_counter() - started)

    def _told(self, scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or "unmatched"
        self.figures.requests.labels(route, str(status)).inc()
        quiet = route in ("/healthz", "/readyz", "/metrics") and status < 400
        told = {"method": scope["method"], "path": route, "status": status, "ms": round(seconds * 1000, 2)}
        log.log(
            logging.DEBUG if quiet else logging.INFO, "answered", extra={**told, **scope.get("aisle", {})}
        )
