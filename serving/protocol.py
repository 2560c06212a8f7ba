"""HTTP/1.1 as uvicorn speaks it, with bounds on what a caller may do before its request is one.

Uvicorn itself waits for ever for headers, and keeps as many of them as are sent.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from aisle import settings as settings_module
from serving.limits import WHOLE

PROBLEM = b"connection: close\r\ncontent-type: application/problem+json\r\ncontent-length: %d\r\n\r\n%b"
FULL = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\n" + PROBLEM
WRONG = b"HTTP/1.1 400 Bad Request\r\n" + PROBLEM
NO_HTTP = (
    b'{"type":"urn:aisle:problem:bad-request","title":"Bad Request","status":400,'
    b'"detail":"this is no HTTP/1.1 request","instance":"","request_id":""}'
)
NO_PLACE = (
    b'{"type":"urn:aisle:problem:overloaded","title":"Service Unavailable","status":503,'
    b'"detail":"too many connections; ask again","instance":"","request_id":""}'
)
TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"  # no request to answer


class Bounded(HttpToolsProtocol):
    """Closes a connection whose headers are slow or endless, whose answers nobody takes, and one too many."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.limits = settings_module.load().serving.limits
        self.before_headers = 0  # bytes of a request whose headers are not complete
        self.impatience: asyncio.TimerHandle | None = None
        self.running: RequestResponseCycle | None = None
        self.untaken: asyncio.TimerHandle | None = None
        self.access_log = (
            False  # uvicorn's lines hold the query, in which are ids and may be keys; ours hold the route
        )
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self._last_word(FULL % (len(NO_PLACE), NO_PLACE))
            return
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_are_there()
        self._takes_again()
        for cycle in (self.running, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None:  # uvicorn tells the newest request alone that nobody listens any more
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        began = self.before_headers == 0 and self.cycle is not None and self.cycle.response_complete
        self.before_headers += len(data)
        self.in_headers = True
        super().data_received(data)
        if began and self.in_headers:  # most come whole, and need no timer
            self._expect_headers()
        if self.before_headers > self.limits.max_header_bytes and not self.transport.is_closing():
            self._last_word(TOO_LONG)

    def on_headers_complete(self) -> None:
        self.in_headers = False
        self._headers_are_there()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.before_headers = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.before_headers = 0
        self.scope[WHOLE] = True  # type: ignore[literal-required]
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.running = cycle
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        """As uvicorn's, as a problem document."""
        self._last_word(WRONG % (len(NO_HTTP), NO_HTTP))

    def pause_writing(self) -> None:
        """The caller does not take what it is sent; after a while nothing is kept for it any more."""
        super().pause_writing()
        self._takes_again()
        self.untaken = self.loop.call_later(self.limits.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._takes_again()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """As uvicorn's, but it does not wait for ever for a caller to take the end of an answer."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def _takes_again(self) -> None:
        if self.untaken is not None:
            self.untaken.cancel()
            self.untaken = None

    def _expect_headers(self) -> None:
        self._headers_are_there()
        self.impatience = self.loop.call_later(self.limits.header_seconds, self.transport.close)

    def _headers_are_there(self) -> None:
        if self.impatience is not None:
            self.impatience.cancel()
            self.impatience = None

    def _last_word(self, text: bytes) -> None:
        self.transport.write(text)
        self.transport.close()
