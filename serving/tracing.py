"""OpenTelemetry traces of requests and their stages, where OTEL_EXPORTER_OTLP_ENDPOINT names a collector; else nothing.

Nothing of OpenTelemetry is imported without an endpoint. The usual OTEL_ variables set the rest: sampler, headers, names.
Spans hold the route, never a query, an id or a key.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

log = logging.getLogger("aisle.api")
LAST_SECONDS = (
    2.0  # at the end, for what is left to be sent: a collector that is away must not hold up a restart
)

_tracer: Any = None
_provider: Any = None


def start() -> bool:
    """Begins to export, in this process; True where an endpoint is set. Harmless when it was done before."""
    global _tracer, _provider
    named = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if _tracer is not None or not any(os.environ.get(name) for name in named):
        return _tracer is not None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME", "aisle-api")
    _provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}), shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = _provider.get_tracer("aisle")
    return True


def stop() -> None:
    """Sends what is left, if the collector takes it within LAST_SECONDS, and exports no more."""
    global _tracer, _provider
    left, _tracer, _provider = _provider, None, None
    if left is None:
        return
    # The SDK tries again for as long as an export may take, ten seconds and more, and tells of no way to wait less for it.
    last = threading.Thread(target=left.shutdown, name="tracing", daemon=True)
    last.start()
    last.join(LAST_SECONDS)
    if last.is_alive():
        log.warning(
            "the collector of OTEL_EXPORTER_OTLP_ENDPOINT did not take the last traces in %g s", LAST_SECONDS
        )


def begin(name: str) -> Any:
    """A span under the one that is open; None where traces are off."""
    return None if _tracer is None else _opened(name)


def end(span: Any) -> None:
    if span is not None:
        _closed(span)


def begin_request(scope: dict[str, Any], headers: dict[bytes, bytes]) -> Any:
    """The span of a request, within the caller's trace where a traceparent header names one."""
    if _tracer is None:
        return None
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {
        name: headers[name.encode()].decode("latin-1")
        for name in ("traceparent", "tracestate")
        if name.encode() in headers
    }
    return _opened(scope["method"], TraceContextTextMapPropagator().extract(carrier), kind=SpanKind.SERVER)


def end_request(span: Any, route: str, status: int, request_id: str) -> None:
    if span is None:
        return
    from opentelemetry.trace import StatusCode

    found = span[0]
    found.update_name(f"{found.name} {route}")
    found.set_attribute("http.route", route)
    found.set_attribute("http.response.status_code", status)
    found.set_attribute("aisle.request_id", request_id)
    if status >= 500:
        found.set_status(StatusCode.ERROR)
    _closed(span)


def _opened(name: str, within: Any = None, **kinds: Any) -> tuple[Any, Any]:
    from opentelemetry import context, trace

    span = _tracer.start_span(name, context=within, **kinds)
    return span, context.attach(trace.set_span_in_context(span, within))


def _closed(span: tuple[Any, Any]) -> None:
    from opentelemetry import context

    found, token = span
    found.end()
    context.detach(token)
